"""Fitted layer pairs, whose parts are estimators, to plain values, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression

from skfeat.autoencoder._ensemble import FeatureEnsemble
from skfeat.language._layer_pair import LayerPair
from skfeat.language._pair_fit import spread_weights
from skfeat.language.whole._model_unwrapper import ModelUnwrapper
from skfeat.sharing import _estimators
from skfeat.sharing._ensembles import ensemble_state, to_ensemble
from skfeat.sharing._estimators import (
    CONNECTORS,
    Kind,
    check_kind,
    check_width,
    checked_arrays,
    coder_state,
    connector_state,
    fitted_of,
    flag,
    texts,
    to_coder,
    to_connector,
    values_of,
)
from skfeat.sharing._models import model_unwrapper_state, to_model_unwrapper
from skfeat.sharing._state import State, from_params, plain_params
from skfeat.utils._arrays import as_numpy
from skfeat.utils._checks import listed
from skfeat.utils._sklearn import _align_api_if_sparse
from skfeat.utils._warnings import warn

_EVENTS = ("input_events_", "output_events_")
_LIVE = ("live_inputs_", "live_outputs_")
_PAIR: dict[str, Callable] = {
    "n_features_in_": int,
    "feature_names_in_": texts,
    "_y_is_1d": flag,
}
# Nonlinear connectors that can be written; a pair takes any regressor for one.
_NONLINEAR = ["MLPConnector", *CONNECTORS]


def pair_state(pair: LayerPair) -> State:
    """Return a layer pair as plain values and arrays, its parts among them."""
    names = [*_EVENTS, *_LIVE, "output_mean_"]
    dense = pair.connectors()["dense"]
    return State(
        "LayerPair",
        plain_params(pair),
        values_of(pair, _PAIR),
        {
            **{name: as_numpy(getattr(pair, name), name) for name in names},
            "dense_coef": dense.coef_,
            "dense_intercept": np.asarray(dense.intercept_),
        },
        {
            "input_autoencoder": coder_state(pair.input_autoencoder_),
            "output_autoencoder": coder_state(pair.output_autoencoder_),
            "connector": connector_state(pair.connector_),
            **_nonlinear_parts(pair),
        },
    )


def to_pair(state: State) -> LayerPair:
    """Make the layer pair again."""
    pair = from_params(LayerPair, state.params)
    sides = ("input_autoencoder", "output_autoencoder")
    if set(state.parts) - {"nonlinear_connector"} != {*sides, "connector"}:
        raise ValueError("its parts must be two autoencoders and a connector")
    for name in sides:
        check_kind(state.parts[name], name, ["SparseAutoencoder"])
        setattr(pair, f"{name}_", to_coder(state.parts[name]))
    check_kind(state.parts["connector"], "connector", list(CONNECTORS))
    connector = to_connector(state.parts["connector"])
    shapes = {
        "input_events_": "m",
        "output_events_": "o",
        "live_inputs_": "p",
        "live_outputs_": "q",
        "output_mean_": "d",
        "dense_coef": "qp",
        "dense_intercept": "q",
    }
    q, p = connector.coef_.shape
    sizes = {
        "m": len(pair.input_autoencoder_.components_),
        "o": len(pair.output_autoencoder_.components_),
        "d": pair.output_autoencoder_.components_.shape[1],
        "q": q,
        "p": p,
    }
    arrays = checked_arrays(state, shapes, sizes=sizes)
    for name, of in zip(_LIVE, _EVENTS, strict=True):
        live, n = arrays[name], len(arrays[of])
        if live.dtype.kind != "i" or (np.diff(live) <= 0).any():
            raise ValueError(f"{name} must be increasing whole numbers")
        if live[0] < 0 or live[-1] >= n:
            raise ValueError(f"{name} must be from 0 to {n - 1}")
    fitted = fitted_of(state.values, _PAIR)
    check_width(fitted, pair.input_autoencoder_.n_features_in_)
    dense = LinearRegression(fit_intercept=connector.get_params()["fit_intercept"])
    dense.coef_, dense.intercept_ = (
        arrays.pop("dense_coef"),
        arrays.pop("dense_intercept"),
    )
    dense.n_features_in_ = p
    vars(pair).update(fitted | arrays)
    pair.connector_, pair.dense_connector_ = connector, dense
    if "nonlinear_connector" in state.parts:
        pair.nonlinear_connector_ = _to_nonlinear(state.parts, (q, p))
    pair._tell_names()
    live_numbers = (pair.live_outputs_, pair.live_inputs_)
    coef = spread_weights(connector.coef_, live_numbers, (sizes["o"], sizes["m"]))
    pair.coef_ = _align_api_if_sparse(coef)
    return pair


def _nonlinear_parts(pair: LayerPair) -> dict[str, State]:
    """Return the nonlinear connector of a pair, if it has one that can be written."""
    if not hasattr(pair, "nonlinear_connector_"):
        return {}
    connector = pair.nonlinear_connector_
    if isinstance(connector, FrozenEstimator):
        connector = connector.estimator
    for kind in _NONLINEAR:
        if type(connector) is KINDS[kind].cls:
            return {"nonlinear_connector": KINDS[kind].state(connector)}
    warn(
        f"The nonlinear connector of this LayerPair is not written, as it is a "
        f"{type(connector).__name__} and only {listed(_NONLINEAR, 'or')} can be; "
        f"pickle it beside the folder if it is needed."
    )
    return {}


def _to_nonlinear(parts: Mapping[str, State], shape: tuple[int, int]) -> Any:
    part = parts["nonlinear_connector"]
    check_kind(part, "nonlinear_connector", _NONLINEAR)
    connector = KINDS[part.kind].restore(part)
    if connector.coef_.shape != shape:
        raise ValueError(f"its nonlinear_connector must have coef_ of shape {shape}")
    return connector


KINDS = {
    **_estimators.KINDS,
    "FeatureEnsemble": Kind(FeatureEnsemble, ensemble_state, to_ensemble),
    "LayerPair": Kind(LayerPair, pair_state, to_pair),
    "ModelUnwrapper": Kind(ModelUnwrapper, model_unwrapper_state, to_model_unwrapper),
}
