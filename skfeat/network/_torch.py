"""A SparseFeatureNetwork as a torch module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import nn

from skfeat.chain import Chain, Step
from skfeat.chain._kinds import JOINS
from skfeat.chain._steps import torch_step
from skfeat.network._arrays import NetworkArrays


class _StepModule(nn.Module):
    """One step of a chain, its arrays as parameters of the same names.

    The branches of a join are modules "0", "1" and so on.
    """

    def __init__(self, step: Step, dtype: torch.dtype):
        super().__init__()
        self.kind, self.settings = step.kind, dict(step.settings)
        for name, array in step.arrays.items():
            self.register_parameter(name, _parameter(array, dtype))
        for index, branch in enumerate(step.branches):
            self.add_module(str(index), step_modules(branch, dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._modules:
            results = [branch(x) for branch in self.children()]
            return JOINS[self.kind].join(results, torch.cat)
        # Looked up at each call: the functions are lambdas, which no pickle takes.
        function = torch_step(self.kind)
        return function(x, dict(self.named_parameters()), self.settings)

    def extra_repr(self) -> str:
        return self.kind


class NetworkModule(nn.Module):
    """What :meth:`skfeat.network.SparseFeatureNetwork.to_torch` returns.

    Parameters
    ----------
    network : NetworkArrays
    """

    def __init__(self, network: NetworkArrays):
        super().__init__()
        arrays = [
            *(a for chain in (network.front, network.back) for a in _arrays(chain)),
            *(network.encoder_coef_, network.encoder_intercept_, network.encoder_bias_),
            *(network.decoder_coef_, network.decoder_intercept_),
            *network.coefs_,
            *network.intercepts_,
        ]
        is_double = any(array.dtype == np.float64 for array in arrays)
        dtype = torch.float64 if is_double else torch.float32
        self.activation, self.links = network.activation, list(network.links)
        self.front = step_modules(network.front.steps, dtype)
        self.encoder_bias = _parameter(network.encoder_bias_, dtype)
        self.encoder = _linear(network.encoder_coef_, network.encoder_intercept_, dtype)
        self.connectors = nn.ModuleList(
            _linear(coef, intercept, dtype)
            for coef, intercept in zip(network.coefs_, network.intercepts_, strict=True)
        )
        self.decoder = _linear(
            network.decoder_coef_.T, network.decoder_intercept_, dtype
        )
        self.back = step_modules(network.back.steps, dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the raw outputs of rows x (n, n_features_in)."""
        x = x.to(self.encoder_bias.dtype)
        F = self.activation.forward(self.encoder(self.front(x) - self.encoder_bias))
        for connector, link in zip(self.connectors, self.links, strict=True):
            F = connector(F)
            F = F.relu() if link == "relu" else F
        return self.back(self.decoder(F))


def _arrays(chain: Chain) -> list[np.ndarray]:
    return list(chain.to_arrays()[0].values())


def step_modules(steps: Sequence[Step], dtype: torch.dtype) -> nn.Sequential:
    return nn.Sequential(*(_StepModule(step, dtype) for step in steps))


def _linear(coef: Any, intercept: np.ndarray, dtype: torch.dtype) -> nn.Linear:
    coef = coef.toarray() if sparse.issparse(coef) else coef
    # On the meta device no initial weights are drawn from the global generator.
    n_out, n_in = coef.shape
    linear = nn.Linear(n_in, n_out, device="meta")
    linear.weight, linear.bias = _parameter(coef, dtype), _parameter(intercept, dtype)
    return linear


def _parameter(array: np.ndarray, dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(torch.tensor(np.ascontiguousarray(array), dtype=dtype))
