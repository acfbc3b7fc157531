"""The L1 regression of all outputs at once, from one Gram matrix.

With the rows centred, the objective of output o is ::

    1/2 w^T G w - c_o^T w + yy_o / 2 + alpha |w|_1,    G = X^T X / n,  c_o = X^T y_o / n

so rows are read once, and every output, every alpha and every refit works on G alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from skfeat.kernels.connector._sparsity import to_csr
from skfeat.solvers._loop import EpochHooks
from skfeat.solvers.connector._gap import Reached
from skfeat.solvers.connector._lasso import Moments, solve_outputs, solve_path
from skfeat.solvers.connector._path import Solution


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
    ) -> tuple[np.ndarray, Reached]:
        """Minimise by coordinate descent from a start.

        Parameters
        ----------
        alpha : float
        coef : ndarray of shape (q, p)
            Start; not modified unless `in_place`.
        tol : float
            Largest duality gap, relative to the mean square of the outputs.
        max_iter : int
            Largest number of rounds of an output.
        hooks : EpochHooks, optional
            Called round every share of the outputs, with the weights.
        in_place : bool, default=False
            Whether the start, of float64, may be written over.

        Returns
        -------
        coef : ndarray of shape (q, p)
        how : Reached
        """
        if alpha == 0:
            return self._least_squares(), Reached(1, 0.0, 0.0)
        if not in_place:
            coef = np.array(coef, dtype=np.float64, order="C")
        return solve_outputs(
            self._moments(),
            alpha,
            coef,
            tol,
            max_iter,
            hooks or EpochHooks(),
            self._state,
        )

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
        coefs: list = []
        how: list[Reached] = []
        n_penalised = int(np.count_nonzero(alphas))
        if n_penalised:
            coefs, how = solve_path(
                self._moments(),
                alphas[:n_penalised],
                tol,
                max_iter,
                sparse_output=sparse_output,
            )
        if n_penalised < len(alphas):
            # Penalties of zero, at the end, all have the same solution.
            last = self._least_squares()
            for _ in alphas[n_penalised:]:
                coefs.append(to_csr(last) if sparse_output else last.copy())
                how.append(Reached(1, 0.0, 0.0))
        return [
            Solution(coef, self.intercept(coef), *reached)
            for coef, reached in zip(coefs, how, strict=True)
        ]

    def _moments(self) -> Moments:
        return Moments.stored(self.xx, self.yx, self.yy)

    def _state(self, coef):
        return coef.copy(), self.intercept(coef)

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
