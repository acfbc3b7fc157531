"""Memory that kernels compute in."""

from __future__ import annotations

import numpy as np

# A vector of the processor that lies across two lines of its cache is read in two
# steps; what numpy allocates begins a quarter of a line late.
_LINE = 64


def empty(shape, dtype) -> np.ndarray:
    """Return an array like `numpy.empty`, at the start of a cache line."""
    dtype = np.dtype(dtype)
    n_bytes = int(np.prod(shape)) * dtype.itemsize
    room = np.empty(n_bytes + _LINE, np.uint8)
    start = -room.ctypes.data % _LINE
    return room[start : start + n_bytes].view(dtype).reshape(shape)


def zeros(shape, dtype) -> np.ndarray:
    """Return an array like `numpy.zeros`, at the start of a cache line."""
    array = empty(shape, dtype)
    array[...] = 0
    return array


class Workspace:
    """Arrays that are used again: fresh memory costs as much as a pass over it.

    An array holds anything, until the next of its name is asked for.
    """

    def __init__(self):
        self._rooms: dict[str, np.ndarray] = {}

    def room(self, name: str, n: int, width: int, dtype) -> np.ndarray:
        """Return a matrix (n, width)."""
        return self.line(name, n * width, dtype).reshape(n, width)

    def line(self, name: str, n: int, dtype) -> np.ndarray:
        """Return an array of n elements."""
        room = self._rooms.get(name)
        if room is None or len(room) < n or room.dtype != dtype:
            room = self._rooms[name] = empty(n, dtype)
        return room[:n]
