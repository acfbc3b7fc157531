"""Connections that are chosen again, once pruning has ended.

A weight that gradual pruning has dropped never comes back, and what it was worth was
told while dictionaries still moved and connectors read features that others computed.
So the weights between features are chosen once more, as many, by the fit of a connector
to what the autoencoders encode by then.

This finds the weights by which features are true, which are not always those that the
network needs. So the learner goes on with the old weights beside a rival with the new
ones, on the same batches, and the rival is taken where its loss becomes lower by far.
"""

from __future__ import annotations

from functools import cache
from math import ceil

import numpy as np
import torch
from scipy import sparse

from skfeat.kernels.connector._sparsity import mostly_zeros
from skfeat.kernels.connector._support import Support
from skfeat.solvers._prune import PRUNED_AT
from skfeat.solvers.connector._choose import takes_all_rows
from skfeat.solvers.connector._fit_parts import Fit, FitOptions, Rows
from skfeat.solvers.connector._fit_rectified import fit_problem, rectified_problem
from skfeat.solvers.connector._reduce import Reduction
from skfeat.solvers.joint._problem import JointSettings, Problem
from skfeat.solvers.joint._started import Started
from skfeat.solvers.joint._state import state_of
from skfeat.utils._torch import to_numpy

# Share of the epochs in which both are trained, and what the loss of the rival has to
# be of the learner's in the last of them. New weights are fitted to encoded features,
# and have to learn first to read those that the network computes.
_RACE, _MUST_REACH = 0.05, 0.95
# Of the fit of a connector. Training goes on from its weights: near is good enough.
_TOL = 1e-6
# Features of a layer that are held, from all rows if these are no more: many weights
# change few rows. And the rows that there are at least.
_MOST_CODES, _LEAST_ROWS = 2**23, 4096
# Rows that are encoded at a time.
_ROWS_AT_ONCE = 1024


def race_of(problem: Problem, settings: JointSettings) -> range:
    """Return the epochs in which a learner and its rival are trained side by side.

    They are those that follow the last pruning. There are none without outputs, as
    encoded features alone have ranked the weights already, nor where the network need
    not compute what is encoded.
    """
    start = ceil(PRUNED_AT * settings.n_epochs)
    end = start + ceil(_RACE * settings.n_epochs)
    is_held = problem.outputs is not None and settings.faithfulness > 0
    return range(start, min(end, settings.n_epochs) if is_held else start)


def is_won(rival: float, own: float) -> bool:
    """Tell whether the loss of a rival is so low that it is taken."""
    return rival <= _MUST_REACH * own


@torch.no_grad()
def reselected(learner: Started) -> dict | None:
    """Return the state of a learner but for weights that are chosen again.

    Those of each rectified connector between features are, unless it is frozen or its
    fit would take long, as from features that are on in many rows; None if there is no
    such connector. All processes of a group choose the same, from the same rows.
    """
    problem, state = learner.problem, None
    # The first connector may read inputs, in place of the first layer's features.
    offset = problem.first_target - 1
    widths = [len(coder.encoder) for coder in learner.coders]
    n_rows = min(problem.n_rows, max(_LEAST_ROWS, _MOST_CODES // max(widths)))
    rows = np.linspace(0, problem.n_rows - 1, n_rows).astype(np.int64)
    encoded = cache(lambda layer: _encoded(learner, layer, rows))
    for layer in range(len(learner.coders) - 1):
        index = layer - offset
        connection = problem.connections[index]
        n_weights = int(learner.pruners[index].mask.sum())
        if connection.link != "relu" or connection.budget is None or not n_weights:
            continue
        if not mostly_zeros(encoded(layer)):
            continue
        pair = Rows(encoded(layer), encoded(layer + 1), learner.sample_weight[rows])
        if takes_all_rows(pair.X, pair.Y):
            state = state or state_of(learner)
            fit = fit_weights(pair, n_weights, fit_intercept=connection.fit_intercept)
            _take(learner, state, index, fit)
    return state


def _encoded(learner: Started, layer: int, rows: np.ndarray) -> np.ndarray:
    """Return a layer's features (n, m) of some rows, in its unit."""
    problem, parts = learner.problem, []
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        some = problem.read(problem.batch(rows[start : start + _ROWS_AT_ONCE]))
        parts.append(
            to_numpy(learner.coders[layer].codes(learner._hidden(some, layer)))
        )
    return np.concatenate(parts)


def _take(learner: Started, state: dict, index: int, fit: Fit) -> None:
    """Set the weights of a connector in a state, and hold their support."""
    coef = fit.coef
    if learner.supports[index].places is not None:
        coef = sparse.csr_array(coef)
        state["places"][index], coef = Support.of(coef).places, coef.data
    state["coefs"][index] = coef
    state["masks"][index] = (coef != 0).astype(np.uint8)
    # Without an intercept it is zero, and so are these means.
    at_mean = fit.intercept + fit.coef @ state["read_means"][index]
    state["intercepts"][index] = at_mean
    # What removals cost, and moments, were those of other weights.
    number = learner.trained.index(index)
    state["costs"][number] = np.zeros(coef.shape)
    state["moments"].pop(str(number), None)


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
