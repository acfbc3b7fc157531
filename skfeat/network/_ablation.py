"""The outputs of a SparseFeatureNetwork with some features held at a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from skfeat.network import _predict
from skfeat.network._arrays import NetworkArrays, as_inputs, layer_index
from skfeat.utils._checks import is_int
from skfeat.utils._finite import check_finite_result


@dataclass(frozen=True, eq=False)
class Ablation:
    """Outputs with and without some features."""

    outputs: np.ndarray
    """(n, n_outputs) with the features held at their values."""
    effects: np.ndarray
    """(n, n_outputs) by how much that is more than the network's own outputs."""
    values: dict[tuple[str, int], float]
    """What each feature, a pair of its layer's name and its index, was held at."""


def ablate(
    network: NetworkArrays, X: Any, features: Any, value: Any, reference: Any
) -> Ablation:
    """Return what :meth:`SparseFeatureNetwork.ablate` describes."""
    chosen = find_features(network, features)
    X = as_inputs(network, X)
    if reference is not None:
        reference = as_inputs(network, reference, "reference")
    levels = _levels(network, chosen, value, X if reference is None else reference)

    outputs = np.empty((len(X), network.n_outputs_), X.dtype)
    effects = np.empty_like(outputs)
    for rows in _predict.blocks(network, len(X)):
        own = _predict.checked_features(network, X[rows])
        at = min(chosen)
        F = own[at]
        with np.errstate(over="ignore", invalid="ignore"):
            for layer, indices in chosen.items():
                F = _predict.connect(network, F, at)[layer - at].copy()
                F[:, indices] = levels[layer]
                at = layer
            F = _predict.connect(network, F, at)[-1]
            outputs[rows] = _predict.finish(network, F)
            effects[rows] = outputs[rows] - _predict.finish(network, own[-1])
    check_finite_result("The outputs", outputs, X)
    check_finite_result("The effects", effects, X)
    names = network.layer_names_
    values = {
        (names[layer], j): float(level)
        for layer, indices in chosen.items()
        for j, level in zip(indices, levels[layer], strict=True)
    }
    return Ablation(outputs, effects, values)


def find_features(network: NetworkArrays, features: Any) -> dict[int, list[int]]:
    """Find features by layer, a position or a name, and feature, an index or a name.

    Parameters
    ----------
    network : NetworkArrays
    features : str, tuple, list of them, or mapping
        Names of features, pairs of a layer and a feature, or a mapping from layers to
        a feature or a list of features.

    Returns
    -------
    features : dict of int to list of int
        Sorted indices of each layer's features.

    Raises
    ------
    ValueError
        If there is no such layer or feature, or several of a name, or nothing named.
    """
    found: dict[int, set[int]] = {}
    for entry in _entries(features):
        if isinstance(entry, str):
            layer, index = _by_name(network, entry)
        elif isinstance(entry, tuple) and len(entry) == 2:
            names = network.layer_names_
            layer = layer_index(names, entry[0], "the layer of features")
            index = _index(network, layer, entry[1])
        else:
            raise ValueError(
                f"features must be names of features, pairs (layer, feature) or a "
                f"mapping from layers to features. Got {entry!r} among them."
            )
        found.setdefault(layer, set()).add(index)
    if not found:
        raise ValueError(f"features must name at least one feature. Got {features!r}.")
    return {layer: sorted(found[layer]) for layer in sorted(found)}


def _entries(features: Any) -> list:
    if isinstance(features, str | tuple):
        return [features]
    if not isinstance(features, Mapping):
        return list(features) if np.iterable(features) else [features]
    return [
        (layer, feature)
        for layer, several in features.items()
        for feature in (
            [several]
            if isinstance(several, str) or not np.iterable(several)
            else several
        )
    ]


def _index(network: NetworkArrays, layer: int, feature: Any) -> int:
    names, m = network.feature_names_[layer], network.n_components_[layer]
    if isinstance(feature, str) and names.count(feature) == 1:
        return names.index(feature)
    if is_int(feature) and 0 <= int(feature) < m:
        return int(feature)
    raise ValueError(
        f"features of the layer {network.layer_names_[layer]!r} must be indices from 0 "
        f"to {m - 1} or names of a single feature, such as {names[0]!r}. Got "
        f"{feature!r} instead."
    )


def _by_name(network: NetworkArrays, name: str) -> tuple[int, int]:
    places = [
        (layer, j)
        for layer, names in enumerate(network.feature_names_)
        for j, other in enumerate(names)
        if other == name
    ]
    if len(places) != 1:
        raise ValueError(
            f"features must be told by names that a single feature has, such as "
            f"{network.feature_names_[0][0]!r}, or by pairs (layer, feature). Got "
            f"{name!r}, which {'no feature' if not places else 'several features'} "
            f"{'has' if not places else 'have'}."
        )
    return places[0]


def _levels(
    network: NetworkArrays, chosen: dict[int, list[int]], value: Any, rows: Any
) -> dict[int, np.ndarray]:
    """Return what each chosen feature is held at."""
    if isinstance(value, str) and value == "mean":
        if not len(rows):
            raise ValueError("value='mean' needs at least one row to take it over.")
        sums = {layer: np.zeros(len(indices)) for layer, indices in chosen.items()}
        for block in _predict.blocks(network, len(rows)):
            own = _predict.checked_features(network, rows[block])
            for layer, indices in chosen.items():
                sums[layer] += own[layer][:, indices].sum(axis=0, dtype=float)
        return {layer: total / len(rows) for layer, total in sums.items()}
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if is_number and abs(value) <= float(np.finfo(rows.dtype).max):
        level = float(value)
    elif isinstance(value, str) and value == "zero":
        level = 0.0
    else:
        raise ValueError(
            f"value must be 'zero', 'mean' or a finite number of {rows.dtype}. Got "
            f"{value!r} instead."
        )
    return {layer: np.full(len(indices), level) for layer, indices in chosen.items()}
