"""Gradients of a sparse autoencoder in closed form, on dense matrices, on any device.

`_reference` defines the loss. Without autograd's graph this is several times faster at
the sizes of a hidden layer; `_sparse` computes the same over the active codes alone.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch

from skfeat.kernels.sae._activations import TrainingActivation
from skfeat.kernels.sae._shards import Shards

# Auxiliary loss of Gao et al., "Scaling and evaluating sparse autoencoders" (2024):
# dead features are asked to reconstruct what the live ones miss.
AUX_WEIGHT = 1 / 32

Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class BatchResult(NamedTuple):
    """What one batch leaves beside its gradients.

    Attributes
    ----------
    loss : float, or Tensor of a number
        Without the auxiliary term, so that it compares across epochs.
    fired : bool Tensor of shape (m,)
    n_active : int, or Tensor of a number
        Number of nonzero codes.
    lowest : float, or Tensor of a number
        Smallest nonzero code, for batch top-k.
    """

    loss: float | torch.Tensor
    fired: torch.Tensor
    n_active: int | torch.Tensor
    lowest: float | torch.Tensor


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Matrix product in the precision of its factors."""
    return a @ b


def bfloat16_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Matrix product of rounded factors; processors sum it in float32."""
    return (a.bfloat16() @ b.bfloat16()).to(a.dtype)


def product_in(precision: str) -> Product:
    """Return the product of dense codes; eight bits are enough to select alone."""
    return bfloat16_product if precision == "bfloat16" else product


def n_auxiliary(n_dead: int, k: int) -> int:
    """Return how many dead features a row asks for help.

    Half as many as it has of the live ones: as many cost more and gained nothing on
    MNIST layers and known dictionaries, nor did half the number of columns, which the
    paper advises; a quarter missed some of the known directions, and so did as many
    asked by a quarter of the rows or in every fourth batch.
    """
    return min(n_dead, (k + 1) // 2)


def auxiliary_scale(total: float, n_features: int, shards: Shards) -> float:
    """Return what `factor` is multiplied by in the dead features' loss.

    `total` is the sum of the rows' squared errors times ``factor``, see
    `DenseKernel.gradients`; the rows of other processes are added.
    """
    mean_square = total * n_features / 2
    if shards.by == "rows":
        total_of_ranks = torch.tensor(mean_square, dtype=torch.float64)
        mean_square = float(shards.sum_rows(total_of_ranks))
    return n_features * AUX_WEIGHT / max(mean_square, 1e-12)


class DenseKernel:
    """Gradients of `loss_reference` and of the auxiliary loss, by matrix products.

    Parameters
    ----------
    params : dict of str to Tensor
        See `loss_reference`; gradients are written to each tensor's ``grad``.
    activation : TrainingActivation
    prefixes : tuple of int, optional
        Matryoshka prefixes, increasing, the last one m.
    product : callable, default=product
        Multiplies two matrices.
    shards : Shards, optional
        What other processes do for the batch. `params` may then be those of some of
        the features.
    first : int, default=0
        Number of the first of these features.
    """

    gathers = False  # see `SparseKernel`

    def __init__(
        self,
        params: dict[str, torch.Tensor],
        activation: TrainingActivation,
        prefixes: tuple[int, ...] | None = None,
        product: Product = product,
        shards: Shards | None = None,
        first: int = 0,
    ):
        self.params = params
        self.activation = activation
        self.product = product
        self.shards = shards or Shards()
        m = len(params["decoder"])
        self.prefixes = prefixes or (first + m,)
        self.n_prefixes = len(self.prefixes)
        # A feature's group is the first prefix that holds it.
        ends = [min(max(end - first, 0), m) for end in (0, *self.prefixes)]
        self._groups = [slice(*pair) for pair in pairwise(ends)]
        # See `SparseKernel`; here every batch is computed in the same way.
        self.memory: tuple[float, ...] = ()

    def gradients(
        self,
        x: torch.Tensor,
        weights: torch.Tensor,
        penalty_weight: float = 0.0,
        dead: torch.Tensor | None = None,
    ) -> BatchResult:
        """Write the gradients of one batch.

        Parameters
        ----------
        x : Tensor of shape (n, d)
        weights : Tensor of shape (n,)
            Weight of each row divided by the weight of the whole batch.
        penalty_weight : float
        dead : Tensor of int64, optional
            Indices of the features to revive.
        """
        params, activation, n_features = self.params, self.activation, x.shape[1]
        decoder, bias = params["decoder"], params["bias"]
        tied = "encoder" not in params
        encoder = decoder if tied else params["encoder"]
        at = params.__getitem__

        centred = x - bias
        u = self.product(centred, encoder.T)
        u += params["encoder_bias"]
        active = self._entries(u)
        codes = activation.codes(u, at).mul(active)
        factor = (2 / n_features * weights)[:, None]

        slopes, grad_decoder = torch.empty_like(u), torch.empty_like(decoder)
        errors = self._errors(codes, centred)
        # Row by row: a sum over all would depend on the number of threads.
        squares = sum((error * error).sum(1) for error in errors)
        loss = (squares @ factor[:, 0]) / (2 * len(errors))
        # A feature of group g is part of the reconstructions of prefixes g and later.
        pull = torch.zeros_like(x)
        grad_bias = torch.zeros_like(bias)
        for error, group in reversed(list(zip(errors, self._groups, strict=True))):
            pull = pull + error * (factor / len(errors))
            slopes[:, group] = self.product(pull, decoder[group].T)
            grad_decoder[group] = self.product(codes[:, group].T, pull)
        grad_bias = pull.sum(0)

        weight = penalty_weight * weights[:, None]
        grad_u, extra = activation.backward(u, codes, slopes, weight, at)
        if activation.penalised:
            penalties = activation.penalty(u, codes).mul(active).sum(1)
            penalties = self.shards.sum_features(penalties)
            loss = loss + penalty_weight * (weights @ penalties)
        if activation.two_decodes:
            gate = self.product(u * active, decoder)
            gate = self.shards.sum_features(gate) - centred
            loss = loss + (gate * gate).sum(1) @ factor[:, 0] / 2
            grad_u = grad_u + self.product(gate * factor, decoder.T)
        grad_u.mul_(active)
        if dead is not None:
            self._add_auxiliary(dead, u, errors[-1], weights, grad_u, grad_decoder)

        grad_encoder = self.product(grad_u.T, centred)
        grad_encoder_bias = grad_u.sum(0)
        grad_bias -= self.shards.sum_features(grad_encoder_bias @ encoder)
        if tied:
            grad_decoder += grad_encoder
        else:
            params["encoder"].grad = grad_encoder
        decoder.grad = grad_decoder
        params["encoder_bias"].grad = grad_encoder_bias
        bias.grad = grad_bias
        for name, value in extra.items():
            params[name].grad = (value * active).sum(0)
        on = codes > 0
        lowest = codes.new_tensor(float("inf"))
        # A process may have got no row of a small batch.
        if activation.selects == "by batch" and len(codes):
            lowest = codes.masked_fill(~on, float("inf")).min()
        return BatchResult(loss, on.any(0), on.sum(), lowest)

    def _entries(self, u):
        if self.activation.selects == "above":
            return u > self.activation.bound(self.params)
        return self.shards.entries(u, self.activation)

    def _errors(self, codes, centred):
        """Return the error of each prefix's reconstruction."""
        errors, error = [], -centred
        for group in self._groups:
            part = self.product(codes[:, group], self.params["decoder"][group])
            error = error + self.shards.sum_features(part)
            errors.append(error)
        return errors

    def _add_auxiliary(self, dead, u, residual, weights, grad_u, grad_decoder):
        """Add the gradients of the dead features' loss on the residual.

        The residual is a constant here and the loss is divided by its mean square,
        so the pull does not fade as the live features improve.
        """
        n_dead = self.shards.sum_features(torch.tensor(len(dead), device=u.device))
        if not n_dead:
            return
        decoder = self.params["decoder"][dead]
        codes = u[:, dead]
        kept = self.shards.largest(codes, n_auxiliary(int(n_dead), self.activation.k))
        codes = codes.relu().mul_(kept)
        mean_square = (weights @ residual.square()).sum()
        self.shards.sum_rows(mean_square)
        error = self.shards.sum_features(codes @ decoder) + residual
        error *= (2 * AUX_WEIGHT * weights)[:, None] / mean_square.clamp_min(1e-12)
        grad_decoder.index_add_(0, dead, codes.T @ error)
        grad_u.index_add_(1, dead, (error @ decoder.T) * (codes > 0))
