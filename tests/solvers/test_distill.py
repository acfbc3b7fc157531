"""distill(): what it holds still, what it moves, and what it comes to."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from skfeat.solvers._distill import DistillSettings, Student, distill
from skfeat.solvers._prune import Pruner, _largest

RNG = np.random.default_rng(0)
N = 200
F0 = np.maximum(RNG.normal(size=(N, 8)), 0)
TRUE = [RNG.normal(size=(6, 8)) * 0.7, RNG.normal(size=(5, 6)) * 0.7]
F1 = np.maximum(F0 @ TRUE[0].T + 0.2, 0)
F2 = np.maximum(F1 @ TRUE[1].T + 0.1, 0)
DECODER = RNG.normal(size=(5, 3))
OUTPUTS = F2 @ DECODER

SETTINGS = DistillSettings(
    budgets=[None, None],
    share_budgets=False,
    classify=True,
    faithfulness=0.1,
    n_epochs=40,
    tol=0.0,
    learning_rate=2e-2,
    batch_size=50,
    device=torch.device("cpu"),
    seed=0,
)


def student(noise=0.3, density=0.6, decoder=DECODER):
    rng = np.random.default_rng(1)
    coefs = [
        (coef + noise * rng.normal(size=coef.shape))
        * (rng.random(coef.shape) < density)
        for coef in TRUE
    ]
    return Student(
        features=[F0, F1, F2],
        coefs=coefs,
        intercepts=[np.zeros(6), np.zeros(5)],
        links=["relu", "relu"],
        decoder=(decoder, np.zeros(decoder.shape[1])),
        back=lambda hidden: hidden,
    )


def run(start=None, outputs=OUTPUTS, weights=None, **changes):
    weights = np.ones(len(outputs)) if weights is None else weights
    settings = replace(SETTINGS, **changes)
    return distill(start or student(), outputs, weights, settings)


def predict(start, coefs, intercepts, decoder=None):
    features = start.features[0]
    for coef, intercept, link in zip(coefs, intercepts, start.links, strict=True):
        features = features @ coef.T + intercept
        features = np.maximum(features, 0) if link == "relu" else features
    components, bias = decoder or start.decoder
    return features @ components + bias


def parts(run):
    (coefs, intercepts, decoder), _ = run
    return [*coefs, *intercepts, *decoder]


def divergence(outputs, found):
    log_p, log_q = log_softmax(outputs, axis=1), log_softmax(found, axis=1)
    return (np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean()


def test_the_support_is_held():
    start = student()
    before = [coef.copy() for coef in start.coefs]
    (coefs, intercepts, _), history = run(start)
    for found, old in zip(coefs, before, strict=True):
        assert (found[old == 0] == 0).all()
        assert (found[old != 0] != 0).all()
        assert not np.array_equal(found, old)
        assert (found.dtype, found.shape) == (np.float64, old.shape)
    assert all(np.any(intercept != 0) for intercept in intercepts)
    assert history.n_epochs == 40
    for now, old in zip(start.coefs, before, strict=True):
        np.testing.assert_array_equal(now, old)


@pytest.mark.parametrize("budgets", [[10, 7], [None, 5], [0, 0], [48, 30], [1000, 9]])
@pytest.mark.parametrize("n_epochs", [1, 40])
def test_budgets_are_met(budgets, n_epochs):
    start = student()
    (coefs, _, _), _ = run(start, budgets=budgets, n_epochs=n_epochs)
    for found, old, budget in zip(coefs, start.coefs, budgets, strict=True):
        available = np.count_nonzero(old)
        expected = available if budget is None else min(budget, available)
        assert np.count_nonzero(found) == expected
        assert (found[old == 0] == 0).all()


def test_loss_and_divergence_fall():
    start = student(density=1.0)
    (coefs, intercepts, decoder), history = run(start)
    assert history.losses[-1] < 0.3 * history.losses[0]
    before = divergence(OUTPUTS, predict(start, start.coefs, start.intercepts))
    assert (
        divergence(OUTPUTS, predict(start, coefs, intercepts, decoder)) < 0.3 * before
    )


def test_the_loss_is_what_it_is_said_to_be():
    start = student()
    _, history = run(start, n_epochs=1, batch_size=N, faithfulness=0.5)
    features, expected = F0, 0.0
    for coef, intercept, target in zip(
        start.coefs, start.intercepts, start.features[1:], strict=True
    ):
        features = np.maximum(features @ coef.T + intercept, 0)
        deviation = target - target.mean(axis=0)
        expected += 0.5 * ((features - target) ** 2).sum() / (deviation**2).sum()
    expected += divergence(OUTPUTS, features @ DECODER)
    assert history.losses[0] == pytest.approx(expected, rel=1e-4)


def test_deterministic_given_the_seed():
    first, again, other = run(seed=3), run(seed=3), run(seed=4)
    for part in (0, 1):
        for a, b, c in zip(first[0][part], again[0][part], other[0][part], strict=True):
            np.testing.assert_array_equal(a, b)
            assert not np.array_equal(a, c)
    assert first[1].losses == again[1].losses


def test_global_generators_are_left_alone():
    state = torch.get_rng_state()
    run(n_epochs=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_rows_of_no_weight_do_not_matter():
    weights = (np.arange(N) % 4 > 0).astype(float)
    nothing = weights == 0
    outputs, start = OUTPUTS.copy(), student()
    outputs[nothing] = 70.0
    features = [part.copy() for part in start.features]
    for part in features:
        part[nothing] = 3 * part[nothing] + 1
    for classify in (True, False):
        expected = run(weights=weights, classify=classify)
        spoilt = replace(start, features=features)
        found = run(spoilt, outputs, weights=weights, classify=classify)
        for a, b in zip(parts(expected), parts(found), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        felt = run(spoilt, outputs, classify=classify)
        assert not np.allclose(parts(felt)[0], parts(found)[0], rtol=1e-2)


def test_weights_are_relative():
    expected, found = run(), run(weights=np.full(N, 8.0))
    for a, b in zip(expected[0].coefs, found[0].coefs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_regression():
    start = student(density=1.0)
    (coefs, intercepts, decoder), history = run(start, classify=False, n_epochs=80)
    assert history.losses[-1] < 0.2 * history.losses[0]
    errors = [
        np.square(predict(start, *weights) - OUTPUTS).mean()
        for weights in (
            (start.coefs, start.intercepts),
            (coefs, intercepts, decoder),
        )
    ]
    assert errors[1] < 0.1 * errors[0]
    # The loss counts outputs in their own units.
    thousand = replace(start, back=lambda hidden: 1e3 * hidden)
    scaled = run(thousand, OUTPUTS * 1e3, classify=False, n_epochs=80)
    np.testing.assert_allclose(scaled[1].losses, history.losses, rtol=1e-2)


def test_one_logit_is_two_classes():
    two = np.column_stack([np.zeros(5), DECODER[:, 0]])
    whole = {"n_epochs": 1, "batch_size": N}
    _, expected = run(student(decoder=two), F2 @ two, **whole)
    _, found = run(student(decoder=DECODER[:, :1]), OUTPUTS[:, :1], **whole)
    np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-5)


def test_faithfulness():
    start = student()
    errors = {}
    for weight in (0.0, 10.0):
        (coefs, intercepts, _), _ = run(start, faithfulness=weight)
        first = np.maximum(F0 @ coefs[0].T + intercepts[0], 0)
        errors[weight] = np.square(first - F1).sum() / (F1.var(axis=0).sum() * N)
    assert errors[10.0] < 0.7 * errors[0.0]


def test_an_identity_link_may_go_below_zero():
    linear = replace(student(), links=["identity", "identity"])
    (coefs, intercepts, _), history = run(linear, classify=False, faithfulness=0.0)
    assert history.losses[-1] < history.losses[0]
    features = F0 @ coefs[0].T + intercepts[0]
    assert (features < 0).any()


def test_features_that_never_fire():
    start = student()
    dead = [F0 * (np.arange(8) > 3), F1 * 0, F2]
    (coefs, intercepts, _), _ = run(replace(start, features=dead), budgets=[6, 4])
    assert all(np.isfinite(part).all() for part in [*coefs, *intercepts])
    assert [np.count_nonzero(coef) for coef in coefs] == [6, 4]


def test_pruner_keeps_the_most_salient():
    coef = torch.tensor([[1.0, -3.0], [0.5, 2.0]])
    pruner = Pruner(coef, budget=2, first=3)
    saliency = coef.abs() * torch.tensor([10.0, 1.0])
    pruner.prune(1.0, saliency)
    assert coef.tolist() == [[1.0, 0.0], [0.5, 0.0]]
    coef += 1.0
    pruner.step(1, 0.0, lambda: saliency)
    assert coef.tolist() == [[2.0, 0.0], [1.5, 0.0]]


def test_pruner_follows_its_schedule():
    coef = torch.arange(1.0, 101.0).reshape(10, 10)
    pruner, kept = Pruner(coef, budget=10, first=80), []
    for n_steps in range(1, 101):
        pruner.step(16 * n_steps, n_steps / 100, coef.abs)
        kept.append(int((coef != 0).sum()))
    assert kept[:9] == [100] * 9
    assert kept[9] == 80
    # Half of the way, a quarter of the logarithm of 80 / 10 is left.
    assert kept[39] == round(10 * 8**0.25)
    assert kept == sorted(kept, reverse=True)
    assert kept[69:] == [10] * 31
    assert sorted(coef[coef != 0].tolist()) == list(range(91, 101))


def test_a_shared_budget_goes_where_it_helps():
    start = student(noise=0.0, density=1.0)
    # The second connector does nothing for the outputs but through its first row.
    lone = replace(start, decoder=(DECODER * (np.arange(5) < 1)[:, None], np.zeros(3)))
    (coefs, _, _), _ = run(
        lone, F2 @ lone.decoder[0], budgets=[15, 15], share_budgets=True, faithfulness=0
    )
    left = [np.count_nonzero(coef) for coef in coefs]
    assert sum(left) == 30
    assert left[0] > left[1]


def test_the_last_connector_may_give_the_outputs():
    direct = replace(
        student(density=1.0),
        features=[F0, F1, F2, OUTPUTS],
        coefs=[*TRUE, np.zeros((3, 5)) + 0.1],
        intercepts=[np.zeros(6), np.zeros(5), np.zeros(3)],
        links=["relu", "relu", "identity"],
        decoder=None,
    )
    learnt, history = run(direct, budgets=[48, 30, 12])
    assert learnt.decoder is None
    assert np.count_nonzero(learnt.coefs[-1]) == 12
    assert history.losses[-1] < 0.5 * history.losses[0]


def test_the_decoder_learns():
    start = student(density=1.0)
    learnt, _ = run(start)
    for new, old in zip(learnt.decoder, start.decoder, strict=True):
        assert new.shape == old.shape
        assert not np.allclose(new, old)


def test_the_decoder_is_held_to_the_activations():
    hidden = F2 @ np.random.default_rng(5).normal(size=DECODER.shape)
    errors = {}
    for weight in (0.0, 10.0):
        start = replace(student(density=1.0), hidden=hidden)
        (coefs, intercepts, decoder), _ = run(start, faithfulness=weight)
        decoded = predict(start, coefs, intercepts, decoder)
        errors[weight] = np.square(decoded - hidden).sum()
    assert errors[10.0] < 0.5 * errors[0.0]
    whole = {"n_epochs": 1, "batch_size": N, "faithfulness": 2.0}
    (_, held), (_, free) = run(start, **whole), run(student(density=1.0), **whole)
    share = np.square(predict(start, start.coefs, start.intercepts) - hidden).sum()
    share /= np.square(hidden - hidden.mean(axis=0)).sum()
    assert held.losses[0] - free.losses[0] == pytest.approx(2 * share, rel=1e-4)


def test_a_run_that_ends_falling_says_nothing():
    # Warnings are errors here: no parameter of FeatureUnwrapper makes it longer.
    _, history = run(n_epochs=3)
    assert history.losses[-1] < 0.95 * history.losses[-2]


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_the_largest_are_marked_the_first_of_equal_ones(values, k):
    found = _largest(torch.tensor(values, dtype=torch.float32), k)
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    assert set(found.nonzero().ravel().tolist()) == set(order[:k])
