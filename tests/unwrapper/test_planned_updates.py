"""How long autoencoders train before all parts are trained together."""

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.neural_network import MLPClassifier

from skfeat import FeatureUnwrapper, SparseAutoencoder
from skfeat.solvers.joint._learner import Learner
from skfeat.solvers.joint._train import planned_batch_size

X = np.random.RandomState(0).rand(40, 4)
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def model():
    return MLPClassifier((6, 6), max_iter=5, random_state=0).fit(X, X[:, 0] > 0.5)


def unwrap(model, autoencoder, monkeypatch, **params):
    monkeypatch.setattr("skfeat.unwrapper._fit_autoencoders._MOST_EPOCHS", 6)
    monkeypatch.setattr("skfeat.autoencoder._setup._AUTO_UPDATES", 24)
    unwrapper = FeatureUnwrapper(
        model, autoencoder=autoencoder, max_iter=3, random_state=0, **params
    )
    return unwrapper.fit(X).autoencoders_


def test_no_more_epochs_than_the_most(model, monkeypatch):
    autoencoder = SparseAutoencoder(8, k=2, batch_size=20, tol=0.0)
    together = unwrap(model, autoencoder, monkeypatch)
    assert [part.n_steps_ for part in together] == [12, 12]
    assert [part.max_iter for part in together] == [6, 6]
    apart = unwrap(model, autoencoder, monkeypatch, joint=False)
    assert [part.n_steps_ for part in apart] == [24, 24]
    assert [part.max_iter for part in apart] == ["auto", "auto"]
    assert autoencoder.max_iter == "auto"


def test_what_was_asked_for_is_done(model, monkeypatch):
    kept = SparseAutoencoder(8, k=2, random_state=0)
    hidden = np.maximum(X @ model.coefs_[0] + model.intercepts_[0], 0)
    n_steps = kept.fit(hidden).n_steps_
    asked = SparseAutoencoder(8, k=2, max_iter=9, tol=0.0)
    first, second = unwrap(model, [FrozenEstimator(kept), asked], monkeypatch)
    assert first.n_steps_ == n_steps
    assert second.n_steps_ == 9


def test_fewer_epochs_stay_as_planned(model, monkeypatch):
    # Batches of four rows: 24 updates are three epochs, and five are made at least.
    autoencoder = SparseAutoencoder(8, k=2, batch_size=4, tol=0.0)
    together = unwrap(model, autoencoder, monkeypatch)
    assert [part.n_iter_ for part in together] == [5, 5]
    assert [part.max_iter for part in together] == ["auto", "auto"]


@pytest.mark.parametrize(
    ("n_rows", "size"),
    [(40, 64), (192, 64), (600, 200), (1347, 449), (1536, 512), (60_000, 512)],
)
def test_few_rows_are_trained_on_in_smaller_minibatches(n_rows, size):
    assert planned_batch_size(n_rows) == size


@pytest.mark.parametrize(
    ("params", "n_updates"),
    [({}, 9), ({"batch_size": 512}, 3), ({"batch_size": 50}, 12)],
)
def test_few_rows_make_three_updates_an_epoch(params, n_updates, monkeypatch):
    rows = np.random.RandomState(1).rand(200, 4)
    model = MLPClassifier((6, 6), max_iter=5, random_state=0)
    model.fit(rows, rows[:, 0] > 0.5)
    made, step = [], Learner.step
    monkeypatch.setattr(
        Learner, "step", lambda self, *args: made.append(1) or step(self, *args)
    )
    part = SparseAutoencoder(8, k=2, max_iter=2)
    FeatureUnwrapper(model, autoencoder=part, max_iter=3, **params).fit(rows)
    assert len(made) == n_updates
