"""What every solver of a connector takes and gives: rows, options and a fit."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from skfeat.solvers.connector._gram import GramProblem
from skfeat.solvers.connector._statistics import GramStatistics


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

    def statistics(self) -> GramStatistics:
        """Second moments of the rows."""
        empty = GramStatistics.zeros(self.X.shape[1], self.Y.shape[1])
        return empty.update(self.X, self.Y, self.sample_weight)

    def problem(self, fit_intercept: bool) -> GramProblem:
        """Return the linear connector's problem."""
        return self.statistics().problem(fit_intercept, in_place=True)


@dataclass(frozen=True)
class FitOptions:
    """What the weights are to be.

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
    """Weights (q, p), intercept (q,) and how they were reached; see `Solution`."""

    coef: np.ndarray
    intercept: np.ndarray
    alpha: float
    n_iter: int
    stopping_value: float
    shortfall: float = 0.0
    loss_curve: list[float] = field(default_factory=list)
    state: dict | GramStatistics | None = None
    interrupted: bool = False
    pruning_epochs: tuple[float, float] | None = None
