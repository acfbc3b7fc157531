"""What one entry of the table of step kinds holds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from skfeat.chain._kinds._onnx_graph import OnnxGraph

Arrays = Mapping[str, Any]
"""The arrays of a step by name: of numpy, or tensors where torch computes."""

Settings = Mapping[str, Any]
"""The numbers of a step by name."""

ANY = -sys.float_info.max
"""The bound of a setting that may be any finite number."""

CURVED = "it is curved: its slope differs from point to point"
ITS_WEIGHTS_ARE_READ = (
    "it has weights, which skfeat.adapters reads from modules and functions by code"
)

Vjp = Callable[
    [np.ndarray, np.ndarray, np.ndarray, Arrays, Settings],
    tuple[np.ndarray, np.ndarray | float],
]
"""Takes (gradient after the step, values before, values after, arrays, settings);
returns (gradient before the step, what the step's own constants add, row by row)."""


@dataclass(frozen=True)
class TorchForm:
    """One way in which torch spells a step: functions, methods and a module class."""

    functions: tuple[str, ...] = ()
    """Names in torch, torch.nn.functional or torch.special, and of tensor methods."""
    module: str = ""
    """Name of the class in torch.nn whose attributes are the arguments."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Those after the input, in torch's order, with torch's defaults; a default of
    None stands for one that a call must give."""
    to_settings: Callable[[dict[str, Any]], dict[str, float] | None] | None = None
    """Makes the step's settings of the arguments; returns None if a call with these is
    no step of this kind. None: the arguments are the settings."""


@dataclass(frozen=True, kw_only=True)
class StepKind:
    """One kind of step: everything that depends on the kind.

    A string in place of a function states why this kind has no such part.
    """

    numpy: Callable[[np.ndarray, Arrays, Settings], np.ndarray]
    """Computes the step on values (n, n_in)."""
    torch: Callable[[Any, Any, Arrays, Settings], Any] | None = None
    """The same, differentiably, with torch.nn.functional as a first argument. None:
    `numpy` is plain arithmetic, which torch spells alike."""
    vjp: Vjp | str
    """Vector-Jacobian product, exact on the linear piece that a row lies on."""
    onnx: Callable[[OnnxGraph, Arrays, Settings], object]
    """Adds the step's operators to a graph."""
    torch_forms: tuple[TorchForm, ...] | str
    """How torch modules and functions spell it."""

    role: Literal["activation", "norm", "layer"] = "activation"
    """A norm scales and shifts, and stands before or after a nonlinearity."""
    is_linear: bool = False
    arrays: tuple[str, ...] = ()
    """Names of its arrays: "coef" is 2-D, every other 1-D, all of one length."""
    settings: Mapping[str, float] = field(default_factory=dict)
    """Names of its settings, and the least value of each."""
    find_problem: Callable[[Settings, str], str] = lambda settings, label: ""
    """Returns what is wrong with settings that lie within their bounds."""
    n_in: Callable[[Arrays, Settings], int | None] = lambda arrays, settings: None
    """Width that the step takes; None where any width will do."""
    n_out: Callable[[int, Arrays, Settings], int] = lambda n, arrays, settings: n
    """Width of what it makes of values of width n."""
    n_multiply_adds: Callable[[Arrays, Settings], int] = lambda arrays, settings: 0


@dataclass(frozen=True, kw_only=True)
class JoinKind:
    """One kind of join: several branches run on the same input, their results meet."""

    join: Callable[[list, Callable[..., Any]], Any]
    """Joins results, given numpy's or torch's concatenation."""
    shares: Callable[[np.ndarray, list[int]], list[np.ndarray]] | str
    """Shares out the gradient of the joined values among branches of these widths."""
    onnx: Callable[[OnnxGraph, list[str]], object]
    """Adds the operators that join results of these names."""
    n_out: Callable[[Sequence[int]], int]
    """Width of the joined results."""
    broadcasts: bool
    """Whether the branches must be of one width, or of a single column."""


def width_of_weight(arrays: Arrays, settings: Settings) -> int:
    """Return the width of a step with one weight a column."""
    return len(arrays["weight"])


def elementwise(
    slope: Callable[[np.ndarray, Arrays, Settings], Any],
) -> Vjp:
    """Make the vector-Jacobian product of what acts on each value alone."""

    def vjp(grad, before, after, arrays, settings):
        at = np.asarray(slope(before, arrays, settings), grad.dtype)
        # A piece need not go through zero: what is left is a constant.
        return grad * at, (grad * (after - at * before)).sum(axis=1)

    return vjp


def operator(name: str, **attributes: Any) -> Callable[..., object]:
    """Make a kind one ONNX operator, with fixed attributes."""
    return lambda graph, arrays, settings: graph.add(name, **attributes)


def form(
    *functions: str,
    module: str = "",
    to_settings: Callable[[dict[str, Any]], dict[str, float] | None] | None = None,
    **arguments: Any,
) -> TorchForm:
    """Make a form of its functions, its module and its arguments with defaults."""
    return TorchForm(functions, module, arguments, to_settings)
