"""Tables: named columns with figures beside them, and columns of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sklearn.utils import Bunch


class Table(Bunch):
    """Named columns, and figures of the whole table beside them.

    ``pandas.DataFrame(table)`` has the columns alone: the figures are attributes, and
    no entries of the Bunch. Copies and pickles keep both.

    Parameters
    ----------
    beside : dict of str to object
        The attributes.
    columns : dict of str to list or ndarray
    """

    def __init__(self, beside: Mapping[str, Any], columns: Mapping[str, Any]):
        super().__init__(**columns)
        # An attribute that is set on a Bunch becomes an entry, that is a column.
        self.__dict__.update(beside)

    def __reduce__(self) -> tuple:
        return _restored, (type(self), dict(self.__dict__), dict(self))


def _restored(kind: type[Table], beside: dict[str, Any], columns: dict) -> Table:
    # Not by the class itself: classes derived from Table take other arguments.
    table = kind.__new__(kind)
    Table.__init__(table, beside, columns)
    return table


def is_nan(value: Any) -> bool:
    """Tell whether an entry means nothing in its row."""
    return isinstance(value, float) and value != value


def write_columns(columns: dict[str, list[str]], left: str) -> list[str]:
    """Align columns to the right, one of them to the left, below their titles.

    Parameters
    ----------
    columns : dict of str to list of str
        The cells of each column by its title.
    left : str
        Title of the column that is aligned to the left.

    Returns
    -------
    list of str
        Lines, the first with the titles.
    """
    aligned = []
    for title, cells in columns.items():
        width = max(map(len, [title, *cells]))
        pad = str.ljust if title == left else str.rjust
        aligned.append([pad(cell, width) for cell in [title, *cells]])
    return ["  ".join(row).rstrip() for row in zip(*aligned, strict=True)]
