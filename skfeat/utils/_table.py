"""Tables: named columns with figures beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sklearn.utils import Bunch

from skfeat.utils._shown import Column, Shown, data_frame

if TYPE_CHECKING:
    import pandas as pd


class Table(Shown, Bunch):
    """Named columns, and figures of the whole table beside them.

    ``table.to_frame()`` has the columns alone: the figures are attributes, and
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

    def to_frame(self) -> pd.DataFrame:
        """Make a data frame of the columns, unrounded.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return data_frame(self)


def _restored(kind: type[Table], beside: dict[str, Any], columns: dict) -> Table:
    # Not by the class itself: classes derived from Table take other arguments.
    table = kind.__new__(kind)
    Table.__init__(table, beside, columns)
    return table


def titled_columns(
    titles: Mapping[str, tuple[str, str]], cells_of: Callable[[str], list[str]]
) -> list[Column]:
    """Return the columns that are shown of a table, the first of them text.

    Parameters
    ----------
    titles : dict of str to tuple of str
        Title and meaning of each column, by its name.
    cells_of : callable
        Writes the cells of a column, given its name.
    """
    return [
        Column(title, cells_of(name), meaning, is_text=i == 0)
        for i, (name, (title, meaning)) in enumerate(titles.items())
    ]


def is_nan(value: Any) -> bool:
    """Tell whether an entry means nothing in its row."""
    return isinstance(value, float) and value != value
