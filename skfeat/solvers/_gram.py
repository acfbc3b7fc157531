"""The L1 regression of all outputs at once, from one Gram matrix.

With the rows centred, the objective of output o is ::

    1/2 w^T G w - c_o^T w + yy_o / 2 + alpha |w|_1,    G = X^T X / n,  c_o = X^T y_o / n

so rows are read once, and every output, every alpha and every refit works on G alone.
Coordinates are descended in blocks: inside a block all outputs advance together, and
one matrix product carries the block's change to the remaining coordinates. Sweeps find
the support quickly but settle slowly where inputs are correlated, so now and then each
output jumps towards the exact optimum on its support, as far as no sign changes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from skfeat.solvers._loop import EpochHooks

_ROWS = 8192
_BLOCK = 64
_JUMP_EVERY, _JUMPS = 5, 10


@dataclass
class GramStatistics:
    """Weighted means and centred second moments of inputs X and targets Y.

    Parameters
    ----------
    weight : float
        Sum of the sample weights.
    x_mean : ndarray of shape (p,)
    y_mean : ndarray of shape (q,)
    xx : ndarray of shape (p, p)
        Sums of products of deviations, not divided by `weight`.
    yx : ndarray of shape (q, p)
    yy : ndarray of shape (q,)
    """

    weight: float
    x_mean: np.ndarray
    y_mean: np.ndarray
    xx: np.ndarray
    yx: np.ndarray
    yy: np.ndarray

    @classmethod
    def zeros(cls, n_inputs: int, n_outputs: int) -> GramStatistics:
        """Statistics of no rows."""
        return cls(
            0.0,
            np.zeros(n_inputs),
            np.zeros(n_outputs),
            np.zeros((n_inputs, n_inputs)),
            np.zeros((n_outputs, n_inputs)),
            np.zeros(n_outputs),
        )

    def update(self, X, Y: np.ndarray, sample_weight: np.ndarray) -> GramStatistics:
        """Add rows, in blocks, accumulating in float64; sparse X stays sparse.

        Raises
        ------
        ValueError
            If squares of X or Y overflow.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, X.shape[0], _ROWS):
                rows = slice(start, start + _ROWS)
                if sample_weight[rows].any():
                    self._merge(X[rows], Y[rows], sample_weight[rows])
        if not all(np.isfinite(part).all() for part in (self.xx, self.yx, self.yy)):
            raise ValueError(
                "The second moments of X and y are non-finite; rescale them."
            )
        return self

    def _merge(self, X, Y, w):
        # Means first, then products of deviations: no cancellation of large offsets.
        weight = w.sum()
        Y = Y.astype(np.float64, copy=False)
        y_mean = w @ Y / weight
        Y = Y - y_mean
        X = X.astype(np.float64, copy=False)
        x_mean = w @ X / weight
        if sparse.issparse(X):
            weighted = X.multiply(w[:, None]).tocsr()
            xx = (weighted.T @ X).toarray() - weight * np.outer(x_mean, x_mean)
            yx = weighted.T.dot(Y).T
        else:
            X = X - x_mean
            weighted = X * w[:, None]
            xx = weighted.T @ X
            yx = Y.T @ weighted
        shift_x, shift_y = x_mean - self.x_mean, y_mean - self.y_mean
        total = self.weight + weight
        mixed = self.weight * weight / total
        self.xx += xx + mixed * np.outer(shift_x, shift_x)
        self.yx += yx + mixed * np.outer(shift_y, shift_x)
        self.yy += w @ np.square(Y) + mixed * np.square(shift_y)
        self.x_mean = self.x_mean + weight / total * shift_x
        self.y_mean = self.y_mean + weight / total * shift_y
        self.weight = total

    def problem(self, fit_intercept: bool) -> GramProblem:
        """Return the regression problem, centred if there is an intercept."""
        xx, yx, yy = (part / self.weight for part in (self.xx, self.yx, self.yy))
        x_mean, y_mean = self.x_mean, self.y_mean
        if not fit_intercept:
            xx = xx + np.outer(x_mean, x_mean)
            yx = yx + np.outer(y_mean, x_mean)
            yy = yy + np.square(y_mean)
            x_mean, y_mean = np.zeros_like(x_mean), np.zeros_like(y_mean)
        # What is left of a constant input are rounding errors of its mean.
        constant = np.diag(xx) <= 1e-26 * np.square(x_mean)
        if constant.any():
            xx[constant], xx[:, constant], yx[:, constant] = 0.0, 0.0, 0.0
        return GramProblem(xx, yx, yy, x_mean, y_mean)

    def copy(self) -> GramStatistics:
        """Return statistics that `update` can change without changing these."""
        return GramStatistics(
            self.weight, *(part.copy() for part in list(vars(self).values())[1:])
        )


@dataclass(frozen=True)
class GramProblem:
    """L1 regression of q outputs on p inputs in terms of their second moments.

    Parameters
    ----------
    xx : ndarray of shape (p, p)
    yx : ndarray of shape (q, p)
    yy : ndarray of shape (q,)
    x_mean : ndarray of shape (p,)
        What was subtracted from the inputs: their means, or zero.
    y_mean : ndarray of shape (q,)
        What was subtracted from the outputs.
    """

    xx: np.ndarray
    yx: np.ndarray
    yy: np.ndarray
    x_mean: np.ndarray
    y_mean: np.ndarray

    def intercept(self, coef: np.ndarray) -> np.ndarray:
        """Return the intercept that belongs to weights (q, p)."""
        return self.y_mean - coef @ self.x_mean

    @property
    def alpha_max(self) -> float:
        """Smallest alpha at which all weights are zero."""
        return float(np.abs(self.yx).max(initial=0.0))

    def solve(
        self,
        alpha: float,
        coef: np.ndarray,
        *,
        tol: float,
        max_iter: int,
        hooks: EpochHooks | None = None,
    ) -> tuple[np.ndarray, int, float]:
        """Minimise by block coordinate descent from a start.

        Parameters
        ----------
        alpha : float
        coef : ndarray of shape (q, p)
            Start; not modified.
        tol : float
            Largest duality gap, relative to the mean square of the outputs.
        max_iter : int
            Largest number of sweeps over all coordinates.
        hooks : EpochHooks, optional
            Called round every sweep, with the weights.

        Returns
        -------
        coef : ndarray of shape (q, p)
        n_iter : int
            Sweeps made.
        dual_gap : float
            Largest gap of an output, not relative.
        """
        if alpha == 0:
            return self._least_squares(), 1, 0.0
        coef = coef.copy()
        residual = self.yx - coef @ self.xx
        allowed = tol * np.where(self.yy > 0, self.yy, 1.0)
        diagonal = np.diag(self.xx).copy()
        # A constant input explains nothing; its weight stays where the prox puts it.
        curvature = np.where(diagonal > 0, diagonal, np.inf)
        hooks = hooks or EpochHooks()
        n_iter = 0
        while n_iter < max_iter:
            n_iter += 1
            hooks.begin()
            for start in range(0, len(diagonal), _BLOCK):
                block = slice(start, start + _BLOCK)
                self._sweep(block, alpha, coef, residual, curvature)
            # Sums of many updates drift: start the next sweep from exact values.
            residual = self.yx - coef @ self.xx
            gap = self.dual_gap(alpha, coef, residual)
            converged = (gap <= allowed).all()
            if converged or n_iter % _JUMP_EVERY == 0:
                # After convergence too: a small gap still leaves weights free to move
                # where the objective is flat.
                coef = self._jump(alpha, coef, residual)
                residual = self.yx - coef @ self.xx
                gap = self.dual_gap(alpha, coef, residual)
                converged = (gap <= allowed).all()
            if hooks.end(partial(self._state, coef)) or converged:
                break
        else:
            warnings.warn(
                f"FeatureConnector stopped at max_iter={max_iter} sweeps with a duality"
                f" gap of {gap.max():.3g}, above tol={tol:g} relative to y'y / n.",
                ConvergenceWarning,
                stacklevel=4,
            )
        return coef, n_iter, float(gap.max(initial=0.0))

    def _state(self, coef):
        return coef.copy(), self.intercept(coef)

    def _sweep(self, block, alpha, coef, residual, curvature):
        xx = self.xx[block, block]
        local = residual[:, block].copy()
        before = coef[:, block].copy()
        after = before.copy()
        for j in range(xx.shape[0]):
            scale = curvature[block.start + j]
            target = local[:, j] + scale * after[:, j] if np.isfinite(scale) else 0.0
            shrunk = np.sign(target) * np.maximum(np.abs(target) - alpha, 0.0) / scale
            change = shrunk - after[:, j]
            if change.any():
                after[:, j] = shrunk
                local -= np.outer(change, xx[j])
        change = after - before
        rows = change.any(axis=1)
        if rows.any():
            coef[:, block] = after
            residual[rows] -= change[rows] @ self.xx[block]

    def _jump(self, alpha, coef, residual):
        """Move every output to the optimum on its support, dropping what turns zero."""
        coef = coef.copy()
        # A system that costs more than the sweeps between two jumps is left to them.
        largest = max(128.0, (3 * _JUMP_EVERY * self.xx.size) ** (1 / 3))
        for output, row in enumerate(coef):
            index = np.flatnonzero(row)
            pull = residual[output]
            for _ in range(_JUMPS if 0 < len(index) <= largest else 0):
                moved = self._move(alpha, row[index], pull[index], index)
                if moved is None:
                    break
                row[index] = moved
                if moved.all() or not moved.any():
                    break
                index = index[moved != 0]
                pull = self.yx[output] - row[index] @ self.xx[index]
        return coef

    def _move(self, alpha, weights, pull, index):
        """Newton step of one output, cut at the first zero; None if it leads uphill."""
        downhill = pull - alpha * np.sign(weights)
        xx = self.xx[np.ix_(index, index)]
        # The ridge sends the step far along directions the data does not see: there
        # the penalty alone decides, and the first zero ends the step.
        ridge = 1e-12 * np.trace(xx) / len(index)
        step = np.linalg.solve(xx + ridge * np.eye(len(index)), downhill)
        crossing = -weights / np.where(step == 0, np.inf, step)
        crossing[crossing <= 0] = np.inf
        length = min(1.0, crossing.min())
        step = length * step
        # A nearly singular system may have pointed anywhere.
        if not 2 * step @ downhill > step @ xx @ step:
            return None
        return np.where(crossing <= length, 0.0, weights + step)

    def dual_gap(
        self, alpha: float, coef: np.ndarray, residual: np.ndarray
    ) -> np.ndarray:
        """Duality gap of each output; `residual` is ``yx - coef @ xx``."""
        fitted = np.einsum("qp,qp->q", coef, self.yx)
        error = np.maximum(self.yy - fitted - np.einsum("qp,qp->q", coef, residual), 0)
        largest = np.abs(residual).max(axis=1, initial=0.0)
        scale = np.where(largest > alpha, alpha / np.maximum(largest, 1e-300), 1.0)
        primal = error / 2 + alpha * np.abs(coef).sum(axis=1)
        dual = scale * (self.yy - fitted) - scale**2 * error / 2
        return primal - dual

    def _least_squares(self) -> np.ndarray:
        return _solve_normal(self.xx, self.yx.T).T

    def refit(self, support: np.ndarray) -> np.ndarray:
        """Least squares on a support (q, p), one small system an output."""
        coef = np.zeros(self.yx.shape)
        for output, kept in enumerate(support):
            index = np.flatnonzero(kept)
            if len(index):
                coef[output, index] = _solve_normal(
                    self.xx[np.ix_(index, index)], self.yx[output, index, None]
                )[:, 0]
        return coef

    def saliency(self, coef: np.ndarray) -> np.ndarray:
        """Share of each weight in its output's variation: |w| times the input's."""
        return np.abs(coef) * np.sqrt(np.diag(self.xx).clip(0))


def _solve_normal(xx: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Shortest least-squares solution of ``xx @ w = xy`` in inputs of unit spread.

    In raw units an input of small scale would be taken for a singular direction.
    """
    spread = np.sqrt(np.diag(xx))[:, None]
    scale = np.where(spread > 0, spread, np.inf)
    return np.linalg.lstsq(xx / scale / scale.T, xy / scale, rcond=None)[0] / scale
