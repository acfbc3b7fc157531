"""The state file of a capture's folder: which rows its ``.npy`` files hold, checked.

The state file may be damaged, so its sizes are used only after the lengths of the
other files have been compared with them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from skfeat import _version
from skfeat.utils._files import NPY_HEADER_BYTES

STATE_FILE = "capture.json"
_FORMAT = "skfeat.Capture"
_VERSION = 1
_DTYPES = ("<f2", "<f4", "<f8", "<i4", "<i8")


def first_state(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a capture that has no batch yet."""
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "skfeat": _version.__version__,
        "settings": settings,
        "columns": {},
        "n_batches": 0,
        "n_rows": 0,
        "n_sequences": 0,
        "digest": "",
        "map_shape": None,
        "complete": False,
    }


def load_columns(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arrays of a Capture as memory maps, and the state.

    Raises
    ------
    ValueError
        If a file is shorter than the state requires, or no batch was written.
    """
    state = read_state(folder)
    arrays = {}
    for name, (dtype, shape) in state["columns"].items():
        path, full_shape = folder / file_name(name), (state["n_rows"], *shape)
        n_bytes = n_bytes_of_file(dtype, full_shape)
        if not path.is_file() or path.stat().st_size < n_bytes:
            raise ValueError(
                f"Cannot read a capture from {str(folder)!r}: {path.name} is shorter "
                f"than its {state['n_rows']} rows."
            )
        arrays[name] = np.memmap(
            path, dtype, "r", offset=NPY_HEADER_BYTES, shape=full_shape
        )
    if not arrays:
        raise ValueError(
            f"Cannot read a capture from {str(folder)!r}: it was interrupted before "
            "its first batch was written."
        )
    modules = state["settings"]["modules"]
    activations = {
        name: arrays.pop(f"activations.{i}") for i, name in enumerate(modules)
    }
    shape = state["map_shape"]
    shape = None if shape is None else tuple(shape)
    return {**arrays, "activations": activations, "map_shape": shape}, state


def file_name(column: str) -> str:
    """Return the name of the file that holds a column."""
    return f"{column}.npy"


def n_bytes_of_file(dtype: str, shape: tuple[int, ...]) -> int:
    """Return the size of a file with an array of this dtype and shape."""
    # Python's ints do not overflow, whatever shape a damaged state claims.
    n_bytes = np.dtype(dtype).itemsize
    for size in shape:
        n_bytes *= size
    return NPY_HEADER_BYTES + n_bytes


def read_state(folder: Path) -> dict[str, Any]:
    """Read and check the state of a capture.

    Raises
    ------
    FileNotFoundError
        If the folder has no state.
    ValueError
        If the state is damaged.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        raise FileNotFoundError(f"There is no capture in {str(folder)!r}.")
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        _check_state(state)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"Cannot read a capture from {str(folder)!r}: {STATE_FILE} is damaged "
            f"({error})."
        ) from None
    return state


def _check_state(state: dict[str, Any]) -> None:
    """Raise an error, with its reason, unless a state is valid."""
    if state["format"] != _FORMAT or state["version"] != _VERSION:
        raise ValueError(f"its format is not {_FORMAT} of version {_VERSION}")
    for key in ("n_batches", "n_rows", "n_sequences"):
        if type(state[key]) is not int or state[key] < 0:
            raise ValueError(f"{key} is {state[key]!r}")
    if type(state["complete"]) is not bool or type(state["digest"]) is not str:
        raise ValueError("complete or digest has another type")
    shape = state.setdefault("map_shape", None)
    if shape is not None and not all(type(size) is int and size > 0 for size in shape):
        raise ValueError(f"map_shape is {shape!r}")
    modules = state["settings"]["modules"]
    if not all(isinstance(name, str) for name in modules):
        raise ValueError("the name of a module is not a string")
    names = {f"activations.{i}" for i in range(len(modules))} | {"sequence", "position"}
    if state["columns"] and state["columns"].keys() - {"token_ids"} != names:
        raise ValueError("its columns do not match its modules")
    for name, (dtype, shape) in state["columns"].items():
        is_shape = all(type(size) is int and size >= 0 for size in shape)
        # Activations are matrices, all else are vectors.
        if dtype not in _DTYPES or not is_shape or len(shape) != ("." in name):
            raise ValueError(f"column {name!r} is {dtype!r}, {shape!r}")
