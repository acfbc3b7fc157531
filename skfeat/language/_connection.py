"""Connections between features as they are shown, one by one and as a list."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import Bunch

from skfeat.utils._shown import Column, Part, Shown, data_frame

if TYPE_CHECKING:
    import pandas as pd

_UNKNOWN = "–"
_SCORES = {
    "score": ("score", "f1 times what it gains on a simpler reading times r2"),
    "score_shuffled": (
        "by chance",
        "95 % quantile of the score with the rows of the output shuffled",
    ),
    "f1": ("F1", "of the logic as a prediction of where the output fires"),
    "f1_shuffled": ("F1 by chance", "the same with the rows of the output shuffled"),
    "r2": ("R2", "of the weighted sum"),
}


class Connection(Shown, Bunch):
    """An output feature, its inputs, and the evidence for how they combine.

    :func:`find_connections` and :func:`read_connection` return it. Printing it, or
    ending a notebook cell with it, shows all of it.

    Parameters
    ----------
    **entries : object
        ``output``, its ``name``, ``kind``, ``score``, ``score_shuffled``, ``f1``,
        ``f1_shuffled``, ``r2``, ``formula`` and ``logic``.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat import FeatureConnector
    >>> from skfeat.language import read_connection
    >>> X = np.random.RandomState(0).binomial(1, 0.1, (5000, 6)) * 1.0
    >>> connector = FeatureConnector(n_nonzero_coefs=2).fit(X, X[:, [0]] + X[:, [1]])
    >>> print(read_connection(connector, 0, X))
    F2_0 = 1.00*F1_0 + 1.00*F1_1
    score  by chance   F1  F1 by chance  R2
    ...
    """

    def __init__(self, **entries: Any):
        super().__init__(**entries)

    def to_frame(self) -> pd.DataFrame:
        """Make a data frame of the evidence for each input.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return self.logic.to_frame()

    def _parts(self) -> list[Part]:
        return [self.formula, columns_of_scores([self]), *self.logic._parts()]


class Connections(Shown, list):
    """Connections in a list, which shows as a table with a row for each.

    :func:`find_connections` returns it.

    Parameters
    ----------
    connections : iterable of Connection, default=()

    Examples
    --------
    >>> from skfeat.language import Connections
    >>> Connections()
    no connections
    """

    def __init__(self, connections: Iterable[Connection] = ()):
        super().__init__(connections)

    def to_frame(self) -> pd.DataFrame:
        """Make a data frame with a row for each connection.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        keys = ["output", "name", "kind", *_SCORES, "formula"]
        return data_frame({key: [one[key] for one in self] for key in keys})

    def _parts(self) -> list[Part]:
        if not self:
            return ["no connections"]
        return [
            [
                Column("output", [one.name for one in self], is_text=True),
                Column("kind", [one.kind for one in self], is_text=True),
                *columns_of_scores(self),
                Column(
                    "formula",
                    [one.formula for one in self],
                    "the weighted sum of all inputs",
                    is_text=True,
                ),
            ]
        ]


def columns_of_scores(connections: list) -> list[Column]:
    """Return the columns of the scores of connections, each beside that by chance."""
    return [
        Column(title, [_cell(one[key]) for one in connections], meaning)
        for key, (title, meaning) in _SCORES.items()
    ]


def _cell(value: float) -> str:
    return _UNKNOWN if np.isnan(value) else f"{value:.3g}"
