"""The L1 regression of all outputs at once, from one Gram matrix.

With the rows centred, the objective of output o is ::

    1/2 w^T G w - c_o^T w + yy_o / 2 + alpha |w|_1,    G = X^T X / n,  c_o = X^T y_o / n

so rows are read once, and every output, every alpha and every refit works on G alone.
Where numba is installed, `_lasso` solves each output on its active inputs. Without it,
coordinates are descended in blocks: inside a block all outputs advance together, and
one matrix product carries the block's change to the remaining coordinates. Sweeps find
the support quickly but settle slowly where inputs are correlated, so now and then each
output steps towards the exact optimum on its support, as far as no sign changes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from skfeat.kernels.connector._sparsity import to_csr
from skfeat.solvers._loop import EpochHooks
from skfeat.solvers.connector._choose import descends_compiled
from skfeat.solvers.connector._gap import warn_of_gap
from skfeat.solvers.connector._path import Solution

# Coordinates of a block; sweeps between Newton steps, and how many of these at most.
_BLOCK = 64
_STEP_EVERY, _STEPS = 5, 10


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

    def output(self, index: int) -> GramProblem:
        """Return the problem of one output alone."""
        one = slice(index, index + 1)
        return replace(self, yx=self.yx[one], yy=self.yy[one], y_mean=self.y_mean[one])

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
        in_place: bool = False,
    ) -> tuple[np.ndarray, int, float]:
        """Minimise by coordinate descent from a start.

        Parameters
        ----------
        alpha : float
        coef : ndarray of shape (q, p)
            Start; not modified unless `in_place`.
        tol : float
            Largest duality gap, relative to the mean square of the outputs.
        max_iter : int
            Largest number of sweeps over all coordinates, or of rounds of an output.
        hooks : EpochHooks, optional
            Called round every sweep, or every share of the outputs, with the weights.
        in_place : bool, default=False
            Whether the start, of float64, may be written over.

        Returns
        -------
        coef : ndarray of shape (q, p)
        n_iter : int
            Sweeps or rounds made.
        dual_gap : float
            Largest gap of an output, not relative.
        """
        if alpha == 0:
            return self._least_squares(), 1, 0.0
        hooks = hooks or EpochHooks()
        if descends_compiled(*self.yx.shape):
            from skfeat.solvers.connector._lasso import Moments, solve_outputs

            moments = Moments.stored(self.xx, self.yx, self.yy)
            state = self._state
            if not in_place:
                coef = np.array(coef, dtype=np.float64, order="C")
            return solve_outputs(moments, alpha, coef, tol, max_iter, hooks, state)
        return self._solve_blocks(alpha, coef, tol, max_iter, hooks)

    def solve_path(
        self, alphas, *, tol: float, max_iter: int, sparse_output: bool
    ) -> list[Solution]:
        """Minimise for decreasing alphas, each from the solution before.

        Parameters
        ----------
        alphas : ndarray of shape (n_alphas,)
        tol, max_iter
            See `solve`.
        sparse_output : bool
            Whether the weights are made csr_array.
        """
        solutions: list[Solution] = []
        compiled = descends_compiled(*self.yx.shape)
        n_compiled = int(np.count_nonzero(alphas)) if compiled else 0
        if n_compiled:
            from skfeat.solvers.connector._lasso import Moments, solve_path

            moments = Moments.stored(self.xx, self.yx, self.yy)
            above_zero = alphas[:n_compiled]
            found = solve_path(
                moments, above_zero, tol, max_iter, sparse_output=sparse_output
            )
            for coef, n_iter, gap in zip(*found, strict=True):
                solutions.append(Solution(coef, self.intercept(coef), int(n_iter), gap))
        coef = np.zeros(self.yx.shape)
        for i, alpha in enumerate(alphas[n_compiled:], n_compiled):
            if i > n_compiled and alpha == alphas[i - 1]:
                last = solutions[-1]
                solutions.append(last._replace(coef=last.coef.copy()))
                continue
            coef, n_iter, gap = self.solve(alpha, coef, tol=tol, max_iter=max_iter)
            kept = to_csr(coef) if sparse_output else coef
            solutions.append(Solution(kept, self.intercept(coef), n_iter, gap))
        return solutions

    def _solve_blocks(self, alpha, coef, tol, max_iter, hooks):
        coef = coef.copy()
        residual = self.yx - coef @ self.xx
        allowed = tol * np.where(self.yy > 0, self.yy, 1.0)
        diagonal = np.diag(self.xx).copy()
        # A constant input explains nothing; its weight stays where the prox puts it.
        curvature = np.where(diagonal > 0, diagonal, np.inf)
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
            if converged or n_iter % _STEP_EVERY == 0:
                # After convergence too: a small gap still leaves weights free to move
                # where the objective is flat.
                coef = self._newton_steps(alpha, coef, residual)
                residual = self.yx - coef @ self.xx
                gap = self.dual_gap(alpha, coef, residual)
                converged = (gap <= allowed).all()
            if hooks.end(partial(self._state, coef)) or converged:
                break
        else:
            warn_of_gap(gap, tol, max_iter)
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

    def _newton_steps(self, alpha, coef, residual):
        """Move every output to the optimum on its support, dropping what turns zero."""
        coef = coef.copy()
        # A system that costs more than the sweeps between two steps is left to them.
        largest = max(128.0, (3 * _STEP_EVERY * self.xx.size) ** (1 / 3))
        for output, row in enumerate(coef):
            index = np.flatnonzero(row)
            gradient = residual[output]
            for _ in range(_STEPS if 0 < len(index) <= largest else 0):
                moved = self._newton_step(alpha, row[index], gradient[index], index)
                if moved is None:
                    break
                row[index] = moved
                if moved.all() or not moved.any():
                    break
                index = index[moved != 0]
                gradient = self.yx[output] - row[index] @ self.xx[index]
        return coef

    def _newton_step(self, alpha, weights, gradient, index):
        """Newton step of one output, cut at the first zero; None if it leads uphill."""
        downhill = gradient - alpha * np.sign(weights)
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
        return solve_normal(self.xx, self.yx.T).T

    def refit(self, support: np.ndarray) -> np.ndarray:
        """Least squares on a support (q, p), one small system an output."""
        coef = np.zeros(self.yx.shape)
        for output, kept in enumerate(support):
            index = np.flatnonzero(kept)
            if len(index):
                coef[output, index] = solve_normal(
                    self.xx[np.ix_(index, index)], self.yx[output, index, None]
                )[:, 0]
        return coef

    def saliency(self, coef: np.ndarray) -> np.ndarray:
        """Share of each weight in its output's variation: |w| times the input's."""
        return np.abs(coef) * np.sqrt(np.diag(self.xx).clip(0))


def input_scale(xx: np.ndarray) -> np.ndarray:
    """Root mean square of each input, by their second moments; infinite if it is zero.

    Divided by it, inputs have unit spread and those that are always zero vanish.
    """
    spread = np.sqrt(np.diag(xx))
    return np.where(spread > 0, spread, np.inf)


def solve_normal(xx: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Shortest least-squares solution of ``xx @ w = xy`` in inputs of unit spread.

    In raw units an input of small scale would be taken for a singular direction.
    """
    scale = input_scale(xx)[:, None]
    return np.linalg.lstsq(xx / scale / scale.T, xy / scale, rcond=None)[0] / scale
