"""Reader and writer of SAELens: ``cfg.json`` and ``sae_weights.safetensors``."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder
from skfeat.interop._files import Tensors, read_json, reading
from skfeat.interop._fitted import Weights
from skfeat.utils._arrays import as_numpy
from skfeat.utils._checks import check_path
from skfeat.utils._files import import_safetensors, replacing_folder
from skfeat.utils._frozen import thawed

CONFIG = "cfg.json"
WEIGHTS = "sae_weights.safetensors"
SPARSITY = "sparsity.safetensors"

# SAELens adds this to a density before it takes the logarithm.
_DENSITY_FLOOR = 1e-10

# The release whose format is written; it was tested to read the same weights back.
_VERSION = "6.54.12"

_COMMON = {"W_enc": "dm", "W_dec": "md", "b_dec": "d"}
_SHAPES = {
    "standard": {**_COMMON, "b_enc": "m"},
    "topk": {**_COMMON, "b_enc": "m"},
    "jumprelu": {**_COMMON, "b_enc": "m", "threshold": "m"},
    "gated": {**_COMMON, "b_gate": "m", "b_mag": "m", "r_mag": "m"},
}
_NORMALIZE = ("none", "expected_average_only_in")
_NORMALIZE_ROWS = ("layer_norm", "constant_norm_rescale")


def read_saelens(
    folder: str | os.PathLike[str],
    *,
    normalized: bool = False,
    norm_scaling_factor: float | None = None,
    unit_norm: bool = False,
) -> SparseAutoencoder:
    """Read an autoencoder that SAELens has saved.

    It reads the architectures "standard", "topk", "jumprelu" (in which SAELens also
    saves batch top-k) and "gated", of any version. For "hook_z", a row is the
    concatenation of all heads.

    Parameters
    ----------
    folder : str or path
        The folder of ``cfg.json`` and ``sae_weights.safetensors``; a
        ``sparsity.safetensors`` becomes `feature_density_`.
    normalized : bool, default=False
        Whether to accept an autoencoder that normalises each row by itself
        ("layer_norm" or "constant_norm_rescale"), which a `SparseAutoencoder` does not:
        the result takes, and reconstructs, rows that are already normalised.
    norm_scaling_factor : float, default=None
        The factor of the rows in training, for files whose ``normalize_activations`` is
        "expected_average_only_in", which do not hold it. It is folded into the weights.
    unit_norm : bool, default=False
        Whether to scale the decoder rows to norm one, and the codes by the norms.

    Returns
    -------
    SparseAutoencoder
        Fitted, with the rest of the configuration as `metadata_`.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is damaged, or a `SparseAutoencoder` cannot express what it holds.
    ImportError
        If safetensors is not installed.

    See Also
    --------
    write_saelens : Writes such files, with an example of both.
    """
    with reading(
        "SAELens", folder, "folder", normalized=normalized, unit_norm=unit_norm
    ) as path:
        config = read_config(path, _SHAPES, "SparseAutoencoder")
        architecture = config["architecture"]
        tensors = Tensors.read(path / WEIGHTS)
        arrays = tensors.arrays(
            {**_SHAPES[architecture], "scaling_factor": "m"},
            sizes={"d": read_size(config, "d_in"), "m": read_size(config, "d_sae")},
            optional=["scaling_factor"],
        )
        weights = Weights(
            encoder=arrays["W_enc"].T,
            decoder=arrays["W_dec"],
            encoder_bias=arrays["b_mag" if architecture == "gated" else "b_enc"],
            decoder_bias=arrays["b_dec"],
            subtracts_bias=read_flag(config, "apply_b_dec_to_input", True),
            activation="relu" if architecture == "standard" else architecture,
            k=config.get("k") if architecture == "topk" else None,
            threshold=arrays.get("threshold"),
            input_scale=_input_scale(config, normalized, norm_scaling_factor),
            density=read_density(path / SPARSITY, len(arrays["W_dec"])),
            metadata=dict(config.get("metadata") or {}),
        )
        if architecture == "gated":
            weights.set_gates(arrays["b_gate"], arrays["r_mag"])
        if read_flag(config, "rescale_acts_by_decoder_norm", False):
            weights.rank_by_decoder_norm()
        if not np.all(arrays.get("scaling_factor", 1.0) == 1):
            if config.get("finetuning_scaling_factor") is not True:
                raise ValueError(
                    "it has a scaling_factor, but finetuning_scaling_factor is not true"
                )
            weights.decoder = weights.decoder * arrays["scaling_factor"][:, None]
        return weights.autoencoder(unit_norm=unit_norm)


def write_saelens(
    autoencoder: SparseAutoencoder,
    folder: str | os.PathLike[str],
    *,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a fitted autoencoder for ``SAE.load_from_disk`` of SAELens 6.

    "relu" becomes "standard" of SAELens, "topk" stays "topk", and all activations with
    a threshold become "jumprelu". The weights include the centring and the scale.

    Parameters
    ----------
    autoencoder : SparseAutoencoder, or one in a FrozenEstimator
        Fitted.
    folder : str or path
        Created if it does not exist; an autoencoder in it is replaced.
    metadata : dict, default=None
        Metadata of SAELens: ``model_name``, ``hook_name``, ``hf_hook_name``,
        ``context_size``, ``prepend_bos`` and more. ``None`` takes the `metadata_` of an
        autoencoder that was read from SAELens.

    Raises
    ------
    TypeError
        If `autoencoder` is not a `SparseAutoencoder`, `folder` is not a path, or
        `metadata` is not JSON.
    ImportError
        If safetensors is not installed.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from skfeat import SparseAutoencoder
    >>> from skfeat.interop import read_saelens, write_saelens
    >>> X = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    >>> autoencoder = SparseAutoencoder(16, k=4, random_state=0).partial_fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_saelens(autoencoder, folder, metadata={"model_name": "none"})
    ...     same = read_saelens(folder)
    >>> bool(np.array_equal(same.transform(X), autoencoder.transform(X)))
    True
    """
    autoencoder = thawed(autoencoder)
    if not isinstance(autoencoder, SparseAutoencoder):
        raise TypeError(
            f"autoencoder must be a SparseAutoencoder. Got {autoencoder!r} instead."
        )
    check_is_fitted(autoencoder)
    name, k = autoencoder._code
    components = as_numpy(autoencoder.components_)
    m, d = components.shape
    tensors = {
        "W_enc": as_numpy(autoencoder.encoder_coef_).T,
        "W_dec": components,
        "b_enc": as_numpy(autoencoder.encoder_intercept_),
        "b_dec": as_numpy(autoencoder.intercept_),
    }
    if name == "jumprelu":
        tensors["threshold"] = as_numpy(autoencoder.threshold_)
    config = {
        "architecture": "standard" if name == "relu" else name,
        "d_in": d,
        "d_sae": m,
        "apply_b_dec_to_input": True,
        **({"k": k, "rescale_acts_by_decoder_norm": False} if name == "topk" else {}),
    }
    write_folder(autoencoder, folder, tensors, config, metadata)


def write_folder(
    fitted: Any,
    folder: str | os.PathLike[str],
    tensors: dict[str, np.ndarray],
    config: dict[str, Any],
    metadata: Mapping[str, Any] | None,
) -> None:
    """Write the files of a folder, and what all configurations have."""
    save_file = import_safetensors().numpy.save_file
    if metadata is None:
        metadata = getattr(fitted, "metadata_", {})
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata must be None or a dict. Got {metadata!r} instead.")
    path = check_path("folder", folder)
    config = {
        **config,
        "dtype": tensors["W_dec"].dtype.name,
        "device": "cpu",
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            **metadata,
            "sae_lens_version": _VERSION,
            "training_architecture": fitted.activation,
        },
    }
    try:
        text = json.dumps(config, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"metadata must hold plain JSON values: {error}.") from None

    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"folder={str(path)!r} is a file; name a folder.")
    files = {WEIGHTS: tensors}
    if hasattr(fitted, "feature_density_"):
        density = as_numpy(fitted.feature_density_).astype(np.float64)
        logs = np.log10(density + _DENSITY_FLOOR).astype(np.float32)
        files[SPARSITY] = {"sparsity": logs}
    with replacing_folder(path, (CONFIG, WEIGHTS, SPARSITY)) as made:
        for file, arrays in files.items():
            contiguous = {key: np.ascontiguousarray(a) for key, a in arrays.items()}
            save_file(contiguous, made / file)
        (made / CONFIG).write_text(text + "\n", encoding="utf-8")


def read_config(path: Path, known: Iterable[str], kind: str) -> dict[str, Any]:
    """Read the configuration of a folder, which must be of a known architecture."""
    config = _as_version_6(read_json(path / CONFIG))
    architecture = config["architecture"]
    if architecture not in list(known):
        raise ValueError(
            f"its architecture {architecture!r} is none of those that a {kind} can "
            f"express: {', '.join(known)}"
        )
    return config


def _as_version_6(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of any version with the names of version 6."""
    metadata = config.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise ValueError("its metadata is not a JSON object")
    version = config.get("sae_lens_version") or metadata.get("sae_lens_version")
    if version is not None:
        major = re.match(r"(\d+)\.", str(version))
        if major is None:
            raise ValueError(f"its sae_lens_version {version!r} is not a version")
        if int(major[1]) >= 6:
            if "architecture" not in config:
                raise ValueError(f"{CONFIG} has no 'architecture'")
            return config
    config = {"architecture": "standard", **config}
    activation = config.get("activation_fn") or config.get("activation_fn_str", "relu")
    arguments = config.get("activation_fn_kwargs") or {}
    if activation == "topk" or config["architecture"] == "topk":
        config |= {"architecture": "topk", "k": arguments.get("k", config.get("k"))}
    elif activation != "relu":
        raise ValueError(f"its activation {activation!r} is neither relu nor topk")
    if isinstance(config.get("normalize_activations"), bool):
        # True and False were the names of the two modes once.
        config["normalize_activations"] = _NORMALIZE[config["normalize_activations"]]
    own = ("model_name", "hook_name", "hook_point", "context_size", "prepend_bos")
    names = {"hook_point": "hook_name"}
    config["metadata"] = {
        **metadata,
        **{names.get(key, key): config[key] for key in own if key in config},
    }
    return config


def read_size(config: dict[str, Any], key: str) -> int:
    value = config.get(key)
    if type(value) is not int or value < 1:
        raise ValueError(f"{key} must be a positive whole number, not {value!r}")
    return value


def read_flag(config: dict[str, Any], key: str, default: bool) -> bool:
    value = config.get(key, default)
    if not isinstance(value, bool):
        raise ValueError(f"{key} must be true or false, not {value!r}")
    return value


def _input_scale(
    config: dict[str, Any], normalized: bool, factor: float | None
) -> float:
    mode = config.get("normalize_activations") or "none"
    if mode in _NORMALIZE_ROWS and normalized:
        return 1.0
    if mode in _NORMALIZE_ROWS:
        raise ValueError(
            f"its normalize_activations={mode!r} normalises each row by itself, which "
            "a SparseAutoencoder does not; normalise the rows and pass normalized=True"
        )
    if mode not in _NORMALIZE:
        raise ValueError(f"its normalize_activations={mode!r} cannot be expressed")
    if (mode == "none") != (factor is None):
        needed = "needs" if factor is None else "must not have"
        raise ValueError(
            f"its normalize_activations={mode!r} {needed} a norm_scaling_factor"
        )
    if factor is None:
        return 1.0
    if not (isinstance(factor, Real) and 0 < factor < np.inf):
        raise ValueError(f"norm_scaling_factor must be positive, not {factor!r}")
    return float(factor)


def read_density(path: Path, m: int) -> np.ndarray | None:
    if not path.is_file():
        return None
    logs = Tensors.read(path).arrays({"sparsity": "m"}, sizes={"m": m})["sparsity"]
    density = 10.0 ** logs.astype(np.float64) - _DENSITY_FLOOR
    if (logs > 1e-6).any():
        raise ValueError(f"{path.name} must hold logarithms of shares, at most zero")
    return np.clip(density, 0, 1)
