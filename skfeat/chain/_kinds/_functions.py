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


def _function(
    name: str,
    numpy: Callable[[Any], Any],
    onnx: Callable[[OnnxGraph, Arrays, Settings], object] | None = None,
    aliases: tuple[str, ...] = (),
) -> StepKind:
    """Make the entry of a function of one value.

    Parameters
    ----------
    name : str
        What torch calls it, both as a method of tensors and as a function.
    numpy : callable
        Computes it on an array.
    onnx : callable, default=None
        As in a `StepKind`; None: one operator, the name with a capital.
    aliases : tuple of str, default=()
        Other names that torch has for it.
    """

    def run(x, a, s):
        # Functions may overflow without a warning: the model's own do.
        with np.errstate(over="ignore"):
            return numpy(x)

    return StepKind(
        numpy=run,
        torch=lambda F, x, a, s: getattr(x, name)(),
        vjp=CURVED,
        onnx=onnx or operator(name.capitalize()),
        torch_forms=(form(name, *aliases),),
    )


def _add_expm1(graph: OnnxGraph, arrays: Arrays, settings: Settings) -> None:
    graph.add("Exp")
    graph.add("Sub", graph.number(1.0))


def _add_log1p(graph: OnnxGraph, arrays: Arrays, settings: Settings) -> None:
    graph.add("Add", graph.number(1.0))
    graph.add("Log")


FUNCTIONS = {
    "sin": _function("sin", np.sin),
    "cos": _function("cos", np.cos),
    "atan": _function("atan", np.arctan, aliases=("arctan",)),
    "erf": _function("erf", lambda x: special().erf(x)),
    "exp": _function("exp", np.exp),
    "expm1": _function("expm1", np.expm1, _add_expm1),
    "log": _function("log", np.log),
    "log1p": _function("log1p", np.log1p, _add_log1p),
    "sqrt": _function("sqrt", np.sqrt),
    "reciprocal": _function("reciprocal", lambda x: 1 / x),
}
