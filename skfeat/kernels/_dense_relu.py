"""Gradients of a ReLU autoencoder while its codes are still dense, on the CPU.

The same five matrix products as in `DenseKernel`, with everything between them in
compiled passes. Each thread takes its rows through the first three products, then its
features through the last two, so threads meet twice a batch.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
import torch

from skfeat.kernels._sae import BatchResult
from skfeat.kernels._threads import TILE, Team, Workspace

# Features that a thread takes at a time: few, so that there are some for each thread.
_FEATURES = TILE // 4


class DenseReLUKernel:
    """Gradients of `loss_reference` for "relu".

    Parameters
    ----------
    arrays, grads : dict of str to ndarray
        Parameters, and where their gradients are written.
    loops : module
        The compiled loops.
    team : Team
    space : Workspace
    """

    def __init__(
        self,
        arrays: dict[str, np.ndarray],
        grads: dict[str, np.ndarray],
        loops: ModuleType,
        team: Team,
        space: Workspace,
    ):
        self._arrays, self._grads, self._loops = arrays, grads, loops
        self._team, self._space = team, space

    def gradients(
        self, x: torch.Tensor, weights: torch.Tensor, penalty_weight: float
    ) -> BatchResult:
        """Write the gradients of one batch; see `DenseKernel.gradients`."""
        arrays, grads, loops = self._arrays, self._grads, self._loops
        decoder, bias = arrays["decoder"], arrays["encoder_bias"]
        encoder = arrays.get("encoder", decoder)
        rows, (n, d), m = x.numpy(), x.shape, len(decoder)
        real = rows.dtype.type
        factor = (2 / d * weights).numpy()
        weight = weights.numpy() * real(penalty_weight)
        room = self._space.room
        centred, codes = room("centred", n, d, real), room("pre", n, m, real)
        error, slopes = room("error", n, d, real), room("slopes", n, m, real)
        square, total, count = np.empty((3, n), dtype=real)

        fired, ones = np.empty(m, dtype=bool), np.ones(n, dtype=real)
        grad_encoder = grads.get("encoder", np.empty_like(decoder))

        def pass_features(first, last):
            for start in range(first, last, _FEATURES):
                part = slice(start, min(last, start + _FEATURES))
                np.matmul(codes[:, part].T, error, out=grads["decoder"][part])
                np.matmul(slopes[:, part].T, centred, out=grad_encoder[part])
                np.matmul(ones, slopes[:, part], out=grads["encoder_bias"][part])
                fired[part] = ones @ codes[:, part] > 0

        work = n * m * (4 + d // 8)
        self._team.run(
            loops.code_relu,
            n,
            *(TILE, rows, arrays["bias"], encoder, bias, decoder, factor, weight),
            *(centred, codes, error, slopes, square, total, count),
            n_elements=work,
            multiple=TILE,
        )
        self._team.run(pass_features, m, n_elements=work, multiple=_FEATURES)
        if "encoder" not in grads:
            grads["decoder"] += grad_encoder
        grads["bias"][:] = ones @ error - grads["encoder_bias"] @ encoder
        loss = float(square @ factor) / 2 + float(weight @ total)
        return BatchResult(loss, torch.from_numpy(fired), int(count.sum()), np.inf)
