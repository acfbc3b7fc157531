"""Rows of Arrow tables of any library, and of Parquet and Arrow files."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from skfeat.rows._batches import Contexts
from skfeat.rows._columns import choose_columns, joined
from skfeat.utils._rows import release

# Bytes read ahead of all columns of a Parquet file together; pages may be longer.
_PARQUET_BUFFER_BYTES = 2**23
# Bytes of a Parquet file decoded at once, which takes several times as much memory.
_PARQUET_BYTES = 2**22
# Rows of an Arrow file after which its pages are released.
_IPC_ROWS = 8192


def import_pyarrow() -> Any:
    """Import pyarrow, or raise ImportError with the command that installs it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ImportError(
            "Parquet and Arrow files need the package pyarrow: pip install "
            "'skfeat[arrow]'."
        ) from None
    return pyarrow


def is_instance_of(value: Any, package: str, *names: str) -> bool:
    """Tell whether a value is of a class of a package, which is not imported for it."""
    module = sys.modules.get(package)
    return any(isinstance(value, getattr(module, name, ())) for name in names)


def is_table(value: Any) -> bool:
    """Tell whether a value is an Arrow table or a part of one."""
    return is_instance_of(value, "pyarrow", "Table", "RecordBatch")


def is_hugging_face(value: Any) -> bool:
    """Tell whether a value is a dataset of Hugging Face's package."""
    return is_instance_of(value, "datasets", "Dataset", "IterableDataset")


def is_arrow_stream(value: Any) -> bool:
    """Tell whether a value yields Arrow tables one after the other."""
    return (
        is_instance_of(value, "pyarrow", "RecordBatchReader")
        or is_instance_of(value, "pyarrow.dataset", "Dataset")
        or is_hugging_face(value)
    )


def has_arrow(value: Any) -> bool:
    """Tell whether a value is an Arrow table or yields Arrow tables."""
    return is_table(value) or is_arrow_stream(value)


class ArrowReader:
    """Joins the columns of Arrow tables into rows.

    Parameters
    ----------
    columns : list of str or None
        Names of the columns that make a row; None: all numeric ones.
    name : str
        Name of the parameter that holds the tables, for messages.
    """

    def __init__(self, columns: list[str] | None, name: str):
        self.columns = columns
        self.name = name
        self.schema: Any = None
        self.indices: list[int] = []
        self.n_rows = 0

    def choose(self, schema: Any) -> list[str]:
        """Choose columns from a schema and return their names.

        All later schemas must have the columns that the first one had.
        """
        if self.schema is None or not schema.equals(self.schema):
            kinds = [(field.name, _kind(field.type)) for field in schema]
            self.indices = choose_columns(kinds, self.columns, self.name)
            self.schema = schema
            names = [kinds[index][0] for index in self.indices]
            if len(set(names)) < len(names):
                raise ValueError(f"{self.name} has several columns of one name.")
            self.columns = names
        return list(self.columns or [])

    def blocks(self, tables: Iterable[Any], batch_size: int) -> Iterator[np.ndarray]:
        """Yield the rows of tables, at most `batch_size` at a time."""
        for table in tables:
            self.choose(table.schema)
            table = table.select(self.indices)
            step = self._rows_at_once(table, batch_size)
            for start in range(0, table.num_rows, step):
                part = table.slice(start, step)
                is_chunked = is_instance_of(part, "pyarrow", "Table")
                for piece in part.to_batches() if is_chunked else [part]:
                    yield self._rows(piece)

    def _rows_at_once(self, table: Any, batch_size: int) -> int:
        """Return how many rows of a table to read for a batch; a context has many."""
        if _kind(table.schema[0].type) != "contexts" or not table.num_rows:
            return batch_size
        column = table.slice(0, 1).column(0)
        pieces = column.chunks if hasattr(column, "chunks") else [column]
        n_positions = sum(len(_storage(piece).flatten()) for piece in pieces)
        return max(1, batch_size // max(1, n_positions))

    def _rows(self, batch: Any) -> np.ndarray:
        parts = [
            self._column(batch.column(i), batch.schema.field(i).name)
            for i in range(batch.num_columns)
        ]
        rows = joined(parts, self.name)
        self.n_rows += batch.num_rows
        return rows

    def _column(self, array: Any, label: str) -> np.ndarray | Contexts:
        """Return a column as an array (n,) of numbers, or (n, width) of lists.

        Lists of lists are contexts, whose rows follow one another.
        """
        array = _storage(array)
        null = _first_null(array)
        if null is not None:
            raise self._error(label, null, "a null")
        if not hasattr(array, "flatten") or not hasattr(array, "values"):
            return array.to_numpy(zero_copy_only=False)
        flat = array.flatten()
        if hasattr(flat, "values"):
            lengths = _lengths(array)
            null = _first_null(flat)
            if null is not None:
                row = _list_of(null, lengths)
                raise self._error(label, row, "a context with a null")
            if len(flat) == 0:
                return Contexts(np.empty((0, 1)), lengths)
            return Contexts(self._lists(flat, label, lengths), lengths)
        return self._lists(array, label)

    def _lists(
        self, array: Any, label: str, lengths_of_contexts: np.ndarray | None = None
    ) -> np.ndarray:
        """Return lists of one length as rows; those of contexts follow one another."""

        def place(row: int) -> int:
            if lengths_of_contexts is None:
                return row
            return _list_of(row, lengths_of_contexts)

        flat = array.flatten()
        null = _first_null(flat)
        if null is not None:
            row = _list_of(null, _lengths(array))
            raise self._error(label, place(row), "a list with a null")
        values = flat.to_numpy(zero_copy_only=False)
        width = len(values) // len(array) if len(array) else 0
        if hasattr(array, "offsets"):
            lengths = np.diff(array.offsets.to_numpy())
            width = int(lengths[0])
            if (lengths != width).any():
                row = int(np.argmax(lengths != width))
                what = f"a list of {lengths[row]} numbers after lists of {width}"
                raise self._error(label, place(row), what)
        if width == 0:
            raise self._error(label, 0, "an empty list")
        return values.reshape(len(array), width)

    def _error(self, label: str, row: int, what: str) -> ValueError:
        return ValueError(
            f"{self.name} has {what} in column {label!r}, row {self.n_rows + row}; "
            "every row must have the same number of values and no null."
        )


def _kind(kind: Any) -> str:
    """Return the kind of an Arrow type, as `choose_columns` takes it."""
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
    if is_list and _kind(kind.value_type) in ("number", "rows"):
        return "rows" if _kind(kind.value_type) == "number" else "contexts"
    return str(kind)


def _storage(array: Any) -> Any:
    """Return what an array of an extension type, such as Array2D, stores."""
    return getattr(array, "storage", array)


def _first_null(array: Any) -> int | None:
    """Return the number of the first null, None if there is none."""
    if not array.null_count:
        return None
    return int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))


def _lengths(lists: Any) -> np.ndarray:
    import pyarrow.compute

    return pyarrow.compute.list_value_length(lists).to_numpy(zero_copy_only=False)


def _list_of(item: int, lengths: np.ndarray) -> int:
    """Return the number of the list that holds an item, counted through all lists."""
    return int(np.searchsorted(np.cumsum(lengths), item, side="right"))


def tables_of(source: Any, reader: ArrowReader, batch_size: int) -> Iterator[Any]:
    """Yield the tables of a source for which `has_arrow` is true."""
    if is_table(source):
        yield source
    elif is_hugging_face(source):
        known = source.column_names or []
        if reader.columns is not None and set(reader.columns) <= set(known):
            source = source.select_columns(reader.columns)
        n_rows = max(1, batch_size // _positions(source))
        yield from source.with_format("arrow").iter(n_rows)
    elif is_instance_of(source, "pyarrow", "RecordBatchReader"):
        yield from source
    else:
        # By default, pyarrow reads so far ahead that wide rows fill the memory.
        options: dict[str, Any] = {"batch_readahead": 1, "fragment_readahead": 1}
        dataset = sys.modules["pyarrow.dataset"]
        if isinstance(getattr(source, "format", None), dataset.ParquetFileFormat):
            options["fragment_scan_options"] = dataset.ParquetFragmentScanOptions(
                use_buffered_stream=True, buffer_size=2**16, pre_buffer=False
            )
        names = reader.choose(source.schema)
        yield from source.to_batches(columns=names, batch_size=batch_size, **options)


def _positions(source: Any) -> int:
    """Return how many rows an example of a dataset of Hugging Face may hold."""
    # Of an iterable dataset the features may not be known.
    features = getattr(source, "features", None) or {}
    shapes: list[Any] = [getattr(kind, "shape", ()) for kind in features.values()]
    return max([shape[0] or 1 for shape in shapes if len(shape) == 2], default=1)


def tables_of_parquet(
    paths: list[Path], reader: ArrowReader, batch_size: int
) -> Iterator[Any]:
    """Yield the tables of Parquet files, in the order of `paths`."""
    parquet = import_pyarrow().parquet
    name = reader.name
    for path in paths:
        # Messages count rows within each file.
        reader.name, reader.n_rows = f"{name}={str(path)!r}", 0
        with _naming(reader.name):
            n_columns = max(1, parquet.read_metadata(path).num_columns)
            # By default, pyarrow reads whole row groups ahead and keeps them.
            file = parquet.ParquetFile(
                path,
                buffer_size=max(2**13, min(2**18, _PARQUET_BUFFER_BYTES // n_columns)),
                pre_buffer=False,
            )
        with file:
            names = reader.choose(file.schema_arrow)
            n_rows = min(batch_size, _rows_at_once(file.metadata))
            yield from file.iter_batches(n_rows, columns=names)


def _rows_at_once(metadata: Any) -> int:
    """Return the number of rows of a Parquet file to decode at once."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    n_bytes = sum(group.total_byte_size for group in groups)
    return max(1, _PARQUET_BYTES * metadata.num_rows // max(1, n_bytes))


def tables_of_ipc(path: Path, reader: ArrowReader, *, is_stream: bool) -> Iterator[Any]:
    """Yield the tables of an Arrow file or stream, without copying them."""
    pyarrow = import_pyarrow()
    reader.name = f"{reader.name}={str(path)!r}"
    with path.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    buffer = pyarrow.py_buffer(mapping)
    with _naming(reader.name):
        open_buffer = pyarrow.ipc.open_stream if is_stream else pyarrow.ipc.open_file
        file = open_buffer(buffer)
    with file:
        tables = file
        if not is_stream:
            tables = map(file.get_batch, range(file.num_record_batches))
        for table in tables:
            # In slices, so that the pages of the rows already read can be released.
            for start in range(0, table.num_rows, _IPC_ROWS):
                yield table.slice(start, _IPC_ROWS)
                release(mapping)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Turn an error of a damaged file into a ValueError that names the file."""
    try:
        yield
    except (ValueError, OSError) as error:
        reason = str(error).rstrip(".")
        raise ValueError(f"{name} cannot be read: {reason}.") from None
