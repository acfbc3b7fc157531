"""Reading rows in blocks and in shuffled batches, from memory or from a mapped file."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.utils import assert_all_finite

from skfeat.utils._torch import n_batches, shuffled_batches

# A mapped file is read in runs of rows of about this size, and so many runs are
# shuffled together: large enough for a disk, small next to memory.
_RUN_BYTES = 2**20
_RUNS = 32

# Start of the names of the folders in which joblib keeps large arrays for its workers.
_JOBLIB_FOLDER = "joblib_memmapping_folder_"


class Batch(NamedTuple):
    """The rows of one batch: ``source[local]``, which are rows `ids` of the whole.

    Where rows are mixed, `shares` tells how much of each is left; the rest is of
    ``source[partners]``.
    """

    ids: np.ndarray
    source: Any
    local: np.ndarray
    partners: np.ndarray | None = None
    shares: np.ndarray | None = None

    def take(self, mask: np.ndarray) -> Batch:
        """Return the batch of some of the rows, by a mask or by their places."""
        some = Batch(self.ids[mask], self.source, self.local[mask])
        if self.partners is None or self.shares is None:
            return some
        return some._replace(partners=self.partners[mask], shares=self.shares[mask])

    def mixed(self, share: float, generator: np.random.Generator) -> Batch:
        """Return the batch with this share of its rows, the first, mixed with others.

        Half of each or more is left. Batches are in random order, so that the first
        rows are any.
        """
        n = len(self.ids)
        shares = np.ones(n)
        n_mixed = round(share * n)
        shares[:n_mixed] = generator.uniform(0.5, 1.0, n_mixed)
        partners = self.local[generator.permutation(n)]
        return self._replace(partners=partners, shares=shares)

    def rows(
        self, function: Callable[[np.ndarray], np.ndarray] = np.asarray
    ) -> np.ndarray:
        """Return what a function makes of the rows, mixed if they are to be."""
        own = function(self.source[self.local])
        if self.partners is None or self.shares is None:
            return own
        mixed = self.shares < 1
        shares = self.shares[mixed].astype(own.dtype)[:, None]
        others = function(self.source[self.partners[mixed]])
        rows = own.copy()  # the function may return what is not to be written to
        rows[mixed] = shares * own[mixed] + (1 - shares) * others
        return rows


class ComputedRows:
    """Rows that are computed from those of a mapped file whenever they are read.

    The functions of this module take them as they take the mapped rows themselves.

    Parameters
    ----------
    source : ndarray of shape (n, d_in)
        Mapped rows.
    compute : callable
        Maps some rows of the source to as many rows of `width` numbers.
    width : int
    dtype : np.dtype
        Of what is computed.
    key : str
        Digest of the function: with equal keys and sources, rows are equal.
    row_bytes : int
        Bytes that one row takes while it is computed.
    moments : Moments, optional
        Those of all rows, where they are known.
    """

    ndim = 2

    def __init__(
        self,
        source: np.ndarray,
        compute: Callable[[np.ndarray], np.ndarray],
        width: int,
        dtype: np.dtype,
        *,
        key: str,
        row_bytes: int,
        moments: Any = None,
    ):
        self.source, self.compute, self.key = source, compute, key
        self.shape, self.dtype = (len(source), width), np.dtype(dtype)
        self.row_bytes, self.moments = row_bytes, moments

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        rows = self.compute(self.source[index])
        release(mapped_file(self.source))
        return rows

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        rows = np.empty(self.shape, self.dtype if dtype is None else dtype)
        for block, part in row_blocks(self):
            rows[block] = part
        return rows

    def with_source(self, source: Any) -> ComputedRows:
        """Return the same rows of a source that stands elsewhere."""
        other = object.__new__(ComputedRows)
        other.__dict__.update(self.__dict__, source=source)
        return other


def mapped_file(X: np.ndarray | ComputedRows) -> mmap.mmap | None:
    """Return the file mapping that X is a view of, if its pages may be dropped."""
    base: object = X.source if isinstance(X, ComputedRows) else X
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            # Copy-on-write pages hold what the user has written, and nothing else does.
            private = getattr(base, "mode", "c") == "c"
            # Rows that joblib brings to a worker are in memory where they come from,
            # and are shuffled as they are there: no fit depends on who computes it.
            private |= _JOBLIB_FOLDER in str(getattr(base, "filename", ""))
            return None if private else getattr(base, "_mmap", None)
        base = base.base
    return None


def is_plain_table(X) -> bool:
    """Tell whether X is a mapped table of numbers that is used without a copy."""
    on_disk = isinstance(X, np.ndarray) and mapped_file(X) is not None
    return on_disk and X.ndim == 2 and X.dtype.kind in "fiu" and X.itemsize <= 8


def assert_finite_rows(X: np.ndarray, estimator, name: str = "X") -> None:
    """Raise scikit-learn's ValueError for NaN and infinity, reading block by block."""
    kind = type(estimator).__name__
    for _, rows in row_blocks(X):
        assert_all_finite(rows, estimator_name=kind, input_name=name)


def release(mapping: mmap.mmap | None) -> None:
    """Take a file's pages out of this process; they are read again when needed."""
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def row_bytes(X: np.ndarray | ComputedRows) -> int:
    """Return the bytes that one row takes, while it is read, at least one."""
    own = X.row_bytes if isinstance(X, ComputedRows) else X[:1].nbytes
    return max(1, own)


def rows_at(X: np.ndarray | ComputedRows, ids: np.ndarray) -> np.ndarray:
    """Copy some rows; a mapped file keeps no more of them in memory than it must."""
    mapping = mapped_file(X)
    if mapping is None:
        return X[ids]
    parts = []
    for part in np.array_split(ids, -(-len(ids) // 256)):
        parts.append(X[part])
        release(mapping)
    return np.concatenate(parts)


def block_reader(X: np.ndarray | ComputedRows) -> Callable[[slice], np.ndarray]:
    """Return the function that reads a slice of rows.

    Of a mapped file it releases what was read before.
    """
    mapping = mapped_file(X)

    def read(block: slice) -> np.ndarray:
        release(mapping)
        return X[block]

    return read


def row_blocks(
    X: np.ndarray | ComputedRows, max_rows: int | None = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the rows of X in order, some megabytes at a time, with their places."""
    mapping = mapped_file(X)
    size = max(1, 4 * _RUN_BYTES // row_bytes(X))
    size = min(size, max_rows or size)
    for start in range(0, len(X), size):
        block = slice(start, start + size)
        yield block, X[block]
        release(mapping)


def batches_of_rows(
    X: np.ndarray | ComputedRows,
    batch_size: int,
    generator: torch.Generator,
    rows: np.ndarray | None = None,
    first: int = 0,
) -> Iterator[Batch]:
    """Yield each row once, in batches like those of `shuffled_batches`.

    Rows of a mapped file are shuffled within windows of many runs of rows, taken from
    all over the file. All that shuffles is drawn from `generator` before the first
    batch comes: what else is drawn from it in the meantime changes no batch.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    batch_size : int
    generator : torch.Generator
    rows : ndarray of int, optional
        The rows that take part; None: all.
    first : int, default=0
        Batches to leave out, for an epoch that goes on; their rows are not read.
    """
    n_rows = len(X) if rows is None else len(rows)
    if mapped_file(X) is None:
        yield from batches_of_held(X, batch_size, generator, rows, first)
        return
    n = n_batches(n_rows, batch_size)
    sizes = [n_rows // n + (i < n_rows % n) for i in range(n)]
    windows = _windows(X, generator, rows, sum(sizes[:first]))
    yield from _batches_of_windows(windows, sizes[first:])


def batches_of_held(
    X: np.ndarray | ComputedRows,
    batch_size: int,
    generator: torch.Generator,
    rows: np.ndarray | None = None,
    first: int = 0,
) -> Iterator[Batch]:
    """Yield each row once, in shuffled batches; parameters as of `batches_of_rows`.

    Rows of a mapped file are shuffled as those in memory.
    """
    n_rows = len(X) if rows is None else len(rows)
    for part in islice(shuffled_batches(n_rows, batch_size, generator), first, None):
        ids = part if rows is None else rows[part]
        yield Batch(ids, X, ids)


def mixed_batches(
    batches: Iterable[Batch],
    share: float,
    generator: torch.Generator,
    first: int = 0,
) -> Iterator[Batch]:
    """Yield batches with a share of the rows of each mixed with others.

    How they are mixed depends on one number that is drawn from the generator before the
    first batch comes, and on the number of the batch; those before `first` are left out
    of `batches`. For a share of zero nothing is drawn.
    """
    if share == 0:
        yield from batches
        return
    seed = int(torch.randint(2**62, (1,), generator=generator, device="cpu"))
    for number, batch in enumerate(batches, first):
        yield batch.mixed(share, np.random.default_rng([seed, number]))


def _permutation(n: int, generator: torch.Generator) -> np.ndarray:
    return torch.randperm(n, generator=generator, device="cpu").numpy()


def _windows(X, generator, rows, n_left_out):
    """Yield shuffled rows of a mapped file and their numbers, a window at a time."""
    mapping = mapped_file(X)
    size = max(1, _RUN_BYTES // row_bytes(X))
    wanted = None
    if rows is not None:
        wanted = np.zeros(len(X), dtype=bool)
        wanted[rows] = True
    runs = _permutation(-(-len(X) // size), generator)
    own = generator
    if len(runs) > _RUNS:
        # What is drawn between windows would change those that come later.
        seed = int(torch.randint(2**62, (1,), generator=generator, device="cpu"))
        own = torch.Generator().manual_seed(seed)
    for first in range(0, len(runs), _RUNS):
        starts = np.sort(runs[first : first + _RUNS]) * size
        ids = np.concatenate([np.arange(s, min(s + size, len(X))) for s in starts])
        order = _permutation(len(ids), own)
        if wanted is not None:
            order = order[wanted[ids[order]]]
        n_left_out, order = max(0, n_left_out - len(order)), order[n_left_out:]
        if len(order) > 0:
            window = np.concatenate([X[s : s + size] for s in starts])
            release(mapping)
            yield ids, window, order


def _batches_of_windows(windows, sizes):
    """Cut windows of any length into batches of the given sizes."""
    if not sizes:
        return
    ids, source, order = next(windows)
    for size in sizes:
        while len(order) < size:
            more_ids, more_rows, more_order = next(windows)
            left = source[order]
            ids = np.concatenate([ids[order], more_ids])
            source = np.concatenate([left, more_rows])
            order = np.concatenate([np.arange(len(left)), more_order + len(left)])
        local, order = order[:size], order[size:]
        yield Batch(ids[local], source, local)
