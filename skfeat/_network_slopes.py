"""Slopes of a piecewise linear chain, exact for each row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from skfeat.chain import Chain

PIECEWISE_LINEAR = ("affine", "scale", "relu", "leaky_relu", "identity")


def check_piecewise_linear(name: str, chain: Chain) -> None:
    """Raise ValueError if a step is curved, so that no split into parts is exact."""
    for step in chain.steps:
        if step.kind not in PIECEWISE_LINEAR:
            raise ValueError(
                f"Contributions are exact only through steps of the kinds "
                f"{', '.join(PIECEWISE_LINEAR)}, but {name} of the network has a "
                f"{step.kind!r} step."
            )


def values_along(chain: Chain, X: np.ndarray) -> list[np.ndarray]:
    """Return X and what each step of the chain makes of it."""
    values = [X]
    for i in range(len(chain.steps)):
        values.append(chain.forward(values[-1], i, i + 1))
    return values


def pull_back(
    chain: Chain, values: list[np.ndarray], slopes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Carry slopes at the end of a chain back to its start.

    Parameters
    ----------
    chain : Chain
        Of piecewise linear steps.
    values : list of ndarray
        Of :func:`values_along`; of one row, to carry several slopes of that row.
    slopes : ndarray of shape (n, n_outputs)
        What a unit of each value at the end is worth.

    Returns
    -------
    slopes : ndarray of shape (n, n_features_in)
        What a unit of each value at the start is worth, no kink crossed.
    bias : ndarray of shape (n,)
        What the chain's own constants bring:
        ``slopes_end @ end == slopes_start @ start + bias``.
    """
    bias = np.zeros(len(slopes), slopes.dtype)
    for step, before in zip(reversed(chain.steps), values[-2::-1], strict=True):
        dtype = slopes.dtype
        arrays = {k: v.astype(dtype, copy=False) for k, v in step.arrays.items()}
        match step.kind:
            case "affine":
                bias += slopes @ arrays["intercept"]
                slopes = slopes @ arrays["coef"]
            case "scale":
                bias += slopes @ arrays["bias"]
                slopes = slopes * arrays["weight"]
            case "relu":
                slopes = slopes * (before > 0)
            case "leaky_relu":
                below = dtype.type(step.settings["negative_slope"])
                slopes = np.where(before > 0, slopes, below * slopes)
    return slopes, bias
