"""Fitted estimators to plain values and arrays, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.linear_model import LinearRegression

from skfeat.autoencoder._coder import WEIGHTS, SparseCoder
from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder
from skfeat.autoencoder._transcoder import Transcoder
from skfeat.connector._base import BaseConnector
from skfeat.connector._feature_connector import FeatureConnector
from skfeat.connector._feature_connector_cv import FeatureConnectorCV
from skfeat.interop._files import Tensors
from skfeat.language._layer_pair import LayerPair
from skfeat.language._pair_fit import spread_weights
from skfeat.network._file import _csr
from skfeat.sharing._state import State, from_params, plain, plain_params
from skfeat.utils._arrays import as_numpy
from skfeat.utils._sklearn import _align_api_if_sparse
from skfeat.utils._warnings import warn

# What codes an autoencoder of each activation can have: names of skfeat.activations.
_CODES = ("relu", "topk", "jumprelu")
_CSR = ("data", "indices", "indptr")
_EVENTS = ("input_events_", "output_events_")
_LIVE = ("live_inputs_", "live_outputs_")


def _floats(values: Any) -> list[float]:
    return [float(value) for value in values]


def _texts(values: Any) -> np.ndarray:
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise ValueError(f"names must be a list of strings, not {values!r}")
    return np.array(values, dtype=object)


def _names(values: Any) -> str | list[str]:
    return values if isinstance(values, str) else _texts(values).tolist()


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value


# Fitted values by attribute, and what makes them of JSON.
_SHARED: dict[str, Callable] = {
    "n_features_in_": int,
    "feature_names_in_": _texts,
    "n_iter_": int,
    "loss_curve_": _floats,
}
_AUTOENCODER: dict[str, Callable] = _SHARED | {
    "n_steps_": int,
    "n_dead_": int,
    "validation_scores_": _floats,
    "l0_": float,
    "explained_variance_": float,
    "metadata_": dict,
    "_feature_names": _names,
}
_TRANSCODER: dict[str, Callable] = _AUTOENCODER | {
    "n_targets_": int,
    "_y_is_1d": _flag,
}
_CONNECTOR: dict[str, Callable] = _SHARED | {
    "alpha_": float,
    "dual_gap_": float,
    "n_nonzero_coefs_": int,
    "output_names_": _texts,
    "pruning_epochs_": lambda values: tuple(_floats(values)),
    "_y_is_1d": _flag,
    "_input_names": _names,
    "_output_names": _names,
}
_PAIR: dict[str, Callable] = {
    "n_features_in_": int,
    "feature_names_in_": _texts,
    "_y_is_1d": _flag,
}


def coder_state(coder: SparseCoder) -> State:
    """Return an autoencoder or a transcoder as plain values and arrays."""
    names = [*WEIGHTS, "feature_density_"]
    kind = type(coder).__name__
    values = _values_of(coder, _CODERS[kind][1])
    name, k = coder._code
    values["code"] = [name, int(k)]
    if not _is_json(values.get("metadata_")):
        del values["metadata_"]
    return State(
        kind,
        plain_params(coder),
        values,
        {n: as_numpy(getattr(coder, n), n) for n in names if hasattr(coder, n)},
    )


def to_coder(state: State) -> SparseCoder:
    """Make the autoencoder or the transcoder again."""
    cls, readers = _CODERS[state.kind]
    values = dict(state.values)
    code = values.pop("code", None)
    if not isinstance(code, list) or len(code) != 2 or code[0] not in _CODES:
        raise ValueError(f"its code must be one of {', '.join(_CODES)}, not {code!r}")
    coder = from_params(cls, state.params)
    decodes = "d" if cls is SparseAutoencoder else "o"
    shapes = {
        "encoder_coef_": "md",
        "encoder_intercept_": "m",
        "intercept_": decodes,
        "threshold_": "m",
        "feature_density_": "m",
        "components_": f"m{decodes}",
    }
    if getattr(coder, "skip", False):
        shapes = {"skip_coef_": "od", **shapes}
    optional = {"feature_density_"} | (
        set() if code[0] == "jumprelu" else {"threshold_"}
    )
    arrays = _checked(state, shapes, optional)
    m, d = arrays["encoder_coef_"].shape
    if code[0] == "topk" and (type(code[1]) is not int or not 1 <= code[1] <= m):
        raise ValueError(f"its k must be a whole number from 1 to {m}, not {code[1]!r}")
    fitted = _fitted_of(values, readers)
    _check_width(fitted, d)
    if cls is Transcoder:
        _check_targets(fitted, arrays["components_"].shape[1])
    vars(coder).update(fitted)
    coder._take_over(
        arrays,
        (code[0], int(code[1])),
        "was loaded from a folder that holds no state of its training",
    )
    return coder


def _check_targets(fitted: dict[str, Any], d_out: int) -> None:
    if "_y_is_1d" not in fitted:
        raise ValueError("it has no '_y_is_1d'")
    if fitted.get("n_targets_") != d_out or (fitted["_y_is_1d"] and d_out > 1):
        raise ValueError(f"its n_targets_ must be {d_out}, the width of components_")


def connector_state(connector: BaseConnector) -> State:
    """Return a connector as plain values and arrays."""
    params = plain_params(connector)
    if not isinstance(params.get("init", ""), str):
        del params["init"]  # weights to start from, which the fit has left behind
    coef = sparse.csr_array(connector.coef_)
    arrays = {f"coef.{part}": getattr(coef, part) for part in _CSR}
    arrays["intercept_"] = connector.intercept_
    for name in ("alphas_", "mse_path_"):
        if hasattr(connector, name):
            arrays[name] = getattr(connector, name)
    values = _values_of(connector, _CONNECTOR)
    return State(type(connector).__name__, params, values, arrays)


def to_connector(state: State) -> BaseConnector:
    """Make the connector again."""
    connector = from_params(_CONNECTORS[state.kind], state.params)
    fitted = _fitted_of(state.values, _CONNECTOR)
    for name in ("n_features_in_", "_y_is_1d"):
        if name not in fitted:
            raise ValueError(f"it has no {name!r}")
    shapes = {
        "coef.data": "n",
        "coef.indices": "n",
        "coef.indptr": "r",
        "intercept_": "q",
        "alphas_": "a",
        "mse_path_": "cf",
    }
    empty = not len(state.arrays.get("coef.data", [0]))
    arrays = _checked(state, shapes, {"alphas_", "mse_path_"}, allow_empty=empty)
    vars(connector).update(fitted)
    for name in ("alphas_", "mse_path_"):
        if name in arrays:
            setattr(connector, name, arrays[name])
    shape = (len(arrays["intercept_"]), fitted["n_features_in_"])
    connector.coef_ = _align_api_if_sparse(_csr(arrays, "coef", shape))
    connector._state, connector._interrupted = None, False
    connector.intercept_ = arrays["intercept_"]
    return connector


def pair_state(pair: LayerPair) -> State:
    """Return a layer pair as plain values and arrays, its parts among them."""
    if hasattr(pair, "nonlinear_connector_"):
        warn(
            "The nonlinear connector of this LayerPair, which may be any estimator, is "
            "not written; pickle it beside the folder if it is needed.",
        )
    names = [*_EVENTS, *_LIVE, "output_mean_"]
    dense = pair.connectors()["dense"]
    return State(
        "LayerPair",
        plain_params(pair),
        _values_of(pair, _PAIR),
        {
            **{name: as_numpy(getattr(pair, name), name) for name in names},
            "dense_coef": dense.coef_,
            "dense_intercept": np.asarray(dense.intercept_),
        },
        {
            "input_autoencoder": coder_state(pair.input_autoencoder_),
            "output_autoencoder": coder_state(pair.output_autoencoder_),
            "connector": connector_state(pair.connector_),
        },
    )


def to_pair(state: State) -> LayerPair:
    """Make the layer pair again."""
    pair = from_params(LayerPair, state.params)
    sides = ("input_autoencoder", "output_autoencoder")
    if set(state.parts) != {*sides, "connector"}:
        raise ValueError("its parts must be two autoencoders and a connector")
    for name in sides:
        _check_kind(state.parts[name], name, ["SparseAutoencoder"])
        setattr(pair, f"{name}_", to_coder(state.parts[name]))
    _check_kind(state.parts["connector"], "connector", list(_CONNECTORS))
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
    arrays = _checked(state, shapes, sizes=sizes)
    for name, of in zip(_LIVE, _EVENTS, strict=True):
        live, n = arrays[name], len(arrays[of])
        if live.dtype.kind != "i" or (np.diff(live) <= 0).any():
            raise ValueError(f"{name} must be increasing whole numbers")
        if live[0] < 0 or live[-1] >= n:
            raise ValueError(f"{name} must be from 0 to {n - 1}")
    fitted = _fitted_of(state.values, _PAIR)
    _check_width(fitted, pair.input_autoencoder_.n_features_in_)
    dense = LinearRegression(fit_intercept=connector.get_params()["fit_intercept"])
    dense.coef_, dense.intercept_ = (
        arrays.pop("dense_coef"),
        arrays.pop("dense_intercept"),
    )
    dense.n_features_in_ = p
    vars(pair).update(fitted | arrays)
    pair.connector_, pair.dense_connector_ = connector, dense
    pair._tell_names()
    live_numbers = (pair.live_outputs_, pair.live_inputs_)
    coef = spread_weights(connector.coef_, live_numbers, (sizes["o"], sizes["m"]))
    pair.coef_ = _align_api_if_sparse(coef)
    return pair


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _check_kind(state: State, name: str, allowed: list[str]) -> None:
    if state.kind not in allowed:
        raise ValueError(f"its {name} must be a {allowed[0]}, not {state.kind!r}")


def _check_width(fitted: Mapping[str, Any], width: int) -> None:
    if fitted.get("n_features_in_") != width:
        raise ValueError(
            f"its n_features_in_ must be {width}, not {fitted.get('n_features_in_')!r}"
        )


def _values_of(estimator: Any, readers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fitted values of an estimator that JSON can hold."""
    own, found = vars(estimator), {}
    for name in readers:
        if name in own:
            value = own[name]
            found[name] = value if isinstance(value, dict) else plain(value)
    return found


def _fitted_of(values: Mapping[str, Any], readers: Mapping[str, Any]) -> dict[str, Any]:
    """Check and convert fitted values of a file."""
    if unknown := sorted(set(values) - set(readers)):
        raise ValueError(f"it also has {unknown[0]!r}")
    return {name: readers[name](value) for name, value in values.items()}


def _checked(
    state: State,
    shapes: dict[str, str],
    optional: Any = (),
    *,
    sizes: dict[str, int] | None = None,
    allow_empty: bool = False,
) -> dict[str, np.ndarray]:
    """Check the names, shapes and numbers of a state's arrays, and copy them."""
    arrays = dict(state.arrays)
    kept = {}
    if allow_empty:  # a connector without weights, of which Tensors would complain
        empty = {name for name, array in arrays.items() if array.shape == (0,)}
        kept = {name: arrays.pop(name) for name in empty}
        shapes = {name: text for name, text in shapes.items() if name not in empty}
    n_bytes = sum(array.nbytes for array in arrays.values())
    found = Tensors(arrays, n_bytes).arrays(shapes, sizes=sizes, optional=optional)
    return found | kept


_CODERS: dict[str, tuple[Any, dict[str, Callable]]] = {
    "SparseAutoencoder": (SparseAutoencoder, _AUTOENCODER),
    "Transcoder": (Transcoder, _TRANSCODER),
}
_CONNECTORS: dict[str, type] = {
    "FeatureConnector": FeatureConnector,
    "FeatureConnectorCV": FeatureConnectorCV,
}


class Kind(NamedTuple):
    """How a class is written and read."""

    cls: type
    state: Callable[[Any], State]
    restore: Callable[[State], Any]


KINDS = {
    "SparseAutoencoder": Kind(SparseAutoencoder, coder_state, to_coder),
    "Transcoder": Kind(Transcoder, coder_state, to_coder),
    "FeatureConnector": Kind(FeatureConnector, connector_state, to_connector),
    "FeatureConnectorCV": Kind(FeatureConnectorCV, connector_state, to_connector),
    "LayerPair": Kind(LayerPair, pair_state, to_pair),
}
