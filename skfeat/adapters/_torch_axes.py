"""Modules that give values other axes, found by running them on numbered entries.

Such are the layers of einops, and whatever adds or drops axes of one: what they do to
axes cannot be followed without knowing how many there are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from skfeat.adapters._torch_ops import known
from skfeat.adapters._torch_restore import (
    kept_attributes,
    kept_random_state,
    kept_tensors,
)

# Modules, with the shape of a sample after each; None if values change their order.
Axes = dict[nn.Module, tuple[int, ...] | None]

# Samples that the model is run on: two, which no axis of one can be taken for.
_SAMPLES = 2


def axes_given(root: nn.Module, input_shape: tuple[int, ...]) -> Axes:
    """Return the modules without weights that leave values what they are.

    Parameters
    ----------
    root : nn.Module
        In eval mode; left as it was.
    input_shape : tuple of int
        That of a sample.

    Returns
    -------
    Axes
        Empty where the model cannot be run.
    """
    found: dict[nn.Module, set[tuple[int, ...] | None]] = {}

    def note(module: nn.Module, arguments: tuple, output: Any) -> None:
        found.setdefault(module, set()).add(_shape_after(module, arguments, output))

    floats = (p for p in root.parameters() if p.is_floating_point())
    like = next(floats, torch.empty(0))
    hooks = []
    with (
        kept_random_state(),
        kept_attributes(root),
        kept_tensors(root),
        torch.no_grad(),
    ):
        try:
            hooks += [
                module.register_forward_hook(note)
                for module in root.modules()
                if module is not root and _may_give_axes(module)
            ]
            if hooks:
                root(like.new_zeros((_SAMPLES, *input_shape)))
        except Exception:  # following the forward will say what is wrong
            return {}
        finally:
            for hook in hooks:
                hook.remove()
    return {
        module: shapes.pop()
        for module, shapes in found.items()
        if len(shapes) == 1 and () not in shapes
    }


def _may_give_axes(module: nn.Module) -> bool:
    has_state = any(True for _ in (*module.parameters(), *module.buffers()))
    is_of_torch = type(module).__module__.startswith("torch.")
    return not (has_state or is_of_torch or known(module))


def _shape_after(
    module: nn.Module, arguments: tuple, output: Any
) -> tuple[int, ...] | None:
    """Return the shape of a sample after a module; () if it does more than that.

    None if values are what they were, in another order.
    """
    if len(arguments) != 1 or not isinstance(arguments[0], torch.Tensor):
        return ()
    given = arguments[0]
    if not isinstance(output, torch.Tensor) or output.numel() != given.numel():
        return ()
    # Of both signs, no integers and in no order: rectifying, rounding or sorting them
    # changes them.
    numbered = torch.linspace(-9.7, 11.3, given.numel())
    order = torch.randperm(len(numbered), generator=torch.Generator().manual_seed(0))
    numbered = numbered[order].to(given)
    moved = module.forward(numbered.reshape(given.shape))
    shape, moved = tuple(moved.shape), moved.reshape(-1)
    if not torch.equal(moved.sort().values, numbered.sort().values):
        return ()
    if shape[0] != _SAMPLES or not 2 <= len(shape) <= 4:
        return None
    return shape[1:] if torch.equal(moved, numbered) else None
