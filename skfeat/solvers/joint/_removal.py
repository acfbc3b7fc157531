"""What the removal of a weight between features costs, told by what it changes.

The mean square of gradients, by which `CurvaturePruning` estimates that cost, is blind
where training has succeeded. A gradient vanishes with the error, so the weights of what
is computed well seem to cost least. And it vanishes where the rectifier is off, so a
weight that switches a feature off, the whole of an AND NOT, seems to cost nothing.

Here the change of the feature that the weight adds to is computed, with the rectifier:
exactly, row by row. What a change of a feature costs the loss is that of a parabola,
whose curvature (Gauss-Newton's) is the mean square of gradients of random combinations
of what the loss compares [1]_, not of errors.

References
----------
.. [1] M. F. Hutchinson, "A stochastic estimator of the trace of the influence matrix
   for Laplacian smoothing splines", Communications in Statistics, 1989.
"""

from __future__ import annotations

import torch

from skfeat.solvers._prune import Pruner, SaliencyPruning

# Costs are estimated every so many updates; the share of the latest in their mean.
ESTIMATE_EVERY, _COST_SHARE = 4, 0.05
# Weights times rows that an estimate takes at most, and the rows it has at least.
_MOST_ELEMENTS, _LEAST_ROWS = 2**21, 32
# Of these so many at a time, which caches hold: three times as fast as all at once.
_AT_ONCE = 2**18


class RemovalPruning(SaliencyPruning):
    """Prunes weights in training by what their removal would cost the loss.

    It is given the costs; see `removal_costs`.
    """

    def __init__(
        self, coefs: list[torch.Tensor], pruners: list[Pruner], *, shared: bool
    ):
        super().__init__(coefs, pruners, shared=shared)
        self.costs = [torch.zeros_like(coef) for coef in coefs]

    def take_costs(self, costs: list[torch.Tensor]) -> None:
        """Follow the costs of the weights that are left, from the rows of a batch."""
        for mean, cost, pruner in zip(self.costs, costs, self.pruners, strict=True):
            mean[pruner.mask] += _COST_SHARE * (cost - mean[pruner.mask])

    def saliencies(self) -> list[torch.Tensor]:
        """Return the running means of the costs."""
        return self.costs

    def n_rows(self) -> int:
        """Return of how many rows an estimate takes the costs."""
        n_weights = max((int(p.mask.sum()) for p in self.pruners), default=0)
        return max(_LEAST_ROWS, _MOST_ELEMENTS // max(n_weights, 1))


def removal_costs(
    read: torch.Tensor,
    pre: torch.Tensor,
    coef: torch.Tensor,
    mask: torch.Tensor,
    gradient: torch.Tensor,
    *,
    rectified: bool,
) -> torch.Tensor:
    """Return what the removal of each weight would cost, summed over rows.

    Parameters
    ----------
    read : Tensor of shape (p, n)
        Features that the weights multiply, from their means.
    pre : Tensor of shape (q, n)
        What the weights compute, before the rectifier.
    coef, mask : Tensor of shape (q, p)
        The weights, and which of them are left.
    gradient : Tensor of shape (q, n)
        Of a random combination of what the loss compares, after the rectifier.
    rectified : bool

    Returns
    -------
    Tensor of shape (n_left,)
        In the order of ``mask.nonzero()``.
    """
    after = pre.relu() if rectified else pre
    outputs, inputs = mask.nonzero(as_tuple=True)
    at_once = max(1, _AT_ONCE // max(read.shape[1], 1))
    costs = []
    for out, column, weights in zip(
        outputs.split(at_once),
        inputs.split(at_once),
        coef[outputs, inputs][:, None].split(at_once),
        strict=True,
    ):
        without = read[column].mul_(-weights).add_(pre[out])
        if rectified:
            without.relu_()
        change = without.sub_(after[out]).mul_(gradient[out])
        costs.append(change.square_().sum(dim=1))
    return torch.cat(costs)
