"""Duality gaps at which outputs count as solved, and what is said where they do not."""

from __future__ import annotations

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skfeat.utils._warnings import warn


def allowed_gaps(tol: float, yy: np.ndarray) -> np.ndarray:
    """Return the duality gap at which each output is solved."""
    # Rounding leaves no gap smaller than this.
    return max(tol, 1e-14) * np.where(yy > 0, yy, 1.0)


def warn_of_gap(gap: np.ndarray, tol: float, max_iter: int) -> None:
    """Warn that `max_iter` ended a solution."""
    warn(
        f"FeatureConnector stopped at max_iter={max_iter} sweeps with a duality gap of "
        f"{gap.max():.3g}, above tol={tol:g} relative to y'y / n.",
        ConvergenceWarning,
    )
