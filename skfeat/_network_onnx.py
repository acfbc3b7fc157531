"""A SparseFeatureNetwork as an ONNX file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

import skfeat
from skfeat.activations import Activation, JumpReLU, TopK
from skfeat.chain import Chain, Step

if TYPE_CHECKING:
    from skfeat.network import SparseFeatureNetwork

# The first operator set with Gelu, and the file version that came with it: what is
# newer than it has to be, older runtimes refuse.
_OPSET, _IR_VERSION = 20, 9

# Kinds of step that are one operator: its name, and what it is told.
_OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "identity": ("Identity", {}),
    "relu": ("Relu", {}),
    "gelu": ("Gelu", {}),
    "gelu_tanh": ("Gelu", {"approximate": "tanh"}),
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
    "exp": ("Exp", {}),
    "softmax": ("Softmax", {"axis": -1}),
    "log_softmax": ("LogSoftmax", {"axis": -1}),
}


def write(network: SparseFeatureNetwork, path: str | os.PathLike[str]) -> None:
    """Write the file that :meth:`SparseFeatureNetwork.to_onnx` describes."""
    try:
        import onnx
    except ImportError:
        raise ImportError(
            "to_onnx needs onnx; install it by pip install skfeat[onnx]."
        ) from None

    graph = _Graph("X")
    _add_chain(graph, network.front)
    if network.encoder_bias_.any():
        graph.add("Sub", graph.constant("encoder_bias", network.encoder_bias_))
    _add_affine(graph, network.encoder_coef_, network.encoder_intercept_)
    _add_activation(graph, network.activation, network.n_components_[0])
    connectors = zip(network.coefs_, network.intercepts_, network.links, strict=True)
    for coef, intercept, link in connectors:
        _add_affine(graph, coef, intercept)
        if link == "relu":
            graph.add("Relu")
    _add_affine(graph, network.decoder_coef_.T, network.decoder_intercept_)
    _add_chain(graph, network.back)
    graph.add("Identity", output="outputs")

    def rows(name: str, width: int) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(
            name, onnx.TensorProto.FLOAT, ["n", width]
        )

    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node(*args, **kwargs) for args, kwargs in graph.nodes],
            "SparseFeatureNetwork",
            [rows("X", network.n_features_in_)],
            [rows("outputs", network.n_outputs_)],
            [
                onnx.numpy_helper.from_array(array, name)
                for name, array in graph.constants.items()
            ],
        ),
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="skfeat",
        producer_version=skfeat.__version__,
    )
    onnx.save_model(model, os.fspath(path), format="protobuf")


class _Graph:
    """Operators, each of which takes the result of the one before."""

    def __init__(self, source: str):
        self.last = source
        self.nodes: list[tuple[tuple, dict[str, Any]]] = []
        self.constants: dict[str, np.ndarray] = {}

    def constant(self, name: str, array: np.ndarray) -> str:
        """Store an array, floats in float32; return the name it got."""
        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        name = f"{name}_{len(self.constants)}"
        self.constants[name] = np.ascontiguousarray(array)
        return name

    def add(
        self, kind: str, *others: str, output: str = "", n_outputs: int = 1, **settings
    ) -> str:
        """Add an operator on the last result and others; return its result's name."""
        return self.add_on(
            kind, self.last, *others, output=output, n_outputs=n_outputs, **settings
        )

    def add_on(
        self, kind: str, *inputs: str, output: str = "", n_outputs: int = 1, **settings
    ) -> str:
        """Add an operator; a second output has the name of the first and ``_1``."""
        self.last = output or f"{kind}_{len(self.nodes)}"
        outputs = [self.last, *(f"{self.last}_{i}" for i in range(1, n_outputs))]
        self.nodes.append(((kind, list(inputs), outputs), settings))
        return self.last


def _add_affine(graph: _Graph, coef: Any, intercept: np.ndarray) -> None:
    """Add ``x @ coef.T + intercept``."""
    coef = coef.toarray() if sparse.issparse(coef) else coef
    names = graph.constant("coef", coef), graph.constant("intercept", intercept)
    graph.add("Gemm", *names, transB=1)


def _add_activation(graph: _Graph, activation: Activation, m: int) -> None:
    pre = graph.last
    if isinstance(activation, JumpReLU):
        threshold = graph.constant("threshold", activation.threshold)
        above = graph.add("Greater", threshold)
        graph.add_on("Where", above, pre, graph.constant("zero", np.zeros(1)))
    elif isinstance(activation, TopK) and activation.k < m:
        k = graph.constant("k", np.array([activation.k], dtype=np.int64))
        largest = graph.add("TopK", k, n_outputs=2, axis=1, sorted=0)
        values = graph.add("Relu")
        graph.add_on("Shape", pre)
        zeros = graph.add("ConstantOfShape")  # of float32, if not told otherwise
        graph.add_on("ScatterElements", zeros, f"{largest}_1", values, axis=1)
    else:
        graph.add("Relu")


def _add_chain(graph: _Graph, chain: Chain) -> None:
    for step in chain.steps:
        _add_step(graph, step)


def _add_step(graph: _Graph, step: Step) -> None:
    if step.kind in _OPERATORS:
        kind, settings = _OPERATORS[step.kind]
        graph.add(kind, **settings)
    elif step.kind == "affine":
        _add_affine(graph, step.arrays["coef"], step.arrays["intercept"])
    elif step.kind in ("scale", "layer_norm"):
        weight, bias = (
            graph.constant(name, step.arrays[name]) for name in ("weight", "bias")
        )
        if step.kind == "scale":
            graph.add("Mul", weight)
            graph.add("Add", bias)
        else:
            epsilon = float(step.settings["eps"])
            graph.add("LayerNormalization", weight, bias, axis=-1, epsilon=epsilon)
    elif step.kind == "silu":
        x = graph.last
        graph.add_on("Mul", x, graph.add("Sigmoid"))
    elif step.kind == "leaky_relu":
        graph.add("LeakyRelu", alpha=float(step.settings["negative_slope"]))
    elif step.kind == "elu":
        graph.add("Elu", alpha=float(step.settings["alpha"]))
    else:
        raise NotImplementedError(f"to_onnx knows no step {step.kind!r}.")
