"""Which classes can be shared, and what is written of each."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from skfeat.network._network import SparseFeatureNetwork
from skfeat.utils._checks import listed, type_error

NETWORK_KIND = "SparseFeatureNetwork"
_ESTIMATORS = "skfeat.sharing._pairs"


def kinds() -> dict[str, Any]:
    """Return how each estimator is written and read; this imports torch."""
    return import_module(_ESTIMATORS).KINDS


def to_share(estimator: Any) -> tuple[str, Any]:
    """Return the name of what is written, and the thing itself, fitted.

    Raises
    ------
    TypeError
        If the estimator is of another class.
    NotFittedError
        If it is not fitted.
    """
    # A class derived from one of these would come back as its base.
    if type(estimator) is SparseFeatureNetwork:
        return NETWORK_KIND, estimator
    module, name = type(estimator).__module__, type(estimator).__name__
    if module.partition(".")[0] == "skfeat":
        if name == "FeatureUnwrapper":
            return NETWORK_KIND, estimator.network()
        if name in kinds() and type(estimator) is kinds()[name].cls:
            from sklearn.utils.validation import check_is_fitted

            check_is_fitted(estimator)
            return name, estimator
    known = listed(
        [
            *("SparseAutoencoder", "Transcoder", "FeatureEnsemble", "FeatureConnector"),
            *("FeatureConnectorCV", "FeatureUnwrapper", "LayerPair", "MLPConnector"),
            "ModelUnwrapper",
            NETWORK_KIND,
        ],
        "or",
    )
    raise type_error("estimator", f"a fitted {known}", estimator)
