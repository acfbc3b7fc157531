"""Fitting a connector several times to the same rows: in turn, or along a path."""

from __future__ import annotations

import numpy as np

from skfeat.kernels.connector._sparsity import to_csr
from skfeat.solvers.connector._fit_linear import fit_gram
from skfeat.solvers.connector._fit_parts import FitOptions, Rows
from skfeat.solvers.connector._fit_rectified import fit_problem, rectified_problem
from skfeat.solvers.connector._gap import warn_of_gap
from skfeat.solvers.connector._path import Solution, geometric_alphas
from skfeat.solvers.connector._reduce import Reduction
from skfeat.utils._progress import stage
from skfeat.utils._warnings import told_once


def fit_candidates(
    rows: Rows, options: FitOptions, several: list[FitOptions], *, linear: bool
):
    """Fit the same rows in several ways, each started by the one before.

    Each gives its own warnings: see `skfeat.utils._warnings.told_once`.

    Yields
    ------
    Fit
    """
    part = Reduction.of(rows, fit_intercept=options.fit_intercept)
    rows, several = part.rows, [part.options(each) for each in several]
    coef = np.zeros((rows.Y.shape[1], rows.X.shape[1]))
    if part.is_solved:
        yield from (part.whole(part.nothing(each)) for each in several)
    elif linear:
        problem = rows.problem(options.fit_intercept)
        for number, each in enumerate(several, 1):
            stage("candidate", number, len(several))
            fit = fit_gram(problem, each, coef)
            coef = fit.coef
            warn_of_gap(fit.shortfall, options.tol, options.max_iter or 1000)
            yield part.whole(fit)
    else:
        by_rows = rectified_problem(rows, options)
        _, start = by_rows.null()
        for number, each in enumerate(several, 1):
            stage("candidate", number, len(several))
            fit = fit_problem(by_rows, each, start)
            start = Solution(fit.coef, fit.intercept, 0, 0.0)
            by_rows.warn_of(fit.shortfall)
            yield part.whole(fit)


def largest_alpha(rows: Rows, options: FitOptions, *, linear: bool) -> float:
    """Return the smallest alpha at which all weights are zero."""
    if linear:
        return rows.problem(options.fit_intercept).alpha_max
    return rectified_problem(rows, options).null()[0]


def solution_path(
    rows: Rows,
    options: FitOptions,
    alphas,
    n_alphas: int,
    eps: float,
    *,
    linear: bool,
    sparse_output: bool = False,
) -> tuple[np.ndarray, list[Solution]]:
    """Solve the connector along decreasing alphas, each from the one before."""
    part = Reduction.of(rows, fit_intercept=options.fit_intercept)
    rows = part.rows
    if part.is_solved:
        grid = _alphas(alphas, 0.0, n_alphas, eps)
        fit = part.nothing(options)
        solution = part.solution(Solution(fit.coef, fit.intercept, 0, 0.0))
        make = to_csr if sparse_output else np.copy
        return grid, [solution._replace(coef=make(solution.coef)) for _ in grid]
    if linear:
        problem = rows.problem(options.fit_intercept)
        grid = _alphas(alphas, problem.alpha_max, n_alphas, eps)
        max_iter = options.max_iter or 1000
        solutions = problem.solve_path(
            grid, tol=options.tol, max_iter=max_iter, sparse_output=sparse_output
        )
        with told_once(len(grid), "solutions of the path"):
            for solution in solutions:
                warn_of_gap(solution.shortfall, options.tol, max_iter)
        return grid, [part.solution(solution) for solution in solutions]
    by_rows = rectified_problem(rows, options)
    alpha_max, solution = by_rows.null()
    grid = _alphas(alphas, alpha_max, n_alphas, eps)
    solutions = []
    for alpha in grid:
        solution = by_rows.solve(float(alpha), solution)
        kept = to_csr(solution.coef) if sparse_output else solution.coef
        solutions.append(solution._replace(coef=kept))
    with told_once(len(grid), "solutions of the path"):
        for solution in solutions:
            by_rows.warn_of(solution.shortfall)
    return grid, [part.solution(solution) for solution in solutions]


def _alphas(alphas, alpha_max, n_alphas, eps):
    if alphas is None:
        return geometric_alphas(alpha_max, n_alphas, eps)
    try:
        grid = np.asarray(alphas, dtype=np.float64)
    except (TypeError, ValueError):
        grid = np.empty(0)
    # Infinity times a weight of zero would be no objective.
    if grid.ndim != 1 or not len(grid) or not ((grid >= 0) & (grid < np.inf)).all():
        raise ValueError(
            f"alphas must be one or more finite numbers of at least 0. Got {alphas!r} "
            f"instead."
        )
    return np.sort(grid)[::-1]
