"""Stores of captured rows: lists in memory, or ``.npy`` files that grow.

A folder holds one file for each column and ``capture.json``, the state, which holds the
number of complete rows in the files. Rows are written first, then the state, by
renaming a finished file. Whenever a capture is killed, the state describes rows that
are in the files, and a capture that continues cuts off what lies behind them.
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

from skfeat.capture._folder_state import (
    STATE_FILE,
    file_name,
    first_state,
    n_bytes_of_file,
    read_state,
)
from skfeat.capture._maps import joined_shape
from skfeat.capture._reader import CapturedBatch
from skfeat.utils._files import npy_header, replacing

# Work that may be lost if the machine stops.
_SECONDS_BETWEEN_CHECKPOINTS = 10.0


class MemoryStore:
    """Keeps rows in lists."""

    def __init__(self, modules: list[str]):
        self.modules = modules
        self.batches: list[CapturedBatch] = []
        self.n_batches = self.n_rows = self.n_sequences = 0
        self.map_shape: tuple[int, ...] | None = None

    def append(self, batch: CapturedBatch) -> None:
        """Add the rows of the next batch."""
        if self.batches:
            first = _columns_of(self.batches[0])
            _check_like_first(_columns_of(batch), first, self.n_batches)
        shape = joined_shape(self.map_shape, batch.map_shape, self.n_batches)
        self.map_shape = shape
        sequence = batch.sequence + self.n_sequences
        self.batches.append(batch._replace(sequence=sequence))
        self.n_batches += 1
        self.n_rows += len(sequence)
        self.n_sequences += batch.n_sequences

    def columns(self) -> dict[str, Any]:
        """Return the arrays of a Capture, and drop those of the batches on the way."""
        batches, self.batches = self.batches, []
        columns: dict[str, Any] = {
            name: np.concatenate([getattr(batch, name) for batch in batches])
            for name in ("sequence", "position", "token_ids")
            if getattr(batches[0], name) is not None
        }
        columns["activations"] = {
            name: np.concatenate([batch.activations.pop(name) for batch in batches])
            for name in self.modules
        }
        return {**columns, "map_shape": self.map_shape}


class FolderStore:
    """Appends rows to the files of a folder; a context manager.

    Parameters
    ----------
    folder : Path
        A new folder, an empty one, or one with a capture of the same settings.
    settings : dict
        Settings that a capture must keep to be continued; plain JSON values.

    Raises
    ------
    ValueError
        If the folder holds anything else.
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
        if (folder / STATE_FILE).exists():
            self.state = read_state(folder)
            if self.n_batches > 0:
                self._check_settings(settings)
            else:
                # It ended before its first batch: another capture loses nothing.
                for name in self.state["columns"]:
                    (folder / file_name(name)).unlink(missing_ok=True)
                self.state = first_state(settings)
        elif any(path.name != f"{STATE_FILE}.tmp" for path in folder.iterdir()):
            raise ValueError(
                f"out={str(folder)!r} holds other files and no capture; name a new or "
                "an empty folder."
            )
        else:
            self.state = first_state(settings)
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
        # Also after an error, so that complete batches need not be run again.
        with self.closing:
            self._checkpoint()

    def append(self, batch: CapturedBatch, digest: str) -> None:
        """Write the rows of the next batch."""
        columns = _columns_of(batch)
        if not self.state["columns"]:
            self.state["columns"] = {
                name: [array.dtype.str, list(array.shape[1:])]
                for name, array in columns.items()
            }
            self._open()
        _check_like_first(columns, self.state["columns"], self.n_batches)
        before = self.state["map_shape"]
        before = None if before is None else tuple(before)
        shape = joined_shape(before, batch.map_shape, self.n_batches)
        columns["sequence"] = columns["sequence"] + self.n_sequences
        for name, array in columns.items():
            self.files[name].write(np.ascontiguousarray(array).view(np.uint8).data)
        # One assignment: an interruption leaves either none or all of the batch.
        self.state = {
            **self.state,
            "n_batches": self.n_batches + 1,
            "n_rows": self.n_rows + len(batch.sequence),
            "n_sequences": self.n_sequences + batch.n_sequences,
            "digest": digest,
            "map_shape": None if shape is None else list(shape),
            "complete": False,
        }
        if time.monotonic() - self.last >= _SECONDS_BETWEEN_CHECKPOINTS:
            self._checkpoint()

    def check_digest(self, digest: str) -> None:
        """Raise ValueError unless the batches so far are those of the folder."""
        if digest != self.digest:
            raise ValueError(
                f"out={str(self.folder)!r} holds a capture of other batches: its first "
                f"{self.n_batches} differ from those of this call; name another folder."
            )

    def check_rows(self, batch: CapturedBatch, tolerance: float) -> None:
        """Raise ValueError unless the model reproduces the rows of the last batch."""
        n_rows = len(batch.sequence)
        for name, array in _columns_of(batch).items():
            dtype, shape = self.state["columns"].get(name, (None, None))
            path = self.folder / file_name(name)
            is_same = dtype == array.dtype.str and shape == list(array.shape[1:])
            if is_same and n_rows <= self.n_rows and "." in name:
                offset = n_bytes_of_file(dtype, (self.n_rows - n_rows, *shape))
                stored = np.fromfile(path, dtype, array.size, offset=offset)
                error = np.linalg.norm(stored - array.ravel().astype(np.float64))
                is_same = error <= tolerance * np.linalg.norm(stored)
            if not is_same:
                raise ValueError(
                    f"out={str(self.folder)!r} holds the rows of another model: this "
                    f"one gives other rows for batch {self.n_batches - 1}; name "
                    "another folder."
                )

    def complete(self) -> None:
        """Mark the capture as complete."""
        self.state = {**self.state, "complete": True}

    def _check_settings(self, settings: dict[str, Any]) -> None:
        for key, value in settings.items():
            stored = self.state["settings"].get(key)
            if stored != value:
                # The setting of a model is a digest, which would not help a reader.
                other = "another model"
                if key != "model":
                    other = f"another capture, of {key}={stored!r} not {value!r}"
                raise ValueError(
                    f"out={str(self.folder)!r} holds the rows of {other}; name another "
                    "folder."
                )

    def _open(self) -> None:
        """Open all files behind their last complete row."""
        for name, (dtype, shape) in self.state["columns"].items():
            path = self.folder / file_name(name)
            path.touch()
            file = self.closing.enter_context(path.open("r+b"))
            n_bytes = n_bytes_of_file(dtype, (self.n_rows, *shape))
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
            file.seek(n_bytes_of_file(dtype, (self.n_rows, *shape)))
            file.flush()
            os.fsync(file.fileno())
        self._write_state()
        self.last = time.monotonic()

    def _write_state(self) -> None:
        with replacing(
            self.folder / STATE_FILE, self.folder / f"{STATE_FILE}.tmp"
        ) as file:
            file.write(json.dumps(self.state, indent=1).encode())


def digest_of(batch: Any, before: str) -> str:
    """Return a digest of a batch and of all batches before it."""
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


def _columns_of(batch: CapturedBatch) -> dict[str, np.ndarray]:
    columns = {
        f"activations.{i}": array for i, array in enumerate(batch.activations.values())
    }
    if batch.token_ids is not None:
        columns["token_ids"] = batch.token_ids
    return {**columns, "sequence": batch.sequence, "position": batch.position}


def _check_like_first(
    columns: dict[str, np.ndarray], first: dict[str, Any], number: int
) -> None:
    """Raise ValueError unless a batch has the columns of the first batch.

    `first` maps names to arrays, or to [dtype, shape of a row] as the state does.
    """
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
                f"batches must give rows of one width. Batch {number} has "
                f"{array.shape[1:]}, those before it {tuple(shape)}."
            )
