"""Gradients of a ReLU autoencoder while its codes are still dense, on the CPU.

The same five matrix products as in `DenseKernel`, with everything between them in
compiled passes. Where a cache holds the weights, a thread takes tiles of rows through
all five. Else it takes its rows through the first three products, then its features
through the last two, so that threads meet twice a batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from skfeat.kernels._memory import Workspace, empty
from skfeat.kernels._optional import load
from skfeat.kernels._threads import TILE, Team
from skfeat.kernels.sae import _narrow
from skfeat.kernels.sae._dense import BatchResult
from skfeat.kernels.sae._narrow import Chunks, suits_tiles

# Features that a thread takes at a time: few, so that there are some for each thread.
_FEATURES = TILE // 4


class DenseReLUKernel:
    """Gradients of `loss_reference` for "relu".

    Parameters
    ----------
    arrays, grads : dict of str to ndarray
        Parameters, and where their gradients are written.
    team : Team
    space : Workspace
    """

    def __init__(
        self,
        arrays: dict[str, np.ndarray],
        grads: dict[str, np.ndarray],
        team: Team,
        space: Workspace,
    ):
        self._arrays, self._grads = arrays, grads
        self._team, self._space = team, space
        self._loops: Any = load("sae._loops_sparse")
        self._chunks: Chunks | None = None
        self._made: tuple | None = None
        if suits_tiles(arrays["decoder"]):
            self._chunks = Chunks(arrays, grads)
        self._tiled_loops: Any = load("sae._loops_narrow")

    def gradients(
        self, x: torch.Tensor, weights: torch.Tensor, penalty_weight: float
    ) -> BatchResult:
        """Write the gradients of one batch; see `DenseKernel.gradients`."""
        rows, d = x.numpy(), x.shape[1]
        factor = (2 / d * weights).numpy()
        weight = weights.numpy() * rows.dtype.type(penalty_weight)
        if self._chunks is not None:
            return self._by_chunks(self._chunks, rows, factor, weight)
        return self._by_features(rows, factor, weight)

    def _by_chunks(self, chunks: Chunks, rows, factor, weight) -> BatchResult:
        (n, d), m, real = rows.shape, len(chunks.params[-1]), rows.dtype.type
        size, n_chunks = chunks.divide(n)
        if self._made is None or len(self._made[0].bias) != n_chunks:
            tile = _narrow.TILE_ROWS
            shapes = ((tile, d),) * 2 + ((tile, m),) * 2 + ((3, tile), (m, d))
            room = tuple(empty((n_chunks, *shape), real) for shape in shapes)
            self._made = chunks.sums(n_chunks), room
        sums, room = self._made
        total, n_codes = np.empty(n_chunks, real), np.empty(n_chunks, np.int64)
        pull = np.empty((n_chunks, d), real)
        self._team.run(
            self._tiled_loops.learn_relu,
            n_chunks,
            *(size, rows, factor, weight, chunks.params, room, sums),
            *(total, n_codes, pull),
            n_elements=n * m * (4 + d // 8),
        )
        chunks.join(sums)
        chunks.write_shift(pull)
        fired = torch.from_numpy(sums.n_active.any(axis=0))
        return BatchResult(float(total.sum()), fired, int(n_codes.sum()), np.inf)

    def _by_features(self, rows, factor, weight) -> BatchResult:
        arrays, grads, loops = self._arrays, self._grads, self._loops
        decoder, bias = arrays["decoder"], arrays["encoder_bias"]
        encoder = arrays.get("encoder", decoder)
        (n, d), m, real = rows.shape, len(decoder), rows.dtype.type
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
