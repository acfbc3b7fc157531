"""Gradients of a top-k autoencoder whose weights a cache holds, by tiles of rows.

Where weights are few, most of a step would go into moving pre-activations, errors and
codes of the whole batch through memory, from pass to pass and from core to core. Here
a thread takes a tile of rows from the pre-activations to the sums of the gradients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from skfeat.kernels._loops import load
from skfeat.kernels._sae import BatchResult, auxiliary_scale, n_auxiliary
from skfeat.kernels._shards import Shards
from skfeat.kernels._threads import Team

if TYPE_CHECKING:
    from skfeat.kernels._compiled_tiled import Room, Sums

# Rows of a tile, and into how many chunks a batch is divided at most: no more threads
# find work, and each chunk costs the memory of all gradients. Both are the same on any
# machine, since sums are rounded as they are divided.
_TILE, _MOST_CHUNKS = 256, 4

# Bytes of the gradients of a chunk, of which each tile reads and writes all.
_MOST_BYTES = 2**18


def suits_tiles(decoder: torch.Tensor) -> bool:
    """Tell whether the gradients of a decoder (m, d) and of its encoder stay cached."""
    return 2 * decoder.nbytes <= _MOST_BYTES


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
        self._arrays = arrays
        self._grads = grads
        self._k = k
        self._team = team
        self._shards = shards
        self._loops: Any = load("_compiled_tiled")
        self._made: tuple | None = None

    def gradients(
        self, x: torch.Tensor, weights: torch.Tensor, dead: torch.Tensor | None
    ) -> BatchResult:
        """Write the gradients of one batch; see `DenseKernel.gradients`."""
        arrays, grads, (n, d) = self._arrays, self._grads, x.shape
        decoder, bias = arrays["decoder"], arrays["encoder_bias"]
        encoder = arrays.get("encoder", decoder)
        m, real = len(decoder), decoder.dtype.type
        silent = np.empty(0, dtype=np.int64) if dead is None else dead.numpy()
        chunk = _TILE * -(-n // (_TILE * _MOST_CHUNKS))
        n_chunks = -(-n // chunk)
        memory = self._memory(n_chunks, m, d)
        *_, live_sums, dead_sums = memory
        total, pull = np.empty(n_chunks, real), np.empty((n_chunks, d), real)
        self._team.run(
            self._loops.learn_topk,
            n_chunks,
            *(chunk, x.numpy(), (2 / d * weights).numpy()),
            (arrays["bias"], encoder, bias, decoder),
            *(self._k, silent, n_auxiliary(len(silent), self._k)),
            *(*memory, total, pull),
            n_elements=n * m * (8 + d // 16),
        )
        twice_loss = float(total.sum())
        outs = grads["decoder"], grads.get("encoder", grads["decoder"])
        shared = *outs, grads["encoder_bias"]
        join, tied = self._loops.join_chunks, "encoder" not in grads
        join(live_sums, real(1), tied, True, *shared)
        if len(silent):
            scale = auxiliary_scale(twice_loss, d, self._shards)
            join(dead_sums, real(scale), tied, False, *shared)
        grads["bias"][:] = pull.sum(axis=0) - grads["encoder_bias"] @ encoder
        n_active = live_sums.n_active.sum(axis=0)
        fired = torch.from_numpy(n_active > 0)
        return BatchResult(twice_loss / 2, fired, int(n_active.sum()), np.inf)

    def _memory(self, n_chunks, m, d) -> tuple:
        """Return where all that is computed on the way is to go."""
        if self._made is None or len(self._made[0]) != n_chunks:
            real, width = self._arrays["decoder"].dtype, self._loops.TILE
            n_lines = -(-_TILE // width)
            self._made = (
                np.empty((n_chunks, n_lines * width, d), real),
                np.zeros((n_chunks, n_lines, (m + 1) * width), real),
                *(self._room(n_chunks, d) for _ in ("live", "dead")),
                *(self._sums(n_chunks, m, d) for _ in ("live", "dead")),
            )
        return self._made

    def _room(self, n_chunks, d) -> Room:
        real = self._arrays["decoder"].dtype

        def numbers(width, dtype=real):
            return np.empty((n_chunks, width), dtype)

        entries = _TILE * self._k
        return self._loops.Room(
            starts=numbers(_TILE, np.int64),
            counts=numbers(_TILE, np.int64),
            indices=numbers(entries, np.int32),
            codes=numbers(entries),
            slopes=numbers(entries),
            row=numbers(entries, np.int32),
            sorted_codes=numbers(entries),
            sorted_slopes=numbers(entries),
            error=np.empty((n_chunks, _TILE, 1, d), real),
            square=numbers(_TILE),
            sign=numbers(_TILE),
        )

    def _sums(self, n_chunks, m, d) -> Sums:
        real = self._arrays["decoder"].dtype
        decoder = np.empty((n_chunks, m, d), real)
        tied = "encoder" not in self._arrays
        return self._loops.Sums(
            decoder,
            decoder if tied else np.empty_like(decoder),
            bias=np.empty((n_chunks, m), real),
            n_active=np.empty((n_chunks, m), np.int64),
        )
