"""Full-batch solver of the rectified connector, ``Y = max(0, X W^T + b)``.

The squared error of a rectified output is not convex: where a target is on but the
unit is off, its gradient is zero and nothing moves. The solver first minimises the
convex majorant `losses.rectified_convex`, which has one optimum for every start, then
goes down the true loss from there. Both stages are accelerated proximal gradient
steps [1]_ with restarts [2]_, so zeros are exact.

Step sizes: on centred inputs the curvature of both losses is at most that of least
squares, ``G = X^T X / n`` for the weights and 1 for the intercept. Scaling each input
by its own ``G_jj`` leaves one Lipschitz constant, the largest eigenvalue of the
inputs' correlation matrix.

References
----------
.. [1] A. Beck and M. Teboulle, "A Fast Iterative Shrinkage-Thresholding Algorithm",
   SIAM J. Imaging Sciences, 2009.
.. [2] B. O'Donoghue and E. Candes, "Adaptive Restart for Accelerated Gradient
   Schemes", Foundations of Computational Mathematics, 2015.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from skfeat.losses import rectified, rectified_convex
from skfeat.penalties import L1
from skfeat.solvers._loop import EpochHooks
from skfeat.solvers.connector._newton import refit_rectified
from skfeat.solvers.connector._path import Solution, count, pruned_to, trim
from skfeat.utils._progress import stage, tick
from skfeat.utils._warnings import warn

if TYPE_CHECKING:
    from skfeat.solvers.connector._statistics import GramStatistics

# The objective is compared over this many iterations to decide about stopping.
_WINDOW = 10
# An objective below this share of the targets' mean square is as good as zero.
_EXACT = 1e-12
# A step shortened below this share has found no way down.
_SHORTEST = 1e-3


class RectifiedProblem:
    """Rows and targets of a rectified connector, and what is computed from them once.

    Parameters
    ----------
    X : ndarray or CSR of shape (n, p)
    Y : ndarray of shape (n, q)
    sample_weight : ndarray of shape (n,)
    fit_intercept : bool
    statistics : GramStatistics
        Of X and Y.
    tol : float
        Relative decrease of the objective over ten iterations that ends a stage.
    max_iter : int
        Iterations of a stage at most.
    hooks : EpochHooks, optional
        Called round every iteration of `solve`, with the weights and the intercept.
    """

    def __init__(
        self,
        X,
        Y: np.ndarray,
        sample_weight: np.ndarray,
        *,
        fit_intercept: bool,
        statistics: GramStatistics,
        tol: float,
        max_iter: int,
        hooks: EpochHooks | None = None,
    ):
        self.hooks = hooks or EpochHooks()
        self.stopped = False
        # Products with float64 weights would convert X again in every iteration.
        self.X = X.astype(np.float64, copy=False)
        self.Y = Y
        self.weights = (sample_weight / sample_weight.sum())[:, None]
        squares = np.einsum("ij,ij->i", Y, Y, dtype=np.float64)
        self.mean_square = float(squares @ self.weights[:, 0]) or 1.0
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter
        problem = statistics.problem(fit_intercept)
        gram = problem.xx
        # The largest gradient of each output at weights of zero and the best intercept.
        self.steepest = np.abs(problem.yx).max(axis=1, initial=0.0)
        # What is subtracted: zero where there is no intercept.
        self.center, self.y_mean = problem.x_mean, problem.y_mean
        diagonal = np.diag(gram)
        # An input that never varies cannot be stepped along.
        self.varies = diagonal > 0
        self.spread = np.sqrt(diagonal.clip(0))
        self._gram = gram

    @cached_property
    def steps(self) -> np.ndarray:
        """How far a unit of gradient may move the weights of each input."""
        diagonal = np.square(self.spread)
        inverse = np.where(self.varies, 1 / np.where(self.varies, diagonal, 1.0), 0.0)
        root = np.sqrt(inverse)
        lipschitz = _largest_eigenvalue(self._moments_of_scaled(root))
        return inverse / (lipschitz or 1.0)

    def _moments_of_scaled(self, scale: np.ndarray) -> np.ndarray:
        """Return second moments of inputs times a scale, or of rows if these are fewer.

        Both have the same largest eigenvalue.
        """
        n, p = self.X.shape
        if n >= p:
            return scale[:, None] * self._gram * scale
        rows = self.X.toarray() if sparse.issparse(self.X) else self.X
        rows = (rows - self.center) * scale * np.sqrt(self.weights)
        return rows @ rows.T

    def null(self) -> tuple[float, Solution]:
        """Smallest alpha at which all weights are zero, and the solution there."""
        coef = np.zeros((self.Y.shape[1], self.X.shape[1]))
        offset = np.zeros(self.Y.shape[1])
        if self.fit_intercept:
            offset = np.maximum(self.y_mean, 0.0)
        residual, _ = rectified_convex(self._pre(coef, offset), self.Y)
        gradient = self._pull(self.weights * residual)
        return L1.alpha_max(gradient), Solution(coef, offset, 0, 0.0)

    def objective(self, coef, offset, alpha, loss=rectified) -> float:
        """Value of the objective at weights and at the intercept of centred inputs."""
        return self._value(loss, self._pre(coef, offset)) + L1(alpha).value(coef)

    def solve(self, alpha: float, start: Solution, *, support=None) -> Solution:
        """Minimise the convex majorant, then the loss itself, from a start.

        Parameters
        ----------
        alpha : float
        start : Solution
        support : bool ndarray of shape (q, p), optional
            Weights that may be nonzero; all by default.

        Returns
        -------
        Solution
            Its stopping value is the relative decrease of the last ten iterations.
        """
        offset = start.intercept + start.coef @ self.center
        coef, total = start.coef * self.varies, 0
        for loss in (rectified_convex, rectified):
            coef, offset, n_iter, decrease, worst = self._descend(
                loss, alpha, coef, offset, support, self.max_iter
            )
            total += n_iter
        intercept = offset - coef @ self.center
        return Solution(coef, intercept, total, decrease, shortfall=worst)

    def warn_of(self, shortfall: float) -> None:
        """Warn if `max_iter` ended a fit so far from what `tol` asks for."""
        if shortfall > self.tol and not self.stopped:
            warn(
                f"FeatureConnector stopped at max_iter={self.max_iter} iterations; over"
                f" the last {_WINDOW} the objective of its worst output still fell by"
                f" {shortfall:.3g} of its value, above tol={self.tol:g}.",
                ConvergenceWarning,
                severity=shortfall,
            )

    def settle(self, alpha: float, trimmed: Solution) -> Solution:
        """Solve again on a trimmed support, unless that would lose more weights."""
        support = trimmed.coef != 0
        solution = self.solve(alpha, trimmed, support=support)
        if np.count_nonzero(solution.coef) == np.count_nonzero(support):
            return solution
        return trimmed

    def prune(self, start: Solution, budget, *, n_stages: int = 12) -> Solution:
        """Reduce the weights to a budget, in stages of refit and removal.

        Each stage drops the least salient weights, ``|w_oj| * std(x_j)``, and refits
        the others, so that weights that share a task are not all lost at once.
        """
        # The dense weights only say what to remove first: near is good enough.
        offset = start.intercept + start.coef @ self.center
        coef, offset, n_iter, decrease, _ = self._descend(
            rectified_convex, 0.0, start.coef * self.varies, offset, None, 20 * _WINDOW
        )
        solution = self._switch_off(
            Solution(coef, offset - coef @ self.center, n_iter, decrease)
        )
        dense = count(solution.coef, budget)
        for number in range(1, n_stages + 1):
            stage("stage", number, n_stages)
            left = pruned_to(budget, dense, number / n_stages)
            coef = trim(solution.coef, np.abs(solution.coef) * self.spread, left)
            offset = solution.intercept + solution.coef @ self.center
            support = coef != 0
            coef, offset, n_iter, decrease, _ = self._descend(
                rectified_convex, 0.0, coef, offset, support, 3 * _WINDOW
            )
            solution = Solution(
                coef, offset - coef @ self.center, solution.n_iter + n_iter, decrease
            )
        return self.refit(solution)

    def _switch_off(self, solution: Solution) -> Solution:
        """Take all weights from outputs that are to be off in every row.

        Any will do as long as the output stays off, and none of the budget is to go
        to them.
        """
        on = np.asarray((self.Y > 0).any(axis=0))
        intercept = np.where(on, solution.intercept, np.minimum(solution.intercept, 0))
        return solution._replace(coef=solution.coef * on[:, None], intercept=intercept)

    def refit(self, solution: Solution) -> Solution:
        """Minimise the loss on the support of a solution, without the penalty."""
        support = solution.coef != 0
        # Newton's steps cost the square of an output's weights, but few are needed;
        # only on wide and dense supports is the gradient cheaper.
        if np.square(support.sum(axis=1)).sum() > 200 * support.size:
            return self.solve(0.0, solution, support=support)
        if self.stopped:
            return solution
        self.hooks.begin()
        coef, intercept = refit_rectified(
            self.X,
            self.Y,
            self.weights[:, 0],
            solution.coef,
            solution.intercept,
            fit_intercept=self.fit_intercept,
            tol=self.tol,
        )
        self._report(coef, intercept + coef @ self.center)
        return solution._replace(
            coef=coef, intercept=intercept, n_iter=solution.n_iter + 1
        )

    def gradient(self, solution: Solution) -> np.ndarray:
        """Gradient of the true loss in the weights (q, p)."""
        residual, _ = rectified(
            self._pre(solution.coef, solution.intercept + solution.coef @ self.center),
            self.Y,
        )
        return self._pull(self.weights * residual)

    def _value(self, loss, u) -> float:
        return float((self.weights * loss(u, self.Y)[1]).sum())

    def _pre(self, coef, offset):
        return self.X @ coef.T + (offset - coef @ self.center)

    def _pull(self, residual):
        """Gradient in the weights on centred inputs."""
        total = residual.sum(axis=0)
        return np.asarray(self.X.T @ residual).T - np.outer(total, self.center)

    def _report(self, coef, offset) -> bool:
        return self.hooks.end(lambda: (coef.copy(), offset - coef @ self.center))

    def _descend(self, loss, alpha, coef, offset, support, max_iter):
        """Accelerated proximal gradient on one loss, with function-value restarts.

        Returns the weights, the intercept of centred inputs, the iterations, the
        relative decrease of the objective, and that of the worst output where the
        first is too large.
        """
        penalty = L1(alpha)
        ahead, ahead_offset, momentum = coef, offset, 1.0
        # Pre-activations are linear in the weights: those of a point between two known
        # ones need no product with the rows.
        u = ahead_u = self._pre(coef, offset)
        best = self._value(loss, u) + penalty.value(coef)
        window, earlier = [best], (coef, u)
        decrease, shorter = 0.0, 1.0
        n_iter = 0
        while n_iter < max_iter and not self.stopped:
            n_iter += 1
            if n_iter == max_iter - _WINDOW + 1:
                earlier = coef, u
            tick("iteration", n_iter)
            self.hooks.begin()
            residual, _ = loss(ahead_u, self.Y)
            residual = self.weights * residual
            steps = shorter * self.steps
            new = penalty.prox(ahead - steps * self._pull(residual), steps)
            if support is not None:
                new = new * support
            new_offset = ahead_offset
            if self.fit_intercept:
                new_offset = ahead_offset - shorter * residual.sum(axis=0)
            new_u = self._pre(new, new_offset)
            value = self._value(loss, new_u) + penalty.value(new)
            if value > best:
                # Overshot: forget the momentum and step again from the best point. A
                # plain step overshoots only at the kink of a negative target.
                shorter *= 1.0 if momentum > 1.0 else 0.5
                ahead, ahead_offset, ahead_u, momentum = coef, offset, u, 1.0
                self.stopped = self._report(coef, offset)
                if shorter < _SHORTEST:
                    decrease = 0.0
                    break
                continue
            grown = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            lead = (momentum - 1) / grown
            ahead = new + lead * (new - coef)
            ahead_offset = new_offset + lead * (new_offset - offset)
            ahead_u = new_u + lead * (new_u - u)
            coef, offset, u, momentum = new, new_offset, new_u, grown
            best = value
            window.append(value)
            self.stopped = self._report(coef, offset)
            before = window[max(0, len(window) - 1 - _WINDOW)]
            decrease = (before - value) / max(value, _EXACT * self.mean_square)
            if len(window) > _WINDOW and decrease <= self.tol:
                break
        worst = decrease
        if decrease > self.tol:
            before = self._of_outputs(loss, alpha, *earlier)
            after = self._of_outputs(loss, alpha, coef, u)
            scale = np.square(self.Y).T @ self.weights[:, 0]
            scale = np.where(scale > 0, scale, 1.0)
            falls = (before - after) / np.maximum(after, _EXACT * scale)
            worst = max(worst, float(falls.max(initial=0.0)))
        return coef, offset, n_iter, decrease, worst

    def _of_outputs(self, loss, alpha, coef, u):
        """Value of the objective of each output, at weights and pre-activations."""
        fidelity = self.weights[:, 0] @ loss(u, self.Y)[1]
        return fidelity + alpha * np.abs(coef).sum(axis=1)


def _largest_eigenvalue(matrix: np.ndarray) -> float:
    """Upper bound of the largest eigenvalue of a symmetric matrix, nearly tight.

    The row-sum norm of a power bounds the eigenvalue from above, and closes in on it
    as the power grows; squaring three times gives the eighth power.
    """
    bound, power = 1.0, matrix
    exponent = 1.0
    for _ in range(4):
        norm = np.abs(power).sum(axis=1).max(initial=0.0)
        if norm == 0:
            return 0.0
        power = power / norm
        bound *= norm**exponent
        power = power @ power
        exponent /= 2
    return float(bound * np.abs(power).sum(axis=1).max(initial=0.0) ** exponent)
