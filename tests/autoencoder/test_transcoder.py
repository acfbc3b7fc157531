"""The transcoder: sparse codes of rows that predict other rows."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfeat import Transcoder
from skfeat.autoencoder._setup import settings_of
from skfeat.metrics import explained_variance
from skfeat.solvers.autoencoder import _trainer
from skfeat.solvers.autoencoder._linear_map import fit_linear_map
from skfeat.solvers.autoencoder._standardizer import Standardizer

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*features are dead"),
]

RNG = np.random.RandomState(0)
X = RNG.randn(600, 10)
# What a hidden layer makes of the rows, and a map beside it.
HIDDEN = np.maximum(X @ RNG.randn(10, 24) - 1.5, 0)
Y = HIDDEN @ RNG.randn(24, 6) + 3.0
LINEAR = X @ RNG.randn(10, 6)
KINDS = ["topk", "batch_topk", "relu", "jumprelu", "gated"]


def fitted(activation="topk", X=X, Y=Y, **params):
    params = {"max_iter": 8, "batch_size": 100, "random_state": 0, **params}
    if "topk" in activation:
        params = {"k": 6, **params}
    return Transcoder(40, activation=activation, **params).fit(X, Y)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("activation", KINDS)
def test_predictions_are_what_the_attributes_say(activation, skip):
    model = fitted(activation, skip=skip)
    pre = X @ model.encoder_coef_.T + model.encoder_intercept_
    codes = model.make_activation().encode(pre)
    assert_allclose(model.transform(X), codes, atol=1e-10)
    decoded = codes @ model.components_ + model.intercept_
    if skip:
        decoded = decoded + X @ model.skip_coef_.T
    assert_allclose(model.predict(X), decoded, atol=1e-10)
    assert model.score(X, Y) == pytest.approx(r2_score(Y, decoded))
    assert model.explained_variance_ == pytest.approx(explained_variance(Y, decoded))
    assert_allclose(np.linalg.norm(model.components_, axis=1), 1, rtol=1e-5)
    assert (model.n_features_in_, model.n_targets_) == (10, 6)
    assert hasattr(model, "skip_coef_") == skip
    assert hasattr(model, "inverse_transform") != skip
    if not skip:
        assert_allclose(model.inverse_transform(codes), decoded, atol=1e-10)


def test_learns_what_no_linear_map_predicts():
    model = fitted(max_iter=300, k=8)
    linear = LinearRegression().fit(X, Y).score(X, Y)
    assert model.score(X, Y) > 0.95 > linear + 0.1


def test_a_skip_leaves_the_linear_part_to_a_matrix():
    both = Y + 10 * LINEAR
    plain, skip = (fitted(Y=both, max_iter=40, skip=skip) for skip in (False, True))
    assert skip.score(X, both) > plain.score(X, both)
    # Its unit: the part of the codes alone does not predict what is linear.
    codes = skip.transform(X) @ skip.components_ + skip.intercept_
    assert r2_score(both, codes) < 0.5 < r2_score(both, skip.predict(X))


def test_the_start_of_the_skip_is_least_squares_where_rows_are_many():
    ones = np.ones(len(X))
    own, other = (
        Standardizer.from_rows(rows, ones, center=True, rms=True) for rows in (X, Y)
    )
    found = fit_linear_map((X, own), (Y, other), ones) * other.scale / own.scale
    assert_allclose(found, LinearRegression().fit(X, Y).coef_, rtol=0.05, atol=0.02)
    # A row of weight two is two rows; the number of rows is of the ridge alone.
    weights = np.tile([1.0, 0.0], 300)
    some = fit_linear_map((X, own), (Y, other), weights)
    assert_allclose(some, fit_linear_map((X[::2], own), (Y[::2], other), ones[::2]))


def test_the_start_of_the_skip_does_not_fit_noise():
    rng = np.random.RandomState(0)
    rows, noise, ones = rng.randn(30, 25), rng.randn(30, 4), np.ones(30)
    plain = Standardizer(np.zeros(25), 1.0), Standardizer(np.zeros(4), 1.0)
    found = fit_linear_map((rows, plain[0]), (noise, plain[1]), ones)
    least_squares = np.linalg.lstsq(rows, noise, rcond=None)[0].T
    assert np.linalg.norm(found) < 0.3 * np.linalg.norm(least_squares)


@given(
    st.sampled_from(KINDS),
    st.booleans(),
    st.integers(-27, 27),
    st.integers(-27, 27),
    st.sampled_from([np.float32, np.float64]),
)
def test_results_do_not_depend_on_units(activation, skip, x, y, dtype):
    """Factors are powers of two, which round nothing."""
    results = []
    for a, b in ((1.0, 1.0), (2.0**x, 2.0**y)):
        rows, targets = (X[:200] * a).astype(dtype), (Y[:200] * b).astype(dtype)
        model = fitted(activation, rows, targets, skip=skip, max_iter=2)
        results.append(
            [
                model.predict(rows) / b,
                model.transform(rows) / b,
                model.components_,
                model.encoder_coef_ * (a / b),
                model.explained_variance_,
            ]
        )
    for one, other in zip(*results, strict=True):
        assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_have_the_dtype_of_the_rows(dtype):
    model = fitted(X=X.astype(dtype))
    predicted = model.predict(X.astype(dtype))
    for array in (model.components_, model.encoder_coef_, predicted):
        assert array.dtype == dtype


def test_targets_of_one_dimension_are_predicted_as_such():
    model = fitted(Y=Y[:, 0])
    assert model.predict(X).shape == (600,)
    assert model.inverse_transform(model.transform(X)).shape == (600,)
    column = fitted(Y=Y[:, :1])
    assert column.predict(X).shape == (600, 1)
    assert_array_equal(column.predict(X).ravel(), model.predict(X))


def test_tables_pipelines_clones_and_pickles():
    table = pd.DataFrame(X, columns=[f"unit {i}" for i in range(10)])
    model = fitted(X=table, Y=pd.DataFrame(Y)).set_output(transform="pandas")
    assert list(model.feature_names_in_) == list(table)
    codes = model.transform(table)
    assert list(codes)[:2] == ["transcoder0", "transcoder1"]
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.predict(table), model.predict(table))
    fresh = clone(model).fit(table, pd.DataFrame(Y))
    assert_array_equal(fresh.predict(table), model.predict(table))
    pipe = make_pipeline(StandardScaler(), Transcoder(40, k=6, max_iter=200))
    assert pipe.fit(X, Y).predict(X).shape == Y.shape
    assert pipe.score(X, Y) > 0


def test_weights_of_zero_leave_rows_out():
    weights = np.tile([1.0, 0.0], 300)
    spoilt = np.where(weights[:, None] > 0, Y, 1e6)
    params = {"batch_size": 600, "max_iter": 5, "skip": True}
    model = Transcoder(40, k=6, random_state=0, **params).fit(X, spoilt, weights)
    clean = Transcoder(40, k=6, random_state=0, **params).fit(X, Y, weights)
    assert_allclose(model.predict(X), clean.predict(X), rtol=1e-9)


@pytest.mark.parametrize("skip", [False, True])
def test_partial_fits_and_warm_starts_go_on(skip):
    model = Transcoder(40, k=6, skip=skip, random_state=0)
    scores = []
    for _ in range(40):
        model.partial_fit(X[:300], Y[:300]).partial_fit(X[300:], Y[300:])
        scores.append(model.score(X, Y))
    assert scores[-1] > scores[0] + 0.05
    warm = Transcoder(40, k=6, skip=skip, warm_start=True, max_iter=5, random_state=0)
    first = warm.fit(X, Y).loss_curve_[0]
    assert warm.fit(X, Y).loss_curve_[5] < first
    warm.set_params(skip=not skip)
    with pytest.raises(ValueError, match=f"skip={not skip} differs"):
        warm.fit(X, Y)
    warm.set_params(skip=skip)
    with pytest.raises(ValueError, match="y has 2 targets, but this Transcoder was"):
        warm.fit(X, Y[:, :2])


@pytest.mark.parametrize("activation", ["topk", "relu"])
@pytest.mark.parametrize("dead_features", ["auxk", "resample", "ignore"])
def test_dead_features(activation, dead_features):
    params = {"dead_features": dead_features, "max_iter": 40}
    model = fitted(activation, **params)
    assert model.score(X, Y) > 0.3


def test_matryoshka_prefixes_predict_alone():
    params = {"prefixes": (8, 20), "max_iter": 60}
    nested, plain = fitted(**params), fitted(max_iter=60)
    scores = [
        explained_variance(Y, m.transform(X)[:, :8] @ m.components_[:8] + m.intercept_)
        for m in (nested, plain)
    ]
    assert scores[0] > scores[1] + 0.1


def test_early_stopping_holds_rows_out():
    model = fitted(early_stopping=True, max_iter=30, skip=True)
    assert len(model.validation_scores_) == model.n_iter_
    assert max(model.validation_scores_) <= 1


def test_a_checkpoint_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    whole = fitted(skip=True)
    path, step, calls = tmp_path / "fit.safetensors", _trainer.SAETrainer._step, []

    def interrupted(trainer, *args):
        calls.append(1)
        if len(calls) == 20:
            raise RuntimeError("the power failed")
        return step(trainer, *args)

    with monkeypatch.context() as patch:
        patch.setattr(_trainer.SAETrainer, "_step", interrupted)
        with pytest.raises(RuntimeError, match="power"):
            fitted(skip=True, checkpoint=path)
    again = fitted(skip=True, checkpoint=path)
    assert_array_equal(again.predict(X), whole.predict(X))
    with pytest.raises(ValueError, match="y"):
        fitted(Y=Y + 1, skip=True, checkpoint=path)


def test_mapped_files_are_fitted_where_they_lie(tmp_path):
    for name, array in (("X", X), ("Y", Y)):
        np.save(tmp_path / f"{name}.npy", array)
    mapped = [np.load(tmp_path / f"{n}.npy", mmap_mode="r") for n in "XY"]
    model = fitted(X=mapped[0], Y=mapped[1], max_iter=60)
    assert model.score(X, Y) == pytest.approx(fitted(max_iter=60).score(X, Y), abs=0.05)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "Transcoder requires y to be passed, but the target y is None"),
        (Y[:5], "inconsistent numbers of samples: X has 600 rows and y 5"),
        (np.where(Y[3, 2] == Y, np.nan, Y), "Input y contains NaN"),
        (Y[:, :, None], "Found array with dim 3"),
    ],
)
def test_wrong_targets(y, message):
    with pytest.raises(ValueError, match=message):
        fitted(Y=y)


def test_parameters_that_change_nothing_are_named():
    with pytest.warns(UserWarning, match="Transcoder: alpha .* changes nothing"):
        fitted(alpha=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fitted()


@pytest.mark.parametrize(
    ("activation", "max_iter", "times", "times_of_autoencoder"),
    [
        ("topk", 1, 1.0, 1.0),
        ("topk", 5, 30 / 25, 30 / 25),
        ("topk", 10, 60 / 25, 1.5),
        ("topk", 20, 4.0, 1.5),
        ("batch_topk", 50, (2000 / 300) ** 0.5, 2**0.5),
        ("topk", 100, (2000 / 600) ** 0.5, 1.0),
        ("topk", 1000, 1.0, 1.0),
        ("relu", 1, 0.4, 0.4),
    ],
)
def test_the_rate_is_larger_in_short_runs_of_top_k(
    activation, max_iter, times, times_of_autoencoder
):
    k = {"k": 6} if "topk" in activation else {}
    model = Transcoder(
        1024, activation=activation, max_iter=max_iter, batch_size=100, **k
    )
    found = settings_of(model, 10, len(X), n_decoded=6).learning_rate
    assert found == pytest.approx(0.5e-2 * times)
    found = settings_of(model, 10, len(X)).learning_rate
    assert found == pytest.approx(0.5e-2 * times_of_autoencoder)
    # Of partial_fit, whose length is not known, it is not.
    found = settings_of(model, 10, None, n_decoded=6).learning_rate
    assert found == pytest.approx(min(times, 1.0) * 0.5e-2 / 2)


def test_what_diverges_is_named():
    with pytest.raises(ValueError, match="Transcoder diverged"):
        fitted(learning_rate_init=1e30)
