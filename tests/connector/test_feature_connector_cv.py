"""FeatureConnectorCV against folds written out here."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import sparse
from sklearn import config_context
from sklearn.exceptions import NotFittedError, UnsetMetadataPassedError
from sklearn.linear_model import LassoCV
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    LeaveOneGroupOut,
    cross_validate,
)
from sklearn.pipeline import make_pipeline

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


GROUPS = np.arange(240) * 7 % 8


def grouped(cv, **options):
    return FeatureConnectorCV(alphas=[0.1, 0.01], link="identity", cv=cv, **options)


@pytest.mark.parametrize(
    "cv", [GroupKFold(4), LeaveOneGroupOut(), GroupShuffleSplit(3, random_state=0)]
)
def test_groups_go_to_the_splitter(cv):
    X, Y = data()
    folds = list(cv.split(X, Y, GROUPS))
    expected = grouped(folds).fit(X, Y).mse_path_
    found = grouped(cv).fit(X, Y, groups=GROUPS).mse_path_
    np.testing.assert_array_equal(found, expected)
    with config_context(enable_metadata_routing=True):
        routed = grouped(cv).fit(X, Y, groups=GROUPS).mse_path_
    np.testing.assert_array_equal(routed, expected)
    assert not np.allclose(grouped(len(folds)).fit(X, Y).mse_path_, expected)


@pytest.mark.parametrize("routing", [False, True])
def test_groups_that_are_missing_or_unused_are_told(routing):
    X, Y = data()
    with config_context(enable_metadata_routing=routing):
        with pytest.raises(ValueError, match=r"cv=GroupKFold.*groups=groups\)"):
            grouped(GroupKFold(3)).fit(X, Y)
        with pytest.raises(ValueError, match=r"samples: \[240, 240, 9\]"):
            grouped(GroupKFold(3)).fit(X, Y, groups=GROUPS[:9])
    with pytest.warns(UserWarning, match="ignored by KFold"):
        grouped(3).fit(X, Y, groups=GROUPS)
    folds = [(np.arange(120), np.arange(120, 240))]
    with pytest.warns(UserWarning, match="groups changes nothing here: the folds"):
        grouped(folds).fit(X, Y, groups=GROUPS)
    with pytest.raises(ValueError, match="only supported if enable_metadata_routing"):
        grouped(GroupKFold(3)).fit(X, Y, clusters=GROUPS)


def test_metadata_is_routed_as_by_lasso_cv():
    """Through a pipeline, under an alias, and inside an outer split by groups."""
    X, Y = data()
    weights = 1.0 + np.arange(240) % 3
    expected = grouped(GroupKFold(4)).fit(X, Y, weights, GROUPS).mse_path_
    with config_context(enable_metadata_routing=True):
        inner = grouped(GroupKFold(4)).set_fit_request(sample_weight=True)
        line = make_pipeline("passthrough", inner)
        line.fit(X, Y, groups=GROUPS, sample_weight=weights)
        np.testing.assert_array_equal(line[-1].mse_path_, expected)
        renamed = grouped(GroupKFold(4).set_split_request(groups="texts"))
        renamed.fit(X, Y, sample_weight=weights, texts=GROUPS)
        np.testing.assert_array_equal(renamed.mse_path_, expected)
        asked = make_pipeline(inner.set_fit_request(groups="texts"))
        asked.fit(X, Y, texts=GROUPS, sample_weight=weights)
        np.testing.assert_array_equal(asked[-1].mse_path_, expected)
        with pytest.raises(TypeError, match=r"groups.*not routed"):
            grouped(3).fit(X, Y, groups=GROUPS)
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            make_pipeline(grouped(3)).fit(X, Y, sample_weight=weights)
        # Groups of the outer split alone: the inner one has no use for them.
        found = cross_validate(
            grouped(3), X, Y, cv=GroupKFold(2), params={"groups": GROUPS}
        )
        assert found["test_score"].shape == (2,)


def test_a_pipeline_does_not_use_up_an_iterator_of_folds():
    X, Y = data()
    folds = [(np.arange(120), np.arange(120, 240))]
    with config_context(enable_metadata_routing=True):
        line = make_pipeline(grouped(iter(folds))).fit(X, Y)
    assert line[-1].mse_path_.shape == (2, 1)


@pytest.mark.parametrize(("side", "name"), [(1, "hold out"), (0, "train")])
def test_a_fold_without_weight_is_refused(side, name):
    X, Y = data()
    folds = [(np.arange(120), np.arange(120, 240))]
    weights = np.ones(240)
    weights[folds[0][side]] = 0
    with pytest.raises(ValueError, match=f"leaves fold 0 no row of.*to {name}"):
        grouped(folds).fit(X, Y, weights)
