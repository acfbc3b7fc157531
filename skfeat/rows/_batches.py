"""Blocks of rows of any length and type, made into checked batches of one kind."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse

FLOATS = tuple(np.dtype(name) for name in ("float16", "float32", "float64"))


def float_for(dtype: np.dtype) -> np.dtype:
    """Return float32 if it holds every value of the type, else float64."""
    exact = np.can_cast(dtype, np.float32)
    return np.dtype(np.float32 if exact else np.float64)


def as_block(batch, where: str) -> np.ndarray:
    """Return a batch as an array of numbers in two dimensions, uncopied if it is one.

    Raises
    ------
    ValueError
        If it is none.
    """
    if sparse.issparse(batch):
        raise ValueError(f"{where} is sparse; rows must be dense.")
    if np.ma.is_masked(batch):
        raise ValueError(f"{where} has masked entries; rows must be complete.")
    try:
        block = np.asarray(batch)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} is no array of numbers: {error}") from None
    if block.ndim != 2 or block.shape[1] == 0:
        raise ValueError(
            f"{where} has shape {block.shape}; rows are two-dimensional, (n_rows, "
            f"n_features) with at least one feature."
        )
    if block.dtype.kind not in "biuf":
        raise ValueError(
            f"{where} is of dtype {block.dtype}; integers, booleans and floats are "
            f"allowed."
        )
    return block


class Batcher:
    """Cuts blocks of rows into batches, and checks and casts what is in them.

    Parameters
    ----------
    name : str
        The parameter that the rows came in, for messages.
    batch_size : int
    dtype : np.dtype or None
        What the batches are of; None: `float_for` the first block.
    """

    def __init__(self, name: str, batch_size: int, dtype: np.dtype | None):
        self.name = name
        self.batch_size = batch_size
        self.dtype = dtype or np.dtype(np.float32)
        self.asked = dtype is not None
        self.n_rows = 0
        self.width = 0

    def batches(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield read-only, C-contiguous batches of one width and one type."""
        parts: list[np.ndarray] = []
        room = self.batch_size
        for block in blocks:
            if len(block) > 0:
                self._check_like_others(block)
            start = 0
            while start < len(block):
                part = self._convert(block[start : start + room])
                start, room = start + len(part), room - len(part)
                parts.append(part)
                if room == 0:
                    yield _joined(parts)
                    parts, room = [], self.batch_size
            if parts and np.may_share_memory(parts[-1], block):
                # A generator may fill the same array again.
                parts[-1] = parts[-1].copy()
        if parts:
            yield _joined(parts)
        if self.n_rows == 0:
            raise ValueError(
                f"{self.name} holds no rows; at least one is needed. (An iterator that "
                f"has been used before is empty.)"
            )

    def _check_like_others(self, block):
        if self.n_rows == 0:
            self.width = block.shape[1]
            self.dtype = self.dtype if self.asked else float_for(block.dtype)
        elif block.shape[1] != self.width:
            raise ValueError(
                f"{self.name} has rows of {block.shape[1]} features from row "
                f"{self.n_rows} on, and of {self.width} before; all must be of one "
                f"width."
            )
        elif not self.asked and float_for(block.dtype).itemsize > self.dtype.itemsize:
            raise ValueError(
                f"{self.name} is of {block.dtype} from row {self.n_rows} on, which "
                f"{self.dtype} before it does not hold; set dtype='float64', or "
                f"dtype='float32' to round."
            )

    def _convert(self, part):
        """Cast rows and see that all they hold came through."""
        first, self.n_rows = self.n_rows, self.n_rows + len(part)
        limit = 2 ** (np.finfo(self.dtype).nmant + 1)
        if part.dtype.kind in "iu" and np.iinfo(part.dtype).max > limit:
            # Not abs(): the smallest integer has none.
            beyond = (part > limit) | (part < -limit)
            self._refuse(part, beyond, first, f"{limit} integers exactly")
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(part, dtype=self.dtype)
        finite = np.isfinite(rows)
        if not finite.all():
            largest = f"{float(np.finfo(self.dtype).max):.4g} floats"
            self._refuse(part, ~finite, first, largest)
        return rows

    def _refuse(self, part, wrong, first, held):
        """Name the first wrong value, if there is one."""
        if not wrong.any():
            return
        row, feature = (int(i) for i in np.argwhere(wrong)[0])
        value = part[row, feature]
        where = f"{self.name} has {value} in row {first + row}, feature {feature}"
        if not np.isfinite(value):
            raise ValueError(f"{where}; all values must be finite.")
        raise ValueError(
            f"{where}, but {self.dtype} holds up to ±{held}; set a wider dtype (the "
            f"widest is 'float64') or rescale."
        )


def _joined(parts):
    batch = parts[0] if len(parts) == 1 else np.concatenate(parts)
    batch = batch.view()
    batch.setflags(write=False)
    return batch
