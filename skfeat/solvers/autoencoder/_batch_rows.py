"""The rows of a batch, centred and scaled, as the kernel takes them."""

from __future__ import annotations

import numpy as np
import torch

from skfeat.kernels._memory import Buffers
from skfeat.kernels._threads import Team
from skfeat.kernels.sae._arrays import Rows
from skfeat.solvers.autoencoder._standardizer import Standardizer


class BatchRows:
    """Reads the rows of batches.

    Parameters
    ----------
    dtype, device
        Of the parameters.
    team : Team, optional
        Threads of the compiled loop; None: it does not run.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device, team: Team | None):
        self._dtype, self._device = dtype, device
        self._own = torch.empty(0, dtype=dtype, device="cpu").numpy().dtype
        self._team, self._buffers = team, Buffers()

    def in_place(
        self, source: np.ndarray, ids: np.ndarray, standardizer: Standardizer
    ) -> Rows | None:
        """Return rows where they lie, for a kernel that gathers them itself.

        Such a kernel is compiled for rows of its own dtype alone; None for others.
        """
        plain = source.flags.c_contiguous and source.flags.writeable
        if not plain or source.dtype != self._own:
            return None
        ids = np.ascontiguousarray(ids)
        return Rows(source, ids, standardizer.mean, 1 / standardizer.scale)

    def gather(
        self, source: np.ndarray, ids: np.ndarray, standardizer: Standardizer
    ) -> torch.Tensor:
        """Gather, centre and scale rows; the next call overwrites them."""
        simple = source.dtype in (np.float32, np.float64) and source.flags.c_contiguous
        if self._team is None or not simple:
            x = torch.from_numpy(standardizer.apply(source[ids]))
            # Loops are compiled for rows that lie one after the other.
            return x.to(self._device, self._dtype).contiguous()
        from skfeat.kernels.sae._loops_sparse import gather

        n, d = len(ids), source.shape[1]
        rows = self._buffers.matrix("rows", n, d, self._own)
        mean, inverse_scale = standardizer.mean, 1 / standardizer.scale
        self._team.run(
            lambda first, last: gather(
                first, last, source, ids, mean, inverse_scale, rows
            ),
            n,
            n_elements=rows.size,
        )
        return torch.from_numpy(rows)
