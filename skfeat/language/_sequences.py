"""Some of the sequences of batches, by their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from skfeat.capture._tokens import Tokens
from skfeat.utils._arrays import as_numpy

# Arguments of transformers models whose first axis counts sequences.
_BY_SEQUENCE = (
    "attention_mask",
    "decoder_attention_mask",
    "labels",
    "position_ids",
    "token_type_ids",
)


def sequences_are_first(tokens: Tokens, n_sequences: int) -> bool:
    """Whether no argument may be as long as the sequences along its first axis.

    In a batch of as many sequences as positions, a matrix of another name may be one
    of positions, such as a causal mask.
    """
    known = {stream.name for stream in tokens.streams} | set(_BY_SEQUENCE)
    return not any(
        isinstance(value, torch.Tensor)
        and tuple(value.shape[:2]) == (n_sequences, n_sequences)
        and name not in known
        for name, value in tokens.named.items()
    )


def select_sequences(batch: Any, chosen: np.ndarray, n_sequences: int) -> Any:
    """Return a batch with the chosen ones of its sequences."""

    def part(value):
        if isinstance(value, torch.Tensor | np.ndarray):
            has_sequences = value.ndim > 0 and value.shape[0] == n_sequences
            return value[chosen] if has_sequences else value
        return value

    if isinstance(batch, Mapping):
        return {name: part(value) for name, value in batch.items()}
    if isinstance(batch, tuple | list):
        return tuple(map(part, batch))
    return part(batch)


def check_sequences(sequences: Any) -> np.ndarray:
    """Return numbers of sequences as an array, or say that they must be such."""
    numbers = np.asarray(as_numpy(sequences, "sequences"))
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise ValueError(
            f"sequences must be None or a sequence of ints. Got {sequences!r} instead."
        )
    if numbers.min(initial=0) < 0:
        raise ValueError(message_of_sequences(numbers.min(), "the last one"))
    return numbers


def message_of_sequences(got: int, last: int | str) -> str:
    """Say that there is no sequence of a number."""
    return (
        f"sequences must be numbers of sequences in batches, from 0 to {last}. Got "
        f"{got} instead."
    )
