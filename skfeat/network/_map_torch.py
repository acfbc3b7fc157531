"""A SparseMapNetwork as a torch module, and as an ONNX graph of convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from skfeat.network._torch import step_modules


class MapNetworkModule(nn.Module):
    """What :meth:`skfeat.network.SparseMapNetwork.to_torch` returns.

    Parameters
    ----------
    network : SparseMapNetwork
    """

    def __init__(self, network: Any):
        super().__init__()
        before, after = network.convolutions()
        arrays = [array for step in [*before, *after] for array in step.arrays.values()]
        is_double = any(array.dtype == np.float64 for array in arrays)
        self.dtype = torch.float64 if is_double else torch.float32
        self.activation = network.shared_activation
        self.n_features = network.n_shared_components_[0]
        self.before = step_modules(before, self.dtype)
        self.after = step_modules(after, self.dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the raw outputs of rows x (n, n_features_in), or of maps."""
        pre = self.before(x.to(self.dtype).flatten(1))
        n, m = len(pre), self.n_features
        rows = pre.reshape(n, m, -1).transpose(1, 2).reshape(-1, m)
        features = self.activation.forward(rows).reshape(n, -1, m)
        return self.after(features.transpose(1, 2).flatten(1))
