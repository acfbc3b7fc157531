"""Warnings of an estimator that is part of another: they say which part."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# Of this thread alone: parts are fitted side by side.
_PART: ContextVar[str] = ContextVar("skfeat_part", default="")


@contextmanager
def warnings_of(part: str) -> Iterator[None]:
    """Let what `warn` says within begin with the name of a part."""
    token = _PART.set(part)
    try:
        yield
    finally:
        _PART.reset(token)


def warn(
    message: str, category: type[Warning] = UserWarning, *, stacklevel: int
) -> None:
    """Warn as `warnings.warn` does, after the name of the part that is fitted."""
    part = _PART.get()
    text = f"{part}: {message}" if part else message
    warnings.warn(text, category, stacklevel=stacklevel + 1)
