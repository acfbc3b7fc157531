"""Centring and scaling of rows, which the exported weights undo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skfeat.utils._rows import row_blocks


@dataclass(frozen=True)
class Standardizer:
    """Centring and one scalar scale of the rows.

    Parameters
    ----------
    mean : ndarray of shape (d,)
    scale : float
    """

    mean: np.ndarray
    scale: float

    @classmethod
    def from_rows(
        cls, X, sample_weight, *, center: bool, rms: bool, name: str = "X"
    ) -> Standardizer:
        """Measure the weighted mean and root mean square deviation of rows (n, d)."""
        known = getattr(X, "moments", None)
        if known is not None and np.ptp(sample_weight) == 0:
            return cls(*known.unit(center=center, rms=rms))
        weights = sample_weight / sample_weight.sum()
        # Blocks of rows keep float64 copies small next to X.
        mean = np.zeros(X.shape[1])
        if center:
            for block, rows in row_blocks(X):
                mean += weights[block] @ rows.astype(np.float64, copy=False)
        scale = 1.0
        if rms:
            # In units of the largest deviation, squares of tiny or huge rows stay
            # within range. Constant data has no scale: leave it as it is.
            largest = max(_largest_deviation(rows, mean) for _, rows in row_blocks(X))
            unit = largest or 1.0
            total = sum(
                weights[block] @ np.square((rows - mean) / unit).sum(axis=1)
                for block, rows in row_blocks(X)
            )
            scale = unit * float(np.sqrt(total / X.shape[1])) or 1.0
        if not (np.isfinite(mean).all() and np.isfinite(scale)):
            raise ValueError(
                f"The mean or the mean square of {name} is non-finite; rescale {name}."
            )
        return cls(mean, scale)

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Centre and scale rows, in at least the precision they come in."""
        return (rows - self.mean) / self.scale


def _largest_deviation(rows: np.ndarray, mean: np.ndarray) -> float:
    # Of the extremes of each column: fewer numbers are made float64 than there are.
    above, below = rows.max(axis=0) - mean, mean - rows.min(axis=0)
    return float(np.maximum(above, below).max())
