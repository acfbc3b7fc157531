"""The file of a SparseMapNetwork: one ``.npz`` of its shared weights."""

from __future__ import annotations

import os
from typing import Any, BinaryIO

from scipy import sparse

from skfeat.activations import JumpReLU, TopK
from skfeat.maps._reads import Reads
from skfeat.network import _file

_DENSE = ("encoder_intercept", "encoder_bias", "decoder_intercept")
_ENDS = ("encoder_coef", "decoder_coef")
_PLAIN = ("links", "layer_names", "map_shapes", "input_shape")


def write(network: Any, path: str | os.PathLike[str]) -> None:
    """Write a network; the file appears under its name only once it is whole."""
    activation = network.shared_activation
    header, arrays = _file.named_header(network, _file.MAP_FORMAT)
    ends = network.reads_in, network.reads_out
    header |= {
        "activation": activation.name,
        "k": int(activation.k) if isinstance(activation, TopK) else None,
        "links": network.links,
        "layer_names": network.layer_names_,
        "map_shapes": network.map_shapes,
        "input_shape": network.input_shape,
        "reads": [reads.settings() for reads in network.reads],
        "ends": [None if reads is None else reads.settings() for reads in ends],
        "shapes": {},
    }
    if isinstance(activation, JumpReLU):
        arrays["threshold"] = activation.threshold
    for name in _DENSE:
        arrays[name] = getattr(network, f"shared_{name}_")
    matrices = {name: getattr(network, f"shared_{name}_") for name in _ENDS}
    for i, coef in enumerate(network.shared_coefs_):
        arrays[f"intercepts.{i}"] = network.shared_intercepts_[i]
        matrices[f"coefs.{i}"] = coef
    for name, matrix in matrices.items():
        if sparse.issparse(matrix):
            arrays |= {f"{name}.{part}": getattr(matrix, part) for part in _file.CSR}
            header["shapes"][name] = [int(size) for size in matrix.shape]
        else:
            arrays[name] = matrix
    for name, chain in {"front": network.front, "back": network.back}.items():
        chain_arrays, header[name] = chain.to_arrays()
        arrays |= {f"{name}.{key}": array for key, array in chain_arrays.items()}
    _file.write_arrays(path, header, arrays)


def read(file: BinaryIO) -> dict[str, Any]:
    """Read the constructor's parameters; a broken file may raise any exception."""
    arrays, header = _file.read_parts(file, _file.MAP_FORMAT)
    found: dict[str, Any] = {name: header[name] for name in _PLAIN}
    found |= _file.read_names(arrays, header)
    found["activation"] = _file.read_activation(arrays, header)
    for name in ("front", "back"):
        found[name] = _file.read_chain_of(arrays, header, name)
    found["reads"] = [Reads.from_settings(own) for own in header["reads"]]
    for name, own in zip(("reads_in", "reads_out"), header["ends"], strict=True):
        found[name] = None if own is None else Reads.from_settings(own)
    for name in _DENSE:
        found[name] = arrays[name]

    def matrix(name: str) -> Any:
        if name in arrays:
            return arrays[name]
        n_rows, n_columns = header["shapes"][name]
        return _file.read_csr(arrays, name, (n_rows, n_columns))

    for name in _ENDS:
        found[name] = matrix(name)
    n_connectors = len(header["links"])
    found["coefs"] = [matrix(f"coefs.{i}") for i in range(n_connectors)]
    found["intercepts"] = [arrays[f"intercepts.{i}"] for i in range(n_connectors)]
    return found
