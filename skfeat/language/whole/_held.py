"""Running a model with its attention patterns and normalisation held.

With these held, and with the features that are active, what a replaced model computes
is linear in its features, so that gradients are exact: each says what a feature adds.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_PATTERNS = {torch.softmax, torch.Tensor.softmax, functional.softmax}
_SCALES = {torch.rsqrt, torch.Tensor.rsqrt}


class Held(TorchFunctionMode):
    """Hold attention patterns and the scales of normalisation within the context.

    They keep the values that the run itself gives them, but no gradient flows through
    them. The first embedding of the tokens becomes a leaf, whose gradient is kept.

    Parameters
    ----------
    ids : Tensor of shape (n_sequences, length)

    Attributes
    ----------
    embedding : Tensor of shape (n_sequences, length, d) or None
        What the model embeds the tokens as.
    """

    def __init__(self, ids: torch.Tensor):
        super().__init__()
        self.ids = ids
        self.embedding: torch.Tensor | None = None

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Call a function of torch, or what holds its scale or its pattern."""
        kwargs = kwargs or {}
        if func in _PATTERNS or func in _SCALES:
            return func(*args, **kwargs).detach()
        if func is functional.scaled_dot_product_attention:
            held = [one.detach() for one in args[:2]]
            named = {
                name: one.detach() if name in ("query", "key") else one
                for name, one in kwargs.items()
            }
            return func(*held, *args[2:], **named)
        if func is functional.layer_norm:
            return _held_layer_norm(*args, **kwargs)
        if func is getattr(functional, "rms_norm", None):
            return _held_rms_norm(*args, **kwargs)
        if func is functional.embedding and self.embedding is None:
            return self._embed(func, args, kwargs)
        return func(*args, **kwargs)

    def _embed(self, func, args, kwargs) -> Any:
        embedded = func(*args, **kwargs)
        given = args[0] if args else kwargs["input"]
        if given.shape != self.ids.shape or not torch.equal(given, self.ids):
            return embedded
        self.embedding = embedded.detach().requires_grad_()
        return self.embedding


def _held_layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    axes = tuple(range(-len(normalized_shape), 0))
    centred = input - input.mean(axes, keepdim=True)
    scale = (centred.square().mean(axes, keepdim=True) + eps).rsqrt().detach()
    return _affine(centred * scale, weight, bias)


def _held_rms_norm(input, normalized_shape, weight=None, eps=None):
    axes = tuple(range(-len(normalized_shape), 0))
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    scale = (input.square().mean(axes, keepdim=True) + eps).rsqrt().detach()
    return _affine(input * scale, weight, None)


def _affine(rows, weight, bias):
    rows = rows if weight is None else rows * weight
    return rows if bias is None else rows + bias
