"""Fitting the linear connector, on second moments or without them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse

from skfeat.solvers._loop import EpochHooks
from skfeat.solvers.connector._eliminate import eliminate
from skfeat.solvers.connector._fit_parts import Fit, FitOptions, Rows
from skfeat.solvers.connector._gap import warn_of_gap
from skfeat.solvers.connector._gram import GramProblem
from skfeat.solvers.connector._path import Solution, find_alpha, trim

# How many candidates elimination has need not be exact.
_CANDIDATES_SLACK = 0.1


def fit_linear(
    problem: GramProblem,
    options: FitOptions,
    start: np.ndarray,
    hooks: EpochHooks | None = None,
) -> Fit:
    """Solve the linear connector on its second moments; the start is written over."""
    fit = _fit_linear(problem, options, start, hooks)
    warn_of_gap(fit.shortfall, options.tol, options.max_iter or 1000)
    return fit


def _fit_linear(problem, options, start, hooks):
    if isinstance(options.budget, np.ndarray):
        fits = [
            fit_gram(problem.output(o), replace(options, budget=int(left)), None)
            for o, left in enumerate(options.budget)
        ]
        return Fit(
            np.vstack([fit.coef for fit in fits]),
            np.hstack([fit.intercept for fit in fits]),
            max(fit.alpha for fit in fits),
            max(fit.n_iter for fit in fits),
            max(fit.stopping_value for fit in fits),
            shortfall=max(fit.shortfall for fit in fits),
        )
    return fit_gram(problem, options, start, hooks, in_place=True)


def fit_wide(rows: Rows, options: FitOptions, hooks: EpochHooks | None = None) -> Fit:
    """Solve the linear connector without a Gram matrix; the weights stay sparse."""
    from skfeat.solvers.connector._lasso_wide import ColumnProblem

    problem = ColumnProblem(
        rows.X, rows.Y, rows.sample_weight, fit_intercept=options.fit_intercept
    )

    max_iter = options.max_iter or 1000

    def solve(alpha, before, hooks=None):
        coef, how = problem.solve(
            alpha, before.coef, tol=options.tol, max_iter=max_iter, hooks=hooks
        )
        return Solution(coef, problem.intercept(coef), *how)

    null = Solution(sparse.csr_array(problem.shape), problem.y_mean, 0, 0.0)
    if options.budget is None:
        alpha, solution = options.alpha, solve(options.alpha, null, hooks)
    else:
        # A few weights too many are trimmed: each solution is a pass over all outputs.
        budget = options.budget
        assert isinstance(budget, int)
        alpha, solution = find_alpha(solve, null, problem.alpha_max, budget, slack=0.02)
        solution = solution._replace(coef=problem.trim(solution.coef, budget))
    warn_of_gap(solution.shortfall, options.tol, max_iter)
    coef = problem.refit(solution.coef) if options.refit else solution.coef
    return Fit(
        coef,
        problem.intercept(coef),
        alpha,
        solution.n_iter,
        solution.stopping_value,
    )


def fit_gram(
    problem: GramProblem,
    options: FitOptions,
    start: np.ndarray | None,
    hooks: EpochHooks | None = None,
    *,
    in_place: bool = False,
) -> Fit:
    """Solve the linear connector with one budget, or with a penalty from a start."""
    budget = options.budget
    solve, null = _gram_solver(problem, options, in_place=in_place and budget is None)
    if budget is None:
        alpha = options.alpha
        solution = solve(alpha, null._replace(coef=start), hooks)
        coef = solution.coef
    elif isinstance(budget, np.ndarray):
        raise TypeError("each output has a budget of its own: see fit_linear")
    elif options.candidates > 1 and options.refit:
        wider = min(round(options.candidates * budget), null.coef.size)
        alpha, solution = find_alpha(
            solve, null, problem.alpha_max, wider, slack=_CANDIDATES_SLACK
        )
        coef = solution.coef * eliminate(problem, solution.coef, budget)
    else:
        alpha, solution = find_alpha(solve, null, problem.alpha_max, budget)
        coef = trim(solution.coef, problem.saliency(solution.coef), budget)
    if options.refit:
        coef = problem.refit(coef != 0)
    return Fit(
        coef,
        problem.intercept(coef),
        alpha,
        solution.n_iter,
        solution.stopping_value,
        shortfall=solution.shortfall,
    )


def _gram_solver(problem, options, *, in_place=False):
    def solve(alpha, before, hooks=None):
        coef, how = problem.solve(
            alpha,
            before.coef,
            tol=options.tol,
            max_iter=options.max_iter or 1000,
            hooks=hooks,
            in_place=in_place,
        )
        return Solution(coef, problem.intercept(coef), *how)

    return solve, Solution(np.zeros_like(problem.yx), problem.y_mean, 0, 0.0)
