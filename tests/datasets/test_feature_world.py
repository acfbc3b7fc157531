import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.special import ndtr, ndtri
from sklearn.utils._param_validation import InvalidParameterError

from skfeat.datasets import _world_draws, make_feature_world
from skfeat.datasets._world_draws import compensated, draw_exclusive, draw_parents
from skfeat.metrics import feature_density

SEEDS = st.integers(0, 2**32 - 1)
# A mean further than this many standard errors from what is expected is no chance.
SURE = 6
SMALL = {
    "n_components": 60,
    "n_features": 10,
    "n_trees": 4,
    "depth": 2,
    "rates": (0.5, 0.05),
    "n_orthogonal_steps": 0,
}


def world_of(**options):
    return make_feature_world(**{**SMALL, "random_state": 0, **options})


# Trees


@given(
    seed=SEEDS,
    m=st.integers(1, 80),
    n_trees=st.integers(0, 6),
    low=st.integers(1, 4),
    more=st.integers(0, 3),
    depth=st.integers(1, 4),
)
def test_trees_grow_level_by_level(seed, m, n_trees, low, more, depth):
    rng = np.random.RandomState(seed)
    parents = draw_parents(rng, m, n_trees, (low, low + more), depth)
    in_tree = parents >= 0
    assert (parents[in_tree] < np.flatnonzero(in_tree)).all()
    levels = np.zeros(m, dtype=int)
    for j in np.flatnonzero(in_tree):
        levels[j] = levels[parents[j]] + 1
    assert levels.max() <= depth
    # Features of trees come first, by level and, within one, by parent.
    used = np.flatnonzero(in_tree)
    if len(used):
        np.testing.assert_array_equal(used, np.arange(used[0], used[-1] + 1))
        assert used[0] == n_trees
        assert (np.diff(levels[used]) >= 0).all()
        assert (np.diff(parents[used]) >= 0).all()
    counts = np.bincount(parents[in_tree], minlength=m)
    assert counts.max() <= low + more
    # Only the last parent, when features run out, may have fewer than wanted.
    assert (counts[counts > 0][:-1] >= low).all()


@pytest.mark.parametrize("share", [0.0, 0.29, 0.5, 1.0])
def test_as_many_parents_as_asked_for_have_exclusive_children(share):
    parents = np.repeat(np.arange(-1, 100), 2)
    exclusive = draw_exclusive(np.random.RandomState(0), parents, share)
    assert exclusive.sum() == round(share * 100)
    assert not exclusive[100:].any()


def test_a_single_child_excludes_nobody():
    parents = np.array([-1, 0])
    assert not draw_exclusive(np.random.RandomState(0), parents, 1.0).any()


def test_compensation_as_written_out():
    rates = np.array([0.4, 0.2, 0.1, 0.1, 0.3])
    parents = np.array([-1, 0, 0, 1, -1])
    exclusive = np.array([True, False, False, False, False])
    found = compensated(rates, parents, exclusive)
    first = 0.2 / 0.4 * (1 + 0.1 / 0.4)
    second = 0.1 / 0.4 * (1 + 0.2 / 0.4)
    np.testing.assert_allclose(found, [0.4, first, second, 0.1 / 0.2, 0.3])
    alone = compensated(rates, parents, np.zeros(5, dtype=bool))
    np.testing.assert_allclose(alone, [0.4, 0.5, 0.25, 0.5, 0.3])
    # No probability exceeds 1.
    assert compensated(np.array([0.1, 0.4]), np.array([-1, 0]), exclusive)[1] == 1


# Rows


@settings(max_examples=15)
@given(
    seed=SEEDS,
    exclusive=st.sampled_from([0.0, 0.5, 1.0]),
    children=st.sampled_from([1, 2, 3, (1, 4)]),
    rank=st.sampled_from([0, 3]),
)
def test_children_need_parents_and_exclude_one_another(seed, exclusive, children, rank):
    world = world_of(
        exclusive=exclusive,
        n_children=children,
        correlation_rank=rank,
        random_state=seed,
    )
    X, codes = world.sample(500, random_state=seed)
    fires = codes.toarray() > 0
    for child in np.flatnonzero(world.parents >= 0):
        assert not fires[~fires[:, world.parents[child]], child].any()
    for parent in np.flatnonzero(world.exclusive):
        assert fires[:, world.parents == parent].sum(axis=1).max() <= 1
    expected = codes @ world.dictionary + world.bias
    np.testing.assert_allclose(X, expected, atol=1e-4)
    assert codes.has_canonical_format
    assert codes.data.min() > 0


def reference_codes(world, n, seed):
    """Draw codes as the docstring says, feature by feature."""
    rng = np.random.default_rng(seed)
    rank = world.factors.shape[1]
    own = np.sqrt(1 - np.square(world.factors).sum(axis=1))
    hidden = rng.normal(size=(n, rank)) @ world.factors.T
    hidden += own * rng.normal(size=hidden.shape)
    fires = hidden > ndtri(1 - world.probabilities)
    codes = world.means + world.deviations * rng.normal(size=hidden.shape)
    codes = np.where(fires, np.maximum(codes, 0), 0)
    for parent in range(len(world.parents)):
        children = np.flatnonzero(world.parents == parent)
        codes[np.ix_(codes[:, parent] == 0, children)] = 0
        if world.exclusive[parent]:
            # The largest of random numbers is that of any one with the same chance.
            chances = np.where(
                codes[:, children] > 0, rng.random((n, len(children))), 0
            )
            losers = chances < chances.max(axis=1, keepdims=True)
            codes[:, children] = np.where(losers, 0, codes[:, children])
        if world.scaled:
            factor = codes[:, [parent]] / world.means[parent]
            codes[:, children] *= factor
    return codes


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"exclusive": 0.5, "scaled": False},
        {"correlation_scale": 0.4, "correlation_rank": 3},
        {"compensate": False, "deviations": (3.0, 1.0)},
        {"n_trees": 0},
    ],
    ids=str,
)
def test_codes_are_distributed_as_written_out(options):
    n = 20_000
    world = world_of(**options)
    ours = world.sample(n, random_state=1)[1].toarray().astype(float)
    theirs = reference_codes(world, n, seed=2)
    for power in (0, 1, 2):
        a, b = ((c > 0) * c**power for c in (ours, theirs))
        means, squares = (
            [c.T @ c / n for c in (a, b)],
            [(c**2).T @ c**2 / n for c in (a, b)],
        )
        error = np.sqrt((squares[0] + squares[1]) / n) + 1 / n
        assert (np.abs(means[0] - means[1]) < SURE * error).all()


def test_bounds_are_above_the_normal_integrals_and_close():
    levels = np.append(np.linspace(-12, 12, 20_001), np.inf).astype(np.float32)
    excess = _world_draws._at_most(levels).astype(float) - ndtr(levels.astype(float))
    # A float32 uniform number is a multiple of the last term.
    assert excess.min() > 2.0**-24
    assert excess.max() < 4e-4


def test_rates_without_trees_are_a_power_law():
    n = 40_000
    world = world_of(n_trees=0, frequency_exponent=0.7, deviations=(0.1, 0.0))
    law = np.arange(1, 61) ** -0.7
    expected = 0.05 + 0.45 * (law - law[-1]) / (law[0] - law[-1])
    np.testing.assert_allclose(world.rates, expected)
    density = feature_density(world.sample(n, random_state=0)[1])
    # Shared variables correlate features within a row, not over rows.
    margin = SURE * np.sqrt(expected * (1 - expected) / n)
    assert (np.abs(density - expected) < margin).all()


def test_compensation_keeps_the_rates_of_trees():
    rates = {"rates": (0.9, 0.05), "deviations": (0.1, 0.0), "exclusive": 0.0}
    world = world_of(**rates)
    density = feature_density(world.sample(20_000, random_state=0)[1])
    assert np.abs(density / world.rates - 1)[world.parents >= 0].mean() < 0.15
    world = world_of(**rates, compensate=False)
    density = feature_density(world.sample(20_000, random_state=0)[1])
    assert (density / world.rates)[world.parents >= 0].max() < 0.95


def test_magnitudes_run_from_the_first_to_the_last_feature():
    world = world_of(magnitudes=(2.0, 8.0), deviations=(0.0, 0.0), scaled=False)
    codes = world.sample(500, random_state=0)[1]
    means = codes.sum(axis=0) / (codes > 0).sum(axis=0)
    np.testing.assert_allclose(np.ravel(means), np.linspace(2, 8, 60), rtol=1e-5)


@pytest.mark.parametrize("scale", [0.1, 0.5, 5.0])
def test_hidden_variables_keep_a_share_of_their_own(scale):
    world = world_of(correlation_scale=scale, correlation_rank=8)
    shared = np.square(world.factors).sum(axis=1)
    assert shared.max() <= 0.99 + 1e-12
    assert (np.ptp(shared) < 1e-9) == (scale == 5.0)


@pytest.mark.parametrize("m", [1, 5, 40])
def test_directions_have_norm_one_and_steps_part_them(m):
    worlds = [
        make_feature_world(m, 8, n_orthogonal_steps=steps, random_state=0)
        for steps in (0, 50, 200)
    ]
    together = []
    for world in worlds:
        np.testing.assert_allclose(
            np.linalg.norm(world.dictionary, axis=1), 1, rtol=1e-5
        )
        cosines = world.dictionary @ world.dictionary.T - np.eye(m)
        together.append(np.square(cosines).sum())
    if m > 1:
        assert together[0] > together[1] > together[2]


def test_bias_has_its_length():
    assert np.linalg.norm(world_of(bias=3.0).bias) == pytest.approx(3, rel=1e-6)
    assert not world_of(bias=0.0).bias.any()


def test_one_feature_is_a_world():
    X, codes = make_feature_world(1, 1, rates=(0.5, 0.5), random_state=0).sample(100)
    assert X.shape == codes.shape == (100, 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, "float64"])
def test_dtype(dtype):
    world = world_of(dtype=dtype)
    X, codes = world.sample(10, random_state=0)
    assert {X.dtype, codes.dtype, world.dictionary.dtype} == {np.dtype(dtype)}


# Seeds and memory


@given(seed=SEEDS)
def test_same_seed_same_rows(seed):
    before = np.random.get_state()[1:3]  # noqa: NPY002
    worlds = [world_of(random_state=s) for s in (seed, seed, seed ^ 1)]
    assert worlds[0].dictionary.tobytes() == worlds[1].dictionary.tobytes()
    assert worlds[0].dictionary.tobytes() != worlds[2].dictionary.tobytes()
    first, again = (world.sample(30, random_state=seed) for world in worlds[:2])
    assert first[0].tobytes() == again[0].tobytes()
    assert (first[1] != again[1]).nnz == 0
    other = worlds[0].sample(30, random_state=seed ^ 1)[0]
    assert first[0].tobytes() != other.tobytes()
    after = np.random.get_state()[1:3]  # noqa: NPY002
    assert before[1] == after[1]
    np.testing.assert_array_equal(before[0], after[0])


def test_random_state_instance_moves_on():
    world, rng = world_of(), np.random.RandomState(0)
    assert (world.sample(20, rng)[0] != world.sample(20, rng)[0]).any()


def test_blocks_make_one_sample(monkeypatch):
    monkeypatch.setattr(_world_draws, "_BLOCK_ELEMENTS", 300)
    world = world_of()
    X, codes = world.sample(301, random_state=0)
    assert codes.shape == (301, 60)
    np.testing.assert_allclose(X, codes @ world.dictionary + world.bias, atol=1e-4)
    # No block repeats another, but for rows on which nothing fires.
    assert len(np.unique(X, axis=0)) == 1 + (np.diff(codes.indptr) > 0).sum()


def test_codes_are_never_dense():
    world = make_feature_world(4000, 4, n_orthogonal_steps=0, random_state=0)
    tracemalloc.start()
    try:
        codes = world.sample(5000, random_state=0)[1]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sparse.issparse(codes)
    # Dense float32 codes would be 80 MB.
    assert peak < 30e6


# Bad input


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("n_components", 0, "an int in the range [1, inf)"),
        ("n_features", 2.0, "an int in the range [1, inf)"),
        ("n_trees", -1, "an int in the range [0, inf)"),
        ("depth", 0, "an int in the range [1, inf)"),
        (
            "n_children",
            0,
            "an int of at least 1, or two of them, the least and the most",
        ),
        (
            "n_children",
            (3, 2),
            "an int of at least 1, or two of them, the least and the most",
        ),
        (
            "rates",
            (0.1, 0.2),
            "two numbers above 0 and at most 1, the first at least the second",
        ),
        (
            "rates",
            0.3,
            "two numbers above 0 and at most 1, the first at least the second",
        ),
        ("frequency_exponent", 0.0, "a float in the range (0.0, inf)"),
        ("exclusive", 1.5, "a float in the range [0.0, 1.0]"),
        ("compensate", 1, "a bool"),
        ("scaled", "yes", "a bool"),
        ("correlation_rank", -1, "an int in the range [0, inf)"),
        ("correlation_scale", -0.1, "a float in the range [0.0, inf)"),
        ("magnitudes", (1.0, 0.0), "two positive numbers"),
        ("magnitudes", (1.0, float("nan")), "two positive numbers"),
        ("deviations", (-1.0, 0.0), "two finite numbers of at least 0"),
        ("n_orthogonal_steps", None, "an int in the range [0, inf)"),
        ("bias", float("inf"), "a float in the range [0.0, inf)"),
        ("dtype", "int64", "np.float32 or np.float64"),
    ],
)
def test_bad_parameters_are_named(name, value, allowed):
    with pytest.raises(ValueError, match=name) as error:
        make_feature_world(**{name: value})
    assert str(error.value) == f"{name} must be {allowed}. Got {value!r} instead."


def test_bad_numbers_of_rows_are_refused():
    with pytest.raises(InvalidParameterError, match="n_samples must be an int"):
        world_of().sample(0)
