"""Products with a sparse matrix over its nonzero weights, features one a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse

from skfeat.kernels._threads import Team
from skfeat.kernels.connector import _loops_masked_product as loops
from skfeat.kernels.connector._support import Support


class Nonzeros(NamedTuple):
    """The nonzero weights by one of their ends, as the loops take them.

    Attributes
    ----------
    pointer : ndarray of int64 (n_ends + 1,)
        Where the weights of each end begin.
    other : ndarray of int64 (n_weights,)
        The other end of each.
    """

    pointer: np.ndarray
    other: np.ndarray


class Pattern(NamedTuple):
    """Which weights are multiplied, by both of their ends.

    Attributes
    ----------
    kept : ndarray of int64 (n_weights,)
        Which they are of the weights that are held.
    by_output, by_input : Nonzeros
    order : ndarray of int64 (n_weights,)
        Which weight by output each one by input is.
    """

    kept: np.ndarray
    by_output: Nonzeros
    by_input: Nonzeros
    order: np.ndarray


def loop_product(mask: torch.Tensor, team: Team, support: Support) -> Callable:
    """Return the product over the nonzero weights alone; see `product`."""
    pattern = _pattern(mask, support)

    def multiply(weights, features):
        return _LoopProduct.apply(weights, features.contiguous(), pattern, team)

    return multiply


def _pattern(mask: torch.Tensor, support: Support) -> Pattern:
    row, column = support.ends(mask)
    pointer = np.searchsorted(row, np.arange(support.shape[0] + 1))
    # Sorts by column in linear time.
    numbers = sparse.csr_array(
        (np.arange(len(row)), column, pointer), shape=support.shape
    ).tocsc()
    back, reads, order = (
        part.astype(np.int64, copy=False)
        for part in (numbers.indptr, numbers.indices, numbers.data)
    )
    return Pattern(
        np.flatnonzero(mask.numpy()),
        Nonzeros(pointer, column),
        Nonzeros(back, reads),
        order,
    )


class _LoopProduct(torch.autograd.Function):
    """``W @ features`` over the nonzero weights alone, and its gradients."""

    @staticmethod
    def forward(ctx, weights, features, pattern, team):
        ctx.pattern, ctx.team = pattern, team
        ctx.save_for_backward(weights, features)
        pointer, index = pattern.by_output
        out = np.empty((len(pointer) - 1, features.shape[1]), dtype=np.float32)
        own, rows = weights.numpy().ravel()[pattern.kept], features.numpy()
        team.run(
            lambda first, last: loops.forward(
                first, last, pointer, index, own, rows, out
            ),
            len(out),
            n_elements=len(index) * out.shape[1] // 8,
            cumulative=pointer,
        )
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx, grad):
        weights, features = (saved.numpy() for saved in ctx.saved_tensors)
        pattern, grad = ctx.pattern, np.ascontiguousarray(grad.numpy())
        pointer, index = pattern.by_output
        of_kept = np.empty(len(index), dtype=np.float32)
        work = len(index) * grad.shape[1] // 8
        ctx.team.run(
            lambda first, last: loops.gradient_of_values(
                first, last, pointer, index, features, grad, of_kept
            ),
            len(grad),
            n_elements=work,
            cumulative=pointer,
        )
        of_weights = np.zeros_like(weights)
        of_weights.ravel()[pattern.kept] = of_kept
        of_features = None
        if ctx.needs_input_grad[1]:
            back, reads = pattern.by_input
            out = np.empty_like(features)
            own = weights.ravel()[pattern.kept[pattern.order]]
            ctx.team.run(
                lambda first, last: loops.forward(
                    first, last, back, reads, own, grad, out
                ),
                len(out),
                n_elements=work,
                cumulative=back,
            )
            of_features = torch.from_numpy(out)
        return torch.from_numpy(of_weights), of_features, None, None
