"""The steps of a chain: running them in NumPy and in torch, and checking them.

What each kind of step computes stands in :mod:`skfeat.chain._kinds`.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from skfeat.chain import _kinds
from skfeat.chain._kinds import KINDS
from skfeat.utils._checks import check_sequence, type_error, value_error

if TYPE_CHECKING:
    import torch

# Branches within branches: far more than any network has, far less than recursion ends.
DEEPEST = 32

ACTIVATIONS = frozenset(_kinds.ACTIVATIONS)
"""The kinds of step that are a nonlinearity, and the identity."""

JOINS = frozenset(_kinds.JOINS)
"""The kinds of step that hand their input to several branches and join the results."""

NORMS = frozenset(name for name, kind in KINDS.items() if kind.role == "norm")
"""The kinds of step that scale and shift, before or after a nonlinearity."""


@dataclass(frozen=True, eq=False)
class Step:
    """One operation of a chain."""

    kind: str
    """``"affine"``, ``"scale"`` (an elementwise ``x * weight + bias``),
    ``"layer_norm"``, ``"rms_norm"``, ``"slice"`` (some consecutive columns),
    ``"mean"`` (of each row), ``"conv"``, ``"max_pool"`` and ``"mean_pool"`` (of maps
    that stand in a row channel by channel), one of :data:`ACTIVATIONS`, or one of
    :data:`JOINS`, which give their input to each of their branches and add, multiply or
    concatenate what these return; a single column is added to, or multiplied with, each
    of several."""
    name: str = ""
    """Path of the module in the user's model; empty for a function call."""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    """``"coef"`` (n_out, n_in) and ``"intercept"`` (n_out,) of an affine; of a
    convolution too, n_in being the places of its kernel in each channel; ``"weight"``
    and ``"bias"`` (n,) of a scale or layer norm, ``"weight"`` alone of an RMS norm or a
    PReLU."""
    settings: dict[str, float] = field(default_factory=dict)
    """``"negative_slope"`` of a leaky ReLU, ``"alpha"`` of an ELU, ``"eps"`` of a norm,
    ``"width"``, ``"start"`` and ``"stop"`` of a slice, the sizes of maps and kernels,
    and so on."""
    branches: tuple[tuple["Step", ...], ...] = ()
    """Of a join: the steps of each branch; a branch without steps is the input."""

    def __post_init__(self) -> None:
        """Refuse a kind that there is not, and parts of other types."""
        known = KINDS.keys() | JOINS
        if not isinstance(self.kind, str) or self.kind not in known:
            raise value_error("kind", f"one of {', '.join(sorted(known))}", self.kind)
        if not isinstance(self.name, str):
            raise value_error("name", "a str", self.name)
        if not isinstance(self.arrays, dict):
            raise value_error("arrays", "a dict of arrays", self.arrays)
        if not isinstance(self.settings, dict):
            raise value_error("settings", "a dict of numbers", self.settings)
        if not isinstance(self.branches, tuple | list):
            raise value_error("branches", "a tuple of lists of steps", self.branches)

    @property
    def n_in(self) -> int | None:
        """Width that the step takes; None where any width will do."""
        if self.kind in KINDS:
            return KINDS[self.kind].n_in(self.arrays, self.settings)
        widths = (input_width(branch) for branch in self.branches)
        return next((width for width in widths if width is not None), None)

    def n_out(self, n_in: int) -> int:
        """Width of what the step makes of values of width `n_in`."""
        if self.kind in KINDS:
            return KINDS[self.kind].n_out(n_in, self.arrays, self.settings)
        widths = [output_width(branch, n_in) for branch in self.branches]
        return _kinds.JOINS[self.kind].n_out(widths)

    @property
    def is_weighted(self) -> bool:
        """Whether the step is an affine or a convolution, or has one in a branch."""
        inner = (step for branch in self.branches for step in branch)
        return self.kind in _LINEAR_LAYERS or any(step.is_weighted for step in inner)


# Kinds whose weights multiply all that they read.
_LINEAR_LAYERS = "affine", "conv"


def linear_layers(steps: Sequence[Step]) -> list[Step]:
    """Return the affines and convolutions, those of branches too, in order."""
    return [step for step in walk(steps) if step.kind in _LINEAR_LAYERS]


def arrays_of(kind: Any) -> tuple[str, ...]:
    """Return the names of the arrays that a kind of step has; none of an unknown."""
    known = isinstance(kind, str) and kind in KINDS
    return KINDS[kind].arrays if known else ()


def input_width(steps: Sequence[Step]) -> int | None:
    """Width that a sequence of steps takes; None where that is open."""
    for step in steps:
        # After a change of an open width, later widths do not determine the input's.
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
        if step.kind in _kinds.JOINS:
            results = [run_numpy(branch, X) for branch in step.branches]
            X = _kinds.JOINS[step.kind].join(results, np.concatenate)
            own = len(results) > 1  # a single branch may return X itself
        elif step.kind == "affine":  # this and ReLU in place, as they are most steps
            # OpenBLAS can call finite rows invalid: for five columns it computes with
            # what registers held before. An overflow is still told.
            with np.errstate(invalid="ignore"):
                X = X @ arrays["coef"].T
            X += arrays["intercept"]
            own = True
        elif step.kind == "relu":
            X = np.maximum(X, 0, out=X if own else None)
            own = True
        else:
            X = KINDS[step.kind].numpy(X, arrays, step.settings)
            own = own or step.kind not in ("identity", "slice")
    return X


def torch_step(kind: str) -> Callable[..., Any]:
    """Return what a kind without branches computes in torch, of (x, arrays, settings).

    It is a lambda, which no pickle takes.
    """
    import torch.nn.functional as F

    step_kind = KINDS[kind]
    function = step_kind.torch
    if function is None:
        return step_kind.numpy
    return lambda x, arrays, settings: function(F, x, arrays, settings)


def torch_function(
    steps: Sequence[Step],
    dtype: "torch.dtype | None" = None,
    device: "torch.device | str | None" = None,
) -> Callable[["torch.Tensor"], "torch.Tensor"]:
    """Make steps a differentiable function of one tensor."""
    calls = [_torch_call(step, dtype, device) for step in steps]

    def run(T: "torch.Tensor") -> "torch.Tensor":
        for call in calls:
            T = call(T)
        return T

    return run


def _torch_call(
    step: Step,
    dtype: "torch.dtype | None",
    device: "torch.device | str | None",
) -> Callable[["torch.Tensor"], "torch.Tensor"]:
    import torch

    if step.kind in _kinds.JOINS:
        join = _kinds.JOINS[step.kind].join
        branches = [torch_function(branch, dtype, device) for branch in step.branches]
        return lambda T: join([branch(T) for branch in branches], torch.cat)
    function = torch_step(step.kind)
    # torch.tensor copies: it also takes read-only arrays without a warning.
    arrays = {
        name: torch.tensor(array, dtype=dtype, device=device)
        for name, array in step.arrays.items()
    }
    return lambda T: function(T, arrays, step.settings)


def n_multiply_adds(steps: Sequence[Step]) -> int:
    """Count the multiply-adds of steps for one row, as `Chain.n_multiply_adds` does."""
    costs = (
        KINDS[step.kind].n_multiply_adds(step.arrays, step.settings)
        for step in walk(steps)
        if step.kind in KINDS
    )
    return sum(costs)


def n_weights(steps: Sequence[Step]) -> int:
    """Count the nonzero weights of steps, as `Chain.n_weights` does."""
    return sum(
        int(np.count_nonzero(step.arrays[name]))
        for step in walk(steps)
        if step.kind in KINDS
        and KINDS[step.kind].n_multiply_adds(step.arrays, step.settings)
        for name in ("coef", "weight")
        if name in step.arrays
    )


def check_steps(steps: Any) -> tuple[Step, ...]:
    """Return steps as a tuple, or raise an error saying which is malformed."""
    several = tuple(check_sequence("steps", "Step", steps))
    check_form(several)
    return several


def check_head_names(steps: Sequence[Step], names: Any) -> None:
    """Raise ValueError unless there is a name for each head, or there are none."""
    is_list = isinstance(names, list | tuple)
    if is_list and not names:
        return
    n_heads = 0
    if steps and steps[-1].kind == "concatenate":
        n_heads = len(steps[-1].branches)
    if (
        not is_list
        or len(names) != n_heads
        or not all(isinstance(name, str) for name in names)
    ):
        raise value_error(
            "head_names",
            f"empty, or a str for each of the {n_heads} branches that the last step "
            f"concatenates",
            names,
        )


def check_form(steps: Sequence[Step], path: str = "", depth: int = 0) -> None:
    """Raise ValueError unless each step is well formed, whatever its width."""
    if depth > DEEPEST:
        raise ValueError(f"Branches lie within branches more than {DEEPEST} deep.")
    for i, step in enumerate(steps):
        if not isinstance(step, Step):
            raise type_error(f"Step {path}{i}", "a skfeat.chain.Step", step)
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
        join = _kinds.JOINS.get(step.kind)
        if join is not None and join.broadcasts and len({*widths} - {1}) > 1:
            raise ValueError(f"The branches of {label} have the widths {widths}.")
        # The branches of a join have been checked, each by itself.
        if not step.branches and step.n_in not in (None, width):
            raise ValueError(
                f"{label} takes {step.n_in} values a row, but is given {width}."
            )
        width = step.n_out(width)
    return width


def _label(step: Step, where: str) -> str:
    return f"Step {where} ({step.kind!r} {step.name!r})"


def _check_step(step: Step, label: str) -> None:
    if bool(step.branches) != (step.kind in JOINS):
        raise ValueError(f"{label} must have branches if it is a join, else none.")
    _check_settings(step, label)
    names = arrays_of(step.kind)
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
    kind = KINDS.get(step.kind)
    names = () if kind is None else tuple(kind.settings)
    if not isinstance(step.settings, dict) or set(step.settings) != set(names):
        raise ValueError(f"{label} must have the settings {list(names)}.")
    for name, value in step.settings.items():
        # A comparison, since math.isfinite overflows on the long integers of JSON.
        lowest = 0.0 if kind is None else kind.settings[name]
        if type(value) not in (int, float) or not lowest <= value <= sys.float_info.max:
            raise ValueError(f"{name} of {label} must be finite, got {value!r}.")
    if kind is not None and (problem := kind.find_problem(step.settings, label)):
        raise ValueError(problem)
