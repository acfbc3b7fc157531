"""Pages of the benchmarks' records, made of the JSON files alone.

Nothing on them is typed by hand: titles and keys are those of the record, the words
above the tables those of the script that wrote it.
"""

from __future__ import annotations

import ast
import json
import math
import statistics
from pathlib import Path

from api_pages import write_all

# Longer lists of numbers are left to the file.
MOST_VALUES = 6


def is_number(value) -> bool:
    """Whether a value of a record is a number; True and False are words."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def number(value: float) -> str:
    """Write a number with four digits that count, whole numbers in full."""
    if math.isnan(value):
        return ""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def cell(value) -> str | None:
    """Return a value as it stands in a cell of a table, None if it needs a table."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if is_number(value):
        return number(value)
    if isinstance(value, str):
        return value.replace("|", "\\|").replace("\n", " ").replace("*", "\\*")
    if isinstance(value, dict):
        if {"mean", "spread"} <= value.keys():
            return f"{number(value['mean'])} ± {number(value['spread'])}"
        return None
    cells = [cell(item) for item in value]
    if len(cells) <= MOST_VALUES and None not in cells:
        return ", ".join(cells)
    return None


def over_seeds(runs: list):
    """Put the same tables of several seeds together: numbers as mean and spread.

    What differs in another way (a text, a length) is left out.
    """
    first = runs[0]
    if len(runs) == 1:
        return first
    if all(is_number(run) for run in runs):
        if any(math.isnan(run) for run in runs):
            return math.nan
        spread = statistics.stdev(runs)
        if spread == 0:
            return first
        return {"mean": statistics.mean(runs), "spread": spread}
    if isinstance(first, dict):
        shared = [key for key in first if all(key in run for run in runs)]
        return {key: over_seeds([run[key] for run in runs]) for key in shared}
    if isinstance(first, list) and all(len(run) == len(first) for run in runs):
        return [over_seeds(list(same)) for same in zip(*runs, strict=True)]
    return first if all(run == first for run in runs) else None


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return a Markdown table, in a box that scrolls when it is wide."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return ["", "::::{div} record-table", *lines, "::::", ""]


def flat(entry: dict, prefix: str = "") -> tuple[dict[str, str], list[str]]:
    """Return the cells of one row by column, and the columns left to the file."""
    cells, left = {}, []
    for key, value in entry.items():
        text = cell(value)
        if text is not None:
            cells[f"{prefix}{key}"] = text
        elif isinstance(value, dict):
            inner, inner_left = flat(value, f"{prefix}{key}: ")
            cells |= inner
            left += inner_left
        else:
            left.append(f"{prefix}{key}")
    return cells, left


def rows_table(entries: list[dict], names: list[str] | None = None) -> list[str]:
    """Return the table of a list of dicts, on its side if it is wide and short."""
    flattened = [flat(entry) for entry in entries]
    columns = list(dict.fromkeys(key for cells, _ in flattened for key in cells))
    left = list(dict.fromkeys(key for _, keys in flattened for key in keys))
    grid = [[cells.get(column, "") for column in columns] for cells, _ in flattened]
    if names is not None:
        columns = ["", *columns]
        grid = [[name, *row] for name, row in zip(names, grid, strict=True)]
    if not columns:
        lines = []
    elif len(columns) > 9 and len(grid) < 7:
        turned = [list(row) for row in zip(columns, *grid, strict=True)]
        lines = table(turned[0], turned[1:])
    else:
        lines = table(columns, grid)
    if left:
        lines += [f"In the file only: {', '.join(left)}.", ""]
    return lines


def render(title: str, value, depth: int) -> list[str]:
    """Return the section of one entry of a record."""
    heading = ["", f"{'#' * min(depth, 5)} {title}", ""]
    if isinstance(value, list) and value and isinstance(value[0], list):
        if not isinstance(value[0][0], dict):
            return []
        together = over_seeds(value)
        seeds = [f"Mean and spread over {len(value)} seeds.", ""]
        return [*heading, *(seeds if len(value) > 1 else []), *rows_table(together)]
    if isinstance(value, list):
        entries = [entry for entry in value if isinstance(entry, dict)]
        return [*heading, *rows_table(entries)] if entries else []
    if len(value) > 1 and all(isinstance(entry, dict) for entry in value.values()):
        inner = [cell(entry) for entry in value.values()]
        tables_within = any(
            isinstance(item, list) and cell(item) is None
            for entry in value.values()
            for item in entry.values()
        )
        if None in inner and not tables_within:
            return [*heading, *rows_table(list(value.values()), list(value))]
    return [*heading, *section(value, depth)]


def section(value: dict, depth: int) -> list[str]:
    """Return a dict: its plain values as a table, then a section for each other."""
    plain = {key: cell(entry) for key, entry in value.items()}
    shown = [[key, text] for key, text in plain.items() if text is not None]
    lines = table(["", ""], shown) if shown else []
    for key, text in plain.items():
        if text is None:
            lines += render(key, value[key], depth + 1)
    return lines


def script_of(path: Path) -> Path:
    """Return the benchmark that wrote a record, which may have a suffix to its name."""
    name = path.stem
    while not (script := path.parents[1] / f"{name}.py").exists() and "_" in name:
        name = name.rpartition("_")[0]
    return script


def record_page(path: Path) -> str:
    """Return the page of one record, in Markdown."""
    record = json.loads(path.read_text(encoding="utf-8"))
    script = script_of(path)
    said = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    title, _, rest = said.partition("\n\n")
    title = " ".join(title.split()).rstrip(".")
    if script.stem != path.stem:
        title += f" ({path.stem.removeprefix(script.stem).strip('_')})"
    machine = record.pop("machine", {})
    lines = [f"# {title}", "", rest.replace("``", "`"), ""]
    lines += [f"Written by `benchmarks/{script.name}`; {{download}}`the record "]
    lines[-1] += f"<../../benchmarks/records/{path.name}>`, of which this page is made."
    lines += [""]
    if machine:
        lines += ["Measured with " + ", ".join(_said(machine)) + ".", ""]
    return "\n".join([*lines, *section(record, 1), ""])


def _said(machine: dict) -> list[str]:
    return [f"{key} {cell(value)}" for key, value in machine.items()]


def title_of(page: str) -> str:
    """Return the title of a page."""
    return page.partition("\n")[0].removeprefix("# ")


def index_page(pages: dict[str, str]) -> str:
    """Return the page that lists the records."""
    lines = ["# Records of the benchmarks", ""]
    lines += [
        "What the scripts in `benchmarks/` measured, in full. The tables are made"
    ]
    lines += ["from the JSON records when the site is built; [the page of"]
    lines += ["benchmarks](../benchmarks.md) says what they mean.", ""]
    lines += [f"- [{title_of(text)}]({name}.md)" for name, text in pages.items()]
    lines += ["", "```{toctree}", ":hidden:", "", *pages, "```", ""]
    return "\n".join(lines)


def write_pages(app) -> None:
    """Write ``docs/records/``."""
    docs = Path(app.srcdir)
    paths = sorted((docs.parent / "benchmarks" / "records").glob("*.json"))
    pages = {path.stem: record_page(path) for path in paths}
    pages["index"] = index_page(pages)
    write_all(docs / "records", {f"{name}.md": text for name, text in pages.items()})


def setup(app):
    """Register with Sphinx."""
    app.connect("builder-inited", write_pages, priority=100)
    return {"parallel_read_safe": True}
