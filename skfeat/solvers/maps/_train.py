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
from skfeat.utils._rows import Batch
from skfeat.utils._torch import mixtures, n_batches, shuffled_batches


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
        generator, X = learner.generator, problem.layers.X
        mixes = mixtures(generator) if settings.mixup > 0 else None
        batches = shuffled_batches(n, settings.batch_size, generator)
        for number, samples in enumerate(batches, 1):
            batch = Batch(samples, X, samples)
            if mixes is not None:
                batch = batch.mixed(settings.mixup, next(mixes))
            total += len(samples) * learner.step(batch, planned)
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
