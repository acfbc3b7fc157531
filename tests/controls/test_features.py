"""Controls with features: of untrained autoencoders, and of shuffled codes."""

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfeat import FeatureConnector, FeatureUnwrapper, SparseAutoencoder
from skfeat.controls import shuffled_control, untrained_control
from skfeat.network import SparseFeatureNetwork
from tests.controls.test_neurons import IRIS, LABELS, classifier  # noqa: F401
from tests.unwrapper.test_feature_unwrapper import X, mlp, unwrapper

pytestmark = [
    pytest.mark.usefixtures("few_updates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*features are dead"),
]

CONTROLS = [untrained_control, shuffled_control]
ENDS = {"connect_input": True, "connect_output": True}


@pytest.fixture(scope="module")
def fitted(classifier):  # noqa: F811
    part = SparseAutoencoder(24, k=6, max_iter=60)
    return FeatureUnwrapper(
        classifier, autoencoder=part, n_nonzero_coefs=60, max_iter=60, random_state=0
    ).fit(IRIS)


def counts(network):
    return [network.n_weights_in_, *network.n_weights_, network.n_weights_out_]


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("ends", [{}, ENDS])
@pytest.mark.parametrize("joint", [True, False])
def test_as_many_weights_of_a_network_of_the_same_shape(control, ends, joint):
    est = unwrapper(joint=joint, **ends).fit(X)
    before = est.network().predict_raw(X)
    network = control(est, X, random_state=0)
    assert isinstance(network, SparseFeatureNetwork)
    assert counts(network) == counts(est.network())
    assert network.n_components_ == est.network().n_components_
    assert np.isfinite(network.predict_raw(X)).all()
    assert not np.allclose(network.predict_raw(X), before)
    np.testing.assert_array_equal(est.network().predict_raw(X), before)


def test_shuffled_features_keep_nothing(fitted):
    network = shuffled_control(fitted, IRIS, random_state=0)
    own = fitted.network()
    np.testing.assert_array_equal(network.encoder_coef_, own.encoder_coef_)
    labels = fitted.predict(IRIS)
    assert np.mean(labels == np.array(["a", "b", "c"])[LABELS]) > 0.9
    assert np.mean(network.predict(IRIS) == labels) < 0.6


def test_untrained_features_have_labels_and_as_many_active(fitted):
    network = untrained_control(fitted, IRIS, random_state=0)
    assert set(network.classes_) == {"a", "b", "c"}
    assert np.mean(network.predict(IRIS) == fitted.predict(IRIS)) > 0.8
    active = (network.features(IRIS)[0] > 0).sum(axis=1)
    assert active.max() <= 6
    norms = np.linalg.norm(network.encoder_coef_, axis=1)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)
    again, other = (untrained_control(fitted, IRIS, random_state=s) for s in (0, 1))
    np.testing.assert_array_equal(again.encoder_coef_, network.encoder_coef_)
    assert not np.allclose(other.encoder_coef_, network.encoder_coef_)


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize(
    "params",
    [
        {"activation": "relu", "alpha": 0.05},
        {"activation": "jumprelu", "alpha": 0.05},
        {"activation": "batch_topk", "k": 3},
        {"activation": "gated", "alpha": 0.05},
        {"activation": "topk", "k": 3, "tied": True},
    ],
    ids=lambda params: params["activation"],
)
def test_every_activation(control, params):
    est = unwrapper(autoencoder=SparseAutoencoder(12, max_iter=5, **params)).fit(X)
    network = control(est, X, random_state=0)
    own, theirs = (np.mean(n.features(X)[0] > 0) for n in (est.network(), network))
    assert 0.8 * own < theirs < 1.2 * own


@pytest.mark.parametrize("control", CONTROLS)
def test_frozen_connectors_are_replaced(control):
    first = unwrapper().fit(X)
    est = unwrapper(
        connector=[FrozenEstimator(first.connectors_[0]), FeatureConnector()],
        n_nonzero_coefs=[None, 15],
    ).fit(X)
    network = control(est, X, random_state=0)
    assert network.n_weights_ == [first.connectors_[0].coef_.nnz, 15]


@pytest.mark.parametrize("control", CONTROLS)
def test_values_behind_a_pipeline(control):
    rows = IRIS * 3 + 5
    model = MLPRegressor(hidden_layer_sizes=(8, 8), max_iter=20, tol=1, random_state=0)
    pipe = make_pipeline(StandardScaler(), model).fit(rows, LABELS)
    part = SparseAutoencoder(12, k=3, max_iter=5)
    est = FeatureUnwrapper(pipe, autoencoder=part, max_iter=5, random_state=0).fit(rows)
    network = control(est, rows, random_state=0)
    assert network.predict(est.network_inputs(rows)).shape == (len(rows),)


def test_a_single_layer_has_nothing_to_shuffle():
    est = unwrapper(mlp(7, 6, 3), n_nonzero_coefs=None, connector=None).fit(X)
    with pytest.raises(ValueError, match="unwrapper must have connectors"):
        shuffled_control(est, X)
    assert untrained_control(est, X, random_state=0).n_weights_ == []
