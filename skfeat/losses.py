"""Losses of a connector: values and residuals of pre-activations u against targets y.

Written for numpy and torch alike: only arithmetic and comparisons are used. A residual
is the derivative of the loss in u.
"""

from __future__ import annotations


def rectified(u, y):
    """Residual and values of ``(max(0, u) - y)^2 / 2``.

    Where the unit is off (u <= 0) the loss is flat.

    Returns
    -------
    residual, value : arrays of the shape of u
    """
    on = u > 0
    error = u * on - y
    return error * on, error * error / 2


def rectified_convex(u, y):
    """Residual and values of the convex majorant of `rectified` in u.

    Where the target is on (y > 0) the residual is the full error ``u - y`` even while
    the unit is off, so the gradient vanishes at no bad start; where the target is off,
    any u <= 0 costs nothing.

    Returns
    -------
    residual, value : arrays of the shape of u
    """
    on = (u > 0) | (y > 0)
    error = u * on - y
    return error * on, error * error / 2
