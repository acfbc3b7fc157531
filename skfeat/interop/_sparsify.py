"""Reader of EleutherAI's sparsify: ``cfg.json`` and ``sae.safetensors``."""

from __future__ import annotations

import os
from pathlib import Path

from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder
from skfeat.interop._files import Tensors, read_json, reading
from skfeat.interop._fitted import Weights, check_unit_norms

_SHAPES = {"encoder.weight": "md", "encoder.bias": "m", "W_dec": "md", "b_dec": "d"}

# The library sets rows to norm one before each update, and saves them after it.
_NORM_TOLERANCE = 0.5


def read_sparsify(
    folder: str | os.PathLike[str], *, unit_norm: bool = False
) -> SparseAutoencoder:
    """Read a top-k autoencoder that sparsify has saved.

    Parameters
    ----------
    folder : str or path
        The folder of one hookpoint, with ``cfg.json`` and ``sae.safetensors``.
    unit_norm : bool, default=False
        Whether to scale the decoder rows to norm one, and the codes by the norms;
        possible only if all norms are equal, as the top k could change otherwise.

    Returns
    -------
    SparseAutoencoder
        Fitted, with the configuration as `metadata_`.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is damaged, or a `SparseAutoencoder` cannot express what it holds.
    ImportError
        If safetensors is not installed.

    Examples
    --------
    >>> import json, os, tempfile
    >>> import torch
    >>> from safetensors.torch import save_file
    >>> from skfeat.interop import read_sparsify
    >>> tensors = {
    ...     "encoder.weight": torch.eye(5, 3), "encoder.bias": torch.zeros(5),
    ...     "W_dec": torch.eye(5, 3), "b_dec": torch.ones(3),
    ... }
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_file(tensors, os.path.join(folder, "sae.safetensors"))
    ...     with open(os.path.join(folder, "cfg.json"), "w") as file:
    ...         json.dump({"d_in": 3, "num_latents": 5, "k": 1}, file)
    ...     autoencoder = read_sparsify(folder)
    >>> autoencoder.transform([[2.0, 3.0, 1.5]])
    array([[0., 2., 0., 0., 0.]])
    """
    with reading("sparsify", folder, "folder", unit_norm=unit_norm) as path:
        config = read_config_of_sparsify(path, "SparseAutoencoder")
        for key, what in {
            "transcode": "a transcoder; use read_sparsify_transcoder",
            "skip_connection": "an autoencoder with a skip connection",
        }.items():
            if config.get(key):
                raise ValueError(f"it is {what} ({key} is true)")
        tensors = Tensors.read(path / "sae.safetensors")
        arrays = tensors.arrays(_SHAPES, sizes=sizes_of(config))
        if config.get("normalize_decoder"):
            check_unit_norms(arrays["W_dec"], _NORM_TOLERANCE)
        read = Weights(
            encoder=arrays["encoder.weight"],
            decoder=arrays["W_dec"],
            encoder_bias=arrays["encoder.bias"],
            decoder_bias=arrays["b_dec"],
            subtracts_bias=True,
            activation="topk",
            k=config.get("k"),
            metadata=config,
        )
        return read.autoencoder(unit_norm=unit_norm)


def read_config_of_sparsify(
    path: Path, kind: str, what: str = "an autoencoder"
) -> dict:
    """Return the configuration of a folder.

    Parameters
    ----------
    path : pathlib.Path
        The folder of one hookpoint.
    kind : str
        The estimator that is to be made of it.
    what : str
        What the folder should hold.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, or such an estimator cannot express it.
    """
    config_path = path / "cfg.json"
    if not config_path.is_file():
        hookpoints = sorted(found.parent.name for found in path.glob("*/cfg.json"))
        if hookpoints:
            raise ValueError(f"name one of its hookpoints: {', '.join(hookpoints)}")
    config = read_json(config_path)
    if config.get("signed"):
        raise ValueError(
            f"it is {what} with codes below zero (signed is true), which a {kind} "
            "cannot express"
        )
    if config.get("activation", "topk") != "topk":
        raise ValueError(
            f"its activation must be 'topk', not {config['activation']!r}, which a "
            f"{kind} cannot express"
        )
    return config


def sizes_of(config: dict) -> dict[str, int]:
    """Return the sizes that a configuration states, by the letters of shapes."""
    d, m = config.get("d_in"), config.get("num_latents")
    if type(d) is not int:
        raise ValueError(f"d_in must be a whole number, not {d!r}")
    if not m and type(config.get("expansion_factor")) is int:
        m = d * config["expansion_factor"]
    return {"d": d, "m": m} if type(m) is int else {"d": d}
