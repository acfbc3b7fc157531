"""Gradients of a top-k autoencoder whose weights a cache holds, by tiles of rows.

Where weights are few, most of a step would go into moving pre-activations, errors and
codes of the whole batch through memory, from pass to pass and from core to core. Here
a thread takes a tile of rows from the pre-activations to the sums of the gradients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from skfeat.kernels._entries import n_groups
from skfeat.kernels._loops import load
from skfeat.kernels._sae import BatchResult, auxiliary_scale, n_auxiliary
from skfeat.kernels._shards import Shards
from skfeat.kernels._threads import Team, Workspace

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
        self._space = Workspace()
        self._made: dict[str, tuple] = {}

    def gradients(
        self, x: torch.Tensor, weights: torch.Tensor, dead: torch.Tensor | None
    ) -> BatchResult:
        """Write the gradients of one batch; see `DenseKernel.gradients`."""
        arrays, grads, (n, d) = self._arrays, self._grads, x.shape
        decoder, bias = arrays["decoder"], arrays["encoder_bias"]
        encoder = arrays.get("encoder", decoder)
        m, real = len(decoder), decoder.dtype.type
        silent = np.empty(0, dtype=np.int64) if dead is None else dead.numpy()
        dead_k, n_dead = n_auxiliary(len(silent), self._k), len(silent)
        chunk = _TILE * -(-n // (_TILE * _MOST_CHUNKS))
        n_chunks = -(-n // chunk)
        factor = (2 / d * weights).numpy()
        live_room, live_sums = self._memory("live", n_chunks, m, d, self._k)
        dead_room, dead_sums = self._memory("dead", n_chunks, n_dead, d, dead_k)
        centred = self._space.room("centred", n_chunks * _TILE, d, real)
        total, pull = np.empty(n_chunks, real), np.empty((n_chunks, d), real)
        self._team.run(
            self._loops.learn_topk,
            n_chunks,
            *(chunk, x.numpy(), factor, (arrays["bias"], encoder, bias, decoder)),
            *((self._k, n_groups(m, self._k)), silent, (bias[silent], decoder[silent])),
            (dead_k, n_groups(n_dead, dead_k)),
            *(centred.reshape(n_chunks, _TILE, d), live_room, dead_room),
            *(live_sums, dead_sums, total, pull),
            n_elements=n * m * (8 + d // 16),
        )
        twice_loss = float(total.sum())
        outs = grads["decoder"], grads.get("encoder", grads["decoder"])
        shared = "encoder" not in grads, *outs, grads["encoder_bias"]
        for grad in (*outs, grads["encoder_bias"]):
            grad[:] = 0
        self._loops.join_chunks(live_sums, real(1), np.arange(m), *shared)
        if n_dead:
            scale = auxiliary_scale(twice_loss, d, self._shards)
            self._loops.join_chunks(dead_sums, real(scale), silent, *shared)
        grads["bias"][:] = pull.sum(axis=0) - grads["encoder_bias"] @ encoder
        n_active = live_sums.n_active.sum(axis=0)
        fired = torch.from_numpy(n_active > 0)
        return BatchResult(twice_loss / 2, fired, int(n_active.sum()), np.inf)

    def _memory(self, name, n_chunks, m, d, k) -> tuple[Room, Sums]:
        """Return where the codes and the gradients of chunks are to go."""
        shape, last = (n_chunks, m, k), self._made.get(name)
        if last is None or last[0] != shape:
            room = self._room(name, n_chunks, m, d, k)
            last = shape, room, self._sums(name, n_chunks, m, d)
            self._made[name] = last
        return last[1:]

    def _room(self, name, n_chunks, m, d, k) -> Room:
        real = self._arrays["decoder"].dtype

        def numbers(kind, width, dtype=real):
            return self._space.room(f"{name} {kind}", n_chunks, width, dtype)

        entries = _TILE * k
        return self._loops.Room(
            numbers("starts", _TILE, np.int64),
            numbers("counts", _TILE, np.int64),
            numbers("indices", entries, np.int32),
            numbers("codes", entries),
            numbers("slopes", entries),
            numbers("row", entries, np.int32),
            numbers("sorted codes", entries),
            numbers("sorted slopes", entries),
            numbers("error", _TILE * d).reshape(n_chunks, _TILE, 1, d),
            numbers("square", _TILE),
            numbers("sign", _TILE),
            numbers("pre", _TILE * m).reshape(n_chunks, _TILE, m),
        )

    def _sums(self, name, n_chunks, m, d) -> Sums:
        real, space = self._arrays["decoder"].dtype, self._space

        def gradient(kind):
            room = space.room(f"{name} {kind} gradient", n_chunks * m, d, real)
            return room.reshape(n_chunks, m, d)

        decoder = gradient("decoder")
        tied = "encoder" not in self._arrays
        return self._loops.Sums(
            decoder,
            decoder if tied else gradient("encoder"),
            space.room(f"{name} bias gradient", n_chunks, m, real),
            space.room(f"{name} n_active", n_chunks, m, np.int64),
        )
