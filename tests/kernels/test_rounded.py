"""Rounded products on the CPU: against torch's own rounding, and exact ones."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

pytest.importorskip("numba")

from skfeat.kernels._limits import LIMITS
from skfeat.kernels._memory import Buffers
from skfeat.kernels._threads import Team
from skfeat.kernels.sae import _bfloat16, _int8, _relu_bfloat16
from skfeat.kernels.sae import _loops_bfloat16 as LOOPS
from skfeat.kernels.sae._activations import make_training_activation
from skfeat.kernels.sae._choose import approximate_in, make_kernel
from skfeat.kernels.sae._dense import DenseKernel
from skfeat.kernels.sae._kernel import KernelSettings, n_auxiliary
from skfeat.kernels.simd._integers import is_supported

BITS = st.integers(0, 2**32 - 1)
SEEDS = st.integers(0, 2**31 - 1)

needs_integers = pytest.mark.skipif(
    not is_supported(), reason="the processor has no instruction for it"
)
PRECISIONS = ["bfloat16", pytest.param("int8", marks=needs_integers)]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Let threads take few rows and features, and round however few there are."""
    monkeypatch.setattr(LIMITS, "narrow_bytes", 0)
    for module in (_bfloat16, _relu_bfloat16):
        monkeypatch.setattr(module, "BFLOAT16_ROWS", 8)
    monkeypatch.setattr(_int8, "_INTEGER_ROWS", 16)
    monkeypatch.setattr(_int8, "_BLOCK", 8)
    monkeypatch.setattr(_relu_bfloat16, "_FEATURES", 16)
    monkeypatch.setattr(LIMITS, "threaded_work", 0)


def as_bfloat16(bits):
    return torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)


@given(st.lists(BITS, min_size=1, max_size=40))
def test_rounds_as_torch_does(patterns):
    values = np.array(patterns, np.uint32).view(np.float32)[None]
    out = np.empty(values.shape, np.uint16)
    LOOPS.round_rows(0, 1, values, np.zeros(values.shape[1], np.float32), out)
    expected = torch.from_numpy(values).bfloat16()
    assert_close(as_bfloat16(out), expected, rtol=0, atol=0, equal_nan=True)
    back = np.empty_like(values)
    LOOPS.widen_rows(0, 1, out, back)
    assert_close(
        torch.from_numpy(back), expected.float(), rtol=0, atol=0, equal_nan=True
    )


class Problem:
    """Rows, weights and parameters at random, of float32."""

    def __init__(self, seed, name, *, tied=False, n_rows=None):
        rng = np.random.default_rng(seed)
        n, d, m = rng.integers(1, 70), rng.integers(2, 20), rng.integers(60, 120)
        n = n_rows or n
        self.activation = make_training_activation(name, 5, d)
        decoder = rng.standard_normal((m, d))
        decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
        arrays = {
            "decoder": decoder,
            "encoder_bias": 0.1 * rng.standard_normal(m),
            "bias": 0.1 * rng.standard_normal(d),
        }
        if not tied:
            arrays["encoder"] = decoder + 0.3 * rng.standard_normal((m, d))
        self.arrays = {name: np.float32(array) for name, array in arrays.items()}
        self.x = torch.from_numpy(np.float32(rng.standard_normal((n, d))))
        weights = torch.from_numpy(np.float32(rng.uniform(0.1, 2, n)))
        self.weights = weights / weights.sum()
        self.dead = torch.from_numpy(np.sort(rng.permutation(m)[:30]))

    def solve(self, precision, *, dense=False, n_threads=1, dead=None):
        params = {name: torch.tensor(array) for name, array in self.arrays.items()}
        settings, team = KernelSettings(self.activation, precision=precision), Team()
        if dense:
            kernel = DenseKernel(params, settings)
        else:
            kernel = make_kernel(params, settings, team)
        if not dense and self.activation.name == "relu":
            kernel.memory = (1.0,)  # its codes are dense
        penalty = 0.05 if self.activation.penalised else 0.0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "get_num_threads", lambda: n_threads)
            with team:
                result = kernel.gradients(self.x, self.weights, penalty, dead)
        return {name: param.grad for name, param in params.items()}, result


def assert_near(actual, expected, share):
    """Compare gradients as wholes: numbers next to a tie are rounded either way."""
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        error = (actual[name] - value).norm()
        assert error <= share * value.norm() + 1e-6, name


@given(seed=SEEDS, tied=st.booleans())
def test_dense_relu_is_the_dense_kernel_rounded(seed, tied):
    problem = Problem(seed, "relu", tied=tied)
    actual, result = problem.solve("bfloat16")
    expected, reference = problem.solve("bfloat16", dense=True)
    assert_near(actual, expected, 0.01)
    assert float(result.loss) == pytest.approx(float(reference.loss), rel=1e-2)
    assert abs(result.n_active - int(reference.n_active)) <= 0.01 * problem.x.numel()
    # Of few codes, one that rounding turns on or off is a share to be seen.
    problem = Problem(seed, "relu", tied=tied, n_rows=500)
    exact, _ = problem.solve("float32", dense=True)
    assert_near(problem.solve("bfloat16")[0], exact, 0.05)


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("relu", "bfloat16"),
        *(
            pytest.param(name, precision, marks=marks)
            for name in ("topk", "batch_topk")
            for precision, marks in (("bfloat16", ()), ("int8", needs_integers))
        ),
    ],
)
@given(seed=SEEDS)
def test_any_number_of_threads_gives_the_same(name, precision, seed):
    problem = Problem(seed, name)
    dead = None if name == "relu" else problem.dead
    one, first = problem.solve(precision, n_threads=1, dead=dead)
    three, second = problem.solve(precision, n_threads=3, dead=dead)
    for key, value in one.items():
        assert torch.equal(value, three[key]), key
    assert torch.equal(first.fired, second.fired)
    assert first._replace(fired=None) == second._replace(fired=None)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["topk", "batch_topk"])
@given(seed=SEEDS)
def test_what_rounding_selects_is_computed_exactly(name, precision, seed):
    problem = Problem(seed, name)
    k = problem.activation.k
    # Rounding does not confuse these with the others.
    problem.arrays["encoder_bias"][:k] += 30
    # As many dead features as each row revives.
    dead = torch.arange(k, k + n_auxiliary(k, k))
    actual, result = problem.solve(precision, dead=dead)
    expected, reference = problem.solve("float32", dead=dead)
    assert result.n_active == k * len(problem.x)
    assert result.n_active == reference.n_active
    assert_near(actual, expected, 1e-4)


def test_the_thread_that_trains_keeps_its_own(monkeypatch):
    before = torch.get_num_threads()
    Problem(0, "relu").solve("bfloat16")
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("precision", PRECISIONS)
@given(seed=SEEDS)
def test_the_bound_of_batch_topk_is_that_of_exact_codes(precision, seed):
    problem = Problem(seed, "batch_topk")
    _, result = problem.solve(precision)
    _, reference = problem.solve("float32")
    # Few are in another order, and all that is near the bound is computed exactly.
    assert result.n_active == reference.n_active
    assert result.lowest == pytest.approx(reference.lowest, rel=1e-4)


def multiplied(rows, features):
    """Return the products of rows and features that integers give."""
    with Team() as team:
        bias = np.zeros(len(features), np.float32)
        args = rows, features, bias, Buffers(), team
        pre, _, multiply, *_ = _int8.by_integers(*args)
        multiply(0, len(rows))
    return pre[:, : len(features)]


def shares_of_columns(matrix):
    squares = np.square(matrix)
    total = squares.sum(axis=1, keepdims=True)
    inverse = np.zeros_like(total)
    np.divide(1, total, out=inverse, where=total > 1e-30)
    return (squares * inverse).mean(axis=0)


def integers(matrix):
    """Round rows to integers; return them and what they are multiples of."""
    size = np.abs(matrix).max(axis=1, keepdims=True)
    with np.errstate(all="ignore"):
        rounded = np.rint(matrix * np.where(size > 1e-30, np.float32(127) / size, 0))
    return rounded.astype(np.int64), size / np.float32(127)


@st.composite
def factors(draw):
    """Rows and features, some with columns or rows that are large, tiny or zero."""
    rng = np.random.default_rng(draw(SEEDS))
    n, d, m = (draw(st.integers(1, most)) for most in (40, 30, 150))
    rows, features = rng.standard_normal((n, d)), rng.standard_normal((m, d))
    scales = st.sampled_from([0, 1e-35, 1e-3, 1e3])
    rows[:, rng.integers(d)] *= draw(scales)
    features[:, rng.integers(d)] *= draw(scales)
    rows[rng.integers(n)] *= draw(scales)
    features[rng.integers(m)] *= draw(scales)
    return np.float32(rows), np.float32(features), np.float32(rng.standard_normal(m))


@needs_integers
@given(factors())
def test_products_of_integers_are_exact(problem):
    rows, features, bias = problem
    n, m = len(rows), len(features)
    with Team() as team:
        pre, filled, multiply, *_ = _int8.by_integers(
            *(rows, features, bias, Buffers(), team)
        )
        multiply(0, n)
        shares = [_int8._shares(part, team) for part in problem[:2]]
    for part, share in zip(problem[:2], shares, strict=True):
        np.testing.assert_allclose(share, shares_of_columns(part), rtol=1e-4)
    balance = _int8._balance(*shares)
    both = (shares[0] > 0) & (shares[1] > 0)
    np.testing.assert_array_equal(balance[~both], 1)
    ratio = shares[0][both] / shares[1][both]
    np.testing.assert_allclose(balance[both] ** 4, ratio, rtol=1e-4)
    left, right = rows * (1 / balance), features * balance
    (whole, unit), (other, other_unit) = integers(left), integers(right)
    expected = (whole @ other.T).astype(np.float32) * (unit * other_unit.T)
    np.testing.assert_allclose(pre[:, :m], expected, rtol=1e-6, atol=1e-30)
    np.testing.assert_array_equal(filled[:m], bias)
    assert (filled[m:] == -np.inf).all()
    # Each factor is half a unit off at most.
    error = np.abs(pre[:, :m] - left.astype(np.float64) @ right.T)
    sums = [np.abs(part).sum(axis=1, keepdims=True) for part in (left, right)]
    allowed = unit / 2 * sums[1].T + sums[0] * other_unit.T / 2
    allowed += rows.shape[1] * unit * other_unit.T / 4
    # What is too small to be divided by is zero.
    allowed += 1e-30 * (sums[1].T + sums[0])
    assert (error <= 1.001 * allowed + 1e-30).all()


@needs_integers
def test_a_column_that_is_large_in_the_rows_alone_costs_the_others_little():
    rng = np.random.default_rng(0)
    rows, features = rng.standard_normal((2, 300, 64)).astype(np.float32)
    exact = rows @ features.T
    rows[:, 5] *= 100
    features[:, 5] /= 100
    error = multiplied(rows, features) - exact
    assert np.sqrt(np.mean(error**2)) < 0.02 * exact.std()


@needs_integers
@pytest.mark.parametrize("where", ["rows", "features"])
def test_an_outlier_spoils_no_other_row(where):
    rng = np.random.default_rng(0)
    rows, features = rng.standard_normal((2, 300, 64)).astype(np.float32)
    (rows if where == "rows" else features)[7, 3] = 1e6
    exact = rows @ features.T
    error = multiplied(rows, features) - exact
    error = np.delete(np.delete(error, 7, axis=0), 7, axis=1)
    assert np.sqrt(np.mean(error**2)) < 0.02 * 64**0.5


@needs_integers
def test_sums_of_32_bits_hold_what_is_multiplied():
    assert approximate_in("int8", 2**17) is not None
    assert approximate_in("int8", 2**17 + 1) is None
    rows = np.ones((2, 2**17), np.float32)
    products = multiplied(rows, np.stack([rows[0], -rows[0]]))
    np.testing.assert_allclose(products, 2**17 * np.array([[1, -1]] * 2), rtol=1e-5)


@pytest.mark.parametrize(
    ("features", "supported"),
    [("+avx2,+avx512vnni", True), ("+avx2,-avx512vnni", False), ("", False)],
)
def test_who_has_the_instruction(features, supported, monkeypatch):
    monkeypatch.setattr("numba.core.config.CPU_FEATURES", features)
    assert is_supported() == supported
