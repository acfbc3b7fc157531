"""The loss and the units of joint training, against plain definitions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from skfeat.activations import JumpReLU, ReLU, TopK
from skfeat.kernels._limits import LIMITS
from skfeat.kernels._threads import Team
from skfeat.kernels.connector._support import Support
from skfeat.solvers.joint._learner import Learner
from skfeat.solvers.joint._problem import Coder, Connection, JointSettings, Problem
from skfeat.solvers.joint._start import (
    compact_rows,
    dense_start,
    regress,
    start_rows,
)
from skfeat.solvers.joint._state import state_of
from skfeat.solvers.joint._units import unit_of_inputs, unit_of_outputs

RNG = np.random.RandomState(0)
N, WIDTHS, M = 60, (5, 4), (9, 8)
HIDDEN = [np.maximum(RNG.randn(N, d), 0) * 3 + 1 for d in WIDTHS]
INPUTS = RNG.randn(N, 6) * [1, 10, 0.1, 1, 1, 0] + [0, 5, 0, 0, 0, 2]
OUTPUTS = RNG.randn(N, 3) * 2 + 1
SETTINGS = {
    "share_budgets": False,
    "classify": True,
    "faithfulness": 0.3,
    "train_encoder": True,
    "n_epochs": 2,
    "tol": 1e-3,
    "batch_size": 20,
    "device": torch.device("cpu"),
    "seed": 0,
}
ACTIVATIONS = {
    "topk": lambda m: TopK(3),
    "relu": lambda m: ReLU(),
    "jumprelu": lambda m: JumpReLU(np.linspace(0, 1, m)),
}


def coder(layer, activation="topk", **kwargs):
    m, d = M[layer], WIDTHS[layer]
    rng = np.random.RandomState(layer)
    decoder = rng.randn(m, d)
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    encoder = decoder if kwargs.get("tied") else rng.randn(m, d)
    return Coder(
        encoder,
        rng.randn(m),
        decoder,
        rng.randn(d),
        ACTIVATIONS[activation](m),
        **kwargs,
    )


def problem(activation="topk", *, back=True, inputs=True, **kwargs):
    connections = [Connection("relu", 12)] * (1 + inputs)
    if not back:
        connections = [*connections, Connection("identity", 9)]
    turned = torch.from_numpy(np.random.RandomState(3).randn(WIDTHS[-1], 3)).float()
    return Problem(
        HIDDEN,
        [coder(layer, activation, **kwargs) for layer in range(2)],
        connections,
        INPUTS if inputs else None,
        OUTPUTS,
        (lambda hidden: hidden @ turned) if back else None,
    )


def learner(given, **changes):
    return Learner(given, JointSettings(**{**SETTINGS, **changes}), Team())


def encode(part, rows):
    return part.activation.encode(
        (rows - part.bias) @ part.encoder.T + part.encoder_bias
    )


def plain_loss(given, learnt, settings, inputs_first):
    """The loss on all rows, of weights that act on raw rows."""
    codes = [encode(c, h) for c, h in zip(learnt.coders, given.hidden, strict=True)]
    least = max(0.3, 3 * settings["faithfulness"])
    loss, share = 0.0, 1.0 if given.outputs is None else least
    for part, own, rows in zip(learnt.coders, codes, given.hidden, strict=True):
        if not part.frozen:
            error = np.square(own @ part.decoder + part.bias - rows).sum()
            loss += share * error / np.square(rows - rows.mean(axis=0)).sum()
    features = given.inputs if inputs_first else codes[0]
    computed = []
    for connection, coef, intercept in zip(
        given.connections, learnt.coefs, learnt.intercepts, strict=True
    ):
        features = features @ coef.T + intercept
        if connection.link == "relu":
            features = np.maximum(features, 0)
        computed.append(features)
    for layer in range(0 if inputs_first else 1, 2):
        own = computed[layer - (not inputs_first)]
        spread = np.square(codes[layer] - codes[layer].mean(axis=0)).sum()
        loss += settings["faithfulness"] * np.square(own - codes[layer]).sum() / spread
    if given.outputs is None:
        return loss
    if given.back is None:
        outputs = features
    else:
        last = learnt.coders[-1]
        decoded = torch.from_numpy(features @ last.decoder + last.bias).float()
        outputs = given.back(decoded).numpy().astype(float)
    if settings["classify"]:
        p, q = (
            torch.from_numpy(o).softmax(1).numpy() for o in (given.outputs, outputs)
        )
        return loss + (p * np.log(p / q)).sum(axis=1).mean()
    error = np.square(outputs - given.outputs).mean(axis=0)
    return loss + (error / given.outputs.var(axis=0)).mean()


@pytest.mark.parametrize("faithfulness", [0.1, 2.0])
@pytest.mark.parametrize("classify", [True, False])
@pytest.mark.parametrize("back", [True, False])
@pytest.mark.parametrize("inputs", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_loss_is_the_one_that_is_written_down(
    activation, inputs, back, classify, faithfulness
):
    given = problem(activation, inputs=inputs, back=back)
    changed = {"classify": classify, "faithfulness": faithfulness}
    settings = {**SETTINGS, **changed}
    ours = learner(given, **changed)
    for part in ours.coders:
        part.penalty = 0.0
        part.l0 = None
    weights = torch.full((N,), 1 / N)
    loss = ours._loss(np.arange(N), weights).detach()
    expected = plain_loss(given, ours.weights(), settings, inputs)
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_loss_without_outputs():
    given = problem()
    given = Problem(given.hidden, given.coders, given.connections, given.inputs)
    ours = learner(given)
    loss = float(ours._loss(np.arange(N), torch.full((N,), 1 / N)).detach())
    expected = plain_loss(given, ours.weights(), SETTINGS, inputs_first=True)
    assert loss == pytest.approx(expected, rel=1e-4)


def test_penalty_is_on_the_codes():
    given = problem("relu")
    ours, weights = learner(given), torch.full((N,), 1 / N)
    with_penalty = float(ours._loss(np.arange(N), weights).detach())
    penalties = [part.penalty for part in ours.coders]
    assert min(penalties) > 0
    sizes = [
        float(encode(c, h).sum(axis=1).mean()) / unit.scale
        for c, h, unit in zip(given.coders, HIDDEN, ours.units, strict=True)
    ]
    for part in ours.coders:
        part.penalty, part.l0 = 0.0, None
    without = float(ours._loss(np.arange(N), weights).detach())
    # The penalties had followed the batch before it was weighed.
    followed = 0.9 * sum(p * s for p, s in zip(penalties, sizes, strict=True))
    assert with_penalty - without == pytest.approx(followed, rel=0.05)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("tied", [True, False])
def test_no_update_changes_nothing(activation, tied):
    given = problem(activation, tied=tied)
    learnt = learner(given).weights()
    for before, after, rows in zip(given.coders, learnt.coders, HIDDEN, strict=True):
        np.testing.assert_allclose(after.decoder, before.decoder, rtol=1e-6)
        np.testing.assert_allclose(encode(after, rows), encode(before, rows), atol=1e-5)
        np.testing.assert_allclose(after.bias, before.bias, atol=1e-6)


def test_weights_that_are_given_come_back():
    coef, intercept = RNG.randn(M[0], 6), RNG.randn(M[0])
    given = problem()
    given.connections[0] = Connection("relu", None, (coef, intercept))
    learnt = learner(given).weights()
    np.testing.assert_allclose(learnt.coefs[0], coef, rtol=1e-5)
    np.testing.assert_allclose(learnt.intercepts[0], intercept, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_updates(activation):
    given = problem(activation, tied=activation == "topk")
    ours = learner(given, n_epochs=40)
    first = float(ours._loss(np.arange(N), torch.full((N,), 1 / N)).detach())
    for _ in range(40):
        for rows in np.split(np.arange(N), 3):
            ours.step(rows, 120)
    learnt = ours.finish()
    last = float(ours._loss(np.arange(N), torch.full((N,), 1 / N)).detach())
    assert last < first
    assert [np.count_nonzero(coef) for coef in learnt.coefs] == [12, 12]
    for before, after in zip(given.coders, learnt.coders, strict=True):
        norms = np.linalg.norm(after.decoder, axis=1)
        np.testing.assert_allclose(norms, 1, rtol=1e-5)
        assert not np.allclose(after.decoder, before.decoder, atol=1e-3)
        if after.tied:
            np.testing.assert_array_equal(after.encoder, after.decoder)


def test_shared_budgets():
    ours = learner(problem(), share_budgets=True)
    ours.step(np.arange(N), 10)
    counts = [np.count_nonzero(coef) for coef in ours.finish().coefs]
    assert sum(counts) == 24
    assert counts != [12, 12]


def test_frozen_parts_stay():
    given = problem(frozen=True)
    start = RNG.randn(M[0], 6), RNG.randn(M[0])
    given.connections[0] = Connection("relu", None, start, frozen=True)
    ours = learner(given)
    for _ in range(10):
        ours.step(np.arange(N), 20)
    learnt = ours.finish()
    assert all(a is b for a, b in zip(learnt.coders, given.coders, strict=True))
    np.testing.assert_allclose(learnt.coefs[0], start[0], rtol=1e-5)
    assert np.count_nonzero(learnt.coefs[1]) == 12


def test_no_intercept_is_fitted_if_there_shall_be_none():
    given = problem(inputs=False)
    given.connections[0] = Connection("relu", 12, fit_intercept=False)
    ours = learner(given)
    for _ in range(10):
        ours.step(np.arange(N), 20)
    assert not ours.weights().intercepts[0].any()


@pytest.mark.parametrize("train_encoder", [True, False])
def test_what_moves_the_first_encoder(train_encoder):
    # Of an encoder that nothing but its reconstruction moves, the gradient does not
    # depend on what follows.
    gradients = []
    for outputs in (OUTPUTS, OUTPUTS[::-1]):
        given = problem(inputs=False)
        given = Problem(
            given.hidden, given.coders, given.connections, None, outputs, given.back
        )
        ours = learner(given, train_encoder=train_encoder)
        ours._loss(np.arange(N), torch.full((N,), 1 / N)).backward()
        gradients.append(ours.coders[0].encoder.grad.numpy())
    assert np.allclose(*gradients, atol=1e-7) != train_encoder


@pytest.mark.parametrize("activation", ["relu", "jumprelu"])
def test_a_penalty_holds_the_number_of_active_features(activation):
    given = problem(activation, inputs=False)
    ours = learner(given, n_epochs=80)
    before = [part.l0 for part in ours.coders]
    for _ in range(80):
        for rows in np.split(np.arange(N), 3):
            ours.step(rows, 240)
    for l0, part, rows in zip(before, ours.finish().coders, HIDDEN, strict=True):
        after = np.count_nonzero(encode(part, rows)) / N
        assert after == pytest.approx(l0, rel=0.25)


@given(
    st.lists(st.floats(-1e4, 1e4), min_size=6, max_size=6),
    st.lists(st.integers(-30, 30), min_size=6, max_size=6),
)
def test_units_of_inputs_are_those_of_each_column(shift, exponents):
    weights, units = np.ones(N), 2.0 ** np.array(exponents)
    unit = unit_of_inputs(INPUTS, weights)
    other = unit_of_inputs(INPUTS * units, weights)
    same = other.apply(INPUTS * units)
    np.testing.assert_allclose(same, unit.apply(INPUTS), rtol=1e-5, atol=1e-6)
    moved = unit_of_inputs(INPUTS + shift, weights)
    close = moved.apply(INPUTS + shift)
    np.testing.assert_allclose(close, unit.apply(INPUTS), atol=1e-4)
    assert np.abs(unit.apply(INPUTS)).max() <= 1 + 1e-6


@pytest.mark.parametrize("each", [True, False])
def test_outputs_that_do_not_vary_have_a_unit(each):
    for rows in (np.zeros((N, 2)), np.full((N, 2), 7.0)):
        unit = unit_of_outputs(rows, np.ones(N), each=each)
        assert np.isfinite(unit.apply(rows)).all()
        assert np.abs(unit.apply(rows)).max() < 1e-12


def test_rows_without_weight_are_not_felt():
    X = INPUTS.copy()
    X[-1] = 1e30
    weights = np.ones(N)
    weights[-1] = 0
    unit = unit_of_inputs(X, weights)
    expected = unit_of_inputs(INPUTS[:-1], weights[:-1])
    np.testing.assert_allclose(unit.mean, expected.mean)
    np.testing.assert_allclose(unit.scale, expected.scale)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_regression_is_ridge(fit_intercept):
    X, Y = RNG.randn(50, 4) + 1, RNG.randn(50, 3)
    weights = RNG.rand(50)
    weights /= weights.sum()
    coef, intercept = regress(X, Y, weights, 5, fit_intercept=fit_intercept)
    mean = weights @ X if fit_intercept else 0.0
    penalty = 1e-2 * (weights @ np.square(X - mean)).mean()

    def loss(coef, intercept):
        error = np.square(X @ coef.T + intercept - Y).sum(axis=1)
        return weights @ error + penalty * np.square(coef).sum()

    best = loss(coef, intercept)
    for _ in range(20):
        step = 1e-3 * RNG.randn(*coef.shape)
        assert loss(coef + step, intercept) >= best
        if fit_intercept:
            assert loss(coef, intercept + 1e-3 * RNG.randn(3)) >= best


@pytest.mark.parametrize("seed", range(5))
def test_regression_of_rows_that_are_all_the_same(seed):
    rng = np.random.RandomState(seed)
    X, Y = (np.tile(rng.rand(m) * (rng.rand(m) < 0.3), (1000, 1)) for m in (24, 20))
    coef, intercept = regress(
        sparse.csr_array(X),
        sparse.csr_array(Y),
        np.full(1000, 1e-3),
        5,
        fit_intercept=True,
    )
    np.testing.assert_allclose(X @ coef.T + intercept, Y, atol=1e-9)


def test_large_starts_keep_the_weights_that_matter(monkeypatch):
    monkeypatch.setattr("skfeat.solvers.joint._start._MOST_WEIGHTS", 6)
    X = RNG.randn(200, 5)
    truth = np.array([[3.0, 0, 0, 0, 2], [0, 4, 0, 0, 0]])
    weights = np.full(200, 1 / 200)
    coef, _ = dense_start(X, X @ truth.T, weights, 0, fit_intercept=True)
    assert np.count_nonzero(coef) == 6
    assert (coef[truth != 0] != 0).all()


@pytest.mark.parametrize("at_once", [1, 100, 10**6])
@pytest.mark.parametrize("as_codes", [True, False])
def test_starts_are_solved_in_blocks(as_codes, at_once, monkeypatch):
    rng = np.random.RandomState(2)
    X, Y = (rng.rand(300, m) * (rng.rand(300, m) < 0.1) for m in (40, 30))
    weights = np.full(300, 1 / 300)
    whole, expected = regress(X, Y, weights, 5, fit_intercept=True)
    saliency = np.square(whole) * X.var(axis=0)
    monkeypatch.setattr("skfeat.solvers.joint._start._MOST_WEIGHTS", 100)
    monkeypatch.setattr("skfeat.solvers.joint._start._WEIGHTS_AT_ONCE", at_once)
    parts = [sparse.csr_array(part) for part in (X, Y)] if as_codes else (X, Y)
    coef, intercept = regress(*parts, weights, 5, fit_intercept=True)
    kept = saliency >= np.sort(saliency, axis=None)[-100]
    np.testing.assert_allclose(coef.toarray(), whole * kept, atol=1e-12)
    dropped = whole * ~kept
    np.testing.assert_allclose(intercept, expected + dropped @ X.mean(axis=0))


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("of_targets", [True, False])
def test_regression_over_nonzeros_is_that_of_all(fit_intercept, of_targets):
    rng = np.random.RandomState(1)
    codes = [rng.rand(400, m) * (rng.rand(400, m) < 0.05) for m in (60, 50)]
    weights = rng.rand(400)
    weights /= weights.sum()
    targets = compact_rows([*np.array_split(codes[1], 3)])
    assert sparse.issparse(targets)
    found = regress(
        sparse.csr_array(codes[0]),
        targets if of_targets else codes[1],
        weights,
        5,
        fit_intercept=fit_intercept,
    )
    expected = regress(*codes, weights, 5, fit_intercept=fit_intercept)
    for own, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(own, other, atol=1e-9)
    inputs = rng.randn(400, 5)
    for targets in (codes[1], sparse.csr_array(codes[1])):
        coef, _ = regress(inputs, targets, weights, 5, fit_intercept=fit_intercept)
        expected, _ = regress(inputs, codes[1], weights, 5, fit_intercept=fit_intercept)
        np.testing.assert_allclose(coef, expected)


def held_everywhere(self, coef, connection):
    coef = coef if isinstance(coef, np.ndarray) else coef.toarray()
    return Support(coef.shape), coef


@pytest.mark.parametrize("loops", [True, False])
def test_weights_held_at_some_places_train_as_a_matrix(loops, monkeypatch):
    monkeypatch.setattr("skfeat.solvers.joint._start._MOST_WEIGHTS", 15)
    if loops:
        pytest.importorskip("numba")
        monkeypatch.setattr(LIMITS, "masked_density", 1.0)
        monkeypatch.setattr(LIMITS, "compiled_masked", 0)
        monkeypatch.setattr(LIMITS, "compiled_removal", 0)

    def trained():
        given = replace(problem(back=False), connections=[Connection("relu", 2)] * 3)
        ours = learner(given, n_epochs=8)
        losses = [ours.step(np.arange(i % 3, N, 3), 24) for i in range(24)]
        return ours, losses, ours.finish()

    ours, losses, learnt = trained()
    assert [len(coef) for coef in ours.coefs] == [16] * 3
    monkeypatch.setattr("skfeat.solvers.joint._started.Started._held", held_everywhere)
    other, expected, whole = trained()
    assert [support.places for support in other.supports] == [None] * 3
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    for name in ("coefs", "intercepts"):
        for own, dense in zip(getattr(learnt, name), getattr(whole, name), strict=True):
            own = own if isinstance(own, np.ndarray) else own.toarray()
            np.testing.assert_allclose(own, dense, rtol=1e-3, atol=1e-4)
    assert [coef.nnz for coef in learnt.coefs] == [2] * 3


def test_a_learner_goes_on_with_weights_at_the_same_places(monkeypatch):
    monkeypatch.setattr("skfeat.solvers.joint._start._MOST_WEIGHTS", 15)
    given, settings = problem(back=False), JointSettings(**SETTINGS)
    ours = learner(given)
    for _ in range(3):
        ours.step(np.arange(20), 6)
    state = state_of(ours)
    other = Learner(given, settings, Team(), state)
    for _ in range(3):
        assert ours.step(np.arange(20), 6) == other.step(np.arange(20), 6)
    for places in ([3, 2], [-1, 2], [0, 10**6]):
        state["places"][0] = np.array(places)
        with pytest.raises(ValueError, match="its places are not those"):
            Learner(given, settings, Team(), state)


def test_weights_that_are_chosen_again_are_held_everywhere(monkeypatch):
    monkeypatch.setattr("skfeat.solvers.joint._start._MOST_WEIGHTS", 15)
    ours = learner(problem(), faithfulness=1.0)
    assert [support.places for support in ours.supports] == [None] * 2


def test_codes_of_the_start_are_computed_in_blocks(monkeypatch):
    whole = learner(problem())
    monkeypatch.setattr("skfeat.solvers.joint._started._CODES_AT_ONCE", 64)
    parts = learner(problem())
    for name in ("code_means", "code_variances", "coefs", "intercepts"):
        for found, expected in zip(
            getattr(parts, name), getattr(whole, name), strict=True
        ):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_rows_of_the_start_are_from_everywhere():
    rows = start_rows(100_000, 10)
    assert len(rows) == 8192
    assert rows[0] == 0
    assert rows[-1] == 99_999
    assert len(start_rows(100_000, 10_000)) == 40_000
    np.testing.assert_array_equal(start_rows(50, 10), np.arange(50))
