"""Warnings point at the line that called skfeat, from however deep they come."""

import threading
import warnings

import numpy as np
import pytest
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfeat import FeatureConnector, SparseAutoencoder
from skfeat.utils._warnings import warn, warnings_of


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).standard_normal((200, 8))


def places(function):
    """Call a function; return where its warnings point."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function()
    assert caught
    return {warning.filename for warning in caught}


@pytest.mark.parametrize("link", ["identity", "relu"])
@pytest.mark.parametrize("method", ["fit", "connector_path"])
def test_connectors(X, link, method):
    connector = FeatureConnector(1e-6, link=link, max_iter=1, tol=1e-12)
    # More inputs than one round takes, all of them useful.
    rng = np.random.default_rng(1)
    X = rng.standard_normal((len(X), 60))
    Y = np.maximum(rng.standard_normal((len(X), 8)), 0)
    options = {} if method == "fit" else {"alphas": [1e-6]}
    call = getattr(connector, method)
    assert places(lambda: call(np.abs(X), Y, **options)) == {__file__}


def make_unfinished():
    return SparseAutoencoder(16, k=2, max_iter=1, batch_size=20, random_state=0)


def test_autoencoder(X):
    assert places(lambda: make_unfinished().fit(X)) == {__file__}


def test_inside_scikit_learn(X):
    pipeline = make_pipeline(StandardScaler(), make_unfinished())
    assert places(lambda: pipeline.fit(X)) == {__file__}
    assert places(lambda: cross_val_score(make_unfinished(), X, cv=2)) == {__file__}


def test_a_thread_that_begins_inside_skfeat(X):
    def run():
        thread = threading.Thread(target=make_unfinished().fit, args=(X,))
        thread.start()
        thread.join()

    assert places(run) == {threading.__file__}


def test_names_the_part():
    with warnings_of("layer 2"), pytest.warns(UserWarning, match="^layer 2: odd$"):
        warn("odd")
    with pytest.warns(UserWarning, match="^odd$"):
        warn("odd")
