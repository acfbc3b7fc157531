"""Rows from anywhere in one file that a fit can map."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import numpy as np
from torch.utils.data import DataLoader

from skfeat.rows._arrow import is_arrow_stream
from skfeat.rows._iterate import read
from skfeat.utils._files import NPY_HEADER_BYTES, npy_header, replacing

_SECONDS_BETWEEN_LINES = 10
_ROWS_READ_AT_ONCE = 8192


def store_rows(
    source: Any,
    path: str | os.PathLike[str],
    *,
    dtype: Any = np.float32,
    columns: str | Sequence[str] | None = None,
    overwrite: bool = False,
    verbose: int = 0,
) -> np.ndarray:
    """Write rows from wherever they are to one ``.npy`` file, and map it.

    `SparseAutoencoder.fit` reads such a file in shuffled windows and in flat memory.
    The number of rows need not be known beforehand. The file has its name only once it
    is whole and on the disk: after an error, Ctrl-C or a full disk nothing is left of
    it, and a file that was there before is as it was.

    Parameters
    ----------
    source : array, path, table, dataset or iterable
        As `iter_rows` takes it.
    path : str or path
        The file to write. Its folder must exist.
    dtype : {"float16", "float32", "float64"} or None, default="float32"
        What to store, see `iter_rows`. Training rounds to float32 anyway, unless the
        autoencoder has ``precision="float64"``.
    columns : str or sequence of str, default=None
        The columns of a table that make a row, see `iter_rows`.
    overwrite : bool, default=False
        Take the place of an existing file.
    verbose : int, default=0
        Print a line about every ten seconds (1) or for every batch (2).

    Returns
    -------
    ndarray of shape (n, d)
        The file, mapped and read-only.

    Raises
    ------
    FileExistsError
        If there is such a file and `overwrite` is False, also when another call has
        written it meanwhile.
    OSError
        If the file cannot be written.
    ValueError, TypeError, FileNotFoundError, ImportError
        As `iter_rows` raises them.

    See Also
    --------
    iter_rows : Read the batches without storing them.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from skfeat import SparseAutoencoder
    >>> from skfeat.rows import store_rows
    >>> rng = np.random.default_rng(0)
    >>> batches = (rng.normal(size=(n, 8)) for n in (300, 500, 200))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     X = store_rows(batches, f"{folder}/rows.npy")
    ...     codes = SparseAutoencoder(16, k=4, random_state=0).fit_transform(X)
    >>> X.shape, X.dtype, codes.shape
    ((1000, 8), dtype('float32'), (1000, 16))
    """
    if not os.fsdecode(path):
        raise ValueError("path must name a file. Got '' instead.")
    if not isinstance(overwrite, bool | np.bool_):
        raise ValueError(f"overwrite must be a bool. Got {overwrite!r} instead.")
    target = Path(os.fsdecode(path))
    where = f"path={str(target)!r}"
    if target.is_dir():
        raise IsADirectoryError(f"{where} is a folder; name a file.")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{where} lies in a folder that does not exist.")
    if target.exists() and not overwrite:
        raise FileExistsError(f"{where} exists; set overwrite=True to replace it.")
    if target.exists() and not target.is_file():
        raise ValueError(f"{where} is no regular file.")
    check_verbose(verbose)
    batches = read(source, columns, _ROWS_READ_AT_ONCE, dtype, "source")
    # A link stays, and leads to the file.
    target = Path(os.path.realpath(target))
    temporary = target.with_name(f".{uuid4().hex}.npy.tmp")
    with replacing(target, temporary, exclusive=not overwrite) as file:
        dtype, shape = _write(_reported(batches, verbose), file, where)
        written = os.fstat(file.fileno())
    with target.open("rb") as file:
        # The same path may have been written by another process since.
        if not os.path.samestat(os.fstat(file.fileno()), written):
            raise FileExistsError(f"{where} was replaced by another call meanwhile.")
        return np.memmap(file, dtype, "r", offset=NPY_HEADER_BYTES, shape=shape)


def check_verbose(verbose: Any) -> None:
    """Raise ValueError unless `verbose` is a count or a flag."""
    if not isinstance(verbose, Integral | np.bool_) or verbose < 0:
        raise ValueError(
            f"verbose must be an int of at least 0. Got {verbose!r} instead."
        )


def spooled(X: Any, name: str = "X") -> Any:
    """Write an iterator of batches to a temporary file and map it; return all else.

    The file has no name: it is gone with the last reference to its rows, also when the
    process is killed.
    """
    if not is_stream(X):
        return X
    batches = read(X, None, _ROWS_READ_AT_ONCE, None, name)
    with tempfile.TemporaryFile(suffix=".npy") as file:
        where = f"A temporary file in {tempfile.gettempdir()!r}, for {name},"
        dtype, shape = _write(batches, file, where)
        return np.memmap(file, dtype, "r", offset=NPY_HEADER_BYTES, shape=shape)


def is_stream(X: Any) -> bool:
    """Tell whether X is to be read once from the start, and is no array."""
    return hasattr(X, "__next__") or is_arrow_stream(X) or isinstance(X, DataLoader)


def _write(batches: Iterator[np.ndarray], file: BinaryIO, where: str):
    """Write an .npy file; its header last, as it says how many rows there are."""
    n_rows, width, dtype = 0, 0, np.dtype(np.float32)
    for batch in batches:
        if n_rows == 0:
            width, dtype = batch.shape[1], batch.dtype
            _put(file, npy_header(dtype.str, (0, width)), where)
        _put(file, batch.reshape(-1).view(np.uint8).data, where)
        n_rows += len(batch)
    file.seek(0)
    _put(file, npy_header(dtype.str, (n_rows, width)), where)
    return dtype.str, (n_rows, width)


def _put(file, content, where):
    try:
        file.write(content)
        file.flush()
    except OSError as error:
        raise OSError(
            error.errno, f"{where} cannot be written ({error.strerror})."
        ) from error


def _reported(batches, verbose):
    """Print how far the rows are."""
    start = last = time.monotonic()
    n_rows = n_bytes = 0
    for batch in batches:
        yield batch
        n_rows, n_bytes = n_rows + len(batch), n_bytes + batch.nbytes
        now = time.monotonic()
        if verbose > 1 or (verbose and now - last >= _SECONDS_BETWEEN_LINES):
            last = now
            _print(n_rows, n_bytes, now - start)
    if verbose:
        _print(n_rows, n_bytes, time.monotonic() - start)


def _print(n_rows, n_bytes, seconds):
    size = f"{n_bytes / 2**20:,.0f} MiB"
    print(f"[store_rows] {n_rows:,} rows, {size}, {seconds:.1f} s")
