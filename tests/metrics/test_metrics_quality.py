"""Measures of whether features are worth reading, against sums written out in full."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.stats import entropy

from skfeat.activations import ReLU
from skfeat.chain import Chain
from skfeat.metrics import (
    class_purity,
    description_length,
    edge_stability,
    match_components,
    used_features,
)
from skfeat.network import SparseFeatureNetwork

SEEDS = st.integers(0, 2**32 - 1)
FORMATS = [np.asarray, sparse.csr_array, sparse.csc_matrix, torch.from_numpy]


def some_codes(seed, n=30, m=6):
    rng = np.random.default_rng(seed)
    codes = np.round(np.maximum(rng.normal(size=(n, m)), 0), 1)
    codes[:, 0] = 0
    return codes, rng.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1])


# Classes


def purity_of_one(column, y, weight_by):
    """Return the measures of one feature by sums over all pairs of rows."""
    u = np.abs(column) if weight_by == "activation" else (column != 0).astype(float)
    shares = np.array([u[y == c].sum() for c in np.unique(y)]) / u.sum()
    others = ~np.eye(len(y), dtype=bool)
    same = (y[:, None] == y)[others]
    pairs = np.outer(u, u)[others]
    chance, rate = same.mean(), pairs @ same / pairs.sum()
    return shares.max(), entropy(shares), (rate - chance) / (1 - chance)


@given(seed=SEEDS, weight_by=st.sampled_from(["activation", "count"]))
def test_purity_as_written_out(seed, weight_by):
    codes, y = some_codes(seed)
    y[:2] = "a", "b"
    codes[:2, 1:] = 1
    codes[2, 1:] *= -1
    found = class_purity(codes, y, weight_by=weight_by)
    for j in range(1, codes.shape[1]):
        expected = purity_of_one(codes[:, j], y, weight_by)
        ours = found.purity[j], found.entropy[j], found.selectivity[j]
        assert ours == pytest.approx(expected, abs=1e-9)
    assert np.isnan([found.purity[0], found.entropy[0], found.selectivity[0]]).all()
    assert found.top_class[0] == -1
    shares = np.unique(y, return_counts=True)[1] / len(y)
    assert found.base_purity == shares.max()
    assert found.base_entropy == pytest.approx(entropy(shares))


@given(seed=SEEDS, n_top=st.sampled_from([None, 1, 5, 100]))
def test_purity_knows_no_order_unit_or_format(seed, n_top):
    codes, y = some_codes(seed)
    y[:2] = "a", "b"
    expected = class_purity(codes, y, n_top=n_top)
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(len(y)), rng.permutation(codes.shape[1])
    units = 2.0 ** rng.integers(-900, 900, codes.shape[1])
    for make in FORMATS:
        moved = make((codes * units)[rows][:, columns])
        found = class_purity(moved, y[rows], n_top=n_top)
        for ours, theirs in zip(found[:4], expected[:4], strict=True):
            np.testing.assert_allclose(ours, theirs[columns], rtol=1e-7, atol=1e-9)
        assert found[4:] == pytest.approx(expected[4:])


@pytest.mark.parametrize("weight_by", ["activation", "count"])
def test_selectivity_is_zero_by_chance_whatever_fires(weight_by):
    codes = np.array([[3.0, 1, 1], [1, 0, 1], [0, 2, 1], [0, 0, 1], [0, 0, 1]])
    found = [
        class_purity(codes, labels, weight_by=weight_by)
        for labels in set(permutations("aabbc"))
    ]
    # A feature of a single row cannot be told; one of two rows can, on average.
    mean = np.mean([one.selectivity for one in found], axis=0)
    np.testing.assert_allclose(mean, 0, atol=1e-12)
    # Purity does flatter features of few rows.
    purity = np.mean([one.purity for one in found], axis=0)
    assert (purity[:2] > 0.55).all()
    assert purity[2] == pytest.approx(0.4)


def test_selectivity_of_the_pure_and_of_the_unknown():
    y = ["rare", "rare", "often", "often", "often", "often"]
    codes = np.zeros((6, 4))
    codes[:2, 0] = 5, 1
    codes[3, 1] = 2
    codes[:, 2] = 7
    codes[:2, 3] = 1, 1e-14
    found = class_purity(codes, y)
    np.testing.assert_allclose(found.selectivity, [1, np.nan, 0, np.nan], atol=1e-12)
    assert found.purity.tolist() == pytest.approx([1, 1, 2 / 3, 1])
    assert found.top_class.tolist() == [1, 0, 0, 1]


def test_top_rows_keep_those_that_are_equal():
    codes = np.array([[5.0], [3], [3], [1], [0]])
    y = [0, 0, 1, 1, 1]
    assert class_purity(codes, y, n_top=2).purity[0] == pytest.approx(8 / 11)
    assert class_purity(codes, y, n_top=2, weight_by="count").purity[0] == 2 / 3
    assert class_purity(codes, y, n_top=1).purity[0] == 1


def test_codes_are_left_as_they_are():
    codes = sparse.csc_array(np.array([[3.0, -1], [0, 2], [1, 1]]))
    before = codes.toarray()
    class_purity(codes, [0, 1, 1], n_top=1)
    description_length(codes.tocsr())
    np.testing.assert_array_equal(codes.toarray(), before)


@pytest.mark.parametrize(
    ("y", "params", "message"),
    [
        ([0, 1, 1], {}, "inconsistent numbers of samples"),
        ([0, 0], {}, "y must have at least two classes"),
        ([0.5, 1.5], {}, "Unknown label type"),
        ([0, 1], {"weight_by": "rows"}, "weight_by must be one of 'activation', 'cou"),
        ([0, 1], {"n_top": 0}, "n_top must be None or an int of at least 1"),
    ],
)
def test_clear_errors_of_purity(y, params, message):
    with pytest.raises(ValueError, match=message):
        class_purity(np.ones((2, 1)), y, **params)


# Lengths


def length_of_one(row, share):
    sizes = sorted(map(abs, row), reverse=True)
    for n in range(len(sizes) + 1):
        if sum(sizes[:n]) >= share * sum(sizes) - 1e-9:
            return n
    return None


@given(seed=SEEDS, share=st.sampled_from([0.1, 0.5, 0.9, 1.0]))
def test_length_as_written_out(seed, share):
    rng = np.random.default_rng(seed)
    parts = rng.normal(size=(8, 12)) * (rng.random((8, 12)) < 0.4)
    parts[0] = 0
    expected = [length_of_one(row, share) for row in parts]
    order, unit = rng.permutation(12), 2.0 ** rng.integers(-900, 900)
    for make in FORMATS:
        found = description_length(make(parts[:, order] * -unit), share)
        assert found.tolist() == expected
    if share == 1:
        assert expected == (parts != 0).sum(axis=1).tolist()


def test_length_of_equal_parts_is_no_matter_of_rounding():
    for n in (10, 100, 1000, 100_000):
        assert description_length(np.full((1, n), 0.1)).tolist() == [0.9 * n]
        assert description_length(np.full((1, n), 0.1), 1.0).tolist() == [n]


def test_length_of_nothing():
    assert description_length(np.zeros((2, 3))).tolist() == [0, 0]
    assert description_length(np.zeros((0, 3))).tolist() == []
    assert description_length(np.zeros((2, 0))).tolist() == [0, 0]
    assert description_length(sparse.csr_array((2, 0))).tolist() == [0, 0]


def test_length_in_blocks(monkeypatch):
    parts = np.random.default_rng(0).exponential(size=(20, 9)) ** 3
    expected = description_length(parts)
    monkeypatch.setattr("skfeat.metrics._description._BLOCK_ELEMENTS", 30)
    for make in FORMATS:
        assert description_length(make(parts)).tolist() == expected.tolist()


@pytest.mark.parametrize("share", [0, 1.1, "half"])
def test_clear_errors_of_length(share):
    with pytest.raises(ValueError, match="share must be a float in the range"):
        description_length([[1.0]], share)


def test_length_of_an_attribution():
    network = SparseFeatureNetwork(
        front=Chain.from_steps([], n_features_in=3),
        encoder_coef=sparse.csr_array(np.eye(3)),
        encoder_intercept=np.zeros(3),
        encoder_bias=np.zeros(3),
        activation=ReLU(),
        coefs=[sparse.csr_array([[1.0, 1, 0], [0, 0, 5]])],
        intercepts=[np.zeros(2)],
        links=["relu"],
        decoder_coef=sparse.csr_array([[1.0], [1]]),
        decoder_intercept=np.zeros(1),
        back=Chain.from_steps([], n_features_in=1),
        layer_names=["a", "b"],
    )
    parts = network.attribute([[1.0, 1, 0], [1, 1, 2], [1, 0, 100]])
    assert description_length(parts.edges[0]).tolist() == [2, 2, 1]
    assert description_length(parts.features[0], 1.0).tolist() == [2, 3, 2]
    assert description_length(parts.features[1]).tolist() == [1, 2, 1]


# Edges


@given(seed=SEEDS, signed=st.booleans())
def test_edges_of_a_permuted_fit_are_the_same(seed, signed):
    rng = np.random.default_rng(seed)
    outer, inner = rng.normal(size=(5, 4)), rng.normal(size=(7, 6))
    coef = rng.normal(size=(5, 7)) * (rng.random((5, 7)) < 0.4)
    coef[0, 0] = 1
    rows, columns = rng.permutation(5), rng.permutation(7)
    moved = 10.0 ** rng.integers(-99, 99) * coef[rows][:, columns]
    targets, _ = match_components(outer, outer[rows])
    sources, _ = match_components(inner, inner[columns])
    for make in FORMATS:
        found = edge_stability(coef, make(moved), targets, sources, signed=signed)
        assert found.jaccard == 1
        assert found.n_both == found.n_either == np.count_nonzero(coef)


@given(seed=SEEDS)
def test_edges_as_sets_and_in_either_order(seed):
    rng = np.random.default_rng(seed)
    first = rng.choice([-1.0, 0, 0, 2], (4, 5))
    second = rng.choice([-3.0, 0, 0, 1], (6, 3))
    targets, sources = np.array([3, -1, 0, 5]), np.array([-1, 2, 0, -1, 1])
    back = np.full(6, -1), np.full(3, -1)
    for inverse, places in zip(back, (targets, sources), strict=True):
        inverse[places[places >= 0]] = np.flatnonzero(places >= 0)
    for signed in (False, True):
        sets = [set(), set()]
        for row, column in zip(*np.nonzero(first), strict=True):
            sign = np.sign(first[row, column]) if signed else 0
            place = targets[row], sources[column]
            whole = (*place, sign) if min(place) >= 0 else ("own", row, column)
            sets[0].add(whole)
        for row, column in zip(*np.nonzero(second), strict=True):
            sets[1].add((row, column, np.sign(second[row, column]) if signed else 0))
        found = edge_stability(first, second, targets, sources, signed=signed)
        assert found.n_both == len(sets[0] & sets[1])
        assert found.n_either == len(sets[0] | sets[1])
        assert edge_stability(second, first, *back, signed=signed) == pytest.approx(
            found, nan_ok=True
        )


@pytest.mark.parametrize("signed", [False, True])
def test_chance_is_the_mean_over_all_pairings(signed):
    first = np.array([[1.0, 0, -2], [0, 3, 0]])
    second = np.array([[1.0, 1, 0], [0, -1, -1]])
    found = [
        edge_stability(first, second, targets, sources, signed=signed)
        for targets in permutations(range(2))
        for sources in permutations(range(3))
    ]
    n_both = np.mean([one.n_both for one in found])
    assert found[0].chance == pytest.approx(n_both / (7 - n_both))


def test_no_edges():
    none = edge_stability(np.zeros((2, 2)), np.zeros((2, 2)), [0, 1], [0, 1])
    assert np.isnan([none.jaccard, none.chance]).all()
    one = edge_stability(np.zeros((2, 2)), np.ones((2, 2)), [0, 1], [0, 1])
    assert one == (0, 0, 0, 4)


@pytest.mark.parametrize(
    "places", [[0], [0, 0], [0, 2], [-2, 0], [0.0, 1.0], ["a", "b"]]
)
def test_clear_errors_of_edges(places):
    message = "must be 2 positions below 2, each used once at most, or -1 for none"
    with pytest.raises(ValueError, match=f"targets {message}"):
        edge_stability(np.ones((2, 2)), np.ones((2, 2)), places, [0, 1])
    with pytest.raises(ValueError, match=f"sources {message}"):
        edge_stability(np.ones((2, 2)), np.ones((2, 2)), [0, 1], places)


# Features that are used


@given(seed=SEEDS)
def test_used_features(seed):
    codes, _ = some_codes(seed, n=4)
    readers = np.random.default_rng(seed).choice([0, 0, -1.0], (3, 6))
    fires, is_read = codes.any(axis=0), readers.any(axis=0)
    for make in FORMATS:
        assert used_features(make(codes)).tolist() == fires.tolist()
        found = used_features(make(codes), make(readers))
        assert found.tolist() == (fires & is_read).tolist()


def test_nothing_is_read_by_nothing():
    assert not used_features(np.ones((2, 3)), np.zeros((0, 3))).any()
    with pytest.raises(ValueError, match=r"readers must have a column for each of the"):
        used_features(np.ones((2, 3)), np.ones((3, 2)))
