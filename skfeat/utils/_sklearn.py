"""Every private name that skfeat takes from scikit-learn.

They are gathered here so that a scikit-learn release that moves one breaks one line.
Checked on scikit-learn 1.9.1.
"""

from __future__ import annotations

from typing import Any

from sklearn.base import _clone_parametrized, _fit_context
from sklearn.callback._transport import close_listener, open_listener, send
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import _align_api_if_sparse
from sklearn.utils._array_api import (
    _convert_to_numpy,
    check_same_namespace,
    get_namespace,
    get_namespace_and_device,
    move_to,
    supported_float_dtypes,
)
from sklearn.utils._metadata_requests import _raise_for_params, _routing_enabled
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    RealNotInt,
    StrOptions,
    make_constraint,
)
from sklearn.utils._plotting import _validate_style_kwargs
from sklearn.utils._repr_html.estimator import _VisualBlock
from sklearn.utils._set_output import _get_container_adapter, _get_output_config
from sklearn.utils.parallel import _get_threadpool_controller
from sklearn.utils.validation import (
    _check_feature_names_in,
    _check_sample_weight,
    _num_samples,
)

__all__ = [
    "BaseSearchCV",
    "HasMethods",
    "Interval",
    "InvalidParameterError",
    "RealNotInt",
    "StrOptions",
    "_VisualBlock",
    "_align_api_if_sparse",
    "_check_feature_names_in",
    "_check_sample_weight",
    "_clone_parametrized",
    "_convert_to_numpy",
    "_fit_context",
    "_get_container_adapter",
    "_get_output_config",
    "_get_threadpool_controller",
    "_num_samples",
    "_raise_for_params",
    "_routing_enabled",
    "_validate_style_kwargs",
    "callbacks_of",
    "check_matplotlib_support",
    "check_same_namespace",
    "close_listener",
    "curve_pos_label",
    "get_namespace",
    "get_namespace_and_device",
    "move_to",
    "open_listener",
    "parent_context_of",
    "refuse_flag",
    "send",
    "supported_float_dtypes",
]


def refuse_flag(estimator: Any, name: str, value: bool) -> None:
    """Raise InvalidParameterError for a bool where a parameter is a number.

    scikit-learn's own check takes True for the number 1.

    Parameters
    ----------
    estimator : estimator
    name : str
        Of the parameter.
    value : bool
        Its value.
    """
    allowed = estimator._parameter_constraints.get(name, "no_validation")
    if isinstance(allowed, str):  # its own code checks it
        return
    kinds = [kind for kind in allowed if kind not in ("boolean", "verbose")]
    if len(kinds) < len(allowed):
        return
    texts = [str(make_constraint(kind)) for kind in kinds]
    listed = texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"
    raise InvalidParameterError(
        f"The {name!r} parameter of {type(estimator).__name__} must be {listed}. Got "
        f"{value!r} instead."
    )


def curve_pos_label(model: Any) -> Any:
    """Return the class whose score a TunedThresholdClassifierCV compares, or None."""
    return model._curve_scorer._get_pos_label()


def callbacks_of(estimator: Any) -> list:
    """Return the callbacks of an estimator: its own, and those it is fitted under."""
    return getattr(estimator, "_skl_callbacks", [])


def parent_context_of(estimator: Any) -> Any:
    """Return the task of a search or a pipeline that fits an estimator, or None."""
    return getattr(estimator, "_parent_callback_ctx", None)
