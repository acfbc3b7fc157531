"""Which columns of a table make a row, and how they stand side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from skfeat.rows._batches import as_block
from skfeat.utils._arrays import as_numpy

# Columns are turned into rows through a tile of so many values, which stays in the
# processor's cache; the few more in each of its lines keep them out of the same place.
_TILE_VALUES = 2**20
_TILE_PADDING = 16


def check_columns(columns) -> list[str] | None:
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
            f"instead."
        )
    if len(set(names)) < len(names):
        raise ValueError(f"columns must name each column once. Got {names!r} instead.")
    return names


def choose(
    kinds: list[tuple[str, str]], columns: list[str] | None, name: str
) -> list[int]:
    """Return the places of the columns that make a row.

    Parameters
    ----------
    kinds : list of (str, str)
        Of each column its name and "number", "rows" or what else it holds.
    columns : list of str or None
        Those wanted; None: all numbers, or all rows of numbers.
    name : str
        The parameter that the table came in, for messages.
    """
    names = [label for label, _ in kinds]
    if columns is None:
        found = {
            kind: [i for i, (_, other) in enumerate(kinds) if other == kind]
            for kind in ("number", "rows")
        }
        if found["number"] and found["rows"]:
            raise ValueError(
                f"{name} has columns of numbers ({_listed(names, found['number'])}) "
                f"and of rows ({_listed(names, found['rows'])}); name those to take in "
                f"columns."
            )
        places = found["number"] or found["rows"]
        if not places:
            raise ValueError(f"{name} has no numeric column; it has {kinds}.")
        return places
    places = []
    for label in columns:
        if names.count(label) != 1:
            how = "more than one column" if label in names else "no column"
            raise ValueError(
                f"columns names {label!r}, but {name} has {how} of that name; it has "
                f"{_listed(names, range(len(names)))}."
            )
        place = names.index(label)
        if kinds[place][1] not in ("number", "rows", "bool"):
            raise ValueError(
                f"columns names {label!r}, which in {name} is of type "
                f"{kinds[place][1]}; numbers and lists of numbers are allowed."
            )
        places.append(place)
    return places


def side_by_side(parts: list[np.ndarray]) -> np.ndarray:
    """Join columns of shape (n,) and (n, width) into rows."""
    if len(parts) == 1:
        return parts[0].reshape(len(parts[0]), -1)
    if any(part.ndim == 2 for part in parts):
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
    n, k, dtype = len(parts[0]), len(parts), np.result_type(*parts)
    rows = np.empty((n, k), dtype)
    step = max(64, _TILE_VALUES // k)
    tile = np.empty((k, min(step, n) + _TILE_PADDING), dtype)
    for start in range(0, n, step):
        stop = min(start + step, n)
        for line, part in zip(tile, parts, strict=True):
            line[: stop - start] = part[start:stop]
        rows[start:stop] = tile[:, : stop - start].T
    return rows


def is_frame(thing) -> bool:
    """Tell whether a thing is a dataframe, of pandas' or polars' kind."""
    return hasattr(thing, "columns") and hasattr(thing, "to_numpy")


def rows_of_table(table, columns: list[str] | None, where: str) -> np.ndarray:
    """Return the rows of a dataframe or of a mapping of names to columns."""
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
    chosen = [arrays[kinds[i][0]] for i in choose(kinds, columns, where)]
    if len({len(part) for part in chosen}) > 1:
        lengths = {kinds[i][0]: len(arrays[kinds[i][0]]) for i in range(len(kinds))}
        raise ValueError(f"{where} has columns of different lengths: {lengths}.")
    return as_block(side_by_side(chosen), where)


def _column(values: Any) -> np.ndarray:
    """Return a column as an array: of numbers, of rows, or of objects if neither."""
    array = to_array(values)
    if array.dtype != object or array.ndim != 1 or len(array) == 0:
        return array
    if isinstance(array[0], np.ndarray | list | tuple):
        try:
            return np.asarray([np.asarray(row) for row in array])
        except ValueError:
            return np.empty(len(array), dtype="V0")
    return array


def to_array(values) -> np.ndarray:
    """Return a tensor, array or nested list as an array; ragged ones as objects."""
    values = widened(values)
    try:
        return np.asarray(values)
    except ValueError:
        return np.fromiter(values, dtype=object, count=len(values))


def widened(values):
    """Return a tensor as an array, bfloat16 as the float32 that holds it."""
    if not isinstance(values, torch.Tensor):
        return values
    return as_numpy(values.float() if values.dtype == torch.bfloat16 else values)


def _kind(array: np.ndarray | None) -> str:
    if array is None:
        return "not asked for"
    if array.dtype.kind == "V":
        return "lists of different lengths"
    if array.dtype == bool and array.ndim == 1:
        return "bool"
    if array.dtype.kind in "iuf" and array.ndim in (1, 2):
        return "number" if array.ndim == 1 else "rows"
    return f"{array.dtype} of shape {array.shape}"


def _listed(names, places) -> str:
    shown = [repr(names[i]) for i in list(places)[:8]]
    return ", ".join(shown) + (", …" if len(places) > 8 else "")
