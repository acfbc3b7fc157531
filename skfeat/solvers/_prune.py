"""Gradual pruning of weight matrices during training.

Pruning is gradual as with Zhu and Gupta [1]_, but along a schedule of the logarithm of
the number of weights. Their cubic schedule of the number itself leaves hardly any
updates for the last factor of ten where the budget is a thousandth of the weights.

References
----------
.. [1] M. Zhu and S. Gupta, "To prune, or not to prune: exploring the efficacy of
   pruning for model compression", ICLR workshop, 2018.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import numpy as np
import torch

from skfeat.solvers._loop import Stopping, one_cycle

# Pruning begins and reaches the budget at these shares of the updates: weights must
# have been learnt before they can be ranked, and the rest of the run is refit.
_PRUNED_FROM, PRUNED_AT = 0.1, 0.7
_PRUNE_EVERY = 16
# A short run is pruned more often, so that its schedule has some fifty steps too.
_LEAST_STEPS = 50

# Share of the latest batch in the running mean of squared gradients.
_CURVATURE_SHARE = 0.02


def is_time(n_steps: int, progress: float, every: int = _PRUNE_EVERY) -> bool:
    """Tell whether to prune after this update."""
    return n_steps % every == 0 and _PRUNED_FROM <= progress <= PRUNED_AT


def updates_between(planned: int) -> int:
    """Return how many updates of a run to prune after: of a short one, few."""
    return max(1, min(_PRUNE_EVERY, planned // _LEAST_STEPS))


def stopping(n_epochs: int, tol: float) -> Stopping:
    """Return when to stop: pruning raises the loss on the way, and does not count."""
    return Stopping(
        n_epochs,
        tol,
        max(5, n_epochs // 10),
        counted_from=ceil(PRUNED_AT * n_epochs),
        # The length is planned, and the rate has come down to zero by the end.
        may_end_falling=True,
    )


def rate_at(progress: float) -> float:
    """Return the factor of the learning rate at a share `progress` of the run."""
    return one_cycle(progress, warm_up=0.1, decay=0.5)


def pruned_epochs(planned: int) -> tuple[float, float]:
    """Return between which epochs of a planned run weights are pruned."""
    return _PRUNED_FROM * planned, PRUNED_AT * planned


def left_at(progress: float, first, budget) -> np.ndarray:
    """Return how many weights are left at a share `progress` of the run.

    The logarithm of their number falls along a parabola that ends flat.
    """
    pruned = (progress - _PRUNED_FROM) / (PRUNED_AT - _PRUNED_FROM)
    if pruned >= 1:
        return np.asarray(budget)
    end = np.maximum(budget, 1)
    left = end * (np.maximum(first, end) / end) ** ((1 - max(0.0, pruned)) ** 2)
    return np.rint(left).astype(int)


def share(pruners: list[Pruner], progress: float, saliencies: list) -> None:
    """Let matrices share the sum of their budgets, as their saliencies have it.

    The saliencies of all must be in one unit.
    """
    keep = left_at(
        progress, sum(p.first for p in pruners), sum(p.budget for p in pruners)
    )
    saliency = torch.cat(
        [
            s.masked_fill(~p.mask, -1.0).ravel()
            for p, s in zip(pruners, saliencies, strict=True)
        ]
    )
    parts = _largest(saliency, int(keep)).split([p.mask.numel() for p in pruners])
    for pruner, part in zip(pruners, parts, strict=True):
        pruner.mask &= part.view_as(pruner.mask)
        pruner.apply()


def _largest(values: torch.Tensor, k: int) -> torch.Tensor:
    """Mark the `k` largest of a vector, all if there are no more.

    Of equal values the first ones are marked on the CPU.
    """
    n, k = len(values), min(k, len(values))
    if values.device.type != "cpu" or k == 0:
        mask = torch.zeros_like(values, dtype=torch.bool)
        mask[values.topk(k, sorted=False).indices] = True
        return mask
    # Of a million values numpy finds the bound some thirty times as fast as torch.
    array = values.numpy()
    bound = np.partition(array, n - k)[n - k]
    kept = array > bound
    kept[np.flatnonzero(array == bound)[: k - np.count_nonzero(kept)]] = True
    return torch.from_numpy(kept)


class Pruner:
    """Keeps the most salient weights of one matrix, fewer and fewer.

    Parameters
    ----------
    coef : Tensor of shape (q, p)
        Changed in place.
    budget : int or ndarray of shape (q,)
        Weights left in the end, in all or of each output.
    first : int
        Weights left in all by the first pruning.
    """

    def __init__(self, coef: torch.Tensor, budget, first: int):
        self.coef = coef
        self.budget = budget
        self.each = isinstance(budget, np.ndarray)
        self.first = np.maximum(first // len(coef) if self.each else first, budget)
        self.mask = torch.ones_like(coef, dtype=torch.bool)

    @classmethod
    def fixed(cls, coef: torch.Tensor, support: torch.Tensor) -> Pruner:
        """Make a pruner that only holds a support (q, p)."""
        pruner = cls(coef, int(support.sum()), 0)
        pruner.mask &= support
        pruner.apply()
        return pruner

    def step(
        self, n_steps: int, progress: float, saliency: Callable[[], torch.Tensor]
    ) -> None:
        """Follow an update of the weights: hold zeros, and prune when it is time."""
        self.apply()
        if is_time(n_steps, progress):
            self.prune(progress, saliency())

    def prune(self, progress: float, saliency: torch.Tensor) -> None:
        """Drop the least salient weights at a share `progress` of the run.

        Parameters
        ----------
        progress : float
        saliency : Tensor of shape (q, p), not negative
        """
        keep = left_at(progress, self.first, self.budget)
        saliency = saliency.masked_fill(~self.mask, -1.0)
        if self.each:
            left_of_row = torch.as_tensor(keep, device=saliency.device)[:, None]
            order = saliency.argsort(dim=1, descending=True, stable=True)
            mask = order.argsort(dim=1) < left_of_row
        else:
            mask = _largest(saliency.ravel(), int(keep))
        self.mask &= mask.view_as(self.mask)
        self.apply()

    def apply(self) -> None:
        """Hold what was dropped at zero."""
        self.coef *= self.mask


class SaliencyPruning:
    """Holds and prunes weights in training; how they are ranked is for subclasses.

    Parameters
    ----------
    coefs : list of Tensor
        The weights that are trained.
    pruners : list of Pruner
        One for each.
    shared : bool
        Whether the matrices share the sum of their budgets.
    """

    def __init__(
        self, coefs: list[torch.Tensor], pruners: list[Pruner], *, shared: bool
    ):
        self.coefs, self.pruners, self.shared = coefs, pruners, shared

    def saliencies(self) -> list[torch.Tensor]:
        """Return for each matrix what the removal of its weights would cost."""
        raise NotImplementedError

    def take_gradients(self) -> None:
        """Drop the gradients of pruned weights."""
        for coef, pruner in zip(self.coefs, self.pruners, strict=True):
            assert coef.grad is not None  # `backward` has run
            coef.grad *= pruner.mask

    def hold(self) -> None:
        """Hold what was dropped at zero, after an update."""
        for pruner in self.pruners:
            pruner.apply()

    def prune(self, progress: float) -> None:
        """Drop the weights that cost least, at a share `progress` of the run."""
        saliencies = self.saliencies()
        if self.shared and saliencies:
            share(self.pruners, progress, saliencies)
            return
        for pruner, saliency in zip(self.pruners, saliencies, strict=True):
            pruner.prune(progress, saliency)


class CurvaturePruning(SaliencyPruning):
    """Prunes weights in training by what their removal would cost the loss.

    The cost is that of a parabola in each weight: ``weight^2 * E[gradient^2]``, where
    the mean square of gradients over recent batches is the curvature, up to a factor
    that is the same for all.
    """

    def __init__(
        self, coefs: list[torch.Tensor], pruners: list[Pruner], *, shared: bool
    ):
        super().__init__(coefs, pruners, shared=shared)
        self.curvatures = [torch.zeros_like(coef) for coef in coefs]

    def take_gradients(self) -> None:
        """Follow the gradients of a batch, and drop those of pruned weights."""
        for coef, curvature in zip(self.coefs, self.curvatures, strict=True):
            assert coef.grad is not None  # `backward` has run
            curvature.lerp_(coef.grad.square(), _CURVATURE_SHARE)
        super().take_gradients()

    def saliencies(self) -> list[torch.Tensor]:
        """Return for each matrix what the removal of its weights would cost."""
        return [
            coef.detach().square() * curvature
            for coef, curvature in zip(self.coefs, self.curvatures, strict=True)
        ]
