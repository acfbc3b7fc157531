"""Which columns of a table make a row, and how they are joined into rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from skfeat.rows._batches import Contexts, as_block, joined_contexts
from skfeat.utils._arrays import as_numpy
from skfeat.utils._checks import listed

# Columns are transposed through a buffer of this many values, which fits the cache. Its
# rows are padded so that equal offsets do not compete for the same cache set.
_BUFFER_VALUES = 2**20
_BUFFER_PADDING = 16


def check_columns(columns: Any) -> list[str] | None:
    """Return the parameter `columns` as a list."""
    if columns is None:
        return None
    names = [columns] if isinstance(columns, str) else columns
    try:
        names = list(names)
    except TypeError:
        names = []
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"columns must be None, a name or a sequence of names. Got {columns!r} "
            "instead."
        )
    if len(set(names)) < len(names):
        raise ValueError(f"columns must name each column once. Got {names!r} instead.")
    return names


def choose_columns(
    kinds: list[tuple[str, str]], columns: list[str] | None, name: str
) -> list[int]:
    """Return the indices of the columns that make a row.

    Parameters
    ----------
    kinds : list of (str, str)
        The name of each column and its kind: "number", "rows" (lists of numbers of one
        length), "contexts" (lists of such lists), "bool", or a text for messages.
    columns : list of str or None
        Names of the columns to take; None: all numbers, or all rows.
    name : str
        Name of the parameter that holds the table, for messages.

    Raises
    ------
    ValueError
        If a column is missing or not numeric, if None could mean more than one kind,
        or if contexts stand beside something else.
    """
    names = [label for label, _ in kinds]
    if columns is None:
        found = {
            kind: [i for i, (_, other) in enumerate(kinds) if other == kind]
            for kind in ("number", "rows", "contexts")
        }
        several = [
            f"of {'numbers' if kind == 'number' else kind} ({_listed(names, places)})"
            for kind, places in found.items()
            if places
        ]
        if len(several) > 1:
            raise ValueError(
                f"{name} has columns {listed(several)}; set columns to the names "
                "of those to take."
            )
        indices = found["number"] or found["rows"] or found["contexts"]
        if not indices:
            raise ValueError(f"{name} has no numeric column; it has {kinds}.")
        return indices
    indices = []
    for label in columns:
        if names.count(label) != 1:
            number = "more than one column" if label in names else "no column"
            raise ValueError(
                f"columns names {label!r}, but {name} has {number} of that name; it "
                f"has {_listed(names, range(len(names)))}."
            )
        index = names.index(label)
        if kinds[index][1] not in ("number", "rows", "contexts", "bool"):
            raise ValueError(
                f"columns names {label!r}, which in {name} is of type "
                f"{kinds[index][1]}; numbers and lists of numbers are allowed."
            )
        indices.append(index)
    by_context = [kinds[index][1] == "contexts" for index in indices]
    if any(by_context) and not all(by_context):
        raise ValueError(
            f"columns names {_listed(names, indices)}, but in {name} some of them hold "
            "many rows each, contexts, and others one; take those of one kind."
        )
    return indices


def joined(parts: list[np.ndarray | Contexts], where: str) -> np.ndarray:
    """Join columns of a table, or of contexts, into rows."""
    arrays = [part.rows if isinstance(part, Contexts) else part for part in parts]
    lengths = [part.lengths for part in parts if isinstance(part, Contexts)]
    if any(not np.array_equal(lengths[0], other) for other in lengths[1:]):
        raise ValueError(
            f"{where} has contexts of different lengths side by side; the columns of "
            "one row must have as many positions."
        )
    if lengths and not len(arrays[0]):
        return np.empty((0, 1))  # nobody asks for the width of no rows
    return side_by_side(arrays)


def side_by_side(parts: list[np.ndarray]) -> np.ndarray:
    """Join columns of shape (n,) and (n, width) into rows."""
    if len(parts) == 1:
        return parts[0].reshape(len(parts[0]), -1)
    if any(part.ndim == 2 for part in parts):
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
    n, k, dtype = len(parts[0]), len(parts), np.result_type(*parts)
    rows = np.empty((n, k), dtype)
    step = max(64, _BUFFER_VALUES // k)
    buffer = np.empty((k, min(step, n) + _BUFFER_PADDING), dtype)
    for start in range(0, n, step):
        stop = min(start + step, n)
        for buffered, part in zip(buffer, parts, strict=True):
            buffered[: stop - start] = part[start:stop]
        rows[start:stop] = buffer[:, : stop - start].T
    return rows


def is_frame(value: Any) -> bool:
    """Tell whether a value is a data frame like those of pandas and polars."""
    return hasattr(value, "columns") and hasattr(value, "to_numpy")


def rows_of_table(table: Any, columns: list[str] | None, where: str) -> np.ndarray:
    """Return the rows of a data frame or of a mapping of names to columns."""
    named = (
        {str(label): table[label] for label in table}
        if isinstance(table, Mapping)
        else {str(label): table[label].to_numpy() for label in table.columns}
    )
    if len(named) < len(table if isinstance(table, Mapping) else table.columns):
        raise ValueError(f"{where} has several columns of one name: {[*table]}.")
    wanted = named if columns is None else [c for c in columns if c in named]
    arrays = {label: _column(named[label]) for label in wanted}
    kinds = [(label, _kind(arrays.get(label))) for label in named]
    chosen = [arrays[kinds[i][0]] for i in choose_columns(kinds, columns, where)]
    if len({_height(part) for part in chosen}) > 1:
        lengths = {kinds[i][0]: _height(arrays[kinds[i][0]]) for i in range(len(kinds))}
        raise ValueError(f"{where} has columns of different lengths: {lengths}.")
    return as_block(joined(chosen, where), where)


def _height(column: np.ndarray | Contexts) -> int:
    """Return the number of rows of the table that a column is of."""
    return len(column.lengths if isinstance(column, Contexts) else column)


def _column(values: Any) -> np.ndarray | Contexts:
    """Return a column as an array of numbers, of rows, or else of objects."""
    array = to_array(values)
    if array.ndim == 3 and array.dtype.kind in "iuf":
        return joined_contexts(array) or array
    if array.dtype != object or array.ndim != 1 or len(array) == 0:
        return array
    if isinstance(array[0], np.ndarray | list | tuple):
        contexts = joined_contexts(array)
        if contexts is not None:
            return contexts
        try:
            return np.asarray([np.asarray(row) for row in array])
        except ValueError:
            return np.empty(len(array), dtype="V0")
    return array


def to_array(values: Any) -> np.ndarray:
    """Return a tensor, array or nested list as an array; a ragged one has objects."""
    values = widened(values)
    try:
        return np.asarray(values)
    except ValueError:
        return np.fromiter(values, dtype=object, count=len(values))


def widened(values: Any) -> Any:
    """Return a tensor as an array, bfloat16 as float32; return all else unchanged."""
    if not isinstance(values, torch.Tensor):
        return values
    return as_numpy(values.float() if values.dtype == torch.bfloat16 else values)


def _kind(array: np.ndarray | Contexts | None) -> str:
    if array is None:
        return "not in columns"
    if isinstance(array, Contexts):
        return "contexts" if array.rows.dtype.kind in "iuf" else "lists of lists"
    if array.dtype.kind == "V":
        return "lists of different lengths"
    if array.dtype == bool and array.ndim == 1:
        return "bool"
    if array.dtype.kind in "iuf" and array.ndim in (1, 2):
        return "number" if array.ndim == 1 else "rows"
    return f"{array.dtype} of shape {array.shape}"


def _listed(names: list[str], indices: Sequence[int]) -> str:
    shown = [repr(names[i]) for i in indices[:8]]
    return ", ".join(shown) + (", …" if len(indices) > 8 else "")
