"""Weights that are chosen again once pruning has ended."""

import numpy as np
import pytest
import torch

from skfeat.activations import ReLU
from skfeat.connector import FeatureConnector
from skfeat.kernels._threads import Team
from skfeat.solvers._prune import PRUNED_AT, is_time
from skfeat.solvers.joint import _train
from skfeat.solvers.joint._learner import Learner
from skfeat.solvers.joint._problem import Coder, Connection, JointSettings, Problem
from skfeat.solvers.joint._reselect import is_won, race_of, reselected
from skfeat.solvers.joint._state import state_of

N, WIDTH, BUDGET = 4000, 8, 10


def known(seed=0, density=0.08):
    """Draw features of two layers, the second computed by few weights of the first."""
    rng = np.random.RandomState(seed)
    features = rng.rand(N, WIDTH) * (rng.rand(N, WIDTH) < density)
    coef = np.zeros((WIDTH, WIDTH))
    # Each computed feature is on in some rows: what is never on has no weights to find.
    coef[np.arange(WIDTH), rng.permutation(WIDTH)] = 2.0
    coef[[0, 3], [coef[0].argmin(), coef[3].argmin()]] = -1.0
    return features, np.maximum(features @ coef.T, 0), coef


def identity():
    eye = np.eye(WIDTH)
    return Coder(eye, np.zeros(WIDTH), eye, np.zeros(WIDTH), ReLU(), frozen=True)


def learner(
    *, outputs=True, inputs=False, faithfulness=1.0, n_epochs=2, density=0.08, **changes
):
    """Return a learner whose codes are the known features."""
    first, second, coef = known(density=density)
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
        n_epochs=n_epochs,
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


def rival(ours):
    """Return a learner like another, but for weights that are chosen again."""
    return Learner(ours.problem, ours.settings, Team(), reselected(ours))


@pytest.mark.parametrize("inputs", [True, False])
def test_lost_weights_come_back(inputs):
    ours, coef = learner(inputs=inputs)
    index = int(inputs)
    spoil(ours, index)
    before = state_of(ours)
    theirs = rival(ours)
    learnt = theirs.weights()
    np.testing.assert_allclose(learnt.coefs[index], coef, atol=1e-3)
    np.testing.assert_allclose(learnt.intercepts[index], 0, atol=1e-3)
    np.testing.assert_array_equal(theirs.pruners[index].mask, coef != 0)
    # The learner is as it was, and all else is the same.
    for old, now in zip(before["coefs"], state_of(ours)["coefs"], strict=True):
        np.testing.assert_array_equal(old, now)
    for other in set(range(len(ours.coefs))) - {index}:
        np.testing.assert_array_equal(
            ours.coefs[other].detach(), theirs.coefs[other].detach()
        )


def test_few_places_that_are_held_become_others():
    # A network whose weights are held at some places alone.
    ours, coef = learner()
    places = np.arange(BUDGET)
    state = state_of(ours)
    state["places"][0], state["coefs"][0] = places, np.full(BUDGET, 0.1)
    state["masks"][0] = np.ones(BUDGET, np.uint8)
    state["costs"][0], state["moments"] = np.zeros(BUDGET), {}
    theirs = rival(Learner(ours.problem, ours.settings, Team(), state))
    np.testing.assert_array_equal(theirs.supports[0].places, np.flatnonzero(coef))
    np.testing.assert_allclose(theirs.weights().coefs[0].toarray(), coef, atol=1e-3)
    theirs.step(np.arange(N), 10)
    assert len(theirs.coefs[0]) == BUDGET


def test_weights_are_those_of_a_connector():
    ours, _ = learner()
    first, second, _ = known()
    n_weights = BUDGET - 3
    spoil(ours, 0, n_weights)
    plain = FeatureConnector(n_nonzero_coefs=n_weights, link="relu")
    plain.fit(first, second)
    coef = rival(ours).weights().coefs[0]
    np.testing.assert_array_equal(coef != 0, plain.coef_.toarray() != 0)
    np.testing.assert_allclose(coef, plain.coef_.toarray(), atol=1e-2)


@pytest.mark.parametrize(
    "changes",
    [
        {"frozen": True, "budget": None, "start": (np.eye(WIDTH), np.zeros(WIDTH))},
        {"budget": None, "start": (np.eye(WIDTH), np.zeros(WIDTH))},
        {"link": "identity"},
        {"budget": 0},
        {"density": 0.4},  # a fit to these takes as long as all else
    ],
)
def test_other_connectors_have_no_rival(changes):
    ours, _ = learner(**changes)
    ours.pruning.prune(1.0)
    assert reselected(ours) is None


@pytest.mark.parametrize("n_epochs", [1, 2, 3, 4, 7, 10, 33, 100, 1500])
def test_a_race_follows_the_last_pruning(n_epochs):
    ours, _ = learner(n_epochs=n_epochs)
    race = race_of(ours.problem, ours.settings)
    assert (race.start - 1) / n_epochs < PRUNED_AT <= race.start / n_epochs
    assert race.stop <= n_epochs
    assert len(race) == min(-(-n_epochs // 20), n_epochs - race.start)
    after = range(race.start + 1, n_epochs + 1)
    assert not any(is_time(n, n / n_epochs, 1) for n in after)


@pytest.mark.parametrize(
    ("outputs", "faithfulness", "is_run"),
    [(True, 1.0, True), (True, 0.1, True), (True, 0.0, False), (False, 1.0, False)],
)
def test_a_race_is_run_where_features_are_compared(outputs, faithfulness, is_run):
    ours, _ = learner(outputs=outputs, faithfulness=faithfulness, n_epochs=10)
    assert bool(race_of(ours.problem, ours.settings)) == is_run


def trained():
    """Train on a problem as a fit does; return weights, losses and the true ones."""
    ours, coef = learner(n_epochs=20)
    learnt, history = _train.train_jointly(
        ours.problem, ours.settings, name="test", remedy=""
    )
    return learnt.coefs[0], history.losses, coef


def test_training_keeps_the_better_of_two(monkeypatch):
    starts = []

    def spoiling(self):
        spoil(self.learner, 0)
        find(self)
        starts.append(self.rival)

    find = _train._Run._find_rival
    monkeypatch.setattr(_train._Run, "_find_rival", spoiling)
    found, losses, coef = trained()
    np.testing.assert_array_equal(found != 0, coef != 0)
    assert len(starts) == 1
    assert len(losses) == 20
    # Spoiled weights stay where the rival does not win.
    monkeypatch.setattr(_train, "is_won", lambda rival, own: False)
    found, _, coef = trained()
    assert not np.array_equal(found != 0, coef != 0)
    assert np.count_nonzero(found) <= BUDGET


@pytest.mark.parametrize(
    ("rival", "expected"), [(0.5, True), (0.94, True), (0.99, False), (np.nan, False)]
)
def test_a_rival_wins_by_far_or_not_at_all(rival, expected):
    assert is_won(rival, 1.0) == expected


def test_a_rival_that_loses_leaves_no_trace(monkeypatch):
    monkeypatch.setattr(_train, "is_won", lambda rival, own: False)
    found, losses, _ = trained()
    monkeypatch.setattr(_train._Run, "_find_rival", lambda self: None)
    alone, expected, _ = trained()
    np.testing.assert_array_equal(found, alone)
    assert losses == expected
