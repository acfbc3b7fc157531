"""A trained network as a chain of steps held in NumPy arrays.

A :class:`Chain` runs from any step to any step without torch, and differentiably in
torch, which is imported only then. ``skfeat.adapters.read_chain`` makes one.
"""

import math
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

if TYPE_CHECKING:
    import torch

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

# Every function below takes (values, the step's arrays, the step's settings).
_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)


def _layer_norm(x, arrays, settings):
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    scaled = centred / (variance + settings["eps"]) ** 0.5
    return scaled * arrays["weight"] + arrays["bias"]


# Plain arithmetic, which NumPy and torch spell alike.
_SHARED: dict[str, Callable[..., Any]] = {
    "affine": lambda x, a, s: x @ a["coef"].T + a["intercept"],
    "scale": lambda x, a, s: x * a["weight"] + a["bias"],
    "layer_norm": _layer_norm,
}

_NUMPY: dict[str, Callable[..., np.ndarray]] = {
    "identity": lambda x, a, s: x,
    "relu": lambda x, a, s: np.maximum(x, 0),
    "leaky_relu": lambda x, a, s: np.where(x > 0, x, s["negative_slope"] * x),
    "elu": lambda x, a, s: np.where(x > 0, x, s["alpha"] * np.expm1(np.minimum(x, 0))),
    "gelu": lambda x, a, s: 0.5 * x * (1 + special.erf(x * math.sqrt(0.5))),
    "gelu_tanh": lambda x, a, s: (
        0.5 * x * (1 + np.tanh(_SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)))
    ),
    "silu": lambda x, a, s: x * special.expit(x),
    "tanh": lambda x, a, s: np.tanh(x),
    "sigmoid": lambda x, a, s: special.expit(x),
    "exp": lambda x, a, s: np.exp(x),
    "softmax": lambda x, a, s: special.softmax(x, axis=-1),
    "log_softmax": lambda x, a, s: special.log_softmax(x, axis=-1),
}

ACTIVATIONS = frozenset(_NUMPY)
"""The kinds of step that are a nonlinearity (the identity by courtesy)."""

_ARRAYS = {
    "affine": ("coef", "intercept"),
    "scale": ("weight", "bias"),
    "layer_norm": ("weight", "bias"),
}
_SETTINGS = {
    "layer_norm": ("eps",),
    "leaky_relu": ("negative_slope",),
    "elu": ("alpha",),
}


@cache
def _torch_functions() -> dict[str, Callable[..., "torch.Tensor"]]:
    import torch.nn.functional as F

    return {
        "identity": lambda x, a, s: x,
        "relu": lambda x, a, s: F.relu(x),
        "leaky_relu": lambda x, a, s: F.leaky_relu(x, s["negative_slope"]),
        "elu": lambda x, a, s: F.elu(x, s["alpha"]),
        "gelu": lambda x, a, s: F.gelu(x),
        "gelu_tanh": lambda x, a, s: F.gelu(x, approximate="tanh"),
        "silu": lambda x, a, s: F.silu(x),
        "tanh": lambda x, a, s: x.tanh(),
        "sigmoid": lambda x, a, s: x.sigmoid(),
        "exp": lambda x, a, s: x.exp(),
        "softmax": lambda x, a, s: F.softmax(x, dim=-1),
        "log_softmax": lambda x, a, s: F.log_softmax(x, dim=-1),
    }


@dataclass(frozen=True, eq=False)
class Step:
    """One operation of a chain."""

    kind: str
    """``"affine"``, ``"scale"`` (an elementwise ``x * weight + bias``),
    ``"layer_norm"`` or one of :data:`ACTIVATIONS`."""
    name: str = ""
    """Path of the module in the user's model; empty for a function call."""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    """``"coef"`` (n_out, n_in) and ``"intercept"`` (n_out,) of an affine, ``"weight"``
    and ``"bias"`` (n,) of a scale or layer norm."""
    settings: dict[str, float] = field(default_factory=dict)
    """``"negative_slope"`` of a leaky ReLU, ``"alpha"`` of an ELU, ``"eps"`` of a layer
    norm."""

    @property
    def widths(self) -> tuple[int, int] | None:
        """Width before and after the step; None where any width will do."""
        if self.kind == "affine":
            n_out, n_in = self.arrays["coef"].shape
            return n_in, n_out
        if self.kind in _ARRAYS:
            n = len(self.arrays["weight"])
            return n, n
        return None


@dataclass(frozen=True)
class HiddenLayer:
    """One hidden layer of a chain: ``steps[:stop]`` computes its activations."""

    name: str
    """Path of the layer's affine module in the user's model."""
    aliases: tuple[str, ...]
    """Its other names: the path of its activation module, when that is used once."""
    stop: int
    n_units: int


@dataclass(frozen=True, eq=False)
class Chain:
    """A network whose every operation takes exactly the previous one's result.

    Make one by :meth:`from_steps`, which checks the steps and finds the hidden layers.
    """

    steps: tuple[Step, ...]
    hidden: tuple[HiddenLayer, ...]
    n_features_in: int
    n_outputs: int

    @classmethod
    def from_steps(
        cls, steps: Sequence[Step], n_features_in: int | None = None
    ) -> "Chain":
        """Make a chain, or raise ValueError saying which step is malformed.

        `n_features_in` is needed only where no step has a width of its own.
        """
        width = n_features_in
        for i, step in enumerate(steps):
            label = _check_step(step, i)
            if step.widths is None:
                continue
            n_in, n_out = step.widths
            if width is None:
                n_features_in = n_in
            elif n_in != width:
                raise ValueError(
                    f"{label} takes {n_in} values a row, but is given {width}."
                )
            width = n_out
        if n_features_in is None or width is None:
            raise ValueError("n_features_in is needed where no step has a width.")
        return cls(tuple(steps), find_hidden(steps), n_features_in, width)

    @property
    def dtype(self) -> np.dtype:
        """Float64 if any step's arrays are, else float32: what X is cast to."""
        arrays = [array for step in self.steps for array in step.arrays.values()]
        return np.result_type(np.float32, *arrays)

    def width_at(self, position: int) -> int:
        """Width of the values that ``steps[:position]`` computes."""
        sized = [step.widths for step in self.steps[:position] if step.widths]
        return sized[-1][1] if sized else self.n_features_in

    def slice(self, start: int = 0, stop: int | None = None) -> "Chain":
        """Take ``steps[start:stop]`` as a chain, which may have no hidden layer."""
        return self.from_steps(self.steps[start:stop], self.width_at(start))

    def forward(
        self, X: np.ndarray, start: int = 0, stop: int | None = None
    ) -> np.ndarray:
        """Run ``steps[start:stop]`` on X of shape (n_samples, width_at(start)).

        The result is float32 or float64 as X is, float64 for any other X. It may be X
        itself where no step changes it.
        """
        X = np.asarray(X)
        if X.dtype not in _FLOATS:
            X = X.astype(np.float64)
        own, dtype = False, X.dtype  # own: whether X is ours to write to
        for step in self.steps[start:stop]:
            arrays = step.arrays
            if any(array.dtype != dtype for array in arrays.values()):
                arrays = {name: array.astype(dtype) for name, array in arrays.items()}
            if step.kind == "affine":
                X = X @ arrays["coef"].T
                X += arrays["intercept"]
            elif step.kind == "relu":
                X = np.maximum(X, 0, out=X if own else None)
            else:
                function = _SHARED.get(step.kind) or _NUMPY[step.kind]
                X = function(X, arrays, step.settings)
            own = own or step.kind != "identity"
        return X

    def astype(self, dtype: np.dtype) -> "Chain":
        """Return the chain with arrays of this dtype, or itself if it has them."""
        arrays = [array for step in self.steps for array in step.arrays.values()]
        if all(array.dtype == dtype for array in arrays):
            return self
        steps = [
            replace(step, arrays={k: v.astype(dtype) for k, v in step.arrays.items()})
            for step in self.steps
        ]
        return self.from_steps(steps, self.n_features_in)

    def torch_function(
        self,
        start: int = 0,
        stop: int | None = None,
        *,
        dtype: "torch.dtype | None" = None,
        device: "torch.device | str | None" = None,
    ) -> Callable[["torch.Tensor"], "torch.Tensor"]:
        """Make ``steps[start:stop]`` a differentiable function of one tensor.

        For loops: :meth:`forward_torch` moves the constants to the device at each call.
        """
        import torch

        functions, calls = _SHARED | _torch_functions(), []
        for step in self.steps[start:stop]:
            # torch.tensor copies: it also takes read-only arrays without a warning.
            arrays = {
                name: torch.tensor(array, dtype=dtype, device=device)
                for name, array in step.arrays.items()
            }
            calls.append((functions[step.kind], arrays, step.settings))

        def run(T: torch.Tensor) -> torch.Tensor:
            for function, arrays, settings in calls:
                T = function(T, arrays, settings)
            return T

        return run

    def forward_torch(
        self, T: "torch.Tensor", start: int = 0, stop: int | None = None
    ) -> "torch.Tensor":
        """Run ``steps[start:stop]`` in torch, differentiably with respect to `T`."""
        return self.torch_function(start, stop, dtype=T.dtype, device=T.device)(T)

    def affine_between(self, i: int, j: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return (coef, intercept) from hidden layer i to j's nonlinearity, or None.

        None unless exactly one affine and one activation lie between the two.
        """
        between = self.steps[self.hidden[i].stop : self.hidden[j].stop]
        match [step.kind for step in between]:
            case ["affine", kind] if kind in ACTIVATIONS:
                return between[0].arrays["coef"], between[0].arrays["intercept"]
        return None

    def n_multiply_adds(self, start: int = 0, stop: int | None = None) -> int:
        """Count the multiply-adds that ``steps[start:stop]`` costs a row.

        An affine costs n_out * n_in, a scale or layer norm one a unit (its weight and
        bias), an activation none.
        """
        total = 0
        for step in self.steps[start:stop]:
            if step.widths:
                n_in, n_out = step.widths
                total += n_in * n_out if step.kind == "affine" else n_out
        return total

    def to_arrays(self) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
        """Return the arrays by name (for npz) and a list of dicts (for JSON).

        The list holds the input's width, then one dict a step.
        """
        arrays = {
            f"{i}.{name}": array
            for i, step in enumerate(self.steps)
            for name, array in step.arrays.items()
        }
        spec: list[dict[str, Any]] = [{"n_features_in": self.n_features_in}]
        spec += [
            {"kind": step.kind, "name": step.name, "settings": dict(step.settings)}
            for step in self.steps
        ]
        return arrays, spec

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, np.ndarray], spec: list[dict[str, Any]]
    ) -> "Chain":
        """Make a chain of what :meth:`to_arrays` gave; nothing in it is executed.

        Raises ValueError if anything is missing, unknown, misshapen or not finite.
        """
        if not isinstance(arrays, Mapping) or not isinstance(spec, list):
            raise ValueError("A chain is saved as a mapping of arrays and a list.")
        if not spec or not all(isinstance(entry, dict) for entry in spec):
            raise ValueError("The spec of a chain must be a list of dicts.")
        width = spec[0].get("n_features_in")
        if type(width) is not int or width < 1:
            raise ValueError(f"n_features_in must be a positive int, got {width!r}.")
        steps: list[Step] = []
        expected: set[str] = set()
        for i, entry in enumerate(spec[1:]):
            if entry.keys() != {"kind", "name", "settings"}:
                raise ValueError(f"Step {i} must have a kind, a name and settings.")
            kind = entry["kind"]
            names = _ARRAYS.get(kind, ()) if isinstance(kind, str) else ()
            keys = {name: f"{i}.{name}" for name in names}
            expected |= set(keys.values())
            found = {name: arrays[key] for name, key in keys.items() if key in arrays}
            steps.append(Step(kind, entry["name"], found, entry["settings"]))
        if unknown := set(arrays) - expected:
            raise ValueError(f"No step takes the arrays {sorted(map(str, unknown))}.")
        return cls.from_steps(steps, width)


def merge_scales(steps: Sequence[Step]) -> list[Step]:
    """Merge each scale into the affine directly before it, else directly after it.

    A scale without an affine beside it stays. The arithmetic is done in float64, its
    result has the affine's dtype. Two consecutive affines are not merged: that would
    change their rank and cost.
    """
    merged: list[Step] = []
    for step in steps:
        if step.kind == "scale" and merged and merged[-1].kind == "affine":
            coef, intercept = _wide(merged[-1])
            weight, bias = _wide(step)
            merged[-1] = _with_affine(
                merged[-1], coef * weight[:, None], intercept * weight + bias
            )
            continue
        while step.kind == "affine" and merged and merged[-1].kind == "scale":
            coef, intercept = _wide(step)
            weight, bias = _wide(merged.pop())
            step = _with_affine(step, coef * weight, intercept + coef @ bias)
        merged.append(step)
    return merged


def _wide(step: Step) -> list[np.ndarray]:
    return [step.arrays[name].astype(np.float64) for name in _ARRAYS[step.kind]]


def _with_affine(step: Step, coef: np.ndarray, intercept: np.ndarray) -> Step:
    dtype = step.arrays["coef"].dtype
    arrays = {"coef": coef.astype(dtype), "intercept": intercept.astype(dtype)}
    return replace(step, arrays=arrays)


def find_hidden(steps: Sequence[Step]) -> tuple[HiddenLayer, ...]:
    """Find the hidden layers: an affine, possibly norms, then a nonlinearity.

    The last affine is the output layer, and whatever follows it belongs to the output.
    A layer without a name is called ``"hidden_0"``, ..., and the second use of one
    module gets ``"@1"`` appended.
    """
    n_uses = Counter(step.name for step in steps if step.name)
    affines = [i for i, step in enumerate(steps) if step.kind == "affine"]
    seen: Counter[str] = Counter()
    hidden: list[HiddenLayer] = []
    for i in affines[:-1]:
        at = i + 1
        while steps[at].kind in ("layer_norm", "scale"):
            at += 1
        if steps[at].kind not in ACTIVATIONS:
            continue
        name = steps[i].name or f"hidden_{len(hidden)}"
        n_before, alias = seen[name], steps[at].name
        seen[name] += 1
        hidden.append(
            HiddenLayer(
                name=f"{name}@{n_before}" if n_before else name,
                aliases=(alias,) if n_uses[alias] == 1 else (),
                stop=at + 1,
                n_units=len(steps[i].arrays["coef"]),
            )
        )
    return tuple(hidden)


def _check_step(step: Step, i: int) -> str:
    """Raise ValueError unless the step can be run; return what to call it."""
    label = f"Step {i} ({step.kind!r} {step.name!r})"
    if not isinstance(step.kind, str) or step.kind not in _SHARED.keys() | ACTIVATIONS:
        raise ValueError(f"{label} is of an unknown kind.")
    if not isinstance(step.name, str):
        raise ValueError(f"The name of {label} must be a string.")
    _check_settings(step, label)
    names = _ARRAYS.get(step.kind, ())
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
    return label


def _check_settings(step: Step, label: str) -> None:
    names = _SETTINGS.get(step.kind, ())
    if not isinstance(step.settings, dict) or set(step.settings) != set(names):
        raise ValueError(f"{label} must have the settings {list(names)}.")
    for name, value in step.settings.items():
        # A comparison, since math.isfinite overflows on the long integers of JSON.
        lowest = 0.0 if name == "eps" else -sys.float_info.max
        if type(value) not in (int, float) or not lowest <= value <= sys.float_info.max:
            raise ValueError(f"{name} of {label} must be finite, got {value!r}.")
