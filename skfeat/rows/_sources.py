"""Sources of rows, each kind read as blocks of rows, in order."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse

from skfeat.rows._arrow import (
    ArrowReader,
    has_arrow,
    import_pyarrow,
    is_instance_of,
    is_table,
    tables_of,
    tables_of_ipc,
    tables_of_parquet,
)
from skfeat.rows._batches import as_block
from skfeat.rows._columns import is_frame, rows_of_table, widened
from skfeat.utils._rows import mapped_file, release

# First bytes of files. A stream of Arrow tables has no magic, but a message marker.
_NPY, _PARQUET, _ARROW = b"\x93NUMPY", b"PAR1", b"ARROW1"
_ARROW_STREAM = b"\xff\xff\xff\xff"


def blocks_of(
    source: Any, columns: list[str] | None, batch_size: int, name: str
) -> Iterator[np.ndarray]:
    """Return the rows of a source in blocks of any length and numeric dtype."""
    if isinstance(source, str | os.PathLike):
        return _of_path(Path(os.fsdecode(source)), columns, batch_size, name)
    if is_instance_of(source, "datasets", "DatasetDict", "IterableDatasetDict"):
        raise TypeError(
            f"{name} must be one split of a dataset. Got the splits {[*source]} "
            "instead."
        )
    if has_arrow(source):
        reader = ArrowReader(columns, name)
        return reader.blocks(tables_of(source, reader, batch_size), batch_size)
    if is_frame(source):
        return _of_frame(source, columns, batch_size, name)
    if isinstance(source, Mapping):
        return _of_batches([source], columns, batch_size, name)
    if sparse.issparse(source):
        raise TypeError(f"{name} must be dense. Got {source!r} instead.")
    if isinstance(source, torch.Tensor) and source.is_nested:
        source = source.unbind()
    if all(hasattr(source, part) for part in ("shape", "dtype", "__getitem__")):
        _check_no_columns(columns, name)
        return _of_array(source, batch_size, name)
    if isinstance(source, Iterable):
        return _of_batches(source, columns, batch_size, name)
    raise TypeError(
        f"{name} must be an array, a path, a table, a dataset or an iterable of "
        f"batches. Got {source!r} instead."
    )


def _check_no_columns(columns: list[str] | None, name: str) -> None:
    if columns is not None:
        raise ValueError(
            f"columns must be None where {name} holds arrays, whose columns have no "
            f"names. Got {columns!r} instead."
        )


def _of_array(source: Any, batch_size: int, name: str) -> Iterator[np.ndarray]:
    """Read an array, or an object that can be sliced like one."""
    if len(source.shape) == 1 and source.dtype == object:
        return _of_batches(source, None, batch_size, name)
    if len(source.shape) not in (2, 3):
        raise ValueError(
            f"{name} has shape {tuple(source.shape)}; rows are two-dimensional, "
            "(n_rows, n_features), or by context, (n_contexts, n_positions, "
            "n_features)."
        )
    if len(source.shape) == 3:
        batch_size = max(1, batch_size // max(1, source.shape[1]))
    if hasattr(source, "dask") and hasattr(source, "blocks"):
        # A slice would compute all blocks that it touches, some of them repeatedly.
        n_blocks = source.numblocks[0]
        return (as_block(source.blocks[i], name) for i in range(n_blocks))
    return _slices(source, batch_size, name)


def _slices(source: Any, batch_size: int, name: str) -> Iterator[np.ndarray]:
    mapping = mapped_file(source) if isinstance(source, np.ndarray) else None
    for start in range(0, source.shape[0], batch_size):
        yield as_block(widened(source[start : start + batch_size]), name)
        release(mapping)


def _of_frame(
    source: Any, columns: list[str] | None, batch_size: int, name: str
) -> Iterator[np.ndarray]:
    rows = source.iloc if hasattr(source, "iloc") else source
    for start in range(0, len(source), batch_size):
        yield rows_of_table(rows[start : start + batch_size], columns, name)


def _of_batches(
    source: Iterable[Any], columns: list[str] | None, batch_size: int, name: str
) -> Iterator[np.ndarray]:
    """Read batches, each of which may be an array or a table."""
    reader = ArrowReader(columns, name)
    for number, batch in enumerate(source):
        where = f"batch {number} of {name}"
        if isinstance(batch, tuple | list) and batch and _is_rows(batch[0]):
            _check_no_contexts(batch, where)
            batch = batch[0]
        if is_table(batch):
            yield from reader.blocks([batch], batch_size)
        elif is_frame(batch) or isinstance(batch, Mapping):
            yield rows_of_table(batch, columns, where)
        else:
            _check_no_columns(columns, name)
            yield as_block(widened(batch), where)


def _is_rows(value: Any) -> bool:
    return len(getattr(value, "shape", ())) in (2, 3)


def _check_no_contexts(batch: tuple | list, where: str) -> None:
    """Refuse a batch of contexts, of which only the first would be taken."""
    shapes: list[Any] = [getattr(part, "shape", ()) for part in batch]
    tables = all(len(shape) == 2 and shape[1] == shapes[0][1] for shape in shapes)
    if tables and len({shape[0] for shape in shapes}) > 1:
        raise ValueError(
            f"{where} is a {type(batch).__name__} of arrays of {shapes[0][0]}, "
            f"{shapes[1][0]} ... rows, of which only the first would be taken; yield "
            "contexts one by one, or joined into one array."
        )


def _of_path(
    path: Path, columns: list[str] | None, batch_size: int, name: str
) -> Iterator[np.ndarray]:
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
        _check_no_columns(columns, name)
        return _of_npy(path, batch_size, where)
    if start.startswith(_PARQUET):
        return _of_parquet([path], columns, batch_size, name)
    if start.startswith((_ARROW, _ARROW_STREAM)):
        import_pyarrow()
        reader = ArrowReader(columns, name)
        is_stream = not start.startswith(_ARROW)
        tables = tables_of_ipc(path, reader, is_stream=is_stream)
        return reader.blocks(tables, batch_size)
    raise ValueError(
        f"{where} is of no known format: .npy, Parquet and Arrow (file or stream) are "
        "allowed, and folders of Parquet files."
    )


def _of_parquet(
    paths: list[Path], columns: list[str] | None, batch_size: int, name: str
) -> Iterator[np.ndarray]:
    import_pyarrow()
    reader = ArrowReader(columns, name)
    return reader.blocks(tables_of_parquet(paths, reader, batch_size), batch_size)


def _of_npy(path: Path, batch_size: int, where: str) -> Iterator[np.ndarray]:
    try:
        X = np.load(path, mmap_mode="r")
    except (ValueError, OSError) as error:
        raise ValueError(f"{where} cannot be read: {error}") from None
    shape = X.shape
    known = len(shape) in (2, 3) and shape[-1] and X.dtype.kind in "biuf"
    if not known or not X.flags.c_contiguous:
        return _of_array(X, batch_size, where)
    rows = (X.size // shape[-1], shape[-1])
    return _read_npy(path, rows, X.dtype, X.offset, batch_size)


def _read_npy(
    path: Path, shape: tuple[int, int], dtype: np.dtype, offset: int, batch_size: int
) -> Iterator[np.ndarray]:
    """Read a file instead of mapping it, which is faster than to fault page by page."""
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        for start in range(0, shape[0], batch_size):
            n_rows = min(batch_size, shape[0] - start)
            yield np.fromfile(file, dtype, n_rows * shape[1]).reshape(-1, shape[1])
