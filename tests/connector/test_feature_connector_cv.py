"""FeatureConnectorCV against folds written out here."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LassoCV
from sklearn.model_selection import GridSearchCV, KFold

from skfeat import FeatureConnector, FeatureConnectorCV

pytestmark = pytest.mark.usefixtures("compiled_when_small")


def data(zeros=False):
    rng = np.random.RandomState(0)
    X = np.maximum(rng.randn(240, 12), 0)
    if zeros:
        X *= rng.rand(*X.shape) < 0.1
    W = np.zeros((4, 12))
    W[[0, 1, 2, 3, 0], [1, 4, 7, 7, 9]] = [1, 0.8, 1.2, 0.7, -0.6]
    return X, np.maximum(X @ W.T + 0.1 * rng.randn(240, 4), 0)


def test_the_error_is_that_of_lasso_cv():
    X, Y = data()
    y = Y[:, 0]
    ours = FeatureConnectorCV(link="identity", refit=False, alphas=20).fit(X, y)
    lasso = LassoCV(alphas=ours.alphas_, tol=1e-10, max_iter=10_000, cv=5).fit(X, y)
    assert_allclose(ours.mse_path_, lasso.mse_path_, rtol=1e-5)
    assert ours.alpha_ == pytest.approx(lasso.alpha_)
    assert_allclose(ours.coef_.toarray()[0], lasso.coef_, atol=1e-6)
    assert_allclose(ours.predict(X), lasso.predict(X), atol=1e-6)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("link", ["identity", "relu"])
def test_budgets_are_tried_as_a_grid_search_would(link, zeros):
    X, Y = data(zeros)
    budgets = [1, 5, 20]
    ours = FeatureConnectorCV(n_nonzero_coefs=budgets, link=link, cv=3).fit(X, Y)
    search = GridSearchCV(
        FeatureConnector(link=link),
        {"n_nonzero_coefs": budgets},
        cv=KFold(3),
        scoring="neg_mean_squared_error",
    ).fit(X, Y)
    mean = -search.cv_results_["mean_test_score"]
    assert_allclose(ours.mse_path_.mean(axis=1), mean, rtol=2e-2)
    assert ours.n_nonzero_coefs_ == search.best_params_["n_nonzero_coefs"] == 5
    assert ours.coef_.nnz == 5
    assert not hasattr(ours, "alphas_")
    best = FeatureConnector(link=link, n_nonzero_coefs=5).fit(X, Y)
    assert_allclose(ours.predict(X), best.predict(X), atol=1e-5)


@pytest.mark.parametrize("zeros", [False, True])
def test_the_planted_weights_are_found(zeros):
    X, Y = data(zeros)
    ours = FeatureConnectorCV(alphas=15).fit(X, Y)
    assert len(ours.alphas_) == 15
    assert (np.diff(ours.alphas_) < 0).all()
    assert ours.mse_path_.shape == (15, 5)
    assert ours.mse_path_.mean(axis=1).min() < 0.02
    planted = [(0, 1), (1, 4), (2, 7), (3, 7)]
    weights = ours.coef_.toarray()
    assert all(weights[place] > 0.5 for place in planted)


def test_weights_count_and_jobs_do_not():
    X, Y = data()
    rows = np.repeat(np.arange(len(X)), 2)
    options = {"alphas": [0.1, 0.01], "link": "identity"}
    folds = [
        (np.arange(120), np.arange(120, 240)),
        (np.arange(120, 240), np.arange(120)),
    ]
    double = [(np.repeat(2 * a, 2) + np.tile([0, 1], len(a)), 2 * b) for a, b in folds]
    weighted = FeatureConnectorCV(**options, cv=folds).fit(X, Y, np.full(240, 2.0))
    repeated = FeatureConnectorCV(**options, cv=double, n_jobs=2).fit(X[rows], Y[rows])
    assert_allclose(weighted.mse_path_, repeated.mse_path_, rtol=1e-6)
    assert_allclose(weighted.coef_.toarray(), repeated.coef_.toarray(), atol=1e-7)


def test_sparse_rows_and_reading():
    X, Y = data(zeros=True)
    dense = FeatureConnectorCV(alphas=5, cv=2).fit(X, Y)
    other = FeatureConnectorCV(alphas=5, cv=2).fit(sparse.csr_array(X), Y)
    assert_allclose(dense.coef_.toarray(), other.coef_.toarray(), atol=1e-7)
    assert dense.formula(1).startswith("F2_1 = ")
    assert dense.logic(1, X, Y, threshold=0.3).kind == "single"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alphas", 0),
        ("alphas", [-1.0]),
        ("alphas", []),
        ("alphas", ["a"]),
        ("n_nonzero_coefs", [1.5]),
        ("n_nonzero_coefs", []),
        ("n_nonzero_coefs", [-1]),
        ("eps", 1.0),
        ("link", "tanh"),
        ("cv", 1.5),
    ],
)
def test_nonsense_is_refused(name, value):
    with pytest.raises(ValueError, match=name):
        FeatureConnectorCV(**{name: value}).fit(*data())


def test_a_fit_that_fails_leaves_nothing():
    X, Y = data()
    model = FeatureConnectorCV(alphas=2, cv=2).fit(X, Y)
    with pytest.raises(ValueError, match="NaN"):
        model.fit(np.full_like(X, np.nan), Y)
    with pytest.raises(NotFittedError):
        model.predict(X)
