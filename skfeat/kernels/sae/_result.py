"""What one batch leaves beside its gradients."""

from __future__ import annotations

from typing import NamedTuple

import torch


class BatchResult(NamedTuple):
    """What one batch leaves beside its gradients.

    Attributes
    ----------
    loss : float, or Tensor of a number
        Without the auxiliary term, so that it compares across epochs.
    fired : bool Tensor of shape (m,)
    n_active : int, or Tensor of a number
        Number of nonzero codes.
    lowest : float, or Tensor of a number
        Smallest nonzero code, for batch top-k.
    """

    loss: float | torch.Tensor
    fired: torch.Tensor
    n_active: int | torch.Tensor
    lowest: float | torch.Tensor
