"""A connection as a section of an HTML page: its formula, its logic, its evidence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
from sklearn.utils import Bunch

STYLE = """
.skfeat-connection{font-family:sans-serif;margin:0 0 2.5em}
.skfeat-connection h2{font-size:1.25em;margin:.4em 0}
.skfeat-connection p{margin:.3em 0}
.skfeat-connection .f{font-family:monospace}
.skfeat-connection table.e{border-collapse:collapse;margin:.6em 0;font-size:14px}
.skfeat-connection table.e th,.skfeat-connection table.e td{text-align:right;
padding:.15em .7em;border:0;border-bottom:1px solid #8886;background:none}
.skfeat-connection table.e td:first-child,.skfeat-connection table.e th:first-child{
text-align:left}
"""
_MEANING = {
    "or": "Each of several inputs is enough.",
    "and-not": "An input is enough, unless another one fires.",
    "and": "Only inputs that fire together are enough.",
    "single": "One input is enough.",
    "mixed": "No simple logic explains where it fires.",
    "none": "It never fires, or no input does.",
}
_UNKNOWN = "–"
_TITLES = {
    "weight": "weight",
    "role": "role",
    "firing_rate": "fires",
    "mean_contribution": "adds",
    "mean_output": "mean output where it fires",
    "output_rate_firing": "output fires with it",
    "output_rate_alone": "with it alone",
    "n_alone": "tokens alone",
    "output_rate_with": "among judged tokens: with it",
    "output_rate_without": "without it",
}


def labelled_logic(section: Bunch) -> str:
    """Return the logic of a connection with labels in place of feature names."""
    label_of = _labels_of_inputs(section)
    # Longer names first, as F1_1 is the beginning of F1_10.
    names = "|".join(map(re.escape, sorted(label_of, key=len, reverse=True)))
    formula = section.connection.logic.formula
    return re.sub(rf"\*({names})", lambda name: f"*({label_of[name[1]]})", formula)


def html_section(section: Bunch) -> str:
    """Return a connection and the passages of its features as HTML."""
    connection, logic = section.connection, section.connection.logic
    quality = (
        f"As a prediction of where the output fires: precision {logic.precision:.2f}, "
        f"recall {logic.recall:.2f}. It fires at {logic.output_rate:.2%} of "
        f"{logic.n_rows:,} tokens; of the {logic.n_without_inputs:,} where no listed "
        f"input does, at {logic.rate_without_inputs:.2%}."
    )
    if not np.isnan(connection.r2):
        quality += f" R2 of the weighted sum: {connection.r2:.2f}."
    lines = [
        f"<h2>{escape(connection.name)}: {escape(section.labels[0])}</h2>",
        f'<p class="f">{escape(connection.formula)}</p>',
        f'<p class="f">{escape(logic.kind)}: {escape(logic.formula)}</p>',
        f'<p class="f">{escape(labelled_logic(section))}</p>',
        f"<p>{_MEANING[logic.kind]} {quality}</p>",
        _table_of_scores(connection),
        _table_of_inputs(logic, _labels_of_inputs(section)),
        *(display.to_html() for display in section.displays),
    ]
    body = "\n".join(lines)
    return f'<section class="skfeat-connection">\n{body}\n</section>\n'


def _labels_of_inputs(section: Bunch) -> dict[str, str]:
    return dict(zip(section.names[1:], section.labels[1:], strict=True))


def _table_of_scores(connection: Bunch) -> str:
    rows = [
        ["", "score", "F1", "R2"],
        ["as read", *(_cell(connection[name]) for name in ("score", "f1", "r2"))],
        [
            "with the rows of the output shuffled (95 % quantile)",
            *(_cell(connection[name]) for name in ("score_shuffled", "f1_shuffled")),
            _UNKNOWN,
        ],
    ]
    table = _table(rows)
    if connection.score <= connection.score_shuffled:
        return f"{table}\n<p>The score is no higher than chance gives.</p>"
    return table


def _table_of_inputs(logic: Bunch, label_of: dict[str, str]) -> str:
    columns = [["input"]]
    for entry in logic.inputs:
        label = label_of.get(entry["name"], "")
        columns[0].append(f"{entry['name']} {label}".strip())
    for key, title in _TITLES.items():
        cells = [_cell(entry[key]) for entry in logic.inputs]
        # Only inhibitors have rates with and without: often the column is empty.
        if any(cell != _UNKNOWN for cell in cells):
            columns.append([title, *cells])
    return _table(zip(*columns, strict=True))


def _table(rows: Iterable[Sequence[str]]) -> str:
    lines = []
    for number, row in enumerate(rows):
        tag = "td" if number else "th"
        tagged = "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row)
        lines.append(f"<tr>{tagged}</tr>\n")
    return f'<table class="e">\n{"".join(lines)}</table>'


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    return _UNKNOWN if np.isnan(value) else f"{value:.3g}"
