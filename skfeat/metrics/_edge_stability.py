"""Metrics of the weights between features: whether two fits have the same."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse
from sklearn.utils import check_array

from skfeat.utils._arrays import as_numpy
from skfeat.utils._checks import check_flag, value_error


class EdgeStability(NamedTuple):
    """What `edge_stability` returns.

    Parameters
    ----------
    jaccard : float
        Edges that both have, over edges that either has; nan if neither has any.
    chance : float
        The same where features are paired at random: the mean number of edges that both
        would have, over those that either then has.
    n_both : int
        Number of edges that both have.
    n_either : int
        Number of edges that either has.

    Examples
    --------
    >>> from skfeat.metrics import edge_stability
    >>> edge_stability([[1.0, 0.0]], [[1.0, 2.0]], [0], [0, 1]).n_both
    1
    """

    jaccard: float
    chance: float
    n_both: int
    n_either: int


def edge_stability(coef_a, coef_b, targets, sources, *, signed=False) -> EdgeStability:
    """Compare the nonzero weights of two connectors once their features are paired.

    The order of features means nothing, so that they are paired first, as
    :func:`match_components` pairs directions. An edge with an end that is paired with
    nothing is one that the other connector lacks.

    Parameters
    ----------
    coef_a : array-like or sparse matrix of shape (q_a, p_a)
        Weights of one fit, as `coef_` of a connector or one of `coefs_` of a network.
    coef_b : array-like or sparse matrix of shape (q_b, p_b)
        Weights of the other fit.
    targets : array-like of int of shape (q_a,)
        Row of `coef_b` that each row of `coef_a` is paired with, -1 for none.
    sources : array-like of int of shape (p_a,)
        Column of `coef_b` that each column of `coef_a` is paired with, -1 for none.
    signed : bool, default=False
        Whether an edge is the same only if its weights have one sign.

    Returns
    -------
    EdgeStability
        Named tuple of the `jaccard` index, what `chance` would give, and the numbers
        `n_both` and `n_either` of edges.

    Raises
    ------
    ValueError
        If the weights are not finite, or if `targets` or `sources` are not as many
        positions as the rows or columns of `coef_a`, each used once at most.

    See Also
    --------
    match_components : Pairs features by their directions.
    stability : How alike the paired features are.

    Notes
    -----
    Chance pairs at random as many rows and columns as are paired here, whatever the
    weights. Of the ``q_a p_a q_b p_b`` pairs of places an edge of either can take, each
    is then as likely, so that the mean number of edges in common is ``n_a n_b k l /
    (q_a p_a q_b p_b)`` with ``k`` and ``l`` pairs of rows and columns. With `signed`,
    edges of each sign are counted apart.

    Examples
    --------
    The second fit has the same two edges, its two sources in the other order, and one
    more:

    >>> from skfeat.metrics import edge_stability
    >>> found = edge_stability([[1, 0], [0, 1]], [[0, 2], [3, 4]], [0, 1], [1, 0])
    >>> round(found.jaccard, 2), round(found.chance, 2)
    (0.67, 0.43)
    """
    first, second = _edges("coef_a", coef_a), _edges("coef_b", coef_b)
    signed = check_flag("signed", signed)
    places = [
        _paired("targets", targets, first.shape[0], second.shape[0]),
        _paired("sources", sources, first.shape[1], second.shape[1]),
    ]
    moved = _moved(first, places, second.shape)
    n_edges = first.nnz + second.nnz
    pairs = 1.0
    for place, n_a, n_b in zip(places, first.shape, second.shape, strict=True):
        pairs *= int((place >= 0).sum()) / (n_a * n_b)
    if signed:
        n_both = sum(_in_common(moved, second, sign) for sign in (1, -1))
        expected = sum(_count(first, s) * _count(second, s) for s in (1, -1)) * pairs
    else:
        n_both = int(abs(moved).multiply(abs(second)).nnz)
        expected = first.nnz * second.nnz * pairs
    n_either = n_edges - n_both
    return EdgeStability(
        jaccard=n_both / n_either if n_either else np.nan,
        chance=expected / (n_edges - expected) if n_edges else np.nan,
        n_both=n_both,
        n_either=n_either,
    )


def _edges(name, coef):
    """Return the signs of the weights, in CSR without stored zeros."""
    coef = check_array(
        as_numpy(coef, name), accept_sparse="csr", dtype=np.float64, input_name=name
    )
    edges = sparse.csr_array(coef, copy=True)
    edges.sum_duplicates()
    edges.eliminate_zeros()
    edges.data = np.sign(edges.data)
    return edges


def _paired(name, places, n, n_other):
    """Check the position in the other fit of each of `n` features."""
    given = places
    places = np.asarray(as_numpy(places, name))
    allowed = f"{n} positions below {n_other}, each used once at most, or -1 for none"
    if places.shape != (n,) or places.dtype.kind not in "iu":
        raise value_error(name, allowed, given)
    kept = places[places >= 0]
    if (
        places.min(initial=0) < -1
        or places.max(initial=-1) >= n_other
        or len(np.unique(kept)) < len(kept)
    ):
        raise value_error(name, allowed, given)
    return places


def _moved(edges, places, shape):
    """Put the edges where their ends are in the other fit; others are left out."""
    found = edges.tocoo()
    rows, columns = (
        place[index] for place, index in zip(places, found.coords, strict=True)
    )
    kept = (rows >= 0) & (columns >= 0)
    ends = rows[kept], columns[kept]
    return sparse.csr_array((found.data[kept], ends), shape=shape)


def _in_common(first, second, sign):
    return int((first == sign).multiply(second == sign).nnz)


def _count(edges, sign):
    return int((edges.data == sign).sum())
