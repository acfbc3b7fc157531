"""Matrices of bfloat16 that torch multiplies and compiled loops go through."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from skfeat.kernels._memory import Workspace
from skfeat.kernels._optional import load
from skfeat.kernels._threads import Team

# Rows that a thread multiplies at a time: their codes are to stay in a cache until
# they are looked through.
TILE = 256


class Rounded:
    """A matrix of bfloat16: its bits, and torch's tensor of the same memory."""

    def __init__(self, bits: np.ndarray):
        self.bits = bits
        self.tensor = torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)

    @classmethod
    def room(cls, space: Workspace, name: str, n: int, width: int) -> Rounded:
        """Make a matrix (n, width) that holds anything."""
        return cls(space.room(f"rounded {name}", n, width, np.uint16))

    @classmethod
    def of(cls, matrix: np.ndarray, space: Workspace, name: str, team: Team) -> Rounded:
        """Round a matrix of float32."""
        loops: Any = load("sae._loops_bfloat16")
        room = cls.room(space, name, *matrix.shape)
        nothing = np.zeros(matrix.shape[1], matrix.dtype)
        team.run(
            loops.round_rows,
            len(matrix),
            *(matrix, nothing, room.bits),
            n_elements=matrix.size,
        )
        return room
