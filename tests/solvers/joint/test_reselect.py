"""Weights that are chosen again once pruning has ended."""

import numpy as np
import pytest
import torch

from skfeat.activations import ReLU
from skfeat.connector import FeatureConnector
from skfeat.kernels._threads import Team
from skfeat.solvers._prune import PRUNED_AT, is_time
from skfeat.solvers.joint._learner import Learner
from skfeat.solvers.joint._problem import Coder, Connection, JointSettings, Problem
from skfeat.solvers.joint._reselect import (
    reselect,
    reselect_unless_worse,
    reselects_after,
)

N, WIDTH, BUDGET = 400, 8, 10


def known(seed=0):
    """Draw features of two layers, the second computed by few weights of the first."""
    rng = np.random.RandomState(seed)
    features = rng.rand(N, WIDTH) * (rng.rand(N, WIDTH) < 0.4)
    coef = np.zeros((WIDTH, WIDTH))
    # Each computed feature is on in some rows: what is never on has no weights to find.
    coef[np.arange(WIDTH), rng.permutation(WIDTH)] = 2.0
    coef[[0, 3], [coef[0].argmin(), coef[3].argmin()]] = -1.0
    return features, np.maximum(features @ coef.T, 0), coef


def identity():
    eye = np.eye(WIDTH)
    return Coder(eye, np.zeros(WIDTH), eye, np.zeros(WIDTH), ReLU(), frozen=True)


def learner(*, outputs=True, inputs=False, faithfulness=1.0, **changes):
    """Return a learner whose codes are the known features."""
    first, second, coef = known()
    params = {"link": "relu", "budget": BUDGET, **changes}
    connections = [Connection(**params), Connection("identity", 5)]
    if inputs:
        connections.insert(0, Connection("relu", BUDGET))
    problem = Problem(
        [first, second],
        [identity(), identity()],
        connections if outputs else connections[:-1],
        first if inputs else None,
        second[:, :2] if outputs else None,
    )
    settings = JointSettings(
        share_budgets=False,
        classify=False,
        faithfulness=faithfulness,
        train_encoder=False,
        n_epochs=2,
        tol=1e-3,
        batch_size=N,
        device=torch.device("cpu"),
        seed=0,
    )
    return Learner(problem, settings, Team()), coef


def spoil(ours, index, n_weights=BUDGET):
    """Let a pruning have kept the wrong weights."""
    pruner = ours.pruners[index]
    pruner.mask = (torch.arange(WIDTH**2) < n_weights).view(WIDTH, WIDTH)
    with torch.no_grad():
        pruner.apply()


@pytest.mark.parametrize("inputs", [True, False])
def test_lost_weights_come_back(inputs):
    ours, coef = learner(inputs=inputs)
    index = int(inputs)
    spoil(ours, index)
    reselect(ours)
    learnt = ours.weights()
    np.testing.assert_allclose(learnt.coefs[index], coef, atol=1e-3)
    np.testing.assert_allclose(learnt.intercepts[index], 0, atol=1e-3)
    np.testing.assert_array_equal(ours.pruners[index].mask, coef != 0)


def test_weights_are_those_of_a_connector():
    ours, _ = learner()
    first, second, _ = known()
    n_weights = BUDGET - 3
    spoil(ours, 0, n_weights)
    reselect(ours)
    plain = FeatureConnector(n_nonzero_coefs=n_weights, link="relu")
    plain.fit(first, second)
    coef = ours.weights().coefs[0]
    np.testing.assert_array_equal(coef != 0, plain.coef_.toarray() != 0)
    np.testing.assert_allclose(coef, plain.coef_.toarray(), atol=1e-2)


@pytest.mark.parametrize(
    "changes",
    [
        {"frozen": True, "budget": None, "start": (np.eye(WIDTH), np.zeros(WIDTH))},
        {"budget": None, "start": (np.eye(WIDTH), np.zeros(WIDTH))},
        {"link": "identity"},
        {"budget": 0},
    ],
)
def test_other_connectors_stay(changes):
    ours, _ = learner(**changes)
    ours.pruning.prune(1.0)
    before = [coef.detach().clone() for coef in ours.coefs]
    reselect(ours)
    for old, new in zip(before, ours.coefs, strict=True):
        np.testing.assert_array_equal(old, new.detach())


@pytest.mark.parametrize("planned", [1, 2, 7, 10, 33, 100, 1500])
def test_nothing_is_pruned_from_then_on(planned):
    after = reselects_after(planned)
    assert (after - 1) / planned <= PRUNED_AT < after / planned
    assert not any(is_time(n, n / planned, 1) for n in range(after, planned + 1))


@pytest.mark.parametrize(
    ("outputs", "faithfulness", "expected"),
    [(True, 1.0, 1), (True, 3.0, 1), (True, 0.9, 0), (False, 1.0, 0)],
)
def test_training_reselects_once_if_faithful_to_more_than_outputs(
    outputs, faithfulness, expected, monkeypatch
):
    calls = []
    monkeypatch.setattr(
        "skfeat.solvers.joint._learner.reselect_unless_worse",
        lambda ours, loss: calls.append(loss()),
    )
    ours, _ = learner(outputs=outputs, faithfulness=faithfulness)
    for _ in range(10):
        ours.step(np.arange(N), 10)
    assert len(calls) == expected


def test_training_keeps_the_support_and_the_budget():
    ours, coef = learner()
    for _ in range(30):
        ours.step(np.arange(N), 30)
    found = ours.finish().coefs[0]
    np.testing.assert_array_equal(found != 0, coef != 0)


@pytest.mark.parametrize(("after", "is_kept"), [(0.9, True), (1.1, True), (1.2, False)])
def test_weights_that_raise_the_loss_by_much_are_taken_back(after, is_kept):
    ours, coef = learner()
    spoil(ours, 0)
    before = ours.weights()
    losses = iter([1.0, after])
    reselect_unless_worse(ours, lambda: torch.tensor(next(losses)))
    learnt = ours.weights()
    expected = coef if is_kept else before.coefs[0]
    np.testing.assert_allclose(learnt.coefs[0], expected, atol=1e-3)
    mask = ours.pruners[0].mask
    assert int(mask.sum()) == BUDGET
    np.testing.assert_array_equal((ours.coefs[0] != 0) & ~mask, False)
    if not is_kept:
        np.testing.assert_array_equal(learnt.intercepts[0], before.intercepts[0])
