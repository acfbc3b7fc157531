"""Controls without features: pruned networks, and sparse ones from scratch."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skfeat.chain import Chain
from skfeat.controls import ChainNetwork, pruned_control, scratch_control
from skfeat.network import SparseFeatureNetwork
from tests.adapters.test_torch_reader import assert_untouched, snapshot
from tests.unwrapper.test_feature_unwrapper import MODEL, X, mlp, model_outputs
from tests.unwrapper.test_feature_unwrapper_blocks import MODELS

IRIS, LABELS = load_iris(return_X_y=True)
IRIS = (IRIS - IRIS.mean(axis=0)) / IRIS.std(axis=0)


@pytest.fixture(scope="module")
def classifier():
    return trained(0)


def trained(seed):
    return MLPClassifier((12, 12), solver="lbfgs", random_state=seed).fit(
        IRIS, np.array(["a", "b", "c"])[LABELS]
    )


def test_few_weights_keep_what_a_classifier_does(classifier):
    def pruned_to(n_weights, model=classifier):
        network = pruned_control(
            model, IRIS, n_nonzero_coefs=n_weights, max_iter=200, random_state=0
        )
        parts = [network.n_weights_in_, *network.n_weights_, network.n_weights_out_]
        assert sum(parts) == n_weights
        agreement = np.mean(network.predict(IRIS) == model.predict(IRIS))
        return network, parts, agreement

    network, _, agreement = pruned_to(30)
    assert isinstance(network, SparseFeatureNetwork)
    assert network.n_weights_all_ == 30
    assert network.n_components_ == [12, 12]
    # One network of so few weights may do badly, which one depends on the processor:
    # its rounding decides what is pruned.
    others = [pruned_to(30, trained(seed))[2] for seed in (1, 2)]
    assert np.median([agreement, *others]) > 0.94
    # Of 30 on some processors each map keeps ten, where they help.
    _, parts, agreement = pruned_to(45)
    assert len(set(parts)) > 1  # shared where they help, not evenly
    assert agreement > 0.94


def test_few_weights_keep_what_a_regressor_does():
    model = mlp(4, 12, 12, 1)
    rows = IRIS.astype(np.float32)
    values = model_outputs(model, rows)[:, 0]
    for control in (pruned_control, scratch_control):
        network = control(model, rows, n_nonzero_coefs=80, max_iter=200, random_state=0)
        assert network.n_weights_all_ == 80
        error = np.mean((network.predict(rows) - values) ** 2)
        assert error < 0.2 * values.var()


@pytest.mark.parametrize("control", [pruned_control, scratch_control])
def test_same_seed_same_network(control):
    # Several batches: in one, a seed only changes the order of a pruned model's rows.
    rows = np.tile(X, (20, 1))
    made = [
        control(MODEL, rows, n_nonzero_coefs=30, max_iter=20, random_state=seed)
        for seed in (3, 3, 4)
    ]
    outputs = [network.predict_raw(X) for network in made]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert not np.allclose(outputs[0], outputs[2])


def test_each_layer_has_its_own_budget():
    network = pruned_control(
        MODEL, X, n_nonzero_coefs=["frozen", 7, 9, None], max_iter=20, random_state=0
    )
    first = MODEL[0].weight.detach().numpy()
    np.testing.assert_array_equal(network.encoder_coef_, first)
    assert network.n_weights_ == [7, 9]
    assert network.n_weights_in_ is network.n_weights_out_ is None
    assert not np.allclose(network.decoder_coef_.T, MODEL[-1].weight.detach().numpy())
    assert network.n_weights_all_ == 7 * 6 + 7 + 9 + 5 * 3
    assert network.layer_names_ == ["0", "2", "4"]


def test_a_dense_layer_that_trains_helps():
    losses = {"frozen": 0.0, None: 0.0}
    for first in losses:
        # Which few weights are left is a matter of luck.
        for seed in range(3):
            network = pruned_control(
                MODEL,
                X,
                n_nonzero_coefs=[first, 24, 24, None],
                max_iter=200,
                random_state=seed,
            )
            error = network.predict_raw(X) - model_outputs(MODEL)
            losses[first] += np.square(error).mean()
    assert losses[None] < 0.8 * losses["frozen"]


def test_all_weights_kept_and_frozen_is_the_model():
    network = pruned_control(
        MODEL, X, n_nonzero_coefs=["frozen", "frozen", "frozen", None], max_iter=30
    )
    np.testing.assert_allclose(network.predict_raw(X), model_outputs(MODEL), atol=0.05)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("control", [pruned_control, scratch_control])
def test_any_model_that_can_be_unwrapped(name, control):
    make, _ = MODELS[name]
    model = make()
    before = snapshot(model)
    network = control(model, X, n_nonzero_coefs=60, max_iter=40, random_state=0)
    assert_untouched(model, before)
    assert isinstance(network, ChainNetwork)
    assert np.isfinite(network.predict_raw(X)).all()
    coefs = [
        step.arrays["coef"] for step in _walk(network.chain) if step.kind == "affine"
    ]
    assert sum(map(np.count_nonzero, coefs)) == 60
    assert network.n_multiply_adds() == network.n_weights_all_ >= 60


def test_rows_of_another_width_are_refused():
    model = mlp(7, 6, 3, activation=nn.Tanh)
    network = pruned_control(model, X, n_nonzero_coefs=20, max_iter=1)
    with pytest.raises(ValueError, match="X has 6 features, but ChainNetwork is"):
        network.predict(X[:, :6])


def _walk(chain: Chain):
    from skfeat.chain._steps import walk

    return walk(chain.steps)


def test_batch_normalisation_is_taken_into_layers():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.BatchNorm1d(7),
        nn.Linear(7, 6),
        nn.BatchNorm1d(6),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(6, 5),
        nn.ReLU(),
        nn.BatchNorm1d(5),
        nn.Linear(5, 3),
    )
    with torch.no_grad():
        for module in model:
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    network = pruned_control(
        model.eval(), X, n_nonzero_coefs=["frozen", "frozen", None], max_iter=1
    )
    assert isinstance(network, SparseFeatureNetwork)
    assert network.n_weights_all_ == 7 * 6 + 6 * 5 + 5 * 3
    hidden = network.features(X)[-1]
    expected = model[:7](torch.tensor(X)).detach().numpy()
    np.testing.assert_allclose(hidden, expected, atol=1e-5)


def test_widths_of_a_network_from_scratch():
    network = scratch_control(
        MODEL, X, n_nonzero_coefs=80, hidden_layer_sizes=(20, 30), max_iter=20
    )
    assert network.n_components_ == [20, 30]
    assert network.n_weights_all_ == 80
    assert network.n_outputs_ == 3


def test_a_network_from_scratch_knows_nothing_of_the_model_but_its_outputs():
    """The same function, written with neurons in another order, is the same target."""
    order = [3, 0, 5, 1, 4, 2]
    other = mlp(7, 6, 6, 5, 3)
    other.load_state_dict(MODEL.state_dict())
    with torch.no_grad():
        other[0].weight.copy_(MODEL[0].weight[order])
        other[0].bias.copy_(MODEL[0].bias[order])
        other[2].weight.copy_(MODEL[2].weight[:, order])
    networks = [
        scratch_control(model, X, n_nonzero_coefs=30, max_iter=5, random_state=0)
        for model in (MODEL, other)
    ]
    first, second = (network.predict_raw(X) for network in networks)
    np.testing.assert_allclose(first, second, atol=1e-3)


@pytest.mark.parametrize("exponent", [-20, 20])
@pytest.mark.parametrize("control", [pruned_control, scratch_control])
def test_units_of_inputs_do_not_matter(control, exponent):
    """Powers of two round nothing."""
    scale = 2.0**exponent
    scales = np.array([scale] * 3 + [1.0] * 4, np.float32)
    other = mlp(7, 6, 6, 5, 3)
    other.load_state_dict(MODEL.state_dict())
    with torch.no_grad():
        other[0].weight /= torch.tensor(scales)
    params = {"n_nonzero_coefs": 30, "max_iter": 30, "random_state": 0}
    first = control(MODEL, X, **params).predict_raw(X)
    second = control(other, X * scales, **params).predict_raw(X * scales)
    np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-4)


def test_inputs_far_from_zero(classifier):
    far = make_pipeline(StandardScaler(), classifier)
    far[0].fit(IRIS)
    moved = MLPClassifier((12, 12), solver="lbfgs", random_state=0)
    moved.__dict__.update(classifier.__dict__)
    offset = 1e7
    moved.coefs_ = [coef.copy() for coef in classifier.coefs_]
    moved.intercepts_ = [part.copy() for part in classifier.intercepts_]
    moved.intercepts_[0] -= offset * moved.coefs_[0].sum(axis=0)
    network = pruned_control(
        moved, IRIS + offset, n_nonzero_coefs=30, max_iter=300, random_state=0
    )
    agreement = np.mean(network.predict(IRIS + offset) == classifier.predict(IRIS))
    assert agreement > 0.94


def test_steps_of_a_pipeline_come_before(classifier):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(IRIS * 3 + 5, columns=list("abcd"))
    pipe = make_pipeline(StandardScaler(), FrozenEstimator(classifier)).fit(
        frame, classifier.classes_[LABELS]
    )
    network = pruned_control(
        pipe, frame, n_nonzero_coefs=[None, 20, None], max_iter=80, random_state=0
    )
    assert list(network.feature_names_in_) == list("abcd")
    assert set(network.classes_) == {"a", "b", "c"}
    rows = pipe[0].transform(frame)
    assert np.mean(network.predict(np.asarray(rows)) == pipe.predict(frame)) > 0.9


def test_one_hidden_layer():
    model = mlp(7, 6, 3)
    network = pruned_control(model, X, n_nonzero_coefs=[9, 8], max_iter=5)
    assert (network.n_weights_in_, network.n_weights_out_) == (9, 8)


def test_values_of_a_model_with_several_outputs():
    network = pruned_control(
        MODEL, X, n_nonzero_coefs=60, task="regression", max_iter=150, random_state=0
    )
    assert not hasattr(network, "classes_")
    outputs = model_outputs(MODEL)
    error = np.square(network.predict(X) - outputs).sum()
    assert error < 0.1 * np.square(outputs - outputs.mean(axis=0)).sum()


def test_random_states_stay_as_they_were():
    torch.manual_seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    scratch_control(MODEL, X, n_nonzero_coefs=30, max_iter=2, random_state=0)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_nonzero_coefs": -1}, "n_nonzero_coefs must be an int of at least 0"),
        ({"n_nonzero_coefs": [1, 2]}, "a list of 4 entries"),
        ({"n_nonzero_coefs": [1, 2, 3, "all"]}, "None or 'frozen'"),
        ({"n_nonzero_coefs": ["frozen"] * 4}, "freezes not all"),
        ({"max_iter": 0}, "max_iter must be 'auto' or an int of at least 1"),
        ({"task": "both"}, "task must be one of"),
    ],
)
def test_bad_parameters_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        pruned_control(MODEL, X, **{"n_nonzero_coefs": 9} | params)


def test_what_a_network_from_scratch_refuses():
    with pytest.raises(ValueError, match=r"of ints of at least 0, None\. Got"):
        scratch_control(MODEL, X, n_nonzero_coefs=["frozen", 1, 2, 3])
    with pytest.raises(ValueError, match="hidden_layer_sizes must be an int"):
        scratch_control(MODEL, X, n_nonzero_coefs=9, hidden_layer_sizes=(0,))
