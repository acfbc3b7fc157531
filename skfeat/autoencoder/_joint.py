"""An autoencoder's weights, to and from training together with connectors."""

from __future__ import annotations

from copy import copy

import numpy as np

from skfeat.activations import JumpReLU
from skfeat.autoencoder._coder import WEIGHTS
from skfeat.autoencoder._quality import diagnose, n_dead_in
from skfeat.autoencoder._setup import NoTrainingState
from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder
from skfeat.solvers.joint._problem import Coder


def coder_of(autoencoder: SparseAutoencoder, *, frozen: bool) -> Coder:
    """Return the weights of a fitted autoencoder; its matrices are not copied."""
    return Coder(
        np.asarray(autoencoder.encoder_coef_),
        np.asarray(autoencoder.encoder_intercept_, dtype=np.float64),
        np.asarray(autoencoder.components_),
        np.asarray(autoencoder.intercept_, dtype=np.float64),
        autoencoder.make_activation(),
        tied=bool(autoencoder.tied),
        frozen=frozen,
    )


def drop_training_state(autoencoder: SparseAutoencoder) -> None:
    """Drop from what a fit goes on: weights and moments, three times the weights."""
    autoencoder._state = NoTrainingState("was trained together with connectors")


def with_coder(
    autoencoder: SparseAutoencoder, coder: Coder, X: np.ndarray | None = None
) -> SparseAutoencoder:
    """Copy a fitted autoencoder, with weights that were trained on.

    Parameters
    ----------
    autoencoder : SparseAutoencoder
        Returned as it is if the coder is frozen.
    coder : Coder
    X : ndarray of shape (n, d), or None
        Rows on which to measure its codes anew; ``None``: they are not measured.
    """
    if coder.frozen:
        return autoencoder
    own = copy(autoencoder)
    dtype = autoencoder.components_.dtype
    weights = {
        "encoder_coef_": coder.encoder,
        "encoder_intercept_": coder.encoder_bias,
        "components_": coder.decoder,
        "intercept_": coder.bias,
    }
    if isinstance(coder.activation, JumpReLU):
        weights["threshold_"] = coder.activation.threshold
    for name, array in weights.items():
        setattr(own, name, array.astype(dtype))
    drop_training_state(own)
    if X is not None:
        fitted = {name: getattr(own, name) for name in WEIGHTS if hasattr(own, name)}
        activation = own.make_activation()
        for name, value in diagnose(X, np.ones(len(X)), fitted, activation).items():
            setattr(own, name, value)
        own.feature_density_ = own.feature_density_.astype(dtype)
        own.n_dead_ = n_dead_in(X, fitted, activation)
    return own
