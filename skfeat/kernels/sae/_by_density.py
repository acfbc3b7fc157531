"""Loops over active codes while these are few, dense matrices while they are many."""

from __future__ import annotations

import torch

from skfeat.kernels._limits import LIMITS
from skfeat.kernels.sae._kernel import Batch, Kernel
from skfeat.kernels.sae._result import BatchResult
from skfeat.kernels.sae._sparse import SparseKernel


class ByDensityKernel:
    """The `Kernel` that takes one of two, by how many codes were active last.

    Parameters
    ----------
    sparse : SparseKernel
    dense : Kernel
    """

    takes_rows = False

    def __init__(self, sparse: SparseKernel, dense: Kernel):
        self._sparse, self._dense = sparse, dense
        self._density = 0.0

    @property
    def memory(self) -> tuple[float, ...]:
        """See `Kernel`."""
        return (self._density,)

    @memory.setter
    def memory(self, values: tuple[float, ...]):
        (self._density,) = values or (0.0,)

    def gradients(
        self,
        x: Batch,
        weights: torch.Tensor,
        penalty_weight: float = 0.0,
        dead: torch.Tensor | None = None,
    ) -> BatchResult:
        """Write the gradients of one batch; see `Kernel.gradients`."""
        batch = x, weights, penalty_weight, dead
        if self._density <= LIMITS.active_density:
            result = self._sparse.try_gradients(*batch)
            if result is not None:
                self._density = self._sparse.density
                return result
        result = self._dense.gradients(*batch)
        n_codes = max(1, len(weights) * len(result.fired))
        self._density = float(result.n_active) / n_codes
        return result
