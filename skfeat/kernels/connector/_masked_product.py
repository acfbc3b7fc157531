"""Products with a matrix of weights that is trained and zero outside of a mask."""

from __future__ import annotations

from collections.abc import Callable

import torch

from skfeat.kernels._limits import LIMITS
from skfeat.kernels._optional import has_numba
from skfeat.kernels._threads import Team


def product(mask: torch.Tensor, n_products: float, team: Team) -> Callable:
    """Return the fast way to multiply by a matrix that is zero outside of a mask.

    Parameters
    ----------
    mask : bool Tensor of shape (q, p)
    n_products : float
        Rows that each weight is going to be multiplied with: few are not worth
        compiling loops.
    team : Team
        Divides the loops' work.

    Returns
    -------
    callable
        Maps a matrix (q, p) and features (p, n) to their product (q, n),
        differentiably.
    """
    n_weights = int(mask.sum())
    pays = (
        mask.device.type == "cpu"
        and n_weights <= LIMITS.masked_density * mask.numel()
        and n_weights * n_products >= LIMITS.compiled_masked
    )
    if not pays or not has_numba():
        return torch.matmul
    from skfeat.kernels.connector._sparse_product import loop_product

    return loop_product(mask, team)
