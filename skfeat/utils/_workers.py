"""What goes to joblib's workers: how many there are, and rows of mapped files."""

from __future__ import annotations

from numbers import Integral

import numpy as np

from skfeat.utils._rows import ComputedRows, mapped_file
from skfeat.utils._sklearn import Interval

# What `n_jobs` may be: zero workers fit nothing.
N_JOBS = [
    Interval(Integral, None, -1, closed="right"),
    Interval(Integral, 1, None, closed="left"),
    None,
]


class MappedRows:
    """Rows of a mapped file that are mapped again where they are unpickled.

    joblib's own workers do that; those of Dask and Ray would get a copy of all rows.

    Parameters
    ----------
    rows : ndarray
        Contiguous rows of a file that `root` maps.
    root : memmap
        The whole mapping.
    """

    def __init__(self, rows: np.ndarray, root: np.memmap):
        self.rows = rows
        starts = [array.__array_interface__["data"][0] for array in (rows, root)]
        offset = root.offset + starts[0] - starts[1]
        self._place = str(root.filename), rows.dtype, offset, rows.shape

    def __reduce__(self):
        return _map_again, self._place


def _map_again(path: str, dtype: np.dtype, offset: int, shape: tuple) -> MappedRows:
    """Map rows of a file, in a worker."""
    try:
        rows = np.memmap(path, dtype, mode="r", offset=offset, shape=shape)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"X is mapped from {path!r}, which this worker does not find: put the file "
            f"where all workers see it under that name, or pass rows in memory."
        ) from None
    return MappedRows(rows, rows)


def rows_to_send(X):
    """Wrap rows that a worker can map from their file; others go as they are."""
    if isinstance(X, ComputedRows):
        return X.with_source(rows_to_send(X.source))
    if mapped_file(X) is None or not X.flags.c_contiguous:
        return X
    root = X
    while not isinstance(root, np.memmap) or isinstance(root.base, np.ndarray):
        root = root.base
    return MappedRows(X, root) if root.filename is not None else X


def received_rows(X):
    """Return the rows that `rows_to_send` has wrapped."""
    if isinstance(X, ComputedRows):
        return X.with_source(received_rows(X.source))
    return X.rows if isinstance(X, MappedRows) else X
