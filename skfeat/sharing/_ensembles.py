"""A fitted FeatureEnsemble, whose parts are all its fits, to plain values, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from skfeat.autoencoder._ensemble import FeatureEnsemble
from skfeat.sharing._estimators import (
    check_kind,
    checked_arrays,
    coder_state,
    fitted_of,
    to_coder,
)
from skfeat.sharing._state import State, from_params, plain_params

# Shapes of its arrays: f fits, m features kept.
_SHAPES = {
    "features_": "m",
    "support_": "m",
    "mean_cosines_": "m",
    "matched_cosines_": "ff",
}


def ensemble_state(ensemble: FeatureEnsemble) -> State:
    """Return an ensemble as plain values and arrays, its fits among them."""
    return State(
        "FeatureEnsemble",
        plain_params(ensemble),
        {"reference_": int(ensemble.reference_)},
        {name: getattr(ensemble, name) for name in _SHAPES},
        {
            f"fit_{number}": coder_state(fit)
            for number, fit in enumerate(ensemble.autoencoders_)
        },
    )


def to_ensemble(state: State) -> FeatureEnsemble:
    """Make the ensemble again.

    Raises
    ------
    ValueError
        If a fit is missing, or numbers do not fit one another.
    """
    ensemble = from_params(FeatureEnsemble, state.params)
    n_fits = len(state.parts)
    names = [f"fit_{number}" for number in range(n_fits)]
    if n_fits < 2 or set(state.parts) != set(names):
        raise ValueError("its parts must be two fits at least, fit_0, fit_1 and so on")
    fits: list[Any] = []
    for name in names:
        check_kind(state.parts[name], name, ["SparseAutoencoder"])
        fits.append(to_coder(state.parts[name]))
        if fits[-1].components_.shape != fits[0].components_.shape:
            raise ValueError(f"{name} must be of the shape of fit_0")
    arrays = checked_arrays(state, _SHAPES, sizes={"f": n_fits})
    values = fitted_of(state.values, {"reference_": int})
    _check_whole("features_", arrays["features_"], 0, len(fits[0].components_) - 1)
    _check_whole("support_", arrays["support_"], 1, n_fits)
    reference = values.get("reference_", -1)
    _check_whole("reference_", np.array([reference]), 0, n_fits - 1)
    best = fits[reference]
    vars(ensemble).update(arrays)
    ensemble.autoencoders_, ensemble.reference_ = fits, reference
    ensemble.n_features_in_ = best.n_features_in_
    if hasattr(best, "feature_names_in_"):
        ensemble.feature_names_in_ = best.feature_names_in_
    ensemble.intercept_ = best.intercept_
    ensemble.components_ = best.components_[ensemble.features_]
    return ensemble


def _check_whole(name: str, numbers: np.ndarray, low: int, high: int) -> None:
    if numbers.dtype.kind != "i" or (numbers < low).any() or (numbers > high).any():
        raise ValueError(f"{name} must be whole numbers from {low} to {high}")
    if name == "features_" and (np.diff(numbers) <= 0).any():
        raise ValueError(f"{name} must be increasing")
