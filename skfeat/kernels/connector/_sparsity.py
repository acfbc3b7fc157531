"""Whether rows are sparse enough for loops over their nonzeros."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from skfeat.kernels._limits import LIMITS
from skfeat.kernels._optional import has_numba
from skfeat.kernels._threads import Team

# Scipy is as fast for matrices of fewer numbers, and has nothing to compile.
_LARGE = 2**18

# The density of dense rows is estimated from one row in so many.
_SAMPLE_EVERY = 64


def mostly_zeros(rows) -> bool:
    """Tell whether the sparse products are the faster ones for these rows."""
    if sparse.issparse(rows):
        return rows.nnz <= LIMITS.moment_density * rows.shape[0] * rows.shape[1]
    sample = rows[::_SAMPLE_EVERY]
    return np.count_nonzero(sample) <= LIMITS.moment_density * sample.size


def to_csr(matrix: np.ndarray) -> sparse.csr_array:
    """Return a matrix that is mostly zeros as CSR of float64."""
    if matrix.size < _LARGE or not has_numba():
        return sparse.csr_array(matrix, dtype=np.float64)
    from skfeat.kernels.connector._second_moments import compress_to_float64

    with Team() as team:
        return compress_to_float64(matrix, team)
