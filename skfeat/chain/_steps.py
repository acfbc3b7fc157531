"""The steps of a chain: what each kind computes, in NumPy and in torch, and its checks.

Every function below takes (values, the step's arrays, the step's settings).
"""

import math
import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

if TYPE_CHECKING:
    import torch

_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
# Branches within branches: far more than any network has, far less than recursion ends.
DEEPEST = 32


def _layer_norm(x, arrays, settings):
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    scaled = centred / (variance + settings["eps"]) ** 0.5
    return scaled * arrays["weight"] + arrays["bias"]


def _rms_norm(x, arrays, settings):
    square = (x * x).mean(axis=-1, keepdims=True)
    return x / (square + settings["eps"]) ** 0.5 * arrays["weight"]


# Plain arithmetic, which NumPy and torch spell alike.
SHARED: dict[str, Callable[..., Any]] = {
    "affine": lambda x, a, s: x @ a["coef"].T + a["intercept"],
    "scale": lambda x, a, s: x * a["weight"] + a["bias"],
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "slice": lambda x, a, s: x[..., s["start"] : s["stop"]],
    "mean": lambda x, a, s: x.mean(axis=-1, keepdims=True),
}


def _elu(x, alpha):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _softplus(x, beta=1.0, threshold=math.inf):
    return np.where(x * beta > threshold, x, np.logaddexp(0, x * beta) / beta)


NUMPY: dict[str, Callable[..., np.ndarray]] = {
    "identity": lambda x, a, s: x,
    "relu": lambda x, a, s: np.maximum(x, 0),
    "leaky_relu": lambda x, a, s: np.where(x > 0, x, s["negative_slope"] * x),
    "prelu": lambda x, a, s: np.where(x > 0, x, a["weight"] * x),
    "elu": lambda x, a, s: _elu(x, s["alpha"]),
    "celu": lambda x, a, s: np.where(
        x > 0, x, s["alpha"] * np.expm1(np.minimum(x, 0) / s["alpha"])
    ),
    "selu": lambda x, a, s: SELU_SCALE * _elu(x, SELU_ALPHA),
    "gelu": lambda x, a, s: 0.5 * x * (1 + special.erf(x * math.sqrt(0.5))),
    "gelu_tanh": lambda x, a, s: (
        0.5 * x * (1 + np.tanh(_SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)))
    ),
    "silu": lambda x, a, s: x * special.expit(x),
    "mish": lambda x, a, s: x * np.tanh(_softplus(x)),
    "softplus": lambda x, a, s: _softplus(x, s["beta"], s["threshold"]),
    "softsign": lambda x, a, s: x / (1 + np.abs(x)),
    "tanh": lambda x, a, s: np.tanh(x),
    "hardtanh": lambda x, a, s: np.clip(x, s["min_val"], s["max_val"]),
    "sigmoid": lambda x, a, s: special.expit(x),
    "log_sigmoid": lambda x, a, s: -_softplus(-x),
    "hardsigmoid": lambda x, a, s: np.clip(x + 3, 0, 6) / 6,
    "hardswish": lambda x, a, s: x * np.clip(x + 3, 0, 6) / 6,
    "tanhshrink": lambda x, a, s: x - np.tanh(x),
    "softshrink": lambda x, a, s: x - np.clip(x, -s["lambd"], s["lambd"]),
    "hardshrink": lambda x, a, s: x * (np.abs(x) > s["lambd"]),
    "sin": lambda x, a, s: np.sin(x),
    "exp": lambda x, a, s: np.exp(x),
    "sqrt": lambda x, a, s: np.sqrt(x),
    "reciprocal": lambda x, a, s: 1 / x,
    "softmax": lambda x, a, s: special.softmax(x, axis=-1),
    "log_softmax": lambda x, a, s: special.log_softmax(x, axis=-1),
}

ACTIVATIONS = frozenset(NUMPY)
"""The kinds of step that are a nonlinearity (the identity by courtesy)."""

JOINS = frozenset({"add", "multiply", "concatenate"})
"""The kinds of step that hand their input to several branches and join the results."""

NORMS = frozenset({"scale", "layer_norm", "rms_norm"})
"""The kinds of step that scale and shift, before or after a nonlinearity."""

ARRAYS = {
    "affine": ("coef", "intercept"),
    "scale": ("weight", "bias"),
    "layer_norm": ("weight", "bias"),
    "rms_norm": ("weight",),
    "prelu": ("weight",),
}
_SETTINGS = {
    "layer_norm": ("eps",),
    "rms_norm": ("eps",),
    "leaky_relu": ("negative_slope",),
    "elu": ("alpha",),
    "celu": ("alpha",),
    "softplus": ("beta", "threshold"),
    "hardtanh": ("min_val", "max_val"),
    "softshrink": ("lambd",),
    "hardshrink": ("lambd",),
    "slice": ("width", "start", "stop"),
}
# Settings that would divide by zero or mean nothing below their bound.
_LOWEST = {"eps": 0.0, "lambd": 0.0, "beta": 1e-30}


@cache
def torch_functions() -> dict[str, Callable[..., "torch.Tensor"]]:
    """Return the functions of :data:`NUMPY` in torch."""
    import torch
    import torch.nn.functional as F

    return {
        "identity": lambda x, a, s: x,
        "relu": lambda x, a, s: F.relu(x),
        "leaky_relu": lambda x, a, s: F.leaky_relu(x, s["negative_slope"]),
        "prelu": lambda x, a, s: torch.where(x > 0, x, a["weight"] * x),
        "elu": lambda x, a, s: F.elu(x, s["alpha"]),
        "celu": lambda x, a, s: F.celu(x, s["alpha"]),
        "selu": lambda x, a, s: F.selu(x),
        "gelu": lambda x, a, s: F.gelu(x),
        "gelu_tanh": lambda x, a, s: F.gelu(x, approximate="tanh"),
        "silu": lambda x, a, s: F.silu(x),
        "mish": lambda x, a, s: F.mish(x),
        "softplus": lambda x, a, s: F.softplus(x, s["beta"], s["threshold"]),
        "softsign": lambda x, a, s: F.softsign(x),
        "tanh": lambda x, a, s: x.tanh(),
        "hardtanh": lambda x, a, s: x.clamp(s["min_val"], s["max_val"]),
        "sigmoid": lambda x, a, s: x.sigmoid(),
        "log_sigmoid": lambda x, a, s: F.logsigmoid(x),
        "hardsigmoid": lambda x, a, s: F.hardsigmoid(x),
        "hardswish": lambda x, a, s: F.hardswish(x),
        "tanhshrink": lambda x, a, s: F.tanhshrink(x),
        "softshrink": lambda x, a, s: F.softshrink(x, s["lambd"]),
        "hardshrink": lambda x, a, s: F.hardshrink(x, s["lambd"]),
        "sin": lambda x, a, s: x.sin(),
        "exp": lambda x, a, s: x.exp(),
        "sqrt": lambda x, a, s: x.sqrt(),
        "reciprocal": lambda x, a, s: 1 / x,
        "softmax": lambda x, a, s: F.softmax(x, dim=-1),
        "log_softmax": lambda x, a, s: F.log_softmax(x, dim=-1),
    }


@dataclass(frozen=True, eq=False)
class Step:
    """One operation of a chain."""

    kind: str
    """``"affine"``, ``"scale"`` (an elementwise ``x * weight + bias``),
    ``"layer_norm"``, ``"rms_norm"``, ``"slice"`` (some consecutive columns),
    ``"mean"`` (of each row), one of :data:`ACTIVATIONS`, or one of :data:`JOINS`, which
    give their input to each of their branches and add, multiply or concatenate what
    these return; a single column is added to, or multiplied with, each of several."""
    name: str = ""
    """Path of the module in the user's model; empty for a function call."""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    """``"coef"`` (n_out, n_in) and ``"intercept"`` (n_out,) of an affine, ``"weight"``
    and ``"bias"`` (n,) of a scale or layer norm, ``"weight"`` alone of an RMS norm or a
    PReLU."""
    settings: dict[str, float] = field(default_factory=dict)
    """``"negative_slope"`` of a leaky ReLU, ``"alpha"`` of an ELU, ``"eps"`` of a norm,
    ``"width"``, ``"start"`` and ``"stop"`` of a slice, and so on."""
    branches: tuple[tuple["Step", ...], ...] = ()
    """Of a join: the steps of each branch; a branch without steps is the input."""

    @property
    def n_in(self) -> int | None:
        """Width that the step takes; None where any width will do."""
        if self.kind == "affine":
            return self.arrays["coef"].shape[1]
        if self.kind in ARRAYS:
            return len(self.arrays["weight"])
        if self.kind == "slice":
            return int(self.settings["width"])
        widths = (input_width(branch) for branch in self.branches)
        return next((width for width in widths if width is not None), None)

    def n_out(self, n_in: int) -> int:
        """Width of what the step makes of values of width `n_in`."""
        if self.kind == "affine":
            return len(self.arrays["coef"])
        if self.kind == "slice":
            return int(self.settings["stop"] - self.settings["start"])
        if self.kind == "mean":
            return 1
        widths = [output_width(branch, n_in) for branch in self.branches]
        return sum(widths) if self.kind == "concatenate" else max(widths, default=n_in)

    @property
    def is_weighted(self) -> bool:
        """Whether the step is an affine or has one in a branch."""
        inner = (step for branch in self.branches for step in branch)
        return self.kind == "affine" or any(step.is_weighted for step in inner)


def input_width(steps: Sequence[Step]) -> int | None:
    """Width that a sequence of steps takes; None where that is open."""
    for step in steps:
        # What comes behind a change of an open width says nothing of the input.
        if step.n_in is not None or step.kind in ("concatenate", "mean"):
            return step.n_in
    return None


def output_width(steps: Sequence[Step], n_in: int) -> int:
    """Width of what a sequence of steps makes of values of width `n_in`."""
    for step in steps:
        n_in = step.n_out(n_in)
    return n_in


def walk(steps: Sequence[Step]) -> Iterator[Step]:
    """Yield every step, and after each join those of its branches."""
    for step in steps:
        yield step
        for branch in step.branches:
            yield from walk(branch)


def map_arrays(step: Step, function: Callable[[np.ndarray], np.ndarray]) -> Step:
    """Return the step with each array replaced, those of its branches too."""
    return replace(
        step,
        arrays={name: function(array) for name, array in step.arrays.items()},
        branches=tuple(
            tuple(map_arrays(inner, function) for inner in branch)
            for branch in step.branches
        ),
    )


def run_numpy(steps: Sequence[Step], X: np.ndarray) -> np.ndarray:
    """Run steps on a float32 or float64 array, in its dtype."""
    own = False  # whether X is ours to write to
    for step in steps:
        arrays = {k: v.astype(X.dtype, copy=False) for k, v in step.arrays.items()}
        if step.kind in JOINS:
            results = [run_numpy(branch, X) for branch in step.branches]
            X = join(step.kind, results, np.concatenate)
            own = len(results) > 1  # a single branch may return X itself
        elif step.kind == "affine":
            X = X @ arrays["coef"].T
            X += arrays["intercept"]
            own = True
        elif step.kind == "relu":
            X = np.maximum(X, 0, out=X if own else None)
            own = True
        else:
            function = SHARED.get(step.kind) or NUMPY[step.kind]
            X = function(X, arrays, step.settings)
            own = own or step.kind not in ("identity", "slice")
    return X


def join(kind: str, results: list, concatenate: Callable[..., Any]) -> Any:
    """Join the results of a step's branches."""
    if kind == "concatenate":
        return concatenate(results, -1)
    return reduce(operator.add if kind == "add" else operator.mul, results)


def torch_function(
    steps: Sequence[Step],
    dtype: "torch.dtype | None" = None,
    device: "torch.device | str | None" = None,
) -> Callable[["torch.Tensor"], "torch.Tensor"]:
    """Make steps a differentiable function of one tensor."""
    import torch

    functions = SHARED | torch_functions()
    calls = [_torch_call(step, functions, dtype, device) for step in steps]

    def run(T: torch.Tensor) -> torch.Tensor:
        for call in calls:
            T = call(T)
        return T

    return run


def _torch_call(step: Step, functions: dict, dtype, device) -> Callable:
    import torch

    if step.kind in JOINS:
        branches = [torch_function(branch, dtype, device) for branch in step.branches]
        return lambda T: join(step.kind, [branch(T) for branch in branches], torch.cat)
    function = functions[step.kind]
    # torch.tensor copies: it also takes read-only arrays without a warning.
    arrays = {
        name: torch.tensor(array, dtype=dtype, device=device)
        for name, array in step.arrays.items()
    }
    return lambda T: function(T, arrays, step.settings)


def n_multiply_adds(steps: Sequence[Step]) -> int:
    """Count what steps cost a row, as `Chain.n_multiply_adds` says."""
    total = 0
    for step in walk(steps):
        if step.kind == "affine":
            total += step.arrays["coef"].size
        elif step.kind in NORMS:
            total += len(step.arrays["weight"])
    return total


def check_form(steps: Sequence[Step], path: str = "", depth: int = 0) -> None:
    """Raise ValueError unless each step is well formed, whatever its width."""
    if depth > DEEPEST:
        raise ValueError(f"Branches lie within branches more than {DEEPEST} deep.")
    for i, step in enumerate(steps):
        _check_step(step, _label(step, f"{path}{i}"))
        for j, branch in enumerate(step.branches):
            check_form(branch, f"{path}{i}.{j}.", depth + 1)


def check_widths(steps: Sequence[Step], width: int, path: str = "") -> int:
    """Raise ValueError unless the widths of the steps follow; return the last."""
    for i, step in enumerate(steps):
        label = _label(step, f"{path}{i}")
        widths = [
            check_widths(branch, width, f"{path}{i}.{j}.")
            for j, branch in enumerate(step.branches)
        ]
        if step.kind in ("add", "multiply") and len({*widths} - {1}) > 1:
            raise ValueError(f"The branches of {label} have the widths {widths}.")
        # Of a join, the branches have been asked.
        if not step.branches and step.n_in not in (None, width):
            raise ValueError(
                f"{label} takes {step.n_in} values a row, but is given {width}."
            )
        width = step.n_out(width)
    return width


def _label(step: Step, where: str) -> str:
    return f"Step {where} ({step.kind!r} {step.name!r})"


def _check_step(step: Step, label: str) -> None:
    known = SHARED.keys() | ACTIVATIONS | JOINS
    if not isinstance(step.kind, str) or step.kind not in known:
        raise ValueError(f"{label} is of an unknown kind.")
    if not isinstance(step.name, str):
        raise ValueError(f"The name of {label} must be a string.")
    if bool(step.branches) != (step.kind in JOINS):
        raise ValueError(f"{label} must have branches if it is a join, else none.")
    _check_settings(step, label)
    names = ARRAYS.get(step.kind, ())
    if set(step.arrays) != set(names):
        raise ValueError(f"{label} must have the arrays {list(names)}.")
    for name, array in step.arrays.items():
        dtype = array.dtype if isinstance(array, np.ndarray) else None
        if dtype not in (np.float32, np.float64):
            raise ValueError(f"{name} of {label} must be a float32 or float64 ndarray.")
        if array.ndim != (2 if name == "coef" else 1) or not array.size:
            raise ValueError(f"{name} of {label} has the wrong shape {array.shape}.")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} of {label} has NaN or infinite values.")
    if len({len(array) for array in step.arrays.values()}) > 1:
        raise ValueError(f"The arrays of {label} differ in length.")


def _check_settings(step: Step, label: str) -> None:
    names = _SETTINGS.get(step.kind, ())
    if not isinstance(step.settings, dict) or set(step.settings) != set(names):
        raise ValueError(f"{label} must have the settings {list(names)}.")
    for name, value in step.settings.items():
        # A comparison, since math.isfinite overflows on the long integers of JSON.
        lowest = _LOWEST.get(name, -sys.float_info.max)
        if type(value) not in (int, float) or not lowest <= value <= sys.float_info.max:
            raise ValueError(f"{name} of {label} must be finite, got {value!r}.")
    if step.kind == "celu" and not step.settings["alpha"]:
        raise ValueError(f"alpha of {label} must not be zero.")
    if step.kind == "slice":
        start, stop, width = (step.settings[k] for k in ("start", "stop", "width"))
        ints = all(type(value) is int for value in (start, stop, width))
        if not ints or not 0 <= start < stop <= width:
            raise ValueError(f"{label} must take some of its columns, in their order.")
