"""Files that are whole whenever they are there, and the one format that is optional."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from skfeat.utils._checks import check_path
from skfeat.utils._interrupts import interrupts_held
from skfeat.utils._temporary import removed_at_end, temporary_path

NPY_HEADER_BYTES = 128


@contextmanager
def replacing(
    path: Path, temporary: Path | None = None, *, exclusive: bool = False
) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of `path` once it is written whole.

    Until then, and if anything fails, `path` stays as it is. It is on the disk before
    it gets its name: a machine that stops leaves the file before it or this one.

    Parameters
    ----------
    path : Path
    temporary : Path, default=None
        The name that it has until then, in the same folder; ``None``: a hidden one,
        which the next write to `path` removes if this process is killed.
    exclusive : bool, default=False
        Raise FileExistsError rather than take the place of a file.

    Raises
    ------
    OSError
        If the file cannot be written; it names `path`.
    """
    if temporary is None:
        made = temporary_path(path.parent, path.name, Path.touch)
    else:
        made = removed_at_end(temporary)
    try:
        with made as hidden:
            with open(hidden, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if exclusive:
                _give_name(hidden, path)
            else:
                os.replace(hidden, path)
    except OSError as error:
        # The message is to name the user's path, not the temporary one.
        if not _is_temporary(error.filename, path.parent):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    _write_entries(path.parent)


def _is_temporary(name: Any, folder: Path) -> bool:
    return str(name).endswith(".tmp") and Path(name).parent == folder


@contextmanager
def replacing_folder(folder: Path, names: tuple[str, ...]) -> Iterator[Path]:
    """Yield a folder whose files take the place of those of `folder` once it is full.

    Until then, and if anything fails, those of `folder` stay as they are. A process
    that is killed leaves the files before, the new ones, or a folder without the first
    of `names`, but never some of both.

    Parameters
    ----------
    folder : Path
        Made if it does not exist.
    names : tuple of str
        The files that such a folder may hold. No reader takes a folder without the
        first of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with temporary_path(folder, "", Path.mkdir) as made:
        yield made
        written = [name for name in names if (made / name).exists()]
        for name in written:
            _write_to_disk(made / name)
        with interrupts_held():
            _exchange(folder, made, names, written)
    _write_entries(folder)


def _exchange(
    folder: Path, made: Path, names: tuple[str, ...], written: list[str]
) -> None:
    """Move files out of a folder, and those that were written into it."""
    try:
        # Moved and not deleted, which takes far longer.
        for name in names:
            _move(folder / name, made / f"{name}.before")
        for name in reversed(written):
            _move(made / name, folder / name)
    except BaseException:
        # Where the files are tells which moves were made.
        for name in written:
            if not (made / name).exists():
                _move(folder / name, made / name)
        for name in reversed(names):
            _move(made / f"{name}.before", folder / name)
        raise


def _move(source: Path, target: Path) -> None:
    """Move a file, if it is there."""
    with suppress(FileNotFoundError):
        os.replace(source, target)


def _write_to_disk(path: Path) -> None:
    """Write what the system still holds of a file to the disk."""
    # Windows flushes only what is open for writing.
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _write_entries(folder: Path) -> None:
    """Write the names in a folder to the disk, where the file system supports that."""
    if os.name == "posix":
        entries = os.open(folder, os.O_RDONLY)
        with suppress(OSError):
            os.fsync(entries)
        os.close(entries)


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
