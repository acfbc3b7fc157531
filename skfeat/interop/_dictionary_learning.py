"""Reader of dictionary_learning: ``config.json`` and ``ae.pt``."""

from __future__ import annotations

import os

import numpy as np

from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder
from skfeat.interop._files import Tensors, read_json, reading
from skfeat.interop._fitted import NO_K, Weights, check_unit_norms
from skfeat.utils._checks import check_path

_LINEAR = {"encoder.weight": "md", "encoder.bias": "m", "decoder.weight": "dm"}
_MATRICES = {"W_enc": "dm", "b_enc": "m", "W_dec": "md", "b_dec": "d"}
_SHAPES = {
    "AutoEncoder": {**_LINEAR, "bias": "d"},
    "AutoEncoderNew": {**_LINEAR, "decoder.bias": "d"},
    "GatedAutoEncoder": {
        "encoder.weight": "md",
        "decoder.weight": "dm",
        "decoder_bias": "d",
        "r_mag": "m",
        "gate_bias": "m",
        "mag_bias": "m",
    },
    "JumpReluAutoEncoder": {**_MATRICES, "threshold": "m"},
    "AutoEncoderTopK": {**_LINEAR, "b_dec": "d"},
    "BatchTopKSAE": {**_LINEAR, "b_dec": "d", "threshold": ""},
    "MatryoshkaBatchTopKSAE": {**_MATRICES, "threshold": "", "group_sizes": "g"},
}
_ACTIVATIONS = {
    "GatedAutoEncoder": "gated",
    "JumpReluAutoEncoder": "jumprelu",
    "AutoEncoderTopK": "topk",
    "BatchTopKSAE": "batch_topk",
    "MatryoshkaBatchTopKSAE": "batch_topk",
}
_DECODER_BIASES = ("bias", "decoder.bias", "decoder_bias", "b_dec")

# The library sets rows to norm one after each update, in the precision of training.
_NORM_TOLERANCE = 0.02


def read_dictionary_learning(
    folder: str | os.PathLike[str],
    *,
    weights: str = "ae.pt",
    unit_norm: bool = False,
) -> SparseAutoencoder:
    """Read an autoencoder that dictionary_learning has trained.

    As in the library, batch top-k autoencoders encode rows by their trained threshold,
    and top-k autoencoders by their k.

    Parameters
    ----------
    folder : str or path
        The folder of the weights and of ``config.json``, which names the class.
    weights : str, default="ae.pt"
        The file of weights within `folder`, for example
        ``checkpoints/ae_1000.pt``; may also be a ``.safetensors`` file of the same
        tensors.
    unit_norm : bool, default=False
        Whether to scale the decoder rows to norm one, and the codes by the norms, as
        the library does when it loads an ``AutoEncoder``.

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

    Examples
    --------
    >>> import json, os, tempfile
    >>> import torch
    >>> from skfeat.interop import read_dictionary_learning
    >>> tensors = {
    ...     "bias": torch.ones(3), "decoder.weight": torch.eye(3, 5),
    ...     "encoder.weight": torch.eye(5, 3), "encoder.bias": torch.zeros(5),
    ... }
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save(tensors, os.path.join(folder, "ae.pt"))
    ...     with open(os.path.join(folder, "config.json"), "w") as file:
    ...         json.dump({"trainer": {"dict_class": "AutoEncoder"}}, file)
    ...     autoencoder = read_dictionary_learning(folder)
    >>> autoencoder.transform([[2.0, 0.5, 1.5]])
    array([[1. , 0. , 0.5, 0. , 0. ]])
    """
    with reading("dictionary_learning", folder, "folder", unit_norm=unit_norm) as path:
        config = read_json(path / "config.json")
        trainer = config.get("trainer")
        if not isinstance(trainer, dict) or "dict_class" not in trainer:
            raise ValueError("config.json names no dict_class of a trainer")
        kind = trainer["dict_class"]
        if kind not in list(_SHAPES):
            raise ValueError(
                f"its dict_class {kind!r} is none of those that a SparseAutoencoder "
                f"can express: {', '.join(_SHAPES)}"
            )
        tensors = Tensors.read(path / check_path("weights", weights))
        top_k = kind in ("AutoEncoderTopK", "BatchTopKSAE", "MatryoshkaBatchTopKSAE")
        arrays = tensors.arrays(
            _SHAPES[kind],
            sizes=_sizes(trainer),
            # Older releases stored k in the configuration alone.
            ignored=["k", "threshold"] if top_k else [],
        )
        is_linear = "encoder.weight" in arrays  # named as modules of torch
        read = Weights(
            encoder=arrays["encoder.weight"] if is_linear else arrays["W_enc"].T,
            decoder=arrays["decoder.weight"].T if is_linear else arrays["W_dec"],
            encoder_bias=_first_of(arrays, ("encoder.bias", "mag_bias", "b_enc")),
            decoder_bias=_first_of(arrays, _DECODER_BIASES),
            subtracts_bias=kind not in ("AutoEncoderNew", "JumpReluAutoEncoder"),
            activation=_ACTIVATIONS.get(kind, "relu"),
            k=_k(trainer, tensors) if top_k else None,
            metadata=config,
        )
        if kind == "GatedAutoEncoder":
            read.set_gates(arrays["gate_bias"], arrays["r_mag"])
        elif kind == "JumpReluAutoEncoder":
            read.threshold = arrays["threshold"]
        elif read.activation == "batch_topk":
            read.set_threshold(float(arrays["threshold"]))
        group_sizes = arrays.get("group_sizes")
        if group_sizes is not None and group_sizes.sum() != len(read.encoder):
            raise ValueError("its group_sizes do not add up to the number of features")
        if top_k:
            check_unit_norms(read.decoder, _NORM_TOLERANCE)
        return read.autoencoder(unit_norm=unit_norm)


def _sizes(trainer: dict) -> dict[str, int]:
    named = {"d": trainer.get("activation_dim"), "m": trainer.get("dict_size")}
    return {letter: size for letter, size in named.items() if type(size) is int}


def _first_of(arrays: dict[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray:
    return next(arrays[name] for name in names if name in arrays)


def _k(trainer: dict, tensors: Tensors) -> int:
    """Return the k of the configuration and of the weights, which must agree."""
    values = [trainer["k"]] if trainer.get("k") is not None else []
    if "k" in tensors:
        values.append(tensors.whole_number("k"))
    if not values:
        raise ValueError(NO_K)
    if values[0] != values[-1]:
        raise ValueError(
            f"its k is {values[0]!r} in config.json, but {values[1]} in the weights"
        )
    return values[0]
