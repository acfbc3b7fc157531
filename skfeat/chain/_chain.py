"""A trained network as a chain of steps held in NumPy arrays.

A :class:`Chain` runs from any step to any step without torch, and differentiably in
torch, which is imported only then. ``skfeat.adapters.read_chain`` makes one.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from skfeat.chain import _steps
from skfeat.chain._kinds import Window
from skfeat.chain._shapes import MapShape, map_shape_after
from skfeat.chain._steps import (
    ACTIVATIONS,
    DEEPEST,
    JOINS,
    NORMS,
    Step,
    arrays_of,
    check_head_names,
    check_steps,
    check_widths,
    input_width,
    map_arrays,
    output_width,
    run_numpy,
    walk,
)
from skfeat.utils._checks import check_int

if TYPE_CHECKING:
    import torch

__all__ = ["ACTIVATIONS", "JOINS", "Chain", "Head", "HiddenLayer", "Step"]


WHY_NOT_INNER = (
    "a layer can be unwrapped only if everything after it depends on the input through "
    "it alone, as through the sum at the end of a residual block, but not through a "
    "layer inside the block or inside one of several heads"
)
"""The part of a message about a layer that is no hidden layer of the chain."""


@dataclass(frozen=True)
class HiddenLayer:
    """One hidden layer of a chain: ``steps[:stop]`` computes its activations.

    Everything after it depends on the input through these activations alone.
    """

    name: str
    """Path in the user's model: of the layer's affine module, or of the block whose
    branches join there."""
    aliases: tuple[str, ...]
    """Its other names: the path of its activation module, when that is used once."""
    stop: int
    n_units: int
    """Units, of a map its channels."""
    map_shape: MapShape | None = None
    """Of a layer that is a map over several positions; None: it is rows."""


@dataclass(frozen=True)
class Head:
    """One of several outputs of a model: columns `start` to `stop` of the chain's."""

    name: str
    """Its key or its position in what the model returns."""
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Chain:
    """A network whose every step takes exactly the previous one's result.

    A step may hand that to several branches and join what they return, as a residual
    block does. Make a chain by :meth:`from_steps`, which checks the steps and finds
    the hidden layers.
    """

    steps: tuple[Step, ...]
    hidden: tuple[HiddenLayer, ...]
    n_features_in: int
    n_outputs: int
    heads: tuple[Head, ...] = ()
    """The outputs of a model that returns more than one; empty for a single one."""

    @classmethod
    def from_steps(
        cls,
        steps: Sequence[Step],
        n_features_in: int | None = None,
        head_names: Sequence[str] = (),
    ) -> "Chain":
        """Make a chain, or raise ValueError saying which step is malformed.

        `n_features_in` is needed only where no step has a width of its own.
        `head_names` are those of the branches of the last step, which must concatenate
        them.
        """
        steps = check_steps(steps)
        if n_features_in is not None:
            n_features_in = check_int("n_features_in", n_features_in, 1)
        else:
            n_features_in = input_width(steps)
        if n_features_in is None:
            raise ValueError("n_features_in is needed where no step has a width.")
        n_outputs = check_widths(steps, n_features_in)
        heads: tuple[Head, ...] = ()
        check_head_names(steps, head_names)
        if head_names:
            n_in = output_width(steps[:-1], n_features_in)
            widths = [output_width(branch, n_in) for branch in steps[-1].branches]
            stops = np.cumsum(widths).tolist()
            heads = tuple(map(Head, head_names, [0, *stops], stops))
        hidden = find_hidden(steps, n_features_in)
        return cls(tuple(steps), hidden, n_features_in, n_outputs, heads)

    @property
    def dtype(self) -> np.dtype:
        """Float64 if any step's arrays are, else float32: what X is cast to."""
        arrays = [array for step in walk(self.steps) for array in step.arrays.values()]
        return np.result_type(np.float32, *arrays)

    @property
    def inner_names(self) -> list[str]:
        """Names of the modules inside branches, where `WHY_NOT_INNER` applies."""
        branches = [branch for step in self.steps for branch in step.branches]
        names = [step.name for branch in branches for step in walk(branch)]
        return list(dict.fromkeys(name for name in names if name))

    def width_at(self, position: int) -> int:
        """Width of the values that ``steps[:position]`` computes."""
        return output_width(self.steps[:position], self.n_features_in)

    @property
    def has_maps(self) -> bool:
        """Whether a hidden layer is a map over several positions."""
        return any(layer.map_shape is not None for layer in self.hidden)

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
        if X.dtype not in (np.float32, np.float64):
            X = X.astype(np.float64)
        return run_numpy(self.steps[start:stop], X)

    def astype(self, dtype: np.dtype) -> "Chain":
        """Return the chain with arrays of this dtype, or itself if it has them."""
        arrays = [array for step in walk(self.steps) for array in step.arrays.values()]
        if all(array.dtype == dtype for array in arrays):
            return self
        steps = [
            map_arrays(step, lambda array: array.astype(dtype)) for step in self.steps
        ]
        return replace(self, steps=tuple(steps))

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
        return _steps.torch_function(self.steps[start:stop], dtype, device)

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

        An affine costs n_out * n_in, a scale or norm one a unit (its weight and bias),
        an activation none, a join what its branches cost.
        """
        return _steps.n_multiply_adds(self.steps[start:stop])

    def n_weights(self, start: int = 0, stop: int | None = None) -> int:
        """Count the nonzero weights of ``steps[start:stop]``.

        Those that a value is multiplied by: of an affine its matrix, of a scale or norm
        its vector. What is added, and the slopes of activations, are not among them.
        """
        return _steps.n_weights(self.steps[start:stop])

    def to_arrays(self) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
        """Return the arrays by name (for npz) and a list of dicts (for JSON).

        The list holds the input's width, then one dict a step. The names of the heads
        are left out.
        """
        arrays: dict[str, np.ndarray] = {}
        spec: list[dict[str, Any]] = [{"n_features_in": self.n_features_in}]
        return arrays, spec + _written(self.steps, "", arrays)

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
        expected: set[str] = set()
        steps = _read(spec[1:], "", arrays, expected)
        if unknown := set(arrays) - expected:
            raise ValueError(f"No step takes the arrays {sorted(map(str, unknown))}.")
        return cls.from_steps(steps, width)


def _written(
    steps: Sequence[Step], path: str, arrays: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    """Describe steps, and put their arrays among `arrays`, named "0.coef" and so on."""
    spec = []
    for i, step in enumerate(steps):
        arrays |= {f"{path}{i}.{name}": array for name, array in step.arrays.items()}
        entry: dict[str, Any] = {
            "kind": step.kind,
            "name": step.name,
            "settings": dict(step.settings),
        }
        if step.branches:
            entry["branches"] = [
                _written(branch, f"{path}{i}.{j}.", arrays)
                for j, branch in enumerate(step.branches)
            ]
        spec.append(entry)
    return spec


def _read(
    spec: Any, path: str, arrays: Mapping[str, np.ndarray], expected: set[str]
) -> tuple[Step, ...]:
    """Undo :func:`_written`, and note the names of the arrays that steps should have.

    The checks of the steps themselves are left to :meth:`Chain.from_steps`.
    """
    if not isinstance(spec, list) or path.count(".") > 2 * DEEPEST:
        raise ValueError(f"The branches of step {path} must be few lists of steps.")
    steps = []
    for i, entry in enumerate(spec):
        plain = {"kind", "name", "settings"}
        if not isinstance(entry, dict) or entry.keys() - {"branches"} != plain:
            raise ValueError(f"Step {path}{i} must have a kind, a name and settings.")
        kind, branches = entry["kind"], entry.get("branches", [])
        keys = {name: f"{path}{i}.{name}" for name in arrays_of(kind)}
        expected |= set(keys.values())
        if not isinstance(branches, list):
            raise ValueError(f"The branches of step {path}{i} must be a list.")
        steps.append(
            Step(
                kind,
                entry["name"],
                {name: arrays[key] for name, key in keys.items() if key in arrays},
                entry["settings"],
                tuple(
                    _read(branch, f"{path}{i}.{j}.", arrays, expected)
                    for j, branch in enumerate(branches)
                ),
            )
        )
    return tuple(steps)


def merge_scales(steps: Sequence[Step]) -> list[Step]:
    """Merge each scale into the affine directly before it, else directly after it.

    So it is with a convolution before it, if its maps are scaled channel by channel.

    A scale without an affine beside it stays. The arithmetic is done in float64, its
    result has the affine's dtype. Two consecutive affines are not merged: that would
    change their rank and cost.
    """
    merged: list[Step] = []
    for step in steps:
        if step.branches:
            branches = tuple(tuple(merge_scales(branch)) for branch in step.branches)
            step = replace(step, branches=branches)
        if step.kind == "scale" and merged and merged[-1].kind in ("affine", "conv"):
            coef, intercept = _wide(merged[-1])
            weight, bias = _wide(step)
            if merged[-1].kind == "conv":
                if not all(_is_by_channel(part, len(coef)) for part in (weight, bias)):
                    merged.append(step)
                    continue
                weight, bias = (
                    part.reshape(len(coef), -1)[:, 0] for part in (weight, bias)
                )
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


def _is_by_channel(values: np.ndarray, n_channels: int) -> bool:
    """Whether the values of a map are the same at all positions of a channel."""
    of_channel = values.reshape(n_channels, -1)
    return bool((of_channel == of_channel[:, :1]).all())


def _wide(step: Step) -> list[np.ndarray]:
    return [step.arrays[name].astype(np.float64) for name in arrays_of(step.kind)]


def _with_affine(step: Step, coef: np.ndarray, intercept: np.ndarray) -> Step:
    dtype = step.arrays["coef"].dtype
    arrays = {"coef": coef.astype(dtype), "intercept": intercept.astype(dtype)}
    return replace(step, arrays=arrays)


def find_hidden(
    steps: Sequence[Step], n_features_in: int | None = None
) -> tuple[HiddenLayer, ...]:
    """Find the hidden layers: where an affine or a block of branches is complete.

    An affine, or a convolution, is complete after its nonlinearity, if that comes
    before the next one, and after the pooling that follows, unless a single position is
    left by it; one without is no layer. A block (a join with an affine in a branch) is
    complete after its nonlinearity too, or else after the norms behind it. The last
    affine or block is the output layer, and whatever follows it belongs to the output.
    Inside a block are no hidden layers: the other branches pass them by.

    A layer without a name is called ``"hidden_0"``, ..., and the second use of one
    module gets ``"@1"`` appended.
    """
    n_uses = Counter(step.name for step in walk(steps) if step.name)
    weighted = [i for i, step in enumerate(steps) if step.is_weighted]
    width = input_width(steps) if n_features_in is None else n_features_in
    seen: Counter[str] = Counter()
    hidden: list[HiddenLayer] = []
    for i, end in pairwise(weighted):
        own = range(i + 1, end)
        # A norm written by hand is nonlinear, but an activation behind it counts more.
        found = [at for at in own if steps[at].kind in ACTIVATIONS]
        found = found or [at for at in own if not _is_norm(steps[at])]
        if not found and steps[i].kind not in JOINS:
            continue
        at = found[0] + 1 if found else end
        last = at
        at = _after_pooling(steps, at, end)
        name = steps[i].name or f"hidden_{len(hidden)}"
        n_before, alias = seen[name], steps[last - 1].name
        seen[name] += 1
        n_units = output_width(steps[:at], width or 0)
        shape = map_shape_after(steps[:at], None)
        if shape is not None:
            n_units //= shape.n_positions
            shape = shape if shape.n_positions > 1 else None
        hidden.append(
            HiddenLayer(
                name=f"{name}@{n_before}" if n_before else name,
                aliases=(alias,) if last > i + 1 and n_uses[alias] == 1 else (),
                stop=at,
                n_units=n_units,
                map_shape=shape,
            )
        )
    return tuple(hidden)


def _after_pooling(steps: Sequence[Step], at: int, end: int) -> int:
    """Return where the pooling ends that follows a layer of maps."""
    for position in range(at, end):
        step = steps[position]
        if step.kind not in ("max_pool", "mean_pool", "identity"):
            break
        if step.kind != "identity":
            # What pools to one position is better read by what follows: connectors can
            # then average features, in place of reading each position.
            if Window.of(step.settings).out_size == (1, 1):
                break
            at = position + 1
    return at


def _is_norm(step: Step) -> bool:
    """Whether a step is a norm, as a norm of each group of columns is too."""
    inner = [step for branch in step.branches for step in branch]
    if step.kind in JOINS and step.kind != "multiply":
        return all(map(_is_norm, inner))
    return step.kind in NORMS or step.kind in ("slice", "mean")
