"""Checks of the options of captures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
from torch import nn

from skfeat.capture._config import special_tokens_of
from skfeat.utils._checks import is_int, listed

DTYPES = {
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
}


def check_batches(batches: Any) -> None:
    """Raise TypeError unless `batches` is an iterable other than a single batch."""
    if isinstance(batches, torch.Tensor | np.ndarray | Mapping | str) or not isinstance(
        batches, Iterable
    ):
        raise TypeError(
            "batches must be an iterable of batches, such as a list of one batch. Got "
            f"a {type(batches).__name__} instead."
        )


def check_modules(model: nn.Module, modules: Any) -> list[str]:
    names = [modules] if isinstance(modules, str) else modules
    names = list(names) if isinstance(names, Iterable) else [names]
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(
            "modules must be the name of a module, or a sequence of at least one name. "
            f"Got {modules!r} instead."
        )
    known = [name for name, _ in model.named_modules(remove_duplicate=False)]
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=3, cutoff=0.5)
            raise ValueError(
                f"modules must be names of modules of {type(model).__name__}. Got "
                f"{name!r} instead; "
                + (
                    f"did you mean {listed(map(repr, near), 'or')}?"
                    if near
                    else "see model.named_modules()."
                )
            )
    if len(set(names)) < len(names):
        raise ValueError(f"modules must hold each name once. Got {names!r} instead.")
    return names


def check_dtype(dtype: Any) -> str:
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = ""
    if dtype is None or name not in DTYPES:
        raise ValueError(
            f"dtype must be one of {', '.join(map(repr, DTYPES))}. Got {dtype!r} "
            "instead."
        )
    return name


def check_special_tokens(model: nn.Module, special_tokens: Any) -> list[int]:
    if special_tokens is None:
        return []
    if isinstance(special_tokens, str) and special_tokens == "auto":
        return special_tokens_of(model)
    is_text = isinstance(special_tokens, str | bytes)
    tokens: list[Any] = (
        list(special_tokens)
        if isinstance(special_tokens, Iterable) and not is_text
        else [None]
    )
    if not all(is_int(token) for token in tokens):
        raise ValueError(
            "special_tokens must be 'auto', None or a sequence of ints. Got "
            f"{special_tokens!r} instead."
        )
    return sorted({int(token) for token in tokens})
