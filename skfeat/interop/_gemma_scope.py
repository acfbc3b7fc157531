"""Reader of Gemma Scope: ``params.npz``, or ``params.safetensors`` of release two."""

from __future__ import annotations

import os

from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder
from skfeat.interop._files import Tensors, read_json, reading
from skfeat.interop._fitted import Weights

_SHAPES = {
    "W_enc": "dm",
    "b_enc": "m",
    "W_dec": "md",
    "b_dec": "d",
    "threshold": "m",
}


def read_gemma_scope(
    path: str | os.PathLike[str], *, unit_norm: bool = False
) -> SparseAutoencoder:
    """Read a jump-ReLU autoencoder of Gemma Scope.

    The file of a transcoder of the first release whose output is as wide as its input
    cannot be told from that of an autoencoder.

    Parameters
    ----------
    path : str or path
        ``params.npz`` or ``params.safetensors``, or the folder that holds it. A
        ``config.json`` beside it must describe an autoencoder.
    unit_norm : bool, default=False
        Whether to scale the decoder rows to norm one, and the codes by the norms.

    Returns
    -------
    SparseAutoencoder
        Fitted, with the configuration, if there is one, as `metadata_`.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is damaged, or a `SparseAutoencoder` cannot express what it holds.
    ImportError
        If safetensors is needed and not installed.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from skfeat.interop import read_gemma_scope
    >>> encoder = np.eye(3, 5, dtype=np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(
    ...         os.path.join(folder, "params.npz"),
    ...         W_enc=encoder, W_dec=encoder.T, b_dec=np.ones(3, np.float32),
    ...         b_enc=np.zeros(5, np.float32), threshold=np.full(5, 0.5, np.float32),
    ...     )
    ...     autoencoder = read_gemma_scope(folder)
    >>> autoencoder.transform([[2.0, 0.4, 1.0]])
    array([[2., 0., 1., 0., 0.]])
    """
    with reading("Gemma Scope", path, "path", unit_norm=unit_norm) as file:
        if file.is_dir():
            named = file / "params.safetensors"
            file = named if named.is_file() else file / "params.npz"
        beside = file.parent / "config.json"
        config = read_json(beside) if beside.is_file() else {}
        kind = config.get("architecture", "jump_relu")
        if kind != "jump_relu":
            raise ValueError(
                f"its architecture is {kind!r}, which a SparseAutoencoder cannot "
                "express"
            )
        if config.get("hf_hook_point_out"):
            raise ValueError(
                "it is a transcoder (it has a hf_hook_point_out), which a "
                "SparseAutoencoder cannot express"
            )
        tensors = Tensors.read(file)
        if "affine_skip_connection" in tensors:
            raise ValueError(
                "it is a transcoder with an affine_skip_connection, which a "
                "SparseAutoencoder cannot express"
            )
        tensors.rename({"w_enc": "W_enc", "w_dec": "W_dec"})
        arrays = tensors.arrays(_SHAPES)
        read = Weights(
            encoder=arrays["W_enc"].T,
            decoder=arrays["W_dec"],
            encoder_bias=arrays["b_enc"],
            decoder_bias=arrays["b_dec"],
            subtracts_bias=False,
            activation="jumprelu",
            threshold=arrays["threshold"],
            metadata=config,
        )
        return read.autoencoder(unit_norm=unit_norm)
