"""Planted connections must be found, told apart and read as the slow reading does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import sparse
from sklearn.linear_model import LinearRegression
from sklearn.metrics import f1_score, r2_score
from sklearn.utils import Bunch

from skfeat import FeatureConnector
from skfeat.language import find_connections, read_connection


def planted(n=6000, seed=0, noise=0.0):
    """Outputs 0-2 are ORs, 3-5 AND-NOTs, 6 an AND, 7 a single one, 8 a mixture."""
    rng = np.random.RandomState(seed)
    X = (rng.rand(n, 40) < 0.06) * (1 + rng.rand(n, 40))
    # What is inhibited fires with what inhibits it: a part of it, as "said" in quotes.
    for whole, part in ((9, 10), (11, 12), (13, 14)):
        X[:, part] = (X[:, whole] > 0) * (rng.rand(n) < 0.4) * (1 + rng.rand(n))
    columns = [
        0.26 * X[:, 0] + 0.23 * X[:, 1] + 0.10 * X[:, 2],
        X[:, 3] + 0.8 * X[:, 4],
        X[:, 5] + X[:, 6] + X[:, 7] + 0.9 * X[:, 8],
        0.68 * X[:, 9] - 2 * X[:, 10],
        X[:, 11] - 3 * X[:, 12],
        X[:, 13] + X[:, 15] - 4 * X[:, 14],
        (X[:, 16] > 0) * (X[:, 16] + X[:, 17] - 2.0),
        X[:, 18],
        sum(0.15 * X[:, i] for i in range(20, 40)) - 0.5,
    ]
    Y = np.maximum(np.column_stack(columns), 0)
    return X, Y * (rng.rand(*Y.shape) >= noise)


@pytest.fixture(scope="module")
def fitted():
    X, Y = planted(noise=0.02)
    each = [3, 2, 4, 2, 2, 3, 2, 1, 20]
    return FeatureConnector(n_nonzero_coefs=each).fit(X, Y), X, Y


@pytest.mark.parametrize("store", [np.asarray, sparse.csr_array, sparse.csc_matrix])
def test_planted_connections_are_found_and_not_confused(fitted, store):
    connector, X, Y = fitted
    X, Y = store(X), store(Y)
    for kind, outputs in (("or", {0, 1, 2}), ("and-not", {3, 4, 5}), ("single", {7})):
        found = find_connections(connector, X, Y, kind=kind, n=9)
        assert {connection.output for connection in found} == outputs
        assert {connection.kind for connection in found} == {kind}
        scores = [connection.score for connection in found]
        assert scores == sorted(scores, reverse=True)
    both = find_connections(connector, X, Y, kind=["and-not", "or"], n=2)
    assert [connection.kind for connection in both] == ["and-not"] * 2 + ["or"] * 2
    indices = {entry["index"] for entry in both[-1].logic.inputs}
    assert indices in ({0, 1, 2}, {3, 4}, {5, 6, 7, 8})


def assert_same(found, expected):
    assert found.keys() - expected.keys() == set()
    for key, value in expected.items():
        if key == "inputs":
            for mine, theirs in zip(found[key], value, strict=True):
                assert_same(mine, theirs)
        elif isinstance(value, str):
            assert found[key] == value, key
        else:
            assert_allclose(found[key], value, rtol=1e-9, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("threshold", [0.0, 0.2])
@pytest.mark.parametrize("link", ["relu", "identity"])
@pytest.mark.parametrize("measured", [True, False])
def test_as_the_slow_reading(fitted, link, measured, threshold):
    connector, X, Y = fitted
    connector = Bunch(
        coef_=connector.coef_.astype(np.float64),
        intercept_=connector.intercept_ - 0.01 * (link == "relu"),
    )
    slow = FeatureConnector(link=link)
    vars(slow).update(connector, n_features_in_=40, _y_is_1d=False)
    for output in range(9):
        options = {"max_inputs": 5, "threshold": threshold}
        y = Y if measured else None
        expected = slow.logic(output, X, y, **options)
        found = read_connection(slow, output, sparse.csr_array(X), y, **options)
        assert_same(found.logic, expected)
        if measured:
            predicted = slow.predict(X)[:, output]
            assert found.r2 == pytest.approx(r2_score(Y[:, output], predicted))


@given(seed=st.integers(0, 1000), rate=st.sampled_from([0.02, 0.3, 0.97, 1.0]))
def test_as_the_slow_reading_however_often_inputs_fire(seed, rate):
    rng = np.random.RandomState(seed)
    n = rng.choice([5, 30, 300])
    X = (rng.rand(n, 5) < rate) * rng.randn(n, 5)
    Y = (rng.rand(n, 2) < 0.5) * (X @ rng.randn(5, 2) + 0.1)
    connector = FeatureConnector(link="identity")
    vars(connector).update(
        coef_=sparse.csr_array(rng.randn(2, 5) * (rng.rand(2, 5) < 0.7)),
        intercept_=rng.randn(2),
        n_features_in_=5,
        _y_is_1d=False,
    )
    for output in range(2):
        for y in (Y, None):
            found = read_connection(connector, output, X, y, max_inputs=3)
            assert_same(found.logic, connector.logic(output, X, y, max_inputs=3))


def test_quality_of_a_reading(fitted):
    connector, X, Y = fitted
    on, fired = X > 0, Y > 0
    found = read_connection(connector, 0, X, Y)
    assert found.logic.f1 == pytest.approx(f1_score(fired[:, 0], on[:, :3].any(axis=1)))
    single = max(f1_score(fired[:, 0], on[:, i]) for i in range(3))
    assert found.logic.f1_simpler == pytest.approx(single)
    assert found.score == pytest.approx(
        found.logic.f1 * (found.logic.f1 - single) * found.r2
    )
    logic = read_connection(connector, 3, X, Y).logic
    reading = on[:, 9] & ~on[:, 10]
    assert logic.precision == pytest.approx(fired[reading, 3].mean())
    assert logic.recall == pytest.approx(reading[fired[:, 3]].mean())
    assert logic.f1_simpler == pytest.approx(f1_score(fired[:, 3], on[:, 9]))


def test_names_and_prediction(fitted):
    connector, X, _ = fitted
    names = [f"IF_{i}" for i in range(40)]
    outputs = [f"OF_{i}" for i in range(9)]
    found = find_connections(
        *(connector, X),
        kind="and-not",
        n=9,
        threshold=0.1,
        feature_names=names,
        output_names=outputs,
    )
    assert {connection.output for connection in found} == {3, 4, 5}
    assert all(np.isnan(connection.r2) for connection in found)
    three = next(connection for connection in found if connection.output == 3)
    assert three.formula.startswith("OF_3 = -1.")
    assert "IF_9 AND NOT" in three.logic.formula
    assert three.logic.text.startswith("OF_3: and-not")


def test_rare_outputs_are_left_out(fitted):
    connector, X, Y = fitted
    n_firings = (Y > 0).sum(axis=0)
    limit = int(np.sort(n_firings[:3])[1])
    found = find_connections(connector, X, Y, n=9, min_firings=limit)
    expected = set(np.flatnonzero(n_firings[:3] >= limit))
    assert {connection.output for connection in found} == expected


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "xor"}, "kind must be one or several of 'or'"),
        ({"kind": None}, "kind must be one or several of .* Got None instead"),
        ({"kind": 3}, "kind must be one or several of .* Got 3 instead"),
        ({"kind": []}, "kind must be one or several of 'or'"),
        ({"n": 0}, "n must be an int of at least 1"),
        ({"min_firings": -1}, "min_firings must be an int of at least 0"),
        ({"max_inputs": 0}, "max_inputs must be None or an int"),
        ({"threshold": -1.0}, "threshold must be a finite number"),
        ({"X": np.zeros((4, 39))}, "X must have 40 columns"),
        ({"X": np.zeros(4)}, "X must be a 2-D array or sparse matrix"),
        ({"X": np.full((4, 40), np.nan), "Y": None}, "X must be finite"),
        ({"X": np.zeros((0, 40)), "Y": None}, "X must have at least one row"),
        ({"Y": np.zeros((4, 9))}, "Y must have 6000 rows"),
        ({"Y": np.zeros((6000, 8))}, "Y must have 9 columns"),
        ({"feature_names": ["a"]}, "feature_names must name the 40 inputs"),
        ({"output_names": ["a"]}, "output_names must name the 9 outputs"),
    ],
)
def test_clear_errors(fitted, changed, message):
    connector, X, Y = fitted
    with pytest.raises(ValueError, match=message):
        find_connections(**({"connector": connector, "X": X, "Y": Y} | changed))


def test_only_connectors_have_connections(fitted):
    _, X, Y = fitted
    with pytest.raises(TypeError, match="connector must be a FeatureConnector"):
        find_connections(LinearRegression().fit(X, Y), X, Y)
