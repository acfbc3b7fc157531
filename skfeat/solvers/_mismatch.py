"""How far outputs are from the model's, as losses of weighted rows."""

from __future__ import annotations

import torch


def kl_divergence(
    outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return the mean divergence from the distributions of target logits (n, q).

    One logit stands for two classes. `weights` (n,) are of rows, and sum to one.
    """
    if outputs.shape[1] == 1:
        outputs, targets = (
            torch.cat([torch.zeros_like(part), part], dim=1)
            for part in (outputs, targets)
        )
    log_q, log_p = outputs.log_softmax(dim=1), targets.log_softmax(dim=1)
    return weights @ (log_p.exp() * (log_p - log_q)).sum(dim=1)


def squared_error(
    outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return the mean squared error of weighted rows (n, q) and columns."""
    return weights @ (outputs - targets).square().mean(dim=1)
