"""Fitting the rectified connector in shuffled batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from skfeat.losses import rectified
from skfeat.solvers._loop import EpochHooks, Messages, Stopping, run_epochs
from skfeat.solvers._prune import pruned_epochs
from skfeat.solvers.connector._fit_parts import Fit, FitOptions, Rows
from skfeat.solvers.connector._path import Solution, entry_alpha
from skfeat.solvers.connector._rectified_minibatch import (
    ConnectorSettings,
    ConnectorTrainer,
    Scales,
)
from skfeat.utils._progress import at_most
from skfeat.utils._torch import epochs_of_updates
from skfeat.utils._warnings import told_once

# Updates that a fit plans by default.
_AUTO_UPDATES = 800
# Lines of progress: about thirty in all.
_FIT_LINES, _REFIT_LINES = 20, 10


def fit_minibatch(
    rows: Rows,
    options: FitOptions,
    start: Solution | None,
    settings: ConnectorSettings,
    *,
    hooks: EpochHooks | None = None,
    verbose: int = 0,
) -> Fit:
    """Train a rectified connector in shuffled batches, from a random start if None."""
    scales = Scales.of(rows.X, rows.Y, rows.sample_weight)
    n_rows = rows.X.shape[0]
    max_iter = options.max_iter
    if max_iter is None:
        max_iter = epochs_of_updates(_AUTO_UPDATES, n_rows, settings.batch_size)

    def train(trainer, n_epochs):
        trainer.plan(n_rows, n_epochs)
        return run_epochs(
            lambda: trainer.epoch(rows.X, rows.Y, rows.sample_weight),
            Stopping(n_epochs, options.tol, n_epochs),
            Messages("FeatureConnector", verbose=verbose),
            state=trainer.weights,
            hooks=hooks,
        )

    with told_once(1):  # the refit may end as the fit did
        trainer = ConnectorTrainer(settings, start, scales)
        at_most(_FIT_LINES)
        history = train(trainer, max_iter)
        coef, intercept = trainer.finish()
        losses, state = history.losses, trainer.state()
        penalised = options.budget is None and settings.alpha > 0
        if options.refit and penalised and not history.stopped:
            trainer = ConnectorTrainer(
                replace(settings, alpha=0.0),
                Solution(coef, intercept, 0, 0.0),
                scales,
                support=coef != 0,
            )
            at_most(_REFIT_LINES)
            history = train(trainer, max(1, max_iter // 2))
            losses = losses + history.losses
            coef, intercept = trainer.finish()
    _check_below_zero_weights(losses, rows.Y.shape[1])
    alpha = options.alpha
    if options.budget is not None:
        alpha = entry_alpha(_gradient(rows, coef, intercept), coef)
    return Fit(
        coef,
        intercept,
        alpha,
        len(losses),
        _last_change(losses),
        loss_curve=losses,
        state=state,
        interrupted=history.interrupted,
        pruning_epochs=None if options.budget is None else pruned_epochs(max_iter),
    )


def _check_below_zero_weights(losses: list[float], n_outputs: int) -> None:
    """Raise ValueError if training ended far above the loss of zero weights."""
    # Targets have unit mean square here: zero weights lose half a unit an output.
    if losses and losses[-1] > 10 * n_outputs:
        raise ValueError(
            f"FeatureConnector diverged: its loss is {losses[-1]:.3g}, far above that "
            f"of zero weights; lower 'learning_rate_init'."
        )


def _last_change(losses: list[float]) -> float:
    """Return how much the loss changed in the last epoch, as a share of it."""
    if len(losses) < 2:
        return np.inf
    return abs(losses[-1] - losses[-2]) / max(losses[-1], 1e-12)


def update_minibatch(
    rows: Rows,
    start: Solution | None,
    settings: ConnectorSettings,
    state: dict | None,
) -> Fit:
    """Train for one pass over rows, from the state that the pass before left."""
    scales = state["scales"] if state else Scales.of(rows.X, rows.Y, rows.sample_weight)
    trainer = ConnectorTrainer(settings, start, scales)
    if state:
        trainer.load_state(state)
    loss = trainer.epoch(rows.X, rows.Y, rows.sample_weight)
    state = trainer.state()
    coef, intercept = trainer.finish()
    return Fit(
        coef, intercept, settings.alpha, 1, np.inf, loss_curve=[loss], state=state
    )


def _gradient(rows: Rows, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
    """Gradient of the true loss in the weights, in blocks of rows."""
    gradient = np.zeros(coef.shape)
    weights = rows.sample_weight / rows.sample_weight.sum()
    for start in range(0, rows.X.shape[0], 8192):
        block = slice(start, start + 8192)
        X = rows.X[block]
        residual, _ = rectified(X @ coef.T + intercept, rows.Y[block])
        gradient += (X.T @ (weights[block, None] * residual)).T
    return gradient
