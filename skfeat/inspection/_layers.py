"""One layer of an unwrapper, where a display shows a part of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skfeat.inspection._inputs import feature_labels, fitted_step
from skfeat.network._arrays import layer_index, layer_title
from skfeat.utils._checks import value_error


def is_unwrapper(estimator: Any) -> bool:
    """Tell whether an estimator is a fitted unwrapper, of several layers."""
    return hasattr(estimator, "layer_names_") and hasattr(estimator, "autoencoders_")


def chosen_layer(estimator: Any, layer: Any) -> tuple[int, str] | None:
    """Return the number and title of a layer of an unwrapper, None of all else.

    Raises
    ------
    ValueError
        If there is no such layer, or `layer` is given of an estimator that has none.
    """
    if not is_unwrapper(estimator):
        if layer is not None:
            allowed = "None, as the estimator is no fitted FeatureUnwrapper"
            raise value_error("layer", allowed, layer)
        return None
    names = estimator.layer_names_
    at = layer_index(names, -1 if layer is None else layer)
    return at, layer_title(names[at])


def autoencoder_of(estimator: Any, layer: Any) -> tuple[Any, str | None]:
    """Return the autoencoder of a layer with its title, or the estimator itself."""
    chosen = chosen_layer(estimator, layer)
    if chosen is None:
        return estimator, None
    at, title = chosen
    return estimator.autoencoders_[at], title


def connector_of(estimator: Any, layer: Any) -> tuple[Any, str | None]:
    """Return the connector that computes a layer with its title, or the estimator."""
    estimator = fitted_step("connector", estimator)
    chosen = chosen_layer(estimator, layer)
    if chosen is None:
        return estimator, None
    at, title = chosen
    if at:
        before = chosen_layer(estimator, at - 1)
        assert before is not None
        return estimator.connectors_[at - 1], f"{before[1]} to {title}"
    if not hasattr(estimator, "input_connector_"):
        first = estimator.layer_names_[0]
        allowed = f"another than the first, {first!r}, which no connector computes"
        raise value_error("layer", allowed, layer)
    return estimator.input_connector_, f"inputs to {title}"


def codes_of(
    transformer: Any, X: Any, layer: Any
) -> tuple[Any, str | None, Sequence[str]]:
    """Return the codes of rows, the title of their layer, and the features' names."""
    chosen = chosen_layer(transformer, layer)
    if chosen is None:
        codes = transformer.transform(X)
        return codes, None, feature_labels(transformer, codes, codes.shape[1])
    at, title = chosen
    codes = transformer.transform(X, layer=at)
    return codes, title, transformer.network().feature_names_[at]
