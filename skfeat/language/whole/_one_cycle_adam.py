"""Adam's updates of replacements in training, at rates that rise and fall once."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from skfeat.language.whole._trained import RATES, Trained
from skfeat.solvers._loop import one_cycle
from skfeat.utils._adam import Adam

# Norm that the gradient is clipped to: the loss of a language model has outliers.
_LARGEST_GRADIENT = 1.0


class OneCycleAdam:
    """Updates the weights of some replacements.

    Parameters
    ----------
    trained : iterable of TrainedPair or TrainedTranscoder
    learning_rate : float
        The largest, of weights between features.
    planned : int
        Number of updates.
    """

    def __init__(self, trained: Iterable[Trained], learning_rate: float, planned: int):
        self.trained, self.planned, self.n_steps = list(trained), planned, 0
        groups = [
            {"params": part.groups[kind], "rate": learning_rate * share}
            for part in self.trained
            for kind, share in RATES.items()
            if part.groups.get(kind)
        ]
        self.parameters = [p for group in groups for p in group["params"]]
        self.optimizer = Adam(groups, learning_rate)

    @property
    def progress(self) -> float:
        """The share of the planned updates that have been made."""
        return self.n_steps / self.planned

    def take_gradients(self, loss: torch.Tensor) -> None:
        """Give each tensor its gradient, all together no longer than is allowed."""
        self.optimizer.zero_grad()
        loss.backward()
        for parameter in self.parameters:
            if parameter.grad is None:  # of a protocol that does not use it
                parameter.grad = torch.zeros_like(parameter)
        torch.nn.utils.clip_grad_norm_(self.parameters, _LARGEST_GRADIENT)

    @torch.no_grad()
    def make(self) -> None:
        """Make the next update, by the gradients that the tensors have."""
        self.n_steps += 1
        factor = one_cycle(self.progress, warm_up=0.05, decay=0.5)
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * factor
        self.optimizer.step()
        for part in self.trained:
            part.normalize()
