"""Lines that tell how far a fit is, under ``verbose=1`` about thirty in all.

A fit of several parts prints for those of them that are silent themselves: it opens a
context, and what trains within finds it, in whatever thread or process it runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple

from skfeat.utils._warnings import part_name

# Lines that a fit prints about, under verbose=1.
_LINES = 30
# Seconds between two lines of a part at least, so that short parts print none.
_SECONDS = 1.0
# Seconds without a line after which steps are told of that are no epochs. How long they
# go on is not known: each time it grows by half at least, by more where lines are few.
_SILENCE = 5.0


class Share(NamedTuple):
    """What a part may print of a larger fit.

    Parameters
    ----------
    owner : str
        Name of the estimator that fits the part.
    n_lines : int
        While the part trains; none where it is zero.
    """

    owner: str
    n_lines: int


SILENT = Share("", 0)


def share_of(owner: str, verbose: int, n_parts: int, n_lines: int = _LINES) -> Share:
    """Divide the lines of a fit among its parts."""
    return Share(owner, max(1, n_lines // max(1, n_parts)) if verbose else 0)


@dataclass
class _Shown:
    """The part of a fit that is under way, and when it has last told of itself."""

    prefix: str
    n_lines: int
    told: float = field(default_factory=lambda: time.perf_counter())
    silence: float = _SILENCE
    stage: str = ""
    left: str = ""  # what a line adds about the time for all stages
    # Of each kind of step: when it began, with which step, and the last one.
    steps: dict[str, tuple[float, int, int]] = field(default_factory=dict)

    def estimate(self, what: str, done: int, total: int) -> str:
        """Return what a line adds about the time that is left for all such steps."""
        now = time.perf_counter()
        start, first, last = self.steps.get(what, (now, done, done))
        if done <= last:  # they begin, or begin again
            start, first = now, done
        self.steps[what] = start, first, done
        if done == first:
            return ""
        seconds = (now - start) / (done - first) * (total - done)
        return f", {_duration(seconds)} left" if seconds >= 1 else ""


_SHOWN: ContextVar[_Shown | None] = ContextVar("skfeat_shown", default=None)


@contextmanager
def progress_of(share: Share, part: str = "") -> Iterator[None]:
    """Print what the training within reports, if the share has lines for it."""
    shown = _Shown(_prefix(share.owner, part), share.n_lines) if share.n_lines else None
    token = _SHOWN.set(shown)
    try:
        yield
    finally:
        _SHOWN.reset(token)


@contextmanager
def own_progress(name: str, verbose: int) -> Iterator[None]:
    """Print what an estimator reports that is verbose itself."""
    if verbose:
        with progress_of(Share(name, _LINES), part_name()):
            yield
    else:
        yield


def at_most(n_lines: int) -> None:
    """Lower the lines of the part under way, one of several runs of which begins."""
    shown = _SHOWN.get()
    if shown is not None:
        shown.n_lines = min(shown.n_lines, n_lines)


def say(owner: str, text: str, part: str = "") -> None:
    """Print a line."""
    print(f"{_prefix(owner, part)}{text}", flush=True)


def _prefix(owner: str, part: str) -> str:
    return f"[{owner}] {part}: " if part else f"[{owner}] "


def stage(name: str, number: int | None = None, total: int | None = None) -> None:
    """Name what the next steps belong to, such as the third of five candidates.

    Parameters
    ----------
    name : str
        In the singular.
    number : int, optional
        Of the stage, from one.
    total : int, optional
        How many stages there are, if that is known.
    """
    shown = _SHOWN.get()
    if shown is None:
        return
    place = "" if number is None else f" {number}"
    shown.stage = name + place + ("" if total is None else f" of {total}")
    shown.left = ""
    if number is not None and total is not None:
        shown.left = shown.estimate(name, number - 1, total)


def tick(what: str, done: int, total: int | None = None) -> None:
    """Report a step of work that is not an epoch, such as one of many outputs.

    A line is printed only where there has been none for some seconds.

    Parameters
    ----------
    what : str
        What a step is, in the singular.
    done : int
        Steps done so far.
    total : int, optional
        All of them, if that is known.
    """
    shown = _SHOWN.get()
    if shown is None:
        return
    left = "" if total is None else shown.estimate(what, done, total)
    now = time.perf_counter()
    if now - shown.told < shown.silence:
        return
    text = f"{what} {done:,}" + ("" if total is None else f" of {total:,}")
    where = f"{shown.stage}: " if shown.stage else ""
    print(f"{shown.prefix}{where}{text}{shown.left or left}", flush=True)
    shown.told = now
    shown.silence *= 1 + max(0.5, 4 / shown.n_lines)


class EpochLines:
    """Tells how far a run is: after every epoch, or at most some thirty times.

    Parameters
    ----------
    name : str
        Of the estimator.
    n_epochs : int
        Planned at most.
    verbose : int
        0: what the fit that it is a part of has asked for; 1: about thirty lines;
        above: a line an epoch.
    """

    def __init__(self, name: str, n_epochs: int, verbose: int):
        self.n_epochs, self.verbose, self.shown = n_epochs, verbose, _SHOWN.get()
        self.prefix, n_lines = _prefix(name, part_name()), _LINES
        if self.shown is not None:
            self.prefix, n_lines = self.shown.prefix, self.shown.n_lines
        self.every = 1 if verbose > 1 else -(-n_epochs // n_lines)
        self.n_run, self.start = 0, time.perf_counter()

    def add(self, epoch: int, loss: float, score: float | None = None) -> None:
        """Tell of an epoch, if it is its turn."""
        self.n_run += 1
        last = epoch == self.n_epochs
        silent = not self.verbose and self.shown is None
        if silent or not (epoch == 1 or last or epoch % self.every == 0):
            return
        now = time.perf_counter()
        if self.shown is not None:
            if not self.verbose and now - self.shown.told < _SECONDS:
                return
            self.shown.told = now
        parts = [f"{self.prefix}epoch {epoch}: loss {loss:.6g}"]
        if score is not None:
            parts.append(f"validation score {score:.6g}")
        left = (now - self.start) / self.n_run * (self.n_epochs - epoch)
        if left >= 1:
            parts.append(f"{_duration(left)} left to epoch {self.n_epochs}")
        print(", ".join(parts), flush=True)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
