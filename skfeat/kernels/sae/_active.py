"""Finding the entries of a batch of codes: the pairs that may be nonzero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from skfeat.kernels._memory import Workspace
from skfeat.kernels._optional import load
from skfeat.kernels._threads import Team
from skfeat.kernels.sae._activations import TrainingActivation

# Share of active entries above which dense products are faster.
MAX_DENSITY = 0.15

# How far below the last batch's bound batch top-k looks for entries first.
_MARGIN = 0.8


class Entries(NamedTuple):
    """The entries of a batch: row i has ``start[i]`` to ``start[i] + counts[i]``.

    Attributes
    ----------
    start, counts : ndarray of int64, shape (n,)
    indices : ndarray of int32, shape (n_entries,)
        Feature of each entry.
    u : ndarray of shape (n_entries,)
        Pre-activation of each entry.
    """

    start: np.ndarray
    counts: np.ndarray
    indices: np.ndarray
    u: np.ndarray

    def keep(self, mask: np.ndarray) -> Entries:
        """Return the entries of `mask`."""
        before = np.concatenate([[0], np.cumsum(mask)])
        count = before[self.start + self.counts] - before[self.start]
        start = np.cumsum(count) - count
        return Entries(start, count, self.indices[mask], self.u[mask])


def _largest(entries: Entries, n_kept: int, slack: float = 0.0) -> Entries:
    """Keep the largest entries, and what is smaller by a share of `slack` at most."""
    surplus = len(entries.u) - n_kept
    if surplus <= 0:
        return entries
    bound = np.partition(entries.u, surplus)[surplus]
    return entries.keep(entries.u >= (1 - slack) * bound)


class EntryFinder:
    """Finds which entries of a batch an activation keeps.

    Parameters
    ----------
    activation : TrainingActivation
    params : dict of str to Tensor
    team : Team
    space : Workspace
        Holds the entries, until the next of their name.

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
        space: Workspace,
    ):
        self._activation = activation
        self._params = params
        self._team = team
        self._space = space
        self._loops: Any = load("selection._loops_row")
        self.guess = 0.0

    def find(
        self,
        pre: np.ndarray,
        bias: np.ndarray,
        refine: Callable[[Entries], None] | None = None,
        slack: float = 0.0,
    ) -> Entries | None:
        """Find the entries of pre-activations ``pre + bias``, unless by row.

        Parameters
        ----------
        pre, bias, slack
            See `skfeat.kernels.sae._low_precision.Approximation`.
        refine : callable, optional
            Writes the exact values of entries, where `pre` has approximate ones.

        Returns
        -------
        Entries or None
            None if they are too many.
        """
        activation = self._activation
        if activation.selects == "above":
            entries = self._above(pre, bias, activation.bound(self._params).numpy())
            if entries is not None and refine is not None:
                refine(entries)
            return entries
        n_kept = activation.k * len(pre)
        if n_kept > MAX_DENSITY * pre.size:
            return None
        entries = self._above_scalar(pre, bias, self.guess)
        if len(entries.u) < n_kept and self.guess > 0:
            entries = self._above_scalar(pre, bias, 0.0)
        if refine is not None:
            # The exact values decide: the smallest of those that rounding lets in
            # would be a bound that more than so many exceed.
            entries = _largest(entries, n_kept, slack=slack)
            refine(entries)
        entries = _largest(entries, n_kept)
        self.guess = _MARGIN * float(entries.u.min(initial=np.inf))
        return entries

    def room_for_topk(self, n: int, k: int, dtype, name: str) -> Entries:
        """Make room for `k` entries in each of n rows; some may stay unused."""
        start, count = self._space.room(f"{name} places", 2, n, np.int64)
        start[:], count[:] = np.arange(0, n * k, k), k
        return self._room_for(start, count, n * k, dtype, name)

    def _room_for(self, start, count, n_entries, dtype, name) -> Entries:
        """Make room for ``count[i]`` entries of row i, from ``start[i]`` on.

        Places that stay unused are zeros of feature 0, which add nothing to any sum.
        """
        indices = self._space.line(f"{name} indices", n_entries, np.int32)
        u = self._space.line(f"{name} u", n_entries, dtype)
        indices[:], u[:] = 0, 0
        return Entries(start, count, indices, u)

    def _above_scalar(self, pre, bias, bound):
        bounds = np.full(pre.shape[1], bound, dtype=bias.dtype)
        return self._above(pre, bias, bounds, limit=1.0)

    def _above(self, pre, bias, bounds, limit=MAX_DENSITY) -> Entries | None:
        n, count = len(pre), np.empty(len(pre), dtype=np.int64)
        args = pre, bias, bounds
        self._team.run(
            self._loops.count_above, n, *args, count, n_elements=4 * pre.size
        )
        n_entries = int(count.sum())
        if n_entries > limit * pre.size:
            return None
        entries = self._room_for(
            np.cumsum(count) - count, count, n_entries, bias.dtype, "entry"
        )
        places = entries.start, entries.indices, entries.u
        self._team.run(
            self._loops.select_above, n, *args, *places, n_elements=4 * pre.size
        )
        return entries
