"""Rows to features, features to features, features to rows: a fitted pair at work."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder
from skfeat.connector._feature_connector import FeatureConnector
from skfeat.language._pair_codes import (
    as_float_rows,
    check_rows,
    predict_codes,
    sparse_codes,
)
from skfeat.utils._arrays import accept_tensor
from skfeat.utils._finite import check_finite_result
from skfeat.utils._names import READ_PREFIX, WRITTEN_PREFIX, Numbered, named
from skfeat.utils._rows import row_blocks
from skfeat.utils._sklearn import _align_api_if_sparse

MAP_ATTRIBUTES = {
    "sparse": "connector_",
    "dense": "dense_connector_",
    "nonlinear": "nonlinear_connector_",
}
# Rows that are decoded at a time, as their features are dense.
_BLOCK_ROWS = 1024


class PairFeaturesMixin:
    """Encode, predict and decode with the parts of a fitted :class:`LayerPair`."""

    input_autoencoder_: SparseAutoencoder
    output_autoencoder_: SparseAutoencoder
    input_events_: np.ndarray
    output_events_: np.ndarray
    live_inputs_: np.ndarray
    live_outputs_: np.ndarray
    output_mean_: np.ndarray
    connector_: FeatureConnector
    _y_is_1d: bool

    def predict(self, X: Any, connector: str = "sparse") -> np.ndarray:
        """Predict rows of the MLP's output: encode, connect, decode.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows of the residual stream before the MLP.
        connector : {"sparse", "dense", "nonlinear"}, default="sparse"
            The fitted map between the features that predicts.

        Returns
        -------
        ndarray of shape (n, d_out) or (n,)
            In the dtype of X.

        Raises
        ------
        ValueError
            If the pair has no such map.
        """
        model = self._connector(connector)
        X = self._check_inputs(X, reset=False)
        shape = (len(X), len(self.output_mean_))
        predicted = np.empty(shape, as_float_rows(X[:1]).dtype)
        for block, rows in row_blocks(X, _BLOCK_ROWS):
            codes = sparse_codes(self.input_autoencoder_, rows, self.live_inputs_)
            with np.errstate(over="ignore", invalid="ignore"):
                decoded = self.decode_features(predict_codes(model, codes))
            check_finite_result("The predictions", decoded, rows)
            predicted[block] = decoded
        return predicted.ravel() if self._y_is_1d else predicted

    def predict_features(self, X: Any, connector: str = "sparse") -> np.ndarray:
        """Predict the live output features from the input features.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows of the residual stream before the MLP.
        connector : {"sparse", "dense", "nonlinear"}, default="sparse"
            The fitted map between the features that predicts.

        Returns
        -------
        ndarray of shape (n, n_live_outputs)
            One column for each of `live_outputs_`.

        Raises
        ------
        ValueError
            If the pair has no such map.
        """
        model = self._connector(connector)
        return predict_codes(model, self.input_features(X))

    def input_features(self, X: Any) -> sparse.csr_array:
        """Encode rows of the residual stream into the live input features.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows of the residual stream before the MLP.

        Returns
        -------
        CSR matrix of shape (n, n_live_inputs)
            One column for each of `live_inputs_`.
        """
        check_is_fitted(self)
        X = self._check_inputs(X, reset=False)
        codes = sparse_codes(self.input_autoencoder_, X, self.live_inputs_)
        return _align_api_if_sparse(codes)

    def output_features(self, y: Any) -> sparse.csr_array:
        """Encode rows of the MLP's output into the live output features.

        Parameters
        ----------
        y : array-like of shape (n, d_out) or (n,)
            Rows of the MLP's output.

        Returns
        -------
        CSR matrix of shape (n, n_live_outputs)
            One column for each of `live_outputs_`.
        """
        check_is_fitted(self)
        y = self._check_outputs(y, reset=False)
        codes = sparse_codes(self.output_autoencoder_, y, self.live_outputs_)
        return _align_api_if_sparse(codes)

    def decode_features(self, features: Any) -> np.ndarray:
        """Decode live output features into rows of the MLP's output.

        Parameters
        ----------
        features : array-like or CSR matrix of shape (n, n_live_outputs)
            One column for each of `live_outputs_`; the other features are zero.

        Returns
        -------
        ndarray of shape (n, d_out)

        Raises
        ------
        ValueError
            If the features are not finite, or the number of columns is another.
        """
        check_is_fitted(self)
        features = check_array(
            accept_tensor(features, "features"),
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            ensure_min_samples=0,
            input_name="features",
        )
        n_live = len(self.live_outputs_)
        if features.shape[1] != n_live:
            raise ValueError(
                f"features must have {n_live} columns, one for each of live_outputs_. "
                f"Got {features.shape[1]} instead."
            )
        decoder = self.output_autoencoder_
        return features @ decoder.components_[self.live_outputs_] + decoder.intercept_

    def reconstruct(self, y: Any) -> np.ndarray:
        """Reconstruct rows of the MLP's output from their own features, live or not.

        Parameters
        ----------
        y : array-like of shape (n, d_out) or (n,)
            Rows of the MLP's output.

        Returns
        -------
        ndarray of shape (n, d_out) or (n,)
            What an exact map to the output features would predict.
        """
        check_is_fitted(self)
        y = self._check_outputs(y, reset=False)
        decoder = self.output_autoencoder_
        parts = [
            decoder.inverse_transform(sparse_codes(decoder, rows))
            for _, rows in row_blocks(y, _BLOCK_ROWS)
        ]
        rows = np.concatenate(parts)
        return rows.ravel() if self._y_is_1d else rows

    def connectors(self) -> dict[str, Any]:
        """Return the fitted maps between the live features.

        Returns
        -------
        dict of str to regressor
            "sparse", "dense" and, if there is one, "nonlinear".
        """
        check_is_fitted(self)
        return {
            key: getattr(self, attribute)
            for key, attribute in MAP_ATTRIBUTES.items()
            if hasattr(self, attribute)
        }

    def _names(self) -> tuple[Numbered, Numbered]:
        """Return the names of all features, of those read and of those written."""
        n_written, n_read = len(self.output_events_), len(self.input_events_)
        return Numbered(READ_PREFIX, n_read), Numbered(WRITTEN_PREFIX, n_written)

    def _tell_names(self) -> None:
        """Let the fitted parts call the features what the pair calls them."""
        for side, prefix in (("input", READ_PREFIX), ("output", WRITTEN_PREFIX)):
            key = f"{side}_autoencoder_"
            setattr(self, key, named(getattr(self, key), feature_names=prefix))
        read, written = self._names()
        self.connector_ = named(
            self.connector_,
            input_names=[read[i] for i in self.live_inputs_.tolist()],
            output_names=[written[i] for i in self.live_outputs_.tolist()],
        )

    def _connector(self, name: str) -> Any:
        fitted = self.connectors()
        if not isinstance(name, str) or name not in fitted:
            hint = "; nonlinear_connector is None" if name == "nonlinear" else ""
            raise ValueError(
                f"connector must be one of {', '.join(map(repr, fitted))}. Got "
                f"{name!r} instead{hint}."
            )
        return fitted[name]

    def _check_inputs(self, X: Any, *, reset: bool) -> np.ndarray:
        if not reset:
            check_is_fitted(self)
        checked = check_rows(X, "X", self)
        # Column names and their number come from the table that the caller gave.
        validate_data(self, X, skip_check_array=True, reset=reset)
        return checked

    def _check_outputs(self, y: Any, *, reset: bool) -> np.ndarray:
        y = check_rows(y, "y", self, ensure_2d=False)
        is_1d = y.ndim == 1
        y = y.reshape(-1, 1) if is_1d else y
        if reset:
            self._y_is_1d = is_1d
        elif y.shape[1] != len(self.output_mean_):
            raise ValueError(
                f"y has {y.shape[1]} columns, but this LayerPair was fitted with "
                f"{len(self.output_mean_)}."
            )
        return y
