"""One update of all parts that are trained together."""

from __future__ import annotations

from typing import Any

import torch

from skfeat.solvers._prune import (
    SaliencyPruning,
    is_time,
    rate_at,
    updates_between,
)
from skfeat.solvers.joint._problem import JointSettings
from skfeat.solvers.joint._trained_coder import TrainedCoder
from skfeat.solvers.joint._units import Unit
from skfeat.utils import _distributed as distributed
from skfeat.utils._adam import Adam
from skfeat.utils._torch import as_like, to_float32

# Largest learning rates of connectors and of autoencoders.
_RATE, _CODER_RATE = 8e-3, 5e-3


# What reconstruction counts beside outputs, at least: a share that leaves them near the
# model and autoencoders good where weights are few. At 1 outputs are worse, at 0.1
# autoencoders. And how many times as much as the features that are computed.
_RECONSTRUCTION, _TIMES_FAITHFULNESS = 0.3, 3.0
# Share of the latest batch in running means of codes.
_SHARE = 0.02
# Of the mean square of codes, the least that their variance counts for.
_CONSTANT = 1e-6


class Updates:
    """Mixin of what learns: it has a loss, and weights that are pruned on the way."""

    settings: JointSettings
    code_means: list[torch.Tensor]
    code_variances: list[torch.Tensor]

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

    def _measure(self, coder: TrainedCoder, own: torch.Tensor, weights) -> None:
        """Note what is known of a layer's codes (n, m) at the start.

        `weights` (n,) of the rows have the sum one.
        """
        shares = torch.as_tensor(weights, dtype=torch.float32, device=own.device)
        mean = shares @ own
        variance = float(shares @ (own - mean).square().sum(dim=1))
        active = float(shares @ (own > 0).sum(dim=1).to(shares))
        self._note(coder, mean, variance, active)

    def _note(
        self, coder: TrainedCoder, mean: torch.Tensor, variance: float, active: float
    ) -> None:
        """Note the mean and variance of a layer's codes, and how many are active."""
        least = _CONSTANT * float(mean.square().sum())
        self.code_means.append(mean)
        self.code_variances.append(mean.new_tensor(max(variance, least) or 1.0))
        if coder.holds_l0:
            coder.hold(active, float(mean.sum()) / max(active, 1.0))

    @torch.no_grad()
    def _follow(self, codes: list[torch.Tensor], weights: list[torch.Tensor]) -> None:
        """Let the means and variances of codes, and penalties, follow the batches.

        The weights of a layer's rows (n,) have the sum one in all processes together.
        """
        for layer, (own, shares) in enumerate(zip(codes, weights, strict=True)):
            coder = self.coders[layer]
            if coder.coder.frozen:
                continue
            mean, running = shares @ own, self.code_means[layer]
            # Of deviations from the running mean, without a table of them. Shares of
            # several processes have the sum one in all of them together.
            square = shares @ torch.linalg.vector_norm(own, dim=1).square()
            cross, constant = running @ mean, running.square().sum()
            variance = square - 2 * cross + shares.sum() * constant
            found = [mean, variance]
            if coder.l0:
                found.append(shares @ (own > 0).sum(dim=1).to(shares))
            distributed.all_reduce(*found)
            running.lerp_(mean, _SHARE)
            self.code_variances[layer].lerp_(variance, _SHARE)
            if coder.l0:
                coder.follow(float(found[-1]))

    def _tensor(self, array, *, trained: bool) -> torch.Tensor:
        return to_float32(array, self.settings.device, trained=trained)

    def _prune(self, progress: float) -> None:
        raise NotImplementedError

    def update(self, loss: torch.Tensor, planned: int) -> float:
        """Make one update, of so many planned, down the gradient of a batch's loss.

        Each process has the loss of its share of the batch; return that of all.
        """
        value = distributed.backward(loss, self.parameters)
        self.n_steps += 1
        progress = self.n_steps / planned
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * rate_at(progress)
        self.pruning.take_gradients()
        self.optimizer.step()
        self.pruning.hold()
        for coder in self.coders:
            coder.normalize()
        if is_time(self.n_steps, progress, updates_between(planned)):
            self._prune(progress)
        return value


def reconstruction(settings: JointSettings) -> float:
    """Return what reconstruction counts beside outputs.

    Three times as much as the features that are computed, or more: else dictionaries
    would give way to these.
    """
    return max(_RECONSTRUCTION, _TIMES_FAITHFULNESS * settings.faithfulness)


def in_raw_units(rows: torch.Tensor, unit: Unit) -> torch.Tensor:
    """Undo `Unit.apply`, differentiably."""
    scale, mean = (as_like(part, rows) for part in (unit.scale, unit.mean))
    return rows * scale + mean
