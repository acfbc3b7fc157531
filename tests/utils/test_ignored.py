"""Parameters that change nothing are named, once a fit, by the table."""

import inspect
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPRegressor

import skfeat
from skfeat import (
    FeatureConnector,
    FeatureConnectorCV,
    FeatureUnwrapper,
    SparseAutoencoder,
)
from skfeat.language import LayerPair, MLPConnector, ModelUnwrapper
from skfeat.utils._ignored import TABLE
from skfeat.utils._rules import Fact

rng = np.random.RandomState(0)
X = np.maximum(rng.randn(120, 6), 0)
Y = np.maximum(X[:, :2] + 0.1 * rng.randn(120, 2), 0)
START = (np.zeros((2, 6)), np.zeros(2))
MODEL = MLPRegressor(hidden_layer_sizes=(5, 4), max_iter=5, random_state=0)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    MODEL.fit(X, Y[:, 0])

pytestmark = pytest.mark.usefixtures("few_updates")


def told(call):
    """Return the warnings of a call that name ignored parameters."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(w.message) for w in caught if "nothing in this fit" in str(w.message)]


def named(call):
    """Return the parameters that a call names; in one warning, or none."""
    texts = told(call)
    assert len(texts) <= 1
    if not texts:
        return []
    parts = texts[0].split(" (which needs ")[:-1]
    return [part.rsplit(" ", 1)[-1] for part in parts]


def sae(**params):
    return SparseAutoencoder(8, **{"k": 3, "max_iter": 2, "random_state": 0} | params)


def relu(**params):
    params = {"activation": "relu", "max_iter": 2} | params
    return SparseAutoencoder(8, random_state=0, **params)


def unwrap(**params):
    return FeatureUnwrapper(MODEL, random_state=0, **{"autoencoder": sae()} | params)


def pair(**params):
    parts = {"input_autoencoder": sae(), "output_autoencoder": sae(k=2)}
    return LayerPair(min_events=1, random_state=0, **parts | params)


def test_the_table_has_every_parameter_of_every_estimator():
    """So that a new parameter says when it matters."""
    kinds = [getattr(skfeat, name) for name in skfeat.__all__ if name[0].isupper()]
    kinds = [kind for kind in kinds if hasattr(kind, "get_params")]
    assert SparseAutoencoder in kinds
    for kind in [*kinds, LayerPair, MLPConnector, ModelUnwrapper]:
        params = list(inspect.signature(kind).parameters)
        assert list(TABLE[kind.__name__]) == params, kind
        for name, row in TABLE[kind.__name__].items():
            for key, rule in row.rules.items():
                assert isinstance(rule, Fact) or key in params, (kind, name)


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (sae(), []),
        (relu(), []),
        (relu(k=3), ["k"]),
        (
            relu(activation="jumprelu", k=3, validation_fraction=0.2),
            ["k", "validation_fraction"],
        ),
        (relu(alpha=0.2, activation="gated"), []),
        (sae(alpha=0.2), ["alpha"]),
        (sae(activation="batch_topk", alpha=0.0), ["alpha"]),
        (sae(validation_fraction=0.2), ["validation_fraction"]),
        (sae(validation_fraction=0.2, early_stopping=np.True_), []),
        (relu(l0=3.0, tol=0.1, n_iter_no_change=3), ["tol", "n_iter_no_change"]),
        (sae(distribute="features"), ["distribute"]),
        (FeatureConnector(0.1), []),
        (FeatureConnector(0.1, n_nonzero_coefs=3), ["alpha"]),
        (FeatureConnector(0.1, n_nonzero_coefs=[2, 1]), ["alpha"]),
        (
            FeatureConnector(batch_size=9, learning_rate_init=0.1),
            ["learning_rate_init", "batch_size"],
        ),
        # Stands for a device that this machine has.
        (FeatureConnector(link="identity", device="cpu:0"), ["device"]),
        (FeatureConnector(device="cpu"), []),
        (FeatureConnector(device=torch.device("cpu")), []),
        (FeatureConnector(solver="minibatch", batch_size=9), []),
        (FeatureConnector(solver="minibatch", tol=1e-3), ["tol"]),
        (FeatureConnector(candidates=3), ["candidates"]),
        (FeatureConnector(link="identity", candidates=3), ["candidates"]),
        (FeatureConnector(link="identity", candidates=3, n_nonzero_coefs=4), []),
        (FeatureConnector(init=START), []),
        (FeatureConnector(link="identity", init=START), []),
        (FeatureConnector(n_nonzero_coefs=3, init=START), []),
        (FeatureConnector(n_nonzero_coefs=3, init=START, refit=False), ["init"]),
        (
            FeatureConnector(
                link="identity", n_nonzero_coefs=3, init=START, warm_start=True
            ),
            ["init", "warm_start"],
        ),
        (FeatureConnectorCV(alphas=3, n_nonzero_coefs=[1, 2]), ["alphas"]),
        (FeatureConnectorCV(alphas=3, eps=0.1), []),
        (FeatureConnectorCV(alphas=[0.1], eps=0.1), ["eps"]),
        (MLPConnector(4, max_iter=1), []),
    ],
    ids=str,
)
def test_an_estimator_names_what_it_ignores(estimator, expected):
    target = Y if "Connector" in type(estimator).__name__ else None
    assert named(lambda: estimator.fit(X, target)) == expected


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (sae(), []),
        (sae(alpha=0.2), ["alpha"]),
        (
            SparseAutoencoder(8, k=3, early_stopping=True, validation_fraction=0.2),
            ["early_stopping", "validation_fraction"],
        ),
        (FeatureConnector(max_iter=3, batch_size=9), []),
        (FeatureConnector(max_iter=3, candidates=3), ["candidates"]),
        (FeatureConnector(link="identity", max_iter=3, batch_size=9), ["batch_size"]),
        (FeatureConnector(link="identity", init=START), ["init"]),
    ],
    ids=str,
)
def test_partial_fit_tells_with_the_first_batch_alone(estimator, expected):
    target = Y if isinstance(estimator, FeatureConnector) else None
    assert named(lambda: estimator.partial_fit(X, target)) == expected
    assert named(lambda: estimator.partial_fit(X, target)) == []


ONE_LAYER = {"layers": ["hidden_0"]}


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (unwrap(), []),
        (
            unwrap(autoencoder=None, shared_budget=True, n_nonzero_coefs=5),
            ["shared_budget"],
        ),
        (unwrap(autoencoder=relu(k=3)), ["autoencoder__k"]),
        (
            unwrap(autoencoder=[relu(k=3), sae(alpha=0.2)]),
            ["autoencoder[0]__k", "autoencoder[1]__alpha"],
        ),
        (
            unwrap(distill=False, faithfulness=0.2, batch_size=9),
            ["faithfulness", "batch_size"],
        ),
        (
            unwrap(connector=FeatureConnector(0.1), n_nonzero_coefs=9),
            ["connector__alpha"],
        ),
        (unwrap(connector=[FeatureConnector(n_nonzero_coefs=9)]), []),
        (unwrap(connector=FeatureConnector(batch_size=9)), []),
        (unwrap(**ONE_LAYER, connector=FeatureConnector()), ["connector"]),
        (unwrap(**ONE_LAYER, connect_output=True, faithfulness=0.2), ["faithfulness"]),
        (unwrap(connect_output=True, faithfulness=0.2), []),
        (
            unwrap(
                **ONE_LAYER,
                connect_output=True,
                connector=FeatureConnector(init="product"),
            ),
            ["connector__init"],
        ),
        (pair(), []),
        (pair(connector=FeatureConnector(0.1)), ["connector__alpha"]),
        (pair(connector=FeatureConnector(0.1), n_nonzero_coefs=None), []),
        (
            pair(connector=FeatureConnector(n_nonzero_coefs=9)),
            ["connector__n_nonzero_coefs"],
        ),
        (
            pair(output_autoencoder=sae(k=2, validation_fraction=0.2)),
            ["output_autoencoder__validation_fraction"],
        ),
    ],
    ids=range(17),
)
def test_a_meta_estimator_tells_for_its_parts(estimator, expected):
    target = Y if isinstance(estimator, LayerPair) else None
    assert named(lambda: estimator.fit(X, target)) == expected


def test_a_budget_of_frozen_connectors():
    first = unwrap(n_nonzero_coefs=5)
    told(lambda: first.fit(X))
    kept = FrozenEstimator(first.connectors_[0])
    again = unwrap(
        autoencoder=[FrozenEstimator(part) for part in first.autoencoders_],
        connector=kept,
        n_nonzero_coefs=3,
        batch_size=9,
    )
    assert named(lambda: again.fit(X)) == ["n_nonzero_coefs", "batch_size"]


def test_all_fits_of_a_search_say_the_same():
    grid = {"k": [1, 2, 3], "alpha": [0.2, 0.3]}
    # Once for all candidates, and by the last fit on all rows.
    first, last = told(lambda: GridSearchCV(relu(), grid, cv=2).fit(X))
    assert first.startswith(last)


def test_derived_classes_and_clones_are_told_too():
    class Own(SparseAutoencoder):
        pass

    own = Own(8, k=3, alpha=0.2, max_iter=1)
    assert named(lambda: clone(own).fit(X)) == ["alpha"]


def test_the_warning_points_at_the_call_and_filters_stay():
    filters = list(warnings.filters)
    with pytest.warns(UserWarning, match=r"^SparseAutoencoder: k \(which") as record:
        relu(k=3).fit(X)
    assert {w.filename for w in record} == {__file__}
    assert warnings.filters == filters
