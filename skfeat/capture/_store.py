"""Where captured rows go: lists in memory, or ``.npy`` files that grow.

A folder holds one file a column and ``capture.json``, which says how many rows of the
files are whole. Rows are written first, then the state, by renaming a finished file:
whenever a capture is killed, the state describes rows that are there, and what lies
behind them is cut off when the capture goes on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from skfeat import _version
from skfeat.capture._reader import Rows
from skfeat.utils._files import NPY_HEADER_BYTES, npy_header, replacing

_FORMAT = "skfeat.Capture"
_VERSION = 1
_STATE = "capture.json"

# Work that may be lost when the machine stops.
_SECONDS_BETWEEN_CHECKPOINTS = 10.0

_DTYPES = ("<f2", "<f4", "<f8", "<i4", "<i8")


class MemoryStore:
    """Keeps rows in lists."""

    def __init__(self, modules: list[str]):
        self.modules = modules
        self.parts: list[Rows] = []
        self.n_batches = self.n_rows = self.n_sequences = 0

    def append(self, rows: Rows) -> None:
        """Take the rows of the next batch."""
        if self.parts:
            _check_like(_columns_of(rows), _columns_of(self.parts[0]), self.n_batches)
        sequence = rows.sequence + self.n_sequences
        self.parts.append(rows._replace(sequence=sequence))
        self.n_batches += 1
        self.n_rows += len(sequence)
        self.n_sequences += rows.n_sequences

    def columns(self) -> dict[str, Any]:
        """Return the attributes of a Capture; the lists are given up on the way."""
        parts, self.parts = self.parts, []
        columns: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("sequence", "position", "token_ids")
            if getattr(parts[0], name) is not None
        }
        columns["activations"] = {
            name: np.concatenate([part.activations.pop(name) for part in parts])
            for name in self.modules
        }
        return columns


class FolderStore:
    """Appends rows to the files of a folder; a context manager.

    Parameters
    ----------
    folder : Path
        New, empty, or with a capture of the same settings.
    settings : dict
        What must be the same for a capture to go on; plain JSON values.

    Raises
    ------
    ValueError
        If the folder holds something else.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]):
        self.folder = folder
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"out={str(folder)!r} must be a folder; it is a file.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (NotADirectoryError, FileExistsError):
            raise ValueError(
                f"out={str(folder)!r} must be a folder, but lies below a file."
            ) from None
        if (folder / _STATE).exists():
            self.state = _read_state(folder)
            if self.n_batches > 0:
                self._check_settings(settings)
            else:
                # It ended before it had begun: nothing is lost by another capture.
                for name in self.state["columns"]:
                    (folder / _file_name(name)).unlink(missing_ok=True)
                self.state = _first_state(settings)
        elif any(path.name != f"{_STATE}.tmp" for path in folder.iterdir()):
            raise ValueError(
                f"out={str(folder)!r} holds other files and no capture; name a new or "
                "an empty folder."
            )
        else:
            self.state = _first_state(settings)
        self.files: dict[str, BinaryIO] = {}
        self.last = time.monotonic()

    n_batches = property(lambda self: self.state["n_batches"])
    n_rows = property(lambda self: self.state["n_rows"])
    n_sequences = property(lambda self: self.state["n_sequences"])
    digest = property(lambda self: self.state["digest"])

    def __enter__(self) -> FolderStore:
        with ExitStack() as closing:
            self.closing = closing
            if self.state["columns"]:
                self._open()
            else:
                self._write_state()
            self.closing = closing.pop_all()
        return self

    def __exit__(self, *error) -> None:
        # Also after an error: the batches that are whole need not be run again.
        with self.closing:
            self._checkpoint()

    def append(self, rows: Rows, digest: str) -> None:
        """Write the rows of the next batch."""
        columns = _columns_of(rows)
        if not self.state["columns"]:
            self.state["columns"] = {
                name: [array.dtype.str, list(array.shape[1:])]
                for name, array in columns.items()
            }
            self._open()
        _check_like(columns, self.state["columns"], self.n_batches)
        columns["sequence"] = columns["sequence"] + self.n_sequences
        for name, array in columns.items():
            self.files[name].write(np.ascontiguousarray(array).view(np.uint8).data)
        # All at once: an interruption sees either none of the batch or all of it.
        self.state = {
            **self.state,
            "n_batches": self.n_batches + 1,
            "n_rows": self.n_rows + len(rows.sequence),
            "n_sequences": self.n_sequences + rows.n_sequences,
            "digest": digest,
            "complete": False,
        }
        if time.monotonic() - self.last >= _SECONDS_BETWEEN_CHECKPOINTS:
            self._checkpoint()

    def check_digest(self, digest: str) -> None:
        """Refuse batches that are not those of the folder."""
        if digest != self.digest:
            raise ValueError(
                f"out={str(self.folder)!r} holds a capture of other batches: its first "
                f"{self.n_batches} are not the ones given now; name another folder."
            )

    def check_rows(self, rows: Rows, tolerance: float) -> None:
        """Refuse a model that gives other rows for the last batch than are held."""
        n_rows = len(rows.sequence)
        for name, array in _columns_of(rows).items():
            dtype, shape = self.state["columns"].get(name, (None, None))
            path = self.folder / _file_name(name)
            same = dtype == array.dtype.str and shape == list(array.shape[1:])
            if same and n_rows <= self.n_rows and "." in name:
                offset = _n_bytes(dtype, (self.n_rows - n_rows, *shape))
                held = np.fromfile(path, dtype, array.size, offset=offset)
                error = np.linalg.norm(held - array.ravel().astype(np.float64))
                same = error <= tolerance * np.linalg.norm(held)
            if not same:
                raise ValueError(
                    f"out={str(self.folder)!r} holds the rows of another model: this "
                    f"one gives others for batch {self.n_batches - 1}; name another "
                    "folder."
                )

    def complete(self) -> None:
        """Say that no batch is missing."""
        self.state = {**self.state, "complete": True}

    def _check_settings(self, settings: dict[str, Any]) -> None:
        for key, value in settings.items():
            held = self.state["settings"].get(key)
            if held != value:
                # The digest of a model says nothing to a reader.
                of = "" if key == "model" else f", of {key}={held!r} not {value!r}"
                other = "another model" if key == "model" else "another capture"
                raise ValueError(
                    f"out={str(self.folder)!r} holds the rows of {other}{of}; name "
                    "another folder."
                )

    def _open(self) -> None:
        """Open all files behind their last whole row."""
        for name, (dtype, shape) in self.state["columns"].items():
            path = self.folder / _file_name(name)
            path.touch()
            file = self.closing.enter_context(path.open("r+b"))
            n_bytes = _n_bytes(dtype, (self.n_rows, *shape))
            if self.n_rows and path.stat().st_size < n_bytes:
                raise ValueError(
                    f"out={str(self.folder)!r} is damaged: {path.name} is shorter than "
                    f"its {self.n_rows} rows."
                )
            file.truncate(n_bytes)
            file.write(npy_header(dtype, (self.n_rows, *shape)))
            file.seek(0, os.SEEK_END)
            self.files[name] = file

    def _checkpoint(self) -> None:
        for name, file in self.files.items():
            dtype, shape = self.state["columns"][name]
            file.seek(0)
            file.write(npy_header(dtype, (self.n_rows, *shape)))
            file.seek(_n_bytes(dtype, (self.n_rows, *shape)))
            file.flush()
            os.fsync(file.fileno())
        self._write_state()
        self.last = time.monotonic()

    def _write_state(self) -> None:
        with replacing(self.folder / _STATE, self.folder / f"{_STATE}.tmp") as file:
            file.write(json.dumps(self.state, indent=1).encode())


def _first_state(settings: dict[str, Any]) -> dict[str, Any]:
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
        "complete": False,
    }


def load_columns(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the attributes of a Capture as memory maps, and the state."""
    state = _read_state(folder)
    arrays = {}
    for name, (dtype, shape) in state["columns"].items():
        path, whole = folder / _file_name(name), (state["n_rows"], *shape)
        if not path.is_file() or path.stat().st_size < _n_bytes(dtype, whole):
            raise ValueError(
                f"Cannot read a capture from {str(folder)!r}: {path.name} is shorter "
                f"than its {state['n_rows']} rows."
            )
        arrays[name] = np.memmap(path, dtype, "r", offset=NPY_HEADER_BYTES, shape=whole)
    if not arrays:
        raise ValueError(
            f"Cannot read a capture from {str(folder)!r}: it was interrupted before "
            "its first batch was written."
        )
    modules = state["settings"]["modules"]
    activations = {
        name: arrays.pop(f"activations.{i}") for i, name in enumerate(modules)
    }
    return {**arrays, "activations": activations}, state


def digest_of(batch: Any, before: str) -> str:
    """Digest a batch after all the batches before it."""
    digest = blake2b(before.encode(), digest_size=16)
    if isinstance(batch, Mapping):
        values = dict(batch)
    else:
        values = dict(enumerate(batch if isinstance(batch, tuple | list) else [batch]))
    for name, value in values.items():
        if isinstance(value, torch.Tensor):
            flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
            digest.update(flat.numpy().data)
        elif isinstance(value, np.ndarray):
            digest.update(f"{name}{value.dtype}{value.shape}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        elif value is None or isinstance(value, bool | int | float | str):
            digest.update(f"{name}{value!r}".encode())
    return digest.hexdigest()


def _columns_of(rows: Rows) -> dict[str, np.ndarray]:
    columns = {
        f"activations.{i}": array for i, array in enumerate(rows.activations.values())
    }
    if rows.token_ids is not None:
        columns["token_ids"] = rows.token_ids
    return {**columns, "sequence": rows.sequence, "position": rows.position}


def _check_like(columns, first, number) -> None:
    """Raise ValueError unless the columns are of the kind that the first batch had."""
    if columns.keys() != first.keys():
        raise ValueError(
            "batches must all have token ids or none; batch "
            f"{number} differs from those before it."
        )
    for name, array in columns.items():
        like = first[name]
        shape = list(like[1] if isinstance(like, list | tuple) else like.shape[1:])
        if list(array.shape[1:]) != shape:
            raise ValueError(
                f"batches must give rows of one width: batch {number} has "
                f"{array.shape[1:]}, those before it {tuple(shape)}."
            )


def _file_name(column: str) -> str:
    return f"{column}.npy"


def _n_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    # Python's ints: what a damaged state says may not fit into NumPy's.
    n_bytes = np.dtype(dtype).itemsize
    for size in shape:
        n_bytes *= size
    return NPY_HEADER_BYTES + n_bytes


def _read_state(folder: Path) -> dict[str, Any]:
    path = folder / _STATE
    if not path.is_file():
        raise FileNotFoundError(f"there is no capture in {str(folder)!r}.")
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        _check_state(state)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"Cannot read a capture from {str(folder)!r}: {_STATE} is damaged "
            f"({error})."
        ) from None
    return state


def _check_state(state: dict[str, Any]) -> None:
    if state["format"] != _FORMAT or state["version"] != _VERSION:
        raise ValueError(f"its format is not {_FORMAT} of version {_VERSION}")
    for key in ("n_batches", "n_rows", "n_sequences"):
        if type(state[key]) is not int or state[key] < 0:
            raise ValueError(f"{key} is {state[key]!r}")
    if type(state["complete"]) is not bool or type(state["digest"]) is not str:
        raise ValueError("complete or digest is of another type")
    modules = state["settings"]["modules"]
    if not all(isinstance(name, str) for name in modules):
        raise ValueError("a module has no name")
    names = {f"activations.{i}" for i in range(len(modules))} | {"sequence", "position"}
    if state["columns"] and state["columns"].keys() - {"token_ids"} != names:
        raise ValueError("it has other columns than its modules")
    for name, (dtype, shape) in state["columns"].items():
        whole = all(type(size) is int and size >= 0 for size in shape)
        if dtype not in _DTYPES or not whole or len(shape) != ("." in name):
            raise ValueError(f"column {name!r} is {dtype!r}, {shape!r}")
