"""Products of bfloat16 on the CPU: against torch's own rounding, and exact ones."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

pytest.importorskip("numba")

from skfeat.kernels import _rounded, _rounded_relu, _sparse, _threads
from skfeat.kernels._activations import make_training_activation
from skfeat.kernels._loops import load
from skfeat.kernels._sae import DenseKernel, bfloat16_product
from skfeat.kernels._sparse import SparseKernel
from skfeat.kernels._threads import Team

LOOPS = load("_compiled_rounded")
BITS = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Let threads take few rows and features, and round however few there are."""
    monkeypatch.setattr(_sparse, "suits_tiles", lambda decoder: False)
    for module in (_rounded, _rounded_relu):
        monkeypatch.setattr(module, "TILE", 8)
    monkeypatch.setattr(_rounded_relu, "_FEATURES", 16)
    monkeypatch.setattr(_threads, "_MIN_ELEMENTS", 0)


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

    def __init__(self, seed, name, *, tied=False):
        rng = np.random.default_rng(seed)
        n, d, m = rng.integers(1, 70), rng.integers(2, 20), rng.integers(60, 120)
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

    def solve(self, kind, product, *, n_threads=1, dead=None, **options):
        params = {name: torch.tensor(array) for name, array in self.arrays.items()}
        kernel = kind(params, self.activation, product=product, **options)
        if kind is SparseKernel and self.activation.name == "relu":
            kernel.memory = (1.0, 0.0)  # its codes are dense
        penalty = 0.05 if self.activation.penalised else 0.0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "get_num_threads", lambda: n_threads)
            with options.get("team", Team()):
                result = kernel.gradients(self.x, self.weights, penalty, dead)
        return {name: param.grad for name, param in params.items()}, result

    def rounded(self, **options):
        return self.solve(SparseKernel, bfloat16_product, team=Team(), **options)


def assert_near(actual, expected, share):
    """Compare gradients as wholes: numbers next to a tie are rounded either way."""
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        error = (actual[name] - value).norm()
        assert error <= share * value.norm() + 1e-6, name


@given(seed=st.integers(0, 2**31 - 1), tied=st.booleans())
def test_dense_relu_is_the_dense_kernel_rounded(seed, tied):
    problem = Problem(seed, "relu", tied=tied)
    actual, result = problem.rounded()
    expected, reference = problem.solve(DenseKernel, bfloat16_product)
    assert_near(actual, expected, 0.01)
    assert float(result.loss) == pytest.approx(float(reference.loss), rel=1e-2)
    assert abs(result.n_active - int(reference.n_active)) <= 0.01 * problem.x.numel()
    exact, reference = problem.solve(DenseKernel, lambda a, b: a @ b)
    assert_near(actual, exact, 0.05)


@pytest.mark.parametrize("name", ["relu", "topk", "batch_topk"])
@given(seed=st.integers(0, 2**31 - 1))
def test_any_number_of_threads_gives_the_same(name, seed):
    problem = Problem(seed, name)
    dead = None if name == "relu" else problem.dead
    one, first = problem.rounded(n_threads=1, dead=dead)
    three, second = problem.rounded(n_threads=3, dead=dead)
    for key, value in one.items():
        assert torch.equal(value, three[key]), key
    assert torch.equal(first.fired, second.fired)
    assert first._replace(fired=None) == second._replace(fired=None)


@pytest.mark.parametrize("name", ["topk", "batch_topk"])
@given(seed=st.integers(0, 2**31 - 1))
def test_what_rounding_selects_is_computed_exactly(name, seed):
    problem = Problem(seed, name)
    k = problem.activation.k
    # Rounding does not confuse these with the others.
    problem.arrays["encoder_bias"][:k] += 30
    actual, result = problem.rounded()
    expected, reference = problem.solve(SparseKernel, lambda a, b: a @ b, team=Team())
    assert result.n_active == k * len(problem.x)
    assert result.n_active == reference.n_active
    assert_near(actual, expected, 1e-4)


def test_the_thread_that_trains_keeps_its_own(monkeypatch):
    before = torch.get_num_threads()
    Problem(0, "relu").rounded()
    assert torch.get_num_threads() == before


@given(seed=st.integers(0, 2**31 - 1))
def test_the_bound_of_batch_topk_is_that_of_exact_codes(seed):
    problem = Problem(seed, "batch_topk")
    _, result = problem.rounded()
    _, reference = problem.solve(SparseKernel, lambda a, b: a @ b, team=Team())
    # Few are in another order, and all that is near the bound is computed exactly.
    assert result.n_active == reference.n_active
    assert result.lowest == pytest.approx(reference.lowest, rel=1e-4)
