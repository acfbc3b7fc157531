"""Gradients through a piecewise linear chain, exact for each row."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from skfeat.chain._kinds import JOINS, KINDS
from skfeat.chain._steps import Step, run_numpy, walk

if TYPE_CHECKING:
    from skfeat.chain._chain import Chain

_EXACT_JOINS = tuple(
    name for name, kind in JOINS.items() if not isinstance(kind.shares, str)
)

LINEAR = (*(name for name, kind in KINDS.items() if kind.is_linear), *_EXACT_JOINS)
"""The kinds of step that are linear, joins if their branches are."""

PIECEWISE_LINEAR = (
    *LINEAR,
    *(
        name
        for name, kind in KINDS.items()
        if not kind.is_linear and not isinstance(kind.vjp, str)
    ),
)


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


def backpropagate(
    steps: Sequence[Step], values: list[np.ndarray], grad: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the vector-Jacobian product of piecewise linear steps.

    Parameters
    ----------
    steps : sequence of Step
        Piecewise linear ones.
    values : list of ndarray
        Of :func:`values_along`; of one row, to take several gradients of that row.
    grad : ndarray of shape (n, n_outputs)
        Gradient with respect to the values at the end.

    Returns
    -------
    grad : ndarray of shape (n, n_features_in)
        Gradient with respect to the values at the start, on the piece of each row.
    bias : ndarray of shape (n,)
        What the steps' own constants add:
        ``grad_end @ end == grad_start @ start + bias``.
    """
    bias = np.zeros(len(grad), grad.dtype)
    for step, (before, after) in reversed(
        list(zip(steps, pairwise(values), strict=True))
    ):
        grad, own = _backpropagate_step(step, before, after, grad)
        bias = bias + own
    return grad, bias


def _backpropagate_step(
    step: Step, before: np.ndarray, after: np.ndarray, grad: np.ndarray
) -> tuple[np.ndarray, np.ndarray | float]:
    if step.branches:
        return _backpropagate_join(step, before, grad)
    vjp = KINDS[step.kind].vjp
    if isinstance(vjp, str):
        raise ValueError(f"A {step.kind!r} step has no exact gradient: {vjp}.")
    arrays = {k: v.astype(grad.dtype, copy=False) for k, v in step.arrays.items()}
    return vjp(grad, before, after, arrays, step.settings)


def _backpropagate_join(
    step: Step, before: np.ndarray, grad: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Backpropagate through each branch, and add up the gradients at the start."""
    shares = JOINS[step.kind].shares
    if isinstance(shares, str):
        raise ValueError(f"A {step.kind!r} step has no exact gradient: {shares}.")
    along = [values_along(branch, before) for branch in step.branches]
    widths = [values[-1].shape[1] for values in along]
    found = [
        backpropagate(branch, values, share)
        for branch, values, share in zip(
            step.branches, along, shares(grad, widths), strict=True
        )
    ]
    at_start, biases = zip(*found, strict=True)
    return np.sum(at_start, axis=0), np.sum(biases, axis=0)
