"""Products with a sparse matrix over its nonzero weights, features one a row."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from skfeat.kernels._threads import Team
from skfeat.kernels.connector import _loops_masked_product as loops


def loop_product(mask: torch.Tensor, team: Team) -> Callable:
    """Return the product over the nonzero weights alone; see `product`."""
    row, column = mask.numpy().nonzero()
    flat = torch.from_numpy(row * mask.shape[1] + column)
    q, p = mask.shape
    both_ways = _by(row, column, q), _by(column, row, p)

    def multiply(coef, features):
        values = coef.ravel()[flat]
        return _LoopProduct.apply(values, features.contiguous(), both_ways, team)

    return multiply


class _LoopProduct(torch.autograd.Function):
    """``W @ features`` over the nonzero weights alone, and its gradients."""

    @staticmethod
    def forward(ctx, values, features, both_ways, team):
        ctx.both_ways, ctx.team = both_ways, team
        ctx.save_for_backward(values, features)
        (q, pointer, index, _), _ = both_ways
        out = np.empty((q, features.shape[1]), dtype=np.float32)
        own, rows = values.numpy(), features.numpy()
        team.run(
            lambda first, last: loops.forward(
                first, last, pointer, index, own, rows, out
            ),
            q,
            n_elements=len(index) * out.shape[1] // 8,
            cumulative=pointer,
        )
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx, grad):
        values, features = (saved.numpy() for saved in ctx.saved_tensors)
        grad = np.ascontiguousarray(grad.numpy())
        (q, pointer, index, _), (p, back, reads, order) = ctx.both_ways
        of_values = np.empty_like(values)
        work = len(index) * grad.shape[1] // 8
        ctx.team.run(
            lambda first, last: loops.gradient_of_values(
                first, last, pointer, index, features, grad, of_values
            ),
            q,
            n_elements=work,
            cumulative=pointer,
        )
        of_features = None
        if ctx.needs_input_grad[1]:
            out, sorted_values = np.empty_like(features), values[order]
            ctx.team.run(
                lambda first, last: loops.forward(
                    first, last, back, reads, sorted_values, grad, out
                ),
                p,
                n_elements=work,
                cumulative=back,
            )
            of_features = torch.from_numpy(out)
        return torch.from_numpy(of_values), of_features, None, None


def _by(key: np.ndarray, other: np.ndarray, n: int):
    """Sort weights by one end: number of ends, pointer, the other ends, their order."""
    order = np.lexsort((other, key))
    pointer = np.concatenate([[0], np.cumsum(np.bincount(key, minlength=n))])
    return n, pointer, other[order], order
