"""Read a torch module as a chain: its layers one by one, a custom forward by torch.fx.

``skfeat.adapters.read_chain`` holds the module in eval mode meanwhile.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from skfeat.adapters._torch_axes import axes_given
from skfeat.adapters._torch_graph import read_graph
from skfeat.adapters._torch_maps import MAP_OPS, map_step
from skfeat.adapters._torch_ops import (
    Op,
    known,
    leaves,
    module_op,
    refusal,
    uninitialised,
)
from skfeat.adapters._torch_trace import trace
from skfeat.chain import Chain, merge_scales
from skfeat.chain._shapes import MapShape, map_shape_after
from skfeat.chain._steps import Step, map_arrays, output_width
from skfeat.utils._warnings import warn


class Operations(NamedTuple):
    """What a module computes."""

    ops: list[Op]
    head_names: list[str]
    """Names of its outputs, if it has several."""
    random: list[str]
    """Classes of modules that are random though the model is in eval mode."""


def read_operations(
    root: nn.Module, input_shape: tuple[int, ...] | None = None
) -> Operations:
    """Return the operations of a module, in eval mode.

    `input_shape` is that of a sample, if the module takes maps.
    """
    # Nothing process-wide has to be patched for a Sequential, so fx is kept for custom
    # forwards.
    found = list(leaves(root))
    if not all(map(known, found)):
        axes = None if input_shape is None else axes_given(root, input_shape)
        traced = trace(root, axes)
        return Operations(*read_graph(root, traced), traced.random)
    paths = {module: path for path, module in root.named_modules()}
    return Operations([module_op(leaf, paths[leaf]) for leaf in found], [], [])


def module_chain(
    root: nn.Module,
    n_features: int | None = None,
    operations: Operations | None = None,
    shape: MapShape | None = None,
) -> Chain:
    """Return the chain of a module; `n_features` counts where its layers leave it open.

    `operations` are those that were read already, of a part of the module or with the
    axes of what it takes; `shape` is that of the maps it takes, if it takes any.

    Raises
    ------
    TypeError, ValueError
        As ``skfeat.adapters.read_chain``.
    """
    ops, head_names, random = operations or read_operations(root)
    if random:
        warn(
            f"the {' and the '.join(random)} that {type(root).__name__} makes in its "
            f"forward, or keeps in a plain list, is random even after model.eval(), "
            f"which does not reach it; the model is unwrapped as if it did. Make it in "
            f"__init__, as self.drop = nn.Dropout(...), and lists as nn.ModuleList."
        )
    builder = _Builder(root)
    width = builder.input_width(ops) if shape is None else shape.n_values
    # Without any layer no width is needed: read_chain refuses such a model.
    n_features_in = (n_features or 1) if width is None else width
    steps = builder.steps(ops, n_features if width is None else width, (), shape)
    # Rounded once, after the merging.
    dtype = np.float64 if torch.float64 in builder.dtypes else np.float32
    merged = [
        map_arrays(step, lambda array: array.astype(dtype))
        for step in merge_scales(steps)
    ]
    return Chain.from_steps(merged, n_features_in, head_names)


class _Builder:
    """Makes steps of operations, with float64 arrays, and notes the tensors' dtypes."""

    def __init__(self, root: nn.Module) -> None:
        self.dtypes: set[torch.dtype] = set()
        floats = (p.dtype for p in root.parameters() if p.is_floating_point())
        self.eps = torch.finfo(next(floats, torch.float32)).eps

    def input_width(self, ops: Sequence[Op]) -> int | None:
        """Width of the values that operations take; None where that is open."""
        for op in ops:
            if op.kind in ("chunk", "columns", "part", *MAP_OPS):
                return None
            width = op.width
            if op.branches:
                found = [self.input_width(branch) for branch in op.branches]
                width = next((width for width in found if width is not None), None)
            elif op.kind == "slice":
                width = op.settings["width"]
            elif arrays := self.arrays(op):
                width = max(array.shape[-1] for array in arrays.values())
                if op.kind == "linear":
                    width = arrays["weight"].shape[1]
                elif op.kind in ("scale", "prelu") and width == 1:
                    width = None  # a single entry is for any number of columns
            if width is not None or op.kind in ("concatenate", "mean"):
                return width
        return None

    def steps(
        self,
        ops: Sequence[Op],
        width: int | None,
        parts: Sequence[int] = (),
        shape: MapShape | None = None,
    ) -> list[Step]:
        """Make steps that take values of this width, maps of this shape if given.

        `parts` are the widths of the branches of the concatenation before, for an
        operation that takes one of these.
        """
        steps: list[Step] = []
        for op in ops:
            if op.width is not None:
                if width not in (None, op.width):
                    raise refusal(f"a reshape of {width} values a row to {op.width}")
                width = op.width
            if op.shape is not None:
                shape = MapShape.of(op.shape)
            if not op.kind:
                continue
            if op.branches:
                branches = [
                    self.steps(branch, width, parts, shape) for branch in op.branches
                ]
                step = Step(op.kind, op.name, branches=tuple(map(tuple, branches)))
                if op.kind == "concatenate":
                    n_in = _known_width(width)
                    parts = [output_width(branch, n_in) for branch in branches]
            else:
                step = self.step(op, width, parts, shape)
            if shape is not None and step.n_in not in (None, width):
                raise refusal(f"layer {op.name!r} on maps of shape {tuple(shape)}")
            steps.append(step)
            shape = map_shape_after([step], shape)
            before = step.n_in if width is None else width
            width = None if before is None else step.n_out(before)
        return steps

    def step(
        self,
        op: Op,
        width: int | None,
        parts: Sequence[int],
        shape: MapShape | None = None,
    ) -> Step:
        """Make the step of an operation without branches."""
        arrays = self.arrays(op)
        if op.kind in MAP_OPS:
            return map_step(op, shape, arrays)
        if op.kind in ("batch_norm", "prelu") and shape is not None:
            # One weight a channel, which stands for each position.
            arrays = {
                name: np.repeat(array, shape.n_positions)
                if len(array) == shape.channels
                else array
                for name, array in arrays.items()
            }
        match op.kind:
            case "linear":
                coef = arrays["weight"]
                intercept = arrays.get("bias", np.zeros(len(coef)))
                return Step("affine", op.name, {"coef": coef, "intercept": intercept})
            case "batch_norm":
                deviation = np.sqrt(arrays["running_var"] + op.settings["eps"])
                weight = arrays.get("weight", 1.0) / deviation
                bias = arrays.get("bias", 0.0) - arrays["running_mean"] * weight
                return Step("scale", op.name, {"weight": weight, "bias": bias})
            case "layer_norm" | "rms_norm":
                eps = self.eps if op.settings["eps"] is None else op.settings["eps"]
                if op.kind == "layer_norm":
                    arrays.setdefault("bias", np.zeros(len(arrays["weight"])))
                return Step(op.kind, op.name, arrays, {"eps": float(eps)})
            case "scale" | "prelu":
                n_in = _known_width(width)
                return Step(
                    op.kind,
                    op.name,
                    {
                        name: _per_column(value, n_in)
                        for name, value in (op.settings | arrays).items()
                    },
                )
            case "chunk" | "columns" | "part":
                n_in = _known_width(width)
                start, stop = _columns(op, n_in, parts)
                settings: dict[str, float]
                settings = {"width": n_in, "start": start, "stop": stop}
                return Step("slice", op.name, {}, settings)
        return Step(op.kind, op.name, {}, op.settings)

    def arrays(self, op: Op) -> dict[str, np.ndarray]:
        """Read the tensors of an operation."""
        tensors = op.tensors()
        self.dtypes |= {tensor.dtype for tensor in tensors.values()}
        return {k: _float64(v, k, op.name) for k, v in tensors.items()}


def _columns(op: Op, width: int, parts: Sequence[int]) -> tuple[int, int]:
    """Return the first column that an operation takes, and the one after its last."""
    if op.kind == "columns":
        start, stop, _ = slice(op.settings["start"], op.settings["stop"]).indices(width)
    else:
        sizes = list(parts) if op.kind == "part" else _chunk_sizes(op.settings, width)
        index = op.settings["index"]
        if index not in range(-len(sizes), len(sizes)):
            raise refusal(f"piece {index} of {width} values a row in {len(sizes)}")
        index %= len(sizes)
        start = sum(sizes[:index])
        stop = start + sizes[index]
    if not start < stop:
        raise refusal(f"columns {start} to {stop} of {width} values a row")
    return start, stop


def _chunk_sizes(settings: dict[str, Any], width: int) -> list[int]:
    """Return how torch's chunk and split share out the columns."""
    size = settings.get("size")
    if isinstance(size, list | tuple):
        if sum(size) != width:
            raise refusal(f"a split of {width} values a row into {list(size)}")
        return list(size)
    size = size or -(-width // settings["chunks"])
    return [min(size, width - start) for start in range(0, width, size)]


def _per_column(value: float | np.ndarray, width: int) -> np.ndarray:
    values = np.atleast_1d(np.asarray(value, dtype=np.float64))
    if not np.isfinite(values).all():
        raise ValueError("the model multiplies by, or adds, NaN or infinite values.")
    if len(values) not in (1, width):
        raise refusal(f"a constant of {len(values)} entries for {width} values a row")
    return np.broadcast_to(values, width).copy()


def _known_width(width: int | None) -> int:
    if width is None:
        raise ValueError(
            "the model's first operations take inputs of any width; give n_features."
        )
    return width


def _float64(tensor: torch.Tensor, what: str, name: str) -> np.ndarray:
    if nn.parameter.is_lazy(tensor):
        raise uninitialised(name)
    if tensor.is_meta:
        raise ValueError(f"layer {name!r} is on the meta device and has no values.")
    if not tensor.is_floating_point():
        raise refusal(f"layer {name!r}, whose {what} is {tensor.dtype}")
    array = tensor.detach().to("cpu", torch.float64, copy=True).numpy()
    if not np.isfinite(array).all():
        raise ValueError(f"the {what} of layer {name!r} has NaN or infinite values.")
    return array
