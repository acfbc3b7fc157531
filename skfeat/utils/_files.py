"""Files that are whole whenever they are there, and the one format that is optional."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from skfeat.utils._checks import check_path

NPY_HEADER_BYTES = 128


@contextmanager
def replacing(
    path: Path, temporary: Path, *, exclusive: bool = False
) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of `path` once it is written whole.

    Until then, and if anything fails, `path` stays as it is. It is on the disk before
    it gets its name: a machine that stops leaves the file before it or this one.

    Parameters
    ----------
    path : Path
    temporary : Path
        The name that it has until then, in the same folder.
    exclusive : bool, default=False
        Raise FileExistsError rather than take the place of a file.

    Raises
    ------
    OSError
        If the file cannot be written; it names `path`.
    """
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if exclusive:
            _give_name(temporary, path)
        else:
            os.replace(temporary, path)
    except OSError as error:
        # The message is to name the user's path, not the temporary one.
        if error.errno is None or error.filename != os.fspath(temporary):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    finally:
        with suppress(FileNotFoundError, NotADirectoryError):
            temporary.unlink()
    if os.name == "posix":
        # The folder's entry too; some file systems do not support that.
        folder = os.open(path.parent, os.O_RDONLY)
        with suppress(OSError):
            os.fsync(folder)
        os.close(folder)


def check_writable(given: Any) -> Path:
    """Return where a file shall be written, if its folder is there and it is none.

    Raises
    ------
    TypeError
        If it is no path.
    OSError
        IsADirectoryError or FileNotFoundError, in a sentence.
    """
    path = check_path("path", given)
    if path.is_dir():
        raise IsADirectoryError(
            f"path must name a file to write. Got the folder {os.fspath(path)!r} "
            f"instead."
        )
    if not path.parent.exists():
        raise FileNotFoundError(
            f"path must be a file in a folder that exists. Got {os.fspath(path)!r} "
            f"instead."
        )
    return path


def npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Return the start of a .npy file, of the same length for any number of rows."""
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}"
    length = NPY_HEADER_BYTES - 10
    padded = text.ljust(length - 1).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + padded


def _give_name(temporary: Path, path: Path) -> None:
    """Rename a file, but not over another one."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise FileExistsError(
            f"path={str(path)!r} was written by another call meanwhile."
        ) from None
    except OSError:
        # A file system without links: another call may write in between.
        if path.exists():
            raise
        os.replace(temporary, path)


def import_safetensors() -> Any:
    """Import safetensors, which is optional."""
    try:
        import safetensors.numpy
        import safetensors.torch
    except ImportError:
        raise ImportError(
            "Files of the safetensors format need the package safetensors: pip install "
            "'skfeat[interop]'."
        ) from None
    return safetensors
