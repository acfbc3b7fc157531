"""An autoencoder as one operation that autograd differentiates, for losses of codes.

A `Kernel` computes the gradients of an autoencoder's own loss. Where codes enter other
losses too, autograd must go through them: ``encode_and_decode`` returns the codes and
the error of their reconstruction, differentiable by the weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from skfeat.activations import Activation, TopK
from skfeat.kernels._limits import LIMITS
from skfeat.kernels._threads import Team
from skfeat.kernels.sae._choose import runs_compiled


class CoderTensors(NamedTuple):
    """The weights of an autoencoder that encodes rows by ``rows @ encoder.T + bias``.

    Attributes
    ----------
    encoder : Tensor of shape (m, d)
        The decoder itself where they are tied.
    encoder_bias : Tensor of shape (m,)
    decoder : Tensor of shape (m, d)
    bias : Tensor of shape (d,)
        Added to what is decoded; nothing is subtracted from rows.
    """

    encoder: torch.Tensor
    encoder_bias: torch.Tensor
    decoder: torch.Tensor
    bias: torch.Tensor


EncodeAndDecode = Callable[
    [torch.Tensor, torch.Tensor, CoderTensors, Activation],
    tuple[torch.Tensor, torch.Tensor],
]


def encode_and_decode(
    activation: Activation,
    n_components: int,
    device: torch.device,
    team: Team,
    work: float = math.inf,
) -> EncodeAndDecode:
    """Return the fast way to encode rows and to measure their reconstruction.

    Parameters
    ----------
    activation : ReLU, TopK or JumpReLU
    n_components : int
    device : torch.device
    team : Team
        Divides the loops' work.
    work : float, default=inf
        Multiply-adds of one product over all planned updates.

    Returns
    -------
    callable
        Maps rows (n, d), their weights (n,), which sum to one, `CoderTensors` and the
        activation, whose thresholds may have moved, to codes (n, m) and the weighted
        mean of the squared errors, a scalar.
    """
    k = activation.k if isinstance(activation, TopK) else 0
    few = k and k <= LIMITS.active_density * n_components
    if few and runs_compiled(device, work):
        from skfeat.kernels.sae._differentiable_topk import topk_operation

        return topk_operation(k, team)

    def plain(rows, weights, tensors, activation):
        pre = torch.addmm(tensors.encoder_bias, rows, tensors.encoder.T)
        codes = activation.forward(pre)
        decoded = torch.addmm(tensors.bias, codes, tensors.decoder)
        return codes, weights @ (decoded - rows).square().mean(dim=1)

    return plain
