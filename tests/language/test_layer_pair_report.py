"""The report of a layer pair against scikit-learn's scores, and the nonlinear map."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import r2_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from skfeat import FeatureConnector
from skfeat.language import MLPConnector, PairReport
from skfeat.metrics import explained_variance, l0, n_dead, paired_noise
from skfeat.metrics._reconstruction import r2_of_sums
from skfeat.testing import expected_failed_checks
from tests.language.test_layer_pair import fitted, rows


def small_mlp(**params):
    params = {"max_iter": 30, "batch_size": 32, "random_state": 0} | params
    return MLPConnector(8, **params)


@pytest.fixture(scope="module")
def pair():
    return fitted(nonlinear_connector=small_mlp())


@pytest.fixture(scope="module")
def report(pair):
    return pair.report(*rows(seed=1))


def test_columns_are_those_of_each_feature(pair, report):
    X, Y = rows(seed=1)
    F2 = pair.output_features(Y).toarray().astype(np.float64)
    np.testing.assert_array_equal(report.feature, pair.live_outputs_)
    np.testing.assert_allclose(report.firing_rate, (F2 > 0).mean(axis=0))
    coef = pair.connector_.coef_.toarray()
    np.testing.assert_array_equal(report.n_weights, np.count_nonzero(coef, axis=1))
    errors = {}
    for name in ("sparse", "dense", "nonlinear"):
        found = pair.predict_features(X, name)
        expected = r2_score(F2, found, multioutput="raw_values")
        np.testing.assert_allclose(report[f"r2_{name}"], expected, atol=1e-5)
        errors[name] = np.square(F2 - found).mean(axis=0)
        pooled = r2_score(F2, found, multioutput="variance_weighted")
        assert report.totals[f"r2_{name}"] == pytest.approx(pooled, abs=1e-5)
        assert report.totals[f"mean_r2_{name}"] == pytest.approx(
            expected.mean(), abs=1e-5
        )
        decoded = explained_variance(Y, pair.predict(X, name))
        assert report.totals[f"r2_rows_{name}"] == pytest.approx(decoded, abs=1e-5)
    norm = np.linalg.norm(F2, axis=1).mean()
    gap = (errors["dense"] - errors["nonlinear"]) * (4.25 / norm) ** 2
    np.testing.assert_allclose(report.linear_gap, gap, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(report.is_linear, report.linear_gap <= 1e-3)
    assert report.totals.linear_share == report.is_linear.mean() < 1


def test_totals_are_those_of_the_parts(pair, report):
    totals = report.totals
    for side, part, own in zip(
        ("inputs", "outputs"),
        (pair.input_autoencoder_, pair.output_autoencoder_),
        rows(seed=1),
        strict=True,
    ):
        codes = part.transform(own)
        live = getattr(pair, f"live_{side}_")
        assert totals[f"n_live_{side}"] == len(live)
        assert totals[f"n_dropped_{side}"] == codes.shape[1] - len(live)
        assert totals[f"l0_{side}"] == pytest.approx(l0(codes))
        assert totals[f"dead_{side}"] == n_dead(codes) / codes.shape[1]
        assert totals[f"explained_variance_{side}"] == pytest.approx(part.score(own))
    n_outputs = len(pair.live_outputs_)
    assert totals.weights_per_output == pair.connector_.coef_.nnz / n_outputs
    assert totals.n_rows == 600


def test_it_is_a_table(report):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(report)
    assert len(frame) == len(report.feature)
    assert set(frame) == set(report)
    lines = str(report).splitlines()
    assert lines[0].startswith("input: ")
    title = next(i for i, line in enumerate(lines) if "R2 sparse" in line)
    shown = [line for line in lines[title + 1 :] if line.startswith("OF_")]
    assert len(shown) == len(report.feature)
    assert max(map(len, lines)) <= 100
    assert lines[title].split() == [
        *("feature", "fires", "weights", "R2", "sparse", "R2", "dense"),
        *("R2", "MLP", "gap"),
    ]
    first = report.feature[np.argmax(report.firing_rate)]
    assert lines[title + 1].split()[0] == f"OF_{first}"
    for other in (pickle.loads(pickle.dumps(report)), copy.copy(report)):
        assert isinstance(other, PairReport)
        assert other.totals == report.totals
        np.testing.assert_array_equal(other.r2_sparse, report.r2_sparse)


def test_without_a_nonlinear_map(pair):
    other = clone(pair).set_params(nonlinear_connector=None)
    X, Y = rows()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        report = other.fit(X, Y).report(X, Y)
    assert np.isnan(report.linear_gap).all()
    assert not report.is_linear.any()
    assert "linear_share" not in report.totals
    assert "R2 MLP" not in str(report)
    assert "sparse: R2" in str(report)


def test_what_no_map_predicts_better_is_linear():
    linear = FeatureConnector(alpha=0.0, link="identity", fit_intercept=False)
    report = fitted(nonlinear_connector=linear).report(*rows(seed=1))
    np.testing.assert_allclose(report.linear_gap, 0, atol=1e-4)
    assert report.is_linear.all()
    assert report.totals.linear_share == 1


def test_features_that_never_fire_have_no_r2(pair):
    X, Y = rows(seed=1)
    F2 = pair.output_features(Y).toarray()
    quiet = F2[:, 0] == 0
    report = pair.report(X[quiet], Y[quiet])
    assert np.isnan(report.r2_sparse[0])
    assert np.isfinite(report.totals.mean_r2_sparse)
    assert report.firing_rate[0] == 0
    assert "inf" not in str(report)


def test_rows_must_go_together(pair):
    X, Y = rows()
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        pair.report(X[:-1], Y)


def test_a_hidden_layer_learns_what_is_not_linear():
    rng = np.random.default_rng(0)
    X = rng.exponential(size=(2000, 3))
    y = np.column_stack([np.maximum(X[:, 0] - X[:, 1], 0), X @ [1.0, -2.0, 0.5]])
    model = MLPConnector(16, max_iter=60, batch_size=128, random_state=0)
    model.fit(X[:1000], y[:1000])
    scores = r2_score(y[1000:], model.predict(X[1000:]), multioutput="raw_values")
    linear = X[:1000] @ np.linalg.lstsq(X[:1000], y[:1000], rcond=None)[0]
    assert r2_score(y[:1000, 0], linear[:, 0]) < 0.85
    assert (scores > 0.97).all()
    assert model.validation_scores_[0] < max(model.validation_scores_)
    again = clone(model).fit(X[:1000], y[:1000])
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_the_linear_map_is_kept_where_nothing_is_better():
    rng = np.random.default_rng(0)
    X = rng.exponential(size=(500, 3))
    y = X @ [[1.0], [2.0], [3.0]] + 4
    model = small_mlp(max_iter=2, learning_rate_init=10.0).fit(X, y)
    np.testing.assert_allclose(model.predict(X), y, atol=1e-3)
    assert not model.output_coef_.any()


def test_predictions_are_those_of_the_formula(pair):
    model = pair.nonlinear_connector_
    F1 = pair.input_features(rows()[0])
    hidden = np.maximum(
        F1.toarray() @ model.hidden_coef_.T + model.hidden_intercept_, 0
    )
    expected = F1.toarray() @ model.coef_.T + hidden @ model.output_coef_.T
    np.testing.assert_allclose(
        model.predict(F1), expected + model.intercept_, atol=1e-5
    )


@pytest.mark.parametrize("fraction", [1e-3, 0.99])
def test_two_rows_or_more_are_held_out(fraction):
    X = np.arange(12.0).reshape(6, 2) ** 2
    model = small_mlp(validation_fraction=fraction).fit(X, X)
    assert model.validation_scores_[0] > 0.9
    assert np.isnan(small_mlp().fit(X, np.ones(6)).validation_scores_).all()
    with pytest.raises(ValueError, match="a minimum of 3 is required by MLPConnector"):
        model.fit(X[:2], X[:2])


def test_a_step_too_long_is_said():
    X, Y = rows()
    with pytest.raises(ValueError, match="lower 'learning_rate_init'"):
        small_mlp(learning_rate_init=1e30).fit(X, Y)


@parametrize_with_checks(
    [MLPConnector(4, max_iter=30, random_state=0)],
    expected_failed_checks=expected_failed_checks,
    xfail_strict=True,
)
def test_check_estimator(estimator, check):
    check(estimator)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 30, 2000])
def test_rows_that_do_not_vary_have_no_r2(pair, n, dtype):
    # Odd numbers of rows are multiplied by other kernels, which round otherwise.
    X, Y = (np.repeat(part[:1], n, axis=0).astype(dtype) for part in rows(seed=1))
    report = pair.report(X + 100, Y)
    for name in ("sparse", "dense", "nonlinear"):
        assert np.isnan(report[f"r2_{name}"]).all()
        for total in ("r2", "mean_r2", "r2_rows"):
            assert np.isnan(report.totals[f"{total}_{name}"])
    assert np.isnan(report.totals.explained_variance_outputs)
    assert "sparse: R2 nan of all features together, of one nan" in str(report)
    assert "of the decoded rows nan" in str(report)


def test_features_that_vary_a_little_have_an_r2(pair):
    X, Y = rows(seed=1)
    few = np.concatenate([np.repeat(Y[:1], 500, axis=0), Y[1:3]])
    report = pair.report(X[: len(few)], few)
    codes = pair.output_features(few).toarray().astype(np.float64)
    spread = np.square(codes - codes.mean(axis=0)).sum(axis=0)
    np.testing.assert_array_equal(np.isnan(report.r2_sparse), spread < 1e-9)
    assert report.totals.mean_r2_sparse == report.r2_sparse[spread > 1e-9].mean()


def test_features_that_vary_in_few_rows_are_flagged(pair, report):
    X, Y = rows(seed=1)
    F2 = pair.output_features(Y).toarray().astype(np.float64)
    squares = np.square(F2 - F2.mean(axis=0))
    np.testing.assert_allclose(report.variance, squares.mean(axis=0), rtol=1e-6)
    noise = [paired_noise(column) for column in squares.T]
    np.testing.assert_allclose(report.variance_noise, noise, rtol=1e-6)
    assert not report.is_within_noise.any()
    assert "noise" not in str(report)
    quiet, often = np.flatnonzero(F2[:, 0] == 0), np.flatnonzero(F2[:, 0])[:3]
    few = np.concatenate([quiet, often])
    flagged = pair.report(X[few], Y[few])
    assert flagged.is_within_noise[0]
    assert np.isfinite(flagged.r2_sparse[0])
    others = flagged.r2_sparse[~flagged.is_within_noise].mean()
    n = flagged.is_within_noise.sum()
    line = f"R2 within noise: {n} features, which vary in too few rows; without them "
    assert f"{line}R2 of one on average: sparse {others:.4g}, dense " in (
        " ".join(str(flagged).split())
    )
    rows_of_table = map(str.split, str(flagged).splitlines())
    name = f"OF_{flagged.feature[0]}"
    cells = next(row for row in rows_of_table if row[0] == name)
    assert cells[3:6] == ["noise"] * 3


def test_one_r2_has_no_value_where_nothing_varies():
    found = r2_of_sums(np.array([0.0, 1.0, 1.0]), np.array([0.0, 0.0, 4.0]))
    np.testing.assert_array_equal(found, [np.nan, np.nan, 0.75])
    assert np.isnan(r2_of_sums(0.0, 0.0))
