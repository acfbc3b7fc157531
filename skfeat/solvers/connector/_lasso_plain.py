"""The L1 regression of one output at a time, in numpy: what the compiled loops compute.

Only *active* inputs are descended on: those with a weight and those whose gradient
exceeds the penalty. Few enter at a time, the worst first, so that the active set stays
near the support even where inputs outnumber the rows. On the active set, sweeps of
coordinate descent find the signs and Newton steps the optimum for them.
"""

from __future__ import annotations

import numpy as np

# Inputs that enter a small active set at once; see `find_violators`.
_ENTER = 10
# Sweeps over the active inputs, and Newton steps after each of them, at most.
_SWEEPS, _STEPS = 200, 10


def solve_lasso(moments, alphas, allowed, max_iter, solutions) -> None:
    """Solve the outputs of some moments for each penalty in turn.

    Parameters
    ----------
    moments : LassoMoments
        With a stored Gram matrix.
    alphas : ndarray of shape (n_alphas,)
        Penalties; each solution starts the next.
    allowed : ndarray of shape (q,)
        Largest duality gap of each output.
    max_iter : int
        Rounds at most, of each solution.
    solutions : LassoSolutions
        Written; its first weights are the start.
    """
    for o, (yx, yy) in enumerate(zip(moments.yx, moments.yy, strict=True)):
        output = Output(moments.xx, yx, float(yy), solutions.coef[0, o])
        for a, alpha in enumerate(alphas):
            n_iter, gap = output.solve(alpha, allowed[o], max_iter)
            solutions.n_iter[a, o], solutions.gap[a, o] = n_iter, gap
            solutions.coef[a, o] = 0.0
            solutions.coef[a, o, output.active] = output.weights


class Output:
    """One output: its active inputs, their weights, and the residual of all inputs.

    Attributes
    ----------
    active : ndarray of int, shape (n,)
    weights : ndarray of shape (n,)
    residual : ndarray of shape (p,)
        The gradient's negative, ``yx - weights @ xx[active]``.
    """

    def __init__(self, xx, yx, yy, start):
        self.xx, self.yx, self.yy = xx, yx, yy
        self.active = np.flatnonzero(start)
        self.weights = start[self.active].copy()
        self.residual = self._residual()

    def _residual(self):
        """Compute the residual anew: sums of many updates drift."""
        used = self.weights != 0
        return self.yx - self.weights[used] @ self.xx[self.active[used]]

    def solve(self, alpha: float, allowed: float, max_iter: int) -> tuple[int, float]:
        """Minimise for a penalty; return the rounds made and the gap left."""
        n_iter = 0
        gap = self.dual_gap(alpha)
        # One descent at least: a small gap still leaves weights free to move where
        # the objective is flat.
        while n_iter < max_iter:
            if gap <= allowed and (n_iter > 0 or not len(self.active)):
                break
            self._enter(alpha)
            n_iter += 1
            self._descend(alpha, 1e-3 * allowed)
            self.residual = self._residual()
            gap = self.dual_gap(alpha)
        return max(1, n_iter), gap

    def _enter(self, alpha):
        """Make inputs active whose gradient exceeds the penalty, the worst first."""
        size = np.abs(self.residual)
        size[self.active] = 0.0
        violators = np.flatnonzero(size > alpha)
        most = max(_ENTER, len(self.active))
        if len(violators) > most:
            worst = np.argsort(-size[violators], kind="stable")[:most]
            violators = np.sort(violators[worst])
        self.active = np.concatenate([self.active, violators])
        self.weights = np.concatenate([self.weights, np.zeros(len(violators))])

    def _descend(self, alpha, allowed):
        """Descend on the active inputs until a sweep lowers the objective no more."""
        gram = self.xx[np.ix_(self.active, self.active)]
        residual = self.residual[self.active]
        for _ in range(_SWEEPS):
            decrease = _sweep(gram, residual, self.weights, alpha)
            reached = _newton_steps(gram, residual, self.weights, alpha)
            if reached:
                zero = self.weights == 0
                settled = not (np.abs(residual[zero]) > alpha * (1 + 1e-12)).any()
            else:
                settled = decrease <= allowed
            if settled:
                return

    def dual_gap(self, alpha: float) -> float:
        """Return by how much the objective may exceed its optimum, at most."""
        fitted = self.weights @ self.yx[self.active]
        explained = self.weights @ self.residual[self.active]
        error = max(self.yy - fitted - explained, 0.0)
        largest = np.abs(self.residual).max(initial=0.0)
        scale = alpha / largest if largest > alpha else 1.0
        primal = error / 2 + alpha * np.abs(self.weights).sum()
        return float(primal - scale * (self.yy - fitted) + scale**2 * error / 2)


def _sweep(gram, residual, weights, alpha) -> float:
    """Minimise in one weight after the other; return how much the objective fell."""
    decrease = 0.0
    for s, curvature in enumerate(np.diag(gram)):
        if curvature <= 0:
            # A constant input explains nothing.
            weights[s] = 0.0
            continue
        target = residual[s] + curvature * weights[s]
        size = abs(target) - alpha
        change = (np.sign(target) * size / curvature if size > 0 else 0.0) - weights[s]
        if change != 0:
            weights[s] += change
            decrease += change * change * curvature / 2
            residual -= change * gram[s]
    return decrease


def _newton_steps(gram, residual, weights, alpha) -> bool:
    """Move towards the optimum on the support, cut where the first weight turns zero.

    Returns whether the optimum on the support was reached.
    """
    for _ in range(_STEPS):
        support = np.flatnonzero(weights)
        if not len(support):
            return True
        xx, signs = gram[np.ix_(support, support)], np.sign(weights[support])
        downhill = residual[support] - alpha * signs
        # Along directions without data the penalty alone decides.
        ridge = 1e-12 * np.trace(xx) / len(support)
        step = np.linalg.solve(xx + ridge * np.eye(len(support)), downhill)
        with np.errstate(divide="ignore", invalid="ignore"):
            zero_at = np.where(step * signs < 0, -weights[support] / step, np.inf)
        first = int(zero_at.argmin())
        length = min(1.0, zero_at[first])
        # A nearly singular system may have pointed anywhere.
        if not 2 * step @ downhill > length * (step @ xx @ step):
            return False
        change = length * step
        weights[support] += change
        residual -= change @ gram[support]
        if zero_at[first] >= 1.0:
            return True
        weights[support[first]] = 0.0
    return False
