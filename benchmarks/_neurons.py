"""Neurons as features."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from torch import nn

from skfeat.activations import ReLU
from skfeat.chain import Chain
from skfeat.network import SparseFeatureNetwork


def neurons(model):
    """Write an MLP of linear and ReLU layers as a network whose features are neurons.

    Weights that are zero are no weights of the network.
    """
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    coefs = [layer.weight.detach().numpy() for layer in layers]
    intercepts = [layer.bias.detach().numpy() for layer in layers]
    n_inputs, n_outputs = coefs[0].shape[1], len(coefs[-1])
    n_between = len(coefs) - 2
    return SparseFeatureNetwork(
        front=Chain.from_steps([], n_features_in=n_inputs),
        encoder_coef=sparse.csr_array(coefs[0]),
        encoder_intercept=intercepts[0],
        encoder_bias=np.zeros(n_inputs, coefs[0].dtype),
        activation=ReLU(),
        coefs=[sparse.csr_array(coef) for coef in coefs[1:-1]],
        intercepts=intercepts[1:-1],
        links=["relu"] * n_between,
        decoder_coef=sparse.csr_array(coefs[-1].T),
        decoder_intercept=intercepts[-1],
        back=Chain.from_steps([], n_features_in=n_outputs),
        layer_names=[f"hidden {i + 1}" for i in range(n_between + 1)],
    )
