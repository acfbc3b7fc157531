"""Token ids and attention masks of batches, and what is wrong with them."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch

NOWHERE = (
    "model must have its weights in memory: those on the device 'meta' have no values."
)


class Tokens:
    """Token ids and attention mask of a batch, where it has them."""

    def __init__(self, model, args, kwargs, number):
        self.number = number
        self.named = named = _named_arguments(model, args, kwargs)
        ids, self.certain = named.get("input_ids"), True
        mask = named.get("attention_mask")
        if not isinstance(ids, torch.Tensor):
            first = next(iter(named.values()), None)
            ids = first if _may_be_tokens(first) else None
            # Whole numbers may be columns of a table, too: the modules will tell.
            self.certain = isinstance(mask, torch.Tensor)
        self.ids = None if ids is None else ids.cpu().numpy()
        self.mask = None
        if isinstance(mask, torch.Tensor):
            held = mask.detach().cpu().double().numpy()
            self.mask = held != 0
        if self.mask is not None and (
            self.mask.ndim != 2
            or (self.ids is not None and self.ids.shape != self.mask.shape)
        ):
            raise ValueError(
                f"attention_mask of batch {number} must have the shape of input_ids, "
                f"(n_sequences, length). Got {self.mask.shape} instead."
            )
        if self.mask is not None and not np.isin(held, (0, 1)).all():
            got = np.unique(held)[:5].tolist()
            raise ValueError(
                f"attention_mask of batch {number} must hold 0 and 1, one for every "
                f"token that is none of the padding. Got {got} in it instead."
            )

    def shape_of_rows(self, found: dict[str, torch.Tensor]) -> tuple[int, ...]:
        """Return (n,) or (n_sequences, length), to which all modules must keep."""
        shapes = {name: tuple(tensor.shape[:-1]) for name, tensor in found.items()}
        shape = next(iter(shapes.values()))
        tokens = self.ids if self.ids is not None else self.mask
        if tokens is not None and (self.certain or shape != tokens.shape[:1]):
            shape = tokens.shape
        else:
            self.ids = None
        # Experts see the tokens of all sequences in one row of rows.
        allowed = (shape, (int(np.prod(shape)),))
        for name, own in shapes.items():
            if len(shape) > 2 or own not in allowed:
                raise ValueError(
                    f"module {name!r} gives rows of shape {own} for batch "
                    f"{self.number}, which must be (n,) or (n_sequences, length)"
                    + (f" = {shape}." if len(shape) < 3 else ".")
                )
        return shape

    def refused(self, model, error) -> str:
        """Say that a model does not run on this batch, and what is odd about it."""
        given = ", ".join(
            f"{name}: {value.dtype} of shape {tuple(value.shape)}"
            for name, value in self.named.items()
            if isinstance(value, torch.Tensor)
        )
        weights = list(model.parameters())
        if weights and all(weight.is_meta for weight in weights):
            return NOWHERE
        ids = self.named.get("input_ids")
        if isinstance(ids, torch.Tensor) and not (_may_be_tokens(ids) and ids.numel()):
            return (
                f"input_ids of batch {self.number} must be whole numbers, int64 or "
                "int32, of shape (n_sequences, length), at least (1, 1). Got "
                f"{ids.dtype} of shape {tuple(ids.shape)} instead."
            )
        size = _vocabulary(model)
        if self.ids is not None and self.ids.size and size is not None:
            low, high = int(self.ids.min()), int(self.ids.max())
            if low < 0 or high >= size:
                return (
                    f"token ids of batch {self.number} must be from 0 to {size - 1}, "
                    f"the vocabulary of the model. Got {low if low < 0 else high} "
                    "instead."
                )
        reason = str(error).strip().splitlines() or [type(error).__name__]
        return (
            f"model does not run on batch {self.number} ({given}): "
            f"{reason[0].rstrip('.')}."
        )


def _vocabulary(model) -> int | None:
    """Return how many tokens a model of transformers knows."""
    try:
        return len(model.get_input_embeddings().weight)
    except (AttributeError, NotImplementedError, TypeError):
        return None


def _may_be_tokens(value: Any) -> bool:
    return (
        isinstance(value, torch.Tensor)
        and value.dtype in (torch.int64, torch.int32)
        and value.ndim == 2
    )


def _named_arguments(model, args, kwargs) -> dict:
    try:
        bound = inspect.signature(model.forward).bind(*args, **kwargs)
    except (TypeError, ValueError):  # the call itself will say what is wrong
        return {**dict(enumerate(args)), **kwargs}
    return {**bound.arguments, **kwargs}
