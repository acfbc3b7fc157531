"""Products with a sparse matrix of weights that learns, features stored one a row."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from skfeat.kernels._optional import load
from skfeat.kernels._threads import Team

# A product of dense matrices is faster above this share of nonzero weights.
MAX_DENSITY = 0.15

# Fewer products of weights and rows, over a whole run, are not worth compiling loops.
WORTH_COMPILING = 2**27


def compiled():
    """Return the module of compiled loops, or None where numba is not installed."""
    return load("connector._loops_masked_product")


def product(mask: torch.Tensor, n_products: float, team: Team) -> Callable:
    """Return the fast way to multiply by a matrix that is zero outside of a mask.

    Parameters
    ----------
    mask : bool Tensor of shape (q, p)
    n_products : float
        Rows that each weight is going to meet: few are not worth compiling loops.
    team : Team
        Divides the loops' work.

    Returns
    -------
    callable
        Maps a matrix (q, p) and features (p, n) to their product (q, n),
        differentiably.
    """
    n_edges = int(mask.sum())
    pays = (
        mask.device.type == "cpu"
        and n_edges <= MAX_DENSITY * mask.numel()
        and n_edges * n_products >= WORTH_COMPILING
    )
    return _loop_product(mask, team) if pays and compiled() else torch.matmul


def _loop_product(mask: torch.Tensor, team: Team) -> Callable:
    row, column = mask.numpy().nonzero()
    flat = torch.from_numpy(row * mask.shape[1] + column)
    q, p = mask.shape
    both_ways = _by(row, column, q), _by(column, row, p)

    def multiply(coef, features):
        values = coef.ravel()[flat]
        return _LoopProduct.apply(values, features.contiguous(), both_ways, team)

    return multiply


class _LoopProduct(torch.autograd.Function):
    """``W @ features`` over the edges alone, forth and back."""

    @staticmethod
    def forward(ctx, values, features, both_ways, team):
        ctx.both_ways, ctx.team = both_ways, team
        ctx.save_for_backward(values, features)
        (q, pointer, index, _), _ = both_ways
        out = np.empty((q, features.shape[1]), dtype=np.float32)
        team.run(
            compiled().forward,
            q,
            *(pointer, index, values.numpy(), features.numpy(), out),
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
            compiled().gradient_of_values,
            q,
            *(pointer, index, features, grad, of_values),
            n_elements=work,
            cumulative=pointer,
        )
        of_features = None
        if ctx.needs_input_grad[1]:
            of_features = np.empty_like(features)
            ctx.team.run(
                compiled().forward,
                p,
                *(back, reads, values[order], grad, of_features),
                n_elements=work,
                cumulative=back,
            )
            of_features = torch.from_numpy(of_features)
        return torch.from_numpy(of_values), of_features, None, None


def _by(key: np.ndarray, other: np.ndarray, n: int):
    """Sort edges by one end: number of ends, pointer, the other ends, their order."""
    order = np.lexsort((other, key))
    pointer = np.concatenate([[0], np.cumsum(np.bincount(key, minlength=n))])
    return n, pointer, other[order], order
