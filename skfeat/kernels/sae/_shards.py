"""What the processes of a group share when they train one autoencoder together.

Either each takes some of the rows of every batch and holds all the weights, or each
takes all the rows and holds the weights of some of the features. Sums then run over
processes, and the largest codes are chosen among all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from skfeat.utils import _distributed as distributed

if TYPE_CHECKING:
    import numpy as np

    from skfeat.kernels.sae._activations import TrainingActivation
    from skfeat.kernels.sae._result import BatchResult


class Shards:
    """How a batch lies over the processes.

    Parameters
    ----------
    by : {"rows", "features"}, optional
        What is divided; None, or without a process group: nothing.
    """

    def __init__(self, by: str | None = None):
        self.by = by if distributed.is_active() else None

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Return this process's share of the rows of one batch."""
        return distributed.shard(rows) if self.by == "rows" else rows

    def features(self, n_components: int) -> slice:
        """Return the features whose weights this process holds."""
        if self.by != "features":
            return slice(0, n_components)
        return distributed.run_of(n_components)

    def all_features(self, mine: torch.Tensor, n_components: int) -> torch.Tensor:
        """Put the rows of all processes below each other, features in their order."""
        if self.by != "features":
            return mine
        whole = mine.new_zeros(n_components, *mine.shape[1:])
        # Processes send the same number of rows; the last may be padding.
        longest = -(-n_components // distributed.place()[1])
        padded = mine.new_zeros(longest, *mine.shape[1:])
        padded[: len(mine)] = mine
        for rank, part in enumerate(distributed.gather(padded)):
            share = whole[distributed.run_of(n_components, rank)]
            share.copy_(part[: len(share)])
        return whole

    def sum_features(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum, in place, what each process has from its features."""
        if self.by == "features":
            distributed.all_reduce(tensor)
        return tensor

    def sum_rows(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum, in place, what each process has from its rows."""
        if self.by == "rows":
            distributed.all_reduce(tensor)
        return tensor

    def active(self, u: torch.Tensor, activation: TrainingActivation) -> torch.Tensor:
        """Tell which of u (n, m) are active, where no bound can tell."""
        if self.by is None:
            return activation.keep(u)
        if activation.selects == "by row":
            return self.largest(u, int(activation.k)).logical_and_(u > 0)
        n_rows = self.sum_rows(torch.tensor(len(u), device=u.device))
        kept = _largest(
            u.reshape(1, -1), activation.n_kept(int(n_rows)), everywhere=True
        )
        return kept.view(u.shape).logical_and_(u > 0)

    def largest(self, u: torch.Tensor, k: int) -> torch.Tensor:
        """Tell which of u (n, m) are among the `k` largest of their row."""
        return _largest(u, k, everywhere=self.by == "features")

    def combine(self, result: BatchResult, params: dict) -> BatchResult:
        """Return the result of the whole batch; complete the gradients in place."""
        if self.by is None:
            return result
        device = result.fired.device
        n_active = torch.as_tensor(result.n_active, device=device)
        loss, lowest = (
            torch.as_tensor(number, dtype=torch.float64, device=device)
            for number in (result.loss, result.lowest)
        )
        result = result._replace(loss=loss, n_active=n_active, lowest=lowest)
        distributed.all_reduce_min(lowest)
        distributed.all_reduce(n_active)
        if self.by == "features":
            return result
        # Silent on every rank: none of them has fired.
        n_fired = result.fired.to(torch.int64)
        grads = [p.grad for p in params.values() if p.grad is not None]
        distributed.all_reduce(loss, n_fired, *grads)
        return result._replace(fired=n_fired > 0)


def _largest(u: torch.Tensor, k: int, *, everywhere: bool) -> torch.Tensor:
    """Tell which of u (n, m) are the `k` largest of a row, or of all its parts."""
    width = min(k, u.shape[1])
    values, places = u.topk(width, dim=1, sorted=False)
    kept = torch.ones_like(places, dtype=torch.bool)
    if everywhere:
        rank, size = distributed.place()
        mine = u.new_full((len(u), k), -torch.inf)
        mine[:, :width] = values
        # All choose from the same numbers in the same order, so ties end alike.
        everyone = torch.cat(distributed.gather(mine), dim=1)
        best = everyone.topk(k, dim=1, sorted=False).indices
        among = torch.zeros_like(everyone, dtype=torch.bool).scatter_(1, best, True)
        kept = among.view(len(u), size, k)[:, rank, :width]
    return torch.zeros_like(u, dtype=torch.bool).scatter_(1, places, kept)
