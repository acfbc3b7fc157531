"""One file from which a long fit resumes, whenever it was stopped.

The file is safetensors: arrays, and one JSON text in the metadata. A new one takes the
place of the last at once, so that a killed fit always leaves a whole one; its
digest detects damage that leaves the format valid. Nothing in it is executed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from skfeat import _version
from skfeat.utils._files import import_safetensors, replacing
from skfeat.utils._rows import ComputedRows, mapped_file, release
from skfeat.utils._warnings import warn

_FORMAT = "skfeat.checkpoint"
_VERSION = "1"

# Work that may be lost when the process is killed, and the share of the time that
# writing may take: large models are written less often.
_SECONDS_BETWEEN_WRITES = 60.0
_LARGEST_SHARE = 0.01

# Rows that a digest of data looks at: all of them up to so many runs of this size.
_RUN_BYTES = 2**20
_RUNS = 64

_DTYPES = {"f4": "F32", "f8": "F64", "i4": "I32", "i8": "I64", "u1": "U8"}
_DIGEST = "digest "
# What differs in any case where another setting does, and need not be named beside it.
_FOLLOWS = {"X": "shape of X", "sample_weight": "shape of X", "y": "shape of y"}
_REMEDY = "Name another file, or delete this one to start anew."


class CheckpointFile:
    """The checkpoint of one fit; a context manager that keeps other fits off.

    Parameters
    ----------
    path : str or path
        The file, or an existing folder, in which the fit gets a file of its own.
    kind : str
        What is fitted.
    settings : dict
        What must be the same for a fit to go on; plain JSON values and digests.

    Raises
    ------
    ValueError
        If the path cannot be that of a checkpoint.
    ImportError
        If safetensors is not installed.
    """

    def __init__(
        self, path: str | os.PathLike[str], kind: str, settings: dict[str, Any]
    ):
        import_safetensors()
        settings = {"fit": kind, "skfeat": _version.__version__, **settings}
        self.settings = json.loads(json.dumps(settings))
        given = Path(os.fsdecode(path))
        if given.is_dir() and os.fsdecode(path):
            given /= f"{kind}-{digest_of(self.settings, size=8)}.safetensors"
        self.name = f"checkpoint={str(given) if os.fsdecode(path) else ''!r}"
        if given.suffix != ".safetensors":
            raise ValueError(
                f"{self.name} must end in .safetensors, or be an existing folder."
            )
        # A link stays, and leads to the file.
        self.path = Path(os.path.realpath(given))
        if self.path.exists() and not self.path.is_file():
            raise ValueError(f"{self.name} is neither a regular file nor a folder.")
        if not self.path.parent.is_dir():
            raise ValueError(f"{self.name} lies in a folder that does not exist.")
        self.last_write = time.monotonic()
        self.seconds_to_write = 0.0

    def __enter__(self) -> CheckpointFile:
        with ExitStack() as closing:
            lock = self.path.with_name(f"{self.path.name}.lock")
            closing.enter_context(_locked(lock, self.name))
            # What a killed process was writing.
            self._temporary.unlink(missing_ok=True)
            self.closing = closing.pop_all()
        return self

    def __exit__(self, *error) -> None:
        self.closing.close()

    @property
    def _temporary(self) -> Path:
        return self.path.with_name(f"{self.path.name}.tmp")

    def load(self) -> dict[str, Any] | None:
        """Return what was saved last, or None where there is no file.

        Raises
        ------
        ValueError
            If the file is damaged, is no checkpoint, or is one of another fit.
        """
        if not os.path.lexists(self.path):
            return None
        with self.reading():
            settings, content = _read(self.path)
        if settings != self.settings:
            differences = ", ".join(_differences(settings, self.settings))
            raise ValueError(f"{self.name} holds another fit: {differences}. {_REMEDY}")
        return content

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turn whatever is wrong with what was read into one sentence."""
        try:
            yield
        except PermissionError:
            raise
        except Exception as error:  # a broken file may raise anything
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise ValueError(
                f"{self.name} cannot be read: {reason[0].rstrip('.')}. It is damaged "
                f"or no checkpoint of this skfeat. {_REMEDY}"
            ) from error

    @property
    def is_due(self) -> bool:
        """Whether it is time to save."""
        wait = max(_SECONDS_BETWEEN_WRITES, self.seconds_to_write / _LARGEST_SHARE)
        return time.monotonic() - self.last_write >= wait

    def save(self, content: dict[str, Any]) -> None:
        """Write dicts and lists of arrays, numbers and strings in place of the last.

        Raises
        ------
        OSError
            If the file cannot be written; the last one stays as it is.
        """
        start = time.monotonic()
        try:
            with replacing(self.path, self._temporary) as file:
                _write(file, self.settings, content)
        except OSError as error:
            kept = " The one written before is kept, and fit goes on from it."
            raise OSError(
                error.errno,
                f"{self.name} cannot be written ({error.strerror})."
                f"{kept if self.path.exists() else ''}",
            ) from error
        self.last_write = time.monotonic()
        self.seconds_to_write = self.last_write - start


def digest_of(value: Any, size: int = 16) -> str:
    """Digest what `CheckpointFile.save` takes."""
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_pack(value, "", arrays), sort_keys=True)
    return _digest(text, arrays, size)


def as_setting(digest: str) -> str:
    """Return a digest as a setting, of which an error says only that it differs."""
    return _DIGEST + digest


def digest_of_rows(X: np.ndarray | ComputedRows) -> str:
    """Digest rows from all over X: all of up to 64 MiB, evenly spread runs of more.

    Of computed rows, those that they are computed from, and how.
    """
    if isinstance(X, ComputedRows):
        return digest_of([X.key, digest_of_rows(X.source)])
    digest = blake2b(f"{X.dtype.str}{X.shape}".encode(), digest_size=16)
    size = max(1, _RUN_BYTES // max(1, X[:1].nbytes))
    starts = np.arange(0, len(X), size)
    if len(starts) > _RUNS:
        starts = starts[np.linspace(0, len(starts) - 1, _RUNS).astype(np.int64)]
    for start in starts:
        digest.update(np.ascontiguousarray(X[start : start + size]).data)
        release(mapped_file(X))
    return digest.hexdigest()


def _differences(held: dict, given: dict) -> Iterator[str]:
    for key in {**given, **held}:
        one, other = held.get(key), given.get(key)
        cause = _FOLLOWS.get(key)
        if one == other or held.get(cause) != given.get(cause):
            continue
        if any(isinstance(value, str) and _DIGEST in value for value in (one, other)):
            yield f"{key} differs"
        else:
            yield f"{key} is {one!r} there and {other!r} here"


def _digest(text: str, arrays: dict[str, np.ndarray], size: int = 16) -> str:
    digest = blake2b(text.encode(), digest_size=size)
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}{array.dtype.str}{array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _pack(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Return a value as JSON, with the names of its arrays in their places."""
    if isinstance(value, np.ndarray):
        little = value.dtype.newbyteorder("<")
        arrays[name] = value.astype(little, order="C", copy=False)
        return {"array": name}
    if isinstance(value, dict):
        packed = {
            key: _pack(part, f"{name}.{key}".lstrip("."), arrays)
            for key, part in value.items()
        }
        return {"dict": packed}
    if isinstance(value, (list, tuple)):
        return [_pack(part, f"{name}.{i}", arrays) for i, part in enumerate(value)]
    return value


def _unpack(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_unpack(part, arrays) for part in value]
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    return {key: _unpack(part, arrays) for key, part in value["dict"].items()}


def _write(file: BinaryIO, settings: dict, content: dict) -> None:
    """Write safetensors array by array.

    Its own library makes a copy of everything first, and hides the error of a full disk
    in one of its own.
    """
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps({"settings": settings, "content": _pack(content, "", arrays)})
    header: dict[str, Any] = {
        "__metadata__": {
            "format": _FORMAT,
            "version": _VERSION,
            "digest": _digest(text, arrays),
            "json": text,
        }
    }
    end = 0
    # The widest first: each begins at a multiple of its items' size.
    names = sorted(arrays, key=lambda name: -arrays[name].itemsize)
    for name in names:
        array = arrays[name]
        start, end = end, end + array.nbytes
        header[name] = {
            "dtype": _DTYPES[array.dtype.str[1:]],
            "shape": array.shape,
            "data_offsets": [start, end],
        }
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    file.write(len(encoded).to_bytes(8, "little"))
    file.write(encoded)
    for name in names:
        file.write(arrays[name].data)


def _read(path: Path) -> tuple[dict, dict]:
    with import_safetensors().safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != _FORMAT:
            raise ValueError(f"its format is not {_FORMAT}")
        if metadata["version"] != _VERSION:
            raise ValueError(f"its format has the version {metadata['version']}")
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if _digest(metadata["json"], arrays) != metadata["digest"]:
        raise ValueError("its digest is not that of its content")
    saved = json.loads(metadata["json"])
    return saved["settings"], _unpack(saved["content"], arrays)


@contextmanager
def _locked(path: Path, name: str) -> Iterator[None]:
    """Hold a file against other fits; the system frees what a killed process held."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    while True:
        file = open(path, "ab")  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise BlockingIOError(
                f"{name} is in use by another fit, in this process or another; let it "
                f"end, or name another file."
            ) from None
        except OSError as error:
            warn(
                f"{name} lies on a file system without locks ({error.strerror}): take "
                f"care that no two fits use it at once.",
            )
        if _is_at(file, path):
            break
        # Another fit has ended and taken its file away since we opened it.
        file.close()
    with file:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
