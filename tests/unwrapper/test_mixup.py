"""Training together on mixtures of rows, of which the model tells what becomes."""

import inspect
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfeat import FeatureUnwrapper, SparseAutoencoder
from skfeat.controls import _neurons, fit_controls, pruned_control
from skfeat.metrics import kl_divergence
from skfeat.solvers.joint._problem import Problem
from skfeat.unwrapper import _fit_autoencoders
from skfeat.utils._mixtures import share_that_suits
from skfeat.utils._rows import Batch, mixed_batches
from skfeat.utils._stages import Stage, Stages
from skfeat.utils._torch import make_generator


def short(test):
    """Let a test's fits be too short to be good."""
    for said in (
        "ignore:.*features are dead:UserWarning",
        "ignore::sklearn.exceptions.ConvergenceWarning",
    ):
        test = pytest.mark.filterwarnings(said)(test)
    return test


@pytest.fixture(scope="module")
def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    X, X_test, y, _ = train_test_split(X, y, random_state=0, stratify=y)
    scale = StandardScaler().fit(X)
    X, X_test = scale.transform(X), scale.transform(X_test)
    model = MLPClassifier((32, 32), max_iter=300, alpha=1e-2, random_state=0).fit(X, y)
    return model, X, X_test


def test_rows_that_were_not_seen_come_out_nearer_to_the_model(cancer):
    model, X, X_test = cancer

    def divergence(mixup):
        found = [
            FeatureUnwrapper(model, n_nonzero_coefs=100, mixup=mixup, random_state=s)
            .fit(X)
            .report(X_test)
            .kl[-1]
            for s in range(3)
        ]
        return float(np.mean(found))

    assert FeatureUnwrapper(model).mixup == 0.5
    assert divergence(0.5) < 0.6 * divergence(0)


def test_the_pruned_control_is_trained_on_mixtures_too(cancer):
    model, X, X_test = cancer

    def divergence(**params):
        found = []
        for seed in range(3):
            network = pruned_control(
                model, X, n_nonzero_coefs=150, random_state=seed, **params
            )
            p, q = model.predict_proba(X_test)[:, 1], network.predict_raw(X_test)
            outputs = np.log(p / (1 - p))[:, None]
            both = [np.hstack([0 * one, one]) for one in (outputs, q)]
            found.append(kl_divergence(*both))
        return float(np.mean(found))

    default = inspect.signature(pruned_control).parameters["mixup"].default
    assert FeatureUnwrapper(model).mixup == default
    assert divergence() < 0.7 * divergence(mixup=0)


@short
@pytest.mark.parametrize(
    ("params", "share"), [({"mixup": 0.3}, 0.3), ({}, 0.5), ({"joint": False}, 0.0)]
)
def test_controls_mix_as_the_unwrapper_does(cancer, monkeypatch, params, share):
    model, X, _ = cancer
    part = SparseAutoencoder(16, k=4, max_iter=5, random_state=0)
    unwrapper = FeatureUnwrapper(
        model, autoencoder=part, max_iter=3, random_state=0, **params
    ).fit(X)
    found, prune = [], _neurons.prune_chain

    def spy(steps, X, compute, settings):
        found.append(settings.mixup)
        return prune(steps, X, compute, settings)

    monkeypatch.setattr(_neurons, "prune_chain", spy)
    fit_controls(unwrapper, X, max_iter=2, random_state=0)
    assert found == [share, share]


class Curved(torch.nn.Module):
    """Takes a function of its inputs that has a pole, or an end, between rows."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.first = torch.nn.Linear(4, 16)
        self.second = torch.nn.Linear(16, 16)
        self.last = torch.nn.Linear(16, 1)

    def forward(self, x):
        return self.last(self.second(self.first(self.function(x)).relu()).relu())


def reciprocal(x):
    return torch.reciprocal(x)


def root(x):
    return torch.sqrt(torch.abs(x) - 0.4)


@pytest.fixture(scope="module")
def away_from_zero():
    rng = np.random.default_rng(0)
    size = rng.uniform(0.5, 1, (300, 4))
    return (rng.choice([-1.0, 1.0], (300, 4)) * size).astype(np.float32)


TOGETHER = {
    "autoencoder": SparseAutoencoder(16, k=4, max_iter=5, random_state=0),
    "task": "regression",
    "max_iter": 3,
    "random_state": 0,
}


@short
@pytest.mark.parametrize(
    ("function", "found"),
    [(reciprocal, "times as large for mixtures of rows"), (root, "not finite for mix")],
)
def test_rows_are_not_mixed_where_the_model_suits_none(away_from_zero, function, found):
    torch.manual_seed(0)
    model = Curved(function)
    with pytest.warns(UserWarning, match=rf"{found}.* no rows are mixed .* mixup=0"):
        mixed = FeatureUnwrapper(model, **TOGETHER).fit(away_from_zero)
    plain = FeatureUnwrapper(model, **TOGETHER, mixup=0).fit(away_from_zero)
    np.testing.assert_array_equal(
        mixed.predict(away_from_zero), plain.predict(away_from_zero)
    )
    params = {"n_nonzero_coefs": 50, "task": "regression", "max_iter": 3}
    with pytest.warns(UserWarning, match=rf"outputs .* {found}"):
        pruned_control(model, away_from_zero, **params)
    pruned_control(model, away_from_zero, mixup=0, **params)


@short
def test_maps_are_not_mixed_where_the_model_suits_none():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    X = rng.choice([-1.0, 1.0], (60, 1, 6, 6)) * rng.uniform(0.5, 1, (60, 1, 6, 6))
    layers = torch.nn.Conv2d(1, 3, 3), torch.nn.ReLU(), torch.nn.Conv2d(3, 4, 3)
    head = torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(16, 1)

    class Divides(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(*layers, *head)

        def forward(self, x):
            return self.layers(torch.reciprocal(x))

    with pytest.warns(UserWarning, match=r"times as large for mix.* no rows are mixed"):
        FeatureUnwrapper(Divides(), **TOGETHER).fit(X.astype(np.float32))


@short
def test_batches_too_small_to_mix_are_told(cancer):
    model, X, _ = cancer
    params = {**TOGETHER, "task": "auto", "max_iter": 1}
    for own, size in (({"batch_size": 1}, 1), ({"batch_size": 4, "mixup": 0.1}, 4)):
        with pytest.warns(
            UserWarning, match=f"mixes no rows of minibatches of {size};"
        ):
            FeatureUnwrapper(model, **params, **own).fit(X[:40])


@given(data=st.data(), share=st.floats(0.01, 1), scale=st.floats(1e-6, 1e6))
def test_what_grows_no_faster_than_its_inputs_is_mixed(data, share, scale):
    n = data.draw(st.integers(1, 30))
    rng = np.random.default_rng(n)
    X, W = scale * rng.normal(size=(n, 3)), rng.normal(size=(3, 5))
    arguments = X, lambda rows: [np.maximum(rows @ W, 0), rows**2], ["one", "other"]
    assert share_that_suits(share, 512, *arguments, n_probed=100) == share


def test_an_autoencoder_that_is_trained_on_may_end_early(monkeypatch):
    """Its own fit is shortened by the unwrapper, and no max_iter of the user's."""
    monkeypatch.setattr(_fit_autoencoders, "_MOST_EPOCHS", 2)
    X, y = load_iris(return_X_y=True)
    model = MLPClassifier((16, 16), solver="lbfgs", random_state=0).fit(X, y)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*features are dead")
        fitted = FeatureUnwrapper(model, max_iter=2, random_state=0).fit(X)
        part = fitted.autoencoders_[0]
        hidden = np.maximum(X @ model.coefs_[0] + model.intercepts_[0], 0)
        with pytest.warns(ConvergenceWarning, match="max_iter=2 epochs while"):
            part.fit(hidden)


@given(
    n=st.integers(1, 40), share=st.floats(0, 1), seed=st.integers(0, 99), cut=st.data()
)
def test_mixtures_are_what_they_say(n, share, seed, cut):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(50, 3))
    ids = rng.permutation(50)[:n]
    batch = Batch(ids + 100, X, ids).mixed(share, np.random.default_rng(seed))
    assert (batch.shares < 1).sum() == round(share * n)
    assert np.all((batch.shares >= 0.5) & (batch.shares <= 1))
    assert sorted(batch.partners) == sorted(ids)
    rows = batch.rows()
    np.testing.assert_array_equal(rows[batch.shares == 1], X[ids[batch.shares == 1]])
    for row, own, other, part in zip(
        rows, ids, batch.partners, batch.shares, strict=True
    ):
        np.testing.assert_allclose(row, part * X[own] + (1 - part) * X[other])
    some = cut.draw(st.lists(st.integers(0, n - 1), max_size=5))
    np.testing.assert_array_equal(batch.take(np.array(some, int)).rows(), rows[some])


def test_rows_are_mixed_after_the_first_function_and_keep_their_dtype():
    X = np.random.default_rng(0).normal(size=(30, 2))
    stages = Stages(
        X,
        [
            Stage(lambda rows: rows.astype(np.float32) ** 2, 2, 8, "inputs"),
            Stage(lambda rows: rows.sum(axis=1, keepdims=True), 1, 4, "sums"),
        ],
        np.dtype(np.float32),
    )
    ids = np.arange(10)
    batch = Batch(ids, X, ids).mixed(1.0, np.random.default_rng(0))
    computed = stages.of_batch(batch)
    parts = batch.shares[:, None]
    inputs = parts * X[ids] ** 2 + (1 - parts) * X[batch.partners] ** 2
    assert computed[0].dtype == computed[1].dtype == np.float32
    np.testing.assert_allclose(computed[1], inputs.sum(1, keepdims=True), rtol=1e-5)


def test_an_epoch_that_goes_on_mixes_as_the_whole_one():
    X = np.random.default_rng(0).normal(size=(90, 4)).astype(np.float32)
    stages = Stages(X, [Stage(np.asarray, 4, 16, "inputs")] * 2, X.dtype)
    problem = Problem([X], [], [], stages=stages)
    whole = [b.rows() for b in problem.batches(20, make_generator(1), mixup=0.5)]
    rest = [b.rows() for b in problem.batches(20, make_generator(1), 3, mixup=0.5)]
    assert len(whole) == 4
    assert len(rest) == 1
    np.testing.assert_array_equal(rest[0], whole[3])
    plain = [b.rows() for b in problem.batches(20, make_generator(1))]
    assert not np.array_equal(plain[0], whole[0])


def test_mixtures_draw_once_from_the_generator():
    generators = make_generator(0), make_generator(0)
    ids = np.arange(4)
    list(mixed_batches([Batch(ids, ids[:, None] / 2, ids)] * 3, 0.5, generators[0]))
    torch.randint(2**62, (1,), generator=generators[1])
    states = [generator.get_state() for generator in generators]
    assert torch.equal(*states)


def test_a_step_before_the_network_does_not_change_what_is_mixed():
    X, y = load_iris(return_X_y=True)
    model = make_pipeline(
        StandardScaler(), MLPClassifier((8, 8), solver="lbfgs", random_state=0)
    ).fit(X, y)
    part = SparseAutoencoder(8, k=4, max_iter=20, random_state=0)
    params = {"autoencoder": part, "max_iter": 20, "random_state": 0}
    whole = FeatureUnwrapper(model, **params).fit(X)
    rows = model[0].transform(X)
    alone = FeatureUnwrapper(model[-1], **params).fit(rows)
    np.testing.assert_allclose(
        whole.network().predict_raw(rows), alone.network().predict_raw(rows), rtol=1e-4
    )


@pytest.mark.parametrize("value", [-0.1, 1.5, "half", None])
def test_other_shares_are_refused(value):
    X, y = load_iris(return_X_y=True)
    model = MLPClassifier((8, 8), solver="lbfgs", random_state=0).fit(X, y)
    with pytest.raises(
        ValueError, match=r"'mixup' .* a float in the range \[0.0, 1.0\]"
    ):
        FeatureUnwrapper(model, mixup=value).fit(X)
