"""The baseline of a connection is its score on outputs whose rows are shuffled."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.metrics import f1_score, r2_score
from sklearn.utils import Bunch

from skfeat import FeatureConnector
from skfeat.language import find_connections, read_connection
from skfeat.language._shuffled import ReadRows, shuffled_scores
from tests.language.test_language_connections import planted


def connector_of(coef, intercept=0.0, link="relu"):
    connector = FeatureConnector(link=link)
    coef = np.atleast_2d(np.asarray(coef, dtype=float))
    fitted = Bunch(
        coef_=sparse.csr_array(coef),
        intercept_=np.full(len(coef), intercept),
        n_features_in_=coef.shape[1],
        _y_is_1d=False,
    )
    vars(connector).update(fitted)
    return connector


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1000),
    n_silent=st.sampled_from([0, 1, 30]),
    usual=st.sampled_from([0.0, 0.7]),
    has_r2=st.booleans(),
)
def test_as_whole_columns_that_are_permuted(seed, n_silent, usual, has_r2):
    rng = np.random.default_rng(seed)
    n, threshold = 40, 0.2
    readings = [rng.random(n) < 0.5, rng.random(n) < 0.3]
    y = np.where(rng.random(n) < 0.5, rng.random(n), usual)
    # Constant but for noise, so that some shuffles have an R2 above zero.
    predicted = y.mean() + 0.03 * rng.normal(size=n)
    if n_silent:
        y[-1], predicted[-1] = usual, 0.1
        readings = [np.append(reading[:-1], False) for reading in readings]
    rows = ReadRows(readings, y, predicted, n_silent, threshold)
    found = shuffled_scores(rows, has_r2, 5, np.random.default_rng(seed))
    moved = y[y != y[-1]]
    repeats = np.append(np.ones(n - 1, int), max(1, n_silent))
    y, predicted = np.repeat(y, repeats), np.repeat(predicted, repeats)
    readings = [np.repeat(reading, repeats) for reading in readings]
    again, scores, f1s = np.random.default_rng(seed), [], []
    for _ in range(5):
        shuffled = np.full(len(y), y[-1])
        shuffled[again.choice(len(y), len(moved), replace=False)] = moved
        np.testing.assert_array_equal(np.sort(shuffled), np.sort(y))
        f1, simpler = (
            f1_score(shuffled > threshold, reading, zero_division=0)
            for reading in readings
        )
        r2 = max(0, r2_score(shuffled, predicted)) if has_r2 else 1.0
        scores.append(f1 * max(0, f1 - simpler) * r2)
        f1s.append(f1)
    # Of five, the 95 % quantile is the largest.
    assert found == pytest.approx((max(scores), max(f1s)))


def test_planted_connections_stand_out():
    X, Y = planted(noise=0.02)
    connector = FeatureConnector(n_nonzero_coefs=[3, 2, 4, 2, 2, 3, 2, 1, 20])
    connector.fit(X, Y)
    kinds = ["or", "and-not", "single"]
    found = find_connections(connector, X, Y, kind=kinds, n=9)
    assert len(found) == 7
    for connection in found:
        assert connection.score > connection.score_shuffled == 0
        assert connection.f1 == connection.logic.f1 > 2 * connection.f1_shuffled > 0
        # The same as if it were read alone, and of any input.
        alone = read_connection(connector, connection.output, sparse.csr_array(X), Y)
        assert alone.f1_shuffled == connection.f1_shuffled
    others = find_connections(connector, X, Y, kind="or", random_state=1)
    by_seed = [[c.f1_shuffled for c in some] for some in (found[:3], others)]
    assert by_seed[0] != by_seed[1]
    none = find_connections(connector, X, Y, n_shuffles=0)
    assert all(np.isnan([c.score_shuffled, c.f1_shuffled]).all() for c in none)


def test_what_fires_often_is_often_predicted_by_chance():
    rng = np.random.default_rng(0)
    for rate, by_chance in ((0.02, 0.04), (0.4, 0.64)):  # as 1 - (1 - rate)^2
        X = (rng.random((20_000, 2)) < rate) * 1.0
        connector = connector_of([[1.0, 1.0]])
        found = read_connection(connector, 0, X, X.sum(axis=1, keepdims=True))
        assert found.f1 == 1.0
        assert found.f1_shuffled == pytest.approx(by_chance, abs=0.02)


def test_predictions_are_shuffled_too():
    X = np.random.default_rng(0).binomial(1, 0.1, (4000, 4)) * 1.0
    for intercept in (0.0, 0.1):  # with 0.1 it fires in every row, at threshold 0
        for threshold in (0.0, 0.5):
            connector = connector_of([[1.0, 1.0, 0, 0]], intercept)
            found = read_connection(connector, 0, X, threshold=threshold)
            assert np.isnan(found.r2)
            if intercept and not threshold:
                assert found.f1_shuffled == pytest.approx(found.f1)
            else:
                assert found.f1 == 1.0
                assert found.f1_shuffled == pytest.approx(0.19, abs=0.05)
                assert found.score > 5 * found.score_shuffled


def test_clear_errors():
    connector, X = connector_of([[1.0, 1.0]]), np.ones((5, 2))
    with pytest.raises(ValueError, match="n_shuffles must be an int of at least 0"):
        find_connections(connector, X, n_shuffles=-1)
    with pytest.raises(ValueError, match="n_shuffles must be an int of at least 0"):
        read_connection(connector, 0, X, n_shuffles=1.5)
    with pytest.raises(ValueError, match="cannot be used to seed"):
        find_connections(connector, X, random_state="a")
