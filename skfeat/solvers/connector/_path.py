"""Paths over alpha, and the alpha that meets a budget of weights."""

from __future__ import annotations

from itertools import count as count_from
from numbers import Integral
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse

from skfeat.utils._progress import stage
from skfeat.utils._sklearn import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Callable


class Solution(NamedTuple):
    """Weights (q, p) and intercept (q,) at one alpha, and how they were reached.

    `shortfall` is what the solver compared with its `tol` when it stopped: the worst
    duality gap of an output over its mean square, or the stopping value itself.
    """

    coef: np.ndarray
    intercept: np.ndarray
    n_iter: int
    stopping_value: float
    shortfall: float = 0.0


def geometric_alphas(alpha_max: float, n_alphas: int, eps: float) -> np.ndarray:
    """Return alphas from `alpha_max` down to ``eps * alpha_max``."""
    if alpha_max <= 0:
        return np.zeros(n_alphas)
    return alpha_max * np.geomspace(1.0, eps, n_alphas)


def check_budget(budget, n_outputs: int, n_inputs: int) -> int | np.ndarray | None:
    """Return a budget as an int for all weights, or as ints (q,) for each output.

    Raises
    ------
    InvalidParameterError
        If it is neither.
    """
    if budget is None:
        return None
    if isinstance(budget, Integral):
        return min(int(budget), n_outputs * n_inputs)
    each = np.asarray(budget)
    if each.shape != (n_outputs,) or each.dtype.kind not in "iu" or (each < 0).any():
        raise InvalidParameterError(
            f"The 'n_nonzero_coefs' parameter of FeatureConnector must be an int of at "
            f"least 0, or one for each of the {n_outputs} outputs. Got {budget!r} "
            f"instead."
        )
    return np.minimum(each.astype(np.int64), n_inputs)


def trim(coef: np.ndarray, saliency: np.ndarray, budget) -> np.ndarray:
    """Set all but the most salient weights to zero, exactly.

    Parameters
    ----------
    coef, saliency : ndarrays of shape (q, p)
    budget : int or ndarray of shape (q,)
        Weights left in all, or of each output.
    """
    if isinstance(budget, np.ndarray):
        pairs = zip(coef, saliency, budget, strict=True)
        return np.stack([trim(row, rank, int(left)) for row, rank, left in pairs])
    support = np.flatnonzero(coef)
    if len(support) <= budget:
        return coef
    ranks = saliency.ravel()[support]
    dropped = support[np.argsort(ranks, kind="stable")[: len(support) - budget]]
    coef = coef.copy()
    coef.ravel()[dropped] = 0.0
    return coef


def pruned_to(budget, found, done: float):
    """Return how many of `found` weights are left at a share `done` of pruning."""
    left = np.rint(budget + (np.asarray(found) - budget) * (1 - done) ** 3)
    left = left.astype(np.int64)
    return left if isinstance(budget, np.ndarray) else int(left)


def count(coef, budget):
    """Count nonzero weights as `budget` does: in all, or of each output."""
    if sparse.issparse(coef):
        return coef.nnz
    axis = 1 if isinstance(budget, np.ndarray) else None
    return np.count_nonzero(coef, axis=axis)


def find_alpha(
    solve: Callable[[float, Solution], Solution],
    start: Solution,
    alpha_max: float,
    budget: int,
    *,
    n_steps: int = 40,
    slack: float = 0.0,
) -> tuple[float, Solution]:
    """Find the largest alpha whose solution has at least `budget` nonzero weights.

    The path is followed from `alpha_max` down, each solution starting the next, until
    the budget is passed, then interpolated in the number of weights.

    Parameters
    ----------
    solve : callable
        Maps (alpha, start) to a `Solution`.
    start : Solution
        The solution at `alpha_max`.
    alpha_max : float
    budget : int
        Number of nonzero weights.
    n_steps : int, default=40
        Solutions computed at most in each of the two phases.
    slack : float, default=0
        Share of weights beyond the budget that is near enough.

    Returns
    -------
    alpha : float
    solution : Solution
        With `budget` nonzero weights or a few more; with fewer only if no alpha down
        to a millionth of `alpha_max` gives as many.
    """
    high, low, solution, few = alpha_max, None, start, 0
    if alpha_max <= 0 or budget <= 0:
        return alpha_max, start
    penalties = count_from(1)
    for alpha in geometric_alphas(alpha_max, n_steps, 1e-6)[1:]:
        stage("penalty", next(penalties))
        solution = solve(alpha, solution)
        n_found = int(count(solution.coef, budget))
        if n_found >= budget:
            low, enough = alpha, solution
            break
        high, few = alpha, n_found
    if low is None:
        return high, solution
    for _ in range(n_steps):
        many = count(enough.coef, budget)
        if budget <= many <= (1 + slack) * budget or high / low < 1 + 1e-9:
            break
        # The number of weights is nearly linear in log(alpha) over a short stretch;
        # away from the ends, so that the bracket shrinks whatever the numbers.
        share = np.clip((many - budget) / (many - few), 0.1, 0.9)
        middle = float(low * (high / low) ** share)
        stage("penalty", next(penalties))
        solution = solve(middle, enough)
        n_found = int(count(solution.coef, budget))
        if n_found >= budget:
            low, enough = middle, solution
        else:
            high, few = middle, n_found
    return low, enough


def entry_alpha(gradient: np.ndarray, coef: np.ndarray) -> float:
    """Return the smallest penalty at which no zero weight would become nonzero."""
    return float(np.abs(np.where(coef == 0, gradient, 0.0)).max(initial=0.0))
