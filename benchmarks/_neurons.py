"""Neurons as features: a model as it is, and the same pruned and distilled."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from torch import nn

from skfeat.activations import ReLU
from skfeat.chain import Chain
from skfeat.network import SparseFeatureNetwork
from skfeat.solvers._loop import one_cycle
from skfeat.solvers._prune import Pruner, is_time, share

# Share of the latest batch in the running mean of squared gradients.
_CURVATURE_SHARE = 0.02


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


def pruned_neurons(
    model, X, n_weights, *, seed, n_steps=2_500, batch_size=512, learning_rate=5e-3
):
    """Prune a copy of the model to so many weights in all, and distil it on the way.

    The weights whose loss would cost least by a parabola in each go first, whatever
    layer they are in; biases stay and train.
    """
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    weights, biases = (
        [getattr(layer, name).detach().clone().requires_grad_() for layer in layers]
        for name in ("weight", "bias")
    )
    X = torch.from_numpy(X)
    with torch.no_grad():
        log_p = model(X).log_softmax(dim=1)
    generator = torch.Generator().manual_seed(seed)
    n_first = sum(weight.numel() for weight in weights)
    # The budget is one of all layers: only its sum counts.
    budgets = [n_weights] + [0] * (len(weights) - 1)
    pruners = [
        Pruner(weight.data, budget, 0)
        for weight, budget in zip(weights, budgets, strict=True)
    ]
    pruners[0].first = n_first
    curvatures = [torch.zeros_like(weight) for weight in weights]
    optimizer = torch.optim.Adam([*weights, *biases], lr=learning_rate)
    for n_done in range(1, n_steps + 1):
        rows = torch.randint(len(X), (batch_size,), generator=generator)
        hidden = X[rows]
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            hidden = nn.functional.linear(hidden, weight, bias).relu()
        log_q = nn.functional.linear(hidden, weights[-1], biases[-1]).log_softmax(dim=1)
        loss = (log_p[rows].exp() * (log_p[rows] - log_q)).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        progress = n_done / n_steps
        rate = learning_rate * one_cycle(progress, warm_up=0.1, decay=0.5)
        optimizer.param_groups[0]["lr"] = rate
        for weight, curvature, pruner in zip(weights, curvatures, pruners, strict=True):
            curvature.lerp_(weight.grad.square(), _CURVATURE_SHARE)
            weight.grad *= pruner.mask
        optimizer.step()
        for pruner in pruners:
            pruner.apply()
        if is_time(n_done, progress) or n_done == n_steps:
            saliencies = [
                weight.detach().square() * curvature
                for weight, curvature in zip(weights, curvatures, strict=True)
            ]
            share(pruners, progress, saliencies)
    pruned = nn.Sequential()
    for weight, bias in zip(weights, biases, strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.weight.data, layer.bias.data = weight.detach(), bias.detach()
        pruned.append(layer)
        pruned.append(nn.ReLU())
    return neurons(pruned[:-1])
