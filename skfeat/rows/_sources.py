"""Where rows come from: each kind of source as blocks of rows, in order."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from skfeat.rows._arrow import (
    ArrowRows,
    has_arrow,
    import_pyarrow,
    is_from,
    is_table,
    tables_of,
    tables_of_ipc,
    tables_of_parquet,
)
from skfeat.rows._batches import as_block
from skfeat.rows._columns import is_frame, rows_of_table, widened
from skfeat.utils._rows import mapped_file, release

# How files begin. A stream of Arrow tables has no magic, but starts with a message.
_NPY, _PARQUET, _ARROW = b"\x93NUMPY", b"PAR1", b"ARROW1"
_ARROW_STREAM = b"\xff\xff\xff\xff"


def blocks_of(
    source: Any, columns: list[str] | None, batch_size: int, name: str
) -> Iterator[np.ndarray]:
    """Return the rows of a source in blocks of any length and numeric dtype."""
    if isinstance(source, str | os.PathLike):
        return _of_path(Path(os.fsdecode(source)), columns, batch_size, name)
    if is_from(source, "datasets", "DatasetDict", "IterableDatasetDict"):
        raise TypeError(f"{name} must be one split. Got those of {[*source]} instead.")
    if has_arrow(source):
        rows = ArrowRows(columns, name)
        return rows.blocks(tables_of(source, rows, batch_size), batch_size)
    if is_frame(source):
        return _of_frame(source, columns, batch_size, name)
    if isinstance(source, Mapping):
        return _of_batches([source], columns, batch_size, name)
    if sparse.issparse(source):
        raise TypeError(f"{name} must be dense. Got {source!r} instead.")
    if all(hasattr(source, part) for part in ("shape", "dtype", "__getitem__")):
        _refuse_columns(columns, name)
        return _of_array(source, batch_size, name)
    if isinstance(source, Iterable):
        return _of_batches(source, columns, batch_size, name)
    raise TypeError(
        f"{name} must be an array, a path, a table, a dataset or an iterable of "
        f"batches. Got {source!r} instead."
    )


def _refuse_columns(columns, name):
    if columns is not None:
        raise ValueError(
            f"columns must be None where {name} holds arrays, whose columns have no "
            f"names. Got {columns!r} instead."
        )


def _of_array(source, batch_size, name):
    """Slice whatever can be sliced as an array, a file in memory or elsewhere."""
    if len(source.shape) != 2:
        raise ValueError(
            f"{name} has shape {tuple(source.shape)}; rows are two-dimensional, "
            f"(n_rows, n_features)."
        )
    if hasattr(source, "dask") and hasattr(source, "blocks"):
        # A slice of a block would compute all of it.
        n_blocks = source.numblocks[0]
        return (as_block(source.blocks[i], name) for i in range(n_blocks))
    return _slices(source, batch_size, name)


def _slices(source, batch_size, name):
    mapping = mapped_file(source) if isinstance(source, np.ndarray) else None
    for start in range(0, source.shape[0], batch_size):
        yield as_block(widened(source[start : start + batch_size]), name)
        release(mapping)


def _of_frame(source, columns, batch_size, name):
    rows = source.iloc if hasattr(source, "iloc") else source
    for start in range(0, len(source), batch_size):
        yield rows_of_table(rows[start : start + batch_size], columns, name)


def _of_batches(source, columns, batch_size, name):
    """Read batches of any kind that `columns` goes with."""
    tables = ArrowRows(columns, name)
    for number, batch in enumerate(source):
        where = f"batch {number} of {name}"
        if isinstance(batch, tuple | list) and batch and _is_rows(batch[0]):
            batch = batch[0]
        if is_table(batch):
            yield from tables.blocks([batch], batch_size)
        elif is_frame(batch) or isinstance(batch, Mapping):
            yield rows_of_table(batch, columns, where)
        else:
            _refuse_columns(columns, name)
            yield as_block(widened(batch), where)


def _is_rows(thing) -> bool:
    return len(getattr(thing, "shape", ())) == 2


def _of_path(path, columns, batch_size, name):
    where = f"{name}={str(path)!r}"
    if not path.exists():
        raise FileNotFoundError(f"{where} does not exist.")
    if path.is_dir():
        paths = sorted(p for p in path.rglob("*.parquet") if p.is_file())
        if not paths:
            raise ValueError(f"{where} is a folder without Parquet files (*.parquet).")
        return _of_parquet(paths, columns, batch_size, name)
    with path.open("rb") as file:
        start = file.read(len(_NPY))
    if start == _NPY:
        _refuse_columns(columns, name)
        return _of_npy(path, batch_size, where)
    if start.startswith(_PARQUET):
        return _of_parquet([path], columns, batch_size, name)
    if start.startswith((_ARROW, _ARROW_STREAM)):
        import_pyarrow()
        rows = ArrowRows(columns, name)
        stream = not start.startswith(_ARROW)
        return rows.blocks(tables_of_ipc(path, rows, stream=stream), batch_size)
    raise ValueError(
        f"{where} is of no known format: .npy, Parquet and Arrow (file or stream) are "
        f"allowed, and folders of Parquet files."
    )


def _of_parquet(paths, columns, batch_size, name):
    import_pyarrow()
    rows = ArrowRows(columns, name)
    return rows.blocks(tables_of_parquet(paths, rows, batch_size), batch_size)


def _of_npy(path, batch_size, where):
    try:
        X = np.load(path, mmap_mode="r")
    except (ValueError, OSError) as error:
        raise ValueError(f"{where} cannot be read: {error}") from None
    if X.ndim != 2 or not X.flags.c_contiguous or X.dtype.kind not in "biuf":
        return _of_array(X, batch_size, where)
    return _read_npy(path, X.shape, X.dtype, X.offset, batch_size)


def _read_npy(path, shape, dtype, offset, batch_size):
    """Read what could be mapped, too: that is faster than to fault page by page."""
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        for start in range(0, shape[0], batch_size):
            n_rows = min(batch_size, shape[0] - start)
            yield np.fromfile(file, dtype, n_rows * shape[1]).reshape(-1, shape[1])
