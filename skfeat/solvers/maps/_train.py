"""The run of epochs in which all parts of a network of maps are trained together."""

from __future__ import annotations

import numpy as np

from skfeat.kernels._threads import Team
from skfeat.solvers._loop import EpochHooks, History, Messages, run_epochs
from skfeat.solvers._prune import stopping
from skfeat.solvers.joint._problem import JointSettings
from skfeat.solvers.maps._learner import MapLearner
from skfeat.solvers.maps._problem import MapLearnt, MapProblem
from skfeat.utils._progress import tick
from skfeat.utils._rows import batches_of_held, mixed_batches
from skfeat.utils._torch import n_batches


def train_maps(
    problem: MapProblem,
    rows: list[np.ndarray],
    settings: JointSettings,
    *,
    remedy: str,
    hooks: EpochHooks | None = None,
    verbose: int = 0,
) -> tuple[MapLearnt, History]:
    """Train autoencoders and connectors of maps, and prune on the way.

    Parameters
    ----------
    problem : MapProblem
    rows : list of ndarray, (n_rows_l, d_l) each
        Sampled rows of each layer.
    settings : JointSettings
    remedy : str
        Advice in the error message if the loss diverges.
    hooks : EpochHooks, optional
    verbose : int, default=0

    Returns
    -------
    learnt : MapLearnt
    history : History
    """
    n = len(problem.layers.X)
    n_of_epoch = n_batches(n, settings.batch_size)
    planned = settings.n_epochs * n_of_epoch
    team = Team()

    def run_epoch():
        total = 0.0
        generator = learner.generator
        batches = batches_of_held(problem.layers.X, settings.batch_size, generator)
        batches = mixed_batches(batches, settings.mixup, generator)
        for number, batch in enumerate(batches, 1):
            total += len(batch.ids) * learner.step(batch, planned)
            tick("batch", number, n_of_epoch)
        return total / n

    with team:
        learner = MapLearner(problem, rows, settings, team)
        history = run_epochs(
            run_epoch,
            stopping(settings.n_epochs, settings.tol),
            Messages("FeatureUnwrapper", remedy, verbose),
            state=learner.learnt,
            hooks=hooks,
        )
    return learner.finish(), history
