"""The run of epochs in which all parts are trained together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from math import ceil
from typing import Protocol

import numpy as np
import torch

from skfeat.kernels._threads import Team
from skfeat.kernels.sae._choose import is_small
from skfeat.solvers._loop import EpochHooks, History, Messages, run_epochs
from skfeat.solvers._prune import stopping
from skfeat.solvers.autoencoder._settings import Position
from skfeat.solvers.joint._learner import Learner
from skfeat.solvers.joint._problem import JointSettings, Learnt, Problem
from skfeat.solvers.joint._reselect import is_won, race_of, reselected
from skfeat.solvers.joint._state import state_of
from skfeat.utils._interrupts import InterruptsWait
from skfeat.utils._progress import tick
from skfeat.utils._torch import n_batches, to_numpy, torch_alone

# Updates of the weights that a default training plans, in no more than so many epochs.
_UPDATES, _MOST_EPOCHS = 1500, 200
# Rows of a minibatch by default. An epoch of few rows has so many minibatches, unless
# they had fewer rows than the least: after one update an epoch features are not yet
# computed well, and more epochs of large minibatches would take longer.
BATCH_SIZE, _LEAST_BATCHES, _LEAST_SIZE = 512, 3, 64


def planned_batch_size(n_rows: int) -> int:
    """Return how many rows a minibatch of a default training has."""
    return min(BATCH_SIZE, max(_LEAST_SIZE, n_rows // _LEAST_BATCHES))


def planned_epochs(n_rows: int, batch_size: int) -> int:
    """Return how many epochs a default training plans."""
    updates_an_epoch = n_batches(n_rows, batch_size)
    return min(_MOST_EPOCHS, max(3, ceil(_UPDATES / updates_an_epoch)))


class RunFile(Protocol):
    """Where a run is kept from which it can go on.

    Attributes
    ----------
    is_due : bool
        Whether it is time to keep it again.
    """

    @property
    def is_due(self) -> bool: ...

    def take(self) -> dict | None:
        """Return what was kept last, and let go of it."""

    def save(self, run: dict) -> None:
        """Keep a run."""


def train_jointly(
    problem: Problem,
    settings: JointSettings,
    *,
    name: str,
    remedy: str,
    hooks: EpochHooks | None = None,
    verbose: int = 0,
    file: RunFile | None = None,
) -> tuple[Learnt, History]:
    """Train autoencoders and connectors together, and prune on the way.

    Parameters
    ----------
    problem : Problem
    settings : JointSettings
    name : str
        Of the estimator, for messages.
    remedy : str
        Advice in the error message if the loss diverges.
    hooks : EpochHooks, optional
    verbose : int, default=0
    file : RunFile, optional
        Keeps the run; what it has kept is gone on from.

    Returns
    -------
    learnt : Learnt
    history : History
    """
    alone = torch_alone() if _all_small(problem, settings) else nullcontext()
    with Team() as team, alone:
        run = _Run(problem, settings, team, file)
        with run.kept_whatever_happens():
            run.save()
            history = run_epochs(
                run.epoch,
                stopping(settings.n_epochs, settings.tol),
                Messages(name, remedy, verbose),
                # The learner that the run began with may have lost a race since.
                state=lambda: run.learner.weights(),
                hooks=hooks,
                history=run.history,
            )
            run.save()
    return run.learner.finish(), history


def _all_small(problem: Problem, settings: JointSettings) -> bool:
    n_rows = float(problem.n_rows) * settings.n_epochs
    return all(is_small(n_rows * coder.encoder.size) for coder in problem.coders)


class _Run:
    """The epochs of a run, and how far it has come.

    Some of them are a race between the learner and a rival, which is the same but for
    weights that were chosen again. A race is not kept: a run that ends in it goes on
    from what was kept before.
    """

    def __init__(
        self,
        problem: Problem,
        settings: JointSettings,
        team: Team,
        file: RunFile | None,
    ):
        self.file = file
        self.history, self.position = History(), None
        saved = None if file is None else file.take()
        state = None if saved is None else saved["learner"]
        self.learner = Learner(problem, settings, team, state)
        if saved is not None:
            self.history = History(saved["losses"].tolist(), [], saved["stopped"])
            self.position = Position(**saved["position"]) if saved["position"] else None
        self.is_whole = True
        self.race = race_of(problem, settings)
        self.rival: Learner | None = None

    def epoch(self) -> float:
        """Make an epoch, or what is left of it; return its mean loss."""
        learner, settings = self.learner, self.learner.settings
        batch_size, number = settings.batch_size, self.history.n_epochs
        at, drawn_since = self.position, None
        if at is None or at.epoch != number:
            at = Position(number, to_numpy(learner.generator.get_state()))
        elif at.n_batches > 0:
            # Rows are shuffled as they were; what was drawn since then stays drawn.
            drawn_since = learner.generator.get_state()
        learner.generator.set_state(torch.from_numpy(at.generator.copy()))
        self.position = at
        of_rival = 0.0
        if self.race and number == self.race.start and at.n_batches == 0:
            self._find_rival()
        n_of_epoch = n_batches(learner.problem.n_rows, batch_size)
        planned = settings.n_epochs * n_of_epoch
        wait = InterruptsWait()
        with nullcontext() if self.file is None else wait.installed():
            for batch in learner.problem.batches(
                batch_size, learner.generator, at.n_batches, settings.mixup
            ):
                if drawn_since is not None:
                    learner.generator.set_state(drawn_since)
                    drawn_since = None
                weight = float(learner.sample_weight[batch.ids].sum())
                with wait:
                    self.is_whole = False
                    loss = learner.step(batch, planned) if weight > 0 else 0.0
                    if self.rival is not None and weight > 0:
                        of_rival += weight * self.rival.step(batch, planned)
                    at = self.position = at.after(weight, loss)
                    self.is_whole = True
                if self.file is not None and self.file.is_due:
                    self.save()
                tick("batch", at.n_batches, n_of_epoch)
        if drawn_since is not None:  # all batches were done
            learner.generator.set_state(drawn_since)
        total = at.total
        if self.rival is not None and number == self.race[-1]:
            if is_won(of_rival, total):
                self.learner, total = self.rival, of_rival
            self.rival = None
        return total / float(learner.sample_weight.sum())

    def _find_rival(self) -> None:
        """Start a race, if there are weights to be chosen again."""
        learner = self.learner
        state = reselected(learner)
        if state is not None:
            rival = Learner(learner.problem, learner.settings, learner.team, state)
            rival.generator = learner.generator  # what is drawn goes on
            self.rival = rival

    def save(self) -> None:
        """Keep the run as it is, unless an update is half done, or a race."""
        if self.file is None or not self.is_whole or self.rival is not None:
            return
        history = self.history
        self.file.save(
            {
                "learner": state_of(self.learner),
                "position": self.position and asdict(self.position),
                "losses": np.array(history.losses, dtype=np.float64),
                # What Ctrl-C has ended goes on.
                "stopped": history.stopped and not history.interrupted,
            }
        )

    @contextmanager
    def kept_whatever_happens(self) -> Iterator[None]:
        """Keep the run where a callback fails, or a signal ends it."""
        try:
            yield
        except OSError:
            raise  # it may be the file that cannot be written
        except BaseException:
            with suppress(OSError):
                self.save()
            raise
