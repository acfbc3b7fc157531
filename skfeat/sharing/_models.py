"""A fitted ModelUnwrapper to plain values and arrays, and back, without its model."""

from __future__ import annotations

from typing import Any

import numpy as np

from skfeat.language.whole._model_unwrapper import ModelUnwrapper
from skfeat.sharing._estimators import KINDS
from skfeat.sharing._state import State, from_params, plain, plain_params

# The parts of a layer by their names, and the classes that each may have.
_PAIR = {
    "input_autoencoder": ("SparseAutoencoder",),
    "connector": ("FeatureConnector", "FeatureConnectorCV"),
    "output_autoencoder": ("SparseAutoencoder",),
}
_TRANSCODER = {"transcoder": ("Transcoder",)}


def model_unwrapper_state(unwrapper: ModelUnwrapper) -> State:
    """Return an unwrapper as plain values and arrays, its parts among them."""
    parts = {}
    for index in range(len(unwrapper.module_names_)):
        for name in (*_PAIR, *_TRANSCODER):
            part = getattr(unwrapper, f"{name}s_")[index]
            if part is not None:
                parts[f"{index}_{name}"] = KINDS[type(part).__name__].state(part)
    return State(
        "ModelUnwrapper",
        plain_params(unwrapper),
        {
            "module_names_": list(unwrapper.module_names_),
            "loss_curve_": plain(unwrapper.loss_curve_),
            "n_iter_": int(unwrapper.n_iter_),
        },
        {
            f"output_mean_{index}": mean
            for index, mean in enumerate(unwrapper.output_means_)
        },
        parts,
    )


def to_model_unwrapper(state: State) -> ModelUnwrapper:
    """Make the unwrapper again, without its model.

    Raises
    ------
    ValueError
        If a part is missing, or its sizes do not fit those of the others.
    """
    unwrapper = from_params(ModelUnwrapper, state.params)
    values = dict(state.values)
    names = values.pop("module_names_", None)
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise ValueError(f"its module_names_ must be a list of strings, not {names!r}")
    if not names or len(set(names)) < len(names):
        raise ValueError("its module_names_ must differ, and be one at least")
    parts, arrays = dict(state.parts), dict(state.arrays)
    found: dict[str, list] = {name: [] for name in (*_PAIR, *_TRANSCODER)}
    means = []
    for index in range(len(names)):
        kinds = _TRANSCODER if f"{index}_transcoder" in parts else _PAIR
        for name, of_name in found.items():
            of_name.append(None)
            if name not in kinds:
                continue
            part = parts.pop(f"{index}_{name}", None)
            if part is None:
                raise ValueError(f"layer {index} has no {name}")
            if part.kind not in kinds[name]:
                raise ValueError(
                    f"its {name} must be a {kinds[name][0]}, not {part.kind!r}"
                )
            of_name[-1] = KINDS[part.kind].restore(part)
        mean = arrays.pop(f"output_mean_{index}", None)
        means.append(_checked_mean(mean, index, found))
    if left := sorted({*parts, *arrays}):
        raise ValueError(f"it also has {left[0]!r}")
    losses, n_iter = values.pop("loss_curve_", []), values.pop("n_iter_", 0)
    if values:
        raise ValueError(f"it also has {min(values)!r}")
    for name, of_name in found.items():
        setattr(unwrapper, f"{name}s_", of_name)
    unwrapper.output_means_ = means
    unwrapper.loss_curve_ = [float(loss) for loss in losses]
    unwrapper.n_iter_ = int(n_iter)
    unwrapper.module_names_ = names
    return unwrapper


def _checked_mean(mean: Any, index: int, found: dict[str, list]) -> np.ndarray:
    """Return the mean output of a layer, after comparing the sizes of its parts."""
    read, connector, computed, transcoder = (of_name[-1] for of_name in found.values())
    decoder = (computed if transcoder is None else transcoder).components_
    if transcoder is None:
        wanted = len(computed.components_), len(read.components_)
        if connector.coef_.shape != wanted:
            raise ValueError(
                f"the connector of layer {index} must have weights of shape {wanted}, "
                f"not {connector.coef_.shape}"
            )
    if not isinstance(mean, np.ndarray) or mean.shape != (decoder.shape[1],):
        raise ValueError(
            f"output_mean_{index} must be an array of {decoder.shape[1]} numbers"
        )
    if mean.dtype.kind != "f" or not np.isfinite(mean).all():
        raise ValueError(f"output_mean_{index} must hold finite numbers")
    return mean
