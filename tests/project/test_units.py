"""Results do not depend on the units of the data, in any estimator or solver.

Factors are powers of two, which round nothing: what comes out must be equal but for
the rounding of logarithms and roots.
"""

import copy
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import sparse
from sklearn.neural_network import MLPClassifier, MLPRegressor

from skfeat import (
    FeatureConnector,
    FeatureConnectorCV,
    FeatureUnwrapper,
    SparseAutoencoder,
    Transcoder,
)
from skfeat.language import MLPConnector
from skfeat.metrics import explained_variance, fvu

pytestmark = [
    pytest.mark.usefixtures("compiled_when_small"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*features are dead"),
]

# From 1e-8 to 1e8.
EXPONENTS = st.integers(-27, 27)

RNG = np.random.RandomState(0)
INPUTS = np.maximum(RNG.randn(200, 16), 0) * (RNG.rand(200, 16) < 0.4)
WEIGHTS = RNG.randn(3, 16) * (RNG.rand(3, 16) < 0.3)
LINEAR = INPUTS @ WEIGHTS.T + 0.05 * RNG.randn(200, 3)
TARGETS = {"identity": LINEAR, "relu": np.maximum(LINEAR - 0.1, 0)}
LAYER = np.where(RNG.rand(200, 24) < 0.1, RNG.rand(200, 24) + 0.2, 0) @ RNG.randn(24, 6)

AUTOENCODERS = {
    **{name: {"activation": name} for name in ("topk", "batch_topk")},
    **{name: {"activation": name} for name in ("relu", "jumprelu", "gated")},
    "prefixes": {"prefixes": (6, 12)},
    "l0": {"activation": "jumprelu", "l0": 3.0},
    "resample": {"activation": "relu", "dead_features": "resample", "alpha": 0.5},
    "tied": {"tied": True},
    "uncentred": {"center": False},
    "early stopping": {"early_stopping": True},
    "float64": {"precision": "float64"},
    "bfloat16": {"precision": "bfloat16"},
}

CONNECTORS = {
    "penalty": {"alpha": 0.01},
    "unrefitted": {"alpha": 0.01, "refit": False},
    "budget": {"n_nonzero_coefs": 9},
    "budgets": {"n_nonzero_coefs": [2, 3, 4]},
    "without intercept": {"alpha": 0.01, "fit_intercept": False},
}

SOLVERS = {
    "gram": {"link": "identity", "solver": "gram"},
    "full batch": {"link": "relu", "solver": "full_batch"},
    "minibatch": {"link": "relu", "solver": "minibatch", "max_iter": 5},
}


def assert_same(ours, reference, rtol=1e-6):
    for one, other in zip(ours, reference, strict=True):
        size = np.abs(other).max(initial=0.0)
        assert_allclose(one, other, rtol=0, atol=rtol * size)


def autoencoder_in(unit, params, dtype):
    rows = (LAYER * unit).astype(dtype)
    sae = SparseAutoencoder(12, max_iter=3, random_state=0).set_params(
        **{"k": 3, **params} if "topk" in params.get("activation", "topk") else params
    )
    sae.fit(rows)
    shift = [sae.intercept_, sae.encoder_intercept_, sae.transform(rows)]
    if hasattr(sae, "threshold_"):
        shift.append(sae.threshold_)
    fitted = [sae.components_, sae.encoder_coef_, sae.loss_curve_, sae.score(rows)]
    return [*fitted, *(np.asarray(part, np.float64) / unit for part in shift)]


@given(
    st.sampled_from(sorted(AUTOENCODERS)),
    EXPONENTS,
    st.sampled_from([np.float32, np.float64]),
)
def test_autoencoders(name, exponent, dtype):
    params = AUTOENCODERS[name]
    reference = autoencoder_in(1.0, params, dtype)
    assert_same(autoencoder_in(2.0**exponent, params, dtype), reference)


def connector_in(x, y, estimator, params, wrap=np.asarray):
    params = dict(params)
    if "alpha" in params:
        params["alpha"] *= x * y
    model = estimator(**params)
    rows, targets = wrap(INPUTS * x), TARGETS[params["link"]] * y
    model.fit(rows, targets)
    support = (model.coef_.toarray() != 0).astype(float)
    return [
        support,
        model.coef_.toarray() * (x / y),
        model.intercept_ / y,
        model.predict(rows) / y,
        model.score(rows, targets),
        np.asarray(model.alpha_) / (x * y),
    ]


@given(
    st.sampled_from(sorted(CONNECTORS)),
    st.sampled_from(sorted(SOLVERS)),
    EXPONENTS,
    EXPONENTS,
    st.sampled_from([np.asarray, sparse.csr_array]),
)
def test_connectors(name, solver, x, y, wrap):
    params = {"random_state": 0, **CONNECTORS[name], **SOLVERS[solver]}
    if solver == "minibatch" and name == "unrefitted":
        params["alpha"] = 0.02
    reference = connector_in(1.0, 1.0, FeatureConnector, params, wrap)
    ours = connector_in(2.0**x, 2.0**y, FeatureConnector, params, wrap)
    assert_same(ours, reference)


@settings(max_examples=10)
@given(
    st.sampled_from(["identity", "relu"]),
    st.sampled_from([{"alphas": 4}, {"n_nonzero_coefs": [4, 9]}]),
    EXPONENTS,
    EXPONENTS,
)
def test_cross_validation(link, grid, x, y):
    params = {"link": link, "cv": 3, **grid}
    reference = connector_in(1.0, 1.0, FeatureConnectorCV, params)
    assert_same(connector_in(2.0**x, 2.0**y, FeatureConnectorCV, params), reference)


@given(st.sampled_from(["identity", "relu"]), EXPONENTS, EXPONENTS)
def test_paths(link, x, y):
    def path(x, y):
        model = FeatureConnector(link=link)
        alphas, coefs, _ = model.connector_path(
            INPUTS * x, TARGETS[link] * y, n_alphas=5
        )
        return [alphas / (x * y), coefs * (x / y)]

    assert_same(path(2.0**x, 2.0**y), path(1.0, 1.0))


@given(st.sampled_from(["identity", "relu"]), EXPONENTS, EXPONENTS)
def test_partial_fits(link, x, y):
    def fitted(x, y):
        model = FeatureConnector(0.01 * x * y, link=link, random_state=0)
        for part in (slice(0, 100), slice(100, 200)):
            model.partial_fit(INPUTS[part] * x, TARGETS[link][part] * y)
        return [model.coef_.toarray() * (x / y), model.intercept_ / y]

    assert_same(fitted(2.0**x, 2.0**y), fitted(1.0, 1.0))


@given(EXPONENTS)
def test_metrics(exponent):
    unit = 2.0**exponent
    rebuilt = LAYER + 0.1
    assert fvu(LAYER * unit, rebuilt * unit) == fvu(LAYER, rebuilt)
    assert explained_variance(LAYER * unit, rebuilt * unit) == explained_variance(
        LAYER, rebuilt
    )


MODEL_ROWS = RNG.randn(120, 5)
MODEL_VALUES = np.sin(MODEL_ROWS[:, 0]) + MODEL_ROWS[:, 1] * MODEL_ROWS[:, 2]


@cache
def trained(kind):
    regresses = kind == "regressor"
    model = (MLPRegressor if regresses else MLPClassifier)(
        hidden_layer_sizes=(10, 10), max_iter=30, random_state=0
    )
    return model.fit(MODEL_ROWS, MODEL_VALUES if regresses else MODEL_VALUES > 0)


def model_in(kind, x, hidden, y):
    """Return the same function of inputs times x, with hidden layers of other units."""
    model = copy.deepcopy(trained(kind))
    first, second = hidden
    model.coefs_[0] *= first / x
    model.intercepts_[0] *= first
    model.coefs_[1] *= second / first
    model.intercepts_[1] *= second
    model.coefs_[2] *= y / second
    model.intercepts_[2] *= y
    return model


def unwrapped_in(kind, x, hidden, y, params):
    model = model_in(kind, x, hidden, y)
    unwrapper = FeatureUnwrapper(
        model,
        autoencoder=SparseAutoencoder(14, k=4, max_iter=5),
        n_nonzero_coefs=params.get("budget"),
        distill=params.get("distill", True),
        connect_input=params.get("ends", False),
        connect_output=params.get("ends", False),
        random_state=0,
    )
    rows = MODEL_ROWS * x
    if unwrapper.distill:
        unwrapper.set_params(batch_size=60)
    unwrapper.fit(rows)
    report = unwrapper.report(rows)
    codes = [unwrapper.transform(rows, layer=i) / unit for i, unit in enumerate(hidden)]
    weights = [connector.coef_.toarray() != 0 for connector in unwrapper.connectors_]
    network = unwrapper.network()
    return [
        *(np.asarray(part, float) for part in weights),
        *codes,
        network.predict_raw(rows) / y,
        unwrapper.score(rows),
        np.nan_to_num(report["fvu"]),
        np.nan_to_num(report["r2_network"]),
        np.nan_to_num(report["score"]),
    ]


@pytest.mark.parametrize("kind", ["regressor", "classifier"])
@pytest.mark.parametrize(
    "params", [{}, {"distill": False}, {"ends": True}, {"budget": 30}], ids=str
)
@pytest.mark.parametrize("hidden", [(2.0**-27, 2.0**27), (2.0**27, 2.0**-20)])
def test_unwrappers(kind, params, hidden, monkeypatch):
    monkeypatch.setattr("skfeat.solvers.joint._train._UPDATES", 40)
    # The logits of a classifier are what they are.
    y = 2.0**20 if kind == "regressor" else 1.0
    reference = unwrapped_in(kind, 1.0, (1.0, 1.0), 1.0, params)
    ours = unwrapped_in(kind, 2.0**-20, hidden, y, params)
    assert_same(ours, reference, rtol=1e-4)


@pytest.mark.parametrize("link", ["identity", "relu"])
@pytest.mark.parametrize("factor", [1e-8, 3e-5, 7e3, 1e8])
def test_factors_that_round(link, factor):
    # Other rounding may stop a solver an iteration earlier.
    params = {"link": link, "n_nonzero_coefs": 9}
    reference = connector_in(1.0, 1.0, FeatureConnector, params)
    assert_same(connector_in(factor, 1 / factor, FeatureConnector, params), reference)


@pytest.mark.parametrize("size", [1e-155, 1e-75, 1e75, 1e200])
@pytest.mark.parametrize("name", ["X", "y"])
@pytest.mark.parametrize("link", ["identity", "relu"])
def test_magnitudes_beyond_floating_point_are_refused(size, name, link):
    X, y = INPUTS, TARGETS[link]
    X, y = (X * size, y) if name == "X" else (X, y * size)
    for model in (FeatureConnector(link=link), FeatureConnectorCV(link=link)):
        with pytest.raises(ValueError, match=f"{name} has values up to .*rescale"):
            model.fit(X, y)


def test_weights_beyond_the_dtype_are_refused():
    X, y = INPUTS.astype(np.float32), TARGETS["identity"].astype(np.float32)
    for x, factor in ((1e-25, 1e25), (1e25, 1e-25)):
        with pytest.raises(ValueError, match="range of float32: pass X as float64"):
            FeatureConnector(0.0, link="identity").fit(
                X * np.float32(x), y * np.float32(factor)
            )


@pytest.mark.parametrize("unit", [1e-30, 1e25])
def test_scores_of_predicted_rows_do_not_depend_on_their_unit(unit):
    X, y = INPUTS.astype(np.float32), TARGETS["identity"].astype(np.float32)
    for model in (
        Transcoder(8, k=2, max_iter=5, random_state=0),
        MLPConnector(hidden_units=3, max_iter=2, random_state=0),
    ):
        expected = model.fit(X, y).score(X, y)
        Y = y * np.float32(unit)
        assert model.fit(X, Y).score(X, Y) == pytest.approx(expected, abs=1e-3)


def test_scores_of_float32_neither_vanish_nor_overflow():
    X, y = INPUTS.astype(np.float32), TARGETS["identity"].astype(np.float32)
    for unit in (np.float32(1e-23), np.float32(1e19)):
        model = FeatureConnector(n_nonzero_coefs=0, link="identity").fit(
            X * unit, y * unit
        )
        assert abs(model.score(X * unit, y * unit)) < 1e-6
