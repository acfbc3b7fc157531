"""Autoencoders of an MLP's input and output that start from a transcoder."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from skfeat import FeatureConnector, SparseAutoencoder
from skfeat.autoencoder._joint import coder_of
from skfeat.connector._joint import connection_of
from skfeat.kernels._threads import Team
from skfeat.language.whole import _cascade
from skfeat.language.whole._feature_mlp import FeatureMLP
from skfeat.language.whole._trained import TrainedPair
from skfeat.language.whole._transcoded import (
    start_of_pair,
    train_alone,
    transcoder_like,
)
from tests.language.test_model_unwrapper import PART, fitted, new
from tests.tiny_causal import batches

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:.*features are dead"
)
AUTOENCODER = SparseAutoencoder(24, k=4, max_iter=10, random_state=0)


def rows_of_mlp(n=3000):
    """Return rows and what a small MLP makes of them."""
    random = np.random.RandomState(0)
    X = random.standard_normal((n, 4)) @ random.standard_normal((4, 10)) + 1.0
    hidden = np.maximum(X @ random.standard_normal((10, 30)) - 1, 0)
    Y = hidden @ random.standard_normal((30, 8)) / 10 + 0.5
    return X.astype(np.float32), Y.astype(np.float32)


def started(X, Y):
    """Return a transcoder, the start of a pair, and the pair in training."""
    transcoder = transcoder_like(AUTOENCODER).fit(X, Y)
    start = start_of_pair(transcoder, clone(AUTOENCODER), clone(AUTOENCODER), X)
    coders = [coder_of(part, frozen=False) for part in (start.read, start.computed)]
    connector = FeatureConnector(link="relu", init=(start.coef, start.intercept))
    connection = connection_of(connector, start.coef.shape, 100)
    with Team() as team:
        pair = TrainedPair(coders, connection, (X, Y), torch.device("cpu"), team)
    return transcoder, start, pair


def test_a_transcoder_has_the_parameters_of_an_autoencoder():
    given = SparseAutoencoder(24, k=4, max_iter=7, tied=True, learning_rate_init=1e-3)
    own = transcoder_like(given)
    assert (own.n_components, own.k, own.max_iter) == (24, 4, 7)
    assert own.learning_rate_init == 1e-3
    assert not hasattr(own, "tied")


def test_a_pair_starts_as_the_transcoder():
    X, Y = rows_of_mlp()
    transcoder, start, pair = started(X, Y)
    for part in (start.read, start.computed):
        np.testing.assert_allclose(
            np.linalg.norm(part.components_, axis=1), 1, rtol=1e-5
        )
    expected = transcoder.predict(X)
    codes = start.read.transform(X)
    assert ((codes > 0) == (transcoder.transform(X) > 0)).mean() > 0.999
    computed = start.computed.inverse_transform(codes @ start.coef.T + start.intercept)
    np.testing.assert_allclose(computed, expected, atol=1e-4)
    with torch.no_grad():
        np.testing.assert_allclose(pair(torch.from_numpy(X)), expected, atol=1e-3)
        made = FeatureMLP(pair.layer())(torch.from_numpy(X))
    np.testing.assert_allclose(made, expected, atol=1e-3)


def test_training_alone_makes_them_reconstruct_and_adds_no_weight():
    X, Y = rows_of_mlp()
    _, start, pair = started(X, Y)
    rows = torch.from_numpy(X), torch.from_numpy(Y)

    def errors():
        with torch.no_grad():
            output = pair.output_error(pair(rows[0]), rows[1])
            return float(output), float(pair.reconstruction_error(*rows))

    output, reconstruction = errors()
    train_alone(pair, (X, Y), 4e-3, seed=0)
    assert errors()[0] < output
    assert errors()[1] < 0.5 * reconstruction
    assert (pair.coef.detach().numpy() != 0).sum() == len(start.coef)
    assert np.all(np.diag(pair.coef.detach().numpy()) != np.diag(start.coef)[0])


@pytest.mark.parametrize(
    "changed",
    [
        {"input_autoencoder": SparseAutoencoder(40, k=6, max_iter=8)},
        {"output_autoencoder": clone(PART).set_params(activation="relu")},
        {"input_autoencoder": clone(PART).set_params(tied=True)},
        {"connector": FeatureConnector(link="relu"), "n_nonzero_coefs": None},
        {"connector": FeatureConnector(link="relu", init=(np.eye(48), np.zeros(48)))},
        {"input_autoencoder": "frozen"},
        {"joint": False},
    ],
)
def test_others_are_fitted_by_themselves(monkeypatch, changed):
    if changed.get("input_autoencoder") == "frozen":
        frozen = [FrozenEstimator(part) for part in fitted().input_autoencoders_]
        changed = {"input_autoencoder": frozen}

    def refuse(*args):
        raise AssertionError("a transcoder was fitted")

    monkeypatch.setattr(_cascade, "transcoder_like", refuse)
    options = {} if "joint" in changed else {"max_iter": 1}
    new(**({"max_iter": "auto"} | options | changed)).fit(batches(3))
    with pytest.raises(AssertionError, match="a transcoder was fitted"):
        new().fit(batches(3))
