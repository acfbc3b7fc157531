"""Gradients of the autoencoder: closed forms, dense and sparse, against autograd."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits
from torch.testing import assert_close

from skfeat.kernels._limits import LIMITS
from skfeat.kernels._memory import Buffers
from skfeat.kernels._optional import has_numba
from skfeat.kernels._threads import Team
from skfeat.kernels.sae import _choose
from skfeat.kernels.sae._activations import make_training_activation
from skfeat.kernels.sae._arrays import ActiveCodes, Rows
from skfeat.kernels.sae._dense import DenseKernel
from skfeat.kernels.sae._kernel import AUX_WEIGHT, KernelSettings, n_auxiliary
from skfeat.kernels.sae._reference import loss_reference
from skfeat.solvers.autoencoder._adam import Adam

NAMES = ("relu", "topk", "batch_topk", "jumprelu", "gated")
KERNELS = ["dense"]
if has_numba():
    from skfeat.kernels.sae._by_density import ByDensityKernel
    from skfeat.kernels.sae._narrow_topk import NarrowTopKKernel
    from skfeat.kernels.sae._parameters import Parameters
    from skfeat.kernels.sae._relu import DenseReLUKernel
    from skfeat.kernels.sae._relu_bfloat16 import BFloat16ReLUKernel
    from skfeat.kernels.sae._sparse import SparseKernel
    from skfeat.kernels.selection import _loops_row, _loops_rows

    KERNELS.append("sparse")
CASES = [(kind, name) for kind in KERNELS for name in NAMES]
if "sparse" in KERNELS:
    CASES.append(("narrow", "topk"))

needs_numba = pytest.mark.skipif("sparse" not in KERNELS, reason="needs numba")


@pytest.fixture(autouse=True)
def never_too_dense(monkeypatch):
    """Let the sparse kernel keep batches that the dense one would take over."""
    monkeypatch.setattr(LIMITS, "active_density", 1.0)
    # Tiles and chunks of few rows: more than one of each.
    monkeypatch.setattr(LIMITS, "narrow_tile_rows", 2)
    monkeypatch.setattr(LIMITS, "narrow_chunks", 3)


def make_kernel(kind, params, activation, prefixes=None, team=None):
    settings, team = KernelSettings(activation, prefixes), team or Team()
    if kind == "dense":
        return DenseKernel(params, settings)
    if kind == "sparse":
        return SparseKernel(Parameters(params), settings, team, Buffers())
    kernel = _choose.make_kernel(params, settings, team)
    if kind == "narrow":
        one_prefix = len(prefixes or (1,)) == 1
        assert isinstance(kernel, NarrowTopKKernel if one_prefix else SparseKernel)
    return kernel


class Problem:
    """Rows, weights and parameters (leaves of autograd, float64) at random."""

    def __init__(self, seed, name, *, n=None, m=None):
        rng = np.random.RandomState(seed)
        n, d, m = n or rng.randint(1, 9), rng.randint(1, 7), m or rng.randint(1, 60)
        self.activation = make_training_activation(name, rng.randint(1, m + 1), d)
        decoder = rng.randn(m, d)
        params = {
            "decoder": decoder / np.linalg.norm(decoder, axis=1, keepdims=True),
            "encoder_bias": 0.1 * rng.randn(m),
            "bias": 0.1 * rng.randn(d),
        }
        if name == "gated" or rng.randint(2):
            params["encoder"] = rng.randn(m, d)
        for key, value in self.activation.extra_params(m, d).items():
            params[key] = value.numpy() + 0.3 * rng.randn(m)
        self.params = {
            key: torch.tensor(value, dtype=torch.float64, requires_grad=True)
            for key, value in params.items()
        }
        weights = rng.uniform(0.1, 2, n) * (rng.uniform(size=n) > 0.2)
        weights[0] = 1.0
        self.x = torch.tensor(rng.randn(n, d))
        self.weights = torch.tensor(weights / weights.sum())
        self.penalty_weight = rng.uniform(0, 2) if self.activation.penalised else 0.0
        self.prefixes = None
        if "topk" in name and rng.randint(2):
            self.prefixes = tuple(sorted({*rng.randint(1, m + 1, 2).tolist(), m}))
        self.dead = torch.tensor(np.sort(rng.permutation(m)[: rng.randint(1, m + 1)]))

    def reference(self):
        return loss_reference(
            self.params,
            self.x,
            self.weights,
            self.activation,
            self.penalty_weight,
            self.prefixes,
        )

    def autograd(self, loss):
        grads = torch.autograd.grad(loss, self.params.values(), allow_unused=True)
        return {
            key: torch.zeros_like(param) if grad is None else grad
            for (key, param), grad in zip(self.params.items(), grads, strict=True)
        }

    def closed_form(self, kind, dead=None):
        params = {key: p.detach().clone() for key, p in self.params.items()}
        kernel = make_kernel(kind, params, self.activation, self.prefixes)
        result = kernel.gradients(self.x, self.weights, self.penalty_weight, dead)
        return {key: p.grad for key, p in params.items()}, result

    def codes(self):
        p = {key: value.detach() for key, value in self.params.items()}
        u = (self.x - p["bias"]) @ p.get("encoder", p["decoder"]).T + p["encoder_bias"]
        return self.activation.reference(u, p)[0], u


def assert_grads_close(actual, expected, rtol=1e-9):
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        # Relative to the gradient as a whole: single entries may cancel to nothing.
        atol = rtol * float(value.abs().max()) + 1e-13
        assert_close(actual[key], value, rtol=rtol, atol=atol)


@pytest.mark.parametrize(("kind", "name"), CASES)
class TestKernels:
    @given(seed=st.integers(0, 2**31 - 1))
    def test_gradients_are_those_of_the_reference(self, kind, name, seed):
        problem = Problem(seed, name)
        loss = problem.reference()
        actual, result = problem.closed_form(kind)
        assert_grads_close(actual, problem.autograd(loss))
        assert float(result.loss) == pytest.approx(loss.item(), rel=1e-11)
        codes, _ = problem.codes()
        assert torch.equal(result.fired, (codes > 0).any(0))
        assert int(result.n_active) == (codes > 0).sum()
        if result.n_active and name == "batch_topk":
            assert float(result.lowest) == pytest.approx(codes[codes > 0].min().item())

    @given(seed=st.integers(0, 2**31 - 1))
    def test_auxiliary_gradients_are_those_of_their_loss(self, kind, name, seed):
        problem = Problem(seed, name)
        if problem.activation.penalised:
            return
        # The dead features reconstruct what is left, which counts as a constant; so do
        # its mean square, which the loss is divided by, and the centred rows.
        p, dead = problem.params, problem.dead
        u = (problem.x - p["bias"]) @ p.get("encoder", p["decoder"]).T
        u = u + p["encoder_bias"]
        codes = problem.activation.reference(u, p)[0]
        missing = (problem.x - p["bias"] - codes @ p["decoder"]).detach()
        k = n_auxiliary(len(dead), problem.activation.k)
        help_codes = make_training_activation("topk", k, 1).reference(u[:, dead], p)[0]
        per_row = (missing - help_codes @ p["decoder"][dead]).square().sum(1)
        mean_square = (problem.weights @ missing.square().sum(1)).clamp_min(1e-12)
        auxiliary = AUX_WEIGHT * (problem.weights @ per_row) / mean_square
        if mean_square < 1e-6:
            return
        expected = problem.autograd(problem.reference() + auxiliary)
        actual, result = problem.closed_form(kind, dead)
        assert_grads_close(actual, expected, rtol=1e-7)
        # The reported loss leaves the auxiliary one out.
        plain = problem.closed_form(kind)[1]
        assert float(result.loss) == float(plain.loss)

    def test_nobody_dead_is_no_auxiliary_loss(self, kind, name):
        problem = Problem(3, name)
        none, _ = problem.closed_form(kind)
        nobody, _ = problem.closed_form(kind, torch.zeros(0, dtype=torch.int64))
        for key, grad in none.items():
            assert torch.equal(grad, nobody[key])

    def test_perfect_reconstruction_leaves_finite_gradients(self, kind, name):
        problem = Problem(1, name)
        problem.x = problem.params["bias"].detach().expand(6, -1).clone()
        problem.weights = torch.full((6,), 1 / 6, dtype=torch.float64)
        problem.params["encoder_bias"].data.fill_(-1.0)
        dead = None if problem.activation.penalised else problem.dead
        actual, result = problem.closed_form(kind, dead)
        assert all(grad.isfinite().all() for grad in actual.values())
        assert int(result.n_active) == 0
        assert float(result.lowest) == np.inf


@needs_numba
class TestSparse:
    @pytest.mark.parametrize(("kind", "name"), CASES[len(NAMES) :])
    def test_threads_share_the_work(self, monkeypatch, kind, name):
        monkeypatch.setattr(LIMITS, "threaded_work", 0)
        grads = []
        for n_threads in (1, 3, 7):
            monkeypatch.setattr(torch, "get_num_threads", lambda n=n_threads: n)
            problem = Problem(5, name, n=40, m=50)
            params = {key: p.detach().clone() for key, p in problem.params.items()}
            with Team() as team:
                kernel = make_kernel(kind, params, problem.activation, team=team)
                kernel.gradients(problem.x, problem.weights, 0.1, problem.dead)
            grads.append({key: p.grad for key, p in params.items()})
        # Products of parts of a matrix may round differently.
        assert_grads_close(grads[0], grads[1], rtol=1e-12)
        assert_grads_close(grads[0], grads[2], rtol=1e-12)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize(("kind", "name"), CASES[len(NAMES) :])
    @pytest.mark.parametrize(("d", "m"), [(75, 130), (64, 64), (9, 1500)])
    def test_long_rows_and_many_columns(self, monkeypatch, kind, name, d, m, dtype):
        """Blocks of every width, and groups of columns, have something to do."""
        monkeypatch.setattr(LIMITS, "narrow_tile_rows", 8)
        monkeypatch.setattr(LIMITS, "narrow_bytes", 2**30)
        rng = np.random.RandomState(d)
        activation = make_training_activation(name, 7, d)
        params = {
            "decoder": torch.tensor(rng.randn(m, d) / d**0.5),
            "encoder": torch.tensor(rng.randn(m, d) / d**0.5),
            "encoder_bias": torch.tensor(rng.randn(m) - 1.5),
            "bias": torch.tensor(rng.randn(d)),
            **activation.extra_params(m, d),
        }
        x, weights = torch.tensor(rng.randn(33, d)), torch.full((33,), 1 / 33)
        prefixes = (m // 3, m) if name == "batch_topk" else None
        dead = None if activation.penalised else torch.arange(0, m, 3)
        grads = []
        for each, real in ((kind, dtype), ("dense", torch.float64)):
            mine = {key: p.to(real, copy=True) for key, p in params.items()}
            kernel = make_kernel(each, mine, activation, prefixes)
            kernel.gradients(x.to(real), weights.to(real), 0.1, dead)
            grads.append({key: p.grad.double() for key, p in mine.items()})
        rtol = 1e-10 if dtype == torch.float64 else 3e-4
        assert_grads_close(*grads, rtol=rtol)

    @pytest.mark.parametrize("most_bytes", [0, 2**18])
    @pytest.mark.parametrize("n", [1, 8, 21])
    def test_dense_batches_go_to_the_dense_kernel(self, monkeypatch, most_bytes, n):
        """Narrow or not."""
        monkeypatch.setattr(LIMITS, "active_density", 0.05)
        monkeypatch.setattr(LIMITS, "narrow_bytes", most_bytes)
        for name in NAMES:
            problem = Problem(2, name, n=n, m=12)
            problem.activation.k = 6
            actual, result = problem.closed_form("chosen")
            expected, wanted = problem.closed_form("dense")
            assert_grads_close(actual, expected, rtol=1e-12)
            assert float(result.loss) == pytest.approx(float(wanted.loss), rel=1e-12)
            assert int(result.n_active) == int(wanted.n_active)
            assert torch.equal(result.fired, wanted.fired)

    @given(
        rows=st.lists(
            st.lists(st.integers(-3, 3), min_size=7, max_size=7), min_size=1, max_size=4
        ),
        k=st.integers(1, 7),
    )
    def test_topk_under_ties(self, rows, k):
        pre = np.array(rows, dtype=np.float32)
        n, m = pre.shape
        start = np.arange(n, dtype=np.int64) * k
        count = np.empty(n, dtype=np.int64)
        indices, values = np.full(n * k, -1, np.int32), np.empty(n * k, np.float32)
        bias = np.zeros(m, np.float32)
        codes = ActiveCodes(start, count, indices, values)
        _loops_row.select_topk(0, n, pre, bias, k, codes)
        for i in range(n):
            found = slice(start[i], start[i] + count[i])
            expected = np.sort(pre[i])[::-1][:k]
            assert sorted(values[found])[::-1] == expected[expected > 0].tolist()
            assert len(set(indices[found])) == count[i]
            np.testing.assert_array_equal(pre[i, indices[found]], values[found])

    @given(
        rows=st.lists(
            st.lists(
                st.integers(-3, 3) | st.floats(-9, 9, width=32) | st.just(np.inf),
                min_size=9,
                max_size=9,
            ),
            min_size=1,
            max_size=3,
        ),
        columns=st.sets(st.integers(0, 8), min_size=1),
        k=st.integers(1, 10),
        n_tied=st.integers(0, 61),
    )
    def test_topk_of_many_rows_at_once(self, rows, columns, k, n_tied):
        loops = _loops_rows
        m, tile = 9, loops.TILE
        # Also rows of equal values, and padding that holds anything.
        rows = np.array([*rows, *[rows[0][:1] * m] * n_tied], dtype=np.float32)
        values = np.full((m + 1, tile), np.nan, np.float32)
        values[:m, : len(rows)] = rows.T
        chosen, n = np.array(sorted(columns)), len(rows)
        start = np.arange(n, dtype=np.int64) * k
        count = np.empty(n, dtype=np.int64)
        indices, codes = np.full(n * k, -1, np.int32), np.empty(n * k, np.float32)
        buffers = loops.selection_buffers(m, k, values)
        found = ActiveCodes(start, count, indices, codes)
        loops.select_of_columns(values.ravel(), chosen, k, n, buffers, found)
        for i, row in enumerate(rows):
            found = slice(start[i], start[i] + count[i])
            order = chosen[np.argsort(-row[chosen], kind="stable")][:k]
            expected = sorted(j for j in order if row[j] > 0)
            assert indices[found].tolist() == expected
            assert codes[found].tolist() == row[expected].tolist()

    def test_a_process_without_rows_has_no_gradients(self):
        problem = Problem(5, "topk", n=4, m=12)
        problem.prefixes = None
        params = {key: p.detach().clone() for key, p in problem.params.items()}
        kernel = make_kernel("narrow", params, problem.activation)
        kernel.gradients(problem.x, problem.weights)
        result = kernel.gradients(problem.x[:0], problem.weights[:0])
        assert result.loss == result.n_active == 0
        assert not result.fired.any()
        assert all(p.grad.eq(0).all() for p in params.values())

    def test_rows_where_they_lie_are_those_gathered(self):
        problem = Problem(5, "topk", n=40, m=12)
        source, ids = problem.x.numpy(), np.array([7, 3, 3, 39, 0])
        mean, scale = np.linspace(-1, 1, source.shape[1]), 0.5
        gathered = torch.tensor((source[ids] - mean) * scale)
        weights, grads = torch.full((5,), 0.2, dtype=torch.float64), []
        for x in (Rows(source, ids, mean, scale), gathered):
            params = {key: p.detach().clone() for key, p in problem.params.items()}
            kernel = make_kernel("narrow", params, problem.activation)
            assert kernel.takes_rows
            kernel.gradients(x, weights)
            grads.append({key: p.grad for key, p in params.items()})
        assert_grads_close(*grads)

    def test_batch_topk_finds_its_bound_again(self):
        """The second batch is searched from near the first one's bound on."""
        for scale in (1.0, 0.1, 10.0):
            problem = Problem(7, "batch_topk", n=30, m=50)
            problem.prefixes = None
            params = {key: p.detach().clone() for key, p in problem.params.items()}
            kernel = make_kernel("sparse", params, problem.activation)
            kernel.gradients(problem.x, problem.weights)
            problem.x = problem.x * scale
            kernel.gradients(problem.x, problem.weights)
            expected, _ = problem.closed_form("dense")
            assert_grads_close({k: p.grad for k, p in params.items()}, expected)


@needs_numba
class TestChoice:
    """The table of skfeat/kernels/README.md."""

    @staticmethod
    def chosen(name, k=3, m=100, d=8, dtype=torch.float32, **settings):
        params = {
            "decoder": torch.zeros(m, d, dtype=dtype),
            "encoder": torch.zeros(m, d, dtype=dtype),
            "encoder_bias": torch.zeros(m, dtype=dtype),
            "bias": torch.zeros(d, dtype=dtype),
        }
        activation = make_training_activation(name, k, d)
        settings = KernelSettings(activation, **settings)
        return _choose.make_kernel(params, settings, Team())

    @pytest.fixture(autouse=True)
    def usual_density(self, monkeypatch):
        monkeypatch.setattr(LIMITS, "active_density", 0.15)

    def test_topk(self, monkeypatch):
        assert isinstance(self.chosen("topk"), NarrowTopKKernel)
        assert isinstance(self.chosen("topk", prefixes=(50, 100)), SparseKernel)
        assert isinstance(self.chosen("batch_topk"), SparseKernel)
        assert isinstance(self.chosen("topk", k=16), DenseKernel)
        assert isinstance(self.chosen("batch_topk", k=16), DenseKernel)
        monkeypatch.setattr(LIMITS, "narrow_bytes", 0)
        assert isinstance(self.chosen("topk"), SparseKernel)

    @pytest.mark.parametrize("name", ["relu", "jumprelu", "gated"])
    def test_codes_above_a_bound(self, name, monkeypatch):
        for most_bytes in (2**18, 0):
            monkeypatch.setattr(LIMITS, "narrow_bytes", most_bytes)
            for precision in ("float32", "bfloat16"):
                kernel = self.chosen(name, precision=precision)
                assert isinstance(kernel, ByDensityKernel)
                wanted = DenseKernel
                if name == "relu":
                    rounded = precision == "bfloat16" and most_bytes == 0
                    wanted = BFloat16ReLUKernel if rounded else DenseReLUKernel
                assert isinstance(kernel._dense, wanted)

    def test_plain(self, monkeypatch):
        monkeypatch.setattr(_choose, "has_numba", lambda: False)
        for name in NAMES:
            assert isinstance(self.chosen(name), DenseKernel)


class TestTeam:
    @staticmethod
    def blas_threads():
        return [
            pool["num_threads"]
            for pool in threadpool_info()
            if pool["user_api"] == "blas"
        ]

    def test_blas_is_given_back_by_the_last(self, monkeypatch):
        monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
        with threadpool_limits(3, user_api="blas"):
            before = self.blas_threads()
            first, second = Team(), Team()
            first.__enter__()
            second.__enter__()
            assert set(self.blas_threads()) <= {1}
            first.__exit__()
            assert set(self.blas_threads()) <= {1}
            second.__exit__()
            assert self.blas_threads() == before

    def test_ranges_cover_everything(self, monkeypatch):
        monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
        cumulative = np.array([0, 10, 10, 11, 12, 40])
        for options in ({}, {"cumulative": cumulative}):
            seen = []
            with Team() as team:
                team.run(
                    lambda first, last, seen=seen: seen.extend(range(first, last)),
                    5,
                    n_elements=2**30,
                    **options,
                )
            assert sorted(seen) == list(range(5))

    def test_an_error_in_a_thread_is_raised(self, monkeypatch):
        monkeypatch.setattr(torch, "get_num_threads", lambda: 2)

        def fail(first, last):
            if first:
                raise MemoryError("no room")

        with Team() as team, pytest.raises(MemoryError, match="no room"):
            team.run(fail, 4, n_elements=2**30)


class TestAdam:
    @pytest.mark.parametrize("compiled", [False, *([True] if KERNELS[1:] else [])])
    @pytest.mark.parametrize("shares", [None, {"decoder": 2.0, "bias": 0.3}])
    def test_is_torchs_on_the_sphere(self, compiled, shares):
        rng = np.random.RandomState(0)
        start = {"decoder": rng.randn(7, 4), "bias": rng.randn(4)}
        start["decoder"] /= np.linalg.norm(start["decoder"], axis=1, keepdims=True)
        ours, theirs = ({k: torch.tensor(v) for k, v in start.items()} for _ in "ab")
        adam = Adam(ours, 0.1, Team() if compiled else None, shares=shares)
        groups = [{"params": [param]} for param in theirs.values()]
        reference = torch.optim.Adam(groups, betas=(0.95, 0.97))
        for step in range(5):
            for key, value in start.items():
                grad = torch.tensor(rng.randn(*value.shape))
                ours[key].grad = grad.clone()
                if key == "decoder":
                    p = theirs[key]
                    grad = grad - (grad * p).sum(1, keepdim=True) * p
                theirs[key].grad = grad
            adam.learning_rate = 0.1 / (1 + step)
            for key, group in zip(theirs, reference.param_groups, strict=True):
                group["lr"] = adam.learning_rate * (shares or {}).get(key, 1.0)
            adam.step()
            reference.step()
            theirs["decoder"] /= theirs["decoder"].norm(dim=1, keepdim=True)
            for key, value in theirs.items():
                assert_close(ours[key], value, rtol=1e-12, atol=1e-14)

    def test_forgets_features(self):
        params = {"decoder": torch.eye(3), "bias": torch.ones(3)}
        adam = Adam(params, 0.1)
        for param in params.values():
            param.grad = torch.ones_like(param)
        adam.step()
        adam.forget(torch.tensor([1]))
        moments = adam.optimizer.state[params["decoder"]]["exp_avg"]
        assert moments[1].eq(0).all()
        assert moments[0].ne(0).any()
        assert adam.optimizer.state[params["bias"]]["exp_avg"].ne(0).all()
