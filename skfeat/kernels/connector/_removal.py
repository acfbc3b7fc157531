"""What the removal of each weight of a connector changes, weight by weight."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from skfeat.kernels._limits import LIMITS
from skfeat.kernels._optional import has_numba
from skfeat.kernels._threads import Team
from skfeat.kernels.connector._support import Support

# Weights times rows that are computed at a time, which caches hold: three times as fast
# as all at once.
_AT_ONCE = 2**18
# Share of weights left from which on all are computed: gathering rows for each weight
# takes longer than what it leaves out.
_MANY = 0.35

RemovalCosts = Callable[..., torch.Tensor]


def removal_costs(
    n_elements: float,
    device: torch.device,
    team: Team,
    support: Support | None = None,
) -> RemovalCosts:
    """Return the fast way to compute costs; see `plain`.

    Parameters
    ----------
    n_elements : float
        Weights times rows of all planned estimates together: few are not worth
        compiling loops.
    device : torch.device
    team : Team
        Divides the loops' work.
    support : Support, optional
        Where weights are held; by default everywhere.
    """
    if device.type != "cpu" or n_elements < LIMITS.compiled_removal or not has_numba():
        return partial(plain, support=support)
    from skfeat.kernels.connector import _loops_removal as loops

    # Once for all estimates: of many weights that are held it takes a while.
    ends = None if support is None else (support.pointer(), support.columns())

    def compiled(read, pre, coef, mask, gradient, *, rectified, n_positions=1):
        left, own, reads, before, slopes = (
            np.ascontiguousarray(part.detach().numpy())
            for part in (mask, coef, read, pre, gradient)
        )
        pointer, columns = ends or _ends_everywhere(coef)
        out = np.empty(coef.numel(), dtype=np.float32)
        weights = loops.Weights(pointer, columns, left.ravel(), own.ravel())
        team.run(
            lambda first, last: loops.removal_costs(
                first, last, weights, reads, before, slopes, rectified, n_positions, out
            ),
            len(before),
            n_elements=out.size * read.shape[1] // 8,
            cumulative=pointer,
        )
        return torch.from_numpy(out).view(coef.shape)

    return compiled


def _ends_everywhere(coef: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    support = Support((coef.shape[0], coef.shape[1]))
    return support.pointer(), support.columns()


def plain(
    read: torch.Tensor,
    pre: torch.Tensor,
    coef: torch.Tensor,
    mask: torch.Tensor,
    gradient: torch.Tensor,
    *,
    rectified: bool,
    n_positions: int = 1,
    support: Support | None = None,
) -> torch.Tensor:
    """Return what the removal of each weight would cost, summed over samples.

    Parameters
    ----------
    read : Tensor of shape (p, n)
        Features that the weights multiply, from their means: n rows, those of the
        positions of a sample one after the other.
    pre : Tensor of shape (q, n)
        What the weights compute, before the rectifier.
    coef, mask : Tensor of shape (q, p), or of the weights that are held
        The weights, and which of them are left.
    gradient : Tensor of shape (q, n)
        Of a random combination of what the loss compares, after the rectifier.
    rectified : bool
    n_positions : int, default=1
        Of a sample, which share the weights: a removal changes all of them at once.
    support : Support, optional
        Where weights are held; by default everywhere.

    Returns
    -------
    Tensor of the shape of `coef`
        Zero where no weight is left.
    """
    after = pre.relu() if rectified else pre
    costs = torch.zeros_like(coef)
    support = support or Support((coef.shape[0], coef.shape[1]))
    if support.places is None and mask.sum() > _MANY * mask.numel():
        at_once = max(1, _AT_ONCE // max(read.numel(), 1))
        for some in torch.arange(len(coef), device=coef.device).split(at_once):
            without = torch.addcmul(
                pre[some][:, None], coef[some][:, :, None], read, value=-1
            )
            costs[some] = _change(
                without,
                after[some][:, None],
                gradient[some][:, None],
                rectified,
                n_positions,
            )
        return costs.mul_(mask)
    kept = mask.ravel().nonzero().ravel()
    outputs, inputs = (
        torch.from_numpy(end).to(coef.device) for end in support.ends(mask)
    )
    at_once = max(1, _AT_ONCE // max(read.shape[1], 1))
    for some, out, column in zip(
        *(part.split(at_once) for part in (kept, outputs, inputs)), strict=True
    ):
        # `index_select` gathers three times as fast as an index does.
        own, base, slope = (
            part.index_select(0, out) for part in (pre, after, gradient)
        )
        without = read.index_select(0, column).mul_(-coef.ravel()[some][:, None])
        without.add_(own)
        change = _change(without, base, slope, rectified, n_positions)
        costs.view(-1)[some] = change
    return costs


def _change(
    without: torch.Tensor,
    after: torch.Tensor,
    gradient: torch.Tensor,
    rectified: bool,
    n_positions: int,
) -> torch.Tensor:
    """Return the cost (...) of each feature that is `without` (..., n) a weight."""
    if rectified:
        without.relu_()
    change = without.sub_(after).mul_(gradient)
    if n_positions > 1:
        change = change.unflatten(-1, (-1, n_positions)).sum(dim=-1)
    return change.square_().sum(dim=-1)
