"""The kinds of step that are a nonlinearity, one entry each (the identity among them).

In every entry x are the values, a the step's arrays, s its settings, and F is
torch.nn.functional.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from skfeat.chain._kinds._functions import FUNCTIONS, special
from skfeat.chain._kinds._kind import (
    ANY,
    CURVED,
    ITS_WEIGHTS_ARE_READ,
    Arrays,
    Settings,
    StepKind,
    elementwise,
    form,
    operator,
    width_of_weight,
)
from skfeat.chain._kinds._onnx_graph import OnnxGraph

_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def _heaviside_of_sign(sign, at):
    return sign * (sign + 1) / 2 + at * (1 - sign * sign)


def _elu(x, alpha):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _softplus(x, beta=1.0, threshold=math.inf):
    return np.where(x * beta > threshold, x, np.logaddexp(0, x * beta) / beta)


def _add_softplus(graph: OnnxGraph, arrays: Arrays, settings: Settings) -> None:
    x, beta = graph.last, graph.number(settings["beta"])
    scaled = graph.add("Mul", beta)
    graph.add("Softplus")
    curved = graph.add("Div", beta)
    above = graph.add_on("Greater", scaled, graph.number(settings["threshold"]))
    graph.add_on("Where", above, x, curved)


def _add_log_sigmoid(graph: OnnxGraph, arrays: Arrays, settings: Settings) -> None:
    for name in ("Neg", "Softplus", "Neg"):
        graph.add(name)


def _add_threshold(graph: OnnxGraph, arrays: Arrays, settings: Settings) -> None:
    x = graph.last
    above = graph.add("Greater", graph.number(settings["threshold"]))
    graph.add_on("Where", above, x, graph.number(settings["value"]))


def _add_heaviside(graph: OnnxGraph, arrays: Arrays, settings: Settings) -> None:
    x, threshold = graph.last, graph.number(settings["threshold"])
    one, zero = graph.number(1.0), graph.number(0.0)
    equal = graph.add_on("Equal", x, threshold)
    at = graph.add_on("Where", equal, graph.number(settings["at"]), zero)
    above = graph.add_on("Greater", x, threshold)
    graph.add_on("Where", above, one, at)


def _with_x(name: str, inner: str) -> Callable[..., object]:
    """Make the ONNX operator `name` of x and what the operator `inner` makes of it."""

    def add(graph: OnnxGraph, arrays: Arrays, settings: Settings) -> None:
        x = graph.last
        graph.add_on(name, x, graph.add(inner))

    return add


def _is_over_columns(arguments: dict[str, Any]) -> dict[str, float] | None:
    return {} if arguments["dim"] in (None, 1, -1) else None


def _is_approximate(by_tanh: bool) -> Callable[[dict], dict[str, float] | None]:
    return lambda g: {} if (g["approximate"] == "tanh") == by_tanh else None


def _mean_slope(arguments: dict[str, Any]) -> dict[str, float] | None:
    if arguments["training"]:
        return None
    return {"negative_slope": (arguments["lower"] + arguments["upper"]) / 2}


def _lower_bound_zero(arguments: dict[str, Any]) -> dict[str, float] | None:
    return {} if (arguments["min"], arguments["max"]) == (0, None) else None


def _both_bounds(arguments: dict[str, Any]) -> dict[str, float] | None:
    low, high = arguments["min"], arguments["max"]
    are_numbers = isinstance(low, int | float) and isinstance(high, int | float)
    return {"min_val": low, "max_val": high} if are_numbers else None


ACTIVATIONS = {
    "identity": StepKind(
        numpy=lambda x, a, s: x,
        vjp=elementwise(lambda x, a, s: 1),
        onnx=operator("Identity"),
        torch_forms="adapters leave out what changes nothing",
        is_linear=True,
    ),
    "relu": StepKind(
        numpy=lambda x, a, s: np.maximum(x, 0),
        torch=lambda F, x, a, s: F.relu(x),
        vjp=elementwise(lambda x, a, s: x > 0),
        onnx=operator("Relu"),
        torch_forms=(
            form("relu", module="ReLU"),
            form("clamp", "clip", min=None, max=None, to_settings=_lower_bound_zero),
        ),
    ),
    "leaky_relu": StepKind(
        numpy=lambda x, a, s: np.where(x > 0, x, s["negative_slope"] * x),
        torch=lambda F, x, a, s: F.leaky_relu(x, s["negative_slope"]),
        vjp=elementwise(lambda x, a, s: np.where(x > 0, 1, s["negative_slope"])),
        onnx=lambda g, a, s: g.add("LeakyRelu", alpha=float(s["negative_slope"])),
        torch_forms=(
            form("leaky_relu", module="LeakyReLU", negative_slope=0.01),
            form(
                "rrelu",
                module="RReLU",
                lower=1 / 8,
                upper=1 / 3,
                training=False,
                to_settings=_mean_slope,
            ),
        ),
        settings={"negative_slope": ANY},
    ),
    "prelu": StepKind(
        numpy=lambda x, a, s: np.where(x > 0, x, a["weight"] * x),
        torch=lambda F, x, a, s: x.where(x > 0, a["weight"] * x),
        vjp=elementwise(lambda x, a, s: np.where(x > 0, 1, a["weight"])),
        onnx=lambda g, a, s: g.add("PRelu", g.constant("weight", a["weight"])),
        torch_forms=ITS_WEIGHTS_ARE_READ,
        arrays=("weight",),
        n_in=width_of_weight,
    ),
    "threshold": StepKind(
        numpy=lambda x, a, s: np.where(x > s["threshold"], x, x.dtype.type(s["value"])),
        torch=lambda F, x, a, s: F.threshold(x, s["threshold"], s["value"]),
        vjp=elementwise(lambda x, a, s: x > s["threshold"]),
        onnx=_add_threshold,
        torch_forms=(
            form(
                "threshold",
                "_threshold",  # how torch.nn.functional names its own
                module="Threshold",
                threshold=None,
                value=None,
            ),
        ),
        settings={"threshold": ANY, "value": ANY},
    ),
    "heaviside": StepKind(
        numpy=lambda x, a, s: np.heaviside(x - s["threshold"], s["at"]),
        # Not by torch.heaviside, which has no gradient, not even zero.
        torch=lambda F, x, a, s: _heaviside_of_sign(
            (x - s["threshold"]).sign(), s["at"]
        ),
        vjp=elementwise(lambda x, a, s: 0),
        onnx=_add_heaviside,
        torch_forms=(
            form(
                "heaviside",
                values=None,
                to_settings=lambda arguments: {
                    "threshold": 0.0,
                    "at": arguments["values"],
                },
            ),
        ),
        settings={"threshold": ANY, "at": ANY},
    ),
    "abs": StepKind(
        numpy=lambda x, a, s: np.abs(x),
        torch=lambda F, x, a, s: x.abs(),
        vjp=elementwise(lambda x, a, s: np.sign(x)),
        onnx=operator("Abs"),
        torch_forms=(form("abs", "absolute"),),
    ),
    "elu": StepKind(
        numpy=lambda x, a, s: _elu(x, s["alpha"]),
        torch=lambda F, x, a, s: F.elu(x, s["alpha"]),
        vjp=CURVED,
        onnx=lambda g, a, s: g.add("Elu", alpha=float(s["alpha"])),
        torch_forms=(form("elu", module="ELU", alpha=1.0),),
        settings={"alpha": ANY},
    ),
    "celu": StepKind(
        numpy=lambda x, a, s: np.where(
            x > 0, x, s["alpha"] * np.expm1(np.minimum(x, 0) / s["alpha"])
        ),
        torch=lambda F, x, a, s: F.celu(x, s["alpha"]),
        vjp=CURVED,
        onnx=lambda g, a, s: g.add("Celu", alpha=float(s["alpha"])),
        torch_forms=(form("celu", module="CELU", alpha=1.0),),
        settings={"alpha": ANY},
        find_problem=lambda s, label: (
            "" if s["alpha"] else f"alpha of {label} must not be zero."
        ),
    ),
    "selu": StepKind(
        numpy=lambda x, a, s: _SELU_SCALE * _elu(x, _SELU_ALPHA),
        torch=lambda F, x, a, s: F.selu(x),
        vjp=CURVED,
        onnx=operator("Selu", alpha=_SELU_ALPHA, gamma=_SELU_SCALE),
        torch_forms=(form("selu", module="SELU"),),
    ),
    "gelu": StepKind(
        numpy=lambda x, a, s: 0.5 * x * (1 + special().erf(x * math.sqrt(0.5))),
        torch=lambda F, x, a, s: F.gelu(x),
        vjp=CURVED,
        onnx=operator("Gelu"),
        torch_forms=(
            form(
                "gelu",
                module="GELU",
                approximate="none",
                to_settings=_is_approximate(by_tanh=False),
            ),
        ),
    ),
    "gelu_tanh": StepKind(
        numpy=lambda x, a, s: (
            0.5 * x * (1 + np.tanh(_SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)))
        ),
        torch=lambda F, x, a, s: F.gelu(x, approximate="tanh"),
        vjp=CURVED,
        onnx=operator("Gelu", approximate="tanh"),
        torch_forms=(
            form(
                "gelu",
                module="GELU",
                approximate="none",
                to_settings=_is_approximate(by_tanh=True),
            ),
        ),
    ),
    "silu": StepKind(
        numpy=lambda x, a, s: x * special().expit(x),
        torch=lambda F, x, a, s: F.silu(x),
        vjp=CURVED,
        onnx=_with_x("Mul", "Sigmoid"),
        torch_forms=(form("silu", module="SiLU"),),
    ),
    "mish": StepKind(
        numpy=lambda x, a, s: x * np.tanh(_softplus(x)),
        torch=lambda F, x, a, s: F.mish(x),
        vjp=CURVED,
        onnx=operator("Mish"),
        torch_forms=(form("mish", module="Mish"),),
    ),
    "softplus": StepKind(
        numpy=lambda x, a, s: _softplus(x, s["beta"], s["threshold"]),
        torch=lambda F, x, a, s: F.softplus(x, s["beta"], s["threshold"]),
        vjp=CURVED,
        onnx=_add_softplus,
        torch_forms=(form("softplus", module="Softplus", beta=1.0, threshold=20.0),),
        # Below that beta, 1 / beta is infinite.
        settings={"beta": 1e-30, "threshold": ANY},
    ),
    "softsign": StepKind(
        numpy=lambda x, a, s: x / (1 + np.abs(x)),
        torch=lambda F, x, a, s: F.softsign(x),
        vjp=CURVED,
        onnx=operator("Softsign"),
        torch_forms=(form("softsign", module="Softsign"),),
    ),
    "tanh": StepKind(
        numpy=lambda x, a, s: np.tanh(x),
        torch=lambda F, x, a, s: x.tanh(),
        vjp=CURVED,
        onnx=operator("Tanh"),
        torch_forms=(form("tanh", module="Tanh"),),
    ),
    "hardtanh": StepKind(
        numpy=lambda x, a, s: np.clip(x, s["min_val"], s["max_val"]),
        torch=lambda F, x, a, s: x.clamp(s["min_val"], s["max_val"]),
        vjp=elementwise(lambda x, a, s: (x > s["min_val"]) & (x < s["max_val"])),
        onnx=lambda g, a, s: g.add(
            "Clip", g.number(s["min_val"]), g.number(s["max_val"])
        ),
        torch_forms=(
            form("hardtanh", module="Hardtanh", min_val=-1.0, max_val=1.0),
            form(
                "relu6",
                module="ReLU6",
                to_settings=lambda arguments: {"min_val": 0.0, "max_val": 6.0},
            ),
            form("clamp", "clip", min=None, max=None, to_settings=_both_bounds),
        ),
        settings={"min_val": ANY, "max_val": ANY},
    ),
    "sigmoid": StepKind(
        numpy=lambda x, a, s: special().expit(x),
        torch=lambda F, x, a, s: x.sigmoid(),
        vjp=CURVED,
        onnx=operator("Sigmoid"),
        torch_forms=(form("sigmoid", "expit", module="Sigmoid"),),
    ),
    "log_sigmoid": StepKind(
        numpy=lambda x, a, s: -_softplus(-x),
        torch=lambda F, x, a, s: F.logsigmoid(x),
        vjp=CURVED,
        onnx=_add_log_sigmoid,
        torch_forms=(form("logsigmoid", "log_sigmoid", module="LogSigmoid"),),
    ),
    "hardsigmoid": StepKind(
        numpy=lambda x, a, s: np.clip(x + 3, 0, 6) / 6,
        torch=lambda F, x, a, s: F.hardsigmoid(x),
        vjp=elementwise(lambda x, a, s: (np.abs(x) < 3) / 6),
        onnx=operator("HardSigmoid", alpha=1 / 6, beta=0.5),
        torch_forms=(form("hardsigmoid", module="Hardsigmoid"),),
    ),
    "hardswish": StepKind(
        numpy=lambda x, a, s: x * np.clip(x + 3, 0, 6) / 6,
        torch=lambda F, x, a, s: F.hardswish(x),
        vjp=CURVED,
        onnx=operator("HardSwish"),
        torch_forms=(form("hardswish", module="Hardswish"),),
    ),
    "tanhshrink": StepKind(
        numpy=lambda x, a, s: x - np.tanh(x),
        torch=lambda F, x, a, s: F.tanhshrink(x),
        vjp=CURVED,
        onnx=_with_x("Sub", "Tanh"),
        torch_forms=(form("tanhshrink", module="Tanhshrink"),),
    ),
    "softshrink": StepKind(
        numpy=lambda x, a, s: x - np.clip(x, -s["lambd"], s["lambd"]),
        torch=lambda F, x, a, s: F.softshrink(x, s["lambd"]),
        vjp=elementwise(lambda x, a, s: np.abs(x) > s["lambd"]),
        onnx=lambda g, a, s: g.add(
            "Shrink", lambd=float(s["lambd"]), bias=float(s["lambd"])
        ),
        torch_forms=(form("softshrink", module="Softshrink", lambd=0.5),),
        settings={"lambd": 0.0},
    ),
    "hardshrink": StepKind(
        numpy=lambda x, a, s: x * (np.abs(x) > s["lambd"]),
        torch=lambda F, x, a, s: F.hardshrink(x, s["lambd"]),
        vjp=elementwise(lambda x, a, s: np.abs(x) > s["lambd"]),
        onnx=lambda g, a, s: g.add("Shrink", lambd=float(s["lambd"]), bias=0.0),
        torch_forms=(form("hardshrink", module="Hardshrink", lambd=0.5),),
        settings={"lambd": 0.0},
    ),
    **FUNCTIONS,
    "softmax": StepKind(
        numpy=lambda x, a, s: special().softmax(x, axis=-1),
        torch=lambda F, x, a, s: F.softmax(x, dim=-1),
        vjp=CURVED,
        onnx=operator("Softmax", axis=-1),
        torch_forms=(
            form("softmax", module="Softmax", dim=None, to_settings=_is_over_columns),
        ),
    ),
    "log_softmax": StepKind(
        numpy=lambda x, a, s: special().log_softmax(x, axis=-1),
        torch=lambda F, x, a, s: F.log_softmax(x, dim=-1),
        vjp=CURVED,
        onnx=operator("LogSoftmax", axis=-1),
        torch_forms=(
            form(
                "log_softmax",
                module="LogSoftmax",
                dim=None,
                to_settings=_is_over_columns,
            ),
        ),
    ),
}
