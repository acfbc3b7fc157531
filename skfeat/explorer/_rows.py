"""The rows that a page holds, each once: as images or as rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skfeat.explorer._statistics import Statistics
from skfeat.utils._checks import as_plain, image_sides, is_int, value_error

# Rows over which contributions and ablations are averaged, at most.
MOST_MEASURED = 500
# Values of rows that a page holds at most. Beyond, features keep fewer examples.
_MOST_VALUES = 24_000_000
# Columns of a table that are shown, and labels that firings are counted by.
_MOST_COLUMNS, _MOST_CLASSES = 32, 30


@dataclass
class Labels:
    """The labels of all rows as texts, and as numbers of `classes` if these are few."""

    texts: list[str]
    codes: np.ndarray
    classes: list[str]


def as_labels(y: Any, n_rows: int) -> Labels | None:
    """Check the labels of `n_rows` rows; None stays None."""
    if y is None:
        return None
    labels = as_plain("y", y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (n_rows,):
        raise value_error(
            "y", f"None or one label for each of the {n_rows} rows of X", y
        )
    if labels.dtype == object:
        labels = labels.astype(str)
    found, codes = np.unique(labels, return_inverse=True)
    names = [
        f"{value:.4g}" if isinstance(value, float) else str(value)
        for value in found.tolist()
    ]
    texts = [names[code] for code in codes.tolist()]
    return Labels(texts, codes, names if len(names) <= _MOST_CLASSES else [])


def as_random(random_state: Any) -> np.random.RandomState:
    """Return the generator that a `random_state` stands for."""
    if isinstance(random_state, np.random.RandomState):
        return random_state
    if random_state is not None and not (
        is_int(random_state) and 0 <= random_state < 2**32
    ):
        allowed = "None, an int from 0 to 2**32 - 1 or a numpy RandomState"
        raise value_error("random_state", allowed, random_state)
    return np.random.RandomState(random_state)


def fitting_examples(n_examples: int, n_features: int, shape: tuple[int, int]) -> int:
    """Return how many examples of each kind a feature may have, at most `n_examples`.

    `shape` is that of the rows; fewer keep the page to a few megabytes.
    """
    n_rows, n_values = shape
    if n_rows * n_values <= _MOST_VALUES:
        return n_examples
    return max(1, min(n_examples, _MOST_VALUES // (2 * n_features * n_values)))


def check_image_shape(image_shape: Any, n_values: int) -> tuple[int, int] | None:
    """Return (height, width) as two ints whose product is `n_values`, or None."""
    if image_shape is None:
        return None
    sides = image_sides(image_shape, n_values)
    if sides is None:
        allowed = f"None or (height, width) with height * width = {n_values}"
        raise value_error("image_shape", allowed, image_shape)
    return sides


def shown_columns(
    names: Sequence[str], X: np.ndarray, parts: np.ndarray | None
) -> tuple[np.ndarray, list[str]]:
    """Choose the columns of a table: those that bring most, or vary most."""
    size = X.std(axis=0) if parts is None else parts
    order = np.argsort(-size, kind="stable")[:_MOST_COLUMNS]
    columns = order if len(names) > _MOST_COLUMNS else np.arange(len(names))
    return columns, [names[j] for j in columns.tolist()]


class RowStore:
    """The rows that anything on the page shows, and the place of each among them."""

    def __init__(self, rows: np.ndarray):
        self.rows = set(rows.tolist())
        self.place: dict[int, int] = {}

    def add(self, statistics: Statistics) -> None:
        """Keep the rows by which features are shown."""
        if statistics.rows is not None:
            self.rows.update(statistics.rows[statistics.rows >= 0].tolist())

    def renumber(self, statistics: Statistics) -> None:
        """Put the places of rows where their numbers are."""
        if not self.place:
            self.place = {row: i for i, row in enumerate(sorted(self.rows))}
        if statistics.rows is not None:
            lookup = np.vectorize(lambda row: self.place.get(row, -1), otypes=[int])
            statistics.rows = lookup(statistics.rows)

    def describe(
        self,
        X: np.ndarray,
        labels: Labels | None,
        image_shape: tuple[int, int] | None,
        columns: tuple[np.ndarray, list[str]],
    ) -> dict[str, Any]:
        """Return the rows as `Explorer.examples`."""
        rows = np.array(sorted(self.rows), dtype=np.int64)
        found: dict[str, Any] = {
            "rows": rows,
            "labels": None if labels is None else [labels.texts[i] for i in rows],
            "classes": [] if labels is None else labels.classes,
        }
        if image_shape is None:
            chosen, names = columns
            values = X[rows][:, chosen]
            own = {"columns": names, "n_columns": X.shape[1], "values": values}
            return {"kind": "table", **found, **own}
        low, high = float(X[rows].min()), float(X[rows].max())
        grey = (X[rows] - low) * (255 / ((high - low) or 1.0))
        height, width = image_shape
        pixels = np.round(grey).astype(np.uint8)
        return {
            "kind": "image",
            **found,
            "height": height,
            "width": width,
            "pixels": pixels,
        }
