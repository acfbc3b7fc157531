"""Warnings that point at the user's line and name the part that they are about."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# Of this thread alone: parts are fitted side by side.
_PART: ContextVar[str] = ContextVar("skfeat_part", default="")


@contextmanager
def warnings_of(part: str) -> Iterator[None]:
    """Begin the warnings given within by the name of a part."""
    token = _PART.set(part)
    try:
        yield
    finally:
        _PART.reset(token)


# Packages whose frames lie between the user's line and the warning.
_BETWEEN = {"skfeat", "sklearn", "joblib"}


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn as `warnings.warn` does, after the name of the part that is fitted.

    The warning points at the line that called skfeat, from however deep it comes.
    """
    part = _PART.get()
    text = f"{part}: {message}" if part else message
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _is_between(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)


def _is_between(frame):
    name = frame.f_globals.get("__name__", "")
    return name.partition(".")[0] in _BETWEEN
