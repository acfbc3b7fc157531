"""How well features, and networks of features, stand for what they replace."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax


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
    X = np.asarray(X, dtype=np.float64)
    error = np.square(X - reconstruction).sum()
    total = np.square(X - X.mean(axis=0)).sum()
    return float(error / total) if total > 0 else float("nan")


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
    log_p, log_q = (
        log_softmax(_two_columns(part), axis=1) for part in (logits, approximate_logits)
    )
    return float((np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean())


def _two_columns(logits):
    logits = np.asarray(logits, dtype=np.float64)
    if logits.shape[1] == 1:
        return np.hstack([np.zeros_like(logits), logits])
    return logits
