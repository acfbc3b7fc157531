"""The kinds of step that are no nonlinearity: layers, norms, choices of columns."""

from __future__ import annotations

import numpy as np

from skfeat.chain._kinds._kind import (
    ANY,
    CURVED,
    ITS_WEIGHTS_ARE_READ,
    Arrays,
    Settings,
    StepKind,
    width_of_weight,
)
from skfeat.chain._kinds._onnx_graph import OnnxGraph

_COLUMNS_ARE_READ = (
    "it is read from an index, chunk or split, by code of skfeat.adapters"
)


def _layer_norm(x, arrays, settings):
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    scaled = centred / (variance + settings["eps"]) ** 0.5
    return scaled * arrays["weight"] + arrays["bias"]


def _rms_norm(x, arrays, settings):
    square = (x * x).mean(axis=-1, keepdims=True)
    return x / (square + settings["eps"]) ** 0.5 * arrays["weight"]


def _vjp_of_affine(grad, before, after, arrays, settings):
    # OpenBLAS can call finite rows invalid, as run_numpy says.
    with np.errstate(invalid="ignore"):
        return grad @ arrays["coef"], grad @ arrays["intercept"]


def _vjp_of_slice(grad, before, after, arrays, settings):
    padded = np.zeros((len(grad), before.shape[1]), grad.dtype)
    padded[:, settings["start"] : settings["stop"]] = grad
    return padded, 0.0


def _vjp_of_mean(grad, before, after, arrays, settings):
    n_in = before.shape[1]
    return np.repeat(grad / n_in, n_in, axis=1), 0.0


def add_affine(graph: OnnxGraph, coef: np.ndarray, intercept: np.ndarray) -> None:
    """Add ``x @ coef.T + intercept`` to a graph."""
    names = graph.constant("coef", coef), graph.constant("intercept", intercept)
    graph.add("Gemm", *names, transB=1)


def _add_scale(graph: OnnxGraph, arrays: Arrays, settings: Settings) -> None:
    graph.add("Mul", graph.constant("weight", arrays["weight"]))
    graph.add("Add", graph.constant("bias", arrays["bias"]))


def _add_layer_norm(graph: OnnxGraph, arrays: Arrays, settings: Settings) -> None:
    names = [graph.constant(name, arrays[name]) for name in ("weight", "bias")]
    epsilon = float(settings["eps"])
    graph.add("LayerNormalization", *names, axis=-1, epsilon=epsilon)


def _add_rms_norm(graph: OnnxGraph, arrays: Arrays, settings: Settings) -> None:
    x = graph.last
    graph.add("Mul", x)
    _add_mean(graph, arrays, settings)
    graph.add("Add", graph.number(settings["eps"]))
    graph.add_on("Div", x, graph.add("Sqrt"))
    graph.add("Mul", graph.constant("weight", arrays["weight"]))


def _add_mean(graph: OnnxGraph, arrays: Arrays, settings: Settings) -> None:
    graph.add("ReduceMean", graph.constant("axes", np.array([-1])), keepdims=1)


def _add_slice(graph: OnnxGraph, arrays: Arrays, settings: Settings) -> None:
    bounds = settings["start"], settings["stop"], -1
    graph.add("Slice", *(graph.constant("slice", np.array([n])) for n in bounds))


def _find_problem_of_slice(settings: Settings, label: str) -> str:
    start, stop, width = (settings[name] for name in ("start", "stop", "width"))
    ints = all(type(value) is int for value in (start, stop, width))
    if ints and 0 <= start < stop <= width:
        return ""
    return f"{label} must take some of its columns, in their order."


LAYERS = {
    "affine": StepKind(
        numpy=lambda x, a, s: x @ a["coef"].T + a["intercept"],
        vjp=_vjp_of_affine,
        onnx=lambda graph, a, s: add_affine(graph, a["coef"], a["intercept"]),
        torch_forms=ITS_WEIGHTS_ARE_READ,
        role="layer",
        is_linear=True,
        arrays=("coef", "intercept"),
        n_in=lambda a, s: a["coef"].shape[1],
        n_out=lambda n, a, s: len(a["coef"]),
        n_multiply_adds=lambda a, s: a["coef"].size,
    ),
    "scale": StepKind(
        numpy=lambda x, a, s: x * a["weight"] + a["bias"],
        vjp=lambda grad, before, after, a, s: (grad * a["weight"], grad @ a["bias"]),
        onnx=_add_scale,
        torch_forms=ITS_WEIGHTS_ARE_READ,
        role="norm",
        is_linear=True,
        arrays=("weight", "bias"),
        n_in=width_of_weight,
        n_multiply_adds=lambda a, s: len(a["weight"]),
    ),
    "layer_norm": StepKind(
        numpy=_layer_norm,
        vjp=CURVED,
        onnx=_add_layer_norm,
        torch_forms=ITS_WEIGHTS_ARE_READ,
        role="norm",
        arrays=("weight", "bias"),
        settings={"eps": 0.0},
        n_in=width_of_weight,
        n_multiply_adds=lambda a, s: len(a["weight"]),
    ),
    "rms_norm": StepKind(
        numpy=_rms_norm,
        vjp=CURVED,
        onnx=_add_rms_norm,
        torch_forms=ITS_WEIGHTS_ARE_READ,
        role="norm",
        arrays=("weight",),
        settings={"eps": 0.0},
        n_in=width_of_weight,
        n_multiply_adds=lambda a, s: len(a["weight"]),
    ),
    "slice": StepKind(
        numpy=lambda x, a, s: x[..., s["start"] : s["stop"]],
        vjp=_vjp_of_slice,
        onnx=_add_slice,
        torch_forms=_COLUMNS_ARE_READ,
        role="layer",
        is_linear=True,
        settings={"width": ANY, "start": ANY, "stop": ANY},
        find_problem=_find_problem_of_slice,
        n_in=lambda a, s: int(s["width"]),
        n_out=lambda n, a, s: int(s["stop"] - s["start"]),
    ),
    "mean": StepKind(
        numpy=lambda x, a, s: x.mean(axis=-1, keepdims=True),
        vjp=_vjp_of_mean,
        onnx=_add_mean,
        torch_forms="it is read with its dimensions, by code of skfeat.adapters",
        role="layer",
        is_linear=True,
        n_out=lambda n, a, s: 1,
    ),
}
