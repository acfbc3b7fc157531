"""What the removal of a weight between features costs, told by what it changes.

The mean square of gradients, by which `CurvaturePruning` estimates that cost, is blind
where training has succeeded. A gradient vanishes with the error, so the weights of what
is computed well seem to cost least. And it vanishes where the rectifier is off, so a
weight that switches a feature off, the whole of an AND NOT, seems to cost nothing.

Here the change of the feature that the weight adds to is computed, with the rectifier:
exactly, row by row. What a change of a feature costs the loss is that of a parabola,
whose curvature (Gauss-Newton's) is the mean square of gradients of random combinations
of what the loss compares [1]_, not of errors.

References
----------
.. [1] M. F. Hutchinson, "A stochastic estimator of the trace of the influence matrix
   for Laplacian smoothing splines", Communications in Statistics, 1989.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import numpy as np
import torch

from skfeat.kernels._threads import Team
from skfeat.kernels.connector._removal import RemovalCosts, removal_costs
from skfeat.kernels.connector._support import Support
from skfeat.solvers._prune import PRUNED_AT, Pruner, SaliencyPruning
from skfeat.utils._torch import as_like

# Costs are estimated every so many updates; the share of the latest in their mean.
_ESTIMATE_EVERY, _COST_SHARE = 4, 0.05
# Weights times rows that an estimate takes at most, and the rows it has at least; a
# sample of maps has a row for each position, so few of them are many.
_MOST_ELEMENTS, _LEAST_ROWS, _LEAST_MAPS = 2**21, 32, 8


class RemovalPruning(SaliencyPruning):
    """Prunes weights in training by what their removal would cost the loss.

    It is given the costs; see `skfeat.kernels.connector._removal`.

    Parameters
    ----------
    coefs : list of Tensor
    pruners : list of Pruner
    shared : bool
        As of `SaliencyPruning`.
    n_positions : list of int, default=None
        How many positions share the weights of each matrix; None: one.
    """

    def __init__(
        self,
        coefs: list[torch.Tensor],
        pruners: list[Pruner],
        *,
        shared: bool,
        n_positions: list[int] | None = None,
    ):
        super().__init__(coefs, pruners, shared=shared)
        self.costs = [torch.zeros_like(coef) for coef in coefs]
        self.n_positions = n_positions or [1] * len(coefs)

    def is_time(self, n_steps: int, planned: int) -> bool:
        """Tell whether to estimate costs before the next of so many planned updates."""
        return (
            len(self.coefs) > 0
            and n_steps <= PRUNED_AT * planned
            and n_steps % _ESTIMATE_EVERY == 0
        )

    def take_costs(self, costs: list[torch.Tensor]) -> None:
        """Follow the costs of all weights, from the rows of a batch."""
        for mean, cost in zip(self.costs, costs, strict=True):
            mean.lerp_(cost, _COST_SHARE)

    def kernels(
        self, planned: int, team: Team, supports: Sequence[Support] | None = None
    ) -> list[RemovalCosts]:
        """Return what computes the costs of each matrix in so many planned updates.

        `supports` tell where the weights of each are held; by default everywhere.
        """
        n_estimates = PRUNED_AT * planned / _ESTIMATE_EVERY
        found = []
        for coef, n_positions, support in zip(
            self.coefs, self.n_positions, supports or repeat(None), strict=False
        ):
            least = _LEAST_ROWS if n_positions == 1 else _LEAST_MAPS * n_positions
            # Sizes alone decide: a run that goes on has fewer weights left.
            n_elements = n_estimates * max(_MOST_ELEMENTS, coef.numel() * least)
            found.append(removal_costs(n_elements, coef.device, team, support))
        return found

    def saliencies(self) -> list[torch.Tensor]:
        """Return the running means of the costs."""
        return self.costs

    def n_samples(self) -> int:
        """Return of how many samples an estimate takes the costs."""
        n_elements = max(
            (
                int(pruner.mask.sum()) * n_positions
                for pruner, n_positions in zip(
                    self.pruners, self.n_positions, strict=True
                )
            ),
            default=0,
        )
        is_rows = max(self.n_positions, default=1) == 1
        least = _LEAST_ROWS if is_rows else _LEAST_MAPS
        return max(least, _MOST_ELEMENTS // max(n_elements, 1))


class RandomSigns:
    """Draws the random combinations whose gradients tell curvatures.

    Parameters
    ----------
    n_samples : int
        In all processes together.
    mine : ndarray of int
        Those of this process.
    generator : torch.Generator
    """

    def __init__(self, n_samples: int, mine: np.ndarray, generator: torch.Generator):
        self.n_samples, self.mine, self.generator = n_samples, mine, generator

    def draw(self, like: torch.Tensor, n_positions: int = 1) -> torch.Tensor:
        """Draw signs (q, n): the same for a sample, whoever has it."""
        shape = len(like), self.n_samples, n_positions
        drawn = torch.randint(0, 2, shape, generator=self.generator, device="cpu")
        return (2 * drawn[:, self.mine] - 1).reshape(like.shape).to(like)

    def of_features(
        self, features: torch.Tensor, weights: torch.Tensor, n_positions: int = 1
    ) -> torch.Tensor:
        """Combine features (q, n) whose squared errors have weights (n,)."""
        return (self.draw(features, n_positions) * features * weights.sqrt()).sum()

    def of_logits(self, logits: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Combine logits (q, n): the KL divergence of whose softmax has weights (n,).

        The square is on average the curvature of that divergence.
        """
        share = logits.detach().softmax(dim=0).sqrt()
        drawn = self.draw(logits) * share
        drawn = drawn - share.square() * drawn.sum(dim=0)
        return (logits * drawn * (weights / 2).sqrt()).sum()

    def of_values(
        self, values: torch.Tensor, scale: Any, weights: torch.Tensor
    ) -> torch.Tensor:
        """Combine outputs (q, n), the mean of whose squared errors has weights (n,)."""
        scale = as_like(scale, values).reshape(-1, 1)
        values = self.draw(values) * values / scale
        return (values * (weights / len(values)).sqrt()).sum()
