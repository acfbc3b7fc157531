from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from skfeat.metrics import (
    edge_recovery,
    match_components,
    match_features,
    path_recovery,
)

SEEDS = st.integers(0, 2**32 - 1)


def draw_weights(rng, n_out, n_in):
    coef = rng.standard_normal((n_out, n_in)) * (rng.random((n_out, n_in)) < 0.4)
    coef[0, 0] = 1.0
    return coef


def shuffled(rng, coef, rows, columns):
    """Weights of features in another order, in other units, and of more features.

    ``rows[i]`` is where known output i is found.
    """
    found = np.zeros((len(rows) + 2, len(columns) + 1))
    units = rng.uniform(0.1, 10, coef.shape[0])[:, None] * rng.uniform(
        0.1, 10, coef.shape[1]
    )
    found[np.ix_(rows, columns)] = coef * units
    return found


@given(seed=SEEDS, n=st.integers(1, 8), m=st.integers(1, 8))
def test_all_is_found_in_any_order_and_unit(seed, n, m):
    rng = np.random.default_rng(seed)
    coef = draw_weights(rng, n, m)
    rows, columns = rng.permutation(n), rng.permutation(m)
    found = shuffled(rng, coef, rows, columns)
    for given_as in (np.asarray, sparse.csr_array, sparse.csc_matrix):
        recovery = edge_recovery(coef, given_as(found), columns, rows)
        assert recovery == (1.0, 1.0, 1.0, 1.0)
    assert edge_recovery(coef, -found, columns, rows).signs == 0


@given(seed=SEEDS, n=st.integers(1, 7), m=st.integers(1, 7))
def test_edges_are_counted(seed, n, m):
    rng = np.random.default_rng(seed)
    coef, found = draw_weights(rng, n, m), draw_weights(rng, n + 2, m + 1)
    rows = rng.permutation(n + 2)[:n]
    columns = rng.permutation(m + 1)[:m]
    rows[rng.random(n) < 0.2] = -1
    right = same_sign = 0
    for i in range(n):
        for j in range(m):
            other = found[rows[i], columns[j]] if rows[i] >= 0 else 0.0
            right += coef[i, j] != 0 and other != 0
            same_sign += coef[i, j] * other > 0
    recovery = edge_recovery(coef, found, columns, rows)
    n_known, n_found = np.count_nonzero(coef), np.count_nonzero(found)
    assert recovery.precision == pytest.approx(right / n_found)
    assert recovery.recall == pytest.approx(right / n_known)
    assert recovery.f1 == pytest.approx(2 * right / (n_known + n_found))
    if right:
        assert recovery.signs == pytest.approx(same_sign / right)
    else:
        assert np.isnan(recovery.signs)


def test_no_edge_found():
    recovery = edge_recovery([[1.0]], [[0.0]])
    assert recovery[:3] == (0.0, 0.0, 0.0)
    assert np.isnan(recovery.signs)


def test_stored_zeros_are_no_edges():
    found = sparse.csr_array(([1.0, 0.0], ([0, 0], [0, 1])), shape=(1, 2))
    assert edge_recovery([[1.0, 0.0]], found).precision == 1
    assert found.nnz == 2  # the caller's array stays as it is


@given(seed=SEEDS, sizes=st.lists(st.integers(1, 5), min_size=2, max_size=5))
def test_paths_are_counted(seed, sizes):
    rng = np.random.default_rng(seed)
    coefs = [draw_weights(rng, n, m) for m, n in pairwise(sizes)]
    kept = [coef * (rng.random(coef.shape) < 0.7) for coef in coefs]
    orders = [rng.permutation(size) for size in sizes]
    found = []
    for i, coef in enumerate(kept):
        other = np.zeros_like(coef)
        other[np.ix_(orders[i + 1], orders[i])] = 3 * coef
        found.append(other)

    def n_paths(matrices):
        counts = dict.fromkeys(range(sizes[0]), 1)
        for matrix in matrices:
            counts = {
                i: sum(counts[j] for j in range(matrix.shape[1]) if matrix[i, j])
                for i in range(matrix.shape[0])
            }
        return sum(counts.values())

    expected = n_paths(kept) / n_paths(coefs)
    assert path_recovery(coefs, found, orders) == pytest.approx(expected)


@given(seed=SEEDS, m=st.integers(1, 8), more=st.integers(0, 3))
def test_features_are_matched_in_any_order_and_unit(seed, m, more):
    rng = np.random.default_rng(seed)
    features = np.maximum(rng.standard_normal((60, m + more)), 0)
    order = rng.permutation(m + more)
    units = 10.0 ** rng.integers(-150, 150, m + more)
    codes = np.empty_like(features)
    codes[:, order] = features * units
    for given_as in (np.asarray, sparse.csr_array):
        indices, correlations = match_features(features[:, :m], given_as(codes))
        np.testing.assert_array_equal(indices, order[:m])
        np.testing.assert_allclose(correlations, 1)


@given(seed=SEEDS)
def test_correlations_are_pearsons(seed):
    rng = np.random.default_rng(seed)
    features = 5 + rng.standard_normal((40, 2))
    codes = rng.standard_normal((40, 2))
    known = np.corrcoef(features.T, codes.T)[:2, 2:]
    indices, correlations = match_features(features, codes)
    straight, crossed = known.trace(), known[::-1].trace()
    assert list(indices) == ([0, 1] if straight > crossed else [1, 0])
    np.testing.assert_allclose(correlations, known[[0, 1], indices], atol=1e-9)


def test_constant_and_missing_features():
    features = np.column_stack([np.arange(5.0), np.full(5, 0.1), np.arange(5.0) ** 2])
    indices, correlations = match_features(features, features[:, [0, 1]])
    np.testing.assert_allclose(correlations[0], 1)
    assert sorted(indices) == [-1, 0, 1]
    assert correlations[1] == 0
    # A feature's negative is no match of it.
    assert match_features(features[:, :1], -features[:, :1])[1] == pytest.approx(-1)


def test_both_matchings_agree_where_rows_are_written():
    rng = np.random.default_rng(0)
    codes = np.maximum(rng.standard_normal((50, 6)), 0)
    directions = rng.standard_normal((6, 9))
    order = rng.permutation(6)
    by_directions, _ = match_components(directions, 2 * directions[order])
    by_codes, _ = match_features(codes, 3 * codes[:, order])
    np.testing.assert_array_equal(by_directions, by_codes)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: edge_recovery([[0.0]], [[1.0]]), "coef must be weights of which"),
        (
            lambda: edge_recovery([[1.0]], [[1.0, 0.0]]),
            "inputs must be the features found for 1 known ones, as 2 were found",
        ),
        (
            lambda: edge_recovery([[1.0, 1.0]], [[1.0, 0.0]], [1, 1]),
            "inputs must be 2 integers from -1 to 1, none twice but -1",
        ),
        (
            lambda: edge_recovery([[1.0]], [[1.0]], [0], [1]),
            "outputs must be 1 integers from -1 to 0",
        ),
        (lambda: edge_recovery([[np.nan]], [[1.0]]), "coef contains NaN"),
        (lambda: path_recovery([], []), "coefs must be at least one matrix"),
        (
            lambda: path_recovery([[[1.0]]], [[[1.0]]], [None]),
            "matches None or one more. Got 1, 1 and 1",
        ),
        (
            lambda: path_recovery([[[1.0]], [[1.0, 1.0]]], [[[1.0]], [[1.0, 1.0]]]),
            r"coefs\[1\] must have a column for each of the 1 rows",
        ),
        (
            lambda: path_recovery([[[0.0]]], [[[0.0]]]),
            "weights that a path leads along",
        ),
        (
            lambda: match_features(np.ones((2, 1)), np.ones((3, 1))),
            "features and codes must have the same number of rows",
        ),
    ],
)
def test_wrong_uses_are_told(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
