"""Writing the rows of any source to one file that a fit can map: `store_rows`."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from torch.utils.data import DataLoader

from skfeat.rows._arrow import is_arrow_stream
from skfeat.rows._iterate import read
from skfeat.utils._checks import check_flag, check_path, check_verbose
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
    """Write the rows of any source to one ``.npy`` file, and map it.

    `SparseAutoencoder.fit` reads such a file in shuffled windows, in constant memory.
    The number of rows need not be known beforehand. The file gets its name only when it
    is complete and on disk: an error, Ctrl-C or a full disk leaves no partial file, and
    an existing file unchanged.

    Parameters
    ----------
    source : array, path, table, dataset or iterable
        As `iter_rows` takes it.
    path : str or path
        The file to write. Its folder must exist.
    dtype : {"float16", "float32", "float64"} or None, default="float32"
        The dtype of the file, see `iter_rows`. Training rounds to float32 in any case,
        unless the autoencoder has ``precision="float64"``.
    columns : str or sequence of str, default=None
        The columns of a table that make a row, see `iter_rows`.
    overwrite : bool, default=False
        Whether to replace an existing file.
    verbose : int, default=0
        Print a line about every ten seconds (1) or after each batch (2).

    Returns
    -------
    ndarray of shape (n, d)
        The file, mapped and read-only.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False, or if another call writes the same
        file meanwhile.
    OSError
        If the file cannot be written.
    ValueError, TypeError, FileNotFoundError, ImportError
        As in `iter_rows`.

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
    target = check_path("path", path)
    if not os.fsdecode(path):
        raise ValueError("path must name a file. Got '' instead.")
    check_flag("overwrite", overwrite)
    where = f"path={str(target)!r}"
    if target.is_dir():
        raise IsADirectoryError(f"{where} is a folder; name a file.")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{where} lies in a folder that does not exist.")
    if target.exists() and not overwrite:
        raise FileExistsError(f"{where} exists; set overwrite=True to replace it.")
    if target.exists() and not target.is_file():
        raise ValueError(f"{where} is not a regular file.")
    verbose = check_verbose(verbose)
    batches = read(source, columns, _ROWS_READ_AT_ONCE, dtype, "source")
    # A symbolic link is kept, and its file is replaced.
    target = Path(os.path.realpath(target))
    with replacing(target, exclusive=not overwrite) as file:
        dtype, shape = _write(_reported(batches, verbose), file, where)
        written = os.fstat(file.fileno())
    with target.open("rb") as file:
        # Another process may have written to the same path since.
        if not os.path.samestat(os.fstat(file.fileno()), written):
            raise FileExistsError(f"{where} was replaced by another call meanwhile.")
        return np.memmap(file, dtype, "r", offset=NPY_HEADER_BYTES, shape=shape)


def spooled(X: Any, name: str = "X") -> Any:
    """Write a stream of batches to a temporary file and map it; return all else as is.

    The file has no name: it disappears with the last reference to its rows, also when
    the process is killed.
    """
    if not is_stream(X):
        return X
    batches = read(X, None, _ROWS_READ_AT_ONCE, None, name)
    with tempfile.TemporaryFile(suffix=".npy") as file:
        where = f"A temporary file in {tempfile.gettempdir()!r}, for {name},"
        dtype, shape = _write(batches, file, where)
        return np.memmap(file, dtype, "r", offset=NPY_HEADER_BYTES, shape=shape)


def is_stream(X: Any) -> bool:
    """Tell whether X yields batches that can be read only once, from the start."""
    return hasattr(X, "__next__") or is_arrow_stream(X) or isinstance(X, DataLoader)


def _write(
    batches: Iterator[np.ndarray], file: BinaryIO, where: str
) -> tuple[str, tuple[int, int]]:
    """Write an .npy file and return its dtype and shape.

    The header is written last, as it holds the number of rows.
    """
    n_rows, width, dtype = 0, 0, np.dtype(np.float32)
    for batch in batches:
        if n_rows == 0:
            width, dtype = batch.shape[1], batch.dtype
            _write_bytes(file, npy_header(dtype.str, (0, width)), where)
        _write_bytes(file, batch.reshape(-1).view(np.uint8).data, where)
        n_rows += len(batch)
    file.seek(0)
    _write_bytes(file, npy_header(dtype.str, (n_rows, width)), where)
    return dtype.str, (n_rows, width)


def _write_bytes(file: BinaryIO, content: bytes | memoryview, where: str) -> None:
    try:
        file.write(content)
        file.flush()
    except OSError as error:
        raise OSError(
            error.errno, f"{where} cannot be written ({error.strerror})."
        ) from error


def _reported(batches: Iterator[np.ndarray], verbose: int) -> Iterator[np.ndarray]:
    """Yield the batches, and print the progress."""
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


def _print(n_rows: int, n_bytes: int, seconds: float) -> None:
    size = f"{n_bytes / 2**20:,.0f} MiB"
    print(f"[store_rows] {n_rows:,} rows, {size}, {seconds:.1f} s")
