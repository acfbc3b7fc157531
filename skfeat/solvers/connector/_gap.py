"""Duality gaps at which outputs count as solved, and what is said where they do not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skfeat.utils._warnings import warn

# Rounding leaves no relative gap smaller than this.
_SMALLEST = 1e-14


class Reached(NamedTuple):
    """How near to the optimum some outputs were brought.

    Attributes
    ----------
    n_iter : int
        Rounds of the output that took most.
    dual_gap : float
        Largest duality gap.
    relative_gap : float
        Largest duality gap of an output over its mean square.
    """

    n_iter: int
    dual_gap: float
    relative_gap: float


def reached(n_iter: np.ndarray, gap: np.ndarray, yy: np.ndarray) -> Reached:
    """Sum up the rounds and gaps of outputs (q,) whose mean squares are `yy`."""
    relative = gap / _scale(yy)
    return Reached(
        int(n_iter.max(initial=1)),
        float(gap.max(initial=0.0)),
        float(relative.max(initial=0.0)),
    )


def allowed_gaps(tol: float, yy: np.ndarray) -> np.ndarray:
    """Return the duality gap at which each output is solved."""
    return max(tol, _SMALLEST) * _scale(yy)


def warn_of_gap(relative_gap: float, tol: float, max_iter: int) -> None:
    """Warn if `max_iter` ended a fit before its worst output was solved."""
    if relative_gap > max(tol, _SMALLEST):
        warn(
            f"FeatureConnector stopped at max_iter={max_iter} sweeps: the duality gap "
            f"of its worst output is {relative_gap:.3g} of the output's mean square, "
            f"above tol={tol:g}.",
            ConvergenceWarning,
            severity=relative_gap,
        )


def _scale(yy):
    return np.where(yy > 0, yy, 1.0)
