"""Compiled loops that solve a system of equations, see `skfeat.kernels._compile`."""

from __future__ import annotations

import numpy as np

from skfeat.kernels._compile import compile_loop


@compile_loop
def factorise(matrix, n):
    """Write the Cholesky factor of ``matrix[:n, :n]`` over it, or return False."""
    for i in range(n):
        for j in range(i + 1):
            value = matrix[i, j]
            for k in range(j):
                value -= matrix[i, k] * matrix[j, k]
            if i != j:
                matrix[i, j] = value / matrix[j, j]
            elif value <= 0:
                return False
            else:
                matrix[i, i] = np.sqrt(value)
    return True


@compile_loop
def substitute(factor, vector, n):
    """Solve ``L L^T x = vector`` in place, L the lower triangle of `factor`."""
    for i in range(n):
        value = vector[i]
        for k in range(i):
            value -= factor[i, k] * vector[k]
        vector[i] = value / factor[i, i]
    for i in range(n - 1, -1, -1):
        value = vector[i]
        for k in range(i + 1, n):
            value -= factor[k, i] * vector[k]
        vector[i] = value / factor[i, i]
