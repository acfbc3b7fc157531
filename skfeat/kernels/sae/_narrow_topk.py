"""Gradients of a top-k autoencoder whose weights a cache holds, by tiles of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from skfeat.kernels._memory import empty, zeros
from skfeat.kernels._optional import load
from skfeat.kernels._threads import Team
from skfeat.kernels.sae import _narrow
from skfeat.kernels.sae._dense import BatchResult, auxiliary_scale, n_auxiliary
from skfeat.kernels.sae._narrow import Chunks, Rows
from skfeat.kernels.sae._shards import Shards

if TYPE_CHECKING:
    from skfeat.kernels.sae._loops_narrow import Room


class TiledTopK:
    """Computes what `SparseKernel` does, of exact products and one prefix.

    Parameters
    ----------
    arrays, grads : dict of str to ndarray
        Parameters and their gradients, which are written.
    k : int
    team : Team
    shards : Shards
    """

    def __init__(self, arrays: dict, grads: dict, k: int, team: Team, shards: Shards):
        self._chunks = Chunks(arrays, grads)
        self._k = k
        self._team = team
        self._shards = shards
        self._loops: Any = load("sae._loops_narrow")
        self._made: tuple | None = None

    def gradients(
        self, rows: Rows, weights: torch.Tensor, dead: torch.Tensor | None
    ) -> BatchResult:
        """Write the gradients of one batch; see `DenseKernel.gradients`."""
        chunks, n = self._chunks, len(rows.ids)
        decoder = chunks.params[-1]
        (m, d), real = decoder.shape, decoder.dtype
        silent = np.empty(0, dtype=np.int64) if dead is None else dead.numpy()
        size, n_chunks = chunks.divide(n)
        memory = self._memory(n_chunks, m, d, real)
        *_, live_sums, dead_sums = memory
        total, pull = np.empty(n_chunks, real), np.empty((n_chunks, d), real)
        self._team.run(
            self._loops.learn_topk,
            n_chunks,
            *(size, tuple(rows), weights.numpy() * real.type(2 / d), chunks.params),
            *(self._k, silent, n_auxiliary(len(silent), self._k)),
            *(*memory, total, pull),
            n_elements=n * m * (8 + d // 16),
        )
        twice_loss = float(total.sum())
        chunks.join(live_sums)
        if len(silent):
            scale = auxiliary_scale(twice_loss, d, self._shards)
            chunks.join(dead_sums, scale, fresh=False)
        chunks.write_shift(pull)
        n_active = live_sums.n_active.sum(axis=0)
        fired = torch.from_numpy(n_active > 0)
        return BatchResult(twice_loss / 2, fired, int(n_active.sum()), np.inf)

    def _memory(self, n_chunks, m, d, real) -> tuple:
        """Return where all that is computed on the way is to go."""
        if self._made is None or len(self._made[0]) != n_chunks:
            width = self._loops.TILE
            n_lines = -(-_narrow.TILE_ROWS // width)
            self._made = (
                empty((n_chunks, n_lines * width, d), real),
                zeros((n_chunks, n_lines, (m + 1) * width), real),
                *(self._room(n_chunks, d, real) for _ in ("live", "dead")),
                self._chunks.sums(n_chunks),
                self._chunks.sums(n_chunks, apart=True),
            )
        return self._made

    def _room(self, n_chunks, d, real) -> Room:
        n_rows = _narrow.TILE_ROWS

        def numbers(width, dtype=real):
            return empty((n_chunks, width), dtype)

        entries = n_rows * self._k
        return self._loops.Room(
            starts=numbers(n_rows, np.int64),
            counts=numbers(n_rows, np.int64),
            indices=numbers(entries, np.int32),
            codes=numbers(entries),
            slopes=numbers(entries),
            row=numbers(entries, np.int32),
            sorted_codes=numbers(entries),
            sorted_slopes=numbers(entries),
            error=empty((n_chunks, n_rows, 1, d), real),
            square=numbers(n_rows),
            sign=numbers(n_rows),
        )
