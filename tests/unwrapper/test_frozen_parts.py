"""Fitted parts stay as they are in a FrozenEstimator; else their new fit is told."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_val_score
from torch import nn

from skfeat import (
    FeatureConnector,
    FeatureConnectorCV,
    FeatureUnwrapper,
    SparseAutoencoder,
)

pytestmark = [
    pytest.mark.usefixtures("few_updates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*features are dead:UserWarning"),
]

torch.manual_seed(0)
MODEL = nn.Sequential(
    nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 3)
).eval()
X = np.random.default_rng(0).normal(size=(150, 6)).astype(np.float32)


def hidden(layer):
    with torch.no_grad():
        return MODEL[: 2 * layer + 2](torch.from_numpy(X)).numpy()


def sae(m=12, **params):
    options = {"k": 4, "max_iter": 5, "random_state": 0} | params
    return SparseAutoencoder(m, **options)


def fitted_parts(dtype=np.float32):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [sae().fit(hidden(layer).astype(dtype)) for layer in (0, 1)]


PARTS = fitted_parts()


def frozen(parts):
    return [FrozenEstimator(part) for part in parts]


def unwrap(**params):
    return FeatureUnwrapper(MODEL, **{"random_state": 0} | params)


def refits(function):
    """Return the warnings of a call that are about parts that are fitted anew."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function()
    return [str(w.message) for w in caught if "fitted already" in str(w.message)]


@pytest.mark.parametrize("distill", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_frozen_autoencoder_is_used_and_not_changed(distill, dtype):
    parts = fitted_parts(dtype)
    before = pickle.dumps(parts)
    found = unwrap(autoencoder=frozen(parts), distill=distill)
    assert refits(lambda: found.fit(X)) == []
    for i, (own, part) in enumerate(zip(found.autoencoders_, parts, strict=True)):
        assert own.components_ is part.components_
        # A copy of its own, as the part may have other names, or other layers.
        assert own.get_feature_names_out()[3] == f"F{i + 1}_3"
        assert part.get_feature_names_out()[3] == "sparseautoencoder3"
    network = found.network()
    assert network.predict_raw(X).dtype == np.float32
    np.testing.assert_array_equal(
        network.decoder_coef_, parts[1].components_.astype(np.float32)
    )
    expected = parts[0].transform(hidden(0).astype(dtype))
    np.testing.assert_allclose(found.transform(X, layer=0), expected, atol=1e-5)
    assert set(found.report(X)["decoder"]) == {"fitted"}
    assert pickle.dumps(parts) == before
    assert (found.n_iter_ > 0) is distill


def test_one_for_all_layers_and_mixed_lists():
    found = unwrap(autoencoder=FrozenEstimator(PARTS[0])).fit(X)
    for i, part in enumerate(found.autoencoders_):
        assert part.components_ is PARTS[0].components_
        assert part.get_feature_names_out()[0] == f"F{i + 1}_0"
    nested = FrozenEstimator(FrozenEstimator(PARTS[0]))
    for last in (sae(), clone(PARTS[1])):
        found = unwrap(autoencoder=[nested, last]).fit(X)
        assert found.autoencoders_[0].components_ is PARTS[0].components_
        # Distillation trains this decoder.
        assert found.autoencoders_[1].components_ is not PARTS[1].components_


def test_frozen_connectors_keep_their_weights():
    first = unwrap(autoencoder=frozen(PARTS), connect_output=True).fit(X)
    connectors = [*first.connectors_, first.output_connector_]
    before = pickle.dumps(connectors)
    found = unwrap(
        autoencoder=frozen(PARTS),
        connector=[
            FeatureConnector(),
            FrozenEstimator(connectors[0]),
            FeatureConnector(),
        ],
        n_nonzero_coefs=[20, None, 9],
        shared_budget=True,
        connect_input=True,
        connect_output=True,
    ).fit(X)
    assert found.connectors_[0] is connectors[0]
    # It takes no part in sharing the budget.
    free = found.input_connector_, found.output_connector_
    assert sum(part.coef_.nnz for part in free) == 29
    # With nothing left to train there is no distillation.
    found = unwrap(
        autoencoder=frozen(PARTS), connector=frozen(connectors), connect_output=True
    ).fit(X)
    assert found.n_iter_ == 0
    np.testing.assert_array_equal(found.predict(X), first.predict(X))
    assert pickle.dumps(connectors) == before
    codes = [part.transform(hidden(i)) for i, part in enumerate(PARTS)]
    chosen = FeatureConnectorCV(alphas=3, cv=2).fit(*codes)
    found = unwrap(autoencoder=frozen(PARTS), connector=FrozenEstimator(chosen)).fit(X)
    (kept,) = found.connectors_
    assert kept.coef_ is chosen.coef_


def test_fitted_on_named_columns():
    named = pd.DataFrame(hidden(0), columns=list("abcdefghij"))
    part = sae(sparse_output=True).fit(named)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*features are dead")
        found = unwrap(autoencoder=FrozenEstimator(part), verbose=1, distill=False)
        found.fit(X).report(X)
    assert list(part.feature_names_in_) == list("abcdefghij")


def connector(n_inputs, n_outputs, **params):
    rng = np.random.default_rng(0)
    rows = rng.random((40, n_inputs)), rng.random((40, n_outputs))
    return FrozenEstimator(FeatureConnector(**params).fit(*rows))


@pytest.mark.parametrize(
    ("match", "params"),
    [
        (
            r"'autoencoder\[1\]' parameter was fitted to rows of 6 columns, but layer",
            {"autoencoder": [sae(), FrozenEstimator(sae().fit(X))]},
        ),
        (
            "must be a SparseAutoencoder, or a fitted one",
            {"autoencoder": connector(12, 12)},
        ),
        (
            "must be a FeatureConnector, or a fitted one",
            {"connector": FrozenEstimator(PARTS[0])},
        ),
        ("or a list of 2 of them", {"autoencoder": frozen(PARTS[:1])}),
        (
            "'connector' parameter was fitted to compute 7 features from 12, but here",
            {"autoencoder": frozen(PARTS), "connector": connector(12, 7)},
        ),
        (
            "link='identity'.* Got a frozen one of link='relu'",
            {
                "autoencoder": frozen(PARTS[:1]),
                "layers": ["0"],
                "connect_output": True,
                "connector": connector(12, 3),
            },
        ),
    ],
)
def test_what_does_not_fit_is_refused(match, params):
    with pytest.raises(ValueError, match=match):
        unwrap(**params).fit(X)


def test_unfitted_in_a_frozen_estimator():
    with pytest.raises(NotFittedError, match="'autoencoder' parameter is a Frozen"):
        unwrap(autoencoder=FrozenEstimator(sae())).fit(X)


def test_params_clone_search_pickle_and_page():
    found = unwrap(autoencoder=frozen(PARTS), distill=False).fit(X)
    assert clone(found).autoencoder[0].estimator is PARTS[0]
    loaded = pickle.loads(pickle.dumps(found))
    own, given = loaded.autoencoders_[1], loaded.autoencoder[1].estimator
    assert own.components_ is given.components_
    single = unwrap(autoencoder=FrozenEstimator(PARTS[0]), distill=False)
    assert single.get_params()["autoencoder__estimator"] is PARTS[0]
    assert "FrozenEstimator" in single._repr_html_()
    with pytest.raises(ValueError, match="cannot set parameters of the inner"):
        single.set_params(autoencoder__k=3)
    grid = {"autoencoder": frozen(PARTS), "n_nonzero_coefs": [9, 30]}
    search = GridSearchCV(single, grid, cv=2).fit(X)
    parts = search.best_estimator_.autoencoders_
    (best,) = {id(part.components_) for part in parts}
    assert best in {id(part.components_) for part in PARTS}


def test_a_fitted_part_that_is_fitted_anew_is_told_once():
    old = unwrap(autoencoder=frozen(PARTS)).fit(X).connectors_
    (text,) = refits(lambda: unwrap(autoencoder=PARTS, connector=old).fit(X))
    assert text.startswith(
        "FeatureUnwrapper: autoencoder[0], autoencoder[1] and connector[0] are fitted "
    )
    assert "FrozenEstimator" in text
    one_layer = {"layers": ["0"], "connector": old[0], "distill": False}
    assert refits(lambda: unwrap(autoencoder=sae(), **one_layer).fit(X)) == []
    (text,) = refits(lambda: unwrap(autoencoder=PARTS[0], **one_layer).fit(X))
    assert text.startswith("FeatureUnwrapper: autoencoder is fitted already")


def test_clones_in_a_search_remember_that_a_part_was_fitted():
    given = unwrap(autoencoder=PARTS[0], distill=False)
    texts = refits(lambda: cross_val_score(given, X, cv=2))
    assert len(texts) == 2
    assert len(set(texts)) == 1
    again = clone(clone(given))
    assert len(refits(lambda: again.fit(X))) == 1
    assert refits(lambda: again.set_params(autoencoder=sae()).fit(X)) == []
    assert refits(lambda: unwrap(autoencoder=clone(PARTS[0])).fit(X)) == []
