"""Units in which one learning rate suits all weights, and results depend on no unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skfeat.solvers.autoencoder._standardizer import Standardizer
from skfeat.utils._rows import ComputedRows, row_blocks

# A spread below so many units of rounding is nothing else.
_ROUNDING = 8


@dataclass(frozen=True)
class Unit:
    """Centre and unit of columns: ``(rows - mean) / scale``.

    Parameters
    ----------
    mean : ndarray of shape (d,)
    scale : float or ndarray of shape (d,)
    """

    mean: np.ndarray
    scale: np.ndarray | float

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Bring rows to the unit, in float32."""
        if rows.dtype not in (np.float32, np.float64):
            rows = rows.astype(np.float32 if rows.dtype == np.float16 else np.float64)
        # Rows of float32 are centred in it: their own rounding is as large.
        mean, scale = (np.asarray(part, rows.dtype) for part in (self.mean, self.scale))
        centred = rows - mean
        centred /= scale
        return centred.astype(np.float32, copy=False)


def unit_of_hidden(rows: np.ndarray | ComputedRows, weights: np.ndarray) -> Unit:
    """Return the unit of a layer, whose columns share one: root mean square one."""
    found = Standardizer.from_rows(rows, weights, center=True, rms=True)
    return Unit(found.mean, found.scale)


def unit_of_inputs(rows: np.ndarray | ComputedRows, weights: np.ndarray) -> Unit:
    """Return the unit of inputs, whose columns may have units of their own.

    A column deviates from its mean by at most one. Its standard deviation would make
    a column that is nearly always the same, such as a pixel at the edge, weigh more
    than any other where it is not.
    """
    known = getattr(rows, "moments", None)
    if known is not None and np.ptp(weights) == 0:
        mean, largest = known.mean, known.deviation(known.mean)
    else:
        mean, largest = _mean_and_deviation(rows, weights / weights.sum())
    # Of a column of equal values nothing is left but rounding.
    largest[largest <= _rounding(rows) * np.abs(mean)] = 0.0
    return Unit(mean, np.where(largest > 0, largest, 1.0))


def _mean_and_deviation(
    rows: np.ndarray | ComputedRows, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of columns, and how far rows of some weight are from it."""
    mean, largest = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    for block, part in row_blocks(rows):
        mean += weights[block] @ part.astype(np.float64, copy=False)
    for block, part in row_blocks(rows):
        part = part[weights[block] > 0]
        if len(part):
            np.maximum(largest, np.abs(part - mean).max(axis=0), out=largest)
    return mean, largest


def unit_of_outputs(
    rows: np.ndarray | ComputedRows, weights: np.ndarray, *, each: bool
) -> Unit:
    """Return the unit of outputs, of all together or of each column.

    Where a column, or all, do not vary, their unit is that of what does, and else of
    their size.
    """
    known = getattr(rows, "moments", None)
    if known is not None and np.ptp(weights) == 0:
        mean, square = known.mean, known.square
    else:
        held, weights = np.asarray(rows), weights / weights.sum()
        mean = weights @ held.astype(np.float64)
        square = weights @ np.square(held - mean)
    size = np.sqrt(square.mean())
    if not each:
        size = size if size > _rounding(rows) * np.sqrt((mean**2).mean()) else 0.0
        return Unit(mean, float(size) or float(np.abs(mean).max()) or 1.0)
    scale = np.sqrt(square)
    scale[scale <= _rounding(rows) * np.abs(mean)] = 0.0
    return Unit(mean, np.where(scale > 0, scale, float(scale.max()) or 1.0))


def _rounding(rows: np.ndarray | ComputedRows) -> float:
    return _ROUNDING * float(np.finfo(rows.dtype).eps)
