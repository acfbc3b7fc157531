"""Activations that turn pre-activations into codes, as a fitted autoencoder has them.

Three maps are enough for every kind of autoencoder: what batch top-k and gated ones
learn is a `JumpReLU` once their weights are fixed. How each kind is trained stands in
`skfeat.kernels.sae._activations`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skfeat.utils._checks import check_int, value_error

if TYPE_CHECKING:
    import torch

__all__ = ["Activation", "JumpReLU", "ReLU", "TopK"]

# Values of a row up to which numpy finds the largest ones several times as fast as
# torch; from some 2,000 on it is slower.
_PARTITIONED = 1024


@dataclass(frozen=True)
class ReLU:
    """Keep what is positive."""

    name = "relu"

    def encode(self, pre: np.ndarray) -> np.ndarray:
        """Codes of pre-activations (n, m)."""
        return np.maximum(pre, 0)

    def forward(self, pre: torch.Tensor) -> torch.Tensor:
        """Codes of pre-activations (n, m)."""
        return pre.relu()

    def take(self, features: np.ndarray) -> ReLU:
        """Return the activation of some of the features."""
        return self


@dataclass(frozen=True)
class TopK:
    """Keep the `k` largest positive pre-activations of each row.

    Ties are broken so that never more than `k` codes of a row are nonzero [1]_.

    Parameters
    ----------
    k : int
    n_groups : int, default=1
        Equal parts of a row, such as the positions of a map, each of which keeps its
        own `k`.

    References
    ----------
    .. [1] A. Makhzani and B. Frey, "k-Sparse Autoencoders", ICLR 2014.
    """

    k: int
    n_groups: int = 1
    name = "topk"

    def __post_init__(self) -> None:
        """Refuse a `k` that keeps nothing, or is no number of features."""
        check_int("k", self.k, 1)
        check_int("n_groups", self.n_groups, 1)

    def encode(self, pre: np.ndarray) -> np.ndarray:
        """Codes of pre-activations (n, m)."""
        if self.n_groups > 1:
            parts = pre.reshape(len(pre) * self.n_groups, -1)
            return TopK(self.k).encode(parts).reshape(pre.shape)
        n_components = pre.shape[1]
        if self.k >= n_components:
            return np.maximum(pre, 0)
        first_kept = n_components - self.k
        kept = np.argpartition(pre, first_kept, axis=1)[:, first_kept:]
        rows = np.arange(len(pre))[:, None]
        codes = np.zeros_like(pre)
        codes[rows, kept] = np.maximum(pre[rows, kept], 0)
        return codes

    def forward(self, pre: torch.Tensor) -> torch.Tensor:
        """Codes of pre-activations (n, m)."""
        if self.n_groups > 1:
            parts = pre.reshape(len(pre) * self.n_groups, -1)
            return TopK(self.k).forward(parts).reshape(pre.shape)
        if self.k >= pre.shape[1]:
            return pre.relu()
        kept = largest_of_rows(pre, self.k)
        if kept is not None:
            return pre * as_numbers(kept, pre)
        values, indices = pre.topk(self.k, dim=1, sorted=False)
        return pre.new_zeros(pre.shape).scatter(1, indices, values.relu())

    def take(self, features: np.ndarray) -> TopK:
        """Return the activation of some of the features."""
        return self


@dataclass(frozen=True, eq=False)
class JumpReLU:
    """Keep the pre-activations above a threshold, which each feature has its own of.

    Parameters
    ----------
    threshold : ndarray of shape (m,)
        Non-negative [1]_.

    References
    ----------
    .. [1] S. Rajamanoharan et al., "Jumping Ahead: Improving Reconstruction Fidelity
       with JumpReLU Sparse Autoencoders", 2024.
    """

    threshold: np.ndarray
    name = "jumprelu"

    def __post_init__(self) -> None:
        """Refuse thresholds that are not finite, or below zero."""
        array = np.asarray(self.threshold)
        allowed = "an array of finite numbers of at least 0"
        if array.dtype.kind not in "iuf":
            raise value_error("threshold", allowed, self.threshold)
        wrong = array[~((array >= 0) & (array < np.inf))]
        if wrong.size:
            raise ValueError(f"threshold must be {allowed}. Got {wrong[0]} in it.")

    def encode(self, pre: np.ndarray) -> np.ndarray:
        """Codes of pre-activations (n, m)."""
        # Compared in the precision of the codes, so that every batch is cut alike.
        threshold = np.asarray(self.threshold, dtype=pre.dtype)
        # NaN stays NaN, as in the other activations.
        return np.where(pre <= threshold, pre.dtype.type(0), pre)

    def forward(self, pre: torch.Tensor) -> torch.Tensor:
        """Codes of pre-activations (n, m)."""
        return pre * (pre > pre.new_tensor(self.threshold))

    def take(self, features: np.ndarray) -> JumpReLU:
        """Return the activation of some of the features."""
        return JumpReLU(self.threshold[features])


Activation = ReLU | TopK | JumpReLU


def as_numbers(mask: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return truth values as ones and zeros of the dtype of another tensor.

    Torch converts bytes six times as fast as truth values, and multiplies with numbers
    as much faster.
    """
    import torch

    return mask.view(torch.uint8).to(like.dtype)


def above(values: torch.Tensor, bound: torch.Tensor | float) -> torch.Tensor:
    """Return one where values exceed a bound, else zero, in the dtype of the values.

    Truth values take torch six times as long.
    """
    import torch

    if not isinstance(bound, torch.Tensor):
        bound = values.new_tensor(bound)
    return torch.gt(values, bound, out=torch.empty_like(values))


def largest_of_rows(values: torch.Tensor, k: int) -> torch.Tensor | None:
    """Mark the `k` largest positive values of each row, where numpy is faster at it.

    None elsewhere, and where values tie so that there would be more than `k`.
    """
    if values.device.type != "cpu" or values.shape[1] > _PARTITIONED:
        return None
    rows = values.detach()
    bound = np.partition(rows.numpy(), values.shape[1] - k, axis=1)[:, -k]
    kept = rows.numpy() >= bound[:, None]
    kept &= rows.numpy() > 0
    full = bound > 0
    counted = kept if full.all() else kept[full]
    if np.count_nonzero(counted) > k * len(counted):
        return None
    import torch

    return torch.from_numpy(kept)
