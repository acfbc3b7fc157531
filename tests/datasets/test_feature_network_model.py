import numpy as np
import pytest
import torch

from skfeat import FeatureUnwrapper, SparseAutoencoder
from skfeat.datasets import make_feature_network, make_feature_network_model
from skfeat.metrics import match_components

EXACT = {"n_circuits": 2, "n_hidden": 30, "n_active": 1.5, "random_state": 0}
FULL = {**EXACT, "n_hidden": 16, "n_active": 0.8}


def layers_of(model, features):
    """What the layers to unwrap compute, and the outputs."""
    rows = torch.from_numpy(features.toarray().astype(np.float32))
    found = {}
    with torch.no_grad():
        for name, layer in model.module.named_children():
            found[name] = rows = layer(rows)
    return [found[name].numpy() for name in model.layers], rows.numpy()


def test_the_model_is_exact_where_there_is_room():
    network = make_feature_network(800, **EXACT)
    model = make_feature_network_model(network, max_iter=0)
    assert all(1 - model.r2 < 1e-8)
    layers, outputs = layers_of(model, network.features[0])
    for rows, features, dictionary, kinds in zip(
        layers, network.features, network.dictionaries, network.kinds, strict=True
    ):
        known = kinds != "distractor"
        expected = features.toarray()[:, known] @ dictionary[known]
        centred = expected - expected.mean(axis=0)
        np.testing.assert_allclose(rows - rows.mean(axis=0), centred, atol=1e-3)
        assert rows.min() >= 0  # the offsets leave nothing to the ReLU
    last = network.features[-1].toarray()[:, network.kinds[-1] != "distractor"]
    np.testing.assert_allclose(outputs, last, atol=1e-3)


def test_training_helps_in_superposition():
    network = make_feature_network(800, **FULL)
    before = make_feature_network_model(network, max_iter=0, random_state=0)
    after = make_feature_network_model(network, max_iter=300, random_state=0)
    assert after.r2[0] > 1 - 1e-8
    assert (after.r2[1:] > before.r2[1:] + 0.03).all()
    layers, _ = layers_of(after, network.features[0])
    known = network.kinds[1] != "distractor"
    expected = network.features[1].toarray()[:, known] @ network.dictionaries[1][known]
    centred = expected - expected.mean(axis=0)
    error = layers[1] - layers[1].mean(axis=0) - centred
    # The R2 returned counts the error of the mean too.
    assert 1 - (error**2).sum() / (centred**2).sum() == pytest.approx(
        after.r2[1], abs=0.01
    )


def test_models_are_repeatable_and_leave_global_states_alone():
    network = make_feature_network(300, **FULL)
    state, dtype = torch.get_rng_state(), torch.get_default_dtype()
    features = network.features[0].toarray()
    with torch.no_grad():
        first, again = (
            make_feature_network_model(network, max_iter=20, random_state=1)
            for _ in "ab"
        )
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_default_dtype() == dtype
    assert not first.module.training
    for ours, theirs in zip(
        first.module.parameters(), again.module.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)
    np.testing.assert_array_equal(network.features[0].toarray(), features)


def test_the_model_can_be_unwrapped():
    network = make_feature_network(1000, **EXACT)
    model = make_feature_network_model(network, max_iter=0)
    X = network.features[0].toarray().astype(np.float32)
    autoencoder = SparseAutoencoder(24, activation="batch_topk", k=2, max_iter=400)
    unwrapper = FeatureUnwrapper(
        model.module,
        layers=model.layers[:1],
        autoencoder=autoencoder,
        task="regression",
        random_state=0,
    ).fit(X)
    assert unwrapper.layer_names_ == ["0"]
    _, cosines = match_components(
        network.dictionaries[0], unwrapper.autoencoders_[0].components_
    )
    assert cosines.mean() > 0.8


def test_bad_parameters_are_named():
    network = make_feature_network(50, **EXACT)
    with pytest.raises(ValueError, match="max_iter must be an int in the range"):
        make_feature_network_model(network, max_iter=-1)
