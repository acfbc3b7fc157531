"""Batches in chunks, each of which sums its gradients on its own, tile by tile.

Where weights are few, most of a step would go into moving pre-activations, errors and
codes of the whole batch through memory, from pass to pass and from core to core. Here
a thread takes a tile of rows from the pre-activations to the sums of the gradients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from skfeat.kernels._memory import empty
from skfeat.kernels._optional import load

if TYPE_CHECKING:
    from skfeat.kernels.sae._loops_narrow import Sums

# Rows of a tile, and into how many chunks a batch is divided at most: no more threads
# find work, and each chunk costs the memory of all gradients. Both are the same on any
# machine, since sums are rounded as they are divided.
TILE_ROWS, MOST_CHUNKS = 256, 4

# Bytes of the gradients of a chunk, of which each tile reads and writes all.
_MOST_BYTES = 2**18


def suits_tiles(decoder) -> bool:
    """Tell whether the gradients of a decoder (m, d) and of its encoder stay cached."""
    return 2 * decoder.nbytes <= _MOST_BYTES


class Rows(NamedTuple):
    """The rows of a batch where they lie: ``(source[ids] - mean) * inverse_scale``.

    Attributes
    ----------
    source : ndarray of shape (n_source, d)
    ids : ndarray of int64, shape (n,)
    mean : ndarray of shape (d,)
    inverse_scale : float
    """

    source: np.ndarray
    ids: np.ndarray
    mean: np.ndarray
    inverse_scale: float

    @classmethod
    def of(cls, rows: np.ndarray) -> Rows:
        """Return all rows of a matrix as they are."""
        return cls(rows, np.arange(len(rows)), np.zeros(rows.shape[1]), 1.0)


class Chunks:
    """The chunks of batches, and what becomes of their gradients.

    Parameters
    ----------
    arrays, grads : dict of str to ndarray
        Parameters and their gradients, which are written.
    """

    def __init__(self, arrays: dict, grads: dict):
        self._arrays = arrays
        self._grads = grads
        self._loops: Any = load("sae._loops_narrow")

    @property
    def params(self) -> tuple[np.ndarray, ...]:
        """The shift, the encoder and its bias, and the decoder."""
        arrays = self._arrays
        encoder = arrays.get("encoder", arrays["decoder"])
        return arrays["bias"], encoder, arrays["encoder_bias"], arrays["decoder"]

    @staticmethod
    def divide(n: int) -> tuple[int, int]:
        """Return how many rows of n a chunk has, and how many chunks there are."""
        size = TILE_ROWS * max(1, -(-n // (TILE_ROWS * MOST_CHUNKS)))
        return size, max(1, -(-n // size))

    def sums(self, n_chunks: int, *, apart: bool = False) -> Sums:
        """Return where the gradients of chunks are to go.

        Those of a single chunk go to the parameters' own, unless they are kept `apart`.
        """
        grads, tied = self._grads, "encoder" not in self._arrays
        places = {"decoder": grads["decoder"], "bias": grads["encoder_bias"]}
        if not tied:
            places["encoder"] = grads["encoder"]
        if n_chunks == 1 and not apart:
            room = {name: grad[None] for name, grad in places.items()}
        else:
            room = {
                name: empty((n_chunks, *grad.shape), grad.dtype)
                for name, grad in places.items()
            }
        n_active = np.empty((n_chunks, len(grads["decoder"])), np.int64)
        encoder = room["decoder" if tied else "encoder"]
        return self._loops.Sums(room["decoder"], encoder, room["bias"], n_active)

    def join(self, sums: Sums, scale: float = 1.0, *, fresh: bool = True) -> None:
        """Write the gradients of all chunks, or add them to what is there."""
        grads, decoder = self._grads, self._grads["decoder"]
        if np.may_share_memory(sums.decoder, decoder):
            return
        self._loops.join_chunks(
            *(sums, decoder.dtype.type(scale), "encoder" not in grads, fresh),
            *(decoder, grads.get("encoder", decoder), grads["encoder_bias"]),
        )

    def write_shift(self, pull: np.ndarray) -> None:
        """Write the gradient of the shift, of each chunk's sum of errors."""
        _, encoder, *_ = self.params
        pulled_back = self._grads["encoder_bias"] @ encoder
        self._grads["bias"][:] = pull.sum(axis=0) - pulled_back
