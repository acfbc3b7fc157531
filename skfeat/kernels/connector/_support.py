"""Where the weights of a connector are held: everywhere, or at some places alone."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse


class Support:
    """Places of a matrix (q, p) whose weights are held. All others are zero.

    Weights that are held everywhere are a matrix, others a vector, row after row: of
    wide layers gradients and moments of all places would take a hundred times the
    memory, and longer than all products.

    Parameters
    ----------
    shape : tuple of int (q, p)
    places : ndarray of int64 (n_weights,), or None
        ``row * p + column`` of each weight, ascending; None: all.
    """

    def __init__(self, shape: tuple[int, int], places: np.ndarray | None = None):
        self.shape, self.places = shape, places

    @classmethod
    def of(cls, matrix: sparse.csr_array) -> Support:
        """Return the places of the nonzeros."""
        rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        return cls(matrix.shape, rows * matrix.shape[1] + matrix.indices)

    @property
    def size(self) -> int:
        """Number of places of the matrix."""
        return self.shape[0] * self.shape[1]

    @property
    def weights_shape(self) -> tuple[int, ...]:
        """Shape of the weights that are held."""
        return self.shape if self.places is None else (len(self.places),)

    def ends(self, mask: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows and columns of the weights under a mask of their shape."""
        kept = np.flatnonzero(mask.cpu().numpy())
        places = kept if self.places is None else self.places[kept]
        row, column = np.divmod(places, self.shape[1])
        return row, column

    def pointer(self) -> np.ndarray:
        """Return which weights each row has: row i from entry i to entry i + 1."""
        starts = np.arange(self.shape[0] + 1) * self.shape[1]
        return starts if self.places is None else np.searchsorted(self.places, starts)

    def columns(self) -> np.ndarray:
        """Return the column of each weight; nothing where all are held."""
        if self.places is None:
            return np.empty(0, dtype=np.int64)
        return self.places % self.shape[1]

    def matrix(self, weights: torch.Tensor) -> torch.Tensor:
        """Return the matrix of weights, differentiably."""
        if self.places is None:
            return weights
        places = torch.from_numpy(self.places).to(weights.device)
        zeros = weights.new_zeros(self.size)
        return zeros.scatter(0, places, weights).view(self.shape)

    def array(self, weights: np.ndarray) -> np.ndarray | sparse.csr_array:
        """Return the matrix of weights, as CSR if they are not held everywhere."""
        if self.places is None:
            return weights
        parts = weights, self.columns(), self.pointer()
        return sparse.csr_array(parts, shape=self.shape)
