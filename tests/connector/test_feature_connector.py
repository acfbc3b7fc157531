"""What a FeatureConnector computes."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import Lasso, LinearRegression, lasso_path

from skfeat import FeatureConnector
from skfeat.kernels._limits import LIMITS

LINEAR = {"link": "identity", "refit": False}


def linear(n=80, p=10, q=4, seed=0):
    rng = np.random.RandomState(seed)
    X = rng.randn(n, p) + 0.5 * rng.randn(n, 1)
    Y = X @ (rng.randn(p, q) * (rng.rand(p, q) < 0.4)) + 0.1 * rng.randn(n, q) + 3
    return X, Y


def rectified(n=150, p=8, q=3, seed=0):
    """Codes as an autoencoder gives them: zero or positive, on both sides."""
    rng = np.random.RandomState(seed)
    X = np.maximum(rng.randn(n, p), 0)
    W = rng.randn(q, p) * (rng.rand(q, p) < 0.5)
    return X, np.maximum(X @ W.T + 0.1 + 0.05 * rng.randn(n, q), 0)


def lasso(X, Y, alpha, sample_weight=None, **options):
    model = Lasso(alpha, tol=1e-13, max_iter=500_000, **options)
    return model.fit(X, Y, sample_weight)


# The identity link is the Lasso


def plain(X):
    return X


def correlated(X):
    return X + 10 * np.random.RandomState(1).randn(len(X), 1)


def constant(X):
    return np.c_[X, np.full(len(X), 0.1)]


def wide(X):
    return np.c_[X, np.random.RandomState(1).randn(len(X), 100)]


def scaled(X):
    return X * np.logspace(-2, 2, X.shape[1])


def offset(X):
    return X + 1e6


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("change", [plain, correlated, constant, wide, scaled])
def test_equals_lasso(change, weighted, fit_intercept):
    X, Y = linear()
    X = change(X)
    weights = np.random.RandomState(2).rand(len(X)) if weighted else None
    ours = FeatureConnector(0.1, fit_intercept=fit_intercept, **LINEAR)
    ours.fit(X, Y, weights)
    theirs = lasso(X, Y, 0.1, weights, fit_intercept=fit_intercept)
    assert_allclose(ours.coef_.toarray(), theirs.coef_, atol=1e-6)
    assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-6)
    assert_allclose(ours.predict(X), theirs.predict(X), atol=1e-5)
    assert ours.alpha_ == 0.1
    assert 1 <= ours.n_iter_ < 1000
    assert 0 <= ours.dual_gap_ <= 1e-8 * (Y**2).mean(axis=0).max()
    assert ours.loss_curve_ == []


def test_offset_does_not_hurt():
    X, Y = linear()
    near = FeatureConnector(0.1, **LINEAR).fit(X, Y)
    far = FeatureConnector(0.1, **LINEAR).fit(offset(X), Y)
    assert_allclose(far.coef_.toarray(), near.coef_.toarray(), atol=1e-8)
    assert_allclose(far.predict(offset(X)), near.predict(X), atol=1e-7)


def test_offset_does_not_hurt_the_relu_link():
    X, Y = rectified()
    near = FeatureConnector(0.01).fit(X, Y)
    far = FeatureConnector(0.01).fit(offset(X), Y)
    assert_allclose(far.coef_.toarray(), near.coef_.toarray(), atol=1e-4)
    assert_allclose(far.predict(offset(X)), near.predict(X), atol=1e-3)


@pytest.mark.parametrize("change", [plain, constant, wide, scaled])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_no_penalty_is_least_squares(change, fit_intercept):
    X, Y = linear()
    X = change(X)
    ours = FeatureConnector(0, fit_intercept=fit_intercept, **LINEAR).fit(X, Y)
    theirs = LinearRegression(fit_intercept=fit_intercept, tol=1e-12).fit(X, Y)
    assert_allclose(ours.predict(X), theirs.predict(X), atol=1e-6)
    assert np.isfinite(ours.coef_.data).all()


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("given", [{"alpha": 0.2}, {"n_nonzero_coefs": 9}])
def test_refit_is_least_squares_on_the_support(given, fit_intercept):
    X, Y = linear()
    X *= np.logspace(-6, 6, X.shape[1])
    options = {"link": "identity", "fit_intercept": fit_intercept, **given}
    if "alpha" in given:
        X *= 100
    ours = FeatureConnector(**options).fit(X, Y)
    coef = ours.coef_.toarray()
    assert 0 < np.count_nonzero(coef) < coef.size
    for output, row in enumerate(coef):
        kept = np.flatnonzero(row)
        if len(kept) == 0:
            assert ours.intercept_[output] == pytest.approx(
                fit_intercept * Y[:, output].mean()
            )
            continue
        spread = X[:, kept].std(axis=0)
        theirs = LinearRegression(fit_intercept=fit_intercept)
        theirs.fit(X[:, kept] / spread, Y[:, output])
        assert_allclose(row[kept] * spread, theirs.coef_, atol=1e-6)
        assert_allclose(ours.intercept_[output], theirs.intercept_, atol=1e-6)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_refit_of_the_relu_link_is_unpenalised(fit_intercept):
    X, Y = rectified()
    shrunk, refitted = (
        FeatureConnector(0.05, refit=refit, fit_intercept=fit_intercept).fit(X, Y)
        for refit in (False, True)
    )
    assert_array_equal(
        refitted.coef_.toarray() != 0, shrunk.coef_.toarray() != 0, strict=True
    )
    assert 0 < shrunk.coef_.nnz < X.shape[1] * Y.shape[1]
    mse = [((model.predict(X) - Y) ** 2).mean() for model in (shrunk, refitted)]
    assert mse[1] < 0.9 * mse[0]
    # On the support the gradient of the squared error vanishes.
    u = X @ refitted.coef_.toarray().T + refitted.intercept_
    gradient = np.where(u > 0, u - Y, 0).T @ X / len(X)
    assert_allclose(gradient[refitted.coef_.toarray() != 0], 0, atol=1e-4)
    if not fit_intercept:
        assert not refitted.intercept_.any()


@pytest.mark.parametrize("solver", ["full_batch", "minibatch"])
def test_relu_link_recovers_the_weights(solver):
    rng = np.random.RandomState(0)
    X = np.maximum(rng.randn(600, 10), 0)
    W = np.zeros((2, 10))
    W[0, [1, 4]], W[1, [2, 7]] = [1, -0.5], [0.7, 0.4]
    model = FeatureConnector(n_nonzero_coefs=4, solver=solver, random_state=0)
    model.fit(X, np.maximum(X @ W.T, 0))
    assert_allclose(model.coef_.toarray(), W, atol=0.02)
    assert_allclose(model.intercept_, 0, atol=0.02)


# Shape and sparsity of the weights


@pytest.mark.parametrize("link", ["identity", "relu"])
def test_sparsity_follows_alpha(link):
    X, Y = rectified()
    path = FeatureConnector(link=link, refit=False)
    alphas, _, _ = path.connector_path(X, Y, n_alphas=1)
    counts = [
        FeatureConnector(share * alphas[0], link=link, refit=False).fit(X, Y).coef_.nnz
        for share in (1 + 1e-9, 0.98, 0.3, 0.03)
    ]
    assert counts[0] == 0
    assert counts[1] > 0
    assert counts == sorted(counts)
    assert counts[-1] > 3


@pytest.mark.parametrize("link", ["identity", "relu"])
def test_coef_is_csr_in_the_configured_interface(link):
    X, Y = rectified()
    for interface, kind in (
        ("spmatrix", sparse.csr_matrix),
        ("sparray", sparse.csr_array),
    ):
        with config_context(sparse_interface=interface):
            model = FeatureConnector(0.05, link=link).fit(X, Y)
        assert type(model.coef_) is kind
        assert model.coef_.shape == (3, 8)
        assert model.coef_.dtype == np.float64
        assert model.coef_.nnz == np.count_nonzero(model.coef_.toarray())
        assert model.intercept_.shape == (3,)
        assert model.predict(X).shape == Y.shape


BUDGETED = [
    {"link": "identity", "refit": True},
    {"link": "identity", "refit": False},
    {"solver": "full_batch", "refit": True},
    {"solver": "full_batch", "refit": False},
    {"solver": "minibatch", "refit": True, "max_iter": 100},
]


@pytest.mark.parametrize("options", BUDGETED)
@pytest.mark.parametrize("budget", [0, 1, 7, 24, 1000])
def test_budget_is_met_exactly(options, budget):
    X, Y = rectified()
    model = FeatureConnector(n_nonzero_coefs=budget, random_state=0, **options)
    model.fit(X, Y)
    assert model.coef_.nnz == min(budget, 24)
    assert model.alpha_ >= 0
    if budget == 24:
        assert model.score(X, Y) > (0.75 if "link" in options else 0.8)
    if budget == 0:
        assert_allclose(model.predict(X), np.tile(model.predict(X[:1]), (150, 1)))


@pytest.mark.parametrize("options", BUDGETED)
def test_budget_is_met_with_twin_columns(options):
    # Two equal inputs enter together; one of them has to go.
    X, Y = rectified()
    X = np.c_[X, X]
    model = FeatureConnector(n_nonzero_coefs=5, random_state=0, **options).fit(X, Y)
    assert model.coef_.nnz == 5


def test_budget_of_a_layer_is_quick():
    # Interpolates the alpha and jumps to the optimum: half the sweeps of bisection.
    X, Y = rectified(n=600, p=64, q=64)
    model = FeatureConnector(link="identity", n_nonzero_coefs=400)
    model.fit(X, Y)
    assert model.coef_.nnz == 400
    assert model.n_iter_ <= 20


def test_alpha_of_a_budget_gives_the_budget():
    X, Y = linear()
    found = FeatureConnector(n_nonzero_coefs=11, **LINEAR).fit(X, Y)
    again = FeatureConnector(found.alpha_, **LINEAR).fit(X, Y)
    assert_allclose(found.coef_.toarray(), again.coef_.toarray(), atol=1e-8)


# Path


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("compiled", [True, False])
def test_path_equals_lasso_path(monkeypatch, fit_intercept, compiled):
    if compiled:
        pytest.importorskip("numba")
        monkeypatch.setattr(LIMITS, "compiled_gram", 0)
    X, Y = linear()
    model = FeatureConnector(link="identity", fit_intercept=fit_intercept, tol=1e-12)
    alphas, coefs, gaps = model.connector_path(X, Y, n_alphas=20)
    assert coefs.shape == (4, 10, 20)
    assert gaps.shape == (20,)
    assert (np.diff(alphas) < 0).all()
    assert not coefs[..., 0].any()
    assert coefs[..., 1].any()
    if fit_intercept:
        X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    for output in range(4):
        _, expected, _ = lasso_path(X, Y[:, output], alphas=alphas, tol=1e-12)
        assert_allclose(coefs[output], expected, atol=1e-6)
        single, one, _ = model.connector_path(X, Y[:, output], n_alphas=20)
        theirs, expected, _ = lasso_path(X, Y[:, output], alphas=20, tol=1e-12)
        assert one.shape == (10, 20)
        assert_allclose(single, theirs)
        assert_allclose(one, expected, atol=1e-6)


def test_path_of_the_relu_link():
    X, Y = rectified()
    model = FeatureConnector()
    alphas, coefs, decreases = model.connector_path(X, Y, n_alphas=6, eps=0.01)
    assert alphas[-1] == pytest.approx(0.01 * alphas[0])
    counts = np.count_nonzero(coefs, axis=(0, 1))
    assert counts[0] == 0
    assert counts[1] > 0
    assert (np.diff(counts) >= 0).all()
    assert (decreases <= model.tol).all()
    assert not hasattr(model, "coef_")
    fitted = FeatureConnector(alphas[3], refit=False).fit(X, Y)
    assert_allclose(coefs[..., 3], fitted.coef_.toarray(), atol=1e-3)


@pytest.mark.parametrize("link", ["identity", "relu"])
@pytest.mark.parametrize("compiled", [True, False])
def test_sparse_path_is_the_dense_one(monkeypatch, link, compiled):
    if compiled:
        pytest.importorskip("numba")
        monkeypatch.setattr(LIMITS, "compiled_gram", 0)
    else:
        for module in ("solvers.connector._choose", "kernels.connector._sparsity"):
            monkeypatch.setattr(f"skfeat.{module}.has_numba", lambda: False)
    X, Y = rectified()
    model = FeatureConnector(link=link)
    alphas, coefs, gaps = model.connector_path(X, Y, n_alphas=6)
    found = model.connector_path(X, Y, n_alphas=6, sparse_output=True)
    assert_array_equal(found[0], alphas)
    assert_array_equal(found[2], gaps)
    matrices = found[1]
    assert len(matrices) == 6
    for i, matrix in enumerate(matrices):
        assert matrix.format == "csr"
        assert matrix.dtype == np.float64
        assert_array_equal(matrix.toarray(), coefs[..., i])
        assert matrix.has_canonical_format
    single = model.connector_path(X, Y[:, 0], n_alphas=3, sparse_output=True)[1]
    assert [matrix.shape for matrix in single] == [(1, X.shape[1])] * 3


def test_path_along_given_alphas():
    X, Y = linear()
    model = FeatureConnector(link="identity").fit(X, Y)
    before = model.coef_.toarray()
    alphas, coefs, _ = model.connector_path(X, Y, alphas=[0.1, 1.0, 0.3])
    assert_array_equal(alphas, [1.0, 0.3, 0.1])
    assert_allclose(coefs[..., 2], lasso(X, Y, 0.1).coef_, atol=1e-6)
    assert_array_equal(model.coef_.toarray(), before)
    weights = np.random.RandomState(0).randint(0, 3, len(X))
    _, weighted, _ = model.connector_path(X, Y, alphas=[0.1], sample_weight=weights)
    repeated = [np.repeat(part, weights, axis=0) for part in (X, Y)]
    _, expected, _ = model.connector_path(*repeated, alphas=[0.1])
    assert_allclose(weighted, expected, atol=1e-8)


@pytest.mark.parametrize("sparse_output", [True, False])
@pytest.mark.parametrize("alphas", [[2.0, 0.3, 0.1, 0.0], [0.0], [0.3]])
def test_path_in_shares_of_outputs(monkeypatch, alphas, sparse_output):
    pytest.importorskip("numba")
    monkeypatch.setattr(LIMITS, "compiled_gram", 0)
    X, Y = linear()
    model = FeatureConnector(link="identity", tol=1e-12)

    def path():
        options = {"alphas": alphas, "sparse_output": sparse_output}
        _, coefs, gaps = model.connector_path(X, Y, **options)
        if sparse_output:
            coefs = np.stack([matrix.toarray() for matrix in coefs], axis=-1)
        return coefs, gaps

    whole, gaps = path()
    # Of four outputs three are in a share, then one.
    monkeypatch.setattr(LIMITS, "path_memory", 3 * len(alphas) * X.shape[1])
    parts, same_gaps = path()
    assert_array_equal(parts, whole)
    assert_array_equal(same_gaps, gaps)
    for i, alpha in enumerate(alphas):
        fitted = FeatureConnector(alpha, link="identity", refit=False, tol=1e-12)
        expected = fitted.fit(X, Y).coef_.toarray()
        assert_allclose(whole[..., i], expected, atol=1e-8)


def test_path_where_nothing_varies():
    X, _ = linear()
    path = FeatureConnector(link="identity").connector_path
    alphas, coefs, gaps = path(X, np.ones((len(X), 2)), n_alphas=4)
    assert not coefs.any()
    assert not alphas.any()
    assert gaps.shape == (4,)
    matrices = path(X, np.ones(len(X)), n_alphas=4, sparse_output=True)[1]
    assert len({id(matrix) for matrix in matrices}) == 4


@pytest.mark.parametrize("large", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 1e-8])
def test_constant_columns_of_sparse_inputs_explain_nothing(alpha, large, monkeypatch):
    rng = np.random.RandomState(0)
    X = rng.rand(2000, 20) * (rng.rand(2000, 20) < 0.08)
    X[:, 5] = 0.1
    Y = X[:, 7:10] + 0.1 * rng.randn(2000, 3) * (rng.rand(2000, 3) < 0.05)
    if large:
        pytest.importorskip("numba")
        monkeypatch.setattr(LIMITS, "compiled_moments", 0)
        monkeypatch.setattr(LIMITS, "moment_density", 1.0)
    model = FeatureConnector(alpha, link="identity", refit=False, tol=1e-9)
    for targets in (Y, sparse.csr_array(Y)):
        coef = model.fit(sparse.csr_array(X), targets).coef_.toarray()
        assert not coef[:, 5].any()
        expected = LinearRegression().fit(X, Y).coef_
        assert_allclose(coef, np.where(np.arange(20) == 5, 0, expected), atol=1e-6)


def test_path_warns_of_alphas_that_are_not_solved(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr(LIMITS, "compiled_gram", 0)
    model = FeatureConnector(link="identity", tol=0.0, max_iter=1)
    with pytest.warns(ConvergenceWarning, match="max_iter=1"):
        _, _, gaps = model.connector_path(*linear(), n_alphas=10)
    assert gaps[0] == pytest.approx(0, abs=1e-12)
    assert gaps[-1] > 0


@pytest.mark.parametrize(
    "alphas", [[], [-1.0], [np.nan], [np.inf, 1.0], [[1.0]], ["a"], [0.1, None]]
)
@pytest.mark.parametrize("link", ["identity", "relu"])
def test_path_refuses_alphas(alphas, link):
    with pytest.raises(ValueError, match=r"alphas must be one or more (finite )?num"):
        FeatureConnector(link=link).connector_path(*rectified(), alphas=alphas)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("n_alphas", True, "n_alphas must be an int of at least 1. Got True"),
        ("n_alphas", 0, "n_alphas must be an int of at least 1. Got 0"),
        ("eps", 1.0, "eps must lie between 0 and 1. Got 1.0"),
        ("sparse_output", "no", "sparse_output must be a bool. Got 'no'"),
    ],
)
def test_path_refuses_options(name, value, message):
    with pytest.raises(ValueError, match=message):
        FeatureConnector().connector_path(*rectified(), **{name: value})


# Formula


@pytest.fixture
def written():
    model = FeatureConnector().fit(*rectified())
    coef = sparse.lil_array((32, 3000))
    coef[30, [2797, 259, 946]] = [0.26, 0.23, 0.1]
    coef[1, [0, 2, 5]] = [0.031, -2.0, 0.5]
    model.coef_ = coef.tocsr()
    return model


def test_formula(written):
    assert written.formula(30) == "F2_30 = 0.26*F1_2797 + 0.23*F1_259 + 0.10*F1_946"
    assert written.formula(1) == "F2_1 = -2.00*F1_2 + 0.50*F1_5 + 0.031*F1_0"
    assert written.formula(1, max_terms=2) == "F2_1 = -2.00*F1_2 + 0.50*F1_5"
    assert written.formula(30, max_terms=np.int64(1)) == "F2_30 = 0.26*F1_2797"
    assert written.formula(np.int64(0)) == "F2_0 = 0"
    assert written.formula("F2_1") == written.formula(1)
    names = [f"n{i}" for i in range(3000)]
    text = written.formula(1, max_terms=1, feature_names=names)
    assert text == "F2_1 = -2.00*n2"


def test_formula_of_a_negative_term_that_is_not_first():
    rng = np.random.RandomState(0)
    X = np.maximum(rng.randn(500, 20) - 1, 0)
    Y = np.maximum(X[:, [3]] - 0.5 * X[:, [7]], 0)
    model = FeatureConnector(n_nonzero_coefs=2).fit(X, Y)
    assert model.formula(0) == "F2_0 = 1.00*F1_3 - 0.50*F1_7"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output": 32}, "from 0 to 31"),
        ({"output": -1}, "from 0 to 31"),
        ({"output": 1.0}, "from 0 to 31"),
        ({"output": True}, "from 0 to 31"),
        ({"output": 0, "max_terms": 0}, "max_terms must be None or an int"),
        ({"output": 0, "max_terms": True}, "max_terms must be None or an int"),
        ({"output": 0, "feature_names": ["a"]}, "3000 inputs. Got 1"),
    ],
)
def test_formula_refuses(written, arguments, message):
    with pytest.raises(ValueError, match=message):
        written.formula(**arguments)


# Reading


def test_logic_and_graph_of_a_fitted_connector():
    rng = np.random.RandomState(0)
    X = rng.binomial(1, 0.2, (1000, 5)).astype(float)
    Y = np.maximum(X[:, [0]] + X[:, [1]] - 2 * X[:, [3]], 0)
    connector = FeatureConnector(n_nonzero_coefs=3).fit(X, Y)
    logic = connector.logic(0, X, Y, feature_names=list("abcde"))
    assert logic.kind == "and-not"
    assert {entry["name"] for entry in logic.inputs} == {"a", "b", "d"}
    assert connector.logic(0, sparse.csr_array(X), Y).kind == "and-not"
    with pytest.raises(ValueError, match="X has 4 features"):
        connector.logic(0, X[:, :4], Y)
    graph = connector.to_networkx(feature_names=list("abcde"), output_names=["z"])
    assert set(graph.edges) == {("a", "z"), ("b", "z"), ("d", "z")}
    weights = dict(zip("abd", connector.coef_.toarray()[0, [0, 1, 3]], strict=True))
    for name, weight in weights.items():
        assert graph.edges[name, "z"]["weight"] == pytest.approx(weight)


@pytest.mark.parametrize("method", ["logic", "to_networkx"])
def test_reading_needs_a_fit(method):
    with pytest.raises(NotFittedError):
        getattr(FeatureConnector(), method)(*[0, [[1.0]]][: 2 * (method == "logic")])


def test_names_of_columns_are_those_of_the_inputs():
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(
        np.maximum(rng.normal(size=(80, 3)), 0), columns=list("abc")
    )
    y = frame.to_numpy() @ [2.0, 0.0, -1.0]
    model = FeatureConnector(link="identity", n_nonzero_coefs=2).fit(frame, y)
    assert model.formula(0) == "F2_0 = 2.00*a - 1.00*c"
    assert model.formula(0, feature_names=list("xyz")) == "F2_0 = 2.00*x - 1.00*z"
    assert {entry["name"] for entry in model.logic(0, frame).inputs} == {"a", "c"}
    assert set(model.to_networkx().predecessors("F2_0")) == {"a", "c"}
