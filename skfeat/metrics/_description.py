"""How many parts of a sum one has to read."""

from __future__ import annotations

from numbers import Real

import numpy as np
from scipy import sparse
from sklearn.utils import check_array

from skfeat.utils._arrays import as_numpy
from skfeat.utils._sklearn import Interval, InvalidParameterError

# Parts sorted at once: 32 MB.
_BLOCK_ELEMENTS = 2**22


def description_length(parts, share=0.9) -> np.ndarray:
    """Count the parts that make most of what each row is a sum of.

    Parts are taken from the largest magnitude down until they have `share` of the sum
    of all magnitudes. With the `features` or `edges` of
    :meth:`skfeat.network.SparseFeatureNetwork.attribute`, which add up to an output, it
    is the number of features or weights that one has to read to see where the output
    comes from.

    Parts of both signs count in full, also where they cancel: who reads only those that
    are left would be told less than what the network does. It says how much there is to
    read, not whether the parts can be understood.

    Parameters
    ----------
    parts : array-like or sparse matrix of shape (n, p)
        What each part brings to each row.
    share : float, default=0.9
        Of the summed magnitudes; above 0 and at most 1.

    Returns
    -------
    ndarray of shape (n,)
        Numbers of parts; 0 for rows of zeros.

    Raises
    ------
    ValueError
        If `share` is out of range, or if a part is not finite.

    See Also
    --------
    skfeat.network.SparseFeatureNetwork.attribute : Gives such parts.

    Notes
    -----
    A baseline is the number of parts that are not zero, which a `share` of 1 gives: it
    shows how much of the shortness comes from zeros alone.

    Examples
    --------
    >>> from skfeat.metrics import description_length
    >>> description_length([[5.0, -4.5, 0.3, 0.2], [1.0, 1.0, 1.0, 1.0]])
    array([2, 4])
    """
    allowed = Interval(Real, 0, 1, closed="right")
    if not allowed.is_satisfied_by(share):
        raise InvalidParameterError(f"share must be {allowed}. Got {share!r} instead.")
    parts = check_array(
        as_numpy(parts, "parts"),
        accept_sparse="csr",
        dtype=[np.float64, np.float32],
        ensure_min_samples=0,
        ensure_min_features=0,
        input_name="parts",
    )
    n, p = parts.shape
    if sparse.issparse(parts):
        parts = sparse.csr_array(parts)
        parts.sum_duplicates()
        p = max(1, int(np.diff(parts.indptr).max(initial=0)))
    lengths = np.zeros(n, dtype=np.int64)
    size = max(1, _BLOCK_ELEMENTS // max(1, p))
    for start in range(0, n, size):
        rows = slice(start, start + size)
        lengths[rows] = _lengths(_magnitudes(parts, rows, p), share)
    return lengths


def _magnitudes(parts, rows, p):
    """Return the magnitudes of a block of rows, side by side and filled with zeros."""
    if not sparse.issparse(parts):
        return np.abs(parts[rows].astype(np.float64))
    block = parts[rows]
    counts = np.diff(block.indptr)
    found = np.zeros((block.shape[0], p))
    found[np.arange(p) < counts[:, None]] = np.abs(block.data)
    return found


def _lengths(magnitudes, share):
    if not magnitudes.size:
        return np.zeros(len(magnitudes), dtype=np.int64)
    magnitudes.sort(axis=1)
    largest = magnitudes[:, -1:]
    # By the largest first: sums of any unit stay within range.
    summed = np.cumsum(
        magnitudes[:, ::-1] / np.where(largest > 0, largest, 1.0), axis=1
    )
    # Nine of ten equal parts are 0.9 of them, whatever their sums round to.
    rounding = 4 * magnitudes.shape[1] * np.finfo(np.float64).eps
    enough = share * summed[:, -1:] * (1 - rounding)
    return np.where(largest[:, 0] > 0, 1 + (summed < enough).sum(axis=1), 0)
