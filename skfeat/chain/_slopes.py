"""Slopes of a piecewise linear chain, exact for each row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from skfeat.chain._steps import Step, run_numpy, walk

if TYPE_CHECKING:
    from skfeat.chain._chain import Chain

# What acts on each value alone: its slope at x, from the step's arrays and settings.
_ELEMENTWISE: dict[str, Callable[[np.ndarray, dict, dict], Any]] = {
    "identity": lambda x, a, s: 1,
    "relu": lambda x, a, s: x > 0,
    "leaky_relu": lambda x, a, s: np.where(x > 0, 1, s["negative_slope"]),
    "prelu": lambda x, a, s: np.where(x > 0, 1, a["weight"]),
    "hardtanh": lambda x, a, s: (x > s["min_val"]) & (x < s["max_val"]),
    "hardsigmoid": lambda x, a, s: (np.abs(x) < 3) / 6,
    "softshrink": lambda x, a, s: np.abs(x) > s["lambd"],
    "hardshrink": lambda x, a, s: np.abs(x) > s["lambd"],
}

LINEAR = ("affine", "scale", "identity", "slice", "mean", "add", "concatenate")
"""The kinds of step that are linear, joins if their branches are."""

PIECEWISE_LINEAR = tuple(dict.fromkeys([*LINEAR, *_ELEMENTWISE]))


def check_piecewise_linear(name: str, chain: Chain) -> None:
    """Raise ValueError if a step is curved, so that no split into parts is exact."""
    for step in walk(chain.steps):
        if step.kind not in PIECEWISE_LINEAR:
            raise ValueError(
                f"Contributions are exact only through steps of the kinds "
                f"{', '.join(PIECEWISE_LINEAR)}, but {name} of the network has a "
                f"{step.kind!r} step."
            )


def values_along(steps: Sequence[Step], X: np.ndarray) -> list[np.ndarray]:
    """Return X and what each step makes of it."""
    values = [X]
    for step in steps:
        values.append(run_numpy([step], values[-1]))
    return values


def pull_back(
    steps: Sequence[Step], values: list[np.ndarray], slopes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Carry slopes at the end of steps back to their start.

    Parameters
    ----------
    steps : sequence of Step
        Piecewise linear ones.
    values : list of ndarray
        Of :func:`values_along`; of one row, to carry several slopes of that row.
    slopes : ndarray of shape (n, n_outputs)
        What a unit of each value at the end is worth.

    Returns
    -------
    slopes : ndarray of shape (n, n_features_in)
        What a unit of each value at the start is worth, no kink crossed.
    bias : ndarray of shape (n,)
        What the steps' own constants bring:
        ``slopes_end @ end == slopes_start @ start + bias``.
    """
    bias = np.zeros(len(slopes), slopes.dtype)
    for step, (before, after) in reversed(
        list(zip(steps, pairwise(values), strict=True))
    ):
        slopes, own = _pull_back_step(step, before, after, slopes)
        bias = bias + own
    return slopes, bias


def _pull_back_step(
    step: Step, before: np.ndarray, after: np.ndarray, slopes: np.ndarray
) -> tuple[np.ndarray, np.ndarray | float]:
    dtype, n_in = slopes.dtype, before.shape[1]
    arrays = {k: v.astype(dtype, copy=False) for k, v in step.arrays.items()}
    match step.kind:
        case "affine":
            return slopes @ arrays["coef"], slopes @ arrays["intercept"]
        case "scale":
            return slopes * arrays["weight"], slopes @ arrays["bias"]
        case "slice":
            padded = np.zeros((len(slopes), n_in), dtype)
            padded[:, step.settings["start"] : step.settings["stop"]] = slopes
            return padded, 0.0
        case "mean":
            return np.repeat(slopes / n_in, n_in, axis=1), 0.0
        case "add" | "concatenate":
            return _pull_back_join(step, before, slopes)
    at = np.asarray(_ELEMENTWISE[step.kind](before, arrays, step.settings), dtype)
    # A piece need not go through zero: what is left is a constant.
    return slopes * at, (slopes * (after - at * before)).sum(axis=1)


def _pull_back_join(
    step: Step, before: np.ndarray, slopes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Carry slopes back through each branch; what they find at the start adds up."""
    along = [values_along(branch, before) for branch in step.branches]
    widths = [values[-1].shape[1] for values in along]
    if step.kind == "concatenate":
        ends = pairwise(accumulate(widths, initial=0))
        shares = [slopes[:, start:stop] for start, stop in ends]
    else:
        # A single column was added to every column.
        total = slopes.sum(axis=1, keepdims=True)
        shares = [total if width == 1 else slopes for width in widths]
    found = [
        pull_back(branch, values, share)
        for branch, values, share in zip(step.branches, along, shares, strict=True)
    ]
    at_start, biases = zip(*found, strict=True)
    return np.sum(at_start, axis=0), np.sum(biases, axis=0)
