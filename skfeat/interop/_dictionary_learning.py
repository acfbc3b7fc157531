"""dictionary_learning: ``config.json`` and ``ae.pt``."""

from __future__ import annotations

import os

from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder
from skfeat.interop._files import Tensors, read_json, reading
from skfeat.interop._fitted import Weights, check_unit_norms
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

# The rows are set to norm one after each update, in whatever precision it has.
_NORM_TOLERANCE = 0.02


def read_dictionary_learning(
    folder: str | os.PathLike[str],
    *,
    weights: str = "ae.pt",
    unit_norm: bool = False,
) -> SparseAutoencoder:
    """Read an autoencoder that dictionary_learning has trained.

    Batch top-k ones code rows by their learnt threshold, as the library does; top-k
    ones by their k.

    Parameters
    ----------
    folder : str or path
        Holds ``config.json``, which names the class, and the weights.
    weights : str, default="ae.pt"
        The file of weights within `folder`, for example
        ``checkpoints/ae_1000.pt``; may also be a ``.safetensors`` file of the same
        tensors.
    unit_norm : bool, default=False
        Scale the decoder rows to norm one and the codes by their norms, which the
        library does when it loads an ``AutoEncoder``.

    Returns
    -------
    SparseAutoencoder
        Fitted, with the configuration as `metadata_`.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is damaged or holds what a `SparseAutoencoder` cannot express.

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
            # Older releases kept k in the configuration alone.
            ignored=["k", "threshold"] if top_k else [],
        )
        linear = "encoder.weight" in arrays
        found = Weights(
            encoder=arrays["encoder.weight"] if linear else arrays["W_enc"].T,
            decoder=arrays["decoder.weight"].T if linear else arrays["W_dec"],
            encoder_bias=_first(arrays, "encoder.bias", "mag_bias", "b_enc"),
            decoder_bias=_first(arrays, *_DECODER_BIASES),
            subtracts_bias=kind not in ("AutoEncoderNew", "JumpReluAutoEncoder"),
            activation=_ACTIVATIONS.get(kind, "relu"),
            k=_k(trainer, tensors) if top_k else None,
            metadata=config,
        )
        if kind == "GatedAutoEncoder":
            found.open_gates(arrays["gate_bias"], arrays["r_mag"])
        elif kind == "JumpReluAutoEncoder":
            found.threshold = arrays["threshold"]
        elif found.activation == "batch_topk":
            found.cut_at(float(arrays["threshold"]))
        if "group_sizes" in arrays and arrays["group_sizes"].sum() != len(
            found.encoder
        ):
            raise ValueError("its group_sizes do not add up to the number of features")
        if top_k:
            check_unit_norms(found.decoder, _NORM_TOLERANCE)
        return found.autoencoder(unit_norm=unit_norm)


def _sizes(trainer: dict) -> dict[str, int]:
    named = {"d": trainer.get("activation_dim"), "m": trainer.get("dict_size")}
    return {letter: size for letter, size in named.items() if type(size) is int}


def _first(arrays, *names):
    return next(arrays[name] for name in names if name in arrays)


def _k(trainer: dict, tensors: Tensors) -> int:
    """Return the k of the configuration and the weights, who must not disagree."""
    found = [trainer["k"]] if trainer.get("k") is not None else []
    if "k" in tensors:
        found.append(tensors.whole_number("k"))
    if not found:
        raise ValueError("it does not say its k, the number of active features")
    if found[0] != found[-1]:
        raise ValueError(f"its k is {found[0]!r} in config.json, but {found[1]}")
    return found[0]
