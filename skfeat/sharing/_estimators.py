"""Fitted estimators to plain values and arrays, and back, each by itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from skfeat.autoencoder._coder import WEIGHTS, SparseCoder
from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder
from skfeat.autoencoder._transcoder import Transcoder
from skfeat.connector._base import BaseConnector
from skfeat.connector._feature_connector import FeatureConnector
from skfeat.connector._feature_connector_cv import FeatureConnectorCV
from skfeat.interop._files import Tensors
from skfeat.language._mlp_connector import MLPConnector
from skfeat.network._file import read_csr
from skfeat.sharing._state import State, from_params, plain, plain_params
from skfeat.utils._arrays import as_numpy

# What codes an autoencoder of each activation can have: names of skfeat.activations.
_CODES = ("relu", "topk", "jumprelu")
_CSR = ("data", "indices", "indptr")


def _floats(values: Any) -> list[float]:
    return [float(value) for value in values]


def texts(values: Any) -> np.ndarray:
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise ValueError(f"names must be a list of strings, not {values!r}")
    return np.array(values, dtype=object)


def _names(values: Any) -> str | list[str]:
    return values if isinstance(values, str) else texts(values).tolist()


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value


# Fitted values by attribute, and what makes them of JSON.
_SHARED: dict[str, Callable] = {
    "n_features_in_": int,
    "feature_names_in_": texts,
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
    "_y_is_1d": flag,
}
_CONNECTOR: dict[str, Callable] = _SHARED | {
    "alpha_": float,
    "dual_gap_": float,
    "n_nonzero_coefs_": int,
    "output_names_": texts,
    "pruning_epochs_": lambda values: tuple(_floats(values)),
    "_y_is_1d": flag,
    "_input_names": _names,
    "_output_names": _names,
}
_MLP: dict[str, Callable] = {
    "n_features_in_": int,
    "feature_names_in_": texts,
    "n_iter_": int,
    "validation_scores_": _floats,
    "_y_is_1d": flag,
}


def coder_state(coder: SparseCoder) -> State:
    """Return an autoencoder or a transcoder as plain values and arrays."""
    names = [*WEIGHTS, "feature_density_"]
    kind = type(coder).__name__
    values = values_of(coder, _CODERS[kind][1])
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
    arrays = checked_arrays(state, shapes, optional)
    m, d = arrays["encoder_coef_"].shape
    if code[0] == "topk" and (type(code[1]) is not int or not 1 <= code[1] <= m):
        raise ValueError(f"its k must be a whole number from 1 to {m}, not {code[1]!r}")
    fitted = fitted_of(values, readers)
    check_width(fitted, d)
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
    params = plain_params(connector) | {"link": connector._fitted_link}
    if not isinstance(params.get("init", ""), str):
        del params["init"]  # weights to start from, which the fit has left behind
    coef = sparse.csr_array(connector.coef_)
    arrays = {f"coef.{part}": getattr(coef, part) for part in _CSR}
    arrays["intercept_"] = connector.intercept_
    for name in ("alphas_", "mse_path_"):
        if hasattr(connector, name):
            arrays[name] = getattr(connector, name)
    values = values_of(connector, _CONNECTOR)
    return State(type(connector).__name__, params, values, arrays)


def to_connector(state: State) -> BaseConnector:
    """Make the connector again."""
    connector = from_params(CONNECTORS[state.kind], state.params)
    fitted = fitted_of(state.values, _CONNECTOR)
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
    arrays = checked_arrays(state, shapes, {"alphas_", "mse_path_"}, allow_empty=empty)
    vars(connector).update(fitted)
    for name in ("alphas_", "mse_path_"):
        if name in arrays:
            setattr(connector, name, arrays[name])
    shape = (len(arrays["intercept_"]), fitted["n_features_in_"])
    connector._take_back(read_csr(arrays, "coef", shape), arrays["intercept_"])
    return connector


def mlp_state(connector: MLPConnector) -> State:
    """Return a nonlinear connector as plain values and arrays."""
    return State(
        "MLPConnector",
        plain_params(connector),
        values_of(connector, _MLP),
        {name: getattr(connector, name) for name in _MLP_SHAPES},
    )


def to_mlp(state: State) -> MLPConnector:
    """Make the nonlinear connector again."""
    connector = from_params(MLPConnector, state.params)
    fitted = fitted_of(state.values, _MLP)
    for name in ("_y_is_1d", "n_iter_", "validation_scores_"):
        if name not in fitted:
            raise ValueError(f"it has no {name!r}")
    arrays = checked_arrays(state, _MLP_SHAPES)
    n_outputs, n_inputs = arrays["coef_"].shape
    check_width(fitted, n_inputs)
    if fitted["_y_is_1d"] and n_outputs > 1:
        raise ValueError(f"its _y_is_1d must be false with {n_outputs} outputs")
    vars(connector).update(fitted | arrays)
    return connector


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def check_kind(state: State, name: str, allowed: list[str]) -> None:
    if state.kind not in allowed:
        raise ValueError(f"its {name} must be a {allowed[0]}, not {state.kind!r}")


def check_width(fitted: Mapping[str, Any], width: int) -> None:
    if fitted.get("n_features_in_") != width:
        raise ValueError(
            f"its n_features_in_ must be {width}, not {fitted.get('n_features_in_')!r}"
        )


def values_of(estimator: Any, readers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fitted values of an estimator that JSON can hold."""
    own, found = vars(estimator), {}
    for name in readers:
        if name in own:
            value = own[name]
            found[name] = value if isinstance(value, dict) else plain(value)
    return found


def fitted_of(values: Mapping[str, Any], readers: Mapping[str, Any]) -> dict[str, Any]:
    """Check and convert fitted values of a file."""
    if unknown := sorted(set(values) - set(readers)):
        raise ValueError(f"it also has {unknown[0]!r}")
    return {name: readers[name](value) for name, value in values.items()}


def checked_arrays(
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
CONNECTORS: dict[str, type] = {
    "FeatureConnector": FeatureConnector,
    "FeatureConnectorCV": FeatureConnectorCV,
}


_MLP_SHAPES = {
    "coef_": "qp",
    "intercept_": "q",
    "hidden_coef_": "hp",
    "hidden_intercept_": "h",
    "output_coef_": "qh",
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
    "MLPConnector": Kind(MLPConnector, mlp_state, to_mlp),
}
