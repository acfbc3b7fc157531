"""How long autoencoders train before all parts are trained together."""

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.neural_network import MLPClassifier

from skfeat import FeatureUnwrapper, SparseAutoencoder
from skfeat.unwrapper._fit import planned_epochs_of_autoencoder

X = np.random.RandomState(0).rand(40, 4)
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def model():
    return MLPClassifier((6, 6), max_iter=5, random_state=0).fit(X, X[:, 0] > 0.5)


def unwrap(model, autoencoder, monkeypatch, **params):
    monkeypatch.setattr("skfeat.unwrapper._fit._UPDATES", 12)
    monkeypatch.setattr("skfeat.autoencoder._setup._AUTO_UPDATES", 24)
    unwrapper = FeatureUnwrapper(
        model, autoencoder=autoencoder, max_iter=3, random_state=0, **params
    )
    return unwrapper.fit(X).autoencoders_


def test_half_as_long_as_alone(model, monkeypatch):
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


def test_at_least_five_epochs():
    assert planned_epochs_of_autoencoder(10**7, 512) == 5
    assert planned_epochs_of_autoencoder(512 * 100, 512) == 10
