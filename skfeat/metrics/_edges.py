"""Metrics of weights between features: found ones against known ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from sklearn.utils import check_array

from skfeat.utils._arrays import as_numpy
from skfeat.utils._checks import check_sequence, value_error

# Relative to the mean square of a column: a variance below is none.
_ROUNDING = 64 * np.finfo(np.float64).eps


class EdgeRecovery(NamedTuple):
    """What `edge_recovery` returns.

    Parameters
    ----------
    precision : float
        Share of the found edges that are known ones; 0 if none was found.
    recall : float
        Share of the known edges that were found.
    f1 : float
        Harmonic mean of both: twice the known edges that were found, over the number of
        known and of found ones.
    signs : float
        Share of the known edges found whose weight has the right sign; nan if there are
        none.

    Examples
    --------
    >>> from skfeat.metrics import edge_recovery
    >>> edge_recovery([[1.0, 0.0]], [[2.0, 0.0]]).f1
    1.0
    """

    precision: float
    recall: float
    f1: float
    signs: float


def match_features(features, codes) -> tuple[np.ndarray, np.ndarray]:
    """Pair known and found features one to one, with the largest sum of correlations.

    It compares what features are on rows, where `match_components` compares their
    directions: for features without directions, such as those that a network computes.

    Parameters
    ----------
    features : ndarray or sparse matrix of shape (n, m_known)
        Known features.
    codes : ndarray or sparse matrix of shape (n, m_found)
        Features found, on the same rows. Signs matter: the correlation of a feature
        with its negative is -1. That with a constant feature is 0.

    Returns
    -------
    indices : ndarray of shape (m_known,)
        Column of `codes` that each known feature is paired with; -1 for those left over
        when fewer were found than are known.
    correlations : ndarray of shape (m_known,)
        Pearson's correlation of each pair; 0 for those left over.

    Raises
    ------
    ValueError
        If the rows are not as many, or not finite.

    See Also
    --------
    match_components : Pairs directions.

    Notes
    -----
    The assignment is exact, with the costs of `match_components`. Sparse codes are
    never made dense.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat.metrics import match_features
    >>> features = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 1.0]])
    >>> indices, correlations = match_features(features, 3 * features[:, ::-1])
    >>> indices, correlations.round(3)
    (array([1, 0]), array([1., 1.]))
    """
    known, found = _rows("features", features), _rows("codes", codes)
    if known.shape[0] != found.shape[0]:
        raise ValueError(
            f"features and codes must have the same number of rows. Got "
            f"{known.shape[0]} and {found.shape[0]} instead."
        )
    correlations = _correlations(known, found)
    rows, columns = linear_sum_assignment(correlations, maximize=True)
    m = correlations.shape[0]
    indices, matched = np.full(m, -1), np.zeros(m)
    indices[rows], matched[rows] = columns, correlations[rows, columns]
    return indices, matched


def edge_recovery(coef, found, inputs=None, outputs=None) -> EdgeRecovery:
    """Compare found weights between two layers with known ones, as edges of a graph.

    An edge is a weight that is not zero. Units do not matter, nor does the order of the
    features found, which is given as a matching. A found edge counts as wrong if it
    connects a feature that no known one was matched with.

    Parameters
    ----------
    coef : array-like or sparse matrix of shape (m_out, m_in)
        Known weights.
    found : array-like or sparse matrix of shape (f_out, f_in)
        Weights found, such as ``connector.coef_``.
    inputs : array-like of int of shape (m_in,), default=None
        The feature found for each known input, as the first array of `match_components`
        or `match_features`; -1 for none. ``None`` means that they are the same ones.
    outputs : array-like of int of shape (m_out,), default=None
        The same for the outputs.

    Returns
    -------
    EdgeRecovery
        A named tuple of ``precision``, ``recall``, ``f1`` and ``signs``.

    Raises
    ------
    ValueError
        If no known weight is nonzero, the weights are not finite, or a matching is none
        of these layers.

    See Also
    --------
    path_recovery : Paths over several layers.

    Examples
    --------
    >>> from skfeat.metrics import edge_recovery
    >>> coef = [[1.0, -2.0, 0.0], [0.0, 0.0, 1.0]]
    >>> found = [[0.0, 3.0, 0.5], [0.7, 0.0, 0.0]]
    >>> recovery = edge_recovery(coef, found, inputs=[2, 1, 0])
    >>> recovery.f1, recovery.signs
    (1.0, 0.6666666666666666)
    """
    known, found = _weights("coef", coef), _weights("found", found)
    if known.nnz == 0:
        raise value_error("coef", "weights of which at least one is not zero", coef)
    kept = _kept(known, found, inputs, outputs)
    n_right = int(kept.count_nonzero())
    return EdgeRecovery(
        precision=n_right / found.nnz if found.nnz else 0.0,
        recall=n_right / known.nnz,
        f1=2 * n_right / (known.nnz + found.nnz),
        signs=float((kept.data > 0).mean()) if n_right else float("nan"),
    )


def path_recovery(coefs, found, matches=None) -> float:
    """Share of the known paths through several layers of which every edge was found.

    A path leads from a feature of the first layer to one of the last, along weights
    that are not zero. If each edge is found with probability p, about ``p ** hops`` of
    the paths are.

    Parameters
    ----------
    coefs : list of array-like or sparse matrix
        Known weights, of shapes (m_2, m_1), (m_3, m_2) and so on.
    found : list of array-like or sparse matrix
        Weights found, as many.
    matches : list of array-like of int, default=None
        For each layer, the first one too, the feature found for each known one; -1 for
        none. ``None`` means that they are the same ones.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    TypeError
        If a parameter is no list.
    ValueError
        If there is no path, or lengths or shapes do not go together.

    See Also
    --------
    edge_recovery : The edges between two layers.

    Examples
    --------
    >>> from skfeat.metrics import path_recovery
    >>> coefs = [[[1.0, 1.0]], [[1.0], [1.0]]]
    >>> path_recovery(coefs, [[[2.0, 0.0]], [[3.0], [-1.0]]])
    0.5
    """
    coefs = check_sequence("coefs", "matrices", coefs)
    found = check_sequence("found", "matrices", found)
    if matches is not None:
        matches = check_sequence("matches", "arrays of int", matches)
    n = len(coefs)
    if n == 0 or len(found) != n or (matches is not None and len(matches) != n + 1):
        raise ValueError(
            f"coefs must be at least one matrix, found as many, and matches None or "
            f"one more. Got {n}, {len(found)} and "
            f"{None if matches is None else len(matches)} instead."
        )
    each = [None] * (n + 1) if matches is None else matches
    # How many paths lead to each feature: all, and those of which each edge was found.
    all_paths = kept_paths = np.ones(0)
    for index, (coef, weights) in enumerate(zip(coefs, found, strict=True)):
        known = _weights(f"coefs[{index}]", coef)
        if index == 0:
            all_paths = kept_paths = np.ones(known.shape[1])
        if known.shape[1] != len(all_paths):
            raise ValueError(
                f"coefs[{index}] must have a column for each of the {len(all_paths)} "
                f"rows of the matrix before. Got {known.shape[1]} instead."
            )
        other = _weights(f"found[{index}]", weights)
        kept = _kept(known, other, each[index], each[index + 1])
        all_paths = (known != 0).astype(float) @ all_paths
        kept_paths = (kept != 0).astype(float) @ kept_paths
    if not all_paths.sum():
        raise value_error("coefs", "weights that a path leads along", coefs)
    return float(kept_paths.sum() / all_paths.sum())


def _weights(name, coef):
    """Return weights as CSR without stored zeros."""
    coef = check_array(
        as_numpy(coef, name), accept_sparse="csr", dtype=np.float64, input_name=name
    )
    coef = sparse.csr_array(coef, copy=True)
    coef.sum_duplicates()
    coef.eliminate_zeros()
    return coef


def _kept(known, found, inputs, outputs):
    """Return at each known edge that was found the product of both signs."""
    columns = _matching("inputs", inputs, known.shape[1], found.shape[1])
    rows = _matching("outputs", outputs, known.shape[0], found.shape[0])
    signs = found.sign()
    selected = _selection(rows, found.shape[0]) @ signs
    selected = selected @ _selection(columns, found.shape[1]).T
    kept = sparse.csr_array(selected.multiply(known.sign()))
    kept.eliminate_zeros()
    return kept


def _selection(indices, n):
    """Return the matrix whose row i takes entry ``indices[i]``, or none for -1."""
    rows = np.flatnonzero(indices >= 0)
    ones = np.ones(len(rows))
    return sparse.csr_array((ones, (rows, indices[rows])), shape=(len(indices), n))


def _matching(name, indices, n_known, n_found):
    """Return a matching as an array, or say what is wrong with it."""
    if indices is None:
        if n_known != n_found:
            raise value_error(
                name,
                f"the features found for {n_known} known ones, as {n_found} were found",
                indices,
            )
        return np.arange(n_known)
    array = np.asarray(indices)
    valid = array.shape == (n_known,) and array.dtype.kind in "iu"
    if valid:
        used = array[array >= 0]
        in_range = array.min(initial=0) >= -1 and array.max(initial=0) < n_found
        valid = bool(in_range) and len(np.unique(used)) == len(used)
    if not valid:
        raise value_error(
            name,
            f"{n_known} integers from -1 to {n_found - 1}, none twice but -1",
            indices,
        )
    return array


def _rows(name, rows):
    """Return rows as a float64 array, with columns in units of their largest entry."""
    rows = check_array(
        as_numpy(rows, name), accept_sparse="csr", dtype=np.float64, input_name=name
    )
    # Without it, a square may be out of range.
    if not sparse.issparse(rows):
        return rows / _nonzero(np.abs(rows).max(axis=0))
    rows = sparse.csr_array(rows)
    return rows @ sparse.diags_array(
        1.0 / _nonzero(abs(rows).max(axis=0).toarray().ravel())
    )


def _correlations(known, found):
    """Return the correlation of each column of one with each of the other."""
    n = known.shape[0]
    moments, means, norms = known.T @ found / n, [], []
    for rows in (known, found):
        squares = rows.multiply(rows) if sparse.issparse(rows) else rows * rows
        square = np.asarray(squares.mean(axis=0)).ravel()
        mean = np.asarray(rows.mean(axis=0)).ravel()
        variance = square - mean * mean
        # Of a constant column only rounding is left.
        is_constant = variance <= _ROUNDING * square
        means.append(mean)
        norms.append(np.where(is_constant, np.inf, np.sqrt(np.maximum(variance, 0))))
    if sparse.issparse(moments):
        moments = moments.toarray()
    return np.clip((moments - np.outer(*means)) / np.outer(*norms), -1.0, 1.0)


def _nonzero(values):
    return np.where(values > 0, values, 1.0)
