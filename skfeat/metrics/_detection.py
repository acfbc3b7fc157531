"""Metrics of codes against known features: where each fires, and where it should."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from skfeat.metrics._codes import is_active, rows_per_feature
from skfeat.utils._checks import value_error


class FeatureDetection(NamedTuple):
    """What `feature_detection` returns: three arrays of shape (f,).

    Parameters
    ----------
    precision : ndarray of shape (f,)
        Share of the rows a found feature fires on, on which the known one does; 0 if it
        fires on none.
    recall : ndarray of shape (f,)
        Share of the rows the known feature fires on, on which the found one does; 0 if
        it fires on none.
    f1 : ndarray of shape (f,)
        Harmonic mean of both; 0 if both are.

    Examples
    --------
    >>> from skfeat.metrics import feature_detection
    >>> feature_detection([[1.0], [0.0]], [[2.0], [3.0]], [0]).precision
    array([0.5])
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


class Absorption(NamedTuple):
    """What `absorption` returns.

    Parameters
    ----------
    with_child : ndarray of shape (m,)
        Of each known feature that has a parent: the share of the rows on which both
        fire, on which the feature found for the parent is silent. nan for features
        without a parent, for parents that none was found for, and if both fire on no
        row.
    alone : ndarray of shape (m,)
        The same share of the rows on which the parent fires and none of its children
        does: what the feature found misses anyway. nan as above, and if there is no
        such row.
    rate : float
        Mean of ``with_child - alone``, over the features of which both are known: 0 for
        a parent that is missed as often with a child as alone, 1 for one that always
        fires alone and never with a child. nan if there is none.

    Examples
    --------
    >>> from skfeat.metrics import absorption
    >>> absorption([[1, 0], [1, 1]], [[1, 0], [0, 1]], [0, 1], [-1, 0]).rate
    1.0
    """

    with_child: np.ndarray
    alone: np.ndarray
    rate: float


def feature_detection(features, codes, matches) -> FeatureDetection:
    """Judge each found feature as a classifier of the rows that a known one fires on.

    It is what SynthSAEBench scores [1]_, which takes the mean over found features, each
    with the known one of the nearest direction.

    Parameters
    ----------
    features : ndarray or sparse matrix of shape (n, m)
        Known features. They fire where they are not zero.
    codes : ndarray or sparse matrix of shape (n, f)
        Features found, on the same rows.
    matches : array-like of int of shape (f,)
        The known feature that each found one is taken for, as the first array of
        `nearest_components`; -1 for none, which scores 0. Several may be taken for the
        same one.

    Returns
    -------
    FeatureDetection
        Named tuple of ``precision``, ``recall`` and ``f1``, arrays of shape (f,).

    Raises
    ------
    ValueError
        If the rows are not as many, or `matches` are no features.

    See Also
    --------
    nearest_components : The known feature of the nearest direction.
    absorption : Why a recall may be low.

    References
    ----------
    .. [1] D. Chanin and A. Garriga-Alonso, "SynthSAEBench: Evaluating Sparse
       Autoencoders on Scalable Realistic Synthetic Data", 2026.

    Examples
    --------
    >>> from skfeat.metrics import feature_detection
    >>> features = [[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [1.0, 0.0]]
    >>> codes = [[5.0, 0.0], [7.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    >>> found = feature_detection(features, codes, [0, 1])
    >>> found.precision, found.recall.round(3)
    (array([1. , 0.5]), array([0.667, 1.   ]))
    """
    known, found = _active_pair(features, codes)
    indices = _indices("matches", matches, found.shape[1], known.shape[1])
    there = indices >= 0
    wanted = known[:, np.where(there, indices, 0)]
    both = np.where(there, rows_per_feature(wanted.multiply(found)), 0)
    precision = _ratio(both, rows_per_feature(found))
    recall = _ratio(both, np.where(there, rows_per_feature(wanted), 0))
    f1 = _ratio(2 * precision * recall, precision + recall)
    return FeatureDetection(precision, recall, f1)


def absorption(features, codes, matches, parents) -> Absorption:
    """Measure how much of a parent's firing its children have taken over.

    Where one feature fires only with another, its parent, a sparse code is shorter if
    the child's direction holds the parent's too, and the parent is left out on those
    rows: what is found for the parent then means "the parent, but none of these
    children" [1]_. So rows on which the parent fires are compared, with a child and
    without any.

    Parameters
    ----------
    features : ndarray or sparse matrix of shape (n, m)
        Known features. They fire where they are not zero.
    codes : ndarray or sparse matrix of shape (n, f)
        Features found, on the same rows.
    matches : array-like of int of shape (m,)
        The feature found for each known one, as the first array of `match_components`;
        -1 for none.
    parents : array-like of int of shape (m,)
        The parent of each known feature; -1 for none.

    Returns
    -------
    Absorption
        Named tuple of the arrays ``with_child`` and ``alone``, with an entry a known
        feature, and the float ``rate``.

    Raises
    ------
    ValueError
        If the rows are not as many, or if `matches` or `parents` are no features.

    See Also
    --------
    skfeat.datasets.make_feature_world : Features with known parents.
    feature_detection : How well a feature is told in all.

    Notes
    -----
    A low number of active features makes any feature miss rows on which many others
    fire, and more fire where a child does: codes that absorb nothing may have a rate
    somewhat above 0. Compare with codes of as many active features.

    References
    ----------
    .. [1] D. Chanin et al., "A is for Absorption: Studying Feature Splitting and
       Absorption in Sparse Autoencoders", 2024.

    Examples
    --------
    The second feature is a child of the first. What was found for the first fires on
    both rows on which it is alone, and on one of two on which the child fires too:

    >>> from skfeat.metrics import absorption
    >>> features = [[1, 0], [1, 0], [1, 1], [1, 1], [0, 0]]
    >>> codes = [[2, 0], [2, 0], [2, 1], [0, 3], [0, 0]]
    >>> found = absorption(features, codes, matches=[0, 1], parents=[-1, 0])
    >>> found.with_child, found.alone, found.rate
    (array([nan, 0.5]), array([nan,  0.]), 0.5)
    """
    known, found = _active_pair(features, codes)
    m = known.shape[1]
    matches = _indices("matches", matches, m, found.shape[1])
    parents = _indices("parents", parents, m, m)
    children = np.flatnonzero(parents >= 0)
    with_child, alone = np.full(m, np.nan), np.full(m, np.nan)
    # The feature found for a parent has to be there to be silent.
    children = children[matches[parents[children]] >= 0]
    of = parents[children]
    together = known[:, children].multiply(known[:, of])
    fires = found[:, matches[of]]
    n_together = rows_per_feature(together)
    n_told = rows_per_feature(together.multiply(fires))
    with_child[children] = 1 - _ratio(n_told, n_together, np.nan)

    # Rows of a parent with any child: the union over its children.
    links = sparse.csr_array(
        (np.ones(len(children)), (children, of)), shape=(m, m), dtype=np.int64
    )
    any_child = sparse.csr_array(known.astype(np.int64) @ links) > 0
    for_parent = sparse.csr_array(known.multiply(any_child))
    n_alone = (rows_per_feature(known) - rows_per_feature(for_parent))[of]
    told = rows_per_feature(known[:, of].multiply(fires))
    told = told - rows_per_feature(for_parent[:, of].multiply(fires))
    alone[children] = 1 - _ratio(told, n_alone, np.nan)
    excess = with_child - alone
    is_told = ~np.isnan(excess)
    rate = float(excess[is_told].mean()) if is_told.any() else float("nan")
    return Absorption(with_child, alone, rate)


def _active_pair(features, codes):
    """Return where two sets of features on the same rows fire, both as bool CSR."""
    known, found = is_active(features), is_active(codes)
    if known.shape[0] != found.shape[0]:
        raise ValueError(
            f"features and codes must have the same number of rows. Got "
            f"{known.shape[0]} and {found.shape[0]} instead."
        )
    return sparse.csr_array(known), sparse.csr_array(found)


def _indices(name, indices, n, most):
    """Return indices of features as an array, or say what they must be."""
    array = np.asarray(indices)
    valid = array.shape == (n,) and (array.dtype.kind in "iu" or not n)
    if not valid or array.min(initial=0) < -1 or array.max(initial=-1) >= most:
        raise value_error(name, f"{n} integers from -1 to {most - 1}", indices)
    return array.astype(np.intp)


def _ratio(part, whole, otherwise=0.0):
    """Return a share; `otherwise` of nothing."""
    share = np.full(np.shape(whole), otherwise, dtype=float)
    return np.divide(part, whole, out=share, where=np.asarray(whole) > 0)
