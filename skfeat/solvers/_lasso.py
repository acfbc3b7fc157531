"""The compiled solver of the linear connector, on the active inputs of each output.

An output's Gram rows are taken from a stored Gram matrix, or made from the sparse rows
when an input becomes active: then nothing of size inputs times inputs is ever held.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skfeat.kernels._moments import compiled
from skfeat.kernels._threads import Team
from skfeat.solvers._loop import EpochHooks
from skfeat.utils._warnings import warn

# Outputs are solved in so many shares at least, and callbacks called after each.
_N_SHARES = 8

_NO_NUMBERS = np.empty(0)
_NO_COLUMNS = (np.empty(0, np.int64), np.empty(0, np.int32), _NO_NUMBERS, _NO_NUMBERS)
_NO_ROWS = (np.empty(0, np.int64), np.empty(0, np.int32), _NO_NUMBERS)


@dataclass(frozen=True)
class Moments:
    """Second moments as the compiled solver reads them.

    Parameters
    ----------
    yx : callable
        Maps first and last output to their products with the inputs, (last - first, p).
    yy : ndarray of shape (q,)
    xx : ndarray of shape (p, p)
        Empty where Gram rows are made from `columns` and `rows`.
    columns, rows : tuples of ndarrays
        See `skfeat.kernels._compiled_gram.fill_gram_row`.
    """

    yx: Callable[[int, int], np.ndarray]
    yy: np.ndarray
    xx: np.ndarray
    columns: tuple = _NO_COLUMNS
    rows: tuple = _NO_ROWS

    @classmethod
    def stored(cls, xx: np.ndarray, yx: np.ndarray, yy: np.ndarray) -> Moments:
        """Moments that are held as matrices."""
        yx = np.ascontiguousarray(yx)
        return cls(lambda first, last: yx[first:last], yy, xx)


def solve_outputs(
    moments: Moments,
    alpha: float,
    coef: np.ndarray,
    tol: float,
    max_iter: int,
    hooks: EpochHooks,
    state: Callable[[np.ndarray], tuple],
) -> tuple[np.ndarray, int, float]:
    """Minimise from a start, which is written over; see `GramProblem.solve`.

    Parameters
    ----------
    state : callable
        Maps weights to what the hooks are shown.
    """
    q = len(moments.yy)
    gap, n_iter = np.zeros(q), np.zeros(q, dtype=np.int64)
    found = coef, gap, n_iter
    allowed = allowed_gaps(tol, moments.yy)
    size = max(1, -(-q // _N_SHARES))
    with Team() as team:
        for start in range(0, q, size):
            part = slice(start, min(q, start + size))
            hooks.begin()
            solve_share(team, moments, part, alpha, allowed, max_iter, found)
            if hooks.end(partial(state, coef)):
                break
    if (gap > allowed).any():
        warn_of_gap(gap, tol, max_iter)
    return coef, int(n_iter.max(initial=1)), float(gap.max(initial=0.0))


def allowed_gaps(tol: float, yy: np.ndarray) -> np.ndarray:
    """Return the duality gap at which each output is solved."""
    # Rounding leaves no gap smaller than this.
    return max(tol, 1e-14) * np.where(yy > 0, yy, 1.0)


def solve_share(team, moments, part, alpha, allowed, max_iter, found) -> None:
    """Solve the outputs of a slice.

    `found` has the weights, the gaps and the numbers of rounds, of all outputs or of
    these alone; the weights are the start too.
    """
    yx = moments.yx(part.start, part.stop)
    team.run(
        compiled().solve_lasso,
        len(yx),
        *(yx, moments.yy[part], moments.xx, moments.columns, moments.rows),
        *(np.full(len(yx), alpha), allowed[part], max_iter),
        *(array if len(array) == len(yx) else array[part] for array in found),
        # Each output looks at all inputs several times.
        n_elements=100 * yx.size,
    )


def warn_of_gap(gap: np.ndarray, tol: float, max_iter: int) -> None:
    """Warn that `max_iter` ended a solution."""
    warn(
        f"FeatureConnector stopped at max_iter={max_iter} sweeps with a duality gap of "
        f"{gap.max():.3g}, above tol={tol:g} relative to y'y / n.",
        ConvergenceWarning,
        stacklevel=5,
    )
