"""Products with a matrix of weights that is trained and zero outside of a mask."""

from __future__ import annotations

from collections.abc import Callable

import torch

from skfeat.kernels._limits import LIMITS
from skfeat.kernels._optional import has_numba
from skfeat.kernels._threads import Team
from skfeat.kernels.connector._support import Support


def product(
    mask: torch.Tensor,
    n_products: float,
    team: Team,
    support: Support | None = None,
) -> Callable:
    """Return the fast way to multiply by a matrix that is zero outside of a mask.

    Parameters
    ----------
    mask : bool Tensor of shape (q, p), or that of the weights that are held
    n_products : float
        Rows that each weight is going to be multiplied with: few are not worth
        compiling loops.
    team : Team
        Divides the loops' work.
    support : Support, optional
        Where weights are held; by default everywhere.

    Returns
    -------
    callable
        Maps weights (q, p), or those that are held, and features (p, n) to their
        product (q, n), differentiably.
    """
    support = support or Support((mask.shape[0], mask.shape[1]))
    n_weights = int(mask.sum())
    pays = (
        mask.device.type == "cpu"
        and n_weights <= LIMITS.masked_density * support.size
        and n_weights * n_products >= LIMITS.compiled_masked
    )
    if pays and has_numba():
        from skfeat.kernels.connector._sparse_product import loop_product

        return loop_product(mask, team, support)
    if support.places is None:
        return torch.matmul
    return lambda weights, features: support.matrix(weights) @ features
