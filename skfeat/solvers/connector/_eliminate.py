"""Backward elimination of the weights of least squares, on second moments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skfeat.solvers.connector._gram import input_scale
from skfeat.utils._progress import stage, tick

if TYPE_CHECKING:
    from skfeat.solvers.connector._gram import GramProblem

# Keeps the inverse of moments that are singular within reach of rounding.
_RIDGE = 1e-9


def eliminate(problem: GramProblem, coef: np.ndarray, budget) -> np.ndarray:
    """Choose the weights that least squares can least do without.

    Of each output the weight whose removal raises the squared error least, the others
    refitted, goes again and again (optimal brain surgeon, exact for least squares). A
    budget for all outputs is then spent where removals cost most.

    Parameters
    ----------
    problem : GramProblem
    coef : ndarray of shape (q, p)
        Its nonzero weights are the candidates.
    budget : int or ndarray of shape (q,)
        Weights left in all, or of each output.

    Returns
    -------
    ndarray of bool, shape (q, p)
        The weights that are kept.
    """
    orders, costs = [], []
    stage("elimination")
    for output, row in enumerate(coef):
        tick("output", output, len(coef))
        order, cost = removals(problem.xx, problem.yx[output], np.flatnonzero(row))
        orders.append(order)
        costs.append(cost)
    support = np.zeros(coef.shape, dtype=bool)
    counts = budget
    if not isinstance(budget, np.ndarray):
        counts = _share(costs, int(budget))
    for kept, order, left in zip(support, orders, counts, strict=True):
        kept[order[max(0, len(order) - int(left)) :]] = True
    return support


def _share(costs: list[np.ndarray], budget: int) -> np.ndarray:
    """Return how many of the last removals of each output are not made."""
    outputs = np.repeat(np.arange(len(costs)), list(map(len, costs)))
    # Costs never fall along an output, so that what is kept of it are the last ones.
    worth = np.argsort(-np.concatenate(costs), kind="stable")[:budget]
    return np.bincount(outputs[worth], minlength=len(costs))


def removals(
    xx: np.ndarray, xy: np.ndarray, inputs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Remove the inputs of one output one by one, the least useful first.

    Parameters
    ----------
    xx : ndarray of shape (p, p)
        Second moments of the inputs.
    xy : ndarray of shape (p,)
        Moments of inputs and output.
    inputs : ndarray of int
        What to begin with.

    Returns
    -------
    order : ndarray of int
        The inputs as they are removed.
    costs : ndarray of float
        By how much the mean squared error grows with each removal, or with an earlier
        one if that cost more.
    """
    block = xx[np.ix_(inputs, inputs)]
    scale = input_scale(block)
    inverse = np.linalg.inv(
        block / scale / scale[:, None] + _RIDGE * np.eye(len(block))
    )
    weights = inverse @ (xy[inputs] / scale)
    order = np.array(inputs, dtype=np.int64)
    costs = np.empty(len(order))
    for last in range(len(order) - 1, -1, -1):
        rising = weights[: last + 1] ** 2 / np.diag(inverse)[: last + 1]
        i = int(rising.argmin())
        costs[last] = rising[i]
        # What is removed goes to the end of what is left.
        for array in (order, weights, inverse, inverse.T):
            array[[i, last]] = array[[last, i]]
        column, pivot = inverse[:last, last], inverse[last, last]
        weights[:last] -= column * (weights[last] / pivot)
        inverse[:last, :last] -= np.outer(column, column / pivot)
    order, costs = order[::-1], costs[::-1]
    return order, np.maximum.accumulate(costs)
