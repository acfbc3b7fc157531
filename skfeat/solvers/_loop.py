"""The one training loop: epochs, stopping rules, interruption and callbacks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING

from sklearn.exceptions import ConvergenceWarning

from skfeat.utils._progress import EpochLines, stage
from skfeat.utils._warnings import warn

if TYPE_CHECKING:
    from collections.abc import Callable


# Above this relative fall of the loss in the last epoch a run ended too early.
_STILL_FALLING = 0.05


class EpochHooks:
    """Called before and after every epoch or iteration; this one does nothing."""

    def begin(self) -> None:
        """Run before an epoch."""

    def end(self, state: Callable) -> bool:
        """Run after an epoch; return True to stop.

        `state` is a function that returns a copy of the weights after the epoch.
        """
        return False


@dataclass
class History:
    """Losses and scores of a run of epochs, and how it ended."""

    losses: list[float] = field(default_factory=list)
    validation_scores: list[float] = field(default_factory=list)
    stopped: bool = False  # by a callback or from the keyboard
    interrupted: bool = False  # from the keyboard

    @property
    def n_epochs(self) -> int:
        """Number of epochs run."""
        return len(self.losses)


@dataclass(frozen=True)
class Stopping:
    """When a run of epochs ends.

    Parameters
    ----------
    max_iter : int
        Largest number of epochs.
    tol : float
        Relative improvement that counts as progress.
    n_iter_no_change : int
        Number of epochs that must, together, make such progress.
    counted_from : int, default=0
        Epochs before which nothing counts, as a schedule makes the loss rise and fall.
    may_end_falling : bool, default=False
        Whether the loss may still fall at the end without a warning: in runs that no
        parameter makes longer.
    """

    max_iter: int
    tol: float
    n_iter_no_change: int
    counted_from: int = 0
    may_end_falling: bool = False


@dataclass(frozen=True)
class HeldOut:
    """Progress measured on held-out rows, in place of the training loss.

    Parameters
    ----------
    score : callable
        Returns a score of the weights as they are; larger is better.
    keep_best : callable
        Called after each epoch that is the best so far.
    """

    score: Callable[[], float]
    keep_best: Callable[[], None]


@dataclass(frozen=True)
class Messages:
    """What a run of epochs says, and how much.

    Parameters
    ----------
    name : str
        Name of the estimator.
    remedy : str
        Advice if the loss diverges.
    verbose : int, default=0
        1: print about thirty lines with the loss and the time left; above: a line after
        each epoch; 0: what a larger fit has asked for.
    """

    name: str
    remedy: str = "lower 'learning_rate_init' or rescale X"
    verbose: int = 0

    def check_finite(self, loss: float, epoch: int) -> None:
        """Raise ValueError if the loss of an epoch is infinite or not a number."""
        if not math.isfinite(loss):
            raise ValueError(
                f"{self.name} diverged: the loss is non-finite after epoch {epoch}; "
                f"{self.remedy}."
            )

    def warn_of_interruption(self, n_epochs: int) -> None:
        """Warn that the run was ended from the keyboard."""
        warn(
            f"{self.name} was interrupted after {n_epochs} epochs; the weights "
            f"reached so far are kept.",
        )

    def warn_of_falling(self, max_iter: int) -> None:
        """Warn that more epochs would lower the loss."""
        warn(
            f"{self.name} used its max_iter={max_iter} epochs while the loss was "
            f"still falling by more than {_STILL_FALLING:.0%} an epoch; a larger "
            f"max_iter will fit better.",
            ConvergenceWarning,
        )


class _Progress:
    """How the loss has fallen so far, which decides about another epoch."""

    def __init__(self, stopping: Stopping):
        self.stopping = stopping
        self.best = self.mark = self.last = math.inf
        self.n_epochs, self.idle, self.falling = 0, 0, True

    def add(self, loss: float, score: float | None) -> bool:
        """Add an epoch; return whether it is the best so far."""
        # One quantity that should fall, whether it is the loss or the score.
        watched = loss if score is None else 1 - score
        self.falling = not watched >= self.last * (1 - _STILL_FALLING)
        self.last = watched
        self.n_epochs += 1
        if self.n_epochs <= self.stopping.counted_from:
            return False
        # The mark moves only when the improvement on it exceeds `tol`, so that many
        # small improvements add up to progress.
        if watched < self.mark * (1 - self.stopping.tol):
            self.mark, self.idle = watched, 0
        else:
            self.idle += 1
        if not watched < self.best:
            return False
        self.best = watched
        return True

    @property
    def is_idle(self) -> bool:
        """Whether the last epochs made too little progress for another one."""
        return self.n_epochs > 0 and self.idle >= self.stopping.n_iter_no_change


def run_epochs(
    run_epoch: Callable[[], float],
    stopping: Stopping,
    messages: Messages,
    *,
    state: Callable,
    held_out: HeldOut | None = None,
    hooks: EpochHooks | None = None,
    history: History | None = None,
) -> History:
    """Run epochs until the loss no longer falls, or the epochs are used up.

    Parameters
    ----------
    run_epoch : callable
        Runs one epoch and returns its mean loss.
    stopping : Stopping
    messages : Messages
    state : callable
        Returns a copy of the weights as they are, for the hooks.
    held_out : HeldOut, optional
        What to measure progress by instead of by the training loss.
    hooks : EpochHooks, optional
        Called before and after every epoch.
    history : History, optional
        Of the epochs before, for a run that continues; later epochs are appended.

    Returns
    -------
    History

    Raises
    ------
    ValueError
        If the loss becomes infinite or not a number.

    Warns
    -----
    ConvergenceWarning
        If the last epoch still improved by more than a twentieth.
    """
    hooks = hooks or EpochHooks()
    history = History() if history is None else history
    progress = _Progress(stopping)
    lines = EpochLines(messages.name, stopping.max_iter, messages.verbose)
    for loss, score in zip(
        history.losses, history.validation_scores or repeat(None), strict=False
    ):
        progress.add(loss, score)

    def is_over() -> bool:
        return history.stopped or progress.is_idle

    try:
        while history.n_epochs < stopping.max_iter and not is_over():
            epoch = history.n_epochs + 1
            stage("epoch", epoch, stopping.max_iter)
            hooks.begin()
            loss = run_epoch()
            messages.check_finite(loss, epoch)
            score = None if held_out is None else held_out.score()
            lines.add(epoch, loss, score)
            if progress.add(loss, score) and held_out is not None:
                held_out.keep_best()
            # The loss is appended last: `n_epochs` counts epochs that are complete.
            if score is not None:
                history.validation_scores.append(score)
            history.losses.append(loss)
            history.stopped = bool(hooks.end(state))
    except KeyboardInterrupt:
        messages.warn_of_interruption(history.n_epochs)
        del history.validation_scores[history.n_epochs :]
        history.stopped = history.interrupted = True
        return history
    if progress.falling and not stopping.may_end_falling and not is_over():
        messages.warn_of_falling(stopping.max_iter)
    return history


def one_cycle(progress: float, warm_up: float, decay: float) -> float:
    """Return the factor of the learning rate at a share `progress` of a planned run.

    The linear warm-up prevents Adam's first, noisy moments from killing features. The
    linear decay to zero lets the weights converge.
    """
    return min(1.0, progress / warm_up, max(0.0, 1.0 - progress) / decay)
