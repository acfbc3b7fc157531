"""Warnings that point at the user's line, name their part and are told once.

Where several fits are one piece of work, such as the folds of a cross-validation, each
of them gives its warnings to a list. They are told at the end, one for each cause: that
of the worst fit, with the number of fits that have the cause in common.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Protocol

# All are of this thread alone: parts are fitted side by side.
_PART: ContextVar[str] = ContextVar("skfeat_part", default="")
_WAITING: ContextVar[list[Waiting] | None] = ContextVar("skfeat_waiting", default=None)
_RECEIVERS: ContextVar[Sequence[Receiver]] = ContextVar("skfeat_receivers", default=())

_NUMBER = re.compile(r"\d[\d.,]*(e[-+]?\d+)?")
# Parts that are named where a warning is that of several.
_MOST_NAMES = 5


@dataclass(frozen=True)
class Waiting:
    """A warning that was given and is not told yet.

    Parameters
    ----------
    message : str
    category : type of Warning
    cause : str
        The message without its numbers.
    severity : float
        Of warnings of one cause the one with the largest is the worst.
    part : str
        Name of the part that was fitted, or an empty string.
    """

    message: str
    category: type[Warning]
    cause: str
    severity: float = 0.0
    part: str = ""

    @property
    def text(self) -> str:
        """What the user reads."""
        return f"{self.part}: {self.message}" if self.part else self.message


class Receiver(Protocol):
    """Takes the warnings of a fit that is one of many, in place of the user."""

    def begin_fit(self) -> None:
        """Count a fit."""

    def receive(self, warning: Waiting) -> bool:
        """Take a warning; return False if it is to be told as it is."""


@contextmanager
def warnings_of(part: str) -> Iterator[None]:
    """Begin the warnings given within by the name of a part."""
    token = _PART.set(part)
    try:
        yield
    finally:
        _PART.reset(token)


def part_name() -> str:
    """Return the name of the part that is fitted, or an empty string."""
    return _PART.get()


def warn(
    message: str, category: type[Warning] = UserWarning, *, severity: float = 0.0
) -> None:
    """Warn as `warnings.warn` does, after the name of the part that is fitted.

    The warning points at the line that called skfeat, from however deep it comes.
    Messages that differ in numbers only have one cause; of these the one of the largest
    `severity` is the worst.
    """
    cause = _NUMBER.sub("", message)
    _tell(Waiting(message, category, cause, severity, _PART.get()))


def _tell(warning: Waiting) -> None:
    waiting = _WAITING.get()
    if waiting is not None:
        waiting.append(warning)
        return
    if any(receiver.receive(warning) for receiver in _RECEIVERS.get()):
        return
    show(warning)


def show(warning: Waiting) -> None:
    """Give a warning to Python's own machinery."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _is_between(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(warning.text, warning.category, stacklevel=level)


# Packages whose frames lie between the user's line and the warning.
_BETWEEN = {"skfeat", "sklearn", "joblib", "contextlib"}


def _is_between(frame):
    name = frame.f_globals.get("__name__", "")
    return name.partition(".")[0] in _BETWEEN


@contextmanager
def gathered() -> Iterator[list[Waiting]]:
    """Let the warnings given within wait in a list, for `tell_once`.

    If an error ends the context, they are told as they are.
    """
    waiting: list[Waiting] = []
    token = _WAITING.set(waiting)
    try:
        yield waiting
    except BaseException:
        _WAITING.reset(token)
        for warning in waiting:
            _tell(warning)
        raise
    _WAITING.reset(token)


@contextmanager
def told_once(n_fits: int, what: str = "fits") -> Iterator[list[Waiting]]:
    """Tell of each cause within once, with the number of fits that have it."""
    with gathered() as waiting:
        yield waiting
    tell_once(waiting, n_fits, what)


def tell_once(waiting: Iterable[Waiting], n_fits: int, what: str = "fits") -> None:
    """Tell of each cause once: the worst warning, and how many fits there were.

    Parameters
    ----------
    waiting : iterable of Waiting
        In the order of the fits; each fit gives one warning a cause at most.
    n_fits : int
        All of them.
    what : str
        What to call them.
    """
    for warning in summed_up(waiting, n_fits, what):
        _tell(warning)


def summed_up(
    waiting: Iterable[Waiting], n_fits: int, what: str = "fits"
) -> list[Waiting]:
    """Return one warning for each cause, see `tell_once`."""
    of_cause: dict[str, list[Waiting]] = {}
    for warning in waiting:
        of_cause.setdefault(warning.cause, []).append(warning)
    return [_together(alike, n_fits, what) for alike in of_cause.values()]


def _together(alike: list[Waiting], n_fits: int, what: str) -> Waiting:
    worst = max(alike, key=lambda warning: warning.severity)
    if n_fits <= 1:
        return worst
    names = list(dict.fromkeys(warning.part for warning in alike if warning.part))
    listed = ""
    if len(names) > 1:
        left = len(names) - _MOST_NAMES
        some = names[:_MOST_NAMES] + [f"{left} more"] * (left > 0)
        listed = f" ({', '.join(some)})"
    elif names:
        # The beginning of the text names it.
        return worst
    of_which = ""
    if len({warning.message for warning in alike}) > 1:
        ranked = len({warning.severity for warning in alike}) > 1
        of_which = f"; this is the {'worst' if ranked else 'first'}"
    count = f"It happened in {len(alike)} of {n_fits} {what}{listed}{of_which}."
    return replace(worst, message=f"{worst.message} {count}")


@contextmanager
def received_by(receivers: Sequence[Receiver]) -> Iterator[None]:
    """Give the warnings of a fit to receivers, unless it is part of another fit."""
    if not receivers or _RECEIVERS.get() or _WAITING.get() is not None:
        yield
        return
    for receiver in receivers:
        receiver.begin_fit()
    token = _RECEIVERS.set(receivers)
    try:
        yield
    finally:
        _RECEIVERS.reset(token)
