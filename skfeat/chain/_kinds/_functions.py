"""The kinds of step that are a function of mathematics, one entry each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from skfeat.chain._kinds._kind import (
    CURVED,
    Arrays,
    Settings,
    StepKind,
    form,
    operator,
)
from skfeat.chain._kinds._onnx_graph import OnnxGraph


def special() -> Any:
    """Import scipy.special where it is used."""
    # A quarter of the time that importing a network would take; few networks use it.
    from scipy import special

    return special


def _quietly(function: Callable[[Any], Any]) -> Callable[..., Any]:
    """Let a function overflow without a warning: the model's own does."""

    def run(x, a, s):
        with np.errstate(over="ignore"):
            return function(x)

    return run


def _add_expm1(graph: OnnxGraph, arrays: Arrays, settings: Settings) -> None:
    graph.add("Exp")
    graph.add("Sub", graph.number(1.0))


def _add_log1p(graph: OnnxGraph, arrays: Arrays, settings: Settings) -> None:
    graph.add("Add", graph.number(1.0))
    graph.add("Log")


FUNCTIONS = {
    "sin": StepKind(
        numpy=lambda x, a, s: np.sin(x),
        torch=lambda F, x, a, s: x.sin(),
        vjp=CURVED,
        onnx=operator("Sin"),
        torch_forms=(form("sin"),),
    ),
    "cos": StepKind(
        numpy=lambda x, a, s: np.cos(x),
        torch=lambda F, x, a, s: x.cos(),
        vjp=CURVED,
        onnx=operator("Cos"),
        torch_forms=(form("cos"),),
    ),
    "erf": StepKind(
        numpy=lambda x, a, s: special().erf(x),
        torch=lambda F, x, a, s: x.erf(),
        vjp=CURVED,
        onnx=operator("Erf"),
        torch_forms=(form("erf"),),
    ),
    "exp": StepKind(
        numpy=_quietly(np.exp),
        torch=lambda F, x, a, s: x.exp(),
        vjp=CURVED,
        onnx=operator("Exp"),
        torch_forms=(form("exp"),),
    ),
    "expm1": StepKind(
        numpy=_quietly(np.expm1),
        torch=lambda F, x, a, s: x.expm1(),
        vjp=CURVED,
        onnx=_add_expm1,
        torch_forms=(form("expm1"),),
    ),
    "log": StepKind(
        numpy=lambda x, a, s: np.log(x),
        torch=lambda F, x, a, s: x.log(),
        vjp=CURVED,
        onnx=operator("Log"),
        torch_forms=(form("log"),),
    ),
    "log1p": StepKind(
        numpy=lambda x, a, s: np.log1p(x),
        torch=lambda F, x, a, s: x.log1p(),
        vjp=CURVED,
        onnx=_add_log1p,
        torch_forms=(form("log1p"),),
    ),
    "sqrt": StepKind(
        numpy=lambda x, a, s: np.sqrt(x),
        torch=lambda F, x, a, s: x.sqrt(),
        vjp=CURVED,
        onnx=operator("Sqrt"),
        torch_forms=(form("sqrt"),),
    ),
    "reciprocal": StepKind(
        numpy=lambda x, a, s: 1 / x,
        vjp=CURVED,
        onnx=operator("Reciprocal"),
        torch_forms=(form("reciprocal"),),
    ),
}
