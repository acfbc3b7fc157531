"""Hidden files and folders of which a killed process leaves none for long."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any
from uuid import uuid4

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None


@contextmanager
def temporary_path(
    folder: Path, purpose: str, make: Callable[[Path], Any]
) -> Iterator[Path]:
    """Yield a new hidden file or folder, and remove it at the end if it is still there.

    It is locked, and the system takes the locks of a killed process back. So what was
    made for the same purpose and is not locked was left over, and is removed first.

    Parameters
    ----------
    folder : Path
        Where it is made.
    purpose : str
        Any text, such as the name of the file that is to be written.
    make : callable
        Makes a file or a folder of the given name.
    """
    start = f".skfeat-{blake2b(os.fsencode(purpose), digest_size=8).hexdigest()}-"
    for found in folder.glob(f"{start}*.tmp"):
        with suppress(OSError), _locked(found) as is_locked:
            if is_locked:
                _remove(found)
    while True:
        path = folder / f"{start}{uuid4().hex}.tmp"
        with removed_at_end(path):
            make(path)
            with _locked(path) as is_locked:
                # Another call may have found it before it was locked.
                if is_locked is not False and os.path.lexists(path):
                    yield path
                    return


@contextmanager
def removed_at_end(path: Path) -> Iterator[Path]:
    """Yield a path, and remove what is there at the end."""
    try:
        yield path
    finally:
        with suppress(FileNotFoundError, NotADirectoryError):
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


@contextmanager
def _locked(path: Path) -> Iterator[bool | None]:
    """Lock a file or folder; yield False if others have it, None without locks."""
    if fcntl is None:
        yield None
        return
    try:
        number = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        yield _lock(number)
    finally:
        os.close(number)


def _lock(number: int) -> bool | None:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True
