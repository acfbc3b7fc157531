"""How inputs combine: rules that are planted must be read off the data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.testing import assert_allclose, assert_equal
from scipy import sparse
from scipy.special import expit

from skfeat import FeatureConnector


def firing(k=4, rate=0.2, n=2000, seed=0):
    """Inputs that fire independently of each other, with activations from 1 to 2."""
    rng = np.random.RandomState(seed)
    return (rng.rand(n, k) < rate) * (1 + rng.rand(n, k))


def connector(coef, intercept, link="relu"):
    """A connector of these weights, fitted to nothing."""
    made = FeatureConnector(link=link)
    made.coef_, made.n_features_in_ = sparse.csr_array(coef), np.shape(coef)[1]
    made.intercept_ = np.asarray(intercept)
    return made


def read(weights, X, y=None, *, intercept=0.0, link="relu", **options):
    fitted = connector(np.array([weights], dtype=X.dtype), [intercept], link)
    return fitted.logic(options.pop("output", 0), X, y, **options)


def roles(logic):
    return {entry["index"]: entry["role"] for entry in logic.inputs}


# Planted rules


def test_or():
    logic = read([0.26, 0.23, 0.1, 0.0], firing())
    assert logic.kind == "or"
    assert logic.formula == "0.26*F1_0 OR 0.23*F1_1 OR 0.10*F1_2"
    assert set(roles(logic).values()) == {"suffices"}
    assert logic.coverage == 1.0
    assert logic.rate_without_inputs == 0.0


def test_or_with_an_input_that_only_takes_a_little_away():
    logic = read([1.0, 0.8, -0.1, 0.0], firing())
    assert logic.kind == "or"
    assert logic.formula == "1.00*F1_0 OR 0.80*F1_1"
    assert roles(logic)[2] == "weak"


def test_and():
    logic = read([1.0, 0.9, 0.0, 0.0], firing(), intercept=-2.1)
    assert logic.kind == "and"
    assert logic.formula == "1.00*F1_0 AND 0.90*F1_1"
    assert roles(logic) == {0: "in a pair", 1: "in a pair"}


def test_and_of_any_two():
    logic = read([1.2, 1.1, 1.0, 0.0], firing(), intercept=-2.4)
    assert logic.kind == "and"
    assert logic.formula == (
        "(1.20*F1_0 AND 1.10*F1_1) OR (1.20*F1_0 AND 1.00*F1_2) OR "
        "(1.10*F1_1 AND 1.00*F1_2)"
    )


def test_and_not():
    logic = read([0.68, 0.0, 0.0, -2.0], firing())
    assert logic.kind == "and-not"
    assert logic.formula == "0.68*F1_0 AND NOT 2.00*F1_3"
    assert roles(logic) == {0: "suffices", 3: "inhibits"}


def test_one_inhibitor_of_several_inputs_and_several_of_one():
    logic = read([1.0, 0.9, 0.0, -4.0], firing())
    assert logic.formula == "(1.00*F1_0 OR 0.90*F1_1) AND NOT 4.00*F1_3"
    logic = read([1.0, 0.0, -3.0, -4.0], firing())
    assert logic.formula == "1.00*F1_0 AND NOT 4.00*F1_3 AND NOT 3.00*F1_2"


def test_inhibitors_that_only_fire_together_inhibit_together():
    X = firing()
    X[:, 3] = X[:, 2]
    logic = read([1.0, 0.0, -1.5, -1.0], X)
    assert logic.formula == "1.00*F1_0 AND NOT 1.50*F1_2 AND NOT 1.00*F1_3"


def test_what_fires_mostly_with_an_inhibitor_is_not_taken_for_one():
    X = firing()
    X[:, 3] = X[:, 2] * (firing(1, 0.8, seed=1)[:, 0] > 0) + 0.5 * firing(1, 0.1)[:, 0]
    logic = read([1.0, 0.0, -4.0, -0.01], X)
    assert logic.formula == "1.00*F1_0 AND NOT 4.00*F1_2"
    assert roles(logic)[3] == "weak"


def test_what_fires_with_insufficient_inputs_is_not_taken_for_an_inhibitor():
    X = firing()
    X[:, 2] = X[:, 1] * (X[:, 0] == 0)
    logic = read([1.0, 0.5, -0.01, 0.0], X, intercept=-0.99, threshold=0.005)
    assert roles(logic)[1] == "weak"
    assert logic.kind == "single"


def test_single():
    logic = read([2.0, 0.1, 0.0, -0.1], firing(), intercept=-0.5)
    assert logic.kind == "single"
    assert logic.formula == "2.00*F1_0"
    assert roles(logic) == {0: "suffices", 1: "weak", 3: "weak"}


def test_none():
    X = firing()
    assert read([0.0] * 4, X).kind == "none"
    assert read([0.0] * 4, X).formula == "0"
    assert read([0.0] * 4, X, intercept=1.0).kind == "none"
    assert read([1.0, 1.0, 0.0, 0.0], X, intercept=-9.0).kind == "none"
    assert read([1.0, 1.0, 0.0, 0.0], X * 0, intercept=1.0).kind == "none"
    logic = read([1.0, -0.5, 0.0, 0.0], X, np.zeros(len(X)))
    assert (logic.kind, logic.formula) == ("none", "1.00*F1_0 - 0.50*F1_1")


def test_mixed():
    X = firing(rate=0.4)
    # Three are needed; a pair that is inhibited; pairs that are but a small part.
    assert read([1.0, 1.0, 1.0, 0.0], X, intercept=-4.1).kind == "mixed"
    assert read([1.0, 1.0, 0.0, -9.0], X, intercept=-2.0).kind == "mixed"
    y = (X[:, 0] > 0) & (X[:, 1] > 0) & (np.arange(len(X)) % 50 == 0)
    assert read([1.0, 1.0, 0.0, 0.0], X, y).kind == "mixed"


def test_an_output_that_fires_anyway_needs_no_input():
    logic = read([1.0, 1.0, 0.0, 0.0], firing(), intercept=1.0)
    assert logic.kind == "mixed"
    assert logic.rate_without_inputs == 1.0
    assert set(roles(logic).values()) == {"weak"}
    # Inputs that always fire leave no rows to tell.
    logic = read([1.0, 1.0, 0.0, 0.0], firing(rate=1.0))
    assert logic.kind == "mixed"
    assert set(roles(logic).values()) == {"undetermined"}


def test_a_reading_that_misses_most_firings_is_none():
    X = firing(2, 0.5)
    X[20:, 0] = 0
    alone = (X[:, 0] > 0) & (X[:, 1] == 0)
    rng = np.random.RandomState(0)
    y = np.where(X[:, 1] > 0, rng.rand(len(X)) < 0.3, alone)
    X[20:40, 0], y[20:40] = 1, 1
    X[20:40, 1] = 0
    logic = read([1.0, 1.0], X, y)
    assert roles(logic) == {0: "suffices", 1: "weak"}
    assert logic.coverage < 0.5
    assert logic.kind == "mixed"


# What the data cannot tell


def test_inputs_that_always_fire_together_are_not_told_apart():
    X = firing()
    X[:, 1] = 0.9 * X[:, 0]
    for intercept in (0.0, -1.0):
        logic = read([1.0, 1.0, 0.0, 0.0], X, intercept=intercept)
        assert logic.kind == "mixed"
        assert set(roles(logic).values()) == {"undetermined"}
        assert logic.formula == "1.00*F1_0 + 1.00*F1_1"


def test_inputs_that_mostly_fire_together_are_told_apart():
    X = firing()
    X[:200, 1] = X[:200, 0]
    together = (X[:, 0] > 0) & (firing(1, 0.9, seed=1)[:, 0] > 0)
    X[together, 1] = 1
    assert read([1.0, 1.0, 0.0, 0.0], X).kind == "or"
    assert read([1.0, 1.0, 0.0, 0.0], X, intercept=-2.01).kind != "or"


def test_an_inhibitor_that_never_meets_its_inputs():
    X = firing()
    X[X[:, 0] > 0, 3] = 0
    logic = read([1.0, 0.0, 0.0, -9.0], X)
    assert logic.kind == "single"
    assert roles(logic)[3] == "undetermined"
    assert logic.inputs[0]["index"] == 3
    assert logic.inputs[0]["n_with"] == 0
    assert np.isnan(logic.inputs[0]["output_rate_with"])


def test_an_inhibitor_in_too_few_rows():
    X = firing(rate=0.5)
    X[:, 3] = 0
    X[np.flatnonzero(X[:, 0])[:19], 3] = 1
    assert read([1.0, 0.0, 0.0, -9.0], X).kind == "single"
    X[np.flatnonzero(X[:, 0])[:20], 3] = 1
    assert read([1.0, 0.0, 0.0, -9.0], X).kind == "and-not"


def test_inputs_that_are_never_alone_are_judged_where_they_outweigh_the_others():
    X = firing(4, 0.6)
    X[:, 2:] = np.random.RandomState(1).uniform(0.01, 1, (len(X), 2))
    logic = read([1.0, 1.0, 0.1, -0.1], X, intercept=-0.1)
    assert logic.kind == "or"
    assert logic.n_without_inputs == 0
    first = logic.inputs[0]
    assert (first["n_alone"], first["role"]) == (0, "suffices")
    assert first["n_dominant"] >= 10
    assert first["output_rate_dominant"] == 1.0
    assert f"~{first['n_dominant']}" in logic.text
    anyway = read([1.0, 1.0, 0.1, -0.1], X, intercept=1.0)
    assert anyway.kind == "mixed"
    assert (roles(anyway)[0], roles(anyway)[1]) == ("weak", "weak")


# The evidence


def slow_evidence(weights, X, y, i, threshold):
    """Rates of the output and their rows, counted row by row."""
    cases = {"firing": [], "alone": [], "dominant": []}
    for x, output in zip(X, y, strict=True):
        if x[i] <= threshold:
            continue
        others = [j for j in np.flatnonzero(weights) if j != i]
        cases["firing"].append(output > threshold)
        if not any(x[j] > threshold for j in others):
            cases["alone"].append(output > threshold)
        if weights[i] * x[i] >= 4 * sum(abs(weights[j] * x[j]) for j in others):
            cases["dominant"].append(output > threshold)
    return cases


@pytest.mark.parametrize("threshold", [0.0, 1.25])
def test_evidence_is_what_counting_gives(threshold):
    weights, X = np.array([1.0, 0.5, 0.1, -1.5]), firing(rate=0.4)
    y = np.random.RandomState(3).rand(len(X)) * 2
    logic = read(weights, X, y, threshold=threshold)
    assert sorted(roles(logic)) == [0, 1, 2, 3]
    for entry in logic.inputs:
        i = entry["index"]
        on = X[:, i] > threshold
        cases = slow_evidence(weights, X, y, i, threshold)
        for case, fired in cases.items():
            assert entry[f"n_{case}"] == len(fired)
            if fired:
                assert_allclose(entry[f"output_rate_{case}"], np.mean(fired))
        assert_allclose(entry["firing_rate"], on.mean())
        assert_allclose(entry["mean_contribution"], weights[i] * X[on, i].mean())
        assert_allclose(entry["mean_output"], y[on].mean())
    silent = ~(threshold < X).any(axis=1)
    assert logic.n_without_inputs == silent.sum()
    assert_allclose(logic.rate_without_inputs, (y[silent] > threshold).mean())
    assert_allclose(logic.output_rate, (y > threshold).mean())


def test_with_and_without_an_inhibitor():
    X = firing()
    y = np.where(X[:, 3] > 0, 0.0, X[:, 0])
    entry = read([1.0, 0.0, 0.0, -2.0], X, y).inputs[0]
    on = X[:, 0] > 0
    assert entry["index"] == 3
    assert entry["output_rate_with"] == 0.0
    assert entry["n_with"] == (on & (X[:, 3] > 0)).sum()
    assert entry["output_rate_without"] == 1.0
    assert entry["n_without"] == (on & (X[:, 3] == 0)).sum()


def test_strongest_first_by_weight_and_activation():
    X = firing() * [1.0, 100.0, 0.01, 1.0]
    logic = read([1.0, 0.5, 50.0, -0.8], X)
    assert [entry["index"] for entry in logic.inputs] == [1, 0, 3, 2]
    few = read([1.0, 0.5, 50.0, -0.8], X, max_inputs=np.int64(2))
    assert [entry["index"] for entry in few.inputs] == [1, 0]
    every = read(np.ones(20), firing(20), max_inputs=None)
    assert len(every.inputs) == 20
    assert len(read(np.ones(20), firing(20)).inputs) == 8


def test_names_and_table():
    names = ["old", "a very long name " * 9, "new\nline", "former"]
    logic = read([1.0, 0.9, 0.0, -9.0], firing(), feature_names=np.array(names))
    assert [entry["name"] for entry in logic.inputs] == ["former", "old", names[1]]
    assert logic.formula.startswith("(1.00*old OR 0.90*a very")
    lines = logic.text.splitlines()
    assert max(map(len, lines)) <= 100
    assert str(logic).startswith(f"{logic.text}\nfires: share of the rows")
    assert lines[0].startswith("F2_0: and-not: (1.00*old OR")
    assert lines[-3].split()[-2:] == ["inhibits", "former"]


def test_text_of_rows_in_which_something_always_fires():
    assert "nan" not in read([1.0, 0, 0, 0], firing(rate=1.0)).text


def test_makes_a_data_frame():
    pandas = pytest.importorskip("pandas")
    logic = read([1.0, 0.9, 0.0, -9.0], firing())
    frame = logic.to_frame()
    pandas.testing.assert_frame_equal(frame, pandas.DataFrame(logic.inputs))
    assert read([0.0] * 4, firing()).to_frame().empty
    assert frame.shape == (3, 17)
    assert frame["n_with"].dtype.kind == "i"
    assert frame["index"].tolist() == [3, 0, 1]


# What y and X may be


def test_y_in_every_form():
    X = firing()
    Y = np.maximum(X @ np.random.RandomState(0).randn(4, 3), 0)
    coef = sparse.csr_array(np.array([[1.0, 0, 0, 0], [1, 1, 0, -1], [0, 0, 1, 1]]))
    fitted = connector(coef, np.zeros(3))
    expected = fitted.logic(1, X, Y[:, 1])
    for y in (Y, Y.tolist(), sparse.csc_array(Y), sparse.csr_matrix(Y), Y[:, 1] > 0):
        logic = fitted.logic(1, X, y)
        assert logic.kind == expected.kind
        assert logic.text == expected.text
    assert fitted.logic(1, X, Y).output_rate == (Y[:, 1] > 0).mean()


@pytest.mark.parametrize("link", ["relu", "identity"])
def test_without_y_the_connector_predicts(link):
    X, weights = firing(), np.array([1.0, 0.5, 0.0, -2.0])
    y = X @ weights - 0.3
    y = np.maximum(y, 0) if link == "relu" else y
    predicted = read(weights, X, intercept=-0.3, link=link)
    given_y = read(weights, X, y, intercept=9.0, link=link)
    for one, other in zip(predicted.inputs, given_y.inputs, strict=True):
        assert_equal(one | {"mean_output": 0}, other | {"mean_output": 0})
        assert_allclose(one["mean_output"], other["mean_output"])


@pytest.mark.parametrize("make", [sparse.csr_array, sparse.csr_matrix])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sparse_is_dense(make, dtype):
    X = firing(30, n=5000).astype(dtype)
    weights = np.random.RandomState(0).randn(30)
    dense, compressed = read(weights, X), read(weights, make(X))
    assert dense.text == compressed.text
    for one, other in zip(dense.inputs, compressed.inputs, strict=True):
        for key in ("mean_output", "mean_contribution"):
            assert_allclose(other.pop(key), one.pop(key), rtol=1e-5)
        assert_equal(other, one)


def test_leaves_sparse_rows_sparse(monkeypatch):
    X = sparse.csr_array(firing(30))
    sizes = []
    real = sparse.csr_array.toarray
    monkeypatch.setattr(
        sparse.csr_array,
        "toarray",
        lambda self, *args: sizes.append(self.shape) or real(self, *args),
    )
    read(np.ones(30), X, max_inputs=3)
    assert sorted(sizes) == [(1, 30), (2000, 3)]


# Properties


@st.composite
def problems(draw):
    n, k = draw(st.integers(1, 60)), draw(st.integers(1, 5))
    values = st.sampled_from([0.0, 0.0, 0.25, 1.0, 1.5, 3.0])
    X = draw(arrays.arrays(float, (n, k), elements=values))
    weights = draw(st.lists(st.sampled_from([-2.0, -0.5, 0, 1, 1.5]), min_size=k))
    y = draw(st.none() | arrays.arrays(float, n, elements=values))
    return np.array(weights[:k]), X, y


@given(problems(), st.sampled_from([0.0, 0.5, 1.0]), st.floats(-2, 1))
def test_rates_are_rates_and_counts_add_up(problem, threshold, intercept):
    weights, X, y = problem
    logic = read(weights, X, y, threshold=threshold, intercept=intercept)
    n_alone = sum(entry["n_alone"] for entry in logic.inputs)
    assert n_alone + logic.n_without_inputs <= logic.n_rows == len(X)
    kinds = ("or", "and-not", "and", "single", "mixed", "none")
    assert logic.kind in kinds
    assert np.isnan(logic.coverage) or 0 <= logic.coverage <= 1
    if logic.kind in kinds[:4]:
        assert logic.coverage >= 0.5
    assert 0 <= logic.output_rate <= 1
    for entry in logic.inputs:
        for case in ("firing", "alone", "dominant", "with", "without"):
            rate, n = entry[f"output_rate_{case}"], entry[f"n_{case}"]
            assert np.isnan(rate) if n == 0 else 0 <= rate <= 1
        assert_allclose(entry["firing_rate"] * len(X), entry["n_firing"])
        assert max(entry["n_alone"], entry["n_dominant"]) <= entry["n_firing"]
        assert entry["n_with"] <= entry["n_firing"]
        assert entry["n_without"] <= len(X) - entry["n_firing"]
    assert max(map(len, str(logic).splitlines())) <= 100


@given(problems(), st.integers(-20, 20), st.floats(-2, 1))
def test_the_unit_of_the_inputs_does_not_matter(problem, exponent, intercept):
    weights, X, y = problem
    scale = 2.0**exponent  # exact, so that no firing hangs on rounding
    logic = read(weights, X, y, intercept=intercept)
    other = read(weights / scale, X * scale, y, intercept=intercept)
    assert other.kind == logic.kind
    assert roles(other) == roles(logic)


@given(st.integers(0, 2**31 - 1), st.floats(1e-3, 1e3))
def test_nor_does_that_of_each_input(seed, scale):
    rng = np.random.RandomState(seed)
    scales = scale ** rng.uniform(-1, 1, 4)
    X, weights = firing(rate=0.4, n=300, seed=seed), rng.randn(4)
    y = np.maximum(X @ weights - 1, 0)
    logic, other = read(weights, X, y), read(weights / scales, X * scales, y)
    assert other.kind == logic.kind


@given(st.integers(0, 2**31 - 1))
def test_nor_does_the_order_of_rows_or_inputs(seed):
    rng = np.random.RandomState(seed)
    X, weights = firing(rate=0.4, n=300, seed=seed), rng.randn(4)
    y = rng.rand(300) < expit(X @ weights)
    rows, inputs = rng.permutation(300), rng.permutation(4)
    other = read(weights[inputs], X[rows][:, inputs], y[rows])
    assert other.kind == read(weights, X, y).kind


# Refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output": 1}, "output must be 0 or 'F2_0'. Got 1 instead"),
        ({"output": True}, "output must be 0"),
        ({"output": 0.0}, "output must be 0"),
        ({"max_inputs": 0}, "max_inputs must be None or an int of at least 1. Got 0"),
        ({"max_inputs": True}, "max_inputs must be None or an int of at least 1"),
        ({"max_inputs": 2.5}, "max_inputs must be None or an int of at least 1"),
        (
            {"threshold": -0.1},
            "threshold must be a finite number of at least 0. Got -0",
        ),
        ({"threshold": np.nan}, "threshold must be a finite number"),
        ({"threshold": np.inf}, "threshold must be a finite number"),
        (
            {"threshold": "0"},
            "threshold must be a finite number of at least 0. Got '0'",
        ),
        ({"threshold": None}, "threshold must be a finite number"),
        ({"threshold": True}, "threshold must be a finite number"),
        ({"feature_names": 3}, "feature_names must be .* of 4 strings. Got 3 instead"),
        ({"feature_names": "abcd"}, "feature_names must be None or a sequence"),
        ({"feature_names": [0, 1, 2, 3]}, "feature_names must be None or a sequence"),
        (
            {"feature_names": dict.fromkeys("abcd")},
            "feature_names must be None or a se",
        ),
        ({"feature_names": ["a"]}, "feature_names must name the 4 inputs. Got 1 names"),
        ({"y": np.zeros(7)}, r"y must have shape \(2000,\).*Got shape \(7,\) instead"),
        ({"y": np.zeros((2000, 2))}, r"y must have .*Got shape \(2000, 2\) instead"),
        ({"y": sparse.csr_array((2000, 2))}, r"y must have .*Got shape \(2000, 2\)"),
        ({"y": 1.0}, r"y must have .*Got shape \(\) instead"),
        ({"y": np.full(2000, np.nan)}, "y contains NaN"),
        ({"y": ["a"] * 2000}, "y must|could not convert|dtype='numeric'"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        read([1.0, 0.5, 0.0, -1.0], firing(), **arguments)


@pytest.mark.parametrize("names", [3, "ab", [1, 2], {"a", "b"}, np.array("ab")])
def test_a_formula_refuses_the_same_names(names):
    with pytest.raises(ValueError, match="feature_names must be None or a sequence of"):
        connector(np.ones((1, 2)), [0.0]).formula(0, feature_names=names)
    with pytest.raises(ValueError, match="output_names must be None or a sequence of"):
        connector(np.ones((2, 1)), [0.0] * 2).formula(0, output_names=names)
