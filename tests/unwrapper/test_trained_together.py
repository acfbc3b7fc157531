"""Unwrappers whose parts are trained together."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from skfeat import FeatureConnector, SparseAutoencoder
from skfeat.metrics import fvu
from tests.unwrapper.test_feature_unwrapper import MODEL, X, unwrapper

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*features are dead"),
]

ENDS = {"connect_input": True, "connect_output": True}


def codes_of(est, rows):
    hidden, codes = torch.tensor(rows), []
    with torch.no_grad():
        for layer in MODEL:
            hidden = layer(hidden)
            if isinstance(layer, torch.nn.ReLU):
                part = est.autoencoders_[len(codes)]
                codes.append(part.transform(hidden.numpy()))
    return codes


@pytest.mark.parametrize("ends", [{}, ENDS])
def test_all_parts_move_and_budgets_hold(ends):
    apart = unwrapper(distill=False, **ends).fit(X)
    est = unwrapper(**ends).fit(X)
    for before, after in zip(apart.autoencoders_, est.autoencoders_, strict=True):
        assert not np.allclose(before.components_, after.components_, atol=1e-4)
        norms = np.linalg.norm(after.components_, axis=1)
        np.testing.assert_allclose(norms, 1, rtol=1e-5)
    network = est.network()
    counts = [network.n_weights_in_, *network.n_weights_, network.n_weights_out_]
    assert [count for count in counts if count is not None] == [20] * len(
        [count for count in counts if count is not None]
    )
    for connector in est.connectors_:
        assert connector.n_nonzero_coefs == connector.coef_.nnz == 20
        assert connector.alpha_ == 0
        assert np.isnan(connector.dual_gap_)


def test_features_are_nearer_to_the_encoded_ones_with_more_faithfulness():
    errors = []
    for faithfulness in (0.0, 10.0):
        est = unwrapper(faithfulness=faithfulness, max_iter=60, **ENDS).fit(X)
        own = est.network().features(X)
        codes = codes_of(est, X)
        errors.append([fvu(c, o) for c, o in zip(codes, own, strict=True)])
    without, held = errors
    assert np.mean(held) < 0.7 * np.mean(without)


def test_what_is_frozen_stays_and_the_rest_trains():
    first = unwrapper(distill=False).fit(X)
    parts = [
        FrozenEstimator(first.autoencoders_[0]),
        SparseAutoencoder(8, k=3, max_iter=5),
        FrozenEstimator(first.autoencoders_[2]),
    ]
    connectors = [
        FeatureConnector(),
        FrozenEstimator(first.connectors_[1]),
    ]
    est = unwrapper(
        autoencoder=parts, connector=connectors, n_nonzero_coefs=[9, None]
    ).fit(X)
    for index in (0, 2):
        for name in ("components_", "encoder_coef_", "encoder_intercept_"):
            np.testing.assert_array_equal(
                getattr(est.autoencoders_[index], name),
                getattr(first.autoencoders_[index], name),
            )
    np.testing.assert_array_equal(
        est.connectors_[1].coef_.toarray(), first.connectors_[1].coef_.toarray()
    )
    assert est.connectors_[0].coef_.nnz == 9
    assert not np.allclose(
        est.autoencoders_[1].components_, first.autoencoders_[1].components_
    )


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
def test_every_activation(params):
    est = unwrapper(autoencoder=SparseAutoencoder(8, max_iter=5, **params)).fit(X)
    apart = unwrapper(distill=False, autoencoder=est.autoencoder).fit(X)
    assert np.isfinite(est.network().predict_raw(X)).all()
    for before, after in zip(apart.autoencoders_, est.autoencoders_, strict=True):
        assert after.make_activation().name == before.make_activation().name
        assert not np.array_equal(before.components_, after.components_)
        if params.get("tied"):
            np.testing.assert_array_equal(after.components_, after.encoder_coef_)


def test_measured_anew():
    est = unwrapper(max_iter=30).fit(X)
    for part, codes in zip(est.autoencoders_, codes_of(est, X), strict=True):
        assert part.l0_ == pytest.approx(np.count_nonzero(codes) / len(X), rel=1e-6)
        assert part.n_dead_ == np.sum(~(codes > 0).any(axis=0))


def test_training_of_a_part_cannot_go_on():
    part = unwrapper().fit(X).autoencoders_[0]
    with pytest.raises(ValueError, match="was trained together with connectors"):
        part.partial_fit(np.ones((4, part.n_features_in_), np.float32))


def test_starts_that_are_given():
    for init in ("product", [np.eye(8), np.full(8, 0.1)]):
        est = unwrapper(connector=FeatureConnector(init=init)).fit(X)
        assert [connector.coef_.nnz for connector in est.connectors_] == [20, 20]
    bad = FeatureConnector(init=[np.zeros((3, 8)), np.zeros(3)])
    with pytest.raises(ValueError, match="init must be"):
        unwrapper(connector=bad).fit(X)


def test_deterministic_and_labels_play_no_part():
    est = unwrapper(**ENDS)
    labels = np.arange(len(X)) % 3
    first, second = est.fit(X).decision_function(X), clone(est).fit(X, labels)
    np.testing.assert_array_equal(first, second.decision_function(X))


def test_a_frozen_encoder_first():
    est, free = (unwrapper(train_encoder=value).fit(X) for value in (False, True))
    assert not np.array_equal(
        est.autoencoders_[0].encoder_coef_, free.autoencoders_[0].encoder_coef_
    )


@pytest.mark.parametrize("name", ["joint", "train_encoder"])
def test_parameters_are_booleans(name):
    with pytest.raises(ValueError, match=f"The {name!r} parameter"):
        unwrapper(**{name: "yes"}).fit(X)


def test_parameters_that_change_nothing_are_named():
    with pytest.warns(UserWarning, match="train_encoder"):
        unwrapper(train_encoder=False, joint=False).fit(X)
    with pytest.warns(UserWarning, match="train_encoder"):
        unwrapper(train_encoder=False, connect_input=True).fit(X)
