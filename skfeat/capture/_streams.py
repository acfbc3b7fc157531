"""The arguments of a model that hold sequences, such as tokens, frames or images."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from skfeat.capture._config import is_encoder_decoder

# Arguments that say something about sequences, but hold none.
_ABOUT_SEQUENCES = re.compile(
    "mask|label|type|segment|position|length|cache|past|bias|lang|size|grid|thw"
)
_MASK_OF = {
    "decoder_input_ids": "decoder_attention_mask",
    "decoder_inputs_embeds": "decoder_attention_mask",
    "encoder_hidden_states": "encoder_attention_mask",
}


@dataclass(eq=False)
class Stream:
    """Sequences that one argument of a model holds.

    Parameters
    ----------
    name : str or int
        The argument.
    values : Tensor of shape (n_sequences, ...)
    ids : ndarray of int, shape (n_sequences, length), or None
        The tokens.
    is_text : bool
        Whether `ids` are certainly tokens: a table of whole numbers looks the same.
    mask : ndarray of bool or None
        False at padding, in the shape that the argument for it has.
    """

    name: Any
    values: torch.Tensor
    ids: np.ndarray | None = None
    is_text: bool = False
    mask: np.ndarray | None = None

    @property
    def n_sequences(self) -> int:
        """Number of sequences."""
        return self.values.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (n_sequences, length), or (n_sequences,) if positions are not known."""
        is_rows = self.values.ndim == 3 and self.values.is_floating_point()
        has_positions = self.ids is not None or is_rows
        return tuple(self.values.shape[: 2 if has_positions else 1])

    @property
    def is_decoded(self) -> bool:
        """Whether a decoder reads them, next to an encoder."""
        return str(self.name).startswith("decoder_")

    def __str__(self) -> str:
        is_name = isinstance(self.name, str)
        return repr(self.name) if is_name else f"argument {self.name}"


def streams_of(named: dict[Any, Any], number: int) -> list[Stream]:
    """Find the sequences among the arguments of a model, those passed first first.

    Parameters
    ----------
    named : dict
        The arguments by name, or by number where they have none.
    number : int
        Number of the batch, for messages.

    Raises
    ------
    ValueError
        If an attention mask has another shape than its tokens, or other values than 0
        and 1.
    """
    streams = []
    for name, value in named.items():
        about = isinstance(name, str) and _ABOUT_SEQUENCES.search(name)
        if not isinstance(value, torch.Tensor) or value.ndim == 0 or about:
            continue
        if name == "input_ids" or may_be_tokens(value):
            is_text = name in ("input_ids", "decoder_input_ids")
            # A copy, as a model may write to its arguments.
            ids = value.detach().cpu().numpy().copy()
            streams.append(Stream(name, value, ids, is_text))
        elif not streams or (value.ndim > 1 and value.is_floating_point()):
            streams.append(Stream(name, value))
    _add_masks(streams, named, number)
    return streams


def _add_masks(streams: list[Stream], named: dict[Any, Any], number: int) -> None:
    taken = set(_MASK_OF) & {stream.name for stream in streams}
    # The attention mask belongs to the tokens, or else to what is passed first.
    others = [stream for stream in streams if stream.name not in taken]
    others.sort(key=lambda stream: stream.name != "input_ids")
    owners = {stream.name: stream for stream in streams}
    pairs = [(owners[name], _MASK_OF[name]) for name in taken]
    pairs += [(stream, "attention_mask") for stream in others[:1]]
    for stream, name in pairs:
        mask = named.get(name)
        if not isinstance(mask, torch.Tensor):
            continue
        values = mask.detach().cpu().double().numpy()
        if values.ndim != 2 or (
            stream.ids is not None and values.shape != stream.shape
        ):
            of = stream.name if isinstance(stream.name, str) else "the tokens"
            raise ValueError(
                f"{name} of batch {number} must have the shape of {of}, "
                f"(n_sequences, length). Got {values.shape} instead."
            )
        if not np.isin(values, (0, 1)).all():
            raise ValueError(
                f"{name} of batch {number} must be 1 at tokens and 0 at padding. Got "
                f"{np.unique(values)[:5].tolist()} in it instead."
            )
        stream.mask = values != 0
        stream.is_text = stream.ids is not None


def may_be_tokens(value: Any) -> bool:
    """Whether a value is a tensor of whole numbers of two dimensions."""
    return (
        isinstance(value, torch.Tensor)
        and value.dtype in (torch.int64, torch.int32)
        and value.ndim == 2
    )


def named_arguments(model: nn.Module, args: tuple, kwargs: dict) -> dict[Any, Any]:
    """Return the arguments of a model by name, by number where they have none."""
    try:
        signature = inspect.signature(model.forward)
        bound = signature.bind(*args, **kwargs).arguments
    except (TypeError, ValueError):  # the call itself raises a better error
        return {**dict(enumerate(args)), **kwargs}
    named: dict[Any, Any] = {}
    for name, value in bound.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            named |= dict(enumerate(value, start=len(named)))
        elif kind is not inspect.Parameter.VAR_KEYWORD:
            named[name] = value
    return {**named, **kwargs}


def with_decoder_tokens(model: nn.Module, args: tuple, kwargs: dict) -> dict[str, Any]:
    """Return named arguments with the tokens that a decoder would make of labels."""
    named = named_arguments(model, args, kwargs)
    labels = named.get("labels")
    shift = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if (
        is_encoder_decoder(model)
        and may_be_tokens(labels)
        and shift is not None
        and named.get("decoder_inputs_embeds") is None
        and named.get("decoder_input_ids") is None
        and ("decoder_input_ids" in kwargs or "decoder_input_ids" not in named)
    ):
        return {**kwargs, "decoder_input_ids": shift(labels)}
    return kwargs
