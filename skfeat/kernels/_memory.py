"""Memory that kernels compute in."""

from __future__ import annotations

import numpy as np

# A vector of the processor that lies across two lines of its cache is read in two
# steps; what numpy allocates begins a quarter of a line late.
_CACHE_LINE = 64


def empty(shape, dtype) -> np.ndarray:
    """Return an array like `numpy.empty`, at the start of a cache line."""
    dtype = np.dtype(dtype)
    n_bytes = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(n_bytes + _CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % _CACHE_LINE
    return memory[start : start + n_bytes].view(dtype).reshape(shape)


def zeros(shape, dtype) -> np.ndarray:
    """Return an array like `numpy.zeros`, at the start of a cache line."""
    array = empty(shape, dtype)
    array[...] = 0
    return array


class Buffers:
    """Arrays by name that are used again: fresh memory costs as much as a pass over it.

    An array holds anything, until the next of its name is requested.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, np.ndarray] = {}

    def matrix(self, name: str, n: int, width: int, dtype) -> np.ndarray:
        """Return a matrix (n, width)."""
        return self.vector(name, n * width, dtype).reshape(n, width)

    def vector(self, name: str, n: int, dtype) -> np.ndarray:
        """Return an array of n elements."""
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < n or buffer.dtype != dtype:
            buffer = self._buffers[name] = empty(n, dtype)
        return buffer[:n]
