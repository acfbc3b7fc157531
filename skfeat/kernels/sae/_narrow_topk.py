"""Gradients of a top-k autoencoder whose weights a cache holds, by tiles of rows.

Where weights are few, most of a step would go into moving pre-activations, errors and
codes of the whole batch through memory, from pass to pass and from core to core. Here
a thread takes a tile of rows from the pre-activations to the sums of the gradients. A
batch is divided into chunks, each of which sums its gradients on its own.
"""

from __future__ import annotations

import numpy as np
import torch

from skfeat.kernels._limits import LIMITS
from skfeat.kernels._memory import empty, zeros
from skfeat.kernels._threads import Team
from skfeat.kernels.sae import _loops_narrow as loops
from skfeat.kernels.sae._arrays import Gradients, Rows
from skfeat.kernels.sae._kernel import Batch, Pairs, auxiliary_scale, n_auxiliary
from skfeat.kernels.sae._parameters import Parameters
from skfeat.kernels.sae._result import BatchResult
from skfeat.kernels.sae._shards import Shards


class NarrowTopKKernel:
    """The `Kernel` of narrow top-k autoencoders with one prefix.

    Parameters
    ----------
    parameters : Parameters
    k : int
    team : Team
    shards : Shards
        Other processes have rows of the batch; this one holds all features.
    """

    takes_rows = True

    def __init__(self, parameters: Parameters, k: int, team: Team, shards: Shards):
        self._parameters, self._k, self._team = parameters, k, team
        self._shards = shards
        self.memory: tuple[float, ...] = ()
        self._buffers: loops.NarrowBuffers | None = None
        self._sums: tuple[Gradients, Gradients] | None = None

    def gradients(
        self,
        x: Batch,
        weights: torch.Tensor,
        penalty_weight: float = 0.0,
        dead: torch.Tensor | None = None,
    ) -> BatchResult:
        """Write the gradients of one batch; see `Kernel.gradients`."""
        assert not isinstance(x, Pairs)
        parameters, k = self._parameters, self._k
        parameters.attach_gradients()
        rows = x if isinstance(x, Rows) else Rows.of(x.numpy())
        n, real = len(rows.ids), parameters.dtype
        m, d = parameters.weights.decoder.shape
        if n == 0:  # a process may have received no row of a small batch
            for gradient in parameters.gradients.values():
                gradient[...] = 0
            fired = torch.zeros(m, dtype=torch.bool, device="cpu")
            return BatchResult(0.0, fired, 0, np.inf)
        features = np.empty(0, dtype=np.int64) if dead is None else dead.numpy()
        revived = loops.Dead(features, n_auxiliary(len(features), k))
        chunk, n_chunks = self._divide(n)
        batch = loops.NarrowBatch(chunk, rows, weights.numpy() * real.type(2 / d))
        buffers, (live, lost) = self._memory_of(n_chunks)
        square, residual = np.empty(n_chunks, real), np.empty((n_chunks, d), real)
        sums = loops.NarrowSums(live, lost, square, residual)
        own = parameters.weights
        self._team.run(
            lambda first, last: loops.sum_topk_gradients(
                first, last, batch, own, k, revived, buffers, sums
            ),
            n_chunks,
            n_elements=n * m * (8 + d // 16),
        )
        twice_loss = float(square.sum())
        self._join(live)
        if len(features):
            scale = auxiliary_scale(twice_loss, d, self._shards)
            self._join(lost, scale, fresh=False)
        parameters.write_bias_gradient(residual.sum(axis=0))
        n_active = live.n_active.sum(axis=0)
        fired = torch.from_numpy(n_active > 0)
        return BatchResult(twice_loss / 2, fired, int(n_active.sum()), np.inf)

    @staticmethod
    def _divide(n: int) -> tuple[int, int]:
        """Return how many rows of n a chunk has, and how many chunks there are."""
        tile, most = LIMITS.narrow_tile_rows, LIMITS.narrow_chunks
        size = tile * max(1, -(-n // (tile * most)))
        return size, max(1, -(-n // size))

    def _join(self, sums: Gradients, scale: float = 1.0, *, fresh: bool = True) -> None:
        """Write the gradients of all chunks, or add them to those there."""
        out = self._parameters.sums(sums.n_active[0])
        if not np.may_share_memory(sums.decoder, out.decoder):
            real = self._parameters.dtype.type(scale)
            loops.join_chunks(sums, real, self._parameters.tied, fresh, out)

    def _memory_of(self, n_chunks: int):
        """Return the buffers and the sums of so many chunks."""
        if self._buffers is None or len(self._buffers.centred) != n_chunks:
            m, d = self._parameters.weights.decoder.shape
            real = self._parameters.dtype
            n_groups = -(-LIMITS.narrow_tile_rows // loops.TILE)
            self._buffers = loops.NarrowBuffers(
                centred=empty((n_chunks, n_groups * loops.TILE, d), real),
                pre=zeros((n_chunks, n_groups, (m + 1) * loops.TILE), real),
                live=self._code_buffers(n_chunks, d, real),
                dead=self._code_buffers(n_chunks, d, real),
            )
            # The live gradients of a single chunk are the parameters' own.
            live = self._make_sums(n_chunks, apart=n_chunks > 1)
            self._sums = live, self._make_sums(n_chunks, apart=True)
        assert self._sums is not None
        return self._buffers, self._sums

    def _make_sums(self, n_chunks: int, *, apart: bool) -> Gradients:
        """Return where the gradients of chunks go."""
        m = self._parameters.n_components
        n_active = np.empty((n_chunks, m), np.int64)
        own = self._parameters.sums(n_active[0])

        def place(array):
            if not apart:
                return array[None]
            return empty((n_chunks, *array.shape), array.dtype)

        decoder = place(own.decoder)
        encoder = decoder if self._parameters.tied else place(own.encoder)
        return Gradients(decoder, encoder, place(own.encoder_bias), n_active)

    def _code_buffers(self, n_chunks: int, d: int, real) -> loops.CodeBuffers:
        n_rows = LIMITS.narrow_tile_rows
        n_codes = n_rows * self._k

        def numbers(width, dtype=real):
            return empty((n_chunks, width), dtype)

        return loops.CodeBuffers(
            start=numbers(n_rows, np.int64),
            counts=numbers(n_rows, np.int64),
            indices=numbers(n_codes, np.int32),
            row=numbers(n_codes, np.int32),
            values=numbers(n_codes),
            grad_codes=numbers(n_codes),
            sorted_values=numbers(n_codes),
            sorted_grads=numbers(n_codes),
            weighted_residual=empty((n_chunks, n_rows, 1, d), real),
            square=numbers(n_rows),
            sign=numbers(n_rows),
        )
