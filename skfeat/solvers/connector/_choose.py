"""Which solver fits a connector, and which of its sums are compiled: the one place.

Identity link, on second moments (`GramProblem`): compiled descent on active inputs, or
blocks of coordinates without it. Where second moments would take more than two GiB and
both sides are mostly zeros: `ColumnProblem`, which holds none.

ReLU link, on all rows: `SparseRectifiedProblem`, compiled descent over nonzeros, for
large problems whose inputs are mostly zeros and whose targets are not below zero; else
`RectifiedProblem`, accelerated proximal gradient. ``solver="minibatch"``, or "auto"
where a pass over all rows is too large: `ConnectorTrainer`.

Compiled loops need numba and a problem that repays their compilation; see `LIMITS`.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from skfeat.kernels._limits import LIMITS
from skfeat.kernels._optional import has_numba
from skfeat.kernels.connector._sparsity import mostly_zeros


def sums_nonzeros(X, Y) -> bool:
    """Tell whether second moments are summed by compiled loops over nonzeros."""
    large = X.shape[0] * X.shape[1] ** 2 >= LIMITS.compiled_moments
    return large and has_numba() and mostly_zeros(X) and mostly_zeros(Y)


def descends_compiled(n_outputs: int, n_inputs: int) -> bool:
    """Tell whether the Lasso on a Gram matrix runs compiled."""
    return n_outputs * n_inputs**2 >= LIMITS.compiled_gram and has_numba()


def is_wide(X, Y) -> bool:
    """Tell whether second moments would not fit, and need not be held."""
    p, q = X.shape[1], Y.shape[1]
    if p * (p + q) <= LIMITS.held_moments or not has_numba():
        return False
    return mostly_zeros(X) and mostly_zeros(Y)


def rectifies_over_nonzeros(X, Y: np.ndarray) -> bool:
    """Tell whether the rectified connector descends over nonzero inputs.

    Targets below zero put a kink into the loss, where descent on one weight at a time
    can be caught.
    """
    size = X.shape[0] * X.shape[1] * Y.shape[1]
    if size < LIMITS.compiled_rectified or not has_numba():
        return False
    return mostly_zeros(X) and Y.min(initial=0) >= 0


def takes_all_rows(X, Y: np.ndarray) -> bool:
    """Tell whether ``solver="auto"`` of the ReLU link takes all rows at once."""
    size, limit = X.shape[0] * X.shape[1], LIMITS.dense_rows
    if rectifies_over_nonzeros(X, Y):
        size = int(X.nnz if sparse.issparse(X) else np.count_nonzero(X))
        limit = LIMITS.sparse_rows
    return size * Y.shape[1] <= limit


def choose_solver(
    solver: str, link: str, X, Y: np.ndarray, *, budget_by_alpha: bool
) -> str:
    """Return "gram", "full_batch" or "minibatch".

    Parameters
    ----------
    solver, link : str
        Parameters of `FeatureConnector`.
    X, Y : array or CSR
    budget_by_alpha : bool
        Whether a budget is to be met by a penalty alone, which minibatches cannot.

    Raises
    ------
    ValueError
        If `solver` cannot solve the problem.
    """
    links = {"gram": "identity", "full_batch": "relu", "minibatch": "relu"}
    if solver == "auto":
        if link == "identity":
            return "gram"
        all_rows = budget_by_alpha or takes_all_rows(X, Y)
        return "full_batch" if all_rows else "minibatch"
    if links[solver] != link:
        raise ValueError(
            f"solver={solver!r} solves link={links[solver]!r}, got link={link!r}; use "
            f"solver='auto'."
        )
    if solver == "minibatch" and budget_by_alpha:
        raise ValueError(
            "solver='minibatch' meets n_nonzero_coefs by pruning, which leaves weights "
            "without penalty: it needs refit=True, got refit=False."
        )
    return solver
