"""FeatureUnwrapper round residual, normalised, gated, many-headed, compiled models."""

import numpy as np
import pytest
import torch
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.metrics import r2_score
from torch import nn

from skfeat import FeatureConnector, SparseAutoencoder
from skfeat.adapters import model_outputs
from skfeat.network import SparseFeatureNetwork
from tests.adapters.test_torch_blocks import Heads, Joined, Residual, mlp
from tests.adapters.test_torch_reader import assert_untouched, snapshot
from tests.unwrapper.test_feature_unwrapper import (
    X,
    unwrapper,
)

pytestmark = [
    pytest.mark.usefixtures("few_updates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*features are dead:UserWarning"),
]

# Enough features, all active, and unpenalised connectors: little is left out.
EXACT = {
    "autoencoder": SparseAutoencoder(40, k=40, max_iter=400, tol=0.0),
    "connector": FeatureConnector(alpha=0.0, max_iter=100),
    "n_nonzero_coefs": None,
    "distill": False,
}


def residual(n_outputs=3):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(7, 6),
        Residual(mlp(6, 9, 6), 6, 6, nn.LayerNorm),
        Residual(mlp(6, 9, 5), 6, 5, nn.LayerNorm, post=True),
        nn.Linear(5, n_outputs),
    )


def normalised():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(7, 6),
        nn.LayerNorm(6),
        nn.GELU(),
        nn.Linear(6, 5),
        nn.RMSNorm(5),
        nn.GELU("tanh"),
        nn.Linear(5, 3),
    )


def gated():
    torch.manual_seed(0)
    gate = Joined(
        nn.Sequential(nn.Linear(7, 8), nn.SiLU()), nn.Linear(7, 8), "multiply"
    )
    return nn.Sequential(gate, nn.Linear(8, 5), nn.Hardswish(), nn.Linear(5, 3))


def two_headed(heads=None):
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU())
    return Heads("dict", heads, trunk)


MODELS = {
    "residual": (residual, ["1", "2"]),
    "normalised": (normalised, ["0", "3"]),
    "gated": (gated, ["0", "1"]),
    "two-headed": (two_headed, ["trunk.0", "trunk.2"]),
    "compiled": (lambda: torch.compile(residual(), backend="eager"), ["1", "2"]),
    "parallel": (lambda: nn.DataParallel(residual()), ["1", "2"]),
}


@pytest.mark.parametrize("name", MODELS)
def test_fit(name, tmp_path):
    make, layers = MODELS[name]
    model = make()
    before = snapshot(model)
    est = unwrapper(model).fit(X)
    assert est.layer_names_ == layers
    assert est.predict(X).shape == ((60, 3) if name == "two-headed" else (60,))
    assert est.transform(X, layer=layers[0]).shape == (60, 8)
    assert type(est.score(X)) is float
    report = est.report(X)
    assert report.layer == [*layers, "network"]
    assert report["score_model"][-1] == pytest.approx(1.0)
    assert_untouched(model, before)

    network = est.network()
    raw = network.predict_raw(X)
    network.save(tmp_path / "network")
    loaded = SparseFeatureNetwork.load(tmp_path / "network")
    np.testing.assert_array_equal(loaded.predict_raw(X), raw)
    with torch.no_grad():
        as_module = network.to_torch()(torch.tensor(X)).numpy()
    np.testing.assert_allclose(as_module, raw, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        network.compact().predict_raw(X), raw, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(clone(est).fit(X).predict(X), est.predict(X))


@pytest.mark.parametrize("name", ["residual", "two-headed"])
def test_a_network_of_all_features_is_the_model(name):
    model = MODELS[name][0]()
    est = unwrapper(model, task="regression", **EXACT).fit(X)
    assert r2_score(model_outputs(model, X), est.predict(X)) > 0.9


def test_a_network_agrees_with_a_plain_loop_over_its_parts():
    model = residual()
    est = unwrapper(model).fit(X)
    with torch.no_grad():
        stream = model[1](model[0](torch.tensor(X))).numpy()
    first = est.autoencoders_[0].transform(stream)
    second = est.connectors_[0].predict(first)
    back = est.autoencoders_[1].inverse_transform(second)
    logits = model[3](torch.tensor(back)).detach().numpy()
    np.testing.assert_allclose(est.transform(X, 0), first, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(est.transform(X, 1), second, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(est.decision_function(X), logits, rtol=1e-4, atol=1e-4)


def test_the_multiply_adds_of_the_model_count_its_branches():
    weights = 7 * 6 + 6 + 2 * 6 * 9 + 6 * 9 + 9 * 5 + 6 * 5 + 5 + 5 * 3
    assert unwrapper(residual()).fit(X).report(X)["multiply_adds_model"][-1] == weights


@pytest.mark.parametrize("names", [["1"], ["2", "1"], ["2"]])
def test_streams_by_name(names):
    no_connector = {"connector": None, "n_nonzero_coefs": None}
    params = no_connector if len(names) == 1 else {}
    est = unwrapper(residual(), layers=names, **params).fit(X)
    assert est.layer_names_ == sorted(names)


@pytest.mark.parametrize("name", ["1.body.0", "1.body.1", "1.norm", "2.skip"])
def test_a_layer_inside_a_block_is_refused(name):
    with pytest.raises(
        ValueError,
        match=rf"of the model: \['1', '2'\]\. .*'{name}' lies inside a block: a layer "
        "can be unwrapped only if everything after it depends on the input through it",
    ):
        unwrapper(residual(), layers=[name]).fit(X)


def test_no_product_across_a_block():
    connector = FeatureConnector(init="product", solver="minibatch", max_iter=5)
    with pytest.raises(ValueError, match="init='product' needs a single linear layer"):
        unwrapper(residual(), connector=connector).fit(X)


def test_heads_are_regressed_side_by_side():
    model = two_headed()
    est = unwrapper(model)
    assert is_regressor(est)
    y = model_outputs(model, X)
    est.fit(X, y)
    assert est.heads_ == {"mean": slice(0, 2), "scale": slice(2, 3)}
    assert est.score(X, y) == pytest.approx(est.score(X))
    assert not hasattr(est, "predict_proba")
    assert not hasattr(est.set_params(model=residual()).fit(X), "heads_")


def test_heads_that_classify_are_refused():
    heads = nn.ModuleList(
        [nn.Sequential(nn.Linear(6, n), nn.Softmax(dim=1)) for n in (3, 2)]
    )
    model = two_headed(heads)
    assert is_classifier(unwrapper(model))
    match = r"model has 2 heads \('mean', 'scale'\).*set task='regression'"
    for est in (unwrapper(model), unwrapper(two_headed(), task="classification")):
        with pytest.raises(ValueError, match=match):
            est.fit(X)
    values = unwrapper(model, task="regression").fit(X).predict(X)
    np.testing.assert_allclose(values[:, :3].sum(axis=1), 1, rtol=1e-5)


def test_one_output_of_a_residual_model_is_regressed():
    est = unwrapper(residual(1)).fit(X)
    assert is_regressor(est)
    assert est.predict(X).shape == (60,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(dtype):
    est = unwrapper(residual().to(dtype)).fit(X)
    expected = np.float64 if dtype == torch.float64 else np.float32
    assert est.decision_function(X).dtype == expected


def test_a_failing_fit_leaves_a_block_alone():
    model = nn.Sequential(residual(7), nn.Conv1d(1, 1, 1))
    model.train()
    before = snapshot(model)
    with pytest.raises(TypeError, match=r"layer '1' \(Conv1d\) of rows"):
        unwrapper(model).fit(X)
    assert_untouched(model, before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_on_a_gpu_stays_there():
    model = residual().cuda()
    est = unwrapper(model).fit(X)
    assert isinstance(est.predict(X), np.ndarray)
    assert all(p.is_cuda for p in model.parameters())
    assert 0 <= est.score(X) <= 1
