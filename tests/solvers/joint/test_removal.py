"""What the removal of a weight costs, against computing the network without it."""

import numpy as np
import pytest
import torch
from scipy import sparse

from skfeat.activations import ReLU
from skfeat.kernels._optional import has_numba
from skfeat.kernels._threads import Team
from skfeat.kernels.connector import _removal
from skfeat.kernels.connector._removal import plain, removal_costs
from skfeat.kernels.connector._support import Support
from skfeat.solvers._prune import Pruner
from skfeat.solvers.joint._learner import Learner
from skfeat.solvers.joint._problem import Coder, Connection, JointSettings, Problem
from skfeat.solvers.joint._removal import RemovalPruning

RNG = np.random.RandomState(0)
Q, P, N = 4, 6, 50


def drawn(*shape):
    return torch.from_numpy(RNG.randn(*shape)).float()


def compiled():
    """Return what computes the costs of many weights."""
    return removal_costs(1e15, torch.device("cpu"), Team())


KERNELS = [plain, *([compiled()] if has_numba() else [])]


def without_each(read, coef, mask, intercept, gradient, rectified, n_positions=1):
    """Return the costs by computing without each weight in turn."""

    def computed(coef):
        before = coef @ read + intercept[:, None]
        return before.relu() if rectified else before

    expected = np.zeros(coef.shape)
    for output, column in mask.nonzero():
        without = coef.clone()
        without[output, column] = 0
        change = gradient * (computed(coef) - computed(without))
        change = change.reshape(len(coef), -1, n_positions).sum(dim=2)
        expected[output, column] = float(change.square().sum())
    return expected


@pytest.mark.parametrize("costs_of", KERNELS)
@pytest.mark.parametrize("n_positions", [1, 5])
@pytest.mark.parametrize("at_once", [1, 70, 10**6])
@pytest.mark.parametrize("rectified", [True, False])
@pytest.mark.parametrize("many", [0.0, 1.0])
def test_costs_are_those_of_computing_without_each_weight(
    many, rectified, at_once, n_positions, costs_of, monkeypatch
):
    monkeypatch.setattr(_removal, "_MANY", many)
    monkeypatch.setattr(_removal, "_AT_ONCE", at_once)
    read, coef, intercept, gradient = drawn(P, N), drawn(Q, P), drawn(Q), drawn(Q, N)
    mask = drawn(Q, P) > 0
    coef = coef * mask
    costs = costs_of(
        read,
        coef @ read + intercept[:, None],
        coef,
        mask,
        gradient,
        rectified=rectified,
        n_positions=n_positions,
    )
    parts = read, coef, mask, intercept, gradient
    expected = without_each(*parts, rectified, n_positions)
    np.testing.assert_allclose(costs.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_elements", [0, *([1e15] if has_numba() else [])])
@pytest.mark.parametrize("rectified", [True, False])
def test_costs_of_weights_held_at_some_places(rectified, n_elements):
    read, before, gradient = drawn(P, N), drawn(Q, N), drawn(Q, N)
    matrix = sparse.csr_array((drawn(Q, P) * (drawn(Q, P) > 0)).numpy())
    support, mask = Support.of(matrix), drawn(matrix.nnz) > 0
    device, weights = torch.device("cpu"), torch.from_numpy(matrix.data)
    costs_of = removal_costs(n_elements, device, Team(), support)
    costs = costs_of(read, before, weights, mask, gradient, rectified=rectified)
    assert costs.shape == weights.shape
    dense, left = support.matrix(weights), support.matrix(mask.float()) > 0
    expected = plain(read, before, dense, left, gradient, rectified=rectified)
    torch.testing.assert_close(support.matrix(costs), expected)


@pytest.mark.skipif(not has_numba(), reason="numba is not installed")
def test_threads_change_no_costs():
    read, before, gradient = drawn(300, 40), drawn(200, 40), drawn(200, 40)
    coef, mask = drawn(200, 300), drawn(200, 300) > 0
    parts = read, before, coef, mask, gradient
    alone = compiled()(*parts, rectified=True)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with Team() as team:
            costs_of = removal_costs(1e15, torch.device("cpu"), team)
            # Above the size from which a team divides the work.
            many = [
                part.repeat(1, 8) if part.shape[1] == 40 else part for part in parts
            ]
            together = costs_of(*many, rectified=True)
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(together, 8 * alone, rtol=1e-4, atol=1e-4)


def test_what_the_loop_is_for(monkeypatch):
    device = torch.device("cpu")
    assert removal_costs(1e6, device, Team()).func is plain
    assert removal_costs(1e15, torch.device("meta"), Team()).func is plain
    monkeypatch.setattr(_removal, "has_numba", lambda: False)
    assert removal_costs(1e15, device, Team()).func is plain


def test_a_weight_that_switches_a_feature_off_costs_what_it_switches_off():
    # The feature is on with the first column, unless the second is there.
    read = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    coef = torch.tensor([[1.0, -3.0]])
    before = coef @ read
    costs = plain(read, before, coef, coef != 0, torch.ones(1, 3), rectified=True)
    # Both weights change one row of three by one, though the gradient of the second
    # weight is zero on each row: where it is read, the rectifier is off.
    assert costs.tolist() == [[1.0, 1.0]]


def test_costs_are_followed_where_weights_are_left():
    coef = drawn(Q, P)
    pruner = Pruner.fixed(coef, drawn(Q, P) > 0)
    pruning = RemovalPruning([coef], [pruner], shared=False)
    found = drawn(Q, P).square() * pruner.mask
    for _ in range(200):
        pruning.take_costs([found])
    (costs,) = pruning.saliencies()
    np.testing.assert_allclose(costs, found, rtol=1e-3)


def learner(classify, outputs, connection, **changes):
    """A learner of one layer whose features are its units, connected to outputs."""
    d, n = 5, len(outputs)
    hidden = np.abs(RNG.randn(n, d)) + 0.1
    eye = np.eye(d)
    coder = Coder(eye, np.zeros(d), eye, np.zeros(d), ReLU(), frozen=True)
    settings = {
        "share_budgets": False,
        "classify": classify,
        "faithfulness": 0.1,
        "train_encoder": False,
        "n_epochs": 2,
        "tol": 1e-3,
        "batch_size": 20,
        "device": torch.device("cpu"),
        "seed": 0,
        **changes,
    }
    problem = Problem([hidden], [coder], [connection], None, outputs)
    return Learner(problem, JointSettings(**settings), Team()), hidden


@pytest.mark.parametrize("classify", [True, False])
def test_estimates_agree_with_what_outputs_change(classify):
    n = 4000
    coef = RNG.randn(3, 5) * 0.05
    ours, hidden = learner(classify, RNG.randn(n, 3), Connection("identity", 15))
    ours.coefs[0].data.copy_(torch.from_numpy(coef))
    for _ in range(30):
        ours._estimate_costs(np.arange(n))
    (costs,) = ours.pruning.saliencies()
    costs = costs / (1 - (1 - 0.05) ** 30)
    weights, intercepts = ours._from_units(0)
    outputs = hidden @ weights.T + intercepts
    expected = np.empty((3, 5))
    for o in range(3):
        for j in range(5):
            change = np.zeros_like(outputs)
            change[:, o] = weights[o, j] * (hidden[:, j] - hidden[:, j].mean())
            if classify:
                log_p = torch.from_numpy(outputs).log_softmax(1).numpy()
                log_q = torch.from_numpy(outputs - change).log_softmax(1).numpy()
                expected[o, j] = (np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean()
            else:
                scale = np.broadcast_to(ours.output_unit.scale, 3)
                expected[o, j] = np.square(change / scale).mean(axis=0).sum() / 3
    np.testing.assert_allclose(costs.numpy(), expected, rtol=0.1)
