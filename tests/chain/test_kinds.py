"""The table of step kinds is whole, and an entry in it is all that a kind needs."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn
from torch.nn import functional as F

import skfeat
from skfeat.adapters import read_chain
from skfeat.chain import ACTIVATIONS, Chain
from skfeat.chain._kinds import KINDS
from skfeat.network import SparseFeatureNetwork

SOURCE = Path(skfeat.__file__).parent
X = np.random.RandomState(0).randn(40, 5)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_all_its_parts_or_says_why_not(name):
    kind = KINDS[name]
    for part in (kind.vjp, kind.torch_forms):
        assert callable(part) or len(part) > 0
    assert callable(kind.numpy)
    assert callable(kind.onnx)
    if kind.role == "activation":
        assert name in ACTIVATIONS


def test_no_other_table_lists_the_kinds():
    """A dict or set of three activations outside of the table would be another.

    Those with weights are read by code, which names them, and one line names the
    three that make probabilities.
    """
    names, found = {n for n in ACTIVATIONS if KINDS[n].torch_forms and n != "prelu"}, []
    for path in sorted(SOURCE.rglob("*.py")):
        if path.is_relative_to(SOURCE / "chain" / "_kinds"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            keys = getattr(node, "keys", None) or getattr(node, "elts", None) or []
            if isinstance(node, ast.Dict | ast.Set):
                texts = [key.value for key in keys if isinstance(key, ast.Constant)]
                if len(names.intersection(t for t in texts if isinstance(t, str))) > 2:
                    found.append(f"{path.relative_to(SOURCE)}:{node.lineno}")
    assert [place for place in found if "_read.py" not in place] == []


class Functional(nn.Module):
    """A layer, and a function after it."""

    def __init__(self, function):
        super().__init__()
        self.layer, self.out = nn.Linear(5, 4), nn.Linear(4, 2)
        self.function = function

    def forward(self, x):
        return self.out(self.function(self.layer(x)))


ADDED = {
    "threshold": [nn.Threshold(0.1, -2.0), lambda x: F.threshold(x, 0.1, -2.0)],
    "abs": [torch.abs, lambda x: x.abs(), lambda x: abs(x)],
    "hardswish": [nn.Hardswish(), F.hardswish],
    "heaviside": [
        lambda x: torch.heaviside(x, torch.tensor(0.0, dtype=torch.float64)),
        lambda x: (x > 0.3).double(),
        lambda x: x.ge(-0.2).to(x.dtype),
    ],
    "cos": [torch.cos],
    "atan": [torch.atan, torch.arctan, lambda x: x.arctan(), torch.atan_],
    "erf": [torch.erf, torch.special.erf],
    "expm1": [torch.expm1, torch.special.expm1],
}


@pytest.mark.parametrize(
    ("kind", "function"),
    [(kind, function) for kind, spelt in ADDED.items() for function in spelt],
)
def test_an_entry_is_read_run_and_exported(kind, function, tmp_path):
    torch.manual_seed(0)
    model = Functional(function).double().eval()
    chain = read_chain(model)
    assert [step.kind for step in chain.steps] == ["affine", kind, "affine"]
    expected = model(torch.tensor(X)).detach().numpy()
    assert_allclose(chain.forward(X), expected, atol=1e-12)
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    network = network_before(chain)
    network.to_onnx(tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    rows = np.abs(X).astype(np.float32)
    (found,) = session.run(None, {"X": rows})
    assert_allclose(found, network.predict_raw(rows), atol=1e-5)


def network_before(back):
    """Make a network whose last part is a chain, from features that copy the inputs."""
    from skfeat.activations import ReLU

    eye = np.eye(5)
    return SparseFeatureNetwork(
        front=Chain.from_steps([], 5),
        encoder_coef=eye,
        encoder_intercept=np.zeros(5),
        encoder_bias=np.zeros(5),
        activation=ReLU(),
        coefs=[],
        intercepts=[],
        links=[],
        decoder_coef=eye,
        decoder_intercept=np.zeros(5),
        back=back,
        layer_names=["inputs"],
    )


@pytest.mark.parametrize("kind", ["threshold", "abs", "heaviside"])
def test_what_is_piecewise_linear_is_attributed_exactly(kind):
    torch.manual_seed(0)
    chain = read_chain(Functional(ADDED[kind][0]).double().eval())
    network = network_before(chain)
    rows = np.abs(X[:6])
    found = network.attribute(rows, 1)
    assert_allclose(found.total(), network.predict_raw(rows)[:, 1], atol=1e-12)
