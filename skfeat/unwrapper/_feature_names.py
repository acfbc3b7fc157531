"""The features of an unwrapper's layers as the columns of a transformer."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skfeat.network._arrays import layer_index
from skfeat.utils._sklearn import _check_feature_names_in, _get_container_adapter


class LayerFeatures:
    """Mixin of FeatureUnwrapper: features of any layer, under that layer's names.

    scikit-learn labels what `transform` returns by the names of a single set of
    columns, but only where a transformer's own class defines it: here it does not.
    """

    layer_names_: list[str]
    _network: Any
    _validate: Any
    _chain: Any

    def _activations(self, X, layer=None) -> np.ndarray:
        """Compute what the model itself has in one unwrapped layer; None: the last."""
        at = layer_index(self.layer_names_, -1 if layer is None else layer)
        hidden = {layer.name: layer for layer in self._chain.hidden}
        stop = hidden[self.layer_names_[at]].stop
        return self._chain.forward(self._validate(X), 0, stop)

    def transform(self, X, layer=-1) -> Any:
        """Compute the features of one layer as the network computes them.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Inputs of the model.
        layer : int or str, default=-1
            Index among the unwrapped layers, or a name in `layer_names_`.

        Returns
        -------
        ndarray of shape (n, m)
            A data frame if `set_output` asks for one, with the names of that layer's
            features.

        Raises
        ------
        ValueError
            If there is no such layer.
        """
        rows = self._validate(X)
        at = layer_index(self.layer_names_, layer)
        features = self._network.features(rows)[at]
        adapter = _get_container_adapter("transform", self)
        if adapter is None:
            return features
        names = np.asarray(self._network.feature_names_[at], dtype=object)
        return adapter.create_container(features, X, columns=names)

    def get_feature_names_out(self, input_features=None, layer=-1) -> np.ndarray:
        """Return the names of a layer's features, as formulas and graphs have them.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Only checked against `feature_names_in_`.
        layer : int or str, default=-1
            Index among the unwrapped layers, or a name in `layer_names_`.

        Returns
        -------
        ndarray of str
            ``"F1_0", "F1_1", ...`` of the first layer, ``"F2_0", ...`` of the second.

        Raises
        ------
        ValueError
            If there is no such layer.
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features, generate_names=False)
        at = layer_index(self.layer_names_, layer)
        names = self._network.feature_names_[at]
        return np.asarray(names, dtype=object)
