"""Running a model with hooks, and finding tensors in what modules take and return."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from skfeat.adapters import frozen_model


def run_hooked(
    model: nn.Module, hooks: Iterable[tuple[str, str, Any]], args: tuple, kwargs: dict
) -> Any:
    """Run a model in evaluation mode, with hooks that are removed after the call.

    Parameters
    ----------
    model : torch.nn.Module
        Restored to its original state, also after an error.
    hooks : iterable of (str, "input" or "output", callable)
        The name of a module, the side to hook, and a hook that takes keyword arguments.
    args, kwargs : tuple, dict
        The arguments of the model.

    Returns
    -------
    object
        What the model returns.
    """
    named = dict(model.named_modules(remove_duplicate=False))
    with frozen_model(model), torch.no_grad(), ExitStack() as removing:
        for name, side, hook in hooks:
            module = named[name]
            register = (
                module.register_forward_hook
                if side == "output"
                else module.register_forward_pre_hook
            )
            removing.callback(register(hook, with_kwargs=True).remove)
        return model(*args, **kwargs)


def find_tensor(
    value: Any, index: int | None
) -> tuple[torch.Tensor | None, PackedSequence | None]:
    """Find the tensor in a module's output or inputs, and what it is packed in."""
    if isinstance(value, torch.Tensor):
        return (value if index in (None, 0) else None), None
    if isinstance(value, PackedSequence):
        return (value.data, value) if index in (None, 0) else (None, None)
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if not isinstance(value, tuple | list):
        return None, None
    if index is not None:
        return find_tensor(value[index], None) if index < len(value) else (None, None)
    found = (find_tensor(entry, None) for entry in value)
    return next((one for one in found if one[0] is not None), (None, None))


def tensor_of(value: Any, index: int | None) -> torch.Tensor | None:
    """Find the tensor in a module's output or inputs; return None if it has none."""
    return find_tensor(value, index)[0]


def put_tensor(output: Any, old: torch.Tensor, new: torch.Tensor) -> Any:
    """Return a module's output with the tensor `new` in place of `old`."""
    if output is old:
        return new
    if isinstance(output, Mapping):
        changed = {key: put_tensor(value, old, new) for key, value in output.items()}
        return type(output)(**changed)
    if isinstance(output, tuple | list):
        values = [put_tensor(value, old, new) for value in output]
        is_namedtuple = hasattr(output, "_fields")
        return type(output)(*values) if is_namedtuple else type(output)(values)
    return output


def logits_of(output: Any, ids: np.ndarray, number: int) -> torch.Tensor:
    """Find the logits in what a model returns for the `number`-th batch.

    Raises
    ------
    ValueError
        If the model returns no logits of shape (n_sequences, length, n_tokens) for the
        tokens `ids` of shape (n_sequences, length), or none for a token that occurs.
    """
    shape = ids.shape
    logits = getattr(output, "logits", None)
    if logits is None and isinstance(output, Mapping):
        logits = output.get("logits")
    if logits is None:
        logits = tensor_of(output, None)
    if not isinstance(logits, torch.Tensor) or logits.shape[:-1] != shape:
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(output)
        raise ValueError(
            f"model must return logits of shape {(*shape, 'vocabulary')} for batch "
            f"{number}, as a tensor or as .logits. Got {got} instead."
        )
    if ids.max(initial=0) >= logits.shape[-1]:
        raise ValueError(
            f"model returns logits of {logits.shape[-1]} tokens, but batch {number} "
            f"holds token {ids.max()}: pass the whole language model, not a part of it."
        )
    return logits
