"""Rows of Arrow tables, whoever made them, and of Parquet and Arrow files."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from skfeat.rows._columns import choose, side_by_side
from skfeat.utils._rows import release

# What is read ahead of all columns of a Parquet file together; pages may be longer.
_PARQUET_BUFFER_BYTES = 2**23
# What is decoded of it at once, which takes several times as much memory.
_PARQUET_BYTES = 2**22
# Rows of an Arrow file after which its pages are let go.
_IPC_ROWS = 8192


def import_pyarrow() -> Any:
    """Import pyarrow, which is optional."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ImportError(
            "Parquet and Arrow files need the package pyarrow: pip install "
            "'skfeat[arrow]'."
        ) from None
    return pyarrow


def is_from(thing, package: str, *names: str) -> bool:
    """Tell whether a thing is of a class of a package, which is not imported for it."""
    module = sys.modules.get(package)
    return any(isinstance(thing, getattr(module, name, ())) for name in names)


def is_table(thing) -> bool:
    """Tell whether a thing is an Arrow table or a part of one."""
    return is_from(thing, "pyarrow", "Table", "RecordBatch")


def is_hugging_face(thing) -> bool:
    """Tell whether a thing is a dataset of Hugging Face's package."""
    return is_from(thing, "datasets", "Dataset", "IterableDataset")


def is_arrow_stream(thing) -> bool:
    """Tell whether a thing yields Arrow tables and is no array in memory."""
    return (
        is_from(thing, "pyarrow", "RecordBatchReader")
        or is_from(thing, "pyarrow.dataset", "Dataset")
        or is_hugging_face(thing)
    )


def has_arrow(thing) -> bool:
    """Tell whether a thing gives Arrow tables in one way or another."""
    return is_table(thing) or is_arrow_stream(thing)


class ArrowRows:
    """Makes rows of the columns of Arrow tables.

    Parameters
    ----------
    columns : list of str or None
    name : str
        The parameter that the tables came in, for messages.
    """

    def __init__(self, columns: list[str] | None, name: str):
        self.columns = columns
        self.name = name
        self.schema: Any = None
        self.places: list[int] = []
        self.n_rows = 0

    def choose(self, schema) -> list[str]:
        """Choose columns from a schema, always those of the first; return the names."""
        if self.schema is None or not schema.equals(self.schema):
            kinds = [(field.name, _kind(field.type)) for field in schema]
            self.places = choose(kinds, self.columns, self.name)
            self.schema = schema
            names = [kinds[place][0] for place in self.places]
            if len(set(names)) < len(names):
                raise ValueError(f"{self.name} has several columns of one name.")
            self.columns = names
        return list(self.columns or [])

    def blocks(self, tables, batch_size: int) -> Iterator[np.ndarray]:
        """Yield the rows of tables, at most `batch_size` at a time."""
        for table in tables:
            self.choose(table.schema)
            table = table.select(self.places)
            for start in range(0, table.num_rows, batch_size):
                part = table.slice(start, batch_size)
                is_whole = is_from(part, "pyarrow", "Table")
                for piece in part.to_batches() if is_whole else [part]:
                    yield self._rows(piece)

    def _rows(self, batch) -> np.ndarray:
        parts = [
            self._column(batch.column(i), batch.schema.field(i).name)
            for i in range(batch.num_columns)
        ]
        self.n_rows += batch.num_rows
        return side_by_side(parts)

    def _column(self, array, label) -> np.ndarray:
        array = getattr(array, "storage", array)
        self._refuse_nulls(array, label, "a null")
        if not hasattr(array, "flatten") or not hasattr(array, "values"):
            return array.to_numpy(zero_copy_only=False)
        entries = array.flatten()
        if entries.null_count > 0:
            lengths = array.value_lengths().to_numpy(zero_copy_only=False)
            where = int(np.argmax(entries.is_null().to_numpy(zero_copy_only=False)))
            row = int(np.searchsorted(np.cumsum(lengths), where, side="right"))
            self._refuse(label, row, "a list with a null")
        values = entries.to_numpy(zero_copy_only=False)
        width = len(values) // len(array) if len(array) else 0
        if hasattr(array, "offsets"):
            lengths = np.diff(array.offsets.to_numpy())
            width = int(lengths[0])
            if (lengths != width).any():
                row = int(np.argmax(lengths != width))
                what = f"a list of {lengths[row]} numbers after lists of {width}"
                self._refuse(label, row, what)
        if width == 0:
            self._refuse(label, 0, "an empty list")
        return values.reshape(len(array), width)

    def _refuse_nulls(self, array, label, what):
        if array.null_count > 0:
            null = array.is_null().to_numpy(zero_copy_only=False)
            self._refuse(label, int(np.argmax(null)), what)

    def _refuse(self, label, row, what):
        raise ValueError(
            f"{self.name} has {what} in column {label!r}, row {self.n_rows + row}; "
            f"every row must have the same number of values and no null."
        )


def _kind(kind) -> str:
    """Say of an Arrow type what `choose` asks."""
    types = import_pyarrow().types
    kind = getattr(kind, "storage_type", kind)
    if types.is_integer(kind) or types.is_floating(kind):
        return "number"
    if types.is_boolean(kind):
        return "bool"
    is_list = (
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
    )
    if is_list and _kind(kind.value_type) == "number":
        return "rows"
    return str(kind)


def tables_of(source, rows: ArrowRows, batch_size: int) -> Iterator[Any]:
    """Yield the tables of whatever `has_arrow` is true of."""
    if is_table(source):
        yield source
    elif is_hugging_face(source):
        known = source.column_names or []
        if rows.columns is not None and set(rows.columns) <= set(known):
            source = source.select_columns(rows.columns)
        yield from source.with_format("arrow").iter(batch_size)
    elif is_from(source, "pyarrow", "RecordBatchReader"):
        yield from source
    else:
        # By default so much is read ahead that wide rows fill the memory.
        options: dict[str, Any] = {"batch_readahead": 1, "fragment_readahead": 1}
        dataset = sys.modules["pyarrow.dataset"]
        if isinstance(getattr(source, "format", None), dataset.ParquetFileFormat):
            options["fragment_scan_options"] = dataset.ParquetFragmentScanOptions(
                use_buffered_stream=True, buffer_size=2**16, pre_buffer=False
            )
        names = rows.choose(source.schema)
        yield from source.to_batches(columns=names, batch_size=batch_size, **options)


def tables_of_parquet(
    paths: list[Path], rows: ArrowRows, batch_size: int
) -> Iterator[Any]:
    """Yield the tables of Parquet files, in the order of `paths`."""
    parquet = import_pyarrow().parquet
    name = rows.name
    for path in paths:
        # Rows are counted in each file anew.
        rows.name, rows.n_rows = f"{name}={str(path)!r}", 0
        with _readable(rows.name):
            n_columns = max(1, parquet.read_metadata(path).num_columns)
            # By default whole row groups are read ahead, and kept until the end.
            file = parquet.ParquetFile(
                path,
                buffer_size=max(2**13, min(2**18, _PARQUET_BUFFER_BYTES // n_columns)),
                pre_buffer=False,
            )
        with file:
            names = rows.choose(file.schema_arrow)
            n_rows = min(batch_size, _rows_at_once(file.metadata))
            yield from file.iter_batches(n_rows, columns=names)


def _rows_at_once(metadata) -> int:
    """Return how many rows of a Parquet file are decoded at once."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    n_bytes = sum(group.total_byte_size for group in groups)
    return max(1, _PARQUET_BYTES * metadata.num_rows // max(1, n_bytes))


def tables_of_ipc(path: Path, rows: ArrowRows, *, stream: bool) -> Iterator[Any]:
    """Yield the tables of an Arrow file or stream, without copying them."""
    pyarrow = import_pyarrow()
    rows.name = f"{rows.name}={str(path)!r}"
    with path.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    buffer = pyarrow.py_buffer(mapping)
    with _readable(rows.name):
        reader = (pyarrow.ipc.open_stream if stream else pyarrow.ipc.open_file)(buffer)
    with reader:
        numbers = range(0 if stream else reader.num_record_batches)
        for table in reader if stream else map(reader.get_batch, numbers):
            # In pieces, so that the pages of what was read can be let go.
            for start in range(0, table.num_rows, _IPC_ROWS):
                yield table.slice(start, _IPC_ROWS)
                release(mapping)


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Say of a file that is not what it seems to be which one it is."""
    try:
        yield
    except (ValueError, OSError) as error:
        reason = str(error).rstrip(".")
        raise ValueError(f"{name} cannot be read: {reason}.") from None
