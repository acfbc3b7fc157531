"""How a connector is fitted: one function for each solver, all with one result."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from scipy import sparse

from skfeat.kernels.connector._second_moments import compiled, mostly_zeros, to_csr
from skfeat.losses import rectified
from skfeat.solvers._loop import EpochHooks, Stopping, run_epochs
from skfeat.solvers.connector._eliminate import eliminate
from skfeat.solvers.connector._gram import GramProblem
from skfeat.solvers.connector._lasso_wide import ColumnProblem
from skfeat.solvers.connector._path import Solution, find_alpha, geometric_alphas, trim
from skfeat.solvers.connector._rectified import RectifiedProblem
from skfeat.solvers.connector._rectified_minibatch import (
    ConnectorSettings,
    ConnectorTrainer,
    Scales,
)
from skfeat.solvers.connector._rectified_sparse import SparseRectifiedProblem
from skfeat.solvers.connector._statistics import GramStatistics
from skfeat.utils._torch import n_batches

# Fewer products of rows and weights than this are not worth compiling loops.
WORTH_COMPILING = 2**27

# Second moments of more numbers than this (two GiB) are not held.
MOST_MOMENTS = 2**28

# How many candidates elimination has need not be exact.
_CANDIDATES_SLACK = 0.1

# Updates that a minibatch fit plans by default.
_AUTO_UPDATES = 800


@dataclass(frozen=True)
class Rows:
    """What a connector is fitted to.

    Parameters
    ----------
    X : ndarray or CSR of shape (n, p)
    Y : ndarray of shape (n, q)
        CSR where only second moments are taken of it.
    sample_weight : ndarray of shape (n,)
    """

    X: np.ndarray
    Y: np.ndarray
    sample_weight: np.ndarray

    def suits_columns(self) -> bool:
        """Tell whether the compiled loops over nonzero inputs are the fast way.

        Targets below zero put a kink into the loss, where descent on one weight at a
        time can be caught.
        """
        size = self.X.shape[0] * self.X.shape[1] * self.Y.shape[1]
        if size < WORTH_COMPILING or compiled() is None:
            return False
        return mostly_zeros(self.X) and self.Y.min(initial=0) >= 0

    def n_nonzero_inputs(self) -> int:
        """Count the nonzero numbers of X."""
        X: Any = self.X
        return int(X.nnz if sparse.issparse(X) else np.count_nonzero(X))

    def is_wide(self) -> bool:
        """Tell whether second moments would not fit, and need not be held."""
        p, q = self.X.shape[1], self.Y.shape[1]
        if compiled() is None or p * (p + q) <= MOST_MOMENTS:
            return False
        return mostly_zeros(self.X) and mostly_zeros(self.Y)

    def statistics(self) -> GramStatistics:
        """Second moments of the rows."""
        empty = GramStatistics.zeros(self.X.shape[1], self.Y.shape[1])
        return empty.update(self.X, self.Y, self.sample_weight)

    def problem(self, fit_intercept: bool) -> GramProblem:
        """Return the linear connector's problem."""
        return self.statistics().problem(fit_intercept, in_place=True)


@dataclass(frozen=True)
class Target:
    """What is asked of the weights.

    Parameters
    ----------
    alpha : float
    budget : int, ndarray of shape (q,) or None
        Nonzero weights, in all or of each output; overrides `alpha`.
    refit : bool
    fit_intercept : bool
    tol : float
    max_iter : int or None
    candidates : float
        Weights that the linear connector's penalty leaves to elimination, as a
        multiple of the budget; one: the penalty alone meets it.
    """

    alpha: float
    budget: int | np.ndarray | None
    refit: bool
    fit_intercept: bool
    tol: float
    max_iter: int | None
    candidates: float = 1.0


@dataclass
class Fit:
    """Weights (q, p), intercept (q,) and how they were reached."""

    coef: np.ndarray
    intercept: np.ndarray
    alpha: float
    n_iter: int
    stopping_value: float
    loss_curve: list[float] = field(default_factory=list)
    state: dict | GramStatistics | None = None
    interrupted: bool = False


def fit_linear(
    problem: GramProblem,
    target: Target,
    start: np.ndarray,
    hooks: EpochHooks | None = None,
) -> Fit:
    """Solve the linear connector on its second moments; the start is written over."""
    if isinstance(target.budget, np.ndarray):
        fits = [
            _fit_problem(problem.output(o), replace(target, budget=int(left)), None)
            for o, left in enumerate(target.budget)
        ]
        return Fit(
            np.vstack([fit.coef for fit in fits]),
            np.hstack([fit.intercept for fit in fits]),
            max(fit.alpha for fit in fits),
            max(fit.n_iter for fit in fits),
            max(fit.stopping_value for fit in fits),
        )
    return _fit_problem(problem, target, start, hooks, in_place=True)


def fit_wide(rows: Rows, target: Target, hooks: EpochHooks | None = None) -> Fit:
    """Solve the linear connector without a Gram matrix; the weights stay sparse."""
    problem = ColumnProblem(
        rows.X, rows.Y, rows.sample_weight, fit_intercept=target.fit_intercept
    )

    max_iter = target.max_iter or 1000

    def solve(alpha, before, hooks=None):
        coef, n_iter, gap = problem.solve(
            alpha, before.coef, tol=target.tol, max_iter=max_iter, hooks=hooks
        )
        return Solution(coef, problem.intercept(coef), n_iter, gap)

    null = Solution(sparse.csr_array(problem.shape), problem.y_mean, 0, 0.0)
    if target.budget is None:
        alpha, solution = target.alpha, solve(target.alpha, null, hooks)
    else:
        # A few weights too many are trimmed: each solution is a pass over all outputs.
        budget = target.budget
        assert isinstance(budget, int)
        alpha, solution = find_alpha(solve, null, problem.alpha_max, budget, slack=0.02)
        solution = solution._replace(coef=problem.trim(solution.coef, budget))
    coef = problem.refit(solution.coef) if target.refit else solution.coef
    return Fit(coef, problem.intercept(coef), alpha, *solution[2:])


def _fit_problem(problem, target, start, hooks=None, *, in_place=False) -> Fit:
    solve, null = _linear_solver(
        problem, target, in_place=in_place and target.budget is None
    )
    if target.budget is None:
        alpha = target.alpha
        solution = solve(alpha, null._replace(coef=start), hooks)
        coef = solution.coef
    elif target.candidates > 1 and target.refit:
        wider = min(round(target.candidates * target.budget), null.coef.size)
        alpha, solution = find_alpha(
            solve, null, problem.alpha_max, wider, slack=_CANDIDATES_SLACK
        )
        coef = solution.coef * eliminate(problem, solution.coef, target.budget)
    else:
        alpha, solution = find_alpha(solve, null, problem.alpha_max, target.budget)
        coef = trim(solution.coef, problem.saliency(solution.coef), target.budget)
    if target.refit:
        coef = problem.refit(coef != 0)
    return Fit(
        coef,
        problem.intercept(coef),
        alpha,
        solution.n_iter,
        solution.stopping_value,
    )


def fit_rectified(
    rows: Rows, target: Target, start: Solution, hooks: EpochHooks | None = None
) -> Fit:
    """Solve the rectified connector on all rows at once."""
    return _fit_rectified(_rectified_problem(rows, target, hooks), target, start)


def fit_candidates(rows: Rows, target: Target, targets: list[Target], *, linear: bool):
    """Fit several targets to the same rows, each started by the one before.

    Yields
    ------
    Fit
    """
    coef = np.zeros((rows.Y.shape[1], rows.X.shape[1]))
    if linear:
        problem = rows.problem(target.fit_intercept)
        for each in targets:
            fit = _fit_problem(problem, each, coef)
            coef = fit.coef
            yield fit
    else:
        rectified_problem = _rectified_problem(rows, target)
        _, start = rectified_problem.null()
        for each in targets:
            fit = _fit_rectified(rectified_problem, each, start)
            start = Solution(fit.coef, fit.intercept, 0, 0.0)
            yield fit


def largest_alpha(rows: Rows, target: Target, *, linear: bool) -> float:
    """Return the smallest alpha at which all weights are zero."""
    if linear:
        return rows.problem(target.fit_intercept).alpha_max
    return _rectified_problem(rows, target).null()[0]


def _fit_rectified(problem: RectifiedProblem, target: Target, start: Solution) -> Fit:
    alpha, budget = target.alpha, target.budget
    if budget is None:
        solution = problem.solve(alpha, start)
        if target.refit and alpha > 0:
            solution = problem.refit(solution)
    elif target.refit:
        solution = problem.prune(start, budget)
        alpha = _entry_alpha(problem.gradient(solution), solution.coef)
    else:
        alpha_max, null = problem.null()
        solve = partial(problem.solve, warn=False)
        assert isinstance(budget, int)
        alpha, solution = find_alpha(solve, null, alpha_max, budget)
        coef = trim(solution.coef, np.abs(solution.coef) * problem.spread, budget)
        if coef is not solution.coef:
            solution = problem.settle(alpha, solution._replace(coef=coef))
        problem.check(solution)
    return Fit(
        solution.coef,
        solution.intercept,
        alpha,
        solution.n_iter,
        solution.stopping_value,
    )


def fit_minibatch(
    rows: Rows,
    target: Target,
    start: Solution,
    settings: ConnectorSettings,
    *,
    hooks: EpochHooks | None = None,
    verbose: int = 0,
) -> Fit:
    """Train a rectified connector in shuffled batches."""
    scales = Scales.of(rows.X, rows.Y, rows.sample_weight)
    n_rows = rows.X.shape[0]
    max_iter = target.max_iter
    if max_iter is None:
        max_iter = max(5, -(-_AUTO_UPDATES // n_batches(n_rows, settings.batch_size)))

    def train(trainer, n_epochs):
        trainer.plan(n_rows, n_epochs)
        return run_epochs(
            lambda: trainer.epoch(rows.X, rows.Y, rows.sample_weight),
            Stopping(n_epochs, target.tol, n_epochs),
            name="FeatureConnector",
            state=trainer.weights,
            hooks=hooks,
            verbose=verbose,
        )

    trainer = ConnectorTrainer(settings, start, scales)
    history = train(trainer, max_iter)
    coef, intercept = trainer.finish()
    losses, state = history.losses, trainer.state()
    penalised = target.budget is None and settings.alpha > 0
    if target.refit and penalised and not history.stopped:
        trainer = ConnectorTrainer(
            replace(settings, alpha=0.0),
            Solution(coef, intercept, 0, 0.0),
            scales,
            support=coef != 0,
        )
        history = train(trainer, max(1, max_iter // 2))
        losses = losses + history.losses
        coef, intercept = trainer.finish()
    # Targets have unit mean square here: zero weights lose half a unit an output.
    if losses and losses[-1] > 10 * rows.Y.shape[1]:
        raise ValueError(
            f"FeatureConnector diverged: its loss is {losses[-1]:.3g}, far above that "
            f"of zero weights; lower 'learning_rate_init'."
        )
    alpha = target.alpha
    if target.budget is not None:
        alpha = _entry_alpha(_gradient(rows, coef, intercept), coef)
    change = np.inf
    if len(losses) > 1:
        change = abs(losses[-1] - losses[-2]) / max(losses[-1], 1e-12)
    return Fit(
        coef,
        intercept,
        alpha,
        len(losses),
        change,
        losses,
        state,
        history.interrupted,
    )


def update_minibatch(
    rows: Rows, start: Solution, settings: ConnectorSettings, state: dict | None
) -> Fit:
    """Train for one pass over rows, going on from the state of the pass before."""
    scales = state["scales"] if state else Scales.of(rows.X, rows.Y, rows.sample_weight)
    trainer = ConnectorTrainer(settings, start, scales)
    if state:
        trainer.load_state(state)
    loss = trainer.epoch(rows.X, rows.Y, rows.sample_weight)
    state = trainer.state()
    return Fit(*trainer.finish(), settings.alpha, 1, np.inf, [loss], state)


def solution_path(
    rows: Rows,
    target: Target,
    alphas,
    n_alphas: int,
    eps: float,
    *,
    linear: bool,
    sparse_output: bool = False,
) -> tuple[np.ndarray, list[Solution]]:
    """Solve the connector along decreasing alphas, each from the one before."""
    if linear:
        problem = rows.problem(target.fit_intercept)
        grid = _alphas(alphas, problem.alpha_max, n_alphas, eps)
        max_iter = target.max_iter or 1000
        return grid, problem.solve_path(
            grid, tol=target.tol, max_iter=max_iter, sparse_output=sparse_output
        )
    rectified_problem = _rectified_problem(rows, target)
    alpha_max, solution = rectified_problem.null()
    grid = _alphas(alphas, alpha_max, n_alphas, eps)
    solutions = []
    for alpha in grid:
        solution = rectified_problem.solve(float(alpha), solution)
        kept = to_csr(solution.coef) if sparse_output else solution.coef
        solutions.append(solution._replace(coef=kept))
    return grid, solutions


def _linear_solver(problem, target, *, in_place=False):
    def solve(alpha, before, hooks=None):
        coef, n_iter, gap = problem.solve(
            alpha,
            before.coef,
            tol=target.tol,
            max_iter=target.max_iter or 1000,
            hooks=hooks,
            in_place=in_place,
        )
        return Solution(coef, problem.intercept(coef), n_iter, gap)

    return solve, Solution(np.zeros_like(problem.yx), problem.y_mean, 0, 0.0)


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


def _rectified_problem(rows, target, hooks=None) -> RectifiedProblem:
    kind = SparseRectifiedProblem if rows.suits_columns() else RectifiedProblem
    return kind(
        rows.X,
        rows.Y,
        rows.sample_weight,
        fit_intercept=target.fit_intercept,
        statistics=rows.statistics(),
        tol=target.tol,
        max_iter=target.max_iter or 2000,
        hooks=hooks,
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


def _entry_alpha(gradient: np.ndarray, coef: np.ndarray) -> float:
    """Smallest L1 weight at which no weight outside the support would enter."""
    return float(np.abs(np.where(coef == 0, gradient, 0.0)).max(initial=0.0))
