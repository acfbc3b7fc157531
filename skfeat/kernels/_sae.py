"""Loss and gradients of a sparse autoencoder, in closed form.

On rows x (centred, of unit mean square) the autoencoder computes ::

    codes           z  = act(E (x - b) + e)
    reconstruction  x' = D^T z + b
    loss            mean_i w_i [ |x_i - x'_i|^2 / d + alpha / sqrt(d) * sum_j z_ij ]

with decoder rows D_j of unit norm. The two powers of d make both terms free of the
width of the layer: on unit-RMS rows codes grow like sqrt(d) and squared errors like d.

`loss_reference` is that definition, left to autograd; `SAEKernel` computes the same
gradients without a graph, which is several times faster at the sizes of a hidden
layer, and adds the auxiliary loss on dead features.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from skfeat.utils._distributed import all_reduce

if TYPE_CHECKING:
    import torch

    from skfeat.activations import ReLU, TopK

# Auxiliary loss of Gao et al., "Scaling and evaluating sparse autoencoders" (2024):
# dead features are asked to reconstruct what the live ones miss.
AUX_WEIGHT = 1 / 32


def loss_reference(params, x, weights, activation, alpha):
    """Loss of one batch as autograd sees it; the definition that the kernel meets.

    Parameters
    ----------
    params : dict of str to Tensor
        ``decoder`` (m, d), ``encoder`` (m, d) (absent when tied), ``encoder_bias``
        (m,) and ``bias`` (d,).
    x : Tensor of shape (n, d)
    weights : Tensor of shape (n,)
        Weight of each row divided by the weight of the whole batch.
    activation : ReLU or TopK
    alpha : float

    Returns
    -------
    Tensor
        A scalar.
    """
    decoder = params["decoder"]
    encoder = params.get("encoder", decoder)
    pre = (x - params["bias"]) @ encoder.T + params["encoder_bias"]
    codes = activation.forward(pre)
    residual = codes @ decoder + params["bias"] - x
    n_features = x.shape[1]
    per_row = residual.square().sum(1) / n_features
    if activation.penalised:
        per_row = per_row + alpha / math.sqrt(n_features) * codes.sum(1)
    return (weights * per_row).sum()


class SAEKernel:
    """Gradients of `loss_reference`, with an auxiliary loss that revives dead features.

    Parameters
    ----------
    params : dict of str to Tensor
        See `loss_reference`; gradients are written to each tensor's ``grad``.
    activation : ReLU or TopK
    alpha : float
        Weight of the L1 penalty, where the activation is penalised.
    """

    def __init__(
        self, params: dict[str, torch.Tensor], activation: ReLU | TopK, alpha: float
    ):
        self.params = params
        self.activation = activation
        self.alpha = alpha

    def gradients(
        self,
        x: torch.Tensor,
        weights: torch.Tensor,
        dead: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the gradients of one batch and return its loss and what fired.

        Parameters
        ----------
        x : Tensor of shape (n, d)
        weights : Tensor of shape (n,)
            Weight of each row divided by the weight of the whole batch.
        dead : Tensor of int64 or None
            Indices of the features to revive.

        Returns
        -------
        loss : Tensor, a scalar
            Without the auxiliary term, so that it compares across epochs.
        fired : bool Tensor of shape (m,)
        """
        params, n_features = self.params, x.shape[1]
        decoder, bias = params["decoder"], params["bias"]
        tied = "encoder" not in params
        encoder = decoder if tied else params["encoder"]

        centred = x - bias
        pre = centred @ encoder.T
        pre += params["encoder_bias"]
        codes = self.activation.forward(pre)
        active = codes > 0

        residual = codes @ decoder
        residual -= centred
        scaled = residual * (2 / n_features * weights)[:, None]
        loss = (residual * scaled).sum() / 2

        grad_codes = scaled @ decoder.T
        if self.activation.penalised:
            penalty = self.alpha / math.sqrt(n_features)
            grad_codes += penalty * weights[:, None]
            loss += penalty * (weights @ codes).sum()
        grad_codes *= active
        grad_decoder = codes.T @ scaled
        grad_bias = scaled.sum(0)

        if dead is not None and len(dead):
            self._add_auxiliary(
                dead, pre, residual, weights, grad_codes, grad_decoder, decoder
            )

        grad_encoder = grad_codes.T @ centred
        grad_encoder_bias = grad_codes.sum(0)
        grad_bias -= grad_encoder_bias @ encoder
        if tied:
            grad_decoder += grad_encoder
        else:
            params["encoder"].grad = grad_encoder
        # The norm of a decoder row is held at one: only the part of its gradient along
        # the sphere counts, or Adam's moments would fill with what is projected away.
        grad_decoder -= (grad_decoder * decoder).sum(1, keepdim=True) * decoder
        decoder.grad = grad_decoder
        params["encoder_bias"].grad = grad_encoder_bias
        bias.grad = grad_bias
        return loss, active.any(0)

    def grads(self) -> list[torch.Tensor]:
        """Return the gradients that were written last."""
        return [p.grad for p in self.params.values() if p.grad is not None]

    def _add_auxiliary(
        self, dead, pre, residual, weights, grad_codes, grad_decoder, decoder
    ):
        """Add the gradients of the dead features' loss on the residual.

        The residual is a constant here and the loss is divided by its mean square,
        so the pull does not fade as the live features improve.
        """
        n_features = residual.shape[1]
        k_aux = min(len(dead), max(1, n_features // 2))
        codes = pre[:, dead]
        values, kept = codes.topk(k_aux, dim=1, sorted=False)
        codes = codes.new_zeros(codes.shape).scatter_(1, kept, values.relu_())
        mean_square = (weights @ residual.square()).sum()
        all_reduce(mean_square)
        error = codes @ decoder[dead] + residual
        error *= (2 * AUX_WEIGHT * weights)[:, None] / mean_square.clamp_min(1e-12)
        grad_decoder.index_add_(0, dead, codes.T @ error)
        grad_codes.index_add_(1, dead, (error @ decoder[dead].T) * (codes > 0))
