"""One update of all parts that are trained together, and when they stop."""

from __future__ import annotations

from math import ceil
from typing import Any

import torch

from skfeat.solvers._loop import Stopping, one_cycle
from skfeat.solvers._prune import (
    PRUNED_AT,
    SaliencyPruning,
    is_time,
    updates_between,
)
from skfeat.solvers.joint._problem import JointSettings
from skfeat.solvers.joint._trained_coder import TrainedCoder
from skfeat.utils import _distributed as distributed
from skfeat.utils._adam import Adam

# Largest learning rates of connectors and of autoencoders.
_RATE, _CODER_RATE = 8e-3, 2e-3


class Updates:
    """Mixin of what learns: it has a loss, and weights that are pruned on the way."""

    parameters: list[torch.Tensor]
    optimizer: Any
    rates: list[float]
    pruning: SaliencyPruning
    coders: list[TrainedCoder]
    n_steps: int

    def _set_optimizer(
        self, connectors: list[torch.Tensor], coders: list[torch.Tensor]
    ) -> None:
        """Train these weights of connectors and of autoencoders, each at its rate."""
        self.parameters = [*connectors, *coders]
        rates = [(connectors, _RATE), (coders, _CODER_RATE)]
        groups = [{"params": params} for params, _ in rates if params]
        self.optimizer = Adam(groups, _RATE)
        self.rates = [rate for params, rate in rates if params]

    def _prune(self, progress: float) -> None:
        raise NotImplementedError

    def update(self, loss: torch.Tensor, planned: int) -> float:
        """Make one update, of so many planned, down the gradient of a batch's loss.

        Each process has the loss of its share of the batch; return that of all.
        """
        self.optimizer.zero_grad()
        loss.backward()
        value = loss.detach()
        distributed.all_reduce(
            value, *(p.grad for p in self.parameters if p.grad is not None)
        )
        self.n_steps += 1
        progress = self.n_steps / planned
        factor = one_cycle(progress, warm_up=0.1, decay=0.5)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        self.pruning.take_gradients()
        self.optimizer.step()
        self.pruning.hold()
        for coder in self.coders:
            coder.normalize()
        if is_time(self.n_steps, progress, updates_between(planned)):
            self._prune(progress)
        return float(value)


def stopping(settings: JointSettings) -> Stopping:
    """Return when to stop: pruning raises the loss on the way, and does not count."""
    return Stopping(
        settings.n_epochs,
        settings.tol,
        max(5, settings.n_epochs // 10),
        counted_from=ceil(PRUNED_AT * settings.n_epochs),
    )
