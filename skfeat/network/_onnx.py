"""A SparseFeatureNetwork as an ONNX file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from skfeat import _version
from skfeat.activations import Activation, JumpReLU, TopK
from skfeat.chain import JOINS, Step
from skfeat.chain._steps import SELU_ALPHA, SELU_SCALE

if TYPE_CHECKING:
    from skfeat.network._network import SparseFeatureNetwork

# The first operator set with Gelu, and the file version that came with it: what is
# newer than it has to be, older runtimes refuse.
_OPSET, _IR_VERSION = 20, 9

# Kinds of step that are one operator: its name, and what it is told.
_OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "identity": ("Identity", {}),
    "relu": ("Relu", {}),
    "selu": ("Selu", {"alpha": SELU_ALPHA, "gamma": SELU_SCALE}),
    "gelu": ("Gelu", {}),
    "gelu_tanh": ("Gelu", {"approximate": "tanh"}),
    "mish": ("Mish", {}),
    "softsign": ("Softsign", {}),
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
    "hardsigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "hardswish": ("HardSwish", {}),
    "sin": ("Sin", {}),
    "exp": ("Exp", {}),
    "sqrt": ("Sqrt", {}),
    "reciprocal": ("Reciprocal", {}),
    "softmax": ("Softmax", {"axis": -1}),
    "log_softmax": ("LogSoftmax", {"axis": -1}),
}

# Those whose operator takes its settings from the step's.
_SET_OPERATORS: dict[
    str, tuple[str, Callable[[dict[str, float]], dict[str, float]]]
] = {
    "leaky_relu": ("LeakyRelu", lambda s: {"alpha": s["negative_slope"]}),
    "elu": ("Elu", lambda s: {"alpha": s["alpha"]}),
    "celu": ("Celu", lambda s: {"alpha": s["alpha"]}),
    "softshrink": ("Shrink", lambda s: {"lambd": s["lambd"], "bias": s["lambd"]}),
    "hardshrink": ("Shrink", lambda s: {"lambd": s["lambd"], "bias": 0.0}),
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
    _add_steps(graph, network.front.steps)
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
    _add_steps(graph, network.back.steps)
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
        producer_version=_version.__version__,
    )
    onnx.save_model(model, os.fspath(path), format="protobuf")


class _Graph:
    """Operators, each of which takes the last result if not told others."""

    def __init__(self, source: str):
        self.last = source
        self.nodes: list[tuple[tuple, dict[str, Any]]] = []
        self.constants: dict[str, np.ndarray] = {}

    def constant(self, name: str, array: np.ndarray) -> str:
        """Store an array, floats in float32; return the name it got."""
        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        name = f"{name}_{len(self.constants)}"
        self.constants[name] = np.asarray(array, order="C")
        return name

    def number(self, value: float) -> str:
        """Store a number; one that float32 cannot hold becomes its largest."""
        largest = np.finfo(np.float32).max
        return self.constant(
            "number", np.array(np.clip(value, -largest, largest), float)
        )

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


def _add_steps(graph: _Graph, steps: Sequence[Step]) -> None:
    for step in steps:
        if step.kind in JOINS:
            _add_join(graph, step)
        elif step.kind in _OPERATORS:
            kind, settings = _OPERATORS[step.kind]
            graph.add(kind, **settings)
        elif step.kind in _SET_OPERATORS:
            kind, make = _SET_OPERATORS[step.kind]
            settings = {k: float(v) for k, v in make(step.settings).items()}
            graph.add(kind, **settings)
        else:
            _COMPOSED[step.kind](graph, step)


def _add_join(graph: _Graph, step: Step) -> None:
    source, results = graph.last, []
    for branch in step.branches:
        graph.last = source
        _add_steps(graph, branch)
        results.append(graph.last)
    if step.kind == "concatenate":
        graph.add_on("Concat", *results, axis=-1)
        return
    graph.last = results[0]
    for result in results[1:]:
        graph.add("Add" if step.kind == "add" else "Mul", result)


def _add_scale(graph: _Graph, step: Step) -> None:
    graph.add("Mul", graph.constant("weight", step.arrays["weight"]))
    graph.add("Add", graph.constant("bias", step.arrays["bias"]))


def _add_layer_norm(graph: _Graph, step: Step) -> None:
    names = [graph.constant(name, step.arrays[name]) for name in ("weight", "bias")]
    epsilon = float(step.settings["eps"])
    graph.add("LayerNormalization", *names, axis=-1, epsilon=epsilon)


def _add_rms_norm(graph: _Graph, step: Step) -> None:
    x = graph.last
    graph.add("Mul", x)
    _add_mean(graph)
    graph.add("Add", graph.number(step.settings["eps"]))
    graph.add_on("Div", x, graph.add("Sqrt"))
    graph.add("Mul", graph.constant("weight", step.arrays["weight"]))


def _add_mean(graph: _Graph) -> None:
    graph.add("ReduceMean", graph.constant("axes", np.array([-1])), keepdims=1)


def _add_slice(graph: _Graph, step: Step) -> None:
    bounds = step.settings["start"], step.settings["stop"], -1
    graph.add("Slice", *(graph.constant("slice", np.array([n])) for n in bounds))


def _add_hardtanh(graph: _Graph, step: Step) -> None:
    graph.add("Clip", *(graph.number(step.settings[k]) for k in ("min_val", "max_val")))


def _add_softplus(graph: _Graph, step: Step) -> None:
    x, beta = graph.last, graph.number(step.settings["beta"])
    scaled = graph.add("Mul", beta)
    graph.add("Softplus")
    curved = graph.add("Div", beta)
    above = graph.add_on("Greater", scaled, graph.number(step.settings["threshold"]))
    graph.add_on("Where", above, x, curved)


def _add_log_sigmoid(graph: _Graph, step: Step) -> None:
    for kind in ("Neg", "Softplus", "Neg"):
        graph.add(kind)


def _add_silu(graph: _Graph, step: Step) -> None:
    x = graph.last
    graph.add_on("Mul", x, graph.add("Sigmoid"))


def _add_tanhshrink(graph: _Graph, step: Step) -> None:
    x = graph.last
    graph.add_on("Sub", x, graph.add("Tanh"))


# The other kinds of step.
_COMPOSED: dict[str, Callable[[_Graph, Step], Any]] = {
    "affine": lambda graph, step: _add_affine(
        graph, step.arrays["coef"], step.arrays["intercept"]
    ),
    "scale": _add_scale,
    "layer_norm": _add_layer_norm,
    "rms_norm": _add_rms_norm,
    "mean": lambda graph, step: _add_mean(graph),
    "slice": _add_slice,
    "prelu": lambda graph, step: graph.add(
        "PRelu", graph.constant("weight", step.arrays["weight"])
    ),
    "hardtanh": _add_hardtanh,
    "softplus": _add_softplus,
    "log_sigmoid": _add_log_sigmoid,
    "silu": _add_silu,
    "tanhshrink": _add_tanhshrink,
}
