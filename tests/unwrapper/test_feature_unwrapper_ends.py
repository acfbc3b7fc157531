"""FeatureUnwrapper from the inputs and to the outputs, and with one shared budget."""

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone

from skfeat import FeatureConnector, FeatureUnwrapper, SparseAutoencoder
from skfeat.metrics import fvu
from skfeat.network import SparseFeatureNetwork
from skfeat.utils._sklearn import InvalidParameterError
from tests.unwrapper.test_feature_unwrapper import MODEL, X, mlp, unwrapper

pytestmark = [
    pytest.mark.usefixtures("few_updates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*features are dead:UserWarning"),
]

ENDS = [(True, False), (False, True), (True, True)]


def rectified(values):
    return np.maximum(values, 0)


def by_hand(est, rows):
    """Compute the outputs by a plain loop over what is fitted."""
    hidden = rectified(rows @ MODEL[0].weight.detach().numpy().T + bias(0))
    if hasattr(est, "input_connector_"):
        features = est.input_connector_.predict(rows)
    else:
        features = est.autoencoders_[0].transform(hidden)
    for connector in est.connectors_:
        features = connector.predict(features)
    if hasattr(est, "output_connector_"):
        return est.output_connector_.predict(features)
    last = est.autoencoders_[-1].inverse_transform(features)
    return last @ MODEL[-1].weight.detach().numpy().T + bias(-1)


def bias(index):
    return MODEL[index].bias.detach().numpy()


@pytest.mark.parametrize("distill", [True, False])
@pytest.mark.parametrize(("first", "last"), [*ENDS, (False, False)])
def test_the_network_is_a_plain_loop_over_its_parts(first, last, distill):
    est = unwrapper(connect_input=first, connect_output=last, distill=distill).fit(X)
    assert hasattr(est, "input_connector_") == first
    assert hasattr(est, "output_connector_") == last
    assert len(est.connectors_) == 2
    np.testing.assert_allclose(est.decision_function(X), by_hand(est, X), atol=2e-5)


def test_everything_is_sparse_between_the_ends(tmp_path):
    budgets = [15, 10, 12, 9]
    est = unwrapper(connect_input=True, connect_output=True, n_nonzero_coefs=budgets)
    network = est.fit(X).network()
    assert sparse.issparse(network.encoder_coef_)
    assert {part.dtype for part in network.to_torch().parameters()} == {torch.float32}
    assert sparse.issparse(network.decoder_coef_)
    weights = [network.n_weights_in_, *network.n_weights_, network.n_weights_out_]
    assert weights == budgets
    assert est.input_connector_.link == "relu"
    assert est.output_connector_.link == "identity"
    assert est.output_connector_.coef_.shape == (3, 8)
    network.save(tmp_path / "net")
    loaded = SparseFeatureNetwork.load(tmp_path / "net")
    np.testing.assert_array_equal(loaded.predict_raw(X), network.predict_raw(X))
    compact = network.compact()
    np.testing.assert_allclose(
        compact.predict_raw(X), network.predict_raw(X), atol=1e-5
    )
    assert compact.n_multiply_adds() <= sum(budgets)


def test_budgets_are_one_for_each_connector():
    with pytest.raises(ValueError, match=r"list of one for each of the 3 connectors"):
        unwrapper(connect_input=True, n_nonzero_coefs=[5, 5]).fit(X)
    with pytest.raises(ValueError, match=r"must be a FeatureConnector or a list of 4"):
        unwrapper(
            connect_input=True, connect_output=True, connector=[FeatureConnector()] * 2
        ).fit(X)


def test_a_model_of_one_layer_has_ends_to_connect():
    est = unwrapper(mlp(7, 6, 3), connect_input=True, connect_output=True).fit(X)
    assert est.connectors_ == []
    assert est.n_iter_ == 6
    assert est.network().n_weights_ == []
    assert est.network().n_weights_in_ == 20


def test_ends_of_an_earlier_fit_are_forgotten():
    est = unwrapper(connect_input=True, connect_output=True).fit(X)
    est.set_params(connect_input=False, connect_output=False).fit(X)
    assert not hasattr(est, "input_connector_")
    assert not hasattr(est, "output_connector_")


def test_a_regressor_to_its_values():
    model = mlp(7, 6, 5, 1)
    est = unwrapper(model, connect_output=True, task="regression").fit(X)
    assert est.predict(X).shape == (60,)
    assert est.output_connector_.coef_.shape == (1, 8)


@pytest.mark.parametrize("budgets", [20, [30, 10], [None, 10]])
def test_a_shared_budget_is_the_sum(budgets):
    est = unwrapper(n_nonzero_coefs=budgets, shared_budget=True)
    if budgets == [None, 10]:
        est.set_params(connector=FeatureConnector(n_nonzero_coefs=30))
    n_weights = [c.coef_.nnz for c in est.fit(X).connectors_]
    assert sum(n_weights) == 40
    assert n_weights == [c.n_nonzero_coefs for c in est.connectors_]


def test_the_last_decoder_learns_and_codes_stay():
    fitted = {d: unwrapper(distill=d, joint=False).fit(X) for d in (False, True)}
    before, after = (fitted[d].autoencoders_[-1] for d in (False, True))
    assert not np.allclose(before.components_, after.components_)
    rows = np.random.default_rng(3).normal(size=(50, 5)).astype(np.float32)
    np.testing.assert_allclose(before.transform(rows), after.transform(rows), atol=1e-5)
    for d in (0, 1):
        first, second = (fitted[b].autoencoders_[d] for b in (False, True))
        np.testing.assert_array_equal(first.components_, second.components_)


def test_the_autoencoders_given_are_left_alone():
    parts = [SparseAutoencoder(8, k=3, max_iter=5) for _ in range(3)]
    est = unwrapper(autoencoder=parts).fit(X)
    assert not any(hasattr(part, "components_") for part in parts)
    assert est.autoencoder is parts


def test_deterministic_and_cloned():
    est = unwrapper(connect_input=True, connect_output=True, shared_budget=True)
    first, second = est.fit(X), clone(est).fit(X)
    np.testing.assert_array_equal(
        first.decision_function(X), second.decision_function(X)
    )


@pytest.mark.parametrize("name", ["connect_input", "connect_output", "shared_budget"])
def test_parameters_are_booleans(name):
    with pytest.raises(InvalidParameterError, match=f"The {name!r} parameter"):
        unwrapper(**{name: "yes"}).fit(X)


def test_default_budgets_at_the_ends():
    est = FeatureUnwrapper(
        MODEL,
        autoencoder=SparseAutoencoder(40, k=8, max_iter=5),
        connect_input=True,
        connect_output=True,
        random_state=0,
    ).fit(X)
    network = est.network()
    # Of 7 inputs there are no twenty a feature.
    assert network.n_weights_in_ <= 7 * 40
    assert network.n_weights_ == [160, 160]
    assert network.n_weights_out_ == 60
    assert all(c.link == "relu" for c in [est.input_connector_, *est.connectors_])


def test_the_product_start_is_for_connectors_between():
    connector = FeatureConnector(init="product", solver="minibatch", max_iter=5)
    est = unwrapper(connector=connector, connect_input=True, connect_output=True)
    assert est.fit(X).network().n_weights_ == [20, 20]


def test_the_report_counts_all_weights():
    est = unwrapper(
        connect_input=True, connect_output=True, n_nonzero_coefs=[15, 10, 12, 9]
    ).fit(X)
    report = est.report(X)
    assert report.n_weights == [15, 10, 12, 46]
    codes = est.transform(X, layer=0)
    assert report.r2_network[0] == pytest.approx(report.r2_true[0])
    np.testing.assert_allclose(est.input_connector_.predict(X), codes, atol=1e-5)


def test_the_report_is_of_the_autoencoders_as_fitted():
    first, second = (unwrapper(distill=d, joint=False).fit(X) for d in (False, True))
    for name in ("fvu", "score", "agreement", "kl", "l0"):
        assert first.report(X)[name][:3] == second.report(X)[name][:3]
    last = second.autoencoders_[-1]
    hidden = X
    for linear in (MODEL[0], MODEL[2], MODEL[4]):
        weight, b = (p.detach().numpy() for p in (linear.weight, linear.bias))
        hidden = rectified(hidden @ weight.T + b)
    assert last.explained_variance_ == pytest.approx(
        1 - fvu(hidden, last.inverse_transform(last.transform(hidden))), abs=1e-4
    )
