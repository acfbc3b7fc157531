import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skfeat import FeatureConnector
from skfeat.datasets import make_feature_network
from skfeat.metrics import edge_recovery, feature_density, path_recovery

SEEDS = st.integers(0, 2**32 - 1)
SMALL = {"n_circuits": 3, "n_hidden": 200, "n_active": 3}
SHAPES = {
    "width": st.integers(6, 12),
    "n_layers": st.integers(2, 4),
    "together": st.floats(0.3, 0.5),
}
MAGNITUDES = (
    "two positive numbers, the first at most the second and at least 0.6 times it"
)


def dense(matrices):
    return [matrix.toarray() for matrix in matrices]


def computed_of(network, depth):
    """Features of a layer from the one before, and which of them are computed."""
    before, weights = network.features[depth - 1], network.coefs[depth - 1]
    sums = before.toarray() @ weights.toarray().T + network.intercepts[depth - 1]
    return np.maximum(sums, 0), network.kinds[depth] != "distractor"


@settings(max_examples=12, deadline=None)
@given(seed=SEEDS, ratio=st.floats(0.6, 1.0), **SHAPES)
def test_layers_are_computed_exactly_from_one_another(seed, ratio, **shape):
    network = make_feature_network(
        200, magnitudes=(2 * ratio, 2.0), random_state=seed, **SMALL, **shape
    )
    for depth in range(1, len(network.features)):
        expected, known = computed_of(network, depth)
        found = network.features[depth].toarray()
        np.testing.assert_allclose(found[:, known], expected[:, known], atol=1e-12)
        assert network.features[depth].has_canonical_format
        assert not network.coefs[depth - 1].toarray()[~known].any()
    for rows, features, dictionary in zip(
        network.activations, network.features, network.dictionaries, strict=True
    ):
        np.testing.assert_allclose(rows, features @ dictionary, atol=1e-12)
        np.testing.assert_allclose(np.linalg.norm(dictionary, axis=1), 1)


@settings(max_examples=12, deadline=None)
@given(seed=SEEDS, ratio=st.floats(0.6, 1.0), **SHAPES)
def test_features_fire_where_their_logic_says(seed, ratio, **shape):
    network = make_feature_network(
        300, magnitudes=(ratio, 1.0), random_state=seed, **SMALL, **shape
    )
    on = [features.toarray() > 0 for features in network.features]
    for depth in range(1, len(on)):
        coef = network.coefs[depth - 1].toarray()
        for row, kind in enumerate(network.kinds[depth]):
            parents = [on[depth - 1][:, j] for j in np.flatnonzero(coef[row] > 0)]
            others = [on[depth - 1][:, j] for j in np.flatnonzero(coef[row] < 0)]
            fires = on[depth][:, row]
            if kind == "copy":
                expected = parents[0]
            elif kind == "and":
                expected = parents[0] & parents[1]
            elif kind == "and not":
                expected = parents[0] & ~others[0]
            elif kind == "any":
                expected = parents[0] | parents[1]
            elif kind == "or":
                expected = fires_of_or(network, depth, row, on)
            else:
                continue  # a limit is part of its OR, a distractor is random
            np.testing.assert_array_equal(fires, expected, err_msg=kind)


def fires_of_or(network, depth, row, on):
    """u or v, unless w: two hops back."""
    coef = network.coefs[depth - 1].toarray()[row]
    before = network.coefs[depth - 2].toarray()
    pair = before[coef > 0][0] != 0
    blocker = (before[coef < 0][0] != 0) & ~pair
    first = on[depth - 2]
    return first[:, pair].any(axis=1) & ~first[:, blocker].any(axis=1)


def test_or_saturates():
    network = make_feature_network(4000, random_state=0, **SMALL)
    features = dense(network.features)
    for row in np.flatnonzero(network.kinds[2] == "or"):
        coef = network.coefs[1].toarray()[row]
        pair = network.coefs[0].toarray()[coef > 0][0] != 0
        both = (features[0][:, pair] > 0).all(axis=1) & (features[2][:, row] > 0)
        assert both.sum() > 20
        np.testing.assert_allclose(features[2][both, row], features[2][:, row].max())


def r2_of_parents(network, depth, row):
    """R2 of the best linear function of a feature's true parents."""
    parents = network.coefs[depth - 1].toarray()[row] != 0
    X = network.features[depth - 1].toarray()[:, parents]
    X = np.column_stack([X, np.ones(len(X))])
    y = network.features[depth].toarray()[:, row]
    error = y - X @ np.linalg.lstsq(X, y, rcond=None)[0]
    return 1 - error.var() / y.var()


@pytest.mark.parametrize("seed", range(3))
def test_operations_are_not_linear(seed):
    network = make_feature_network(8000, n_circuits=6, random_state=seed)
    for depth in (1, 2):
        for row, kind in enumerate(network.kinds[depth]):
            if kind in ("and", "and not", "any", "limit", "or"):
                assert r2_of_parents(network, depth, row) < 0.96, kind


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("together", [0.3, 0.5])
def test_parents_fire_together_and_no_feature_implies_another(seed, together):
    network = make_feature_network(
        8000, n_circuits=6, together=together, random_state=seed
    )
    for depth, features in enumerate(network.features):
        on = (features.toarray() > 0).astype(float)
        rates = on.mean(axis=0)
        both = on.T @ on / len(on)
        # The share of the rows of the first on which the second fires too.
        implied = both / rates[:, None]
        np.fill_diagonal(implied, 0)
        # From truth tables at most 0.75; circuits overlap, and counts vary.
        assert implied.max() < 0.92
        if depth + 1 == len(network.features):
            break
        for row in network.coefs[depth].toarray():
            parents = np.flatnonzero(row)
            if len(parents) == 2:
                pair = np.ix_(parents, parents)
                assert implied[pair][0, 1] > 0.1
                assert implied[pair][1, 0] > 0.1


def test_all_kinds_are_there_and_shared():
    network = make_feature_network(100, random_state=0)
    assert set(network.kinds[0]) == {"input"}
    assert set(network.kinds[1]) == {
        *("copy", "and", "and not", "any", "limit", "distractor")
    }
    assert set(network.kinds[2]) == {"copy", "and", "and not", "or", "distractor"}
    for coef, kinds, circuits in zip(
        network.coefs, network.kinds[1:], network.circuits[1:], strict=True
    ):
        n_children = np.diff(coef.tocsc().indptr)
        assert n_children.max() > 1  # shared
        assert (n_children == 0).sum() >= 12  # read by none, in each circuit
        n_parents = np.diff(coef.indptr)
        assert (n_parents[kinds == "distractor"] == 0).all()
        assert (n_parents[kinds != "distractor"] > 0).all()
        assert ((circuits == -1) == (kinds == "distractor")).all()
    assert (network.coefs[1] @ abs(network.coefs[0])).nnz > 100


def test_rates_are_as_asked_for():
    network = make_feature_network(10_000, n_active=5, together=0.5, random_state=0)
    rates = feature_density(network.features[0])
    assert rates.sum() == pytest.approx(5, rel=0.1)
    assert rates.max() < 1.5 * 5 / 120
    active = (network.features[0] != 0).toarray()
    same = network.circuits[0] == 0
    rows = active[active[:, 0]]
    # Of its own circuit a feature fires with half of the others, others as always.
    assert rows[:, same][:, 1:].mean() == pytest.approx(0.5, abs=0.1)
    assert rows[:, ~same].mean() == pytest.approx(5 / 120, abs=0.015)
    magnitudes = network.features[0].data
    assert magnitudes.min() >= 0.75
    assert magnitudes.max() <= 1.0


def test_draws_do_not_depend_on_one_another():
    base = make_feature_network(300, random_state=3, **SMALL)
    noisy = make_feature_network(300, noise=0.5, random_state=3, **SMALL)
    more = make_feature_network(500, random_state=3, **SMALL)
    for depth in range(3):
        for other in (noisy, more):
            np.testing.assert_array_equal(base.kinds[depth], other.kinds[depth])
            np.testing.assert_array_equal(
                base.dictionaries[depth], other.dictionaries[depth]
            )
        clean, rows = base.activations[depth], noisy.activations[depth]
        features = noisy.features[depth].toarray()
        np.testing.assert_array_equal(base.features[depth].toarray(), features)
        scale = 0.5 * np.sqrt(clean.var(axis=0).mean())
        assert (rows - clean).std() == pytest.approx(scale, rel=0.05)
    again = make_feature_network(300, random_state=np.random.RandomState(3), **SMALL)
    np.testing.assert_array_equal(base.activations[2], again.activations[2])


def test_a_dimension_for_each_layer():
    network = make_feature_network(
        50, n_circuits=2, n_hidden=[30, 25, 20], n_active=1, random_state=0
    )
    assert [rows.shape[1] for rows in network.activations] == [30, 25, 20]


def test_full_layers_are_told():
    with pytest.warns(UserWarning, match="layer 0 has too many active features"):
        network = make_feature_network(500, n_hidden=24, n_active=6, random_state=0)
    n_active = network.features[0].nnz / 500
    expected = n_active * np.log(120 / n_active) / 24
    assert network.load[0] == pytest.approx(expected)


def test_connectors_of_true_features_find_all_weights():
    # As many rows as the solver for sparse features is taken for.
    network = make_feature_network(16_000, n_distractors=0, random_state=1)
    found = []
    for coef, X, y in zip(
        network.coefs, network.features[:-1], network.features[1:], strict=True
    ):
        connector = FeatureConnector(n_nonzero_coefs=coef.nnz).fit(X, y)
        recovery = edge_recovery(coef, connector.coef_)
        assert recovery.f1 > 0.98
        assert recovery.signs == 1
        found.append(connector.coef_)
    assert path_recovery(network.coefs, found) > 0.98


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("n_samples", 0, "an int in the range [1, inf)"),
        ("n_layers", 1, "an int in the range [2, inf)"),
        ("n_circuits", 0, "an int in the range [1, inf)"),
        ("width", 5, "an int in the range [6, 14]"),
        ("together", 0.2, "a float in the range [0.3, 0.5]"),
        ("n_active", 0, "a float in the range (0.0, 48.0]"),
        ("n_active", 50, "a float in the range (0.0, 48.0]"),
        ("n_distractors", -1, "an int in the range [0, inf)"),
        ("noise", -0.1, "a float in the range [0.0, inf)"),
        (
            *("n_hidden", [9, 9]),
            "an int of at least 1, or 3 of them, one for each layer",
        ),
        ("n_hidden", 0, "an int of at least 1, or 3 of them, one for each layer"),
        *(
            ("magnitudes", value, MAGNITUDES)
            for value in [(0.5, 1.0), (1.0, 0.9), (0.8,), "ab", 1.0, (-1.0, -1.0)]
        ),
    ],
)
def test_bad_parameters_are_named(name, value, allowed):
    sentence = f"{name} must be {allowed}. Got {value!r} instead."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        make_feature_network(**{name: value})
