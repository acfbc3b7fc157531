"""How a FeatureConnector is fitted: starts, row weights, batches, hard data."""

import copy
import tracemalloc
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.callback import ScoringMonitor
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score

from skfeat import FeatureConnector, FeatureConnectorCV, SparseAutoencoder
from skfeat.initialization import product_init
from skfeat.kernels._limits import LIMITS
from skfeat.solvers.connector import _statistics
from tests.connector.test_feature_connector import linear, rectified

pytestmark = pytest.mark.usefixtures("compiled_when_small")


# Starts


def test_random_start_leads_where_an_array_does():
    X, Y = rectified()
    models = [
        FeatureConnector(0.02, refit=False, init=init, random_state=seed, tol=1e-10)
        for init, seed in [
            ("random", 0),
            ("random", 1),
            ((np.ones((3, 8)), -np.ones(3)), 0),
            ([[[0.0] * 8] * 3, [0.0] * 3], 0),
        ]
    ]
    coefs = [model.fit(X, Y).coef_.toarray() for model in models]
    for coef in coefs[1:]:
        assert_allclose(coef, coefs[0], atol=1e-3)


def test_minibatch_starts_where_it_is_told():
    X, Y = rectified()
    W = np.arange(24.0).reshape(3, 8) / 24
    options = {"solver": "minibatch", "learning_rate_init": 1e-12, "random_state": 0}
    model = FeatureConnector(0, init=(W, np.ones(3)), max_iter=1, **options)
    with pytest.warns(ConvergenceWarning, match="max_iter=1 epochs"):
        model.fit(X, Y)
    assert_allclose(model.coef_.toarray(), W, atol=1e-9)
    assert_allclose(model.intercept_, 1, atol=1e-9)


@pytest.mark.parametrize(
    "init",
    [
        (np.ones((8, 3)), np.ones(3)),
        (np.ones((3, 8)), np.ones(4)),
        (np.ones((3, 8)),),
        (np.full((3, 8), np.nan), np.ones(3)),
        ("a", "b"),
        (np.ones((3, 8)), None),
    ],
)
def test_wrong_starts_are_refused(init):
    message = r"pair of finite arrays of shapes \(3, 8\) and \(3,\)"
    with pytest.raises(ValueError, match=message):
        FeatureConnector(init=init).fit(*rectified())


@pytest.mark.parametrize("link", ["identity", "relu"])
def test_product_is_refused_on_its_own(link):
    with pytest.raises(ValueError, match="takes the pair of arrays that skfeat"):
        FeatureConnector(init="product", link=link).fit(*rectified())


@pytest.fixture(scope="module")
def two_autoencoders():
    rng = np.random.RandomState(0)
    H1, W, b = np.maximum(rng.randn(200, 6), 0), rng.randn(5, 6), rng.randn(5)
    H2 = np.maximum(H1 @ W.T + b, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # convergence is not the matter here
        options = {"k": 4, "max_iter": 20, "precision": "float64", "random_state": 0}
        first = SparseAutoencoder(9, **options).fit(H1)
        second = SparseAutoencoder(7, activation="relu", **options).fit(H2)
    return first, W, b, second, H1


def test_product_init_is_its_formula(two_autoencoders):
    first, W, b, second, H1 = two_autoencoders
    coef, intercept = product_init(first, W, b, second)
    D1, d1 = first.components_.T, first.intercept_
    E2, e2, d2 = (
        second.encoder_coef_,
        second.encoder_intercept_,
        second.intercept_,
    )
    assert_allclose(coef, E2 @ W @ D1)
    assert_allclose(intercept, E2 @ (W @ d1 + b - d2) + e2)
    # With a second encoder that keeps every feature, and no nonlinearity of the
    # layer, this is what decoding, the layer and encoding compute.
    codes = first.transform(H1)
    exact = second.transform(first.inverse_transform(codes) @ W.T + b)
    assert exact.any()
    assert_allclose(np.maximum(codes @ coef.T + intercept, 0), exact, atol=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = FeatureConnector(0, init=(coef, intercept), max_iter=1)
        # At the optimum already: the first step of the solver does not leave it.
        model.fit(codes, exact)
    assert_allclose(model.predict(codes), exact, atol=1e-8)


@pytest.mark.parametrize("which", [0, 1])
def test_product_init_refuses_shapes(two_autoencoders, which):
    first, W, b, second, _ = two_autoencoders
    layer = [(W.T, b), (W, b[:-1])][which]
    with pytest.raises(ValueError, match=r"weights of shape \(5, 6\)"):
        product_init(first, *layer, second)


@pytest.mark.parametrize("link", ["identity", "relu"])
def test_warm_start_goes_on(link):
    X, Y = rectified()
    options = {"refit": False, "warm_start": True, "random_state": 0}
    model = FeatureConnector(0.02, link=link, **options)
    cold = model.fit(X, Y).n_iter_
    before = model.coef_.toarray()
    assert model.fit(X, Y).n_iter_ <= cold - (link == "relu")
    assert_allclose(model.coef_.toarray(), before, atol=1e-5)
    model.set_params(warm_start=False)
    assert model.fit(X, Y).n_iter_ == cold


def test_warm_start_of_the_minibatch_solver():
    X, Y = rectified()
    model = FeatureConnector(0, solver="minibatch", max_iter=100, random_state=0)
    losses = [model.fit(X, Y).loss_curve_]
    losses.append(model.set_params(warm_start=True).fit(X, Y).loss_curve_)
    assert losses[1][0] < losses[0][0]
    with pytest.raises(ValueError, match="warm_start=True goes on from weights"):
        model.fit(X, Y[:, :2])
    with pytest.raises(ValueError, match="X has 7 features"):
        model.fit(X[:, :7], Y)
    assert model.predict(X).shape == Y.shape


def test_warm_start_without_the_intercept_of_before():
    X, Y = rectified()
    model = FeatureConnector(0.01, warm_start=True).fit(X, Y)
    assert model.intercept_.any()
    assert not model.set_params(fit_intercept=False).fit(X, Y).intercept_.any()


# Weights of rows


@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize("link", ["identity", "relu"])
def test_weights_are_repeated_rows(link, refit):
    X, Y = rectified()
    counts = np.random.RandomState(0).randint(0, 3, len(X))
    assert (counts == 0).any()
    options = {"link": link, "refit": refit, "random_state": 0}
    weighted = FeatureConnector(0.02, **options).fit(X, Y, counts)
    repeated = FeatureConnector(0.02, **options)
    repeated.fit(np.repeat(X, counts, axis=0), np.repeat(Y, counts, axis=0))
    assert_allclose(
        weighted.coef_.toarray(), repeated.coef_.toarray(), atol=1e-6, rtol=0
    )
    assert_allclose(weighted.intercept_, repeated.intercept_, atol=1e-6)
    scaled = FeatureConnector(0.02, **options).fit(X, Y, 1000.0 * counts)
    assert_allclose(scaled.coef_.toarray(), weighted.coef_.toarray(), atol=1e-6)


def test_minibatch_skips_rows_without_weight():
    X, Y = rectified()
    weights = np.r_[np.ones(100), np.zeros(50)]
    Y[100:] = 1e6
    model = FeatureConnector(0.001, solver="minibatch", random_state=0)
    model.fit(X, Y, weights)
    assert model.score(X[:100], Y[:100]) > 0.9


def test_score_is_r2():
    X, Y = rectified()
    model = FeatureConnector().fit(X, Y)
    predicted = model.predict(X)
    assert model.score(X, Y) == r2_score(Y, predicted)
    assert model.score(X, Y) == pytest.approx(
        np.mean([r2_score(a, b) for a, b in zip(Y.T, predicted.T, strict=True)])
    )
    Y[:, 1] = 2.0
    assert np.isfinite(FeatureConnector().fit(X, Y).score(X, Y))


# Sparse and other inputs


CONTAINERS = [
    *(sparse.csr_array, sparse.csr_matrix, sparse.csc_array, sparse.csc_matrix),
    *(sparse.coo_array, sparse.coo_matrix),
]


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize(
    "options",
    [
        {"link": "identity"},
        {"solver": "full_batch"},
        {"solver": "minibatch", "max_iter": 100},
    ],
)
def test_sparse_equals_dense(kind, options):
    X, Y = rectified()
    dense = FeatureConnector(0.02, random_state=0, **options).fit(X, Y)
    other = FeatureConnector(0.02, random_state=0, **options).fit(kind(X), kind(Y))
    assert_allclose(other.coef_.toarray(), dense.coef_.toarray(), atol=1e-8)
    predicted = other.predict(kind(X))
    assert type(predicted) is np.ndarray
    assert_allclose(predicted, dense.predict(X), atol=1e-8)
    assert other.score(kind(X), Y) == pytest.approx(dense.score(X, Y))


def test_sparse_with_wide_indices():
    X, Y = rectified()
    wide = sparse.csr_array(X)
    wide.indices, wide.indptr = (
        part.astype(np.int64) for part in (wide.indices, wide.indptr)
    )
    for link in ("identity", "relu"):
        dense = FeatureConnector(0.02, link=link).fit(X, Y)
        other = FeatureConnector(0.02, link=link).fit(wide, Y)
        assert_allclose(other.predict(wide), dense.predict(X), atol=1e-8)


@pytest.mark.parametrize(
    "options",
    [
        {"link": "identity"},
        {"solver": "full_batch", "max_iter": 2},
        {"solver": "minibatch", "max_iter": 1, "batch_size": 100},
    ],
)
def test_sparse_is_never_dense_as_a_whole(options):
    n, p = 20_000, 400
    X = sparse.random_array((n, p), density=0.005, format="csr", random_state=0)
    y = np.asarray(X[:, [0]].todense())[:, 0]
    model = FeatureConnector(0.001, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)  # imports and caches are not what is measured
        tracemalloc.start()
        model.fit(X, y).predict(X)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < n * p * 8 / 4


@pytest.mark.parametrize("link", ["identity", "relu"])
def test_float32(link):
    X, Y = rectified()
    double = FeatureConnector(0.02, link=link).fit(X, Y)
    single = FeatureConnector(0.02, link=link)
    single.fit(X.astype(np.float32), Y.astype(np.float32))
    assert_allclose(single.coef_.toarray(), double.coef_.toarray(), atol=1e-4)
    assert single.predict(X.astype(np.float32)).dtype == np.float32
    assert single.predict(X).dtype == np.float64
    assert single.intercept_.dtype == single.coef_.dtype == np.float32
    assert double.intercept_.dtype == double.coef_.dtype == np.float64


# Degenerate data


SOLVERS = [
    {"link": "identity"},
    {"solver": "full_batch"},
    {"solver": "minibatch", "max_iter": 200},
]


@pytest.mark.parametrize("alpha", [0.0, 0.01])
@pytest.mark.parametrize("options", SOLVERS)
def test_zero_X_predicts_the_mean(options, alpha):
    Y = rectified()[1]
    model = FeatureConnector(alpha, random_state=0, **options)
    model.fit(np.zeros((150, 4)), Y)
    assert_allclose(
        model.predict(np.zeros((1, 4)))[0], Y.mean(axis=0), rtol=0.05, atol=0.01
    )
    if options.get("solver") != "minibatch":
        assert model.coef_.nnz == 0


@pytest.mark.parametrize("options", SOLVERS)
@pytest.mark.parametrize("budget", [None, 3])
def test_zero_y_predicts_zero(options, budget):
    X, Y = rectified()
    model = FeatureConnector(n_nonzero_coefs=budget, random_state=0, **options)
    model.fit(X, 0 * Y)
    assert_allclose(model.predict(X), 0, atol=0.01)
    assert np.isfinite(model.dual_gap_)


@pytest.mark.parametrize("options", SOLVERS)
@pytest.mark.parametrize("change", ["twins", "constant", "rows", "one"])
def test_degenerate_inputs_stay_finite(options, change):
    X, Y = rectified()
    if change == "twins":
        X = np.c_[X, X]
    elif change == "constant":
        X = np.c_[X, np.full(150, 0.1), np.zeros(150)]
    elif change == "rows":
        X, Y = np.tile(X[:5], (10, 1)), np.tile(Y[:5], (10, 1))
    else:
        X, Y = X[:, :1], Y[:, :1]
    model = FeatureConnector(0.01, random_state=0, **options).fit(X, Y)
    assert np.isfinite(model.coef_.data).all()
    assert np.isfinite(model.intercept_).all()
    if change == "constant" and options.get("solver") != "minibatch":
        assert not model.coef_.toarray()[:, 8:].any()
    if change != "one":
        assert model.score(X, Y) > 0.75


@pytest.mark.parametrize("link", ["identity", "relu"])
def test_one_row(link):
    model = FeatureConnector(link=link).fit([[1.0, 2.0]], [[3.0]])
    assert_allclose(model.predict([[1.0, 2.0]]), [[3.0]], atol=1e-6)
    assert model.coef_.nnz == 0


@pytest.mark.parametrize("options", SOLVERS)
def test_overflow_is_refused(options):
    X, Y = rectified()
    model = FeatureConnector(**options)
    with pytest.raises(ValueError, match=r"X has values up to .*: rescale X"):
        model.fit(1e200 * X, Y)
    with pytest.raises(ValueError, match=r"y has values up to .*: rescale y"):
        model.fit(X, 1e-200 * Y)


def test_divergence_is_refused():
    model = FeatureConnector(solver="minibatch", learning_rate_init=1e300)
    X, Y = rectified()
    with pytest.raises(ValueError, match="non-finite"):
        model.fit(X, Y)
    with pytest.raises(ValueError, match="non-finite"):
        model.partial_fit(X, Y).partial_fit(X, Y)


def test_many_outputs():
    X, _ = rectified(p=20)
    rng = np.random.RandomState(0)
    Y = np.maximum(X @ rng.randn(20, 10_000), 0)
    model = FeatureConnector(0.3, link="identity").fit(X, Y)
    assert model.predict(X[:2]).shape == (2, 10_000)
    kept = [part for part in vars(model).values() if isinstance(part, np.ndarray)]
    assert model._state is None
    assert all(part.size <= 10_000 for part in kept)


def test_convergence_warning_when_it_is_deserved():
    X, Y = rectified()
    with pytest.warns(ConvergenceWarning, match="max_iter=1 "):
        FeatureConnector(1e-4, refit=False, max_iter=1).fit(X, Y)
    # Many inputs that share what they explain take the linear solver some rounds.
    rng = np.random.RandomState(0)
    X = rng.randn(60, 50) + 2 * rng.randn(60, 1)
    Y = X @ rng.randn(50, 3)
    with pytest.warns(ConvergenceWarning, match="max_iter=1 "):
        FeatureConnector(1e-4, link="identity", refit=False, max_iter=1).fit(X, Y)


# Batches


@pytest.mark.parametrize("chunks", [1, 3, 50])
@pytest.mark.parametrize(
    "options", [{"alpha": 0.1}, {"alpha": 0.1, "refit": False}, {"n_nonzero_coefs": 9}]
)
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_partial_fit_equals_fit(chunks, options, container):
    X, Y = linear()
    weights = np.random.RandomState(0).rand(len(X))
    whole = FeatureConnector(link="identity", **options).fit(X, Y, weights)
    parts = FeatureConnector(link="identity", **options)
    for rows in np.array_split(np.arange(len(X)), chunks):
        parts.partial_fit(container(X[rows]), Y[rows], weights[rows])
    assert_allclose(parts.coef_.toarray(), whole.coef_.toarray(), atol=1e-8)
    assert_allclose(parts.intercept_, whole.intercept_, atol=1e-8)


def test_partial_fit_after_fit_says_that_it_starts_anew():
    X, Y = linear()
    model = FeatureConnector(0.1, link="identity").fit(X[:40], Y[:40])
    with pytest.warns(UserWarning, match="starts from this batch alone"):
        model.partial_fit(X[40:], Y[40:])
    fresh = FeatureConnector(0.1, link="identity").fit(X[40:], Y[40:])
    assert_allclose(model.coef_.toarray(), fresh.coef_.toarray(), atol=1e-8)


# `fit` takes all rows at once here, `partial_fit` batches.
@pytest.mark.filterwarnings("ignore:.*batch_size .*nothing in this fit")
@pytest.mark.parametrize("first", ["fit", "partial_fit"])
def test_partial_fit_of_the_relu_link_improves(first):
    X, Y = rectified(n=400)
    model = FeatureConnector(0.001, batch_size=50, random_state=0)
    getattr(model, first)(X[:50], Y[:50])
    scores, passes = [model.score(X, Y)], [model.n_iter_]
    for _ in range(40):
        before = model.coef_.toarray()
        model.partial_fit(X, Y)
        assert np.abs(model.coef_.toarray() - before).max() > 0
        scores.append(model.score(X, Y))
        passes.append(model.n_iter_)
    assert scores[-1] > 0.9
    if first == "fit":
        assert min(scores) > 0.9  # a reset would be seen
    else:
        assert scores[0] < 0.8
        assert (np.diff(scores) > -0.05).all()
    assert (np.diff(passes) == 1).all()


def test_partial_fit_meets_the_budget():
    X, Y = rectified()
    model = FeatureConnector(n_nonzero_coefs=6, random_state=0)
    for _ in range(3):
        assert model.partial_fit(X, Y).coef_.nnz == 6


@pytest.mark.parametrize("link", ["identity", "relu"])
def test_partial_fit_refuses_other_shapes(link):
    X, Y = rectified()
    model = FeatureConnector(link=link).partial_fit(X, Y)
    before = model.coef_.toarray()
    with pytest.raises(ValueError, match="X has 7 features"):
        model.partial_fit(X[:, :7], Y)
    with pytest.raises(ValueError, match="y has 2 outputs, but"):
        model.partial_fit(X, Y[:, :2])
    assert_array_equal(model.coef_.toarray(), before)


# Callbacks


class StopAfter:
    """A scikit-learn callback that asks to stop, and looks at what it is shown."""

    def __init__(self, n):
        self.n, self.seen, self.coefs = n, 0, []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context, **kwargs):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name != "epoch":
            return False
        self.seen += 1
        self.coefs.append(fitted_estimator.coef_.toarray())
        return self.seen >= self.n


@pytest.mark.parametrize(
    "options",
    [
        {"link": "identity", "alpha": 0.001},
        {"solver": "full_batch", "alpha": 0.001},
        {"solver": "full_batch", "n_nonzero_coefs": 6},
        {"solver": "minibatch", "alpha": 0.001},
        {"solver": "minibatch", "n_nonzero_coefs": 6},
    ],
)
def test_callbacks_stop_every_solver(options):
    X, Y = rectified()
    callback = StopAfter(3)
    model = FeatureConnector(random_state=0, **options)
    model.set_callbacks(callback).fit(X, Y)
    assert callback.seen == 3
    assert all(coef.shape == (3, 8) for coef in callback.coefs)
    assert np.abs(callback.coefs[1] - callback.coefs[0]).max() > 0
    assert model.n_iter_ <= 3
    if "n_nonzero_coefs" in options:
        assert model.coef_.nnz == 6


@pytest.mark.parametrize("options", SOLVERS)
def test_scores_are_monitored(options):
    X, Y = rectified()
    weights = np.arange(150) % 3

    def scoring(estimator, X, y, sample_weight):
        return {"r2": estimator.score(X, y, sample_weight)}

    monitor = ScoringMonitor(scoring=scoring)
    model = FeatureConnector(0.001, random_state=0, **options)
    model.set_callbacks(monitor).fit(X, Y, weights)
    scores = [entry["r2"] for entry in monitor.get_logs().data]
    assert len(scores) >= model.n_iter_
    assert scores[-1] > scores[0]
    assert scores[-1] == pytest.approx(model.score(X, Y, weights), abs=1e-3)


# A budget for each output


@pytest.mark.parametrize(
    "options",
    [
        {"link": "identity"},
        {"link": "identity", "refit": False},
        {"solver": "full_batch"},
        {"solver": "minibatch", "random_state": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize("zeros", [False, True])
def test_budget_of_each_output(options, zeros):
    X, Y = rectified()
    if zeros:
        # Mostly zeros take the compiled solver.
        X = X * (np.random.RandomState(1).rand(*X.shape) < 0.1)
    budget = [3, 0, 5]
    model = FeatureConnector(n_nonzero_coefs=budget, **options).fit(X, Y)
    assert np.diff(model.coef_.indptr).tolist() == budget
    with pytest.raises(ValueError, match="one for each of the 3 outputs"):
        model.set_params(n_nonzero_coefs=[3, 0]).fit(X, Y)
    with pytest.raises(ValueError, match="one for each of the 3 outputs"):
        model.set_params(n_nonzero_coefs=[3, -1, 2]).fit(X, Y)


def test_budget_of_each_output_needs_a_refit():
    X, Y = rectified()
    with pytest.raises(ValueError, match="refit=True with link='relu'"):
        FeatureConnector(n_nonzero_coefs=[1, 2, 3], refit=False).fit(X, Y)


# Layers too wide for a Gram matrix


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 1e-4, "refit": False},
        {"alpha": 1e-4},
        {"n_nonzero_coefs": 60},
        {"alpha": 1e-4, "fit_intercept": False, "refit": False},
    ],
    ids=str,
)
def test_wide_layers_need_no_gram_matrix(options, monkeypatch):
    pytest.importorskip("numba")
    rng = np.random.RandomState(0)
    X = sparse.random(2000, 60, 0.05, format="csr", random_state=0)
    W = rng.randn(40, 60) * (rng.rand(40, 60) < 0.05)
    Y = sparse.csr_array(X @ W.T)
    Y.data += 0.05 * rng.randn(Y.nnz)
    Y = Y.multiply(rng.rand(*Y.shape) < 0.5).tocsr()
    Y.eliminate_zeros()
    weights = rng.rand(2000)
    model = FeatureConnector(link="identity", **options)
    expected = model.fit(X, Y, weights)
    coef, intercept = expected.coef_.toarray(), expected.intercept_
    monkeypatch.setattr(LIMITS, "held_moments", 0)
    monkeypatch.setattr(_statistics.GramStatistics, "zeros", None)
    monkeypatch.setattr("skfeat.solvers.connector._lasso_wide._SHARE", 420)
    model.fit(X, Y, weights)
    if "n_nonzero_coefs" in options:
        assert model.coef_.nnz == expected.coef_.nnz == 60
        shared = (model.coef_.toarray() != 0) & (coef != 0)
        assert shared.sum() >= 57
    else:
        assert_allclose(model.coef_.toarray(), coef, atol=1e-7)
        assert_allclose(model.intercept_, intercept, atol=1e-8)


# A link that is set after the fit


@pytest.mark.parametrize("link", ["relu", "identity"])
@pytest.mark.parametrize("kind", [FeatureConnector, FeatureConnectorCV])
def test_fitted_weights_keep_their_link(kind, link):
    X, Y = linear() if link == "identity" else rectified()
    model = kind(link=link).fit(X, Y)
    expected, reading = model.predict(X), model.logic(0, X).text
    other = {"relu": "identity", "identity": "relu"}[link]
    model.set_params(link=other)
    assert_array_equal(model.predict(X), expected)
    assert model.logic(0, X).text == reading
    assert_array_equal(copy.deepcopy(model).predict(X), expected)
    # The next fit takes the new one.
    assert_array_equal(
        model.fit(X, Y).predict(X), kind(link=other).fit(X, Y).predict(X)
    )
