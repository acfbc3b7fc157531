"""Blocks of rows of any length and dtype, made into checked batches of one kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

FLOATS = tuple(np.dtype(name) for name in ("float16", "float32", "float64"))


def float_for(dtype: np.dtype) -> np.dtype:
    """Return float32 if it represents every value of `dtype` exactly, else float64."""
    exact = np.can_cast(dtype, np.float32)
    return np.dtype(np.float32 if exact else np.float64)


class Contexts(NamedTuple):
    """The rows of contexts one after the other, and how many each context has."""

    rows: np.ndarray
    lengths: np.ndarray


def joined_contexts(values: Any) -> Contexts | None:
    """Join tables of one width, of any lengths; None if they are something else."""
    try:
        parts = [_as_table(value) for value in values]
    except (TypeError, ValueError):
        return None
    lengths = np.array([len(part) for part in parts])
    # A list without positions does not say how wide they would be.
    filled = [part for part in parts if len(part)] or parts[:1]
    if not filled or {part.ndim for part in filled} != {2}:
        return None
    if len({part.shape[1] for part in filled}) > 1:
        return None
    return Contexts(np.concatenate(filled), lengths)


def _as_table(value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype != object or not len(array):
        return array
    return np.stack([np.asarray(row) for row in array])


def as_block(batch: Any, where: str) -> np.ndarray:
    """Return a batch as a 2-D array of numbers, without a copy if it is one.

    Contexts, of one length or of several, become rows one after the other.

    Raises
    ------
    ValueError
        If the batch is not a table of numbers; the message begins with `where`.
    """
    if sparse.issparse(batch):
        raise ValueError(f"{where} is sparse; rows must be dense.")
    if np.ma.is_masked(batch):
        raise ValueError(f"{where} has masked values; rows must be complete.")
    try:
        block = np.asarray(batch)
    except (TypeError, ValueError) as error:
        contexts = joined_contexts(batch)
        if contexts is None:
            raise ValueError(f"{where} is no array of numbers: {error}") from None
        block = contexts.rows
    if block.ndim not in (2, 3) or block.shape[-1] == 0:
        raise ValueError(
            f"{where} has shape {block.shape}; rows are two-dimensional, (n_rows, "
            "n_features) with at least one feature, or by context, (n_contexts, "
            "n_positions, n_features)."
        )
    block = block.reshape(-1, block.shape[-1])
    if block.dtype.kind not in "biuf":
        raise ValueError(
            f"{where} is of dtype {block.dtype}; integers, booleans and floats are "
            "allowed."
        )
    return block


class Batcher:
    """Cuts blocks of rows into batches, and checks and casts their values.

    Parameters
    ----------
    name : str
        Name of the parameter that holds the rows, for messages.
    batch_size : int
    dtype : np.dtype or None
        The dtype of the batches; None takes `float_for` of the first block.
    """

    def __init__(self, name: str, batch_size: int, dtype: np.dtype | None):
        self.name = name
        self.batch_size = batch_size
        self.dtype = dtype or np.dtype(np.float32)
        self.dtype_is_given = dtype is not None
        self.n_rows = 0
        self.width = 0

    def batches(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield read-only, C-contiguous batches of one width and one dtype."""
        parts: list[np.ndarray] = []
        n_missing = self.batch_size  # rows that complete the batch
        for block in blocks:
            if len(block) > 0:
                self._check_like_first(block)
            start = 0
            while start < len(block):
                part = self._convert(block[start : start + n_missing])
                start, n_missing = start + len(part), n_missing - len(part)
                parts.append(part)
                if n_missing == 0:
                    yield _joined(parts)
                    parts, n_missing = [], self.batch_size
            if parts and np.may_share_memory(parts[-1], block):
                # A generator may reuse its array for the next block.
                parts[-1] = parts[-1].copy()
        if parts:
            yield _joined(parts)
        if self.n_rows == 0:
            raise ValueError(
                f"{self.name} holds no rows; at least one is needed. (An iterator that "
                "has been used before is empty.)"
            )

    def _check_like_first(self, block: np.ndarray) -> None:
        if self.n_rows == 0:
            self.width = block.shape[1]
            self.dtype = self.dtype if self.dtype_is_given else float_for(block.dtype)
        elif block.shape[1] != self.width:
            raise ValueError(
                f"{self.name} has rows of {block.shape[1]} features from row "
                f"{self.n_rows} on, and of {self.width} before; all must be of one "
                "width."
            )
        elif (
            not self.dtype_is_given
            and float_for(block.dtype).itemsize > self.dtype.itemsize
        ):
            raise ValueError(
                f"{self.name} is of {block.dtype} from row {self.n_rows} on, which the "
                f"{self.dtype} of the rows before cannot represent; set "
                "dtype='float64', or dtype='float32' to round."
            )

    def _convert(self, part: np.ndarray) -> np.ndarray:
        """Cast rows; raise ValueError for a value that the dtype cannot represent."""
        first, self.n_rows = self.n_rows, self.n_rows + len(part)
        limit = 2 ** (np.finfo(self.dtype).nmant + 1)
        if part.dtype.kind in "iu" and np.iinfo(part.dtype).max > limit:
            # Not abs(), which overflows for the smallest integer.
            beyond = (part > limit) | (part < -limit)
            self._check_none(beyond, part, first, f"{limit} integers exactly")
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(part, dtype=self.dtype)
        finite = np.isfinite(rows)
        if not finite.all():
            largest = f"{float(np.finfo(self.dtype).max):.4g} floats"
            self._check_none(~finite, part, first, largest)
        return rows

    def _check_none(
        self, is_wrong: np.ndarray, part: np.ndarray, first: int, range_: str
    ) -> None:
        """Raise ValueError with the first wrong value of a part, if there is one."""
        if not is_wrong.any():
            return
        row, feature = (int(i) for i in np.argwhere(is_wrong)[0])
        value = part[row, feature]
        where = f"{self.name} has {value} in row {first + row}, feature {feature}"
        if not np.isfinite(value):
            raise ValueError(f"{where}; all values must be finite.")
        raise ValueError(
            f"{where}, but {self.dtype} holds up to ±{range_}; set a wider dtype (the "
            "widest is 'float64') or rescale."
        )


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    batch = parts[0] if len(parts) == 1 else np.concatenate(parts)
    batch = batch.view()
    batch.setflags(write=False)
    return batch
