"""The rectified connector on inputs that are mostly zeros, by coordinate descent.

Each output is solved alone, on its active inputs, touching only the rows in which an
input is nonzero; `skfeat.kernels.connector._loops_rectified` has the loops.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skfeat.kernels._threads import Team
from skfeat.kernels.connector import _loops_rectified as loops
from skfeat.kernels.connector._arrays import (
    Columns,
    RectifiedData,
    RectifiedObjective,
    RectifiedSolution,
    SparseRows,
)
from skfeat.kernels.connector._second_moments import compress_to_float64
from skfeat.losses import rectified_convex
from skfeat.solvers.connector._path import Solution, count, pruned_to, trim
from skfeat.solvers.connector._rectified import RectifiedProblem
from skfeat.utils._progress import stage, tick
from skfeat.utils._warnings import warn

# Outputs are solved in so many shares at least, and callbacks called after each.
_N_SHARES = 8

# Pruning to a budget starts from an L1 solution with so many times as many weights, and
# takes so many stages. On features of MNIST layers one with none to prune explains less
# in all, four times as many less too: the penalty chooses better than size does.
_SURPLUS, _STAGES = 1.5, 4

# What is pruned next need not be solved further than this.
_ROUGH = 1e-5

# Steps down the path of alphas, and where it ends.
_RATIO, _SMALLEST = 0.6, 1e-4


class SparseRectifiedProblem(RectifiedProblem):
    """A `RectifiedProblem` whose X is mostly zeros.

    The stopping value is the decrease of the objective that one step of every weight
    promises, relative to half the mean square of the output; the largest counts.
    """

    def __init__(self, X, Y, sample_weight, **options):
        with Team() as team:
            X, targets = compress_to_float64(X, team), compress_to_float64(Y, team)
        super().__init__(X, Y, sample_weight, **options)
        half = self.weights[:, 0] @ targets.power(2) / 2
        self._scale = np.where(half > 0, half, 1.0)
        weights = self.weights[:, 0]
        self._data = RectifiedData(
            columns=Columns.of(X),
            rows=SparseRows.of(X),
            targets=Columns.of(targets),
            weights=weights,
            bound=weights @ X.power(2),
        )

    def null(self) -> tuple[float, Solution]:
        """Smallest alpha at which all weights are zero, and the solution there.

        No target is negative, so with the intercept at their mean all rows are on, and
        the gradients are those of least squares.
        """
        coef = np.zeros((self.Y.shape[1], self.X.shape[1]))
        offset = self.y_mean.copy()
        return float(self.steepest.max(initial=0.0)), Solution(coef, offset, 0, 0.0)

    def warn_of(self, shortfall: float) -> None:
        """Warn if `max_iter` ended a fit so far from what `tol` asks for."""
        if shortfall > self.tol and not self.stopped:
            warn(
                f"FeatureConnector stopped at max_iter={self.max_iter} sweeps; one more"
                f" promised to lower the objective of its worst output by "
                f"{shortfall:.3g} of half the output's mean square, above "
                f"tol={self.tol:g}.",
                ConvergenceWarning,
                severity=shortfall,
            )

    def prune(self, start: Solution, budget, *, n_stages: int = _STAGES) -> Solution:
        """Reduce an L1 solution to a budget, in stages of removal and refit.

        The start plays no part: the path of L1 solutions begins at zero.
        """
        alpha_max, solution = self.null()
        alpha = np.full(len(solution.coef), alpha_max)
        most = count(np.ones_like(solution.coef), budget)
        wanted = np.minimum((_SURPLUS * np.asarray(budget)).astype(int), most)
        # Outputs that have enough weights of their own keep their alpha.
        few = np.asarray(count(solution.coef, budget) < wanted)
        while few.any() and alpha.min() > _SMALLEST * alpha_max:
            alpha = np.where(few, _RATIO * alpha, alpha)
            solution = self._rough(alpha, solution, None)
            few = np.asarray(count(solution.coef, budget) < wanted)
        found = count(solution.coef, budget)
        if np.any(found < budget):
            return super().prune(start, budget)
        for number in range(1, n_stages + 1):
            stage("stage", number, n_stages)
            left = pruned_to(budget, found, number / n_stages)
            coef = trim(solution.coef, np.abs(solution.coef) * self.spread, left)
            solution = self._rough(0.0, solution._replace(coef=coef), coef != 0)
        return self.refit(solution)

    def refit(self, solution: Solution) -> Solution:
        """Minimise the loss on the support of a solution, without the penalty."""
        return self.solve(0.0, solution, support=solution.coef != 0)

    def _rough(self, alpha, solution, support) -> Solution:
        offset = solution.intercept + solution.coef @ self.center
        coef, offset, n_iter, decrease, _ = self._descend(
            rectified_convex,
            alpha,
            solution.coef,
            offset,
            support,
            self.max_iter,
            tol=max(_ROUGH, self.tol),
        )
        intercept = offset - coef @ self.center
        return Solution(coef, intercept, solution.n_iter + n_iter, decrease)

    def _descend(self, loss, alpha, coef, offset, support, max_iter, tol=None):
        """Coordinate descent on one loss; see `RectifiedProblem._descend`."""
        coef = np.array(coef, dtype=np.float64, order="C")
        intercept = np.array(offset - coef @ self.center, dtype=np.float64)
        if loss is rectified_convex and self.fit_intercept:
            # The best intercept without weights keeps all rows on, and each of them
            # costs time in each round, where in the end few are.
            empty = ~coef.any(axis=1) & (self.steepest > alpha)
            intercept[empty] = np.minimum(intercept[empty], 0.0)
        q = len(coef)
        allowed = (self.tol if tol is None else tol) * self._scale
        promised, n_iter = np.zeros(q), np.zeros(q, dtype=np.int64)
        size = max(1, -(-q // _N_SHARES))
        work = 20 * (len(self._data.columns.value) + len(self.weights) * 10)
        targets = self._data.targets
        penalties = np.ascontiguousarray(np.broadcast_to(alpha, q), float)
        with Team() as team:
            for start in range(0, q, size):
                if self.stopped:
                    break
                part = slice(start, min(q, start + size))
                pointer = targets.pointer[part.start : part.stop + 1]
                data = self._data._replace(targets=targets._replace(pointer=pointer))
                objective = RectifiedObjective(
                    penalties[part],
                    self.fit_intercept,
                    loss is rectified_convex,
                    support is not None,
                    allowed[part],
                    max_iter,
                )
                solution = RectifiedSolution(
                    coef[part], intercept[part], promised[part], n_iter[part]
                )
                self.hooks.begin()
                team.run(
                    partial(_descend_outputs, data, objective, solution),
                    part.stop - part.start,
                    n_elements=work,
                )
                tick("output", part.stop, q)
                self.stopped = self.hooks.end(partial(_copies, coef, intercept))
        value = float((promised / self._scale).max(initial=0.0))
        offset = intercept + coef @ self.center
        return coef, offset, int(n_iter.max(initial=0)), value, value


def _descend_outputs(data, objective, solution, first, last):
    loops.descend_rectified(first, last, data, objective, solution)


def _copies(*arrays):
    return tuple(array.copy() for array in arrays)
