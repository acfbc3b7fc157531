"""Connections that are chosen again, once pruning has ended.

A weight that gradual pruning has dropped never comes back, and what it was worth was
told while dictionaries still moved and connectors read features that others computed.
So the weights between features are chosen once more, as many, by the fit of a connector
to what the autoencoders encode by then. The rest of the updates trains them with all
other parts.

This finds the weights by which features are true, not those that outputs need most: on
MNIST it raises the divergence of outputs by 6 %. So it is done where faithfulness
counts as fully as outputs, and undone where the loss of a batch rises by much: there
the weights that a network needs are not those by which features are true.
"""

from __future__ import annotations

from collections.abc import Callable
from math import floor

import numpy as np
import torch

from skfeat.solvers._prune import PRUNED_AT
from skfeat.solvers.connector._choose import takes_all_rows
from skfeat.solvers.connector._fit_parts import Fit, FitOptions, Rows
from skfeat.solvers.connector._fit_rectified import fit_problem, rectified_problem
from skfeat.solvers.connector._reduce import Reduction
from skfeat.solvers.joint._started import Started
from skfeat.utils import _distributed as distributed
from skfeat.utils._torch import to_numpy

# Of the loss before, the most that it may be at once. New weights are fitted to encoded
# features, and have not been trained yet on those that the network computes.
_MOST_LOSS = 1.15
# Of the fit of a connector. Training goes on from its weights: near is good enough.
_TOL = 1e-6
# Features of a layer that are held, from all rows if these are no more: many weights
# change few rows. And the rows that there are at least.
_MOST_CODES, _LEAST_ROWS = 2**23, 4096
# Rows that are encoded at a time.
_ROWS_AT_ONCE = 1024


def reselects_after(planned: int) -> int:
    """Return after which of so many planned updates: the first that never prunes."""
    return floor(PRUNED_AT * planned) + 1


@torch.no_grad()
def reselect_unless_worse(learner: Started, loss: Callable[[], torch.Tensor]) -> None:
    """Choose weights again, and take them back if the loss rises by much.

    Parameters
    ----------
    learner : Started
    loss : callable
        Returns the loss of this process's share of a batch.
    """
    before = [part.clone() for part in (*learner.coefs, *learner.intercepts)]
    masks = [pruner.mask for pruner in learner.pruners]
    losses = [loss()]
    reselect(learner)
    losses.append(loss())
    distributed.all_reduce(*losses)
    if losses[1] <= _MOST_LOSS * losses[0]:
        return
    for part, old in zip((*learner.coefs, *learner.intercepts), before, strict=True):
        part.copy_(old)
    for pruner, mask in zip(learner.pruners, masks, strict=True):
        pruner.mask = mask
    learner._choose_products()


@torch.no_grad()
def reselect(learner: Started) -> None:
    """Choose the weights of each rectified connector between features again.

    All processes of a group choose the same, from the same rows. A connector whose fit
    to these would take long is left as it is.
    """
    problem = learner.problem
    # The first connector may read inputs, in place of the first layer's features.
    offset = problem.first_target - 1
    codes: dict[int, np.ndarray] = {}
    widths = [len(coder.encoder) for coder in learner.coders]
    n_rows = min(problem.n_rows, max(_LEAST_ROWS, _MOST_CODES // max(widths)))
    rows = np.linspace(0, problem.n_rows - 1, n_rows).astype(np.int64)
    for layer in range(len(learner.coders) - 1):
        index = layer - offset
        connection, pruner = problem.connections[index], learner.pruners[index]
        n_weights = int(pruner.mask.sum())
        if connection.link != "relu" or connection.budget is None or not n_weights:
            continue
        for end in (layer, layer + 1):
            if end not in codes:
                codes[end] = _encoded(learner, end, rows)
        pair = Rows(codes[layer], codes[layer + 1], learner.sample_weight[rows])
        if takes_all_rows(pair.X, pair.Y):
            fit = fit_weights(pair, n_weights, fit_intercept=connection.fit_intercept)
            _take(learner, index, fit)
    learner._choose_products()


def _encoded(learner: Started, layer: int, rows: np.ndarray) -> np.ndarray:
    """Return a layer's features (n, m) of some rows, in its unit."""
    problem, parts = learner.problem, []
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        some = problem.read(problem.batch(rows[start : start + _ROWS_AT_ONCE]))
        parts.append(
            to_numpy(learner.coders[layer].codes(learner._hidden(some, layer)))
        )
    return np.concatenate(parts)


def _take(learner: Started, index: int, fit: Fit) -> None:
    """Set the weights of a connector and hold their support."""
    coef, intercept = learner.coefs[index], learner.intercepts[index]
    coef.copy_(torch.from_numpy(fit.coef))
    at_mean = torch.from_numpy(fit.intercept).to(intercept)
    # Without an intercept it is zero, and so are these means.
    intercept.copy_(at_mean + coef @ learner.read_means[index])
    learner.pruners[index].mask = coef != 0


def fit_weights(rows: Rows, n_weights: int, *, fit_intercept: bool) -> Fit:
    """Fit a rectified connector of so many weights to encoded features."""
    options = FitOptions(
        alpha=0.0,
        budget=n_weights,
        refit=True,
        fit_intercept=fit_intercept,
        tol=_TOL,
        max_iter=None,
    )
    part = Reduction.of(rows, fit_intercept=fit_intercept)
    options = part.options(options)
    if part.is_solved:
        return part.whole(part.nothing(options))
    problem = rectified_problem(part.rows, options)
    return part.whole(fit_problem(problem, options, problem.null()[1]))
