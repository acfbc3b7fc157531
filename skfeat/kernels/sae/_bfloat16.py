"""Matrices of bfloat16 that torch multiplies and compiled loops go through."""

from __future__ import annotations

import numpy as np
import torch

from skfeat.kernels._memory import Buffers
from skfeat.kernels._threads import Team
from skfeat.kernels.sae import _loops_bfloat16 as loops
from skfeat.kernels.sae._approximation import Approximation

# Rows that a thread multiplies at a time: a cache holds their codes until these are
# selected from.
BFLOAT16_ROWS = 256


class BFloat16Matrix:
    """A matrix of bfloat16: its bits, and torch's tensor of the same memory."""

    def __init__(self, bits: np.ndarray):
        self.bits = bits
        self.tensor = torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)

    @classmethod
    def empty(cls, buffers: Buffers, name: str, n: int, width: int) -> BFloat16Matrix:
        """Make a matrix (n, width) that holds anything."""
        return cls(buffers.matrix(f"bfloat16 {name}", n, width, np.uint16))

    @classmethod
    def of(
        cls, matrix: np.ndarray, buffers: Buffers, name: str, team: Team
    ) -> BFloat16Matrix:
        """Round a matrix of float32."""
        out = cls.empty(buffers, name, *matrix.shape)
        nothing = np.zeros(matrix.shape[1], matrix.dtype)
        team.run(
            lambda first, last: loops.round_rows(
                first, last, matrix, nothing, out.bits
            ),
            len(matrix),
            n_elements=matrix.size,
        )
        return out


def by_bfloat16(centred, encoder, bias, buffers: Buffers, team: Team) -> Approximation:
    """Round both factors to bfloat16, and the product; torch multiplies."""
    left = BFloat16Matrix.of(centred, buffers, "centred", team).tensor
    right = BFloat16Matrix.of(encoder, buffers, "encoder", team).tensor.T
    out = BFloat16Matrix.empty(buffers, "pre", len(centred), len(encoder))

    def multiply(first, last):
        part = slice(first, last)
        torch.mm(left[part], right, out=out.tensor[part])

    return Approximation(out.bits, bias, multiply, BFLOAT16_ROWS, 2.0**-6)
