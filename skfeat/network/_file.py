"""The file of a SparseFeatureNetwork: one ``.npz`` of plain arrays.

A file may come from anyone. Its arrays are stored uncompressed and no header is
believed before its size is known to be there, so that reading a file never takes more
memory than a small multiple of its length; no object array is ever unpickled.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from typing import Any, BinaryIO

import numpy as np
from scipy import sparse

from skfeat import _version
from skfeat.activations import Activation, JumpReLU, ReLU, TopK
from skfeat.chain import Chain
from skfeat.network._arrays import NetworkArrays, names_and_classes
from skfeat.utils._files import check_writable, replacing

_FORMAT, MAP_FORMAT = "skfeat.SparseFeatureNetwork", "skfeat.SparseMapNetwork"
# The class that reads each format.
_FORMATS = {_FORMAT: "SparseFeatureNetwork", MAP_FORMAT: "SparseMapNetwork"}
_VERSION = 1

_FIELDS = {"links", "layer_names", "feature_names", "activation", "k", "front", "back"}
_ENDS = ("encoder_coef", "decoder_coef")  # dense, or sparse as the connectors are
_DENSE = ("encoder_intercept", "encoder_bias", "decoder_intercept")
CSR = ("data", "indices", "indptr")
# What a file of the first format has not: labels of a classifier, and names.
_OPTIONAL = ("input_names", "output_names", "decision_rule")
_LABELS = "biufU"
_DTYPES = tuple(map(np.dtype, ("<f4", "<f8", "<i4", "<i8", "u1")))


def write(network: NetworkArrays, path: str | os.PathLike[str]) -> None:
    """Write a network; the file appears under its name only once it is whole."""
    header, arrays = named_header(network, _FORMAT)
    header |= {
        "activation": network.activation.name,
        "k": int(network.activation.k)
        if isinstance(network.activation, TopK)
        else None,
        "n_groups": int(getattr(network.activation, "n_groups", 1)),
        "links": network.links,
        "layer_names": network.layer_names_,
        "feature_names": network.feature_names_,
    }
    arrays |= {name: getattr(network, f"{name}_") for name in _DENSE}
    if isinstance(network.activation, JumpReLU):
        arrays["threshold"] = network.activation.threshold
    matrices = {name: getattr(network, f"{name}_") for name in _ENDS}
    for i, coef in enumerate(network.coefs_):
        arrays[f"intercepts.{i}"] = network.intercepts_[i]
        matrices[f"coefs.{i}"] = coef
    for name, matrix in matrices.items():
        if sparse.issparse(matrix):
            arrays |= {f"{name}.{part}": getattr(matrix, part) for part in CSR}
        else:
            arrays[name] = matrix
    for name, chain in {"front": network.front, "back": network.back}.items():
        chain_arrays, header[name] = chain.to_arrays()
        arrays |= {f"{name}.{key}": array for key, array in chain_arrays.items()}
    write_arrays(path, header, arrays)


def named_header(
    network: NetworkArrays, file_format: str
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and the arrays of what inputs and outputs are called."""
    header: dict[str, Any] = {
        "format": file_format,
        "version": _VERSION,
        "skfeat": _version.__version__,
    }
    arrays = {}
    named = names_and_classes(network)
    classes = named.pop("classes")
    header |= named
    if classes is not None and classes.dtype.kind in _LABELS:
        arrays["classes"] = classes
    elif classes is not None:
        header["classes"] = _plain_labels(classes)
    return header, arrays


def write_arrays(
    path: str | os.PathLike[str], header: dict[str, Any], arrays: dict[str, np.ndarray]
) -> None:
    """Write a header and arrays to one file."""
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    path = check_writable(path)
    with replacing(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read_parts(
    file: BinaryIO, file_format: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read the arrays and the header of a file of a format."""
    arrays = _read_arrays(file)
    if "header" not in arrays:
        raise ValueError("it has no header.")
    header = json.loads(arrays.pop("header").tobytes())
    found = header.get("format") if isinstance(header, dict) else None
    if found in _FORMATS and found != file_format:
        raise ValueError(f"it holds a {_FORMATS[found]}; use {_FORMATS[found]}.load.")
    if found != file_format:
        raise ValueError(f"its header does not name the format {file_format}.")
    version = header.get("version")
    if version != _VERSION:
        raise ValueError(
            f"it has the format version {version!r} and was written by skfeat "
            f"{header.get('skfeat')}; this skfeat {_version.__version__} reads the "
            f"format version {_VERSION}."
        )
    return arrays, header


def read_names(arrays: dict[str, np.ndarray], header: dict[str, Any]) -> dict[str, Any]:
    """Read what inputs and outputs are called, and the classes."""
    names = {key: header[key] for key in _OPTIONAL if key in header}
    return names | {"classes": _classes(arrays, header)}


def read_chain_of(
    arrays: dict[str, np.ndarray], header: dict[str, Any], name: str
) -> Chain:
    """Read a chain, and take its arrays out."""
    own = [key for key in arrays if key.startswith(f"{name}.")]
    parts = {key.removeprefix(f"{name}."): arrays.pop(key) for key in own}
    return Chain.from_arrays(parts, header[name])


def read(file: BinaryIO) -> dict[str, Any]:
    """Read the constructor's parameters; a broken file may raise any exception."""
    arrays, header = read_parts(file, _FORMAT)
    if missing := _FIELDS - header.keys():
        raise ValueError(f"its header has no {min(missing)!r}.")
    activation = read_activation(arrays, header)
    names = read_names(arrays, header)
    chains = {name: read_chain_of(arrays, header, name) for name in ("front", "back")}
    n_connectors = len(header["links"])
    sparse_ends = [name for name in _ENDS if f"{name}.data" in arrays]
    in_parts = [*sparse_ends, *(f"coefs.{i}" for i in range(n_connectors))]
    expected = {*_DENSE, *(f"intercepts.{i}" for i in range(n_connectors))}
    expected |= set(_ENDS) - set(sparse_ends)
    expected |= {f"{name}.{part}" for name in in_parts for part in CSR}
    if differ := expected ^ arrays.keys():
        trouble = "no" if min(differ) in expected else "an unknown"
        raise ValueError(f"it has {trouble} array {min(differ)!r}.")

    intercepts = [arrays[f"intercepts.{i}"] for i in range(n_connectors)]
    widths = [arrays["encoder_intercept"].size, *map(np.size, intercepts)]
    shapes = {
        "encoder_coef": (widths[0], arrays["encoder_bias"].size),
        "decoder_coef": (widths[-1], arrays["decoder_intercept"].size),
    }
    ends = {
        name: read_csr(arrays, name, shapes[name])
        if name in sparse_ends
        else arrays[name]
        for name in _ENDS
    }
    return {
        **chains,
        **ends,
        **{name: arrays[name] for name in _DENSE},
        "activation": activation,
        "coefs": [
            read_csr(arrays, f"coefs.{i}", (widths[i + 1], widths[i]))
            for i in range(n_connectors)
        ],
        "intercepts": intercepts,
        **{key: header[key] for key in ("links", "layer_names", "feature_names")},
        **names,
    }


def read_activation(
    arrays: dict[str, np.ndarray], header: dict[str, Any]
) -> Activation:
    name = header["activation"]
    if name == "jumprelu":
        if "threshold" not in arrays:
            raise ValueError("it has no array 'threshold'.")
        return JumpReLU(arrays.pop("threshold"))
    if name == "topk":
        return TopK(header["k"], header.get("n_groups", 1))
    if name != "relu":
        raise ValueError(f"its activation {name!r} is unknown.")
    return ReLU()


def _plain_labels(classes: np.ndarray) -> list:
    """Return the labels of an array of objects, if a file can have them."""
    labels = [v.item() if isinstance(v, np.generic) else v for v in classes.tolist()]
    if other := [v for v in labels if not isinstance(v, str | int | float)]:
        raise ValueError(
            f"classes_ must be strings, numbers or bools to be written to a file. Got "
            f"{other[0]!r} instead."
        )
    return labels


def _classes(arrays: dict[str, np.ndarray], header: dict[str, Any]) -> Any:
    """Return the labels of a classifier, or None."""
    if "classes" in arrays or "classes" not in header:
        return arrays.pop("classes", None)
    labels = header["classes"]
    # Of their own: an array of text has the room of its longest one for each.
    classes = np.empty(len(labels), dtype=object)
    classes[:] = _plain_labels(np.array(labels, dtype=object))
    return classes


def _read_arrays(file: BinaryIO) -> dict[str, np.ndarray]:
    size = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        # Entries of a hostile archive may overlap.
        if not stored or sum(entry.file_size for entry in entries) > size:
            raise ValueError("its arrays are compressed, or larger than the file.")
        return {
            entry.filename.removesuffix(".npy"): _read_array(archive, entry)
            for entry in entries
        }


def _read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(entry) as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError(f"{entry.filename} is of an unknown .npy version.")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        is_label = entry.filename == "classes.npy" and dtype.kind in _LABELS
        if dtype not in _DTYPES and not is_label:
            raise ValueError(f"{entry.filename} holds {dtype}, not plain numbers.")
        n_bytes = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or n_bytes != entry.file_size - stream.tell():
            raise ValueError(f"{entry.filename} is not as long as its shape {shape}.")
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False)


def read_csr(
    arrays: dict[str, np.ndarray], name: str, shape: tuple[int, int]
) -> sparse.csr_array:
    data, indices, indptr = (arrays[f"{name}.{part}"] for part in CSR)
    if indices.dtype.kind != "i" or indptr.dtype.kind != "i":
        raise ValueError(f"the indices of {name} are not integers.")
    coef = sparse.csr_array((data, indices, indptr), shape=shape)
    coef.check_format(full_check=True)
    return coef
