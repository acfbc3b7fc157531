"""Reader of the tied autoencoders of HoagyC/sparse_coding, saved as tensors."""

from __future__ import annotations

import os

import numpy as np

from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder
from skfeat.interop._files import Tensors, reading
from skfeat.interop._fitted import Weights

_SHAPES = {
    "encoder": "md",
    "encoder_bias": "m",
    "center_trans": "d",
    "center_rot": "dd",
    "center_scale": "d",
}


def read_tied(
    path: str | os.PathLike[str], *, norm_encoder: bool = True
) -> SparseAutoencoder:
    """Read a tied autoencoder, whose decoder is its encoder with rows of norm one.

    These are the autoencoders of "Finding Sparse Linear Connections between Features in
    LLMs". They were published as pickled objects, which skfeat does not open. Convert
    them once, if you trust the code that wrote them ::

        sae = torch.load(path, weights_only=False)
        safetensors.torch.save_file(
            {"encoder": sae.encoder, "encoder_bias": sae.encoder_bias}, new_path
        )

    Parameters
    ----------
    path : str or path
        A ``.safetensors`` file, or a ``.pt`` file of a dict of tensors: ``encoder``
        (m, d) and ``encoder_bias`` (m,), and, if rows are centred, ``center_trans``
        (d,), ``center_rot`` (d, d) and ``center_scale`` (d,).
    norm_encoder : bool, default=True
        Whether the encoder's rows have norm one as well: the attribute of this name of
        the pickled object.

    Returns
    -------
    SparseAutoencoder
        Fitted, with tied weights if `norm_encoder`.

    Raises
    ------
    FileNotFoundError
        If the file is missing.
    ValueError
        If the file is damaged or holds something else.
    ImportError
        If safetensors is needed and not installed.

    Examples
    --------
    >>> import os, tempfile
    >>> import torch
    >>> from skfeat.interop import read_tied
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "tied.pt")
    ...     tensors = {"encoder": 4 * torch.eye(5, 3), "encoder_bias": torch.ones(5)}
    ...     torch.save(tensors, path)
    ...     autoencoder = read_tied(path)
    >>> autoencoder.transform([[2.0, -3.0, 0.5]])
    array([[3. , 0. , 1.5, 1. , 1. ]])
    """
    with reading("sparse_coding", path, "path", norm_encoder=norm_encoder) as file:
        centring = ("center_trans", "center_rot", "center_scale")
        arrays = Tensors.read(file).arrays(_SHAPES, optional=centring)
        encoder = arrays["encoder"]
        norms = np.linalg.norm(encoder.astype(np.float64), axis=1, keepdims=True)
        decoder = encoder / np.maximum(norms, 1e-8)
        if norm_encoder:
            encoder = decoder
        # The encoder takes R (x - t) * s. Both R and s are folded into the weights.
        scale = arrays.get("center_scale", np.ones(encoder.shape[1], np.float32))
        if not (scale > 0).all():
            raise ValueError("center_scale must be positive")
        if (scale != 1).any():
            encoder, decoder = encoder * scale, decoder / scale
        if "center_rot" in arrays:
            rotation = arrays["center_rot"].astype(np.float64)
            unit = np.eye(len(rotation))
            if not np.allclose(rotation @ rotation.T, unit, atol=1e-3):
                raise ValueError("center_rot must be a rotation")
            encoder, decoder = encoder @ rotation, decoder @ rotation
        dtype = arrays["encoder"].dtype
        read = Weights(
            encoder=encoder.astype(dtype),
            decoder=decoder.astype(dtype),
            encoder_bias=arrays["encoder_bias"],
            decoder_bias=arrays.get("center_trans", np.zeros(scale.shape, dtype)),
            subtracts_bias=True,
            activation="relu",
        )
        return read.autoencoder()
