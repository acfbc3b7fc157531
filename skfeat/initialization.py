"""Starts for a connector that are computed from the network itself."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skfeat.utils._checks import type_error, value_error


def product_init(encoded, coef, intercept, encoder) -> tuple[np.ndarray, np.ndarray]:
    """Multiply decoder, layer and encoder into the start of a connector.

    Were there no nonlinearity between decoder and encoder, features ``F2`` would be
    ``max(0, W2 F1 + b2)`` with ``W2 = E2 W D1`` and ``b2 = E2 (W d1 + b - d2) + e2``,
    where ``D1, d1`` decode the first layer's features, ``W, b`` are the layer's own
    weights and ``E2, d2, e2`` encode the second layer.

    Parameters
    ----------
    encoded : SparseAutoencoder
        Fitted on the first layer.
    coef : array-like of shape (d2, d1)
        Weights of the layer between.
    intercept : array-like of shape (d2,)
        Bias of the layer between.
    encoder : SparseAutoencoder
        Fitted on the second layer.

    Returns
    -------
    coef : ndarray of shape (m2, m1)
    intercept : ndarray of shape (m2,)

    Raises
    ------
    ValueError
        If the shapes do not fit together, or a value is not finite.
    TypeError
        If `encoded` or `encoder` is no autoencoder.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat import FeatureConnector, SparseAutoencoder
    >>> from skfeat.initialization import product_init
    >>> rng = np.random.RandomState(0)
    >>> H1, W, b = np.maximum(rng.randn(300, 6), 0), rng.randn(5, 6), np.zeros(5)
    >>> H2 = np.maximum(H1 @ W.T + b, 0)
    >>> first = SparseAutoencoder(12, k=4, random_state=0).fit(H1)
    >>> second = SparseAutoencoder(8, k=4, random_state=0).fit(H2)
    >>> start = product_init(first, W, b, second)
    >>> connector = FeatureConnector(0.001, init=start)
    >>> connector = connector.fit(first.transform(H1), second.transform(H2))
    """
    for name, part in (("encoded", encoded), ("encoder", encoder)):
        if not hasattr(part, "transform"):
            raise type_error(name, "a fitted SparseAutoencoder", part)
        check_is_fitted(part, "components_")
    coef, intercept = _numbers("coef", coef), _numbers("intercept", intercept)
    expected = (encoder.components_.shape[1], encoded.components_.shape[1])
    if coef.shape != expected or intercept.shape != expected[:1]:
        raise ValueError(
            f"The layer between the autoencoders must have weights of shape {expected} "
            f"and a bias of shape {expected[:1]}. Got {coef.shape} and "
            f"{intercept.shape} instead."
        )
    pre_bias = coef @ encoded.intercept_ + intercept - encoder.intercept_
    return (
        encoder.encoder_coef_ @ coef @ encoded.components_.T,
        encoder.encoder_coef_ @ pre_bias + encoder.encoder_intercept_,
    )


def _numbers(name: str, value) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise value_error(name, "an array of finite numbers", value)
    return array
