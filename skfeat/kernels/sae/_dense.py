"""Gradients of a sparse autoencoder in closed form, on dense matrices, on any device.

`_reference` defines the loss. Without autograd's graph this is several times faster at
the sizes of a hidden layer; `_sparse` computes the same over the active codes alone.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch

from skfeat.activations import above, as_numbers
from skfeat.kernels.sae._kernel import (
    AUX_WEIGHT,
    Batch,
    KernelSettings,
    Pairs,
    n_auxiliary,
    rows_and_targets,
)
from skfeat.kernels.sae._result import BatchResult

Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Matrix product in the precision of its factors."""
    return a @ b


def bfloat16_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Matrix product of rounded factors; processors sum it in float32."""
    return (a.bfloat16() @ b.bfloat16()).to(a.dtype)


class DenseKernel:
    """The `Kernel` of matrix products.

    Parameters
    ----------
    params : dict of str to Tensor
        See `loss_reference`, or those of some of the features.
    settings : KernelSettings
        With "int8" products are of float32: integers only select codes.
    """

    takes_rows = False

    def __init__(self, params: dict[str, torch.Tensor], settings: KernelSettings):
        self.params = params
        self.activation = settings.activation
        self.shards = settings.shards
        rounded = settings.precision == "bfloat16"
        self.product: Product = bfloat16_product if rounded else product
        m, first = len(params["decoder"]), settings.first
        prefixes = settings.prefixes or (first + m,)
        # A feature's group is the first prefix that holds it.
        ends = [min(max(end - first, 0), m) for end in (0, *prefixes)]
        self._groups = [slice(*pair) for pair in pairwise(ends)]
        self.memory: tuple[float, ...] = ()

    def gradients(
        self,
        x: Batch,
        weights: torch.Tensor,
        penalty_weight: float = 0.0,
        dead: torch.Tensor | None = None,
    ) -> BatchResult:
        """Write the gradients of one batch; see `Kernel.gradients`."""
        params, activation = self.params, self.activation
        decoder, bias = params["decoder"], params["bias"]
        tied = "encoder" not in params
        encoder = decoder if tied else params["encoder"]
        at = params.__getitem__

        rows, target = rows_and_targets(params, x, self.product)
        n_features = target.shape[1]
        u = self.product(rows, encoder.T)
        u += params["encoder_bias"]
        mask = self._active(u)
        codes = activation.codes(u, at).mul(mask)
        factor = (2 / n_features * weights)[:, None]

        grad_codes, grad_decoder = torch.empty_like(u), torch.empty_like(decoder)
        errors = self._errors(codes, target)
        # Row by row: a sum over all would depend on the number of threads.
        squares = sum((error * error).sum(1) for error in errors)
        loss = (squares @ factor[:, 0]) / (2 * len(errors))
        # A feature of group g is part of the reconstructions of prefixes g and later.
        residual = torch.zeros_like(target)
        for error, group in reversed(list(zip(errors, self._groups, strict=True))):
            residual = residual + error * (factor / len(errors))
            grad_codes[:, group] = self.product(residual, decoder[group].T)
            grad_decoder[group] = self.product(codes[:, group].T, residual)
        grad_bias = residual.sum(0)

        weight = penalty_weight * weights[:, None]
        grad_u, extra = activation.backward(u, codes, grad_codes, weight, at)
        if activation.penalised:
            penalties = activation.penalty(u, codes).mul(mask).sum(1)
            penalties = self.shards.sum_features(penalties)
            loss = loss + penalty_weight * (weights @ penalties)
        if activation.two_decodes:
            gate = self.product(u * mask, decoder)
            gate = self.shards.sum_features(gate) - target
            loss = loss + (gate * gate).sum(1) @ factor[:, 0] / 2
            grad_u = grad_u + self.product(gate * factor, decoder.T)
        grad_u.mul_(mask)
        if dead is not None:
            self._add_auxiliary(dead, u, errors[-1], weights, grad_u, grad_decoder)

        grad_encoder = self.product(grad_u.T, rows)
        grad_encoder_bias = grad_u.sum(0)
        if not isinstance(x, Pairs):
            grad_bias -= self.shards.sum_features(grad_encoder_bias @ encoder)
        if "skip" in params:
            params["skip"].grad = self.product(residual.T, rows)
        if tied:
            grad_decoder += grad_encoder
        else:
            params["encoder"].grad = grad_encoder
        decoder.grad = grad_decoder
        params["encoder_bias"].grad = grad_encoder_bias
        bias.grad = grad_bias
        for name, value in extra.items():
            params[name].grad = (value * mask).sum(0)
        # What is selected is positive.
        on = mask if activation.selects != "above" else above(codes, 0.0)
        n_on = on.sum(0)
        lowest = codes.new_tensor(float("inf"))
        # A process may have received no row of a small batch.
        if activation.selects == "by batch" and len(codes):
            lowest = codes.masked_fill(on == 0, float("inf")).min()
        return BatchResult(loss, n_on > 0, n_on.sum(), lowest)

    def _active(self, u):
        """Return one where u is active, else zero."""
        if self.activation.selects == "above":
            return above(u, self.activation.bound(self.params))
        return as_numbers(self.shards.active(u, self.activation), u)

    def _errors(self, codes, target):
        """Return the error of each prefix's reconstruction."""
        errors, error = [], -target
        for group in self._groups:
            part = self.product(codes[:, group], self.params["decoder"][group])
            error = error + self.shards.sum_features(part)
            errors.append(error)
        return errors

    def _add_auxiliary(self, dead, u, residual, weights, grad_u, grad_decoder):
        """Add the gradients of the dead features' loss on the residual.

        The residual is a constant here and the loss is divided by its mean square, so
        the gradient does not fade as the live features improve.
        """
        n_dead = self.shards.sum_features(torch.tensor(len(dead), device=u.device))
        if not n_dead:
            return
        decoder = self.params["decoder"][dead]
        codes = u[:, dead]
        kept = self.shards.largest(codes, n_auxiliary(int(n_dead), self.activation.k))
        codes = codes.relu().mul_(as_numbers(kept, u))
        mean_square = (weights @ residual.square()).sum()
        self.shards.sum_rows(mean_square)
        error = self.shards.sum_features(codes @ decoder) + residual
        error *= (2 * AUX_WEIGHT * weights)[:, None] / mean_square.clamp_min(1e-12)
        grad_decoder.index_add_(0, dead, codes.T @ error)
        grad_u.index_add_(1, dead, (error @ decoder.T) * above(codes, 0.0))
