"""All that a learner needs to go on, as numpy arrays and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from skfeat.kernels.connector._support import Support
from skfeat.solvers.joint._started import Started
from skfeat.utils._torch import to_numpy


def state_of(learner: Started) -> dict:
    """Return copies of all that training has changed."""

    def arrays(tensors: Sequence[torch.Tensor]) -> list[np.ndarray]:
        return [to_numpy(tensor) for tensor in tensors]

    return {
        "n_steps": learner.n_steps,
        "generator": to_numpy(learner.generator.get_state()),
        "places": [support.places for support in learner.supports],
        "coefs": arrays(learner.coefs),
        "intercepts": arrays(learner.intercepts),
        "read_means": arrays(learner.read_means),
        "code_means": arrays(learner.code_means),
        "code_variances": arrays(learner.code_variances),
        "coders": [coder.state() for coder in learner.coders],
        "first": [int(pruner.first) for pruner in learner.pruners],
        "masks": [to_numpy(pruner.mask, np.uint8) for pruner in learner.pruners],
        "costs": arrays(learner.pruning.costs),
        "moments": {
            str(index): slots for index, slots in learner.optimizer.moments().items()
        },
    }


def set_weights(learner: Started, state: dict) -> None:
    """Set the weights, and what is known of the codes, in place of a start.

    Raises
    ------
    ValueError
        If arrays have other shapes than those of such a learner: loops trust them.
    """
    for coder, own in zip(learner.coders, state["coders"], strict=True):
        coder.go_on(own)
    widths = [len(coder.encoder) for coder in learner.coders]
    n_reads = len(learner.problem.connections)
    ends = learner.problem.end_widths(widths)
    learner.supports = [
        _support((computed, read), places)
        for (read, computed), places in zip(
            pairwise(ends), state["places"], strict=True
        )
    ]
    shapes: dict[str, list[tuple[int, ...]]] = {
        "read_means": [(width,) for width in ends[:n_reads]],
        "code_means": [(width,) for width in widths],
        "code_variances": [()] * len(widths),
        "coefs": [support.weights_shape for support in learner.supports],
        "intercepts": [(width,) for width in ends[1:]],
    }
    trained = {
        "coefs": [not part.frozen for part in learner.problem.connections],
        "intercepts": [
            not part.frozen and part.fit_intercept
            for part in learner.problem.connections
        ],
    }
    for name, expected in shapes.items():
        _check_shapes(name, state[name], expected)
        flags = trained.get(name, [False] * len(expected))
        found = [
            learner._tensor(array, trained=flag)
            for array, flag in zip(state[name], flags, strict=True)
        ]
        setattr(learner, name, found)


def _support(shape: tuple[int, int], places: np.ndarray | None) -> Support:
    """Return where weights are held, if loops may trust the places."""
    found = Support(shape, places)
    if places is not None:
        inside = len(places) == 0 or 0 <= places[0] <= places[-1] < found.size
        if places.dtype != np.int64 or not inside or (np.diff(places) <= 0).any():
            raise ValueError("its places are not those of such a network")
    return found


def go_on(learner: Started, state: dict) -> None:
    """Take over the rest of a state, once all parts of the learner are there."""
    _check_shapes(
        "masks", state["masks"], [part.mask.shape for part in learner.pruners]
    )
    for pruner, first, mask in zip(
        learner.pruners, state["first"], state["masks"], strict=True
    ):
        pruner.first = first
        pruner.mask = torch.as_tensor(mask > 0, device=pruner.mask.device)
    costs = learner.pruning.costs
    _check_shapes("costs", state["costs"], [cost.shape for cost in costs])
    for cost, array in zip(costs, state["costs"], strict=True):
        cost.copy_(torch.from_numpy(array))
    moments = {int(index): slots for index, slots in state["moments"].items()}
    for index, slots in moments.items():
        shape = learner.parameters[index].shape
        given = [slots["exp_avg"], slots["exp_avg_sq"]]
        _check_shapes("moments", given, [shape, shape])
    learner.optimizer.load_moments(moments)
    learner._choose_products()
    learner.n_steps = state["n_steps"]
    learner.generator.set_state(torch.from_numpy(state["generator"].copy()))


def _check_shapes(
    name: str, arrays: Sequence[np.ndarray], shapes: Sequence[tuple[int, ...]]
) -> None:
    if [np.shape(array) for array in arrays] != [tuple(shape) for shape in shapes]:
        raise ValueError(f"its {name} are not those of such a network")
