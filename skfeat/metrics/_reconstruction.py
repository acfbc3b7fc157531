"""Metrics of what stands for rows: reconstructions, logits."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.special import log_softmax
from sklearn.metrics import r2_score
from sklearn.utils import check_array, gen_batches

from skfeat.utils._arrays import accept_tensor, as_numpy, check_weights

# Rows of one block: few enough for their float64 copy and their codes to be small.
BLOCK_ROWS = 1024


def fvu(X, reconstruction, *, sample_weight=None) -> float:
    """Fraction of variance unexplained by a reconstruction.

    Squared error over squared deviation from the column means, each summed over rows
    and columns. It is computed in float64, block by block.

    Parameters
    ----------
    X : array-like of shape (n, d)
        Original rows.
    reconstruction : array-like of shape (n, d)
        What stands for them.
    sample_weight : array-like of shape (n,), default=None
        Weight of each row's squared error and squared deviation.

    Returns
    -------
    float
        0 for a perfect reconstruction, 1 for the column means. If X does not vary, 0
        for a perfect reconstruction and 1 for any other.

    Raises
    ------
    ValueError
        If the shapes differ, or if an entry is not finite or a weight negative.

    See Also
    --------
    explained_variance : One minus it.

    Examples
    --------
    >>> from skfeat.metrics import fvu
    >>> fvu([[0.0], [2.0]], [[0.5], [2.0]])
    0.125
    """
    # Not to float64 here: that would copy float32 rows as a whole.
    X, reconstruction = check_pair("X", X, "reconstruction", reconstruction)
    weights = check_weights(sample_weight, X)
    return fvu_in_blocks(X.__getitem__, reconstruction.__getitem__, weights)


def explained_variance(X, reconstruction, *, sample_weight=None) -> float:
    """Share of the variance explained by a reconstruction, an R2.

    It is ``1 - fvu(X, reconstruction)``, and what ``r2_score`` of scikit-learn gives
    with ``multioutput="variance_weighted"``.

    Parameters
    ----------
    X : array-like of shape (n, d)
        Original rows.
    reconstruction : array-like of shape (n, d)
        What stands for them.
    sample_weight : array-like of shape (n,), default=None
        Weight of each row's squared error and squared deviation.

    Returns
    -------
    float
        At most 1; 0 is what the column means reach. If X does not vary, 1 for a
        perfect reconstruction and 0 for any other, as ``r2_score`` has it.

    Raises
    ------
    ValueError
        If the shapes differ, or if an entry is not finite or a weight negative.

    See Also
    --------
    fvu : The share that is left.

    Examples
    --------
    >>> from skfeat.metrics import explained_variance
    >>> explained_variance([[0.0], [2.0]], [[0.5], [2.0]])
    0.875
    """
    return 1.0 - fvu(X, reconstruction, sample_weight=sample_weight)


def shrinkage(X, reconstruction) -> float:
    """Mean length of a reconstruction over that of the row it stands for.

    A penalty on codes makes them, and so reconstructions, too short.

    Parameters
    ----------
    X : array-like of shape (n, d)
        Original rows. Those of length zero do not count.
    reconstruction : array-like of shape (n, d)
        What stands for them.

    Returns
    -------
    float
        1 where lengths are right on average; nan if every row of X is zero.

    Raises
    ------
    ValueError
        If the shapes differ, or if an entry is not finite.

    Notes
    -----
    A reconstruction that leaves something out is shorter than its row even without any
    penalty, and lengths count the mean of the rows: a number slightly below 1 is no
    fault. Rotations, and the unit of the rows, do not change it.

    Examples
    --------
    >>> from skfeat.metrics import shrinkage
    >>> shrinkage([[3.0, 4.0], [0.0, 2.0]], [[3.0, 4.0], [0.0, 1.0]])
    0.75
    """
    X, reconstruction = check_pair("X", X, "reconstruction", reconstruction)
    total, n_rows = 0.0, 0
    for block in gen_batches(len(X), BLOCK_ROWS):
        rows, stand = (
            np.asarray(part[block], dtype=np.float64) for part in (X, reconstruction)
        )
        # By the largest entry first: squares may be out of range.
        largest = np.abs(rows).max(axis=1, initial=0.0)
        there = largest > 0
        units = largest[there, None]
        lengths = np.linalg.norm(rows[there] / units, axis=1)
        total += (np.linalg.norm(stand[there] / units, axis=1) / lengths).sum()
        n_rows += int(there.sum())
    return float(total / n_rows) if n_rows else float("nan")


def kl_divergence(logits, approximate_logits) -> float:
    """Mean Kullback-Leibler divergence between two classifiers, in nats a row.

    Parameters
    ----------
    logits : array-like of shape (n, n_classes)
        Of the classifier that is imitated. A single column is the logit of the
        second of two classes.
    approximate_logits : array-like of shape (n, n_classes)
        Of the classifier that imitates it.

    Returns
    -------
    float
        Infinite only if logits of a row lie further apart than float64 reaches.

    Raises
    ------
    ValueError
        If the shapes differ, or if a logit is not finite.

    Examples
    --------
    >>> from skfeat.metrics import kl_divergence
    >>> kl_divergence([[0.0, 1.0]], [[0.0, 1.0]])
    0.0
    """
    pair = check_pair("logits", logits, "approximate_logits", approximate_logits)
    # Logits further apart than float64 reaches have a probability of zero, and a class
    # that has none counts for nothing, however improbable the other finds it.
    with np.errstate(over="ignore", invalid="ignore"):
        log_p, log_q = (
            log_softmax(_two_columns(part.astype(np.float64, copy=False)), axis=1)
            for part in pair
        )
        p = np.exp(log_p)
        terms = np.where(p > 0, p * (log_p - log_q), 0.0)
        return float(terms.sum(axis=1).mean())


def fvu_in_blocks(rows, reconstruction, weights, eps: float | None = None) -> float:
    """Compute `fvu` from functions that return one block each.

    Parameters
    ----------
    rows, reconstruction : callable
        Map a slice of rows to an array (n_block, d).
    weights : ndarray of shape (n,)
        Non-negative and float64, at least one above zero.
    eps : float, optional
        Relative rounding error of a perfect reconstruction; None: of its dtype.

    Returns
    -------
    float
    """

    def weighted_blocks():
        for block in gen_batches(len(weights), BLOCK_ROWS):
            # Zero-weight rows must not affect even the unit below.
            kept = np.flatnonzero(weights[block])
            if len(kept):
                yield block, kept, weights[block][kept]

    total, low, high = 0.0, np.inf, -np.inf
    for block, kept, weight in weighted_blocks():
        original = _take(rows, block, kept)
        total = total + weight @ original
        low = np.minimum(low, original.min(axis=0))
        high = np.maximum(high, original.max(axis=0))
    # Rounding may put the mean of a constant column beside the constant.
    mean = np.clip(total / weights.sum(), low, high)
    # In units of the largest deviation, squares stay within range.
    unit = max((high - mean).max(), (mean - low).max())
    # Of rows that do not vary, deviations are rounding errors of what X was computed
    # from.
    largest = np.abs(mean).max()
    varies = unit > 64 * np.finfo(np.float64).eps * largest
    unit = unit if varies else largest or 1.0

    error = spread = 0.0
    for block, kept, weight in weighted_blocks():
        original = _take(rows, block, kept)
        rebuilt = reconstruction(block)
        difference = original - rebuilt[kept].astype(np.float64, copy=False)
        error += weight @ np.square(difference / unit).sum(axis=1)
        spread += weight @ np.square((original - mean) / unit).sum(axis=1)
    if varies:
        return float(error / spread)
    eps = float(np.finfo(rebuilt.dtype).eps) if eps is None else eps
    rounding = 64 * eps * np.linalg.norm(mean / unit)
    return 0.0 if error <= weights.sum() * rounding**2 else 1.0


def r2(y, predicted, sample_weight=None) -> float:
    """Return scikit-learn's R2, averaged over outputs, for values of any unit.

    Its own squares are those of the values' dtype, and overflow or vanish.
    """
    pair = [np.asarray(as_numpy(part), np.float64) for part in (y, predicted)]
    size = max(np.abs(part).max(initial=0.0) for part in pair)
    # A power of two rounds nothing.
    unit = np.exp2(np.floor(np.log2(size))) if 0 < size < np.inf else 1.0
    y, predicted = (part / unit for part in pair)
    return float(r2_score(y, predicted, sample_weight=sample_weight))


def r2_of_predictions(regressor, X, y, sample_weight=None) -> float:
    """Return the R2 of what a fitted regressor predicts, averaged over outputs."""
    predicted = regressor.predict(X)
    y = y.toarray() if sparse.issparse(y) else accept_tensor(y, "y")
    y = check_array(y, ensure_2d=False, dtype="numeric", input_name="y")
    if sample_weight is not None:
        sample_weight = check_weights(sample_weight, X)
    return r2(y, predicted, sample_weight)


def r2_of_sums(error, spread):
    """Return the R2 of summed squared errors and deviations, elementwise.

    It is nan where nothing varies: such columns count in no mean over columns.

    Parameters
    ----------
    error, spread : float or ndarray
        Squared errors, and squared deviations from the mean.

    Returns
    -------
    float or ndarray
    """
    varies = np.asarray(spread) > 0
    return np.where(varies, 1 - error / np.where(varies, spread, 1), np.nan)[()]


def check_pair(first_name, first, second_name, second):
    """Validate two arrays of one shape; float32 and float64 stay what they are."""
    dtypes = [np.float64, np.float32]
    first, second = as_numpy(first, first_name), as_numpy(second, second_name)
    first = check_array(first, dtype=dtypes, input_name=first_name)
    second = check_array(second, dtype=dtypes, input_name=second_name)
    if first.shape != second.shape:
        raise ValueError(
            f"{first_name} and {second_name} must have the same shape. Got "
            f"{first.shape} and {second.shape} instead."
        )
    return first, second


def _take(rows, block, kept):
    array = rows(block).astype(np.float64, copy=False)
    return array if len(kept) == len(array) else array[kept]


def _two_columns(logits):
    if logits.shape[1] == 1:
        return np.hstack([np.zeros_like(logits), logits])
    return logits
