"""Metrics of codes: how many features are active, and how often."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse
from sklearn.utils import check_array

from skfeat.utils._arrays import as_numpy
from skfeat.utils._checks import is_int
from skfeat.utils._sklearn import InvalidParameterError


class DensityHistogram(NamedTuple):
    """What `density_histogram` returns.

    Parameters
    ----------
    counts : ndarray of shape (n_bins,)
        Number of features in each bin.
    edges : ndarray of shape (n_bins + 1,)
        Edges of the bins: decimal logarithms of densities.
    n_dead : int
        Number of features that are active on no row, whose logarithm is minus infinity.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat.metrics import density_histogram
    >>> density_histogram(np.array([[0.0, 1.0, 2.0], [0.0, 0.0, 3.0]])).n_dead
    1
    """

    counts: np.ndarray
    edges: np.ndarray
    n_dead: int


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
    return float(features_per_row(is_active(codes)).mean())


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
    return int((rows_per_feature(is_active(codes)) == 0).sum())


def dead_fraction(codes) -> float:
    """Share of the features that are active for no row.

    Parameters
    ----------
    codes : ndarray or sparse matrix of shape (n, m)
        Feature activations.

    Returns
    -------
    float
        Between 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat.metrics import dead_fraction
    >>> dead_fraction(np.array([[0.0, 1.0, 2.0, 1.0], [0.0, 0.0, 3.0, 1.0]]))
    0.25
    """
    return float((rows_per_feature(is_active(codes)) == 0).mean())


def used_features(codes, readers=None) -> np.ndarray:
    """Tell which features are active for some row and are read by something.

    Parameters
    ----------
    codes : ndarray or sparse matrix of shape (n, m)
        Feature activations.
    readers : array-like or sparse matrix of shape (q, m), default=None
        Weights with which what comes next reads the features, as the `coef_` of a
        connector or one of `coefs_` of a network, or, transposed, a `decoder_coef_`.
        ``None``: all features count as read.

    Returns
    -------
    ndarray of shape (m,)
        Of bool; its sum is the number of features that are used.

    Raises
    ------
    ValueError
        If `readers` has another number of columns than `codes`.

    See Also
    --------
    n_dead : The features that are active for no row.
    skfeat.network.SparseFeatureNetwork.compact : Drops what nothing reads, also over
        several layers.

    Examples
    --------
    >>> from skfeat.metrics import used_features
    >>> codes = [[0.0, 1.0, 2.0], [0.0, 0.0, 3.0]]
    >>> used_features(codes)
    array([False,  True,  True])
    >>> used_features(codes, readers=[[0.5, 0.0, -1.0]])
    array([False, False,  True])
    """
    used = rows_per_feature(is_active(codes)) > 0
    if readers is not None:
        readers = check_array(
            as_numpy(readers, "readers"),
            accept_sparse="csr",
            ensure_min_samples=0,
            input_name="readers",
        )
        if readers.shape[1] != len(used):
            raise ValueError(
                f"readers must have a column for each of the {len(used)} features. Got "
                f"an array of shape {readers.shape} instead."
            )
        used = used & (rows_per_feature(readers != 0) > 0)
    return used


def feature_density(codes) -> np.ndarray:
    """Share of the rows on which each feature is active.

    Parameters
    ----------
    codes : ndarray or sparse matrix of shape (n, m)
        Feature activations.

    Returns
    -------
    ndarray of shape (m,)
        Between 0 and 1; their sum is the L0.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat.metrics import feature_density
    >>> feature_density(np.array([[0.0, 1.0, 2.0], [0.0, 0.0, 3.0]]))
    array([0. , 0.5, 1. ])
    """
    active = is_active(codes)
    return rows_per_feature(active) / active.shape[0]


def density_histogram(codes, bins=20) -> DensityHistogram:
    """Count features by the decimal logarithm of their density.

    Features that fire on nearly all rows or on nearly none are easily told from the
    others in such a histogram [1]_.

    Parameters
    ----------
    codes : ndarray or sparse matrix of shape (n, m)
        Feature activations.
    bins : int or array-like of shape (n_bins + 1,), default=20
        Number of bins of equal width between ``log10(1 / n)``, one active row, and 0,
        all rows active; or increasing edges, outside of which features are not counted.

    Returns
    -------
    DensityHistogram
        Named tuple of `counts`, `edges` and `n_dead`. Dead features are in no bin.

    Raises
    ------
    ValueError
        If `bins` is neither a number of bins nor increasing edges.

    See Also
    --------
    feature_density : The densities themselves.

    References
    ----------
    .. [1] T. Bricken et al., "Towards Monosemanticity: Decomposing Language Models
       With Dictionary Learning", Transformer Circuits Thread, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat.metrics import density_histogram
    >>> codes = np.array([[0.0, 1.0, 2.0], [0.0, 0.0, 3.0]])
    >>> counts, edges, n_dead = density_histogram(codes, bins=[-1, -0.2, 0])
    >>> counts, n_dead
    (array([1, 1]), 1)
    """
    density = feature_density(codes)
    alive = density[density > 0]
    lowest = np.log10(1 / np.shape(codes)[0])
    counts, edges = np.histogram(np.log10(alive), _check_bins(bins), range=(lowest, 0))
    return DensityHistogram(counts, edges, len(density) - len(alive))


def is_active(codes):
    """Return where codes are not zero, as a bool ndarray or CSR of shape (n, m)."""
    # The comparison merges duplicate entries of CSR and drops stored zeros.
    codes = as_numpy(codes, "codes")
    return check_array(codes, accept_sparse="csr", input_name="codes") != 0


def features_per_row(active) -> np.ndarray:
    """Count the active features of each row of what `is_active` returns."""
    return np.diff(active.indptr) if sparse.issparse(active) else active.sum(axis=1)


def rows_per_feature(active) -> np.ndarray:
    """Count the rows on which each feature is active, of what `is_active` returns."""
    if sparse.issparse(active):
        return np.bincount(active.indices, minlength=active.shape[1])
    return active.sum(axis=0)


def _check_bins(bins):
    if is_int(bins) and bins >= 1:
        return int(bins)
    try:
        edges = np.asarray(bins, dtype=np.float64)
    except (TypeError, ValueError):
        edges = np.empty(0)
    if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise InvalidParameterError(
            "bins must be an int of at least 1 or at least two increasing edges. Got "
            f"{bins!r} instead."
        )
    return edges
