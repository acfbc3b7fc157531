"""The run of epochs in which all parts are trained together."""

from __future__ import annotations

from math import ceil

from skfeat.kernels._threads import Team
from skfeat.solvers._loop import EpochHooks, History, run_epochs
from skfeat.solvers.joint._learner import Learner
from skfeat.solvers.joint._problem import JointSettings, Learnt, Problem
from skfeat.solvers.joint._updates import stopping
from skfeat.utils._torch import n_batches, shuffled_batches

# Updates of the weights that a default training plans, in no more than so many epochs.
_UPDATES, _MOST_EPOCHS = 1500, 200


def planned_epochs(n_rows: int, batch_size: int) -> int:
    """Return how many epochs a default training plans."""
    updates_an_epoch = n_batches(n_rows, batch_size)
    return min(_MOST_EPOCHS, max(3, ceil(_UPDATES / updates_an_epoch)))


def train_jointly(
    problem: Problem,
    settings: JointSettings,
    *,
    name: str,
    remedy: str,
    hooks: EpochHooks | None = None,
    verbose: int = 0,
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

    Returns
    -------
    learnt : Learnt
    history : History
    """
    n = problem.n_rows
    planned = settings.n_epochs * n_batches(n, settings.batch_size)
    team = Team()

    def run_epoch():
        total = 0.0
        for rows in shuffled_batches(n, settings.batch_size, learner.generator):
            weight = float(learner.sample_weight[rows].sum())
            if weight > 0:
                total += weight * learner.step(rows, planned)
        return total / float(learner.sample_weight.sum())

    with team:
        learner = Learner(problem, settings, team)
        history = run_epochs(
            run_epoch,
            stopping(settings),
            name=name,
            state=learner.weights,
            hooks=hooks,
            verbose=verbose,
            remedy=remedy,
            # Its length is planned, and its rate has come down to zero by the end.
            may_end_falling=True,
        )
    return learner.finish(), history
