import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.stats import multivariate_normal, norm
from sklearn.utils._param_validation import InvalidParameterError

from skfeat.datasets import _sparse_features
from skfeat.datasets._sparse_features import _firing_probabilities, make_sparse_features
from skfeat.metrics import feature_density, fvu

SEEDS = st.integers(0, 2**32 - 1)
# A mean further than this many standard errors from what is expected is no chance.
SURE = 6


def deviation(rows):
    """Root mean square distance of rows from their mean."""
    distances = [np.sum((row - rows.mean(axis=0)) ** 2) for row in rows]
    return np.sqrt(np.mean(distances))


# Directions


@given(d=st.integers(1, 20), m=st.integers(1, 40), seed=SEEDS)
def test_directions_are_unit_and_orthogonal_where_there_is_room(d, m, seed):
    X, codes, dictionary = make_sparse_features(
        5, d, m, n_active=min(m, 2), random_state=seed
    )
    assert (X.shape, codes.shape, dictionary.shape) == ((5, d), (5, m), (m, d))
    np.testing.assert_allclose(np.linalg.norm(dictionary, axis=1), 1, rtol=1e-12)
    if m <= d:
        np.testing.assert_allclose(dictionary @ dictionary.T, np.eye(m), atol=1e-12)
    assert dictionary.flags.c_contiguous


@pytest.mark.parametrize(("m", "d"), [(3, 3), (8, 3)])
def test_directions_have_no_preferred_side(m, d):
    draws = [
        make_sparse_features(1, d, m, n_active=1, random_state=seed)[2]
        for seed in range(400)
    ]
    # Of a uniform direction, each entry has mean 0 and variance 1 / d.
    means = np.mean(draws, axis=0)
    assert np.abs(means).max() < SURE / np.sqrt(400 * d)


# How often features fire


def naive_probabilities(m, n_active, exponent):
    """Cap what exceeds 1, share the rest out anew, until nothing exceeds 1."""
    weights = [(j + 1.0) ** -exponent for j in range(m)]
    capped: set[int] = set()
    while True:
        free = sum(w for j, w in enumerate(weights) if j not in capped)
        left = n_active - len(capped)
        p = [1.0 if j in capped else left * w / free for j, w in enumerate(weights)]
        more = {j for j in range(m) if p[j] > 1}
        if not more:
            return p
        capped |= more


@given(m=st.integers(1, 60), share=st.floats(0.01, 1.0), exponent=st.floats(0.0, 5.0))
def test_probabilities_are_the_capped_power_law(m, share, exponent):
    found = _firing_probabilities(m, share * m, exponent)
    assert found.max() <= 1
    assert found.sum() == pytest.approx(share * m, rel=1e-12)
    expected = naive_probabilities(m, share * m, exponent)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("n_active", "expected"),
    [(3, [1, 1, 1, 0, 0]), (3.5, [1, 1, 1, 0.5, 0]), (5, [1, 1, 1, 1, 1])],
)
def test_probabilities_of_a_law_that_underflows(n_active, expected):
    found = _firing_probabilities(5, n_active, 1e4)
    np.testing.assert_allclose(found, expected, atol=1e-100)


@given(
    seed=SEEDS,
    m=st.integers(2, 40),
    share=st.floats(0.02, 1.0),
    exponent=st.floats(0.0, 2.0),
    correlation=st.floats(0.0, 0.95),
    group_size=st.integers(1, 6),
)
def test_rates_are_as_asked_for(seed, m, share, exponent, correlation, group_size):
    n = 4000
    _, codes, _ = make_sparse_features(
        n,
        4,
        m,
        n_active=share * m,
        frequency_exponent=exponent,
        correlation=correlation,
        group_size=group_size,
        random_state=seed,
    )
    p = np.array(naive_probabilities(m, share * m, exponent))
    # Counts of rare features have heavier tails than the normal: hence the last term.
    margin = SURE * np.sqrt(p * (1 - p) / n) + 2 * SURE / n + 1e-9
    assert (np.abs(feature_density(codes) - p) <= margin).all()
    n_active = np.diff(codes.indptr)
    margin = SURE * n_active.std() / np.sqrt(n) + 2 * SURE / n + 1e-9
    assert abs(n_active.mean() - share * m) <= margin


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.9])
def test_features_of_a_group_fire_together(correlation):
    n, m, size = 40_000, 8, 3
    _, codes, _ = make_sparse_features(
        n,
        4,
        m,
        n_active=3,
        frequency_exponent=0.5,
        correlation=correlation,
        group_size=size,
        random_state=0,
    )
    active = codes.toarray() > 0
    thresholds = norm.ppf(naive_probabilities(m, 3, 0.5))
    for i in range(m):
        for j in range(i):
            rho = correlation if i // size == j // size else 0.0
            together = multivariate_normal([0, 0], [[1, rho], [rho, 1]])
            p = together.cdf(thresholds[[i, j]])
            margin = SURE * np.sqrt(p * (1 - p) / n)
            assert abs((active[:, i] & active[:, j]).mean() - p) < margin


@given(seed=SEEDS)
def test_more_correlation_is_more_firing_together(seed):
    together = []
    for correlation in (0.0, 0.5, 0.9):
        _, codes, _ = make_sparse_features(
            3000, 4, 16, n_active=2, correlation=correlation, random_state=seed
        )
        active = (codes != 0).astype(float)
        together.append(sum((active.T @ active).toarray()[0, 1:4]))
    assert together[0] < together[1] < together[2]


@given(seed=SEEDS)
def test_magnitudes_are_uniform(seed):
    _, codes, _ = make_sparse_features(2000, random_state=seed)
    assert codes.data.min() >= 0.5
    assert codes.data.max() <= 1.5
    assert codes.data.mean() == pytest.approx(1, abs=SURE / np.sqrt(12 * codes.nnz))
    assert codes.data.var() == pytest.approx(1 / 12, rel=0.1)


# Rows


@given(seed=SEEDS, n=st.integers(1, 50))
def test_clean_rows_are_codes_times_dictionary(seed, n):
    X, codes, dictionary = make_sparse_features(n, random_state=seed)
    expected = np.zeros((n, 16))
    for i, j in zip(*codes.nonzero(), strict=True):
        expected[i] += codes[i, j] * dictionary[j]
    np.testing.assert_allclose(X, expected, atol=1e-12)


@given(seed=SEEDS, noise=st.floats(0.01, 3), offset=st.sampled_from([0.0, 5.0]))
def test_noise_is_in_units_of_the_deviation(seed, noise, offset):
    options = {"n_samples": 2000, "offset": offset, "random_state": seed}
    clean, codes, dictionary = make_sparse_features(**options)
    X, same_codes, same_dictionary = make_sparse_features(**options, noise=noise)
    np.testing.assert_array_equal(dictionary, same_dictionary)
    np.testing.assert_array_equal(codes.toarray(), same_codes.toarray())
    added = X - clean
    variance = noise**2 * clean.var(axis=0).mean()
    # The mean square of k normal variables has relative variance 2 / k.
    margin = SURE * np.sqrt(2 / added.size)
    assert np.square(added).mean() == pytest.approx(variance, rel=margin)
    assert np.abs(added.mean(axis=0)).max() < SURE * np.sqrt(variance / 2000)
    # White: entries of a row are uncorrelated.
    correlation = np.corrcoef(added.T) - np.eye(16)
    assert np.abs(correlation).max() < SURE / np.sqrt(2000)
    assert fvu(X, clean) == pytest.approx(noise**2 / (1 + noise**2), rel=0.1)


@given(seed=SEEDS, offset=st.floats(0.1, 100))
def test_offset_is_in_units_of_the_deviation(seed, offset):
    clean, codes, _ = make_sparse_features(200, random_state=seed)
    X, same_codes, _ = make_sparse_features(200, offset=offset, random_state=seed)
    np.testing.assert_array_equal(codes.toarray(), same_codes.toarray())
    added = X - clean
    np.testing.assert_allclose(added, added[:1].repeat(200, axis=0), atol=1e-9)
    length = np.linalg.norm(added[0])
    assert length == pytest.approx(offset * deviation(clean), rel=1e-9)


def test_one_row_has_nothing_to_be_measured_by():
    options = {"n_samples": 1, "random_state": 0}
    clean = make_sparse_features(**options)[0]
    X = make_sparse_features(**options, noise=1, offset=1)[0]
    np.testing.assert_array_equal(X, clean)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, "float32", np.dtype("f8")])
def test_dtype(dtype):
    options = {"noise": 0.1, "offset": 5, "correlation": 0.5, "random_state": 0}
    parts = make_sparse_features(**options, dtype=dtype)
    assert {part.dtype for part in parts} == {np.dtype(dtype)}
    for part, wide in zip(parts, make_sparse_features(**options), strict=True):
        np.testing.assert_allclose(
            *(p.toarray() if sparse.issparse(p) else p for p in (part, wide)),
            rtol=1e-5,
            atol=1e-5,
        )


# Seeds


def as_bytes(parts):
    return [(p.toarray() if sparse.issparse(p) else p).tobytes() for p in parts]


OPTIONS = {"correlation": 0.4, "noise": 0.1, "offset": 1, "frequency_exponent": 1}


@given(seed=SEEDS)
def test_same_seed_same_data(seed):
    before = np.random.get_state()[1:3]  # noqa: NPY002
    first, again, other = (
        as_bytes(make_sparse_features(50, random_state=s, **OPTIONS))
        for s in (seed, np.random.RandomState(seed), seed ^ 1)
    )
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))
    after = np.random.get_state()[1:3]  # noqa: NPY002
    assert before[1] == after[1]
    np.testing.assert_array_equal(before[0], after[0])


def test_random_state_instance_moves_on():
    rng = np.random.RandomState(0)
    first, second = (as_bytes(make_sparse_features(random_state=rng)) for _ in "ab")
    assert first != second


# Memory


def test_blocks_make_one_data_set(monkeypatch):
    monkeypatch.setattr(_sparse_features, "_BLOCK_ELEMENTS", 100)
    X, codes, dictionary = make_sparse_features(
        n_samples=301, n_components=32, random_state=0, correlation=0.5
    )
    assert codes.shape == (301, 32)
    assert codes.has_canonical_format
    np.testing.assert_allclose(X, codes @ dictionary, atol=1e-12)
    assert np.diff(codes.indptr).max() < 32
    # No block repeats another.
    assert len(np.unique(codes.toarray(), axis=0)) > 250


def test_codes_are_never_dense():
    tracemalloc.start()
    try:
        _, codes, _ = make_sparse_features(
            2000, 4, 20_000, correlation=0.3, random_state=0, dtype=np.float32
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sparse.issparse(codes)
    # Dense float32 codes would be 160 MB.
    assert peak < 60e6


# Bad input


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("n_samples", 0, "an int in the range [1, inf)"),
        ("n_samples", 10.0, "an int in the range [1, inf)"),
        ("n_features", -1, "an int in the range [1, inf)"),
        ("n_components", "8", "an int in the range [1, inf)"),
        ("n_active", 0, "a float in the range (0.0, 64.0]"),
        ("n_active", 65, "a float in the range (0.0, 64.0]"),
        ("n_active", float("nan"), "a float in the range (0.0, 64.0]"),
        ("correlation", 1.0, "a float in the range [0.0, 1.0)"),
        ("correlation", -0.1, "a float in the range [0.0, 1.0)"),
        ("group_size", 0, "an int in the range [1, inf)"),
        ("frequency_exponent", -1, "a float in the range [0.0, inf)"),
        ("noise", float("inf"), "a float in the range [0.0, inf)"),
        ("offset", None, "a float in the range [0.0, inf)"),
        ("dtype", "int64", "np.float64 or np.float32"),
    ],
)
def test_bad_parameters_are_named(name, value, allowed):
    with pytest.raises(InvalidParameterError) as error:
        make_sparse_features(**{name: value})
    assert str(error.value) == f"{name} must be {allowed}. Got {value!r} instead."


def test_bad_random_state_is_refused():
    with pytest.raises(ValueError, match="cannot be used to seed"):
        make_sparse_features(random_state="seed")
