"""How often each feature fires, how strongly, and on which rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

N_BINS = 20


@dataclass
class Statistics:
    """Of the values of m features on n rows; a feature fires where it is not zero."""

    density: np.ndarray
    """(m,) share of the rows on which each fires."""
    mean: np.ndarray
    """(m,) of the values that are not zero; 0 without any."""
    low: np.ndarray
    """(m,) the smallest value, at most zero."""
    high: np.ndarray
    """(m,) the largest value, at least zero."""
    histogram: np.ndarray
    """(m, N_BINS) numbers of values that are not zero, from `low` to `high`."""
    rows: np.ndarray | None = None
    """(m, n_top + n_levels) rows, -1 for none: the strongest, then by level."""
    values: np.ndarray | None = None
    """(m, n_top + n_levels) the values of the features on these rows."""
    n_top: int = 0
    classes: np.ndarray | None = None
    """(m, n_classes) firings on the rows of each label."""


def summarize(columns: sparse.csc_array) -> Statistics:
    """Describe features by their values, of shape (n, m), without rows of theirs."""
    m = columns.shape[1]
    density, mean, low, high = np.zeros((4, m))
    result = Statistics(density, mean, low, high, np.zeros((m, N_BINS), int))
    for j in range(m):
        values = stored_codes(columns, j)[1]
        if not len(values):
            continue
        density[j] = len(values) / columns.shape[0]
        mean[j] = values.mean(dtype=float)
        low[j], high[j] = min(values.min(), 0), max(values.max(), 0)
        bins = _levels_of(values, low[j], high[j], N_BINS)
        result.histogram[j] = np.bincount(bins, minlength=N_BINS)
    return result


def choose_rows(
    columns: sparse.csc_array,
    found: Statistics,
    n_top: int,
    n_levels: int,
    random: np.random.RandomState,
) -> None:
    """Choose the rows that each feature is shown by, and write them into `found`.

    They are the `n_top` largest values, ties to the lower row, and one row drawn at
    random from each of `n_levels` bins of equal width, the highest first. One order of
    all rows, drawn once, decides whom every bin gets: features then share rows, and the
    page holds fewer.
    """
    n, m = columns.shape
    rank = random.permutation(n)
    found.n_top = n_top
    found.rows = np.full((m, n_top + n_levels), -1)
    found.values = np.zeros(found.rows.shape)
    for j in range(m):
        rows, values = stored_codes(columns, j)
        top = np.argsort(-values, kind="stable")[:n_top]
        found.rows[j, : len(top)] = rows[top]
        found.values[j, : len(top)] = values[top]
        if not len(rows):
            continue
        bins = _levels_of(values, found.low[j], found.high[j], n_levels)
        bins[top] = -1
        # The lowest rank of each bin: written last, it stays.
        order = np.argsort(-rank[rows], kind="stable")
        first = np.full(n_levels + 1, -1)
        first[bins[order]] = order
        for place, i in enumerate(first[:n_levels][::-1].tolist()):
            if i >= 0:
                found.rows[j, n_top + place] = rows[i]
                found.values[j, n_top + place] = values[i]


def count_classes(columns: sparse.csc_array, labels: np.ndarray, n: int) -> np.ndarray:
    """Count the firings of each feature on the rows of each of `n` labels."""
    rows = np.arange(len(labels))
    is_of = sparse.csr_array((np.ones(len(labels)), (labels, rows)), (n, len(labels)))
    fires = columns.copy()
    fires.data = (fires.data != 0).astype(float)
    return np.asarray((is_of @ fires).todense()).T.astype(int)


def stored_codes(columns: sparse.csc_array, j: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows on which a feature is stored, and its values there."""
    span = slice(columns.indptr[j], columns.indptr[j + 1])
    return columns.indices[span], columns.data[span]


def _levels_of(values: np.ndarray, low: float, high: float, n: int) -> np.ndarray:
    """Return the bin of each value, of `n` of equal width from `low` to `high`."""
    share = (values - low) / ((high - low) or 1.0)
    return np.clip((share * n).astype(int), 0, n - 1)
