"""The noise of a difference between two scores of the same rows."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

from skfeat.utils._checks import value_error

_LEVEL = 0.95


def paired_noise(differences, sizes=None) -> float:
    """Half the width of the 95 % confidence interval of a mean difference.

    Two scores of the same rows, such as those of a model and of the model with a layer
    ablated, vary together from row to row. Their difference is therefore taken row by
    row, and its noise is Student's quantile times the standard error of its mean.

    Where the difference of a model and its floor lies within its noise, no ratio that
    is divided by it means anything: a ratio whose denominator cannot be told from zero
    has no bounded confidence interval [1]_. :func:`score_kept` then returns nan, and
    the reports of this library print "floor within noise".

    Parameters
    ----------
    differences : array-like of shape (n,)
        The difference in each row; or its sum over each group of rows that belong
        together, such as the tokens of a sequence, which are not independent.
    sizes : array-like of shape (n,), default=None
        Number of rows in each group; ``None`` means one.

    Returns
    -------
    float
        In the unit of the mean, the sum of all differences over the number of rows;
        infinity for fewer than two rows or groups.

    Raises
    ------
    ValueError
        If the differences are no vector of finite numbers, or the sizes no vector of
        as many positive numbers.

    See Also
    --------
    score_kept : Takes the noise of its denominator.

    References
    ----------
    .. [1] E. C. Fieller, "Some Problems in Interval Estimation", Journal of the Royal
       Statistical Society B 16(2), 1954.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat.metrics import paired_noise
    >>> model_is_right = np.array([1, 1, 1, 0, 1, 1, 0, 1])
    >>> floor_is_right = np.array([1, 0, 1, 1, 0, 1, 0, 1])
    >>> differences = model_is_right - floor_is_right
    >>> float(differences.mean()), round(paired_noise(differences), 2)
    (0.125, 0.54)
    """
    values = _vector("differences", differences)
    counts = np.ones(len(values)) if sizes is None else _vector("sizes", sizes)
    if counts.shape != values.shape or not (counts > 0).all():
        raise value_error("sizes", f"{len(values)} positive numbers or None", sizes)
    n = len(values)
    if n < 2:
        return float("inf")
    residuals = values - values.sum() / counts.sum() * counts
    error = np.sqrt(n / (n - 1) * np.square(residuals).sum()) / counts.sum()
    return float(_quantile(n) * error)


def noise_of_sums(sums, squares, n: int) -> np.ndarray:
    """Return the noise of the means of n values from their sums and those of squares.

    Parameters
    ----------
    sums, squares : ndarray
        The sum of the values, and that of their squares, of each quantity.
    n : int
    """
    if n < 2:
        return np.full(np.shape(sums), np.inf)
    spread = np.maximum(squares - np.square(sums) / n, 0)
    return _quantile(n) * np.sqrt(spread / (n - 1) / n)


def _quantile(n: int) -> float:
    """Return Student's quantile for the mean of n values."""
    return float(stdtrit(n - 1, (1 + _LEVEL) / 2))


def _vector(name: str, value) -> np.ndarray:
    array = np.asarray(value)
    is_numeric = array.ndim == 1 and array.dtype.kind in "biuf"
    if not is_numeric or not np.isfinite(array).all():
        raise value_error(name, "a vector of finite numbers", value)
    return array.astype(np.float64)
