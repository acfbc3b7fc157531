"""The public reader of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from skfeat.rows._batches import FLOATS, Batcher
from skfeat.rows._columns import check_columns
from skfeat.rows._sources import blocks_of


def iter_rows(
    source: Any,
    *,
    columns: str | Sequence[str] | None = None,
    batch_size: int = 8192,
    dtype: Any = None,
) -> Iterator[np.ndarray]:
    """Read rows in batches from wherever they are.

    Rows come in the order of the source, and how it is cut into files, row groups or
    batches makes no difference to the batches. Memory holds a few of these at a time.

    Parameters
    ----------
    source : array, path, table, dataset or iterable
        One of

        - an array, a memory map or a torch tensor of shape (n, d); also what can be
          sliced like one (h5py, zarr) and dask arrays, block by block
        - the path of an ``.npy`` file, a Parquet file, an Arrow IPC file or stream, or
          of a folder of Parquet files, which are read in the order of their names
        - a dataframe of pandas or polars, a Table, RecordBatch, RecordBatchReader or
          Dataset of pyarrow, a Dataset or IterableDataset of Hugging Face
        - a torch DataLoader, or any other iterable of batches: arrays, tensors,
          dataframes, Arrow tables, dicts of columns, or tuples that have one of the
          first two as their first entry.
    columns : str or sequence of str, default=None
        The columns of a table that make a row, in this order, side by side: columns of
        numbers, and columns of lists of one length, whose entries are rows already.
        ``None`` takes all that are numeric; a table with columns of both kinds is
        refused then. Booleans are taken only by name.
    batch_size : int, default=8192
        Rows of a batch; the last one has what is left.
    dtype : {"float16", "float32", "float64"} or None, default=None
        What the batches are of. ``None``: float32 where it holds every value of the
        type of the first rows (floats of up to 32 bits, integers of up to 16), else
        float64. Floats are rounded to it; a float beyond its range and an integer
        beyond those that it holds exactly (2**24 for float32) are errors.

    Returns
    -------
    iterator of ndarray of shape (batch_size, d)
        C-contiguous, finite and read-only: where nothing has to be cast, a batch is a
        view of the source. Copy it to keep it beyond its turn or to write to it.

    Raises
    ------
    TypeError
        If `source` is nothing of the above.
    ValueError
        If a parameter is not valid; while reading, if rows are not numeric, not finite,
        not of one width or have nulls, or if there are none.
    FileNotFoundError
        If there is no such file.
    ImportError
        If a file needs pyarrow, which is not installed (extra ``arrow``).

    See Also
    --------
    store_rows : Write them to a file that a fit can map.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat import SparseAutoencoder
    >>> from skfeat.rows import iter_rows
    >>> rng = np.random.default_rng(0)
    >>> batches = (rng.normal(size=(n, 8)) for n in (300, 500, 200))
    >>> autoencoder = SparseAutoencoder(16, k=4, random_state=0)
    >>> for rows in iter_rows(batches, batch_size=256):
    ...     print(rows.shape)
    ...     autoencoder = autoencoder.partial_fit(rows)
    (256, 8)
    (256, 8)
    (256, 8)
    (232, 8)
    """
    return read(source, columns, batch_size, dtype, "source")


def read(source, columns, batch_size, dtype, name) -> Iterator[np.ndarray]:
    """Check the parameters at once, and return the batches as `iter_rows` does."""
    is_int = isinstance(batch_size, Integral) and not isinstance(batch_size, bool)
    if not is_int or int(batch_size) < 1:
        raise ValueError(
            f"batch_size must be an int of at least 1. Got {batch_size!r} instead."
        )
    batcher = Batcher(name, int(batch_size), check_dtype(dtype))
    blocks = blocks_of(source, check_columns(columns), int(batch_size), name)
    return batcher.batches(blocks)


def check_dtype(dtype) -> np.dtype | None:
    """Return the parameter `dtype` as a dtype of numpy."""
    try:
        found = None if dtype is None else np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)
    if found is not None and found not in FLOATS:
        raise ValueError(
            f"dtype must be None, 'float16', 'float32' or 'float64'. Got {dtype!r} "
            f"instead."
        )
    return found
