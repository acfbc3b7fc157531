"""Networks in ONNX, run by onnxruntime."""

import builtins
import sys

import numpy as np
import pytest
from scipy import sparse
from test_network import ENDS, parameters, rows

from skfeat.activations import JumpReLU, ReLU, TopK
from skfeat._chain_steps import _SETTINGS
from skfeat.chain import ACTIVATIONS, Chain, Step
from skfeat.network import SparseFeatureNetwork


def run(network, path, X):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    network.to_onnx(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(["outputs"], {"X": X.astype("f4")})
    return found


def check(network, path, n_rows=(7, 1)):
    for n in n_rows:
        X = rows(network, n, "f4")
        found = run(network, path, X)
        assert found.dtype == np.float32
        expected = network.predict_raw(X)
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("n_layers", [1, 3])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("activation", ["relu", "topk", "all of topk", "jumprelu"])
def test_activations(activation, dtype, n_layers, ends, tmp_path):
    p = parameters(8, n_layers, None, dtype, sparse_ends=ends)
    m = p["encoder_coef"].shape[0]
    p["activation"] = {
        "relu": ReLU(),
        "topk": TopK(2),
        "all of topk": TopK(m),
        "jumprelu": JumpReLU(np.linspace(0, 1, m)),
    }[activation]
    network = SparseFeatureNetwork(**p)
    assert m > 2
    check(network, tmp_path / "net.onnx")
    check(network.compact(), tmp_path / "compact.onnx", [3])


def step(kind, rng, n):
    arrays = {"weight": rng.normal(size=n), "bias": rng.normal(size=n)}
    if kind == "affine":
        arrays = {"coef": rng.normal(size=(n, n)), "intercept": rng.normal(size=n)}
    elif kind in ACTIVATIONS:
        arrays = {}
    settings = dict.fromkeys(_SETTINGS.get(kind, ()), 0.3)
    return Step(kind, "", arrays, settings)


@pytest.mark.parametrize(
    "kind", [*sorted(ACTIVATIONS), "affine", "scale", "layer_norm"]
)
def test_steps(kind, tmp_path):
    rng, n = np.random.default_rng(0), 5
    chain = Chain.from_steps([step(kind, rng, n)], n)
    network = SparseFeatureNetwork(
        front=chain,
        encoder_coef=np.eye(n),
        encoder_intercept=np.zeros(n),
        encoder_bias=np.full(n, -5.0),
        activation=ReLU(),
        coefs=[sparse.eye_array(n)],
        intercepts=[np.zeros(n)],
        links=["identity"],
        decoder_coef=np.eye(n),
        decoder_intercept=np.full(n, -5.0),
        back=chain,
        layer_names=["a", "b"],
    )
    check(network, str(tmp_path / "net.onnx"))


def test_file(tmp_path):
    onnx = pytest.importorskip("onnx")
    network = SparseFeatureNetwork(**parameters(8))
    network.to_onnx(tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert model.producer_name == "skfeat"
    (source,), (result,) = model.graph.input, model.graph.output
    shape = source.type.tensor_type.shape.dim
    assert (shape[0].dim_param, shape[1].dim_value) == ("n", network.n_features_in_)
    assert (source.name, result.name) == ("X", "outputs")


def test_without_onnx(monkeypatch, tmp_path):
    real = builtins.__import__

    def fake(name, *args):
        if name.partition(".")[0] == "onnx":
            raise ModuleNotFoundError("No module named 'onnx'")
        return real(name, *args)

    monkeypatch.delitem(sys.modules, "onnx", raising=False)
    monkeypatch.setattr(builtins, "__import__", fake)
    with pytest.raises(ImportError, match=r"pip install skfeat\[onnx\]"):
        SparseFeatureNetwork(**parameters()).to_onnx(tmp_path / "net.onnx")
