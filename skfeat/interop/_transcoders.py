"""Transcoders in the files of SAELens, circuit-tracer and sparsify."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skfeat.autoencoder._transcoder import Transcoder
from skfeat.interop._files import Tensors, reading
from skfeat.interop._fitted import fill
from skfeat.interop._saelens import (
    SPARSITY,
    WEIGHTS,
    read_config,
    read_density,
    read_flag,
    read_size,
    write_folder,
)
from skfeat.interop._sparsify import read_config_of_sparsify, sizes_of
from skfeat.utils._arrays import as_numpy
from skfeat.utils._checks import check_path
from skfeat.utils._files import import_safetensors, replacing
from skfeat.utils._frozen import thawed

_SAELENS = {
    f"{gate}{skip}transcoder": (gate, skip)
    for gate in ("", "jumprelu_")
    for skip in ("", "skip_")
}
_THRESHOLD = "activation_function.threshold"
_ATTRIBUTES = {
    "W_enc": "encoder_coef_",
    "W_dec": "components_",
    "b_enc": "encoder_intercept_",
    "b_dec": "intercept_",
    "W_skip": "skip_coef_",
    "threshold": "threshold_",
}


def read_saelens_transcoder(folder: str | os.PathLike[str]) -> Transcoder:
    """Read a transcoder that SAELens has saved.

    It reads the architectures "transcoder", "skip_transcoder", "jumprelu_transcoder"
    and "jumprelu_skip_transcoder".

    Parameters
    ----------
    folder : str or path
        The folder of ``cfg.json`` and ``sae_weights.safetensors``; a
        ``sparsity.safetensors`` becomes `feature_density_`.

    Returns
    -------
    skfeat.Transcoder
        Fitted, with the rest of the configuration as `metadata_`.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is damaged, or a `Transcoder` cannot express what it holds.
    ImportError
        If safetensors is not installed.

    See Also
    --------
    write_saelens_transcoder : Writes such files, with an example of both.
    """
    with reading("SAELens", folder, "folder", "a transcoder") as path:
        config = read_config(path, _SAELENS, "Transcoder")
        for key in ("normalize_activations", "reshape_activations"):
            if (config.get(key) or "none") != "none":
                raise ValueError(f"its {key}={config[key]!r} cannot be expressed")
        if read_flag(config, "apply_b_dec_to_input", False):
            raise ValueError("its apply_b_dec_to_input is true")
        gate, skip = _SAELENS[config["architecture"]]
        shapes = {"W_enc": "dm", "W_dec": "mo", "b_enc": "m", "b_dec": "o"}
        shapes |= {"threshold": "m"} if gate else {}
        shapes |= {"W_skip": "od"} if skip else {}
        sizes = {
            letter: read_size(config, key)
            for letter, key in (("d", "d_in"), ("m", "d_sae"), ("o", "d_out"))
        }
        arrays = Tensors.read(path / WEIGHTS).arrays(shapes, sizes=sizes)
        arrays["W_enc"] = np.ascontiguousarray(arrays["W_enc"].T)
        return _fitted(
            arrays,
            "jumprelu" if gate else "relu",
            density=read_density(path / SPARSITY, sizes["m"]),
            metadata=dict(config.get("metadata") or {}),
        )


def write_saelens_transcoder(
    transcoder: Transcoder,
    folder: str | os.PathLike[str],
    *,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a fitted transcoder for ``SAE.load_from_disk`` of SAELens 6.

    "relu" becomes "transcoder" of SAELens, and all activations with a threshold
    "jumprelu_transcoder"; with a skip, "skip_transcoder" and
    "jumprelu_skip_transcoder". SAELens has none of top-k.

    Parameters
    ----------
    transcoder : skfeat.Transcoder, or one in a FrozenEstimator
        Fitted.
    folder : str or path
        Created if it does not exist; what is in it is replaced.
    metadata : dict, default=None
        Metadata of SAELens; ``None`` takes the `metadata_` of a transcoder that was
        read from SAELens.

    Raises
    ------
    TypeError
        If `transcoder` is not a `Transcoder`, `folder` is not a path, or `metadata` is
        not JSON.
    ValueError
        If its activation is "topk".
    ImportError
        If safetensors is not installed.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from skfeat import Transcoder
    >>> from skfeat.interop import read_saelens_transcoder, write_saelens_transcoder
    >>> X = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    >>> transcoder = Transcoder(16, activation="batch_topk", k=4, random_state=0)
    >>> transcoder = transcoder.partial_fit(X, np.maximum(X, 0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_saelens_transcoder(transcoder, folder)
    ...     same = read_saelens_transcoder(folder)
    >>> bool(np.array_equal(same.predict(X), transcoder.predict(X)))
    True
    """
    transcoder = _checked(transcoder)
    name, _ = transcoder._code
    if name == "topk":
        raise ValueError(
            "transcoder has activation='topk', which no transcoder of SAELens has; "
            "fit one with 'batch_topk', or use write_circuit_tracer."
        )
    tensors = _tensors(transcoder)
    tensors["W_enc"] = tensors["W_enc"].T
    if name == "jumprelu":
        tensors["threshold"] = as_numpy(transcoder.threshold_)
    gate = "jumprelu_" if name == "jumprelu" else ""
    skip = "skip_" if "W_skip" in tensors else ""
    m, d_out = tensors["W_dec"].shape
    config = {
        "architecture": f"{gate}{skip}transcoder",
        "d_in": len(tensors["W_enc"]),
        "d_sae": m,
        "d_out": d_out,
        "apply_b_dec_to_input": False,
    }
    write_folder(transcoder, folder, tensors, config, metadata)


def read_circuit_tracer(path: str | os.PathLike[str]) -> Transcoder:
    """Read the transcoder of one layer, as circuit-tracer writes it.

    Parameters
    ----------
    path : str or path
        A file such as ``layer_3.safetensors``.

    Returns
    -------
    skfeat.Transcoder
        Fitted.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, or holds something else.
    ImportError
        If safetensors is not installed.

    See Also
    --------
    write_circuit_tracer : Writes such files, with an example of both.
    """
    with reading("circuit-tracer", path, "path", "a transcoder") as file:
        tensors = Tensors.read(file)
        shapes = {"W_enc": "md", "W_dec": "mo", "b_enc": "m", "b_dec": "o"}
        optional = {"W_skip": "od", _THRESHOLD: "m", "k": ""}
        arrays = tensors.arrays({**shapes, **optional}, optional=optional)
        k = tensors.whole_number("k") if "k" in arrays else None
        if k is not None and _THRESHOLD in arrays:
            raise ValueError("it has both a k and thresholds")
        if k is not None and not 1 <= k <= len(arrays["b_enc"]):
            raise ValueError(f"k must be from 1 to {len(arrays['b_enc'])}, not {k}")
        arrays.pop("k", None)
        activation = "relu" if k is None else "topk"
        if _THRESHOLD in arrays:
            arrays["threshold"] = arrays.pop(_THRESHOLD)
            activation = "jumprelu"
        return _fitted(arrays, activation, k)


def write_circuit_tracer(transcoder: Transcoder, path: str | os.PathLike[str]) -> Path:
    """Write a fitted transcoder as circuit-tracer loads it, one file for each layer.

    circuit-tracer takes the layer from the name ``layer_{i}.safetensors``, needs a file
    for each layer of the model, with as many features each, and replaces MLPs whose
    inputs and outputs have the width of the model.

    Parameters
    ----------
    transcoder : skfeat.Transcoder, or one in a FrozenEstimator
        Fitted.
    path : str or path
        The file, ending in ``.safetensors``; replaced if it exists.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    TypeError
        If `transcoder` is not a `Transcoder`, or `path` is not a path.
    ValueError
        If `path` ends otherwise.
    ImportError
        If safetensors is not installed.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from skfeat import Transcoder
    >>> from skfeat.interop import read_circuit_tracer, write_circuit_tracer
    >>> X = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    >>> transcoder = Transcoder(16, k=4, skip=True, random_state=0)
    >>> transcoder = transcoder.partial_fit(X, np.maximum(X, 0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_circuit_tracer(transcoder, f"{folder}/layer_0.safetensors")
    ...     same = read_circuit_tracer(path)
    >>> bool(np.array_equal(same.predict(X), transcoder.predict(X)))
    True
    """
    transcoder = _checked(transcoder)
    save_file = import_safetensors().numpy.save_file
    file = check_path("path", path)
    if file.suffix != ".safetensors":
        raise ValueError(f"path must end in .safetensors. Got {str(file)!r} instead.")
    name, k = transcoder._code
    tensors = _tensors(transcoder)
    if name == "jumprelu":
        tensors[_THRESHOLD] = as_numpy(transcoder.threshold_)
    if name == "topk":
        tensors["k"] = np.array(k)
    contiguous = {key: np.ascontiguousarray(array) for key, array in tensors.items()}
    # `ascontiguousarray` makes an axis of a scalar.
    contiguous = {key: a.reshape(tensors[key].shape) for key, a in contiguous.items()}
    with replacing(file) as temporary:
        save_file(contiguous, temporary.name)
    return file


def read_sparsify_transcoder(folder: str | os.PathLike[str]) -> Transcoder:
    """Read a top-k transcoder that sparsify has saved, with or without a skip.

    Parameters
    ----------
    folder : str or path
        The folder of one hookpoint, with ``cfg.json`` and ``sae.safetensors``.

    Returns
    -------
    skfeat.Transcoder
        Fitted, with the configuration as `metadata_`. Its decoder rows have the norms
        of the file, not one, and those of features that never fired are zero.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is damaged, or a `Transcoder` cannot express what it holds.
    ImportError
        If safetensors is not installed.

    See Also
    --------
    read_sparsify : Reads its autoencoders.

    Examples
    --------
    >>> import json, os, tempfile
    >>> import torch
    >>> from safetensors.torch import save_file
    >>> from skfeat.interop import read_sparsify_transcoder
    >>> tensors = {
    ...     "encoder.weight": torch.eye(5, 3), "encoder.bias": torch.zeros(5),
    ...     "W_dec": 2 * torch.eye(5, 3), "b_dec": torch.ones(3),
    ... }
    >>> config = {"d_in": 3, "num_latents": 5, "k": 1, "transcode": True}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_file(tensors, os.path.join(folder, "sae.safetensors"))
    ...     with open(os.path.join(folder, "cfg.json"), "w") as file:
    ...         json.dump(config, file)
    ...     transcoder = read_sparsify_transcoder(folder)
    >>> transcoder.predict([[2.0, 3.0, 1.5]])
    array([[1., 7., 1.]])
    """
    with reading("sparsify", folder, "folder", "a transcoder") as path:
        config = read_config_of_sparsify(path, "Transcoder", "a transcoder")
        if not config.get("transcode"):
            raise ValueError("it is an autoencoder; use read_sparsify")
        shapes = {"encoder.weight": "md", "encoder.bias": "m", "W_dec": "md"}
        shapes |= {"b_dec": "d"}
        shapes |= {"W_skip": "dd"} if config.get("skip_connection") else {}
        tensors = Tensors.read(path / "sae.safetensors")
        arrays = tensors.arrays(shapes, sizes=sizes_of(config))
        k, m = config.get("k"), len(arrays["W_dec"])
        if type(k) is not int or not 1 <= k <= m:
            raise ValueError(f"k must be a whole number from 1 to {m}, not {k!r}")
        arrays["W_enc"] = arrays.pop("encoder.weight")
        arrays["b_enc"] = arrays.pop("encoder.bias")
        return _fitted(arrays, "topk", k, metadata=config)


def _checked(transcoder: Any) -> Transcoder:
    transcoder = thawed(transcoder)
    if not isinstance(transcoder, Transcoder):
        raise TypeError(f"transcoder must be a Transcoder. Got {transcoder!r} instead.")
    check_is_fitted(transcoder)
    return transcoder


def _tensors(transcoder: Transcoder) -> dict[str, np.ndarray]:
    """Return the arrays by the names of both formats, the encoder by feature."""
    return {
        key: as_numpy(getattr(transcoder, name))
        for key, name in _ATTRIBUTES.items()
        if key != "threshold" and hasattr(transcoder, name)
    }


def _fitted(
    arrays: dict[str, np.ndarray],
    activation: str,
    k: int | None = None,
    **known: Any,
) -> Transcoder:
    """Return the fitted estimator of arrays, the encoder by feature."""
    params = {} if k is None else {"k": k}
    transcoder = Transcoder(
        len(arrays["W_dec"]), activation=activation, skip="W_skip" in arrays, **params
    )
    transcoder.n_targets_, transcoder._y_is_1d = arrays["W_dec"].shape[1], False
    fitted = {_ATTRIBUTES[key]: array for key, array in arrays.items()}
    if "threshold_" in fitted:
        # Codes are positive, so a threshold below zero acts like zero.
        fitted["threshold_"] = np.maximum(fitted["threshold_"], 0)
    fill(transcoder, fitted, k, **known)
    return transcoder
