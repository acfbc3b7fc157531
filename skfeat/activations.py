"""Activations of the sparse autoencoder: one small class each, chosen by name.

An activation turns pre-activations into non-negative codes. Each gives the same map
twice: `forward` on tensors, for training, and `encode` on arrays, for prediction.
All are positively homogeneous, which is what lets one scale of the data be folded
into the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ReLU:
    """Keep what is positive; sparsity comes from an L1 penalty on the codes."""

    name = "relu"
    penalised = True

    def forward(self, pre: torch.Tensor) -> torch.Tensor:
        """Codes of pre-activations, as tensors (n, m)."""
        return pre.relu()

    def encode(self, pre: np.ndarray) -> np.ndarray:
        """Codes of pre-activations, as arrays (n, m)."""
        return np.maximum(pre, 0)


@dataclass(frozen=True)
class TopK:
    """Keep the `k` largest positive pre-activations of each row.

    Ties are broken so that never more than `k` codes of a row are nonzero [1]_.

    References
    ----------
    .. [1] A. Makhzani and B. Frey, "k-Sparse Autoencoders", ICLR 2014.
    """

    k: int
    name = "topk"
    penalised = False

    def forward(self, pre: torch.Tensor) -> torch.Tensor:
        """Codes of pre-activations, as tensors (n, m)."""
        if self.k >= pre.shape[1]:
            return pre.relu()
        values, indices = pre.topk(self.k, dim=1, sorted=False)
        return pre.new_zeros(pre.shape).scatter_(1, indices, values.relu_())

    def encode(self, pre: np.ndarray) -> np.ndarray:
        """Codes of pre-activations, as arrays (n, m)."""
        n_components = pre.shape[1]
        if self.k >= n_components:
            return np.maximum(pre, 0)
        first_kept = n_components - self.k
        kept = np.argpartition(pre, first_kept, axis=1)[:, first_kept:]
        values = np.maximum(np.take_along_axis(pre, kept, axis=1), 0)
        codes = np.zeros_like(pre)
        np.put_along_axis(codes, kept, values, axis=1)
        return codes


def make_activation(name: str, k: int) -> ReLU | TopK:
    """Return the activation called `name`."""
    return TopK(k) if name == "topk" else ReLU()
