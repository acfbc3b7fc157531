"""Results that show themselves: as text on a screen, as HTML in a notebook."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import pandas as pd

WIDTH = 100
_MAX_ROWS, _LAST_ROWS = 40, 5  # of a longer table the middle is left out
_NARROWEST = 12
_GAP, _CUT, _UNPRINTABLE = "  ", "...", "\N{REPLACEMENT CHARACTER}"

# Colours are those of the page, light or dark; lines and bars are seen on both.
_STYLE = """
.skfeat-shown{color:inherit;font-size:14px;margin:.4em 0;overflow-x:auto}
.skfeat-shown p{margin:.25em 0;max-width:60em;overflow-wrap:anywhere}
.skfeat-shown table{border-collapse:collapse;width:auto;margin:.5em 0;border:0;
font-size:inherit;font-variant-numeric:tabular-nums}
.skfeat-shown tr,.skfeat-shown th,.skfeat-shown td{background:none;color:inherit}
.skfeat-shown th,.skfeat-shown td{text-align:right;padding:.15em .7em;border:0;
border-bottom:1px solid #8886;vertical-align:baseline;white-space:pre}
.skfeat-shown th{font-weight:bold}
.skfeat-shown th[title]{text-decoration:underline dotted #888;cursor:help}
.skfeat-shown .l{text-align:left;white-space:normal;overflow-wrap:anywhere}
.skfeat-shown .b{min-width:9em;position:relative}
.skfeat-shown .b i{position:absolute;top:.3em;bottom:.3em;min-width:1px}
.skfeat-shown .b .p{left:50%;background:#d6604d}
.skfeat-shown .b .n{right:50%;background:#4393c3}
.skfeat-shown summary{cursor:pointer;font-size:.9em}
.skfeat-shown dl{margin:.3em 0;font-size:.9em}
.skfeat-shown dt{font-weight:bold;float:left;clear:left;margin-right:.6em}
.skfeat-shown dd{margin:0 0 .15em}
"""


@dataclass(frozen=True)
class Column:
    """A column of a table, its cells as they are written."""

    title: str
    cells: Sequence[str]
    meaning: str = ""
    """What the column is, in a few words; empty if the title tells."""
    is_text: bool = False
    """Aligned to the left, and cut where a table is wider than the screen."""
    bars: Sequence[float] | None = None
    """Values from -1 to 1 that HTML shows as bars instead of the cells; text has none.
    """


Part: TypeAlias = str | list[Column]


class Shown:
    """Base of results that print as text and that a notebook shows as HTML.

    Classes define `_parts`: lines of text and tables, from the top, and `to_frame`.
    """

    def _parts(self) -> list[Part]:
        raise NotImplementedError

    def __str__(self) -> str:
        return write_text(self._parts())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return write_html(self._parts())


def write_text(parts: Iterable[Part], legend: bool = True) -> str:
    """Write lines and tables for a screen of `WIDTH` characters.

    Parameters
    ----------
    parts : iterable of str or list of Column
    legend : bool, default=True
        Say below all of them what the columns are.
    """
    parts = list(parts)
    lines: list[str] = []
    for part in parts:
        lines += _wrapped(part) if isinstance(part, str) else _text_table(part)
    if legend:
        meanings = "; ".join(f"{title}: {meaning}" for title, meaning in _legend(parts))
        lines += _wrapped(meanings)
    return "\n".join(lines)


def write_html(parts: Iterable[Part]) -> str:
    """Write lines and tables as a fragment of HTML that loads and runs nothing."""
    parts = list(parts)
    body = [
        f"<p>{_escaped(part)}</p>" if isinstance(part, str) else _html_table(part)
        for part in parts
    ]
    legend = _legend(parts)
    if legend:
        entries = "".join(
            f"<dt>{_escaped(title)}</dt><dd>{_escaped(meaning)}</dd>\n"
            for title, meaning in legend
        )
        summary = "<summary>What the columns are</summary>"
        body.append(f"<details>{summary}\n<dl>\n{entries}</dl></details>")
    lines = "\n".join(body)
    return f'<div class="skfeat-shown">\n<style>{_STYLE}</style>\n{lines}\n</div>\n'


def _html_table(columns: Iterable[Column]) -> str:
    """Write a table whose header cells say in their titles what the columns are."""
    columns = _shortened(columns)
    head = f"<tr>{''.join(map(_html_head, columns))}</tr>\n"
    n_rows = len(columns[0].cells) if columns else 0
    rows = ("".join(_html_cell(column, i) for column in columns) for i in range(n_rows))
    body = "".join(f"<tr>{row}</tr>\n" for row in rows)
    return f"<table>\n<thead>\n{head}</thead>\n<tbody>\n{body}</tbody>\n</table>"


def data_frame(columns: Mapping[str, Any]) -> pd.DataFrame:
    """Make a data frame of columns.

    Raises
    ------
    ImportError
        If pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("to_frame needs pandas, which is not installed.") from error
    return pd.DataFrame(dict(columns))


def one_line(text: str) -> str:
    """Return text without line breaks, repeated spaces and control characters."""
    text = " ".join(text.split())
    return "".join(c if c.isprintable() else _UNPRINTABLE for c in text)


def _escaped(text: str) -> str:
    return escape(one_line(text))


def _html_head(column: Column) -> str:
    kind = ' class="l"' if column.is_text else ""
    title = f' title="{_escaped(column.meaning)}"' if column.meaning else ""
    return f'<th scope="col"{kind}{title}>{_escaped(column.title)}</th>'


def _html_cell(column: Column, i: int) -> str:
    if column.bars is not None:
        value = column.bars[i]
        side, width = "n" if value < 0 else "p", 50 * min(abs(value), 1)
        bar = f'<i class="{side}" style="width:{width:.1f}%"></i>' if value else ""
        return f'<td class="b">{bar}</td>'
    kind = ' class="l"' if column.is_text else ""
    return f"<td{kind}>{_escaped(column.cells[i])}</td>"


def _text_table(columns: Iterable[Column]) -> list[str]:
    columns = [column for column in _shortened(columns) if column.bars is None]
    table = [[column.title, *map(one_line, column.cells)] for column in columns]
    widths = [max(map(len, cells)) for cells in table]
    for i in sorted(range(len(columns)), key=lambda i: -widths[i]):
        excess = sum(widths) + len(_GAP) * (len(widths) - 1) - WIDTH
        if columns[i].is_text and excess > 0:
            widths[i] = max(widths[i] - excess, min(widths[i], _NARROWEST))
    aligned = [
        [
            _cut(cell, width).ljust(width) if column.is_text else cell.rjust(width)
            for cell in cells
        ]
        for column, cells, width in zip(columns, table, widths, strict=True)
    ]
    return [_GAP.join(row).rstrip() for row in zip(*aligned, strict=True)]


def _shortened(columns: Iterable[Column]) -> list[Column]:
    """Leave the middle of long columns out."""
    columns = list(columns)
    if not columns or len(columns[0].cells) <= _MAX_ROWS:
        return columns
    first = _MAX_ROWS - _LAST_ROWS - 1
    return [
        Column(
            column.title,
            [*column.cells[:first], _CUT, *column.cells[-_LAST_ROWS:]],
            column.meaning,
            column.is_text,
            column.bars and [*column.bars[:first], 0.0, *column.bars[-_LAST_ROWS:]],
        )
        for column in columns
    ]


def _legend(parts: list[Part]) -> list[tuple[str, str]]:
    tables = [part for part in parts if not isinstance(part, str)]
    columns = [column for table in tables for column in table if column.meaning]
    return list(dict.fromkeys((column.title, column.meaning) for column in columns))


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(one_line(text), WIDTH, break_on_hyphens=False)


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else cell[: width - len(_CUT)] + _CUT
