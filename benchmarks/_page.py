"""Tables of records in pages of the documentation, between two marks."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
END = "<!-- end -->"


def text(values, digits, times=1.0):
    """Return mean and spread of those values that are there."""
    values = [times * v for v in values if v is not None and not math.isnan(v)]
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.{digits}f}"
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return mean + spread


def markdown(rows):
    """Return a Markdown table of rows of cells by column."""
    names = list(rows[0])
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    lines += [f"| {' | '.join(row[name] for name in names)} |" for row in rows]
    return "\n".join([*lines, ""])


def between(page, script):
    """Return what a page has between the mark of a script and the end mark."""
    text = page.read_text(encoding="utf-8")
    return text.partition(_mark(script))[2].partition(END)[0]


def write_between(page, script, tables):
    """Replace what a page has between the mark of a script and the end mark.

    Parameters
    ----------
    page : Path
    script : str
        Its mark is ``<!-- script -->``, on a line of its own.
    tables : str
    """
    text, mark = page.read_text(encoding="utf-8"), _mark(script)
    before, found, rest = text.partition(mark)
    if not found:
        raise ValueError(f"{page.name} has no line {mark.strip()}")
    after = rest.partition(END)[2]
    page.write_text(before + mark + tables + END + after, encoding="utf-8")


def _mark(script):
    return f"<!-- {script} -->\n"
