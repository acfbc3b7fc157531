"""Reading named arrays from files of other libraries.

A file may come from anyone. No object is unpickled, and sizes that a file claims are
checked against its length before memory is allocated.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skfeat.network._file import _read_array
from skfeat.utils._checks import check_flag, check_path
from skfeat.utils._files import import_safetensors

_LARGEST_JSON = 2**24

# Largest ratio of an array's bytes to its file's, as weights hardly compress.
_LARGEST_INFLATION = 16


@contextmanager
def reading(
    library: str,
    path: str | os.PathLike[str],
    name: str,
    what: str = "an autoencoder",
    **flags: bool,
) -> Iterator[Path]:
    """Turn any error of reading a file into one sentence that names the file.

    Parameters
    ----------
    library : str
        The library that wrote the file.
    path : str or path
    name : str
        The reader's parameter that holds the path.
    what : str
        What the file should hold.
    **flags : bool
        Other parameters of the reader, which must be bools.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    ValueError
        If a file cannot be read, or a flag is not a bool.
    TypeError
        If `path` is not a path.
    """
    checked = check_path(name, path)
    for flag, value in flags.items():
        check_flag(flag, value)
    start = f"Cannot read {what} of {library} from {str(checked)!r}:"
    try:
        yield checked
    except FileNotFoundError as error:
        missing = error.filename or checked
        raise FileNotFoundError(f"{start} there is no {str(missing)!r}.") from None
    except ImportError:
        raise
    except Exception as error:  # a damaged file may raise any error
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{start} {reason[0].rstrip('.')}.") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds a JSON object."""
    if path.stat().st_size > _LARGEST_JSON:
        raise ValueError(f"{path.name} is too large for a configuration")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ValueError(f"{path.name} is not JSON") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    return values


class Tensors:
    """Named values of a file; each is checked only when it is read."""

    def __init__(self, values: Mapping[str, Any], n_bytes: int):
        self.values = dict(values)
        self.n_bytes = n_bytes

    @classmethod
    def read(cls, path: Path) -> Tensors:
        """Read a ``.safetensors``, ``.npz`` or ``.pt`` file, by its ending."""
        if path.is_dir():
            raise ValueError(f"{path.name!r} must be a file, but it is a folder")
        if not path.is_file():
            raise FileNotFoundError(None, None, str(path))
        readers = {
            ".safetensors": _read_safetensors,
            ".npz": _read_npz,
            ".pt": _read_torch,
            ".pth": _read_torch,
        }
        reader = readers.get(path.suffix)
        if reader is None:
            raise ValueError(f"{path.name} must end in {', '.join(readers)}")
        values = reader(path)
        if not isinstance(values, Mapping):
            raise ValueError(f"{path.name} holds no tensors by name")
        return cls({str(k): v for k, v in values.items()}, path.stat().st_size)

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def rename(self, names: dict[str, str]) -> None:
        """Rename values, unless there is a value of the new name."""
        for old, new in names.items():
            if old in self.values and new not in self.values:
                self.values[new] = self.values.pop(old)

    def arrays(
        self,
        shapes: dict[str, str],
        *,
        sizes: dict[str, int] | None = None,
        optional: Iterable[str] = (),
        ignored: Iterable[str] = (),
    ) -> dict[str, np.ndarray]:
        """Return all arrays, after checking names, shapes and numbers.

        Parameters
        ----------
        shapes : dict of str to str
            The required arrays, with one letter for each dimension: ``{"W_enc": "dm",
            "b_dec": "d"}``. A letter stands for the same size everywhere.
        sizes : dict of str to int, optional
            Sizes that letters must have.
        optional, ignored : iterable of str
            Names in `shapes` that may be missing; other names that the file may have.
        """
        optional = set(optional)
        self._check_names(shapes.keys() - optional, {*optional, *ignored})
        known = dict(sizes or {})
        arrays = {}
        for name, letters in shapes.items():
            if name in self.values:
                arrays[name] = array = self._array(name)
                if array.ndim == len(letters):
                    for letter, size in zip(letters, array.shape, strict=True):
                        known.setdefault(letter, size)
                expected = tuple(known.get(letter, "?") for letter in letters)
                if array.shape != expected or 0 in expected:
                    raise ValueError(
                        f"{name} has the shape {array.shape}, which must be "
                        f"{_shape_text(expected)}"
                    )
        return arrays

    def whole_number(self, name: str) -> int:
        """Return a scalar, which must be a whole number."""
        value = self._array(name)
        if value.shape != () or value.dtype.kind not in "iu":
            raise ValueError(f"{name} is not a whole number")
        return int(value)

    def _check_names(self, required: set[str], others: set[str]) -> None:
        if missing := sorted(required - self.values.keys()):
            raise ValueError(f"it has no {', '.join(map(repr, missing))}")
        if unknown := sorted(self.values.keys() - required - others):
            raise ValueError(f"it also has {', '.join(map(repr, unknown))}")

    def _array(self, name: str) -> np.ndarray:
        """Return a copy of an array as float64, float32 or int64."""
        value = self.values[name]
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value)
        is_plain = (
            type(value) in (torch.Tensor, torch.nn.Parameter)
            and value.layout == torch.strided
            and value.device.type == "cpu"
            and not (value.is_complex() or value.is_quantized)
        )
        if not is_plain:
            raise ValueError(f"{name!r} is not a plain tensor of real numbers")
        # With a stride of zero, a tensor may claim any size.
        if value.numel() * value.element_size() > _LARGEST_INFLATION * self.n_bytes:
            raise ValueError(f"{name!r} is larger than the file")
        if not value.is_floating_point():
            return value.detach().to(torch.int64).numpy().copy()
        dtype = torch.float64 if value.dtype == torch.float64 else torch.float32
        array = value.detach().to(dtype).numpy().copy()
        if not np.isfinite(array).all():
            raise ValueError(f"{name!r} has NaN or infinity")
        return array


def _shape_text(shape: tuple) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    safe_open = import_safetensors().safe_open
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors does not export its error class
        raise ValueError(
            f"{path.name} is not a complete safetensors file ({error})"
        ) from None


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with _checked_zip(path, _LARGEST_INFLATION) as archive:
        return {
            entry.filename.removesuffix(".npy"): _read_array(archive, entry)
            for entry in archive.infolist()
        }


def _read_torch(path: Path) -> Any:
    with _checked_zip(path, 1) as archive:
        sizes = {entry.file_size for entry in archive.infolist()}
        is_intact = archive.testzip() is None
    try:
        # Mapped, so that a tensor cannot reach beyond the file.
        values = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        is_intact = is_intact and _are_stored(values, sizes)
    except Exception:  # a damaged pickle may raise any error
        is_intact = False
    if not is_intact:
        raise ValueError(
            f"{path.name} is damaged or holds objects other than tensors, which skfeat "
            "never unpickles; convert it to safetensors with the library that wrote it"
        )
    return values


def _are_stored(values: Any, sizes: set[int]) -> bool:
    """Tell whether the storage of each tensor is one whole entry of the archive."""
    tensors = values.values() if isinstance(values, dict) else ()
    return all(
        tensor.untyped_storage().nbytes() in sizes
        for tensor in tensors
        if isinstance(tensor, torch.Tensor)
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
    )


@contextmanager
def _checked_zip(path: Path, inflation: int) -> Iterator[zipfile.ZipFile]:
    """Open a zip file, after checking that its entries are not far longer than it."""
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        raise ValueError(
            f"{path.name} is damaged or was not written by numpy.savez or by a current "
            "torch.save"
        ) from None
    with archive:
        sizes = [entry.file_size for entry in archive.infolist()]
        if sum(sizes) > inflation * path.stat().st_size:
            raise ValueError(f"{path.name} claims to hold more than it can")
        yield archive
