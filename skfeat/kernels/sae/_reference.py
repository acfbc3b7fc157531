"""The loss that defines a sparse autoencoder, left to autograd.

On rows x (centred, of unit mean square) the autoencoder computes ::

    u   = E (x - b) + e          pre-activations
    z   = codes of u             see `skfeat.kernels.sae._activations`
    x'  = D^T z + b              reconstruction
    loss = mean_i w_i [ |x_i - x'_i|^2 / d + penalty of row i ]

with decoder rows D_j of unit norm. A transcoder decodes other rows y than it encodes ::

    u   = E x + e
    y'  = D^T z + b + S x        the skip S only where there is one

and x is y in its loss, d the length of y. The division by d and the weights of the
penalties make both terms free of the width of the layer: on unit-RMS rows codes grow
like sqrt(d) and squared errors like d. With prefixes (Matryoshka) the squared error is
the mean over reconstructions from the first p features, for each prefix p.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from skfeat.kernels.sae._activations import TrainingActivation


def loss_reference(
    params: dict[str, torch.Tensor],
    x: torch.Tensor,
    weights: torch.Tensor,
    activation: TrainingActivation,
    penalty_weight: float = 0.0,
    prefixes: tuple[int, ...] | None = None,
    targets: torch.Tensor | None = None,
) -> torch.Tensor:
    """Loss of one batch, a scalar that autograd can differentiate.

    Parameters
    ----------
    params : dict of str to Tensor
        ``decoder`` (m, d), ``encoder`` (m, d) (absent when tied), ``encoder_bias``
        (m,), ``bias`` (d,) and the activation's own. Of a transcoder ``encoder`` is
        (m, d_in), and there may be a ``skip`` (d, d_in).
    x : Tensor of shape (n, d)
    weights : Tensor of shape (n,)
        Weight of each row divided by the weight of the whole batch.
    activation : TrainingActivation
    penalty_weight : float
    prefixes : tuple of int, optional
        Increasing, the last one m.
    targets : Tensor of shape (n, d), optional
        The rows to decode, of a transcoder; None: x.
    """
    decoder, bias = params["decoder"], params["bias"]
    encoder = params.get("encoder", decoder)
    known, y, encoded = bias, x, x
    if targets is None:
        encoded = x - bias
    else:
        y = targets
        if "skip" in params:
            known = bias + x @ params["skip"].T
    u = encoded @ encoder.T + params["encoder_bias"]
    codes, penalties = activation.reference(u, params)
    n_features = y.shape[1]
    widths = prefixes or (len(decoder),)
    errors = [(codes[:, :p] @ decoder[:p] + known - y).square().sum(1) for p in widths]
    per_row = sum(errors) / (len(widths) * n_features)
    per_row = per_row + penalty_weight * penalties.sum(1)
    if activation.two_decodes:
        gate = u.relu() @ decoder.detach() + known.detach() - y
        per_row = per_row + gate.square().sum(1) / n_features
    return (weights * per_row).sum()
