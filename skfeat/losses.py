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

    A target that is on (y > 0) pulls with the full error ``u - y`` even where the unit
    is off, so no start is a bad one; a target that is off is content with any u <= 0.

    Returns
    -------
    residual, value : arrays of the shape of u
    """
    on = (u > 0) | (y > 0)
    error = u * on - y
    return error * on, error * error / 2
