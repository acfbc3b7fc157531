"""Fitting the rectified connector on all rows at once."""

from __future__ import annotations

import numpy as np

from skfeat.solvers._loop import EpochHooks
from skfeat.solvers.connector._choose import rectifies_over_nonzeros
from skfeat.solvers.connector._fit_parts import Fit, FitOptions, Rows
from skfeat.solvers.connector._path import Solution, entry_alpha, find_alpha, trim
from skfeat.solvers.connector._rectified import RectifiedProblem


def fit_rectified(
    rows: Rows, options: FitOptions, start: Solution, hooks: EpochHooks | None = None
) -> Fit:
    """Solve the rectified connector on all rows at once."""
    problem = rectified_problem(rows, options, hooks)
    fit = fit_problem(problem, options, start)
    problem.warn_of(fit.shortfall)
    return fit


def fit_problem(problem: RectifiedProblem, options: FitOptions, start: Solution) -> Fit:
    """Solve a problem for a penalty or a budget, from a start."""
    alpha, budget = options.alpha, options.budget
    if budget is None:
        solution = problem.solve(alpha, start)
        if options.refit and alpha > 0:
            solution = problem.refit(solution)
    elif options.refit:
        solution = problem.prune(start, budget)
        alpha = entry_alpha(problem.gradient(solution), solution.coef)
    else:
        alpha_max, null = problem.null()
        assert isinstance(budget, int)
        alpha, solution = find_alpha(problem.solve, null, alpha_max, budget)
        coef = trim(solution.coef, np.abs(solution.coef) * problem.spread, budget)
        if coef is not solution.coef:
            solution = problem.settle(alpha, solution._replace(coef=coef))
    return Fit(
        solution.coef,
        solution.intercept,
        alpha,
        solution.n_iter,
        solution.stopping_value,
        solution.shortfall,
    )


def rectified_problem(
    rows: Rows, options: FitOptions, hooks: EpochHooks | None = None
) -> RectifiedProblem:
    """Return the problem, and with it the solver, of some rows."""
    kind = RectifiedProblem
    if rectifies_over_nonzeros(rows.X, rows.Y):
        from skfeat.solvers.connector._rectified_sparse import SparseRectifiedProblem

        kind = SparseRectifiedProblem
    return kind(
        rows.X,
        rows.Y,
        rows.sample_weight,
        fit_intercept=options.fit_intercept,
        statistics=rows.statistics(),
        tol=options.tol,
        max_iter=options.max_iter or 2000,
        hooks=hooks,
    )
