"""Token ids and attention masks of batches, and their errors."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from torch import nn

WEIGHTS_NOT_IN_MEMORY = (
    "model must have its weights in memory: those on the device 'meta' have no values."
)


class Tokens:
    """Token ids and attention mask of a batch, None where it has none.

    Parameters
    ----------
    model : torch.nn.Module
    args, kwargs : tuple, dict
        The arguments of the model for this batch.
    number : int
        Number of the batch, for messages.
    """

    def __init__(self, model: nn.Module, args: tuple, kwargs: dict, number: int):
        self.number = number
        self.named = named = _named_arguments(model, args, kwargs)
        ids, self.ids_are_certain = named.get("input_ids"), True
        mask = named.get("attention_mask")
        if not isinstance(ids, torch.Tensor):
            first = next(iter(named.values()), None)
            ids = first if _may_be_tokens(first) else None
            # A table of whole numbers looks the same: the shape of the modules' rows
            # decides, in `shape_of_rows`.
            self.ids_are_certain = isinstance(mask, torch.Tensor)
        self.ids = None if ids is None else ids.cpu().numpy()
        self.mask = None
        if isinstance(mask, torch.Tensor):
            self.mask = self._checked_mask(mask.detach().cpu().double().numpy())

    def _checked_mask(self, mask: np.ndarray) -> np.ndarray:
        if mask.ndim != 2 or (self.ids is not None and self.ids.shape != mask.shape):
            raise ValueError(
                f"attention_mask of batch {self.number} must have the shape of "
                f"input_ids, (n_sequences, length). Got {mask.shape} instead."
            )
        if not np.isin(mask, (0, 1)).all():
            got = np.unique(mask)[:5].tolist()
            raise ValueError(
                f"attention_mask of batch {self.number} must be 1 at tokens and 0 at "
                f"padding. Got {got} in it instead."
            )
        return mask != 0

    def shape_of_rows(self, tensors: dict[str, torch.Tensor]) -> tuple[int, ...]:
        """Return the shape (n,) or (n_sequences, length) of the rows of all modules.

        Parameters
        ----------
        tensors : dict of str to Tensor
            The captured tensor of each module.

        Raises
        ------
        ValueError
            If the rows of a module have another shape.
        """
        shapes = {name: tuple(tensor.shape[:-1]) for name, tensor in tensors.items()}
        shape = next(iter(shapes.values()))
        tokens = self.ids if self.ids is not None else self.mask
        if tokens is not None and (self.ids_are_certain or shape != tokens.shape[:1]):
            shape = tokens.shape
        else:
            self.ids = None
        # Experts take the tokens of all sequences as one list of rows.
        allowed = (shape, (int(np.prod(shape)),))
        for name, own in shapes.items():
            if len(shape) > 2 or own not in allowed:
                raise ValueError(
                    f"module {name!r} gives rows of shape {own} for batch "
                    f"{self.number}, which must be (n,) or (n_sequences, length)"
                    + (f" = {shape}." if len(shape) < 3 else ".")
                )
        return shape

    def message_of_failed_run(self, model: nn.Module, error: Exception) -> str:
        """Return why a model does not run on this batch, as one sentence."""
        given = ", ".join(
            f"{name}: {value.dtype} of shape {tuple(value.shape)}"
            for name, value in self.named.items()
            if isinstance(value, torch.Tensor)
        )
        weights = list(model.parameters())
        if weights and all(weight.is_meta for weight in weights):
            return WEIGHTS_NOT_IN_MEMORY
        ids = self.named.get("input_ids")
        if isinstance(ids, torch.Tensor) and not (_may_be_tokens(ids) and ids.numel()):
            return (
                f"input_ids of batch {self.number} must be whole numbers, int64 or "
                "int32, of shape (n_sequences, length), at least (1, 1). Got "
                f"{ids.dtype} of shape {tuple(ids.shape)} instead."
            )
        size = _vocabulary_size(model)
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


def _vocabulary_size(model: nn.Module) -> int | None:
    """Return the number of tokens of a transformers model, None for another model."""
    try:
        return len(model.get_input_embeddings().weight)  # type: ignore[operator]
    except (AttributeError, NotImplementedError, TypeError):
        return None


def _may_be_tokens(value: Any) -> bool:
    return (
        isinstance(value, torch.Tensor)
        and value.dtype in (torch.int64, torch.int32)
        and value.ndim == 2
    )


def _named_arguments(model: nn.Module, args: tuple, kwargs: dict) -> dict:
    try:
        bound = inspect.signature(model.forward).bind(*args, **kwargs)
    except (TypeError, ValueError):  # the call itself raises a better error
        return {**dict(enumerate(args)), **kwargs}
    return {**bound.arguments, **kwargs}
