"""What FeatureUnwrapper takes as X, what it refuses, and in which words."""

import copy
import os

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skfeat import SparseAutoencoder
from skfeat.unwrapper._feature_unwrapper import _FITTED
from tests.unwrapper.test_feature_unwrapper import (
    X,
    mlp,
    unwrapper,
)

pytestmark = [
    pytest.mark.usefixtures("few_updates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*features are dead:UserWarning"),
]


def test_input_is_validated():
    est = unwrapper().fit(X)
    nan, inf = X.copy(), X.copy()
    nan[3, 2], inf[3, 2] = np.nan, np.inf
    wrong = [
        (X[0], "Expected 2D array, got 1D array instead"),
        (X[None], "Found array with dim 3, while dim <= 2 is required"),
        (nan, "Input X contains NaN"),
        (inf, "Input X contains infinity"),
        (X[:0], r"Found array with 0 sample\(s\) \(shape=\(0, 7\)\)"),
        (X.astype(str) + np.array("a"), "could not convert string to float"),
        (X * 1j, "Complex data not supported"),
    ]
    for method in (est.fit, est.predict, est.transform, est.score, est.report):
        for rows, match in wrong:
            with pytest.raises(ValueError, match=match):
                method(rows)
        with pytest.raises(TypeError, match="Sparse data was passed for X, but dense"):
            method(sparse.csr_array(X))
        with pytest.raises(TypeError, match="bfloat16"):
            method(torch.tensor(X).bfloat16())
    # What failed to be validated has left the last fit as it was.
    assert est.predict(X).shape == (60,)


def test_wrong_width():
    est = unwrapper()
    with pytest.raises(ValueError, match="model expects 7 input features, X has 6"):
        est.fit(X[:, :6])
    with pytest.raises(NotFittedError):
        est.predict(X)
    est.fit(X)
    expected = "X has 6 features, but FeatureUnwrapper is expecting 7 features as input"
    for method in (est.predict, est.predict_proba, est.score, est.report):
        with pytest.raises(ValueError, match=expected):
            method(X[:, :6])


def test_not_fitted():
    est = unwrapper()
    methods = ["predict", "predict_proba", "decision_function", "transform"]
    for name in [*methods, "score", "report"]:
        with pytest.raises(
            NotFittedError, match="This FeatureUnwrapper instance is not"
        ):
            getattr(est, name)(X)
    with pytest.raises(NotFittedError):
        est.network()


def test_failed_fit_leaves_it_unfitted():
    est = unwrapper().fit(X)
    est.set_params(autoencoder__learning_rate_init=1e300)
    with pytest.raises(ValueError, match="non-finite"):
        est.fit(X)
    assert not [name for name in vars(est) if name in _FITTED]
    with pytest.raises(NotFittedError):
        est.predict(X)


def test_kinds_of_input():
    expected = unwrapper().fit(X).decision_function(X)
    assert expected.dtype == np.float32
    read_only = X.copy()
    read_only.flags.writeable = False
    kinds = [
        X.astype(np.float64),
        X.astype(">f8"),
        np.asfortranarray(X),
        np.ascontiguousarray(X[:, ::-1])[:, ::-1],
        X.tolist(),
        read_only,
        torch.tensor(X, requires_grad=True),
    ]
    for rows in kinds:
        found = unwrapper().fit(rows).decision_function(rows)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        assert type(found) is np.ndarray
    np.testing.assert_array_equal(read_only, X)
    whole = (X * 10).astype(np.int8)
    np.testing.assert_allclose(
        unwrapper().fit(whole).decision_function(whole),
        unwrapper().fit(whole.astype("f4")).decision_function(whole.astype("f4")),
    )


def test_memory_mapped_input(tmp_path):
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    np.testing.assert_array_equal(
        unwrapper().fit(mapped).predict(mapped), unwrapper().fit(X).predict(X)
    )


@pytest.mark.parametrize("rows", [X[:1], X * 0, np.repeat(X[:1], 30, axis=0)])
def test_little_to_learn_from(rows):
    est = unwrapper().fit(rows)
    assert np.isfinite(est.decision_function(X)).all()
    assert est.predict(X[:1]).shape == (1,)


def test_data_frames():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcdefg"))
    est = unwrapper().fit(frame)
    assert list(est.feature_names_in_) == list("abcdefg")
    np.testing.assert_array_equal(est.predict(frame), unwrapper().fit(X).predict(X))
    with pytest.raises(
        ValueError, match="must be in the same order as they were in fit"
    ):
        est.predict(frame[list("bacdefg")])
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        est.predict(X)


def test_output_config_of_the_parts_does_not_matter():
    pytest.importorskip("pandas")
    expected = unwrapper().fit(X)
    dense = SparseAutoencoder(8, k=3, max_iter=5)
    parts = [
        clone(dense).set_params(sparse_output=True),
        clone(dense).set_output(transform="pandas"),
    ]
    found = [unwrapper(autoencoder=part).fit(X) for part in parts]
    reports = [est.report(X) for est in found]
    with config_context(transform_output="pandas"):
        found.append(unwrapper().fit(X))
        reports.append(found[-1].report(X))
    for est, report in zip(found, reports, strict=True):
        np.testing.assert_array_equal(est.transform(X), expected.transform(X))
        np.testing.assert_equal(dict(report), dict(expected.report(X)))


@pytest.mark.skipif(
    "SCIPY_ARRAY_API" not in os.environ, reason="needs SCIPY_ARRAY_API=1"
)
def test_array_api_dispatch():
    expected = unwrapper().fit(X)
    with config_context(array_api_dispatch=True):
        for rows in (X, torch.tensor(X)):
            found = unwrapper().fit(rows)
            np.testing.assert_array_equal(found.predict(rows), expected.predict(X))
            assert type(found.transform(rows)) is np.ndarray


def test_labels_are_no_values():
    est = unwrapper(task="regression", distill=False).fit(X)
    labels = np.zeros(len(X), dtype=int)
    for method in (est.score, est.report, unwrapper(task="regression").fit):
        with pytest.raises(ValueError, match="y must have a column for each"):
            method(X, labels)


def test_budgets_may_be_an_array():
    est = unwrapper(n_nonzero_coefs=np.array([20, 30]), distill=False).fit(X)
    assert est.network().n_weights_ == [20, 30]
    with pytest.raises(ValueError, match="'n_nonzero_coefs' parameter must be an int"):
        unwrapper(n_nonzero_coefs=[True, 20]).fit(X)


def _refused_fits():
    pd = pytest.importorskip("pandas")
    wide = pd.DataFrame(np.ones((60, 9)), columns=list("abcdefghi"))
    other = pd.DataFrame(X, columns=list("tuvwxyz"))
    yield {"X": wide}, {}
    yield {"X": np.ones((60, 9))}, {}
    yield {"X": other, "y": np.full(60, "nope")}, {}
    yield {"X": other}, {"layers": ["nope"]}
    yield {"X": other}, {"device": "nope"}
    yield {"X": other}, {"faithfulness": -1}


def test_a_refused_fit_leaves_the_one_before():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcdefg"))
    est = unwrapper().fit(frame, np.arange(60) % 3)
    before = {k: v for k, v in vars(est).items() if k not in est.get_params()}
    expected = est.predict_proba(frame)
    params = est.get_params(deep=False)
    for data, changes in _refused_fits():
        with pytest.raises((ValueError, TypeError, RuntimeError)):
            est.set_params(**changes).fit(**data)
        est.set_params(**params)
        after = {k: v for k, v in vars(est).items() if k not in params}
        assert after.keys() == before.keys()
        assert all(after[name] is before[name] for name in before)
        np.testing.assert_array_equal(est.predict_proba(frame), expected)


def test_a_first_fit_that_fails_leaves_nothing():
    part = SparseAutoencoder(8, k=3, learning_rate_init=1e300)
    for data, changes in [*_refused_fits(), ({"X": X}, {"autoencoder": part})]:
        est = unwrapper(**changes)
        with pytest.raises((ValueError, TypeError, RuntimeError)):
            est.fit(**data)
        assert not [name for name in vars(est) if name in _FITTED]


def test_rows_that_overflow_in_the_dtype_of_the_model():
    model = mlp(7, 6, 5, 3)
    model[0].weight.data.mul_(20)
    found = unwrapper(model).fit(X)
    rows = np.full((3, 7), 3e38)  # float64, but the model is not
    with pytest.raises(ValueError, match="rescale X, or compute in float64"):
        found.predict(rows)
    double = unwrapper(copy.deepcopy(model).double()).fit(X)
    assert double.predict(rows).shape == (3,)
