"""What the arguments of a batch hold, and why a model does not run on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from skfeat.capture._streams import (
    Stream,
    may_be_tokens,
    named_arguments,
    streams_of,
)

WEIGHTS_NOT_IN_MEMORY = (
    "model must have its weights in memory: those on the device 'meta' have no values."
)


class Tokens:
    """What the arguments of a batch hold.

    Parameters
    ----------
    model : torch.nn.Module
    args, kwargs : tuple, dict
        The arguments of the model for this batch.
    number : int
        Number of the batch, for messages.

    Attributes
    ----------
    streams : list of Stream
        The arguments that hold sequences.

    Raises
    ------
    ValueError
        If a mask is not valid, or the batch continues an earlier one.
    """

    def __init__(self, model: nn.Module, args: tuple, kwargs: dict, number: int):
        self.number = number
        self.named = named_arguments(model, args, kwargs)
        if self.named.get("past_key_values") is not None:
            raise ValueError(
                f"batch {number} must hold whole sequences, whose positions count from "
                "their beginning, and no past_key_values."
            )
        self.streams = streams_of(self.named, number)

    @property
    def ids(self) -> np.ndarray | None:
        """The tokens passed first, None if the batch has none."""
        found = (stream.ids for stream in self.streams if stream.ids is not None)
        return next(found, None)

    def stream(self, name: Any) -> Stream:
        """Return the stream of this name."""
        return next(stream for stream in self.streams if stream.name == name)

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
        if isinstance(ids, torch.Tensor) and not (may_be_tokens(ids) and ids.numel()):
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


# Returns what takes the place of an argument of a batch that holds these tokens.
Edit = Callable[[Any, Tokens], Any]


def _vocabulary_size(model: nn.Module) -> int | None:
    """Return the number of tokens of a transformers model, None for another model."""
    try:
        return len(model.get_input_embeddings().weight)  # type: ignore[operator]
    except (AttributeError, NotImplementedError, TypeError):
        return None
