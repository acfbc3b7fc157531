"""Finding the active codes of a batch: those that may be nonzero."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from skfeat.kernels._limits import LIMITS
from skfeat.kernels._memory import Buffers
from skfeat.kernels._threads import Team
from skfeat.kernels.sae._activations import TrainingActivation
from skfeat.kernels.sae._arrays import ActiveCodes
from skfeat.kernels.selection import _loops_row as loops

# How far below the last batch's bound batch top-k looks first.
_MARGIN = 0.8


def keep(codes: ActiveCodes, mask: np.ndarray) -> ActiveCodes:
    """Return the codes of `mask`."""
    before = np.concatenate([[0], np.cumsum(mask)])
    counts = before[codes.start + codes.counts] - before[codes.start]
    start = np.cumsum(counts) - counts
    return ActiveCodes(start, counts, codes.indices[mask], codes.values[mask])


def _largest(codes: ActiveCodes, n_kept: int, slack: float = 0.0) -> ActiveCodes:
    """Keep the largest codes, and those smaller by a share of `slack` at most."""
    surplus = len(codes.values) - n_kept
    if surplus <= 0:
        return codes
    bound = np.partition(codes.values, surplus)[surplus]
    return keep(codes, codes.values >= (1 - slack) * bound)


class ActiveCodeFinder:
    """Finds which pre-activations of a batch an activation keeps.

    Parameters
    ----------
    activation : TrainingActivation
    params : dict of str to Tensor
    team : Team
    buffers : Buffers
        Holds the codes, until the next of their name.

    Attributes
    ----------
    guess : float
        Where batch top-k looks first; what it finds does not depend on it.
    """

    def __init__(
        self,
        activation: TrainingActivation,
        params: dict[str, torch.Tensor],
        team: Team,
        buffers: Buffers,
    ):
        self._activation = activation
        self._params = params
        self._team = team
        self._buffers = buffers
        self.guess = 0.0

    def find(
        self,
        pre: np.ndarray,
        bias: np.ndarray,
        refine: Callable[[ActiveCodes], None] | None = None,
        slack: float = 0.0,
    ) -> ActiveCodes | None:
        """Find the active codes of ``pre + bias``, unless they are kept by row.

        Parameters
        ----------
        pre, bias, slack
            See `skfeat.kernels.sae._approximation.Approximation`.
        refine : callable, optional
            Writes the exact values of codes, where `pre` has approximate ones.

        Returns
        -------
        ActiveCodes or None
            None if they are too many for loops to pay.
        """
        activation = self._activation
        if activation.selects == "above":
            bounds = activation.bound(self._params).numpy()
            codes = self._above(pre, bias, bounds, LIMITS.active_density)
            if codes is not None and refine is not None:
                refine(codes)
            return codes
        n_kept = activation.n_kept(len(pre))
        codes = self._above_scalar(pre, bias, self.guess)
        if len(codes.values) < n_kept and self.guess > 0:
            codes = self._above_scalar(pre, bias, 0.0)
        if refine is not None:
            # Exact values decide: the smallest of those that rounding lets in would be
            # a bound that more than so many exceed.
            codes = _largest(codes, n_kept, slack=slack)
            refine(codes)
        codes = _largest(codes, n_kept)
        self.guess = _MARGIN * float(codes.values.min(initial=np.inf))
        return codes

    def places_for_topk(self, n: int, k: int, dtype, name: str) -> ActiveCodes:
        """Return places for `k` codes of each of n rows; some may stay unused."""
        places = self._buffers.matrix(f"{name} places", 2, n, np.int64)
        start, counts = places
        start[:], counts[:] = np.arange(0, n * k, k), k
        return self._places(start, counts, n * k, dtype, name)

    def _places(self, start, counts, n_codes, dtype, name) -> ActiveCodes:
        """Return places for ``counts[i]`` codes of row i, from ``start[i]`` on.

        Places that stay unused are zeros of feature 0, which add nothing to any sum.
        """
        indices = self._buffers.vector(f"{name} indices", n_codes, np.int32)
        values = self._buffers.vector(f"{name} values", n_codes, dtype)
        indices[:], values[:] = 0, 0
        return ActiveCodes(start, counts, indices, values)

    def _above_scalar(self, pre, bias, bound) -> ActiveCodes:
        bounds = np.full(pre.shape[1], bound, dtype=bias.dtype)
        codes = self._above(pre, bias, bounds, 1.0)
        assert codes is not None
        return codes

    def _above(self, pre, bias, bounds, most_density) -> ActiveCodes | None:
        n, counts = len(pre), np.empty(len(pre), dtype=np.int64)
        self._team.run(
            lambda first, last: loops.count_above(
                first, last, pre, bias, bounds, counts
            ),
            n,
            n_elements=4 * pre.size,
        )
        n_codes = int(counts.sum())
        if n_codes > most_density * pre.size:
            return None
        start = np.cumsum(counts) - counts
        codes = self._places(start, counts, n_codes, bias.dtype, "active")
        self._team.run(
            lambda first, last: loops.select_above(
                first, last, pre, bias, bounds, codes
            ),
            n,
            n_elements=4 * pre.size,
        )
        return codes
