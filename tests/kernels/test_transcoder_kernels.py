"""Gradients of the transcoder: closed forms, dense and sparse, against autograd."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skfeat.kernels._limits import LIMITS
from skfeat.kernels._memory import Buffers
from skfeat.kernels._optional import has_numba
from skfeat.kernels._threads import Team
from skfeat.kernels.sae import _choose
from skfeat.kernels.sae._activations import make_training_activation
from skfeat.kernels.sae._dense import DenseKernel
from skfeat.kernels.sae._kernel import (
    AUX_WEIGHT,
    KernelSettings,
    Pairs,
    n_auxiliary,
)
from skfeat.kernels.sae._reference import loss_reference
from tests.kernels.test_sae_kernels import (
    NAMES,
    Problem,
    assert_grads_close,
    needs_numba,
)

KERNELS = ["dense"]
if has_numba():
    from skfeat.kernels.sae._by_density import ByDensityKernel
    from skfeat.kernels.sae._parameters import Parameters
    from skfeat.kernels.sae._sparse import SparseKernel

    KERNELS.append("sparse")


@pytest.fixture(autouse=True)
def never_too_dense(monkeypatch):
    """Let the sparse kernel keep batches that the dense one would take over."""
    monkeypatch.setattr(LIMITS, "active_density", 1.0)


def make_kernel(kind, params, activation, prefixes=None, team=None, **settings):
    settings = KernelSettings(activation, prefixes, transcodes=True, **settings)
    team = team or Team()
    if kind == "dense":
        return DenseKernel(params, settings)
    if kind == "sparse":
        own = Parameters(params, transcodes=True)
        return SparseKernel(own, settings, team, Buffers())
    return _choose.make_kernel(params, settings, team)


class MappedProblem(Problem):
    """A `Problem` whose rows are decoded to others, with a skip every other time."""

    def __init__(self, seed, name, *, n=None, m=None):
        super().__init__(seed, name, n=n, m=m)
        rng = np.random.RandomState(seed)
        n, d_in = self.x.shape
        d, m = rng.randint(1, 7), len(self.params["decoder"])
        self.activation = make_training_activation(name, self.activation.k or 1, d)
        decoder = rng.randn(m, d)
        params = {
            "decoder": decoder / np.linalg.norm(decoder, axis=1, keepdims=True),
            "encoder": rng.randn(m, d_in),
            "bias": 0.1 * rng.randn(d),
        }
        if rng.randint(2):
            params["skip"] = rng.randn(d, d_in)
        for key, value in params.items():
            self.params[key] = torch.tensor(value, requires_grad=True)
        self.targets = torch.tensor(rng.randn(n, d))
        self.pairs = Pairs(self.x, self.targets)

    def reference(self):
        return loss_reference(
            self.params,
            self.x,
            self.weights,
            self.activation,
            self.penalty_weight,
            self.prefixes,
            self.targets,
        )

    def closed_form(self, kind, dead=None):
        params = {key: p.detach().clone() for key, p in self.params.items()}
        kernel = make_kernel(kind, params, self.activation, self.prefixes)
        result = kernel.gradients(self.pairs, self.weights, self.penalty_weight, dead)
        return {key: p.grad for key, p in params.items()}, result

    def residual(self):
        """Return what the codes leave of the targets, and the pre-activations."""
        p = self.params
        u = self.x @ p["encoder"].T + p["encoder_bias"]
        missing = (
            self.targets
            - p["bias"]
            - self.activation.reference(u, p)[0] @ (p["decoder"])
        )
        if "skip" in p:
            missing = missing - self.x @ p["skip"].T
        return missing.detach(), u


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KERNELS)
class TestKernels:
    @given(seed=st.integers(0, 2**31 - 1))
    def test_gradients_are_those_of_the_reference(self, kind, name, seed):
        problem = MappedProblem(seed, name)
        loss = problem.reference()
        actual, result = problem.closed_form(kind)
        assert_grads_close(actual, problem.autograd(loss))
        assert float(result.loss) == pytest.approx(loss.item(), rel=1e-11)
        _, u = problem.residual()
        codes = problem.activation.reference(u, problem.params)[0]
        assert torch.equal(result.fired, (codes > 0).any(0))
        assert int(result.n_active) == (codes > 0).sum()

    @given(seed=st.integers(0, 2**31 - 1))
    def test_dead_features_reconstruct_what_is_left_of_the_targets(
        self, kind, name, seed
    ):
        problem = MappedProblem(seed, name)
        if problem.activation.penalised:
            return
        p, dead = problem.params, problem.dead
        missing, u = problem.residual()
        k = n_auxiliary(len(dead), problem.activation.k)
        help_codes = make_training_activation("topk", k, 1).reference(u[:, dead], p)[0]
        per_row = (missing - help_codes @ p["decoder"][dead]).square().sum(1)
        mean_square = (problem.weights @ missing.square().sum(1)).clamp_min(1e-12)
        if mean_square < 1e-6:
            return
        auxiliary = AUX_WEIGHT * (problem.weights @ per_row) / mean_square
        expected = problem.autograd(problem.reference() + auxiliary)
        actual, _ = problem.closed_form(kind, dead)
        assert_grads_close(actual, expected, rtol=1e-7)


@needs_numba
class TestSparse:
    @pytest.mark.parametrize("skip", [False, True])
    @pytest.mark.parametrize("name", ["topk", "gated"])
    def test_no_number_of_threads_changes_a_bit(self, monkeypatch, name, skip):
        """Of several tiles of rows, and of columns of the targets."""
        monkeypatch.setattr(LIMITS, "threaded_work", 0)
        rng = np.random.RandomState(0)
        n, d_in, d, m = 1100, 5, 530, 20
        activation = make_training_activation(name, 3, d)
        start = {
            "decoder": rng.randn(m, d),
            "encoder": rng.randn(m, d_in),
            "encoder_bias": rng.randn(m),
            "bias": rng.randn(d),
            **activation.extra_params(m, d),
        }
        if skip:
            start["skip"] = rng.randn(d, d_in)
        pairs = Pairs(torch.tensor(rng.randn(n, d_in)), torch.tensor(rng.randn(n, d)))
        weights = torch.full((n,), 1 / n, dtype=torch.float64)
        grads = []
        for n_threads in (1, 3):
            monkeypatch.setattr(torch, "get_num_threads", lambda n=n_threads: n)
            params = {k: torch.as_tensor(v).double().clone() for k, v in start.items()}
            with Team() as team:
                kernel = make_kernel("sparse", params, activation, team=team)
                kernel.gradients(pairs, weights, 0.1)
            grads.append({key: p.grad for key, p in params.items()})
        for key, grad in grads[0].items():
            assert torch.equal(grad, grads[1][key]), key

    @pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
    def test_chosen_kernel_has_the_gradients_of_the_dense_one(
        self, monkeypatch, precision
    ):
        monkeypatch.setattr(LIMITS, "narrow_bytes", 0)
        rng = np.random.RandomState(1)
        n, d_in, d, m = 64, 40, 24, 90
        start = {
            "decoder": rng.randn(m, d) / d**0.5,
            "encoder": rng.randn(m, d_in) / d_in**0.5,
            "encoder_bias": 0.1 * rng.randn(m),
            "bias": rng.randn(d),
            "skip": rng.randn(d, d_in),
        }
        pairs = Pairs(
            torch.tensor(rng.randn(n, d_in)).float(), torch.tensor(rng.randn(n, d))
        )
        pairs = Pairs(pairs.rows, pairs.targets.float())
        activation = make_training_activation("topk", m, d)
        grads = []
        for kind in ("chosen", "dense"):
            params = {k: torch.tensor(v).float() for k, v in start.items()}
            own = precision if kind == "chosen" else "float32"
            kernel = make_kernel(kind, params, activation, precision=own)
            kernel.gradients(pairs, torch.full((n,), 1 / n))
            grads.append({key: p.grad for key, p in params.items()})
        # With all features kept, rounding decides about codes next to zero alone.
        tolerance = 1e-5 if precision == "float32" else 0.2
        for key, wanted in grads[1].items():
            assert (grads[0][key] - wanted).norm() <= tolerance * wanted.norm()


@needs_numba
class TestChoice:
    """The table of skfeat/kernels/README.md."""

    @pytest.mark.parametrize("name", NAMES)
    def test_loops_over_active_codes_or_dense_matrices(self, monkeypatch, name):
        monkeypatch.setattr(LIMITS, "active_density", 0.15)
        params = {
            "decoder": torch.zeros(100, 8),
            "encoder": torch.zeros(100, 6),
            "encoder_bias": torch.zeros(100),
            "bias": torch.zeros(8),
        }
        kernel = make_kernel("chosen", params, make_training_activation(name, 3, 8))
        if "topk" in name:
            assert isinstance(kernel, SparseKernel)
            return
        assert isinstance(kernel, ByDensityKernel)
        assert isinstance(kernel._dense, DenseKernel)
