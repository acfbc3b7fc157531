"""The compiled update of Adam. This module imports numba."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skfeat.kernels._compile import compile_loop
from skfeat.kernels.simd._adam import dot, update_row
from skfeat.kernels.simd._rows import copy_scaled


class Parameter(NamedTuple):
    """One parameter, its gradient and Adam's moments, as matrices of one shape.

    Attributes
    ----------
    values, grad, mean, square : ndarray
        The moments are the running means of the gradient and of its square.
    """

    values: np.ndarray
    grad: np.ndarray
    mean: np.ndarray
    square: np.ndarray


class Constants(NamedTuple):
    """Numbers of one update, in the dtype of the parameters.

    Attributes
    ----------
    beta1, beta2, eps : floating
    correction : floating
        One over the bias correction of the root mean square.
    """

    beta1: float
    beta2: float
    correction: float
    eps: float


@compile_loop
def adam(first, last, parameters, rates, unit, constants):
    """Update rows of parameters as Adam does.

    Rows are counted through all parameters. Those of parameter `unit` keep norm one:
    for them only the gradient along the sphere counts.

    Parameters
    ----------
    parameters : tuple of Parameter
    rates : ndarray of shape (n_parameters,)
        Learning rates, over the bias correction of the mean.
    unit : int
    constants : Constants
    """
    before = 0
    for i in range(len(parameters)):
        n, d = parameters[i].values.shape
        p, grad = parameters[i].values.reshape(-1), parameters[i].grad.reshape(-1)
        mean, square = parameters[i].mean.reshape(-1), parameters[i].square.reshape(-1)
        real = p.dtype.type
        one, none, least = real(1), real(0), real(1e-12)
        beta1, beta2 = constants.beta1, constants.beta2
        betas = beta1, one - beta1, beta2, one - beta2
        of_part = rates[i], *betas, constants.correction, constants.eps
        for f in range(max(first - before, 0), min(last - before, n)):
            at = f * d
            if i == unit:
                along = dot(p, grad, at, d)
                norm = update_row(p, grad, mean, square, at, d, along, of_part)
                copy_scaled(p, at, d, p, at, one / max(np.sqrt(norm), least))
            else:
                update_row(p, grad, mean, square, at, d, none, of_part)
        before += n
