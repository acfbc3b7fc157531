"""The connector's solvers against slow references written out here."""

import warnings
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.optimize import minimize_scalar
from sklearn.exceptions import ConvergenceWarning

from skfeat.kernels import _threads
from skfeat.kernels._limits import LIMITS
from skfeat.kernels._optional import has_numba
from skfeat.losses import rectified, rectified_convex
from skfeat.penalties import L1
from skfeat.solvers._loop import EpochHooks
from skfeat.solvers._prune import Pruner
from skfeat.solvers.connector import _choose, _lasso_plain, _statistics
from skfeat.solvers.connector._fit import fit_candidates, solution_path
from skfeat.solvers.connector._fit_linear import fit_linear
from skfeat.solvers.connector._fit_parts import FitOptions, Rows
from skfeat.solvers.connector._path import Solution, find_alpha, geometric_alphas, trim
from skfeat.solvers.connector._rectified import RectifiedProblem, _largest_eigenvalue
from skfeat.solvers.connector._rectified_minibatch import (
    ConnectorSettings,
    ConnectorTrainer,
    Scales,
)
from skfeat.solvers.connector._statistics import _ROWS, GramStatistics
from skfeat.utils._warnings import told_once

pytestmark = pytest.mark.usefixtures("compiled_when_small")

SEEDS = st.integers(0, 2**31 - 1)
FLOATS = st.floats(-5, 5)


def linear_data(seed, n=40, p=6, q=3, offset=1.0):
    rng = np.random.RandomState(seed)
    X = rng.randn(n, p) + rng.randn(n, 1) + offset
    Y = X @ (rng.randn(p, q) * (rng.rand(p, q) < 0.5)) + 0.3 * rng.randn(n, q) + 2
    return X, Y, rng.rand(n) + 0.1


def rectified_data(seed, n=80, p=6, q=3):
    X, Y, weights = linear_data(seed, n, p, q, offset=0.3)
    return X, np.maximum(Y - 3, 0), weights


def statistics_of(X, Y, weights):
    return GramStatistics.zeros(X.shape[1], Y.shape[1]).update(X, Y, weights)


def rectified_problem(X, Y, weights, *, tol=1e-12, max_iter=5000, **options):
    options.setdefault("fit_intercept", True)
    statistics = statistics_of(X, Y, weights)
    return RectifiedProblem(
        X, Y, weights, statistics=statistics, tol=tol, max_iter=max_iter, **options
    )


def soft(value, threshold):
    return np.sign(value) * np.maximum(np.abs(value) - threshold, 0)


def objectives(problem, coef, alpha):
    """Objective of every output of a Gram problem."""
    fitted = np.sum(coef * problem.yx, axis=1)
    quadratic = np.sum((coef @ problem.xx) * coef, axis=1)
    l1 = alpha * np.abs(coef).sum(axis=1)
    return quadratic / 2 - fitted + problem.yy / 2 + l1


def coordinate_descent(problem, alpha, n_sweeps=3000):
    coef = np.zeros_like(problem.yx)
    for _ in range(n_sweeps):
        before = coef.copy()
        for j in range(coef.shape[1]):
            rest = problem.yx[:, j] - coef @ problem.xx[j]
            rest += coef[:, j] * problem.xx[j, j]
            coef[:, j] = soft(rest, alpha) / problem.xx[j, j]
        if np.abs(coef - before).max() < 1e-13:
            break
    return coef


# Second moments


@given(SEEDS, st.lists(st.integers(1, 39), max_size=4), st.booleans())
@example(0, [], True)
def test_statistics_do_not_depend_on_chunks(seed, cuts, as_sparse):
    X, Y, weights = linear_data(seed)
    X[X < 0.5] = 0
    chunked = GramStatistics.zeros(X.shape[1], Y.shape[1])
    for rows in np.split(np.arange(len(X)), sorted(cuts)):
        part = sparse.csr_array(X[rows]) if as_sparse else X[rows]
        chunked.update(part, Y[rows], weights[rows])
    share = weights / weights.sum()
    x_mean, y_mean = share @ X, share @ Y
    centred, targets = X - x_mean, Y - y_mean
    for intercept in (True, False):
        problem = chunked.problem(intercept)
        A, B = (centred, targets) if intercept else (X, Y)
        assert_allclose(problem.xx, A.T @ (share[:, None] * A), atol=1e-12)
        assert_allclose(problem.yx, B.T @ (share[:, None] * A), atol=1e-12)
        assert_allclose(problem.yy, share @ B**2, atol=1e-12)
    assert_allclose(problem.intercept(np.zeros_like(problem.yx)), 0)
    assert_allclose(chunked.weight, weights.sum())


def test_statistics_of_more_rows_than_a_block():
    rng = np.random.RandomState(0)
    X, Y = rng.randn(_ROWS + 5, 2), rng.randn(_ROWS + 5, 1)
    X[:, 0] += 1e6
    # A whole block of weight zero must not divide by it.
    weights = np.r_[np.zeros(_ROWS), np.ones(5)]
    problem = statistics_of(X, Y, weights).problem(True)
    assert_allclose(problem.xx, np.cov(X[-5:].T, bias=True), rtol=1e-7)
    problem = statistics_of(X, Y, np.ones(len(X))).problem(True)
    assert_allclose(problem.xx, np.cov(X.T, bias=True), rtol=1e-7, atol=1e-9)


def test_copied_statistics_are_independent():
    X, Y, weights = linear_data(0)
    statistics = statistics_of(X, Y, weights)
    before = [np.copy(part) for part in vars(statistics).values()]
    statistics.copy().update(X + 1, Y, weights)
    for part, old in zip(vars(statistics).values(), before, strict=True):
        assert_array_equal(part, old)


@pytest.mark.parametrize("constant", [7.0, 0.1, 1e6 + 0.1])
def test_a_constant_input_has_no_moments(constant):
    X, Y, weights = linear_data(0)
    X[:, 2] = constant
    problem = statistics_of(X, Y, weights).problem(True)
    assert not problem.xx[2].any()
    assert not problem.xx[:, 2].any()
    assert not problem.yx[:, 2].any()
    assert statistics_of(X, Y, weights).problem(False).xx[2, 2] > 0


@pytest.mark.parametrize("which", [0, 1])
def test_overflowing_moments_are_refused(which):
    data = [*linear_data(0)]
    data[which] = data[which] * 1e200
    with pytest.raises(ValueError, match="non-finite; rescale"):
        statistics_of(*data)
    with pytest.raises(ValueError, match="non-finite; rescale"):
        Scales.of(*data)


# Gram solver


@given(SEEDS, st.floats(1e-3, 1.5), st.booleans())
def test_gram_equals_coordinate_descent(seed, share, fit_intercept):
    problem = statistics_of(*linear_data(seed)).problem(fit_intercept)
    alpha = share * problem.alpha_max
    start = np.random.RandomState(seed).randn(*problem.yx.shape)
    coef, how = problem.solve(alpha, start, tol=1e-12, max_iter=2000)
    expected = coordinate_descent(problem, alpha)
    assert_allclose(coef, expected, atol=1e-6 * (1 + np.abs(expected).max()))
    assert_allclose(
        objectives(problem, coef, alpha),
        objectives(problem, expected, alpha),
        atol=1e-9 * (1 + problem.yy.max()),
    )
    assert how.n_iter >= 1
    assert how.relative_gap <= 1e-12
    if share >= 1:
        assert not coef.any()


def dual_gaps(problem, alpha, coef):
    rows = zip(problem.yx, problem.yy, coef, strict=True)
    return np.array(
        [_lasso_plain.Output(problem.xx, *row).dual_gap(alpha) for row in rows]
    )


@given(SEEDS, st.floats(1e-3, 1.0), st.floats(0, 3))
def test_dual_gap_bounds_suboptimality(seed, share, noise):
    problem = statistics_of(*linear_data(seed)).problem(True)
    alpha = share * problem.alpha_max
    best = coordinate_descent(problem, alpha)
    coef = best + noise * np.random.RandomState(seed).randn(*best.shape)
    gap = dual_gaps(problem, alpha, coef)
    excess = objectives(problem, coef, alpha) - objectives(problem, best, alpha)
    assert (gap >= excess - 1e-10 * (1 + problem.yy)).all()
    assert_allclose(
        dual_gaps(problem, alpha, best), 0, atol=1e-9 * (1 + problem.yy.max())
    )


class Recorder(EpochHooks):
    def __init__(self, stop_at=None):
        self.states, self.n_begun, self.stop_at = [], 0, stop_at

    def begin(self):
        self.n_begun += 1

    def end(self, state):
        self.states.append(state())
        return len(self.states) == self.stop_at


@pytest.fixture
def plain(monkeypatch):
    """As without numba."""
    monkeypatch.setattr(_choose, "has_numba", lambda: False)


@pytest.fixture(params=["compiled", "plain"])
def engine(request):
    if request.param == "plain":
        request.getfixturevalue("plain")
    elif not has_numba():
        pytest.skip("needs numba")


def test_gram_solves_collinear_inputs_in_few_rounds(engine):
    # Close to collinear: sweeps alone would need tens of thousands of rounds.
    X, Y, weights = linear_data(0)
    X = X + 30 * np.random.RandomState(0).randn(len(X), 1)
    problem = statistics_of(X, Y, weights).problem(True)
    hooks = Recorder()
    zero = np.zeros_like(problem.yx)
    coef, how = problem.solve(1e-3, zero, tol=1e-12, max_iter=100, hooks=hooks)
    assert how.n_iter <= 5
    assert how.relative_gap <= 1e-12
    assert hooks.n_begun == len(hooks.states) > 1
    assert_array_equal(hooks.states[-1][0], coef)
    assert_array_equal(hooks.states[-1][1], problem.intercept(coef))


@pytest.mark.parametrize("alpha", [1e-3, 1e-4, 1e-6])
def test_few_rows_of_many_inputs_are_solved(alpha, engine):
    # The optimum is sparse, but on the way to it many inputs look useful.
    rng = np.random.RandomState(0)
    X, coef = rng.randn(50, 200), np.zeros((200, 2))
    coef[rng.choice(200, 5, replace=False)] = rng.randn(5, 2)
    problem = statistics_of(X, X @ coef, np.ones(50)).problem(False)
    found, how = problem.solve(
        alpha, np.zeros_like(problem.yx), tol=1e-8, max_iter=1000
    )
    assert how.relative_gap <= 1e-8
    assert how.n_iter <= 20
    assert_array_equal(found != 0, coef.T != 0)


@pytest.mark.parametrize("repeats", [1, 2])
@pytest.mark.parametrize("alpha", [0.1, 0.01])
def test_gram_converges_on_singular_moments(repeats, alpha, engine):
    # More inputs than rows, and every input twice: the support is not unique, and
    # sweeps alone end far from the optimum.
    rng = np.random.RandomState(0)
    X, Y = np.repeat(rng.randn(12, 30), repeats, axis=1), rng.randn(12, 4)
    problem = statistics_of(X, Y, np.ones(12)).problem(True)
    zero = np.zeros_like(problem.yx)
    coef, how = problem.solve(alpha, zero, tol=1e-8, max_iter=1000)
    assert how.relative_gap <= 1e-8
    residual = problem.yx - coef @ problem.xx
    assert np.abs(residual).max() <= alpha * (1 + 1e-3)


def hard_rows():
    # More inputs than rows, and all of them useful: one round is not enough.
    rng = np.random.RandomState(0)
    return Rows(rng.randn(30, 60), rng.randn(30, 3) * [1e-6, 1, 1e6], np.ones(30))


def shortfalls(kind, rows, options, alphas):
    """Fit in one of the ways that solve a connector, and return what is left."""
    if kind == "fit":
        zero = np.zeros((rows.Y.shape[1], rows.X.shape[1]))
        return [fit_linear(rows.problem(True), options, zero).shortfall]
    if kind == "path":
        _, path = solution_path(rows, options, alphas, 2, 1e-3, linear=True)
        return [solution.shortfall for solution in path]
    several = [replace(options, alpha=alpha) for alpha in alphas]
    fits = fit_candidates(rows, options, several, linear=True)
    with told_once(len(alphas)):
        return [fit.shortfall for fit in fits]


@pytest.mark.parametrize("kind", ["fit", "path", "candidates"])
def test_the_worst_output_is_warned_of_once(kind, engine):
    rows = hard_rows()
    alphas = rows.problem(True).alpha_max * np.array([1e-7, 1e-9])
    options = FitOptions(alphas[0], None, False, True, tol=1e-10, max_iter=1)
    with pytest.warns(ConvergenceWarning, match="of its worst output is") as caught:
        worst = max(shortfalls(kind, rows, options, alphas))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert f"is {worst:.3g} of the output's mean square" in str(caught[0].message)
    assert 1e-10 < worst < 1


def test_gram_stops_when_asked(engine):
    problem = statistics_of(*linear_data(0)).problem(True)
    hooks = Recorder(stop_at=2)
    zero = np.zeros_like(problem.yx)
    problem.solve(1e-4, zero, tol=1e-15, max_iter=100, hooks=hooks)
    assert hooks.n_begun == len(hooks.states) == 2


@pytest.mark.skipif(not has_numba(), reason="needs numba")
@given(SEEDS, st.floats(1e-4, 1), st.booleans())
def test_compiled_solver_finds_the_optimum_of_the_plain_one(seed, share, centred):
    rng = np.random.RandomState(seed)
    n, p, q = rng.randint(2, 60), rng.randint(1, 50), rng.randint(1, 20)
    X = rng.randn(n, p) * (rng.rand(n, p) < rng.uniform(0.05, 1)) + rng.randn()
    Y = X @ (rng.randn(p, q) * (rng.rand(p, q) < 0.2)) + rng.randn(n, q)
    problem = statistics_of(X, Y, rng.rand(n) + 0.1).problem(centred)
    alpha, zero = share * problem.alpha_max, np.zeros_like(problem.yx)
    coef, how = problem.solve(alpha, zero, tol=1e-10, max_iter=1000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_choose, "has_numba", lambda: False)
        expected, _ = problem.solve(alpha, zero, tol=1e-10, max_iter=1000)
    assert how.relative_gap <= 1e-10
    both = [objectives(problem, c, alpha) for c in (coef, expected)]
    assert_allclose(*both, atol=1e-9 * problem.yy.max())


@pytest.mark.skipif(not has_numba(), reason="needs numba")
@pytest.mark.parametrize("few", [True, False])
@given(SEEDS, st.booleans(), st.booleans(), st.sampled_from([np.float32, np.float64]))
def test_sparse_moments_are_the_dense_ones(few, seed, x_sparse, y_sparse, dtype):
    rng = np.random.RandomState(seed)
    n, p, q = rng.randint(1, 300), rng.randint(1, 40), rng.randint(1, 40)
    X, Y = ((rng.randn(n, m) * (rng.rand(n, m) < 0.08)).astype(dtype) for m in (p, q))
    weights = rng.rand(n) * (rng.rand(n) < 0.8) + 1e-3
    dense = _statistics._dense_moments(X, Y, weights)
    X = in_any_order(X, rng) if x_sparse else X
    Y = in_any_order(Y, rng) if y_sparse else Y
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_threads, "n_threads", lambda: 3)
        patch.setattr(LIMITS, "threaded_work", 0)
        if not few:
            # As if there were too many for the cache, in blocks.
            second_moments = import_module("skfeat.kernels.connector._second_moments")
            patch.setattr(second_moments, "_CACHED", 0)
            patch.setattr(second_moments, "_N_PER_COLUMN", 2)
            patch.setattr(_statistics, "_ROWS", 100)
            patch.setattr(_statistics, "_STRIP", 7)
            patch.setattr(_statistics, "_TILE", 9)
        ours = _statistics._sparse_moments(X, Y, weights)
    for name, expected in vars(dense).items():
        assert_allclose(getattr(ours, name), expected, atol=1e-11, err_msg=name)
        assert getattr(ours, name).dtype == np.float64


def in_any_order(matrix, rng):
    """Return a matrix as CSR, the columns of a row shuffled, some numbers in parts."""
    parts = sparse.coo_array(matrix)
    twice = rng.rand(parts.nnz) < 0.3
    halves = np.where(twice, parts.data / 2, parts.data)
    data = np.r_[halves, halves[twice]].astype(matrix.dtype)
    rows, columns = (np.r_[part, part[twice]] for part in (parts.row, parts.col))
    order = rng.permutation(len(data))
    order = order[np.argsort(rows[order], kind="stable")]
    start = np.searchsorted(rows[order], np.arange(len(matrix) + 1))
    return sparse.csr_array((data[order], columns[order], start), shape=matrix.shape)


@pytest.mark.skipif(not has_numba(), reason="needs numba")
@given(SEEDS)
def test_canonical_as_scipy_says(seed):
    loops = import_module("skfeat.kernels.connector._loops_gram")
    rng = np.random.RandomState(seed)
    n, p = rng.randint(1, 12), rng.randint(1, 9)
    counts = rng.randint(0, min(3, p) + 1, n)
    start = np.r_[0, np.cumsum(counts)]
    indices = rng.randint(0, p, start[-1])
    if rng.rand() < 0.5:
        indices = np.hstack(
            [np.sort(rng.permutation(p)[:count]) for count in counts]
        ).astype(np.int64)
    rows = sparse.csr_array((np.ones(len(indices)), indices, start), shape=(n, p))
    found = loops.is_canonical(rows.indptr, rows.indices)
    assert found == rows.has_canonical_format


@given(SEEDS)
def test_gram_refit_is_least_squares_on_the_support(seed):
    X, Y, weights = linear_data(seed)
    X *= np.logspace(-8, 8, X.shape[1])
    problem = statistics_of(X, Y, weights).problem(False)
    support = np.random.RandomState(seed).rand(*problem.yx.shape) < 0.5
    coef = problem.refit(support)
    assert not coef[~support].any()
    root = np.sqrt(weights)[:, None]
    for output, kept in enumerate(support):
        scale = np.logspace(-8, 8, X.shape[1])[kept]
        A = X[:, kept] / scale
        expected = np.linalg.lstsq(A * root, Y[:, output] * root[:, 0])[0]
        assert_allclose(coef[output, kept] * scale, expected, rtol=1e-5, atol=1e-6)


# Losses and penalty


@given(FLOATS, FLOATS)
def test_residuals_are_derivatives(u, y):
    h = 1e-6
    for loss in (rectified, rectified_convex):
        if abs(u) < 2 * h:
            continue  # the kink has no derivative
        u_, y_ = np.array(u), np.array(y)
        slope = (loss(u_ + h, y_)[1] - loss(u_ - h, y_)[1]) / (2 * h)
        assert_allclose(loss(u_, y_)[0], slope, atol=1e-6)


@given(FLOATS, FLOATS)
def test_majorant(u, y):
    _, true = rectified(np.array(u), np.array(y))
    _, convex = rectified_convex(np.array(u), np.array(y))
    assert_allclose(true, (max(0, u) - y) ** 2 / 2)
    assert convex >= true
    if u > 0 or y <= 0:
        assert convex == true
    else:
        assert_allclose(convex, (u - y) ** 2 / 2)


@given(FLOATS, FLOATS, st.floats(0, 1), st.floats(0, 5))
def test_majorant_is_convex(a, b, t, y):
    def value(u):
        return rectified_convex(np.array(u), np.array(y))[1]

    middle = t * a + (1 - t) * b
    assert value(middle) <= t * value(a) + (1 - t) * value(b) + 1e-9


def test_losses_of_torch_and_numpy_agree():
    u, y = np.random.RandomState(0).randn(2, 50)
    for loss in (rectified, rectified_convex):
        ours = loss(u, y)
        theirs = loss(torch.tensor(u), torch.tensor(y))
        for a, b in zip(ours, theirs, strict=True):
            assert_array_equal(a, b.numpy())


@given(FLOATS, st.floats(0.01, 3), st.floats(0.01, 3))
def test_prox_is_the_minimiser(w, alpha, step):
    penalty = L1(alpha)
    found = float(penalty.prox(np.array(w), step))

    def value(x):
        return penalty.value(np.array(x)) + (x - w) ** 2 / (2 * step)

    expected = minimize_scalar(value, bounds=(-6, 6), options={"xatol": 1e-9}).x
    assert value(found) <= value(expected) + 1e-12
    assert_allclose(found, expected, atol=1e-4)


def test_prox_is_elementwise_in_the_step():
    coef = np.array([[1.0, -1.0, 0.3]])
    steps = np.array([1.0, 0.0, 2.0])
    assert_allclose(L1(0.25).prox(coef, steps), [[0.75, -1.0, 0.0]])
    assert L1(2.0).value(coef) == 4.6
    assert L1.alpha_max(coef) == 1
    assert L1.alpha_max(np.zeros((0, 3))) == 0


# Rectified solver


@given(SEEDS, st.sampled_from([2, 5, 20]), st.booleans())
def test_largest_eigenvalue_is_a_tight_upper_bound(seed, p, correlated):
    rng = np.random.RandomState(seed)
    X = rng.randn(30, p) + (3 * rng.randn(30, 1) if correlated else 0)
    matrix = np.corrcoef(X.T)
    true = np.linalg.eigvalsh(matrix)[-1]
    assert true * (1 - 1e-12) <= _largest_eigenvalue(matrix) <= 1.25 * true


@given(SEEDS, st.sampled_from([3, 8, 30]), st.booleans(), st.booleans())
def test_steps_are_those_of_the_largest_eigenvalue(seed, n, centred, is_sparse):
    X, Y, weights = rectified_data(seed, n=n, p=8)
    rows = sparse.csr_array(X) if is_sparse else X
    problem = rectified_problem(rows, Y, weights, fit_intercept=centred)
    moments = statistics_of(X, Y, weights).problem(centred).xx
    scale = 1 / np.sqrt(np.diag(moments))
    largest = np.linalg.eigvalsh(scale[:, None] * moments * scale)[-1]
    found = scale**2 / problem.steps
    assert_allclose(found, found[0])
    assert largest * (1 - 1e-9) <= found[0] <= 1.25 * largest


def test_largest_eigenvalue_of_nothing():
    assert _largest_eigenvalue(np.zeros((3, 3))) == 0
    assert _largest_eigenvalue(np.eye(3)) == pytest.approx(1)


@given(SEEDS, st.sampled_from([0.02, 0.2, 0.6]), st.booleans())
def test_rectified_solution_is_stationary(seed, share, fit_intercept):
    X, Y, weights = rectified_data(seed)
    problem = rectified_problem(X, Y, weights, tol=1e-14, fit_intercept=fit_intercept)
    alpha_max, null = problem.null()
    alpha = share * alpha_max
    with warnings.catch_warnings():
        # At a kink the tolerance of this test may be out of reach; what counts is
        # where the weights are, which is checked below.
        warnings.simplefilter("ignore", ConvergenceWarning)
        solution = problem.solve(alpha, null)
    coef, intercept = solution.coef, solution.intercept
    # Written out afresh, from raw rows.
    w = (weights / weights.sum())[:, None]
    u = X @ coef.T + intercept
    residual = w * np.where(u > 0, u - Y, 0)
    gradient = residual.T @ X
    scale = alpha_max
    on = coef != 0
    assert_allclose(gradient[on], -alpha * np.sign(coef[on]), atol=1e-4 * scale)
    assert (np.abs(gradient[~on]) <= alpha + 1e-4 * scale).all()
    if fit_intercept:
        assert_allclose(residual.sum(axis=0), 0, atol=1e-4 * (w * Y).sum(axis=0).max())
    else:
        assert not intercept.any()


@given(SEEDS, st.sampled_from([0.0, 0.02, 0.3]))
def test_majorant_stage_reaches_the_reference(seed, share):
    X, Y, weights = rectified_data(seed)
    problem = rectified_problem(X, Y, weights, tol=1e-10)
    alpha_max, null = problem.null()
    alpha = share * alpha_max
    coef, offset, *_ = problem._descend(
        rectified_convex, alpha, null.coef, null.intercept, None, 5000
    )
    reached = problem.objective(coef, offset, alpha, rectified_convex)
    # Proximal gradient without any acceleration, on raw rows.
    A = np.c_[X, np.ones(len(X))]
    w = (weights / weights.sum())[:, None]
    step = 1 / np.linalg.eigvalsh(A.T @ (w * A))[-1]
    theta = np.zeros((Y.shape[1], A.shape[1]))
    for _ in range(3000):
        theta -= step * (w * rectified_convex(A @ theta.T, Y)[0]).T @ A
        theta[:, :-1] = soft(theta[:, :-1], alpha * step)
    value = float((w * rectified_convex(A @ theta.T, Y)[1]).sum())
    value += alpha * np.abs(theta[:, :-1]).sum()
    assert reached <= value * 1.001 + 1e-9


@given(SEEDS, st.booleans())
def test_rectified_never_ends_above_its_start(seed, negative):
    X, Y, weights = rectified_data(seed)
    if negative:  # targets that no rectified output can reach make kinks
        Y = Y - np.random.RandomState(seed).rand(*Y.shape)
    hooks = Recorder()
    problem = rectified_problem(X, Y, weights, tol=1e-8, hooks=hooks)
    rng = np.random.RandomState(seed)
    coef, offset = rng.randn(Y.shape[1], X.shape[1]), rng.randn(Y.shape[1])
    start = problem.objective(coef, offset, 0.01)
    new, new_offset, n_iter, decrease, _ = problem._descend(
        rectified, 0.01, coef, offset, None, 5000
    )
    assert problem.objective(new, new_offset, 0.01) <= start
    assert decrease >= 0
    values = [
        problem.objective(c, b + c @ problem.center, 0.01) for c, b in hooks.states
    ]
    assert len(values) == n_iter < 5000
    assert (np.diff(values) <= 1e-12).all()


def test_rectified_ignores_inputs_that_never_vary():
    X, Y, weights = rectified_data(0)
    X[:, 1], X[:, 4] = 0, 0.1
    start = Solution(np.ones((3, 6)), np.zeros(3), 0, 0.0)
    for alpha in (0.0, 0.01):
        solution = rectified_problem(X, Y, weights, tol=1e-8).solve(alpha, start)
        assert not solution.coef[:, [1, 4]].any()
        assert solution.coef[:, 0].any()


def test_rectified_warns_at_max_iter():
    X, Y, weights = rectified_data(0)
    for max_iter in (3, 30):
        problem = rectified_problem(X, Y, weights, max_iter=max_iter)
        solution = problem.solve(1e-3, problem.null()[1])
        with pytest.warns(ConvergenceWarning, match=f"max_iter={max_iter} iter"):
            problem.warn_of(solution.shortfall)
        assert solution.stopping_value > problem.tol
    problem.solve(1e-3, solution)


def test_rectified_names_the_fall_of_the_worst_output():
    X, Y, weights = rectified_data(0)
    Y = Y * [1, 1e-4, 1]  # too small to be seen in the sum
    weights = weights / weights.sum()
    states = []

    class Keep(EpochHooks):
        def end(self, state):
            states.append(state())

    problem = rectified_problem(X, Y, weights, max_iter=30, hooks=Keep())
    solution = problem.solve(1e-7, problem.null()[1])

    def values(state):
        coef, intercept = state
        loss = rectified(X @ coef.T + intercept, Y)[1]
        return weights @ loss + 1e-7 * np.abs(coef).sum(axis=1)

    # What was reported after so many iterations of the second stage.
    before, after = values(states[-11]), values(states[-1])
    falls = (before - after) / after
    assert falls.argmax() == 1
    assert falls.max() > 2 * solution.stopping_value
    with pytest.warns(ConvergenceWarning) as caught:
        problem.warn_of(solution.shortfall)
    assert f"its worst output still fell by {falls.max():.3g} of" in str(
        caught[0].message
    )


@given(SEEDS, st.booleans())
def test_null_is_the_edge_of_the_path(seed, fit_intercept):
    X, Y, weights = rectified_data(seed)
    problem = rectified_problem(X, Y, weights, tol=1e-10, fit_intercept=fit_intercept)
    alpha_max, null = problem.null()
    assert alpha_max > 0
    at = problem.solve(alpha_max * (1 + 1e-9), null)
    below = problem.solve(alpha_max * 0.99, null)
    assert np.count_nonzero(at.coef) == 0
    assert np.count_nonzero(below.coef) > 0
    linear = statistics_of(X, Y, weights).problem(fit_intercept)
    zero = np.zeros_like(linear.yx)
    for share, some in ((1 + 1e-9, False), (0.99, True)):
        coef, _ = linear.solve(linear.alpha_max * share, zero, tol=1e-10, max_iter=1000)
        assert coef.any() == some


@given(SEEDS, st.integers(0, 18))
@example(4602, 6)  # one output is never on
@example(4602, 14)
def test_prune_keeps_the_budget(seed, budget):
    X, Y, weights = rectified_data(seed)
    problem = rectified_problem(X, Y, weights, tol=1e-6, max_iter=200)
    start = Solution(np.ones((3, 6)), np.zeros(3), 0, 0.0)
    dense = problem.solve(0.0, start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        solution = problem.prune(dense, budget)
    useful = X.shape[1] * np.count_nonzero((Y > 0).any(axis=0))
    assert np.count_nonzero(solution.coef) == min(budget, useful)


# Budgets


@given(
    st.lists(st.sampled_from([0.0, -1.0, 1.0, 2.0, 3.0]), min_size=1, max_size=12),
    st.integers(0, 15),
)
@example([1.0, 1.0, 1.0, 1.0], 2)
def test_trim(values, budget):
    coef = np.array(values)[None]
    saliency = np.abs(coef)
    kept = trim(coef, saliency, budget)
    assert_array_equal(coef[0], values)
    assert np.count_nonzero(kept) == min(budget, np.count_nonzero(coef))
    dropped = (coef != 0) & (kept == 0)
    assert_array_equal(kept[kept != 0], coef[kept != 0])
    if dropped.any() and kept.any():
        assert saliency[dropped].max() <= saliency[kept != 0].min()


def test_trim_returns_what_is_within_budget():
    coef = np.array([[1.0, 0.0]])
    assert trim(coef, coef, 1) is coef


class Staircase:
    """Solutions with as many weights as thresholds that alpha lies below."""

    def __init__(self, thresholds):
        self.thresholds = np.asarray(thresholds)
        self.alphas = []

    def __call__(self, alpha, start):
        self.alphas.append(alpha)
        coef = (self.thresholds > alpha).astype(float)[None]
        return Solution(coef, np.zeros(1), 1, 0.0)

    @property
    def null(self):
        return Solution(np.zeros((1, len(self.thresholds))), np.zeros(1), 0, 0.0)


@given(st.lists(st.floats(1e-4, 0.99), min_size=1, max_size=30, unique=True), st.data())
def test_find_alpha_meets_a_budget(thresholds, data):
    budget = data.draw(st.integers(1, len(thresholds)))
    ordered = np.sort(thresholds)[::-1]
    stairs = Staircase(thresholds)
    alpha, solution = find_alpha(stairs, stairs.null, 1.0, budget)
    count = np.count_nonzero(solution.coef)
    assert count >= budget
    assert alpha < ordered[budget - 1]
    if budget == len(ordered) or ordered[budget] < ordered[budget - 1] * 0.999:
        assert count == budget
    assert_array_equal(stairs(alpha, None).coef, solution.coef)


def test_find_alpha_follows_the_path_from_above():
    stairs = Staircase(np.geomspace(1e-3, 0.9, 1000))
    _, solution = find_alpha(stairs, stairs.null, 1.0, 500)
    assert np.count_nonzero(solution.coef) == 500
    n_path = np.flatnonzero(np.diff(stairs.alphas) > 0)[0] + 1
    assert (np.diff(stairs.alphas[:n_path]) < 0).all()
    assert len(stairs.alphas) - n_path <= 6  # interpolates instead of bisecting


def test_find_alpha_with_ties_returns_more():
    stairs = Staircase([0.5, 0.5, 0.5, 0.1])
    alpha, solution = find_alpha(stairs, stairs.null, 1.0, 2)
    assert np.count_nonzero(solution.coef) == 3
    assert 0.1 <= alpha < 0.5


@pytest.mark.parametrize(("alpha_max", "budget"), [(1.0, 0), (0.0, 3)])
def test_find_alpha_with_nothing_to_find(alpha_max, budget):
    stairs = Staircase([0.5, 0.1])
    null = stairs.null
    assert find_alpha(stairs, null, alpha_max, budget) == (alpha_max, null)
    assert not stairs.alphas


def test_find_alpha_beyond_what_there_is():
    stairs = Staircase([0.5, 0.1])
    alpha, solution = find_alpha(stairs, stairs.null, 1.0, 3)
    assert np.count_nonzero(solution.coef) == 2
    assert alpha == pytest.approx(1e-6)


def test_geometric_alphas():
    assert_allclose(geometric_alphas(2.0, 3, 0.01), [2, 0.2, 0.02])
    assert_array_equal(geometric_alphas(0.0, 3, 0.01), [0, 0, 0])


def test_prune_schedule_ends_at_the_budget():
    coef = torch.tensor(np.random.RandomState(0).randn(4, 10))
    original = coef.clone()
    pruner = Pruner(coef, budget=5, first=30)
    counts = []
    for progress in (0.1, 0.3, 0.5, 0.7, 1.0):
        pruner.prune(progress, coef.abs())
        counts.append(int((coef != 0).sum()))
    assert counts[0] == 30
    assert counts == sorted(counts, reverse=True)
    assert counts[-2:] == [5, 5]
    strongest = original.abs().ravel().topk(5).indices
    assert set(strongest.tolist()) == set(coef.ravel().nonzero().ravel().tolist())


@pytest.mark.parametrize("budget", [0, 1, 40, 50])
def test_pruner_at_the_edges(budget):
    coef = torch.ones(4, 10)  # all tied
    Pruner(coef, budget, first=0).prune(1.0, coef.abs())
    assert int((coef != 0).sum()) == min(budget, 40)


def test_pruner_looks_at_the_saliency():
    coef = torch.tensor([[1.0, 2.0]])
    Pruner(coef, 1, first=1).prune(1.0, torch.tensor([[3.0, 2.0]]))
    assert coef.tolist() == [[1.0, 0.0]]


# Minibatch solver


def trainer_for(X, Y, weights, start=None, **options):
    settings = {
        "alpha": 0.0,
        "budget": None,
        "fit_intercept": True,
        "learning_rate": 0.01,
        "batch_size": 50,
        "device": torch.device("cpu"),
        "dtype": torch.float64,
        "seed": 0,
    } | options
    if start is None:
        rng = np.random.RandomState(0)
        coef = 0.3 * rng.randn(Y.shape[1], X.shape[1])
        start = Solution(coef, np.zeros(Y.shape[1]), 0, 0.0)
    scales = Scales.of(X, Y, weights)
    return ConnectorTrainer(ConnectorSettings(**settings), start, scales)


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_minibatch_comes_near_the_full_batch(share):
    X, Y, _ = rectified_data(3, n=400)
    X, Y, weights = 50 * X, 20 * Y, np.ones(400)  # units that must not matter
    problem = rectified_problem(X, Y, weights, tol=1e-10)
    alpha_max, null = problem.null()
    alpha = share * alpha_max
    coef, offset, *_ = problem._descend(
        rectified_convex, alpha, null.coef, null.intercept, None, 5000
    )
    best = problem.objective(coef, offset, alpha, rectified_convex)
    trainer = trainer_for(X, Y, weights, alpha=alpha, learning_rate=0.03)
    trainer.plan(400, 250)
    for _ in range(250):
        trainer.epoch(X, Y, weights)
    coef, intercept = trainer.finish()
    reached = problem.objective(
        coef, intercept + coef @ problem.center, alpha, rectified_convex
    )
    assert best * (1 - 1e-9) <= reached <= 1.02 * best
    assert 0 < np.count_nonzero(coef == 0) < coef.size


def test_minibatch_weights_come_back_in_raw_units():
    X, Y, weights = rectified_data(0)
    start = Solution(np.arange(18.0).reshape(3, 6), np.arange(3.0), 0, 0.0)
    coef, intercept = trainer_for(100 * X, Y, weights, start).weights()
    assert_allclose(coef, start.coef)
    assert_allclose(intercept, start.intercept)


def test_minibatch_gradient_is_that_of_the_objective():
    X, Y, weights = rectified_data(1)
    trainer = trainer_for(X, Y, weights, batch_size=80)
    coef, intercept = trainer.weights()
    value = trainer.epoch(X, Y, weights)
    scales = trainer.scales
    w = (weights / weights.sum())[:, None]

    def loss(coef):
        u = X @ coef.T + intercept
        return float((w * rectified_convex(u, Y)[1]).sum())

    assert_allclose(value, loss(coef) / scales.y**2)
    gradient = np.zeros_like(coef)
    for index in np.ndindex(*coef.shape):
        shift = np.zeros_like(coef)
        shift[index] = 1e-6
        gradient[index] = (loss(coef + shift) - loss(coef - shift)) / 2e-6
    # In the trainer's units weights are scaled by x / y and the loss by 1 / y^2.
    found = trainer.coef.grad.numpy() * scales.x * scales.y
    assert_allclose(found, gradient, atol=1e-6)


def test_minibatch_state_goes_on_where_it_was():
    X, Y, weights = rectified_data(0)
    whole, first = (trainer_for(X, Y, weights, alpha=0.01) for _ in range(2))
    for _ in range(4):
        whole.epoch(X, Y, weights)
    for _ in range(2):
        first.epoch(X, Y, weights)
    second = trainer_for(X, Y, weights, alpha=0.01, seed=99)
    second.load_state(first.state())
    for _ in range(2):
        second.epoch(X, Y, weights)
    for ours, theirs in zip(second.finish(), whole.finish(), strict=True):
        assert_array_equal(ours, theirs)


@pytest.mark.parametrize("budget", [0, 1, 7, 18])
def test_minibatch_meets_the_budget(budget):
    X, Y, weights = rectified_data(0)
    trainer = trainer_for(X, Y, weights, budget=budget)
    trainer.plan(80, 40)
    for _ in range(40):
        trainer.epoch(X, Y, weights)
    coef, _ = trainer.finish()
    assert np.count_nonzero(coef) == budget


def test_minibatch_refuses_weights_that_are_not_finite():
    trainer = trainer_for(*rectified_data(0))
    trainer.coef[0, 0] = np.nan
    with pytest.raises(ValueError, match="lower 'learning_rate_init'"):
        trainer.finish()


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array, sparse.csr_matrix])
def test_scales(kind):
    X, Y, weights = rectified_data(0)
    X[X < 0] = 0
    scales = Scales.of(kind(X), Y, weights)
    share = weights / weights.sum()
    mean = share @ X
    assert_allclose(scales.x, np.sqrt((share @ X**2).mean()))
    assert_allclose(scales.y, np.sqrt((share @ Y**2).mean()))
    assert_allclose(scales.spread, np.sqrt(share @ (X - mean) ** 2))
    nothing = Scales.of(kind(0 * X), 0 * Y, weights)
    assert (nothing.x, nothing.y) == (1.0, 1.0)


# The rectified connector on inputs that are mostly zeros


def sparse_rectified(seed):
    rng = np.random.RandomState(seed)
    n, p, q = rng.randint(30, 200), rng.randint(1, 30), rng.randint(1, 8)
    X = rng.rand(n, p) * (rng.rand(n, p) < rng.uniform(0.05, 0.4))
    Y = X @ (rng.randn(p, q) * (rng.rand(p, q) < 0.4)) + 0.05 * rng.randn(n, q) - 0.1
    return X, np.maximum(Y, 0), rng.rand(n) + 0.1


def column_problem(X, Y, weights, **options):
    options = {"fit_intercept": True, "tol": 1e-12, "max_iter": 5000, **options}
    sparse_solver = import_module("skfeat.solvers.connector._rectified_sparse")
    statistics = statistics_of(X, Y, weights)
    return sparse_solver.SparseRectifiedProblem(
        X, Y, weights, statistics=statistics, **options
    )


needs_numba = pytest.mark.skipif(not has_numba(), reason="needs numba")


@needs_numba
@given(SEEDS, st.floats(1e-3, 0.9), st.booleans())
def test_column_descent_finds_the_optimum_of_the_majorant(seed, share, centred):
    X, Y, weights = sparse_rectified(seed)
    fast = column_problem(X, Y, weights, fit_intercept=centred)
    slow = rectified_problem(X, Y, weights, fit_intercept=centred, tol=1e-13)
    alpha_max, null = slow.null()
    alpha = share * alpha_max
    args = rectified_convex, alpha, null.coef, null.intercept, None
    coef, offset, *_ = fast._descend(*args, 5000)
    expected, expected_offset, *_ = slow._descend(*args, 20000)
    ours = slow.objective(coef, offset, alpha, rectified_convex)
    theirs = slow.objective(expected, expected_offset, alpha, rectified_convex)
    assert ours <= theirs + 1e-7 * np.square(Y).mean()


@needs_numba
@given(SEEDS, st.floats(1e-3, 0.5))
def test_column_descent_ends_where_no_weight_can_gain(seed, share):
    X, Y, weights = sparse_rectified(seed)
    problem = column_problem(X, Y, weights)
    alpha_max, null = problem.null()
    alpha = share * alpha_max
    solution = problem.solve(alpha, null)
    value = problem.objective(
        solution.coef, solution.intercept + solution.coef @ problem.center, alpha
    )
    # A random step of one weight never leads lower, but for rounding.
    rng = np.random.RandomState(seed)
    for size in (1e-4, 1e-2):
        coef = solution.coef.copy()
        coef[rng.randint(len(coef)), rng.randint(coef.shape[1])] += size * rng.randn()
        offset = solution.intercept + coef @ problem.center
        allowed = 1e-5 * np.square(Y).mean()
        assert problem.objective(coef, offset, alpha) >= value - allowed


@needs_numba
@given(SEEDS)
def test_column_pruning_meets_the_budget(seed):
    X, Y, weights = sparse_rectified(seed)
    problem = column_problem(X, Y, weights, tol=1e-8)
    budget = np.random.RandomState(seed).randint(0, X.shape[1] * Y.shape[1] + 1)
    start = Solution(np.zeros((Y.shape[1], X.shape[1])), Y.mean(axis=0), 0, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        solution = problem.prune(start, budget)
    assert np.count_nonzero(solution.coef) <= budget
