"""How well features, and networks of features, stand for what they replace."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax
from sklearn.utils import check_array

__all__ = ["fvu", "kl_divergence", "l0", "n_dead"]


def fvu(X, reconstruction) -> float:
    """Fraction of variance unexplained by a reconstruction.

    Squared error over squared deviation from the column means, each summed over rows
    and columns; one minus it is the R2 that ``SparseAutoencoder.score`` returns.

    Parameters
    ----------
    X : array-like of shape (n, d)
        Original rows.
    reconstruction : array-like of shape (n, d)
        What stands for them.

    Returns
    -------
    float
        0 for a perfect reconstruction; nan if X does not vary.

    Examples
    --------
    >>> from skfeat.metrics import fvu
    >>> fvu([[0.0], [2.0]], [[0.5], [2.0]])
    0.125
    """
    X, reconstruction = _pair("X", X, "reconstruction", reconstruction)
    mean = X.mean(axis=0)
    # In units of the largest deviation, squares stay within range.
    unit = np.abs(X - mean).max()
    # Deviations of constant columns are rounding errors of their means.
    if unit <= 64 * np.finfo(np.float64).eps * np.abs(mean).max():
        return float("nan")
    error = np.square((X - reconstruction) / unit).sum()
    return float(error / np.square((X - mean) / unit).sum())


def l0(codes) -> float:
    """Mean number of active (nonzero) features a row.

    Parameters
    ----------
    codes : ndarray or sparse matrix of shape (n, m)
        Feature activations.

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat.metrics import l0
    >>> l0(np.array([[0.0, 1.0, 2.0], [0.0, 0.0, 3.0]]))
    1.5
    """
    codes = check_array(codes, accept_sparse="csr", input_name="codes")
    return float((codes != 0).sum() / codes.shape[0])


def n_dead(codes) -> int:
    """Count the features that are active for no row.

    Parameters
    ----------
    codes : ndarray or sparse matrix of shape (n, m)
        Feature activations.

    Returns
    -------
    int

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat.metrics import n_dead
    >>> n_dead(np.array([[0.0, 1.0, 2.0], [0.0, 0.0, 3.0]]))
    1
    """
    codes = check_array(codes, accept_sparse="csr", input_name="codes")
    return int((np.asarray((codes != 0).sum(axis=0)) == 0).sum())


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

    Examples
    --------
    >>> from skfeat.metrics import kl_divergence
    >>> kl_divergence([[0.0, 1.0]], [[0.0, 1.0]])
    0.0
    """
    pair = _pair("logits", logits, "approximate_logits", approximate_logits)
    log_p, log_q = (log_softmax(_two_columns(part), axis=1) for part in pair)
    return float((np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean())


def _pair(first_name, first, second_name, second):
    """Validate two arrays of one shape."""
    first = check_array(first, dtype=np.float64, input_name=first_name)
    second = check_array(second, dtype=np.float64, input_name=second_name)
    if first.shape != second.shape:
        raise ValueError(
            f"{first_name} and {second_name} must have the same shape. Got "
            f"{first.shape} and {second.shape} instead."
        )
    return first, second


def _two_columns(logits):
    if logits.shape[1] == 1:
        return np.hstack([np.zeros_like(logits), logits])
    return logits
