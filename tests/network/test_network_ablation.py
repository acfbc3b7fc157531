"""Ablated networks against a plain loop, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skfeat.network import SparseFeatureNetwork, _predict
from tests.network.test_network import parameters, rows


def reference(network, X, held):
    """Compute layer by layer, one row and one feature at a time."""
    outputs = []
    for x in X:
        F = network.features(x[None])[0][0]
        for layer in range(len(network.n_components_)):
            if layer:
                W, before = network.coefs_[layer - 1].toarray(), F
                F = network.intercepts_[layer - 1].copy()
                for j in range(len(F)):
                    for i, value in enumerate(before):
                        F[j] += W[j, i] * value
                    if network.links[layer - 1] == "relu":
                        F[j] = max(F[j], 0.0)
            for (name, j), level in held.items():
                if name == network.layer_names_[layer]:
                    F[j] = level
        hidden = F @ network.decoder_coef_ + network.decoder_intercept_
        outputs.append(network.back.forward(hidden[None])[0])
    return np.array(outputs)


def chosen_pairs(network, seed):
    rng = np.random.default_rng(seed)
    return sorted(
        {
            (
                network.layer_names_[layer],
                int(rng.integers(network.n_components_[layer])),
            )
            for layer in rng.integers(len(network.layer_names_), size=3)
        }
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_layers=st.integers(1, 4),
    k=st.none() | st.integers(1, 4),
    value=st.sampled_from(["zero", "mean", -1.5, 2]),
)
def test_agrees_with_a_plain_loop(seed, n_layers, k, value):
    network = SparseFeatureNetwork(**parameters(seed, n_layers, k))
    X, pairs = rows(network, 5), chosen_pairs(network, seed)
    means = dict(zip(network.layer_names_, network.features(X), strict=True))
    levels = {"zero": lambda *_: 0.0, "mean": lambda name, j: means[name][:, j].mean()}
    held = {pair: levels.get(value, lambda *_: value)(*pair) for pair in pairs}
    found = network.ablate(X, pairs, value=value)
    assert found.values == pytest.approx(held, abs=1e-12)
    np.testing.assert_allclose(found.outputs, reference(network, X, held), atol=1e-10)
    np.testing.assert_allclose(
        found.effects, found.outputs - network.predict_raw(X), atol=1e-12
    )


def test_ways_to_name_features():
    network = SparseFeatureNetwork(**parameters(7))
    X = rows(network)
    expected = network.ablate(X, [("fc1", 0), ("fc0", 1)]).outputs
    assert not np.allclose(expected, network.predict_raw(X))
    for features in (
        {"fc1": 0, "fc0": [1]},
        {-2: "F2_0", 0: ["F1_1"]},
        ["F2_0", "F1_1"],
        ["F2_0", (0, np.int64(1)), ("fc0", "F1_1")],
        {"fc0": np.array([1]), "fc1": ("F2_0",)},
    ):
        np.testing.assert_array_equal(network.ablate(X, features).outputs, expected)
    alone = network.ablate(X, "F2_0").outputs
    np.testing.assert_array_equal(network.ablate(X, ("fc1", 0)).outputs, alone)


def test_means_of_other_rows_and_blocks(monkeypatch):
    network = SparseFeatureNetwork(**parameters(7))
    X, other = rows(network, 9), rows(network, 30)[9:] + 1
    mean = network.features(other)[1][:, 0].mean()
    options = {"value": "mean", "reference": other}
    found = network.ablate(X, {"fc1": 0}, **options)
    assert found.values[("fc1", 0)] == pytest.approx(mean)
    monkeypatch.setattr(_predict, "_BLOCK_ROWS", 4)
    again = network.ablate(X, {"fc1": 0}, **options)
    np.testing.assert_allclose(again.outputs, found.outputs, atol=1e-13)
    np.testing.assert_allclose(again.effects, found.effects, atol=1e-13)


def test_nothing_is_changed_and_the_dtype_is_kept():
    network = SparseFeatureNetwork(**parameters(7, dtype="f4"))
    X = rows(network, dtype="f4")
    before, raw = X.copy(), network.predict_raw(X)
    found = network.ablate(X, "F1_1", value="mean")
    assert found.outputs.dtype == found.effects.dtype == np.float32
    np.testing.assert_array_equal(X, before)
    np.testing.assert_array_equal(network.predict_raw(X), raw)
    assert network.ablate(X[:0], "F1_1").outputs.shape == (0, network.n_outputs_)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"fc9": 0}, r"or one of the names \['fc0', 'fc1', 'fc2'\]. Got 'fc9' instead"),
        ({3: 0}, "the layer of features must be an int from .* Got 3 instead"),
        ({True: 0}, "the layer of features must be an int .* Got True instead"),
        ((0, True), "layer 'fc0' must be indices from 0 to .* Got True instead"),
        ({"fc0": [False]}, "layer 'fc0' must be indices .* Got False instead"),
        ({"fc0": 99}, "layer 'fc0' must be indices from 0 to .* Got 99 instead"),
        ({"fc0": -1}, "Got -1 instead"),
        ({"fc0": "F9"}, "names of a single feature, such as 'F1_0'. Got 'F9' instead"),
        ({"fc0": 1.0}, "Got 1.0 instead"),
        ("F9_9", "Got 'F9_9', which no feature has"),
        ([3], "pairs .layer, feature. or a mapping.* Got 3 among them"),
        ([], "at least one feature"),
        ({"fc0": []}, "at least one feature"),
        (7, "must be names of features"),
    ],
)
def test_features_that_are_not_there(features, message):
    network = SparseFeatureNetwork(**parameters(7))
    with pytest.raises(ValueError, match=message):
        network.ablate(rows(network), features)


def test_a_name_that_several_features_have():
    p = parameters(7)
    network = SparseFeatureNetwork(**p)
    names = [["same"] * m for m in network.n_components_]
    network = SparseFeatureNetwork(**p, feature_names=names)
    for features in ("same", {"fc0": "same"}):
        with pytest.raises(ValueError, match="a single feature"):
            network.ablate(rows(network), features)


@pytest.mark.parametrize("value", ["median", np.nan, np.inf, None, True, [0.0]])
def test_values_that_are_none(value):
    network = SparseFeatureNetwork(**parameters(7))
    with pytest.raises(ValueError, match="value must be 'zero', 'mean' or a finite"):
        network.ablate(rows(network), "F1_0", value=value)


def test_rows_are_checked():
    network = SparseFeatureNetwork(**parameters(7))
    X = rows(network)
    with pytest.raises(ValueError, match="reference has 2 features"):
        network.ablate(X, "F1_0", value="mean", reference=X[:, :2])
    with pytest.raises(ValueError, match="at least one row"):
        network.ablate(X[:0], "F1_0", value="mean")
