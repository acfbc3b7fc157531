"""Rows of a table drawn as labelled bars: the columns in which examples stand out."""

from __future__ import annotations

from typing import Any

import numpy as np

from skfeat.inspection._drawn_text import put_text
from skfeat.inspection._inputs import take_rows
from skfeat.inspection._style import BLUE, ORANGE, style

# Columns that are shown of a wide table, and rows that its spread is taken from.
MOST_COLUMNS, _MOST_ROWS = 8, 20_000
_FONT = 7.0


class Columns:
    """The columns of a table, each with the mean and the spread of its values.

    Parameters
    ----------
    examples : {array-like, sparse matrix} of shape (n_samples, n_values)
        All rows, of which at most 20,000 are taken, evenly spaced.
    names : list of str
    """

    def __init__(self, examples: Any, names: list[str]):
        n = np.shape(examples)[0]
        rows = np.unique(np.linspace(0, n - 1, min(n, _MOST_ROWS)).astype(int))
        values = take_rows(examples, rows).astype(float)
        self.names, self.mean, self.spread = names, values.mean(0), values.std(0)

    def deviations(self, rows: np.ndarray) -> np.ndarray:
        """Return how many spreads values are from their means, 0 without a spread."""
        difference = np.asarray(rows, dtype=float) - self.mean
        return np.divide(
            difference,
            self.spread,
            out=np.zeros_like(difference),
            where=self.spread > 0,
        )

    def strongest(self, rows: np.ndarray) -> np.ndarray:
        """Return the columns in which rows differ most, on average, from all rows.

        They keep the order of the table.
        """
        strength = np.abs(self.deviations(rows).mean(axis=0))
        return np.sort(np.argsort(-strength, kind="stable")[:MOST_COLUMNS])


def draw_table_row(
    ax: Any,
    columns: Columns,
    row: np.ndarray,
    shown: np.ndarray,
    *,
    named: bool,
    bar_kw: dict[str, Any] | None,
) -> None:
    """Draw one row as bars of its distance from the mean, with the values beside them.

    Parameters
    ----------
    ax : matplotlib Axes
    columns : Columns
    row : ndarray of shape (n_values,)
    shown : ndarray of int
        The columns that are drawn, from the top.
    named : bool
        Write their names at the left.
    bar_kw : dict or None
        Options of `Axes.barh`.
    """
    lengths = np.clip(columns.deviations(row)[shown], -3, 3)
    places = np.arange(len(shown))
    colors = [ORANGE if length < 0 else BLUE for length in lengths]
    options = {"color": colors, "height": 0.8, "alpha": 0.45}
    ax.barh(places, lengths, **style(options, bar_kw))
    ax.set(xlim=(-3.2, 3.2), ylim=(len(shown) - 0.4, -0.6))
    ax.axvline(0, color="0.6", linewidth=0.6)
    for place, value in enumerate(row[shown]):
        put_text(ax, 0, place, f"{value:.3g}", _FONT, "black", va="center")
    if named:
        names = [columns.names[j] for j in shown]
        ax.set_yticks(places, names, fontsize=_FONT)
        ax.tick_params(axis="y", length=0, labelleft=True)
        for label in ax.get_yticklabels():
            label.set_parse_math(False)


def panel_size(n_columns: int, names: list[str]) -> tuple[float, float, float]:
    """Return the inches of a panel's width and height, and of its names."""
    longest = max(map(len, names), default=0)
    return 1.1, 0.35 + 0.145 * n_columns, 0.6 * _FONT * longest / 72
