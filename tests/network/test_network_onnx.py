"""Networks in ONNX, run by onnxruntime."""

import builtins
import sys
from functools import partial

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import sparse

from skfeat.activations import JumpReLU, ReLU, TopK
from skfeat.chain import ACTIVATIONS, JOINS, Chain, Step
from skfeat.chain._kinds import KINDS as PLAIN
from skfeat.chain._kinds import MAPS
from skfeat.network import SparseFeatureNetwork
from tests.chain.test_chain import activation, join, step_of
from tests.chain.test_chain_joins import random_steps
from tests.network.test_network import ENDS, parameters, rows

# Those of maps have settings of their own, see test_map_kinds and test_map_network.
KINDS = (JOINS | PLAIN.keys()) - MAPS.keys()
RNG = np.random.default_rng(0)


def run(network, path, X):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    network.to_onnx(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(["outputs"], {"X": X.astype("f4")})
    return found


def check(network, path, X):
    X = X.astype("f4")
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
    for n in (7, 1):
        check(network, tmp_path / "net.onnx", rows(network, n))
    check(network.compact(), tmp_path / "compact.onnx", rows(network, 3))


def between_chains(front, back=None):
    """Make a network that computes back(front(x)), whatever their signs."""
    n = front.n_outputs
    both = np.vstack([np.eye(n), -np.eye(n)])
    return SparseFeatureNetwork(
        front=front,
        encoder_coef=both,
        encoder_intercept=np.zeros(2 * n),
        encoder_bias=np.zeros(n),
        activation=ReLU(),
        coefs=[sparse.eye_array(2 * n)],
        intercepts=[np.zeros(2 * n)],
        links=["relu"],
        decoder_coef=both,
        decoder_intercept=np.zeros(n),
        back=back or Chain.from_steps([], n),
        layer_names=["a", "b"],
    )


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_steps(kind, tmp_path):
    chain, nothing = Chain.from_steps([step_of(kind)], 5), Chain.from_steps([], 5)
    X = np.concatenate([RNG.normal(size=(50, 5)) * 3, np.zeros((1, 5))])
    if kind in ("sqrt", "reciprocal", "log", "log1p"):
        X = np.abs(X) + 0.1
    check(between_chains(chain), tmp_path / "front.onnx", X)
    check(between_chains(nothing, chain), tmp_path / "back.onnx", X)


@pytest.mark.parametrize(
    "step",
    [
        Step("hardtanh", "", {}, {"min_val": 2.0, "max_val": 1.0}),
        Step("elu", "", {}, {"alpha": -2}),
        Step("celu", "", {}, {"alpha": -2.0}),
        Step("hardshrink", "", {}, {"lambd": 0}),
        join("add", [activation("mean")], [], [activation("tanh")]),
        join("multiply", [activation("mean")], []),
        join("multiply", [], []),
        *(join(kind, [activation("tanh")]) for kind in JOINS),
        *(join(kind, []) for kind in JOINS),
    ],
)
def test_corners(step, tmp_path):
    network = between_chains(Chain.from_steps([step], 5))
    check(network, tmp_path / "net.onnx", RNG.normal(size=(20, 5)) * 3)


@pytest.mark.parametrize(
    "step",
    [
        Step("softplus", "", {}, {"beta": 0.5, "threshold": 1e300}),
        Step("hardtanh", "", {}, {"min_val": -1e300, "max_val": 1}),
    ],
)
def test_bounds_beyond_float32(step, tmp_path):
    network = between_chains(Chain.from_steps([step], 5))
    X = RNG.normal(size=(20, 5)) * 3
    found = run(network, tmp_path / "net.onnx", X)
    np.testing.assert_allclose(found, network.predict_raw(X), atol=1e-5)


NOT_EVERYWHERE = {"exp", "expm1", "log", "log1p", "sqrt", "reciprocal"}
ANY_STEPS = partial(random_steps, acts=sorted(ACTIVATIONS - NOT_EVERYWHERE))


@settings(max_examples=200, deadline=None)
@given(
    ANY_STEPS(4).flatmap(lambda drawn: st.tuples(st.just(drawn), ANY_STEPS(drawn[1])))
)
def test_any_steps(tmp_path_factory, drawn):
    (front, width), (back, _) = drawn
    network = between_chains(Chain.from_steps(front, 4), Chain.from_steps(back, width))
    X = rows(network, 9, "f4")
    exact = network.predict_raw(X.astype("f8"))
    scale = max(1.0, np.abs(exact).max())
    # Norms of almost nothing and sines of much are lost in float32, here and there.
    assume(np.abs(network.predict_raw(X) - exact).max() < 1e-6 * scale)
    found = run(network, tmp_path_factory.mktemp("any") / "net.onnx", X)
    assert found.shape == exact.shape
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-5 * scale)


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
