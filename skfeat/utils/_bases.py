"""scikit-learn's base classes, with types for those who call our estimators.

scikit-learn has no types, and a class with an untyped base has every attribute to a
type checker: it would find no misspelt method. To a checker the bases are the classes
declared here, with the methods that users call; at run time they are scikit-learn's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from skfeat.utils import _sklearn
from skfeat.utils._searches import receivers_of
from skfeat.utils._warnings import received_by

_Method = TypeVar("_Method", bound=Callable[..., Any])

if TYPE_CHECKING:
    from typing import Self

    from sklearn.utils.metadata_routing import MetadataRequest

    class BaseEstimator:
        """Parameters, requests for metadata and the state of a pickle."""

        n_features_in_: int
        feature_names_in_: Any
        _parameter_constraints: dict[str, Any]

        def get_params(self, deep: bool = True) -> dict[str, Any]: ...
        def set_params(self, **params: Any) -> Self: ...
        def get_metadata_routing(self) -> MetadataRequest: ...
        def set_fit_request(self, **requests: Any) -> Self: ...
        def set_partial_fit_request(self, **requests: Any) -> Self: ...
        def set_predict_request(self, **requests: Any) -> Self: ...
        def set_score_request(self, **requests: Any) -> Self: ...
        def set_transform_request(self, **requests: Any) -> Self: ...
        def _validate_params(self) -> None: ...
        def _repr_html_(self) -> str: ...
        def __getstate__(self) -> dict[str, Any]: ...
        def __setstate__(self, state: dict[str, Any]) -> None: ...
        def __sklearn_tags__(self) -> Any: ...

    class CallbackSupportMixin:
        """Callbacks of scikit-learn 1.9."""

        def set_callbacks(self, *callbacks: Any) -> Self: ...
        def _init_callback_context(self, *args: Any, **options: Any) -> Any: ...

    class TransformerMixin:
        """What transformers share."""

        def fit_transform(self, X: Any, y: Any = None, **params: Any) -> Any: ...
        def set_output(self, *, transform: str | None = None) -> Self: ...

    class ClassNamePrefixFeaturesOutMixin:
        """Names of output columns by the class."""

        def get_feature_names_out(self, input_features: Any = None) -> Any: ...

    class RegressorMixin:
        """Marks regressors, and scores them by R2."""

        def score(self, X: Any, y: Any, sample_weight: Any = None) -> float: ...

    class MultiOutputMixin:
        """Marks estimators of several outputs."""

else:
    from sklearn.base import (
        BaseEstimator,
        ClassNamePrefixFeaturesOutMixin,
        MultiOutputMixin,
        RegressorMixin,
        TransformerMixin,
    )
    from sklearn.callback import CallbackSupportMixin

__all__ = [
    "BaseEstimator",
    "CallbackSupportMixin",
    "ClassNamePrefixFeaturesOutMixin",
    "MultiOutputMixin",
    "RegressorMixin",
    "TransformerMixin",
    "fit_context",
]


def fit_context(*, prefer_skip_nested_validation: bool) -> Callable[[_Method], _Method]:
    """Validate parameters before a method runs, as scikit-learn's own decorator.

    The warnings of the method go to those that gather them for many fits. To a type
    checker the method stays what it is.
    """

    def decorate(method: _Method) -> _Method:
        @wraps(method)
        def run(estimator: Any, *args: Any, **params: Any) -> Any:
            with received_by(receivers_of(estimator)):
                return method(estimator, *args, **params)

        return _sklearn._fit_context(
            prefer_skip_nested_validation=prefer_skip_nested_validation
        )(run)

    return decorate
