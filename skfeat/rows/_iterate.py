"""Reading rows in batches: `iter_rows`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from skfeat.rows._batches import FLOATS, Batcher
from skfeat.rows._columns import check_columns
from skfeat.rows._sources import blocks_of
from skfeat.utils._checks import check_int


def iter_rows(
    source: Any,
    *,
    columns: str | Sequence[str] | None = None,
    batch_size: int = 8192,
    dtype: Any = None,
) -> Iterator[np.ndarray]:
    """Read rows in batches from arrays, files, tables, datasets and iterators.

    Rows keep the order of the source. The batches do not depend on how the source is
    divided into files, row groups or batches. Memory holds a few batches at a time.

    Parameters
    ----------
    source : array, path, table, dataset or iterable
        One of

        - an array, a memory map or a torch tensor of shape (n, d), or by context, of
          shape (contexts, positions, d); also objects that can be sliced like one
          (h5py, zarr) and dask arrays, block by block
        - the path of an ``.npy`` file, a Parquet file, an Arrow IPC file or stream, or
          of a folder of Parquet files, which are read in the order of their names
        - a data frame of pandas or polars, a Table, RecordBatch, RecordBatchReader or
          Dataset of pyarrow, a Dataset or IterableDataset of Hugging Face
        - a torch DataLoader, or any other iterable of batches: arrays, tensors, data
          frames, Arrow tables, dicts of columns, or tuples whose first item is an array
          or a tensor.

        Contexts become rows in order, position by position; they may differ in length,
        as an iterable of arrays (positions, d), an object array of these, a nested
        tensor or a column of lists of lists. Every position counts: leave out padding
        and special tokens before, by their mask.
    columns : str or sequence of str, default=None
        The columns of a table that make a row, joined in this order: columns of
        numbers, and columns of lists of one length; or else columns of contexts: lists
        of such lists, ``Array2D`` of Hugging Face. ``None`` takes all numeric columns,
        and raises an error for a table with columns of several kinds. Columns of
        booleans must be named.
    batch_size : int, default=8192
        Number of rows in a batch; the last batch has the remaining rows.
    dtype : {"float16", "float32", "float64"} or None, default=None
        The dtype of the batches. ``None``: float32 if it represents every value of the
        dtype of the first rows (floats of up to 32 bits, integers of up to 16), else
        float64. Floats are rounded. A float beyond the range of the dtype is an error,
        as is an integer beyond those that it represents exactly (2**24 for float32).

    Returns
    -------
    iterator of ndarray of shape (batch_size, d)
        C-contiguous, finite and read-only. Without a cast, a batch is a view of the
        source: copy it to write to it, or to keep it after the next one is read.

    Raises
    ------
    TypeError
        If `source` is none of the above.
    ValueError
        If a parameter is not valid; while reading, if rows are not numeric, not finite,
        not of one width or have nulls, or if there are no rows.
    FileNotFoundError
        If the file does not exist.
    ImportError
        If a file needs pyarrow, which is not installed (extra ``arrow``).

    See Also
    --------
    store_rows : Write the rows to a file that a fit can map.

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


def read(
    source: Any,
    columns: str | Sequence[str] | None,
    batch_size: int,
    dtype: Any,
    name: str,
) -> Iterator[np.ndarray]:
    """Check the parameters, then return the batches as `iter_rows` does.

    `name` is the name of the parameter that holds the source, for messages.
    """
    batch_size = check_int("batch_size", batch_size, 1)
    batcher = Batcher(name, batch_size, _check_dtype(dtype))
    blocks = blocks_of(source, check_columns(columns), batch_size, name)
    return batcher.batches(blocks)


def _check_dtype(dtype: Any) -> np.dtype | None:
    if dtype is None:
        return None
    try:
        checked = np.dtype(dtype)
    except TypeError:
        checked = np.dtype(object)
    if checked not in FLOATS:
        raise ValueError(
            f"dtype must be None, 'float16', 'float32' or 'float64'. Got {dtype!r} "
            "instead."
        )
    return checked
