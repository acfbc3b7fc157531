"""The orders in which a module may hold the rows of sequences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch.nn.utils.rnn import PackedSequence

from skfeat.capture._streams import Stream

# The number of each position's row, -1 where there is none; None: rows in order.
Index = np.ndarray | None


@dataclass(frozen=True, eq=False)
class Order:
    """One way to read the rows of a module.

    Parameters
    ----------
    stream : Stream
    kind : str
        Name of the order.
    shape, index
        As :func:`layouts_of` returns them.
    """

    stream: Stream
    kind: str
    shape: tuple[int, ...]
    index: Index

    def same_rows(self, other: Order) -> bool:
        """Whether both name the same token, sequence and position for every row."""
        return (
            self.shape == other.shape
            and self.ids is other.ids
            and self.stream.mask is other.stream.mask
            and np.array_equal(self._numbers(), other._numbers())
        )

    @property
    def ids(self) -> np.ndarray | None:
        """The tokens at the places of the rows, None if they have none."""
        return self.stream.ids if self.shape == self.stream.shape else None

    def _numbers(self) -> np.ndarray:
        in_order = np.arange(np.prod(self.shape, dtype=int)).reshape(self.shape)
        return in_order if self.index is None else self.index


def layouts_of(
    stream: Stream, shape: tuple[int, ...], packed: PackedSequence | None
) -> dict[str, tuple[tuple[int, ...], Index]]:
    """Return each order in which rows of this shape may be those of a stream.

    Parameters
    ----------
    stream : Stream
    shape : tuple of int
        Shape of the rows, without the last axis of the tensor.
    packed : PackedSequence or None
        What the rows are packed in.

    Returns
    -------
    dict of str to (tuple of int, ndarray of int or None)
        By the name of the order: the shape (n_sequences, length) or (n_sequences,) of
        the rows as the stream counts them, and the number of the row at each place of
        it, -1 where there is none. None means 0, 1, 2 and so on.
    """
    n, n_rows = stream.n_sequences, int(np.prod(shape))
    if packed is not None:
        index = _index_of_packed(stream, packed)
        return {} if index is None else {"packed": (stream.shape, index)}
    found: dict[str, tuple[tuple[int, ...], Index]] = {}
    mask = stream.mask
    if mask is not None and mask.shape != stream.shape:
        mask = None
    if len(stream.shape) == 2:
        if shape == stream.shape:
            found["batch first"] = (stream.shape, None)
        if shape == stream.shape[::-1]:
            found["time first"] = (stream.shape, _transposed(stream.shape))
        if shape == (n_rows,) and n_rows == stream.shape[0] * stream.shape[1]:
            found["listed"] = (stream.shape, None)
            found["listed time first"] = (stream.shape, _transposed(stream.shape))
        elif shape == (n_rows,) and mask is not None and mask.sum() == n_rows:
            found["unpadded"] = (stream.shape, _listed(mask))
            found["unpadded time first"] = (stream.shape, _listed(mask.T).T)
    if stream.is_text:
        return found
    if shape == (n,) and "listed" not in found:
        found["one row each"] = ((n,), None)
    if stream.ids is None and not found and n_rows:
        # What sees images or sound may have positions of its own.
        if len(shape) == 2 and shape[0] == n:
            found["sequences first"] = (shape, None)
        if len(shape) == 2 and shape[1] == n:
            found["sequences last"] = (shape[::-1], _transposed(shape[::-1]))
        if len(shape) == 1 and n_rows % n == 0:
            places = (n, n_rows // n)
            found["listed by sequence"] = (places, None)
            found["listed by position"] = (places, _transposed(places))
    return found


def _listed(mask: np.ndarray) -> np.ndarray:
    """Return the number of each true entry, -1 at the others."""
    return np.where(mask, mask.ravel().cumsum().reshape(mask.shape) - 1, -1)


def _transposed(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(shape[0] * shape[1]).reshape(shape[::-1]).T


def _index_of_packed(stream: Stream, packed: PackedSequence) -> Index:
    """Return the numbers of the rows of a PackedSequence, None if it does not fit."""
    sizes = packed.batch_sizes.cpu().numpy()
    shape = stream.shape
    if len(shape) != 2 or sizes[0] != shape[0] or len(sizes) > shape[1]:
        return None
    index = np.full(shape, -1)
    start = np.cumsum(sizes) - sizes
    for position, size in enumerate(sizes):
        index[:size, position] = start[position] + np.arange(size)
    if packed.unsorted_indices is not None:
        index = index[packed.unsorted_indices.cpu().numpy()]
    return index
