"""The machinery under SparseAutoencoder: kernels, activations, loop, helpers."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import InvalidParameterError

from skfeat.activations import JumpReLU, ReLU, TopK
from skfeat.kernels.inference import _encode
from skfeat.kernels.inference._encode import EncoderWeights
from skfeat.kernels.sae import _activations as training
from skfeat.kernels.sae._reference import loss_reference
from skfeat.solvers._loop import (
    EpochHooks,
    HeldOut,
    Messages,
    Stopping,
    one_cycle,
    run_epochs,
)
from skfeat.solvers.autoencoder._settings import SAESettings
from skfeat.solvers.autoencoder._standardizer import Standardizer
from skfeat.solvers.autoencoder._trainer import SAETrainer
from skfeat.utils import _progress
from skfeat.utils._arrays import ArrayHome, accept_tensor
from skfeat.utils._torch import (
    draw_seed,
    make_generator,
    n_batches,
    resolve_device,
    shuffled_batches,
    to_float32,
    to_numpy,
)


class TestActivations:
    @given(
        seed=st.integers(0, 2**31 - 1),
        n=st.integers(1, 6),
        m=st.integers(1, 12),
        k=st.integers(1, 14),
    )
    def test_topk_forward_is_encode(self, seed, n, m, k):
        pre = np.random.RandomState(seed).randn(n, m)
        before = pre.copy()
        tensor = torch.tensor(pre)
        expected = np.zeros_like(pre)
        for row, code in zip(pre, expected, strict=True):
            kept = np.argsort(-row)[:k]
            code[kept] = np.maximum(row[kept], 0)
        np.testing.assert_array_equal(TopK(k).encode(pre), expected)
        np.testing.assert_array_equal(TopK(k).forward(tensor).numpy(), expected)
        np.testing.assert_array_equal(pre, before)
        np.testing.assert_array_equal(tensor.numpy(), before)

    @given(
        pre=st.lists(st.integers(-1, 2), min_size=1, max_size=9),
        k=st.integers(1, 10),
    )
    def test_topk_keeps_at_most_k_under_ties(self, pre, k):
        rows = np.array([pre], dtype=np.float64)
        expected = np.maximum(np.sort(rows[0])[::-1][:k], 0)
        for codes in (
            TopK(k).encode(rows)[0],
            TopK(k).forward(torch.tensor(rows)).numpy()[0],
        ):
            assert (codes != 0).sum() <= k
            np.testing.assert_array_equal(
                np.sort(codes)[::-1][: len(expected)], expected
            )
            kept = codes != 0
            np.testing.assert_array_equal(codes[kept], rows[0][kept])

    @pytest.mark.parametrize("activation", [ReLU(), TopK(3)], ids=str)
    def test_positively_homogeneous(self, activation):
        pre = np.random.RandomState(0).randn(10, 8)
        np.testing.assert_array_equal(
            activation.encode(4 * pre), 4 * activation.encode(pre)
        )

    def test_relu(self):
        pre = np.array([[-1.0, 0.0, 2.0]])
        assert ReLU().encode(pre).tolist() == [[0, 0, 2]]
        assert ReLU().forward(torch.tensor(pre)).tolist() == [[0, 0, 2]]

    def test_jumprelu(self):
        pre = np.array([[-1.0, 0.5, 1.0, 3.0]])
        jump = JumpReLU(np.array([0.0, 0.5, 0.9, 5.0]))
        assert jump.encode(pre).tolist() == [[0, 0, 1, 0]]
        assert jump.forward(torch.tensor(pre)).tolist() == [[0, 0, 1, 0]]
        assert jump.take([2, 3]).threshold.tolist() == [0.9, 5.0]
        # Half precision is compared in half precision, whatever the threshold's.
        assert jump.encode(pre.astype(np.float32)).dtype == np.float32

    def test_some_features(self):
        features = np.array([0, 2])
        assert ReLU().take(features) == ReLU()
        assert TopK(3).take(features) == TopK(3)


class TestEncode:
    @pytest.mark.parametrize(
        "activation", [ReLU(), TopK(3), JumpReLU(np.full(9, 0.5))], ids=str
    )
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_blocks_and_sparse_agree(self, monkeypatch, activation, dtype):
        rng = np.random.RandomState(0)
        X, coef = rng.randn(17, 4).astype(dtype), rng.randn(9, 4)
        arrays = (coef, rng.randn(9), rng.randn(4))
        pre = (X - arrays[2].astype(dtype)) @ coef.astype(dtype).T
        expected = activation.encode(pre + arrays[1].astype(dtype))
        encoder = EncoderWeights(*arrays, activation)
        whole = encoder.encode(X)
        # Blocks of two rows, and one of one; then of one row, as wide as a block.
        for elements in (18, 1):
            monkeypatch.setattr(_encode, "_BLOCK_ELEMENTS", elements)
            blocks = encoder.encode(X)
            csr = encoder.encode(X, sparse_output=True)
            assert isinstance(csr, sparse.csr_array)
            rtol = 1e-5 if dtype == "float32" else 1e-12
            for codes in (whole, blocks, csr.toarray()):
                assert codes.dtype == dtype
                np.testing.assert_allclose(codes, expected, rtol=rtol, atol=rtol)
            assert csr.nnz == (blocks != 0).sum()


class TestLoop:
    @staticmethod
    def run(losses, *, verbose=0, held_out=None, hooks=None, **stopping):
        losses = iter(losses)
        defaults = {"max_iter": 1000, "tol": 0.01, "n_iter_no_change": 3}
        return run_epochs(
            lambda: next(losses),
            Stopping(**(defaults | stopping)),
            Messages("Test", verbose=verbose),
            state=dict,
            held_out=held_out,
            hooks=hooks,
        )

    def test_one_cycle(self):
        cycle = partial(one_cycle, warm_up=0.05, decay=0.5)
        assert cycle(0.025) == pytest.approx(0.5)
        assert cycle(0.05) == cycle(0.3) == cycle(0.5) == 1
        assert cycle(0.75) == pytest.approx(0.5)
        assert cycle(1.0) == 0
        assert cycle(2.0) == 0
        assert one_cycle(0.1, warm_up=0.2, decay=0.1) == pytest.approx(0.5)

    def test_stops_without_progress(self):
        # The mark is 1.0; three epochs within a hundredth of it are too many.
        history = self.run([2.0, 1.0, 0.999, 0.998, 0.997, 0.0])
        assert history.losses == [2.0, 1.0, 0.999, 0.998, 0.997]
        assert history.n_epochs == 5

    def test_small_steps_add_up_to_progress(self):
        losses = [1 - 0.005 * i for i in range(20)] + [0.9] * 9
        history = self.run(losses)
        assert history.n_epochs == 23  # the mark is last beaten in the twentieth

    def test_a_flat_end_does_not_warn(self):
        assert self.run([2.0, 1.0, 0.97], max_iter=3).n_epochs == 3

    def test_a_falling_end_warns(self):
        with pytest.warns(ConvergenceWarning, match="Test used its max_iter=3 epochs"):
            history = self.run([2.0, 1.0, 0.5], max_iter=3)
        assert history.n_epochs == 3

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_non_finite_loss(self, bad):
        with pytest.raises(
            ValueError, match=r"Test diverged.*non-finite after epoch 2"
        ):
            self.run([1.0, bad])

    def test_validation_decides(self):
        scores = iter([0.1, 0.5, 0.4, 0.4, 0.4, 0.9])
        best = []
        history = self.run(
            [1 / i for i in range(1, 10)],
            held_out=HeldOut(lambda: next(scores), lambda: best.append(True)),
        )
        assert history.validation_scores == [0.1, 0.5, 0.4, 0.4, 0.4]
        assert len(best) == 2

    def test_the_best_is_kept_though_no_progress_worth_the_name(self):
        best, losses = [], [3.0, 1.0, 2.0, 0.999, 0.9991, 0.9992]

        def run_epoch():
            best.append(False)
            return losses[len(best) - 1]

        def keep_best():
            best[-1] = True

        run_epochs(
            run_epoch,
            Stopping(6, 0.01, 5),
            Messages("Test"),
            state=dict,
            held_out=HeldOut(lambda: 1 - losses[len(best) - 1], keep_best),
        )
        # 0.999 is the best though it is nearer than a hundredth.
        assert best == [True, True, False, True, False, False]

    def test_hooks(self):
        class Hooks(EpochHooks):
            events = []  # noqa: RUF012

            def begin(self):
                self.events.append("begin")

            def end(self, state):
                self.events.append(state())
                return len(self.events) == 4

        hooks = Hooks()
        assert self.run([3.0, 2.0, 1.0], hooks=hooks).n_epochs == 2
        assert hooks.events == ["begin", {}, "begin", {}]
        assert EpochHooks().end(dict) is False

    def test_interruption(self):
        def run_epoch():
            if losses:
                return losses.pop()
            raise KeyboardInterrupt

        losses = [1.0, 2.0]
        with pytest.warns(UserWarning, match="Test was interrupted after 2 epochs"):
            history = run_epochs(
                run_epoch, Stopping(9, 0.01, 3), Messages("Test"), state=dict
            )
        assert history.losses == [2.0, 1.0]

    def test_verbose(self, capsys):
        scores = iter([0.25, 0.125])
        held_out = HeldOut(lambda: next(scores), lambda: None)
        self.run([1.0, 1.0], max_iter=2, verbose=1, held_out=held_out)
        assert capsys.readouterr().out.splitlines() == [
            "[Test] epoch 1: loss 1, validation score 0.25",
            "[Test] epoch 2: loss 1, validation score 0.125",
        ]

    @pytest.mark.parametrize("n_epochs", [1, 7, 25, 26, 99, 1000, 2000])
    def test_verbose_prints_about_thirty_lines(self, n_epochs, capsys):
        losses = 1 - np.arange(n_epochs) / 1e5
        self.run(losses, max_iter=n_epochs, tol=0.0, verbose=1, may_end_falling=True)
        lines = capsys.readouterr().out.splitlines()
        assert min(n_epochs, 16) <= len(lines) <= 32
        assert lines[0].startswith("[Test] epoch 1: ")
        assert lines[-1].startswith(f"[Test] epoch {n_epochs}: ")

    def test_verbose_tells_the_time_left(self, capsys, monkeypatch):
        clock = iter([0.0, 2.0, 4.0, 6.0])
        monkeypatch.setattr(_progress.time, "perf_counter", lambda: next(clock))
        self.run([3.0, 2.0, 1.0], max_iter=3, verbose=1, may_end_falling=True)
        ends = [line.partition(", ")[2] for line in capsys.readouterr().out.split("\n")]
        assert ends[:3] == ["4 s left to epoch 3", "2 s left to epoch 3", ""]

    def test_nothing_counts_before_an_epoch(self):
        losses = [5.0, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0, 3.0]
        history = self.run(
            losses,
            max_iter=8,
            n_iter_no_change=2,
            counted_from=3,
            may_end_falling=True,
        )
        assert history.losses == [5.0, 1.0, 2.0, 3.0, 3.0, 3.0]


class TestStandardizer:
    @given(seed=st.integers(0, 2**31 - 1), offset=st.sampled_from([0.0, 1e6]))
    def test_measures_weighted_rows(self, seed, offset):
        rng = np.random.RandomState(seed)
        X = rng.randn(rng.randint(2, 20), 3) * 5 + offset
        counts = rng.randint(0, 3, len(X))
        counts[:2] = 1
        # Rows without weight may hold anything.
        junk = np.where(counts[:, None] == 0, 1e9, X)
        measured = Standardizer.from_rows(junk, counts, center=True, rms=True)
        rows = np.repeat(X, counts, axis=0)
        np.testing.assert_allclose(measured.mean, rows.mean(axis=0), rtol=1e-12)
        scale = np.sqrt(((rows - rows.mean(axis=0)) ** 2).mean())
        assert measured.scale == pytest.approx(scale, rel=1e-7)
        scaled = measured.apply(rows)
        np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-7)
        assert (scaled**2).mean() == pytest.approx(1, rel=1e-7)

    def test_more_rows_than_a_block(self):
        X = np.random.RandomState(0).randn(9001, 2).astype(np.float32)
        measured = Standardizer.from_rows(X, np.ones(9001), center=True, rms=True)
        np.testing.assert_allclose(measured.mean, X.mean(0, dtype=float), atol=1e-12)
        deviations = X - X.mean(0, dtype=float)
        expected = np.sqrt((deviations**2).mean())
        assert measured.scale == pytest.approx(expected, rel=1e-10)

    def test_left_out(self):
        X = np.full((4, 2), 3.0)
        left = Standardizer.from_rows(X, np.ones(4), center=False, rms=False)
        assert (left.mean.tolist(), left.scale) == ([0, 0], 1.0)
        scaled = Standardizer.from_rows(X, np.ones(4), center=False, rms=True)
        assert scaled.scale == 3.0
        constant = Standardizer.from_rows(X, np.ones(4), center=True, rms=True)
        assert (constant.mean.tolist(), constant.scale) == ([3, 3], 1.0)


class TestTrainer:
    @staticmethod
    def make(activation=None, **settings):
        defaults = {
            "n_components": 6,
            "activation": activation or training.TopK(1),
            "alpha": 0.1,
            "l0": None,
            "prefixes": None,
            "dead_features": "auxk",
            "tied": False,
            "learning_rate": 0.01,
            "batch_size": 10,
            "precision": "float64",
            "device": torch.device("cpu"),
            "seed": 0,
        }
        standardizer = Standardizer(np.zeros(4), 1.0)
        return SAETrainer(SAESettings(**{**defaults, **settings}), standardizer)

    def test_silent_features_are_counted_and_revived(self):
        trainer = self.make()
        rows = np.random.RandomState(0).randn(30, 4)
        trainer.params["encoder_bias"][2:4] = -1e6
        trainer.epoch(rows, np.ones(30))
        assert trainer.dead.rows_since_fired[2:4].tolist() == [30, 30]
        assert trainer.dead.rows_since_fired.max() == 30
        silent = (trainer.dead.rows_since_fired >= 30).nonzero().squeeze(1)
        assert torch.equal(trainer.dead.to_revive(30), silent)
        assert trainer.n_dead(30) == len(silent) >= 2
        # Of the codes of dead features none is positive here, but one that the bias
        # lets fire again is pulled at, though no row's top-k holds it.
        trainer.params["encoder_bias"][2] = 0.0
        before = trainer.params["encoder"][2].clone()
        trainer.epoch(rows, np.ones(30))
        assert not torch.equal(trainer.params["encoder"][2], before)

    def test_biases_of_dead_features_grow(self):
        rows = np.random.RandomState(0).randn(30, 4)
        relu, topk = training.ReLU(), training.TopK(2)
        for activation, choice, share in [
            (relu, "auxk", 0.15),
            (relu, "ignore", 0.0),
            (relu, "resample", 0.0),
            (topk, "auxk", 0.1),
        ]:
            trainer = self.make(activation, dead_features=choice)
            trainer.params["encoder_bias"][2] = -50.0
            trainer.epoch(rows, np.ones(30))
            # The auxiliary loss is top-k's.
            assert (trainer.dead.to_revive(30) is None) == (activation is relu)
            assert trainer.n_dead(30) >= 1
            before = float(trainer.params["encoder_bias"][2])
            trainer.epoch(rows, np.ones(30))
            grown = float(trainer.params["encoder_bias"][2]) - before
            # Three updates of a share of the learning rate, times the length of a row.
            assert grown == pytest.approx(3 * share * 0.01 * 2, abs=2e-5)

    @pytest.mark.parametrize(
        ("activation", "tied", "shares"),
        [
            (training.TopK(2), False, {"bias": 0.3, "encoder": 1.0}),
            (training.TopK(2), True, {"bias": 1.0}),
            (training.ReLU(), False, {"bias": 1.0, "encoder": 1.0}),
        ],
    )
    def test_the_bias_learns_more_slowly_without_a_penalty(
        self, activation, tied, shares
    ):
        trainer = self.make(activation, tied=tied)
        before = {name: param.clone() for name, param in trainer.params.items()}
        trainer.epoch(np.random.RandomState(0).randn(10, 4), np.ones(10))
        assert trainer.n_steps == 1
        for name, share in shares.items():
            moved = (trainer.params[name] - before[name]).abs().max()
            # Adam's first update is by the learning rate, whatever the gradient is.
            assert float(moved) == pytest.approx(share * 0.01, rel=1e-3)

    def test_dead_features_are_given_directions(self):
        rows = np.random.RandomState(0).randn(80, 4)
        trainer = self.make(training.TopK(1), dead_features="resample")
        trainer.plan(80, 800)
        trainer.params["encoder_bias"][2:4] = -1e6
        trainer.epoch(rows, np.ones(80))
        dead = (trainer.dead.rows_since_fired >= 80).nonzero().squeeze(1)
        assert set(dead.tolist()) >= {2, 3}
        before = trainer.params["decoder"].clone()
        trainer.dead.resample(
            trainer.params,
            trainer.optimizer,
            torch.tensor(rows),
            dead,
            trainer.generator,
        )
        moved = (trainer.params["decoder"] != before).any(1)
        assert moved.nonzero().squeeze(1).tolist() == dead.tolist()
        norms = trainer.params["decoder"].norm(dim=1)
        torch.testing.assert_close(norms, torch.ones(6).double())
        assert trainer.params["encoder_bias"][dead].eq(0).all()
        assert trainer.dead.rows_since_fired[dead].eq(0).all()
        for moments in trainer.optimizer.optimizer.state.values():
            if moments["exp_avg"].shape[0] == 6:
                assert moments["exp_avg"][dead].eq(0).all()

    @pytest.mark.parametrize("name", ["topk", "relu", "jumprelu", "gated"])
    def test_resampling_leaves_fewer_dead(self, name):
        rows = np.random.RandomState(0).randn(200, 4)
        alive = {}
        for choice in ("ignore", "resample"):
            activation = training.make_training_activation(name, 1, 4)
            trainer = self.make(activation, n_components=20, dead_features=choice)
            trainer.plan(200, 16)
            trainer.params["encoder_bias"][5:] = -1e6
            for _ in range(16):
                trainer.epoch(rows, np.ones(200))
            alive[choice] = 20 - trainer.n_dead(200)
        assert alive["resample"] > alive["ignore"]

    def test_loss_of_an_epoch_is_the_weighted_mean(self):
        # With a rate of nothing every batch sees the same weights.
        trainer = self.make(training.ReLU(), learning_rate=1e-300)
        rng = np.random.RandomState(0)
        rows, weights = rng.randn(25, 4), rng.uniform(0, 2, 25)
        expected = loss_reference(
            trainer.params,
            torch.tensor(rows),
            torch.tensor(weights / weights.sum()),
            training.ReLU(),
            0.1 / 2,
        )
        assert trainer.epoch(rows, weights) == pytest.approx(float(expected), rel=1e-10)

    def test_batches_without_weight_are_skipped(self):
        trainer = self.make(batch_size=1)
        weights = np.arange(10) < 3
        loss = trainer.epoch(
            np.random.RandomState(0).randn(10, 4), weights.astype(float)
        )
        assert trainer.n_steps == 3
        assert math.isfinite(loss)

    def test_learning_rate_follows_the_plan(self):
        trainer = self.make(batch_size=1)
        trainer.plan(10, 2)
        rates, step = [], trainer.optimizer.step

        def record():
            rates.append(trainer.optimizer.learning_rate / 0.01)
            step()

        trainer.optimizer.step = record
        for _ in range(2):
            trainer.epoch(np.random.RandomState(0).randn(10, 4), np.ones(10))
        assert len(rates) == 20
        assert max(rates) == pytest.approx(1 - 1 / 21)
        # It ends near zero, and no update is thrown away.
        assert all(rate > 0 for rate in rates)
        assert rates[-1] < 0.2
        assert rates == sorted(rates, reverse=True)

    def test_state_goes_on_bit_for_bit(self):
        rows = np.random.RandomState(0).randn(30, 4)
        trainer = self.make()
        trainer.epoch(rows, np.ones(30))
        other = SAETrainer.from_state(trainer.settings, trainer.state())
        for run in (trainer, other):
            run.epoch(rows, np.ones(30))
        for key, value in trainer.params.items():
            assert torch.equal(value, other.params[key])
        assert torch.equal(trainer.dead.rows_since_fired, other.dead.rows_since_fired)

    def test_state_and_export_are_copies(self):
        trainer = self.make(tied=True)
        state, exported = trainer.state(), trainer.export()
        decoder = exported["components_"].copy()
        trainer.epoch(np.random.RandomState(0).randn(30, 4), np.ones(30))
        np.testing.assert_array_equal(exported["components_"], decoder)
        np.testing.assert_array_equal(state["params"]["decoder"], decoder)
        assert not np.shares_memory(exported["components_"], exported["encoder_coef_"])

    def test_export_acts_on_raw_rows(self):
        trainer = self.make(training.ReLU())
        trainer.standardizer = Standardizer(np.array([1.0, -2.0, 3.0, 0.5]), 7.0)
        trainer.params["bias"] += 0.3
        trainer.params["encoder_bias"] -= 0.2
        exported = trainer.export()
        raw = np.random.RandomState(0).randn(5, 4) * 7
        x = torch.tensor(trainer.standardizer.apply(raw))
        p = trainer.params
        codes = ((x - p["bias"]) @ p["encoder"].T + p["encoder_bias"]).relu()
        rebuilt = (
            trainer.standardizer.mean + 7 * (codes @ p["decoder"] + p["bias"]).numpy()
        )
        pre = (raw - exported["intercept_"]) @ exported["encoder_coef_"].T
        on_raw = np.maximum(pre + exported["encoder_intercept_"], 0)
        np.testing.assert_allclose(on_raw, 7 * codes.numpy(), atol=1e-12)
        np.testing.assert_allclose(
            on_raw @ exported["components_"] + exported["intercept_"], rebuilt
        )

    def test_non_finite_weights_are_not_exported(self):
        trainer = self.make()
        trainer.params["bias"][0] = math.nan
        with pytest.raises(ValueError, match="the weights are non-finite"):
            trainer.export()


class TestUtils:
    @given(n=st.integers(1, 200), size=st.integers(1, 60), seed=st.integers(0, 99))
    def test_shuffled_batches(self, n, size, seed):
        batches = list(shuffled_batches(n, size, make_generator(seed)))
        assert len(batches) == n_batches(n, size)
        assert sorted(np.concatenate(batches)) == list(range(n))
        sizes = [len(batch) for batch in batches]
        assert max(sizes) - min(sizes) <= 1
        # As near to the size asked for as a whole number of batches allows.
        assert abs(n / size - len(batches)) <= 0.5 or len(batches) == 1
        again = list(shuffled_batches(n, size, make_generator(seed)))
        for one, other in zip(batches, again, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_each_epoch_is_shuffled_anew(self):
        generator = make_generator(0)
        (first,), (second,) = (shuffled_batches(50, 50, generator) for _ in range(2))
        assert not np.array_equal(first, second)

    def test_resolve_device(self):
        assert resolve_device(None) == torch.device("cpu")
        assert resolve_device("cpu") == torch.device("cpu")
        assert resolve_device(torch.device("cpu")) == torch.device("cpu")

    @pytest.mark.parametrize("device", ["gpu", "meta", "vulkan", {}, 1.5, "cuda:x"])
    def test_resolve_device_refuses(self, device):
        with pytest.raises(InvalidParameterError, match=r"'cpu', 'cuda', 'mps', 'xpu'"):
            resolve_device(device)

    @pytest.mark.parametrize("device", ["cuda:99", torch.device("cuda", 99)], ids=str)
    def test_resolve_device_absent(self, device):
        with pytest.raises(
            ValueError, match=r"'cuda:99', but this machine has no such"
        ):
            resolve_device(device)

    def test_draw_seed(self):
        assert draw_seed(3) == draw_seed(3) != draw_seed(4)
        state = np.random.RandomState(0)
        assert draw_seed(state) != draw_seed(state)

    def test_conversions_copy(self):
        array = np.ones(3)
        array.setflags(write=False)
        tensor = to_float32(array, torch.device("cpu"))
        back = to_numpy(tensor)
        tensor += 1
        assert array.tolist() == back.tolist() == [1, 1, 1]
        assert to_numpy(tensor, np.float64).dtype == np.float64
        trained = to_float32(array, torch.device("cpu"), trained=True)
        assert trained.requires_grad
        assert not tensor.requires_grad
        assert trained.dtype == torch.float32

    def test_accept_tensor(self):
        lists = [[1.0]]
        assert accept_tensor(lists) is lists
        array = np.ones((2, 2))
        assert accept_tensor(array) is array
        accepted = accept_tensor(torch.ones(2, 2, requires_grad=True))
        assert type(accepted) is np.ndarray
        assert accepted.tolist() == [[1, 1], [1, 1]]

    @pytest.mark.parametrize(
        ("tensor", "message"),
        [
            (torch.ones(2, 2).bfloat16(), "torch.bfloat16"),
            (torch.eye(2).to_sparse(), "torch.sparse_coo"),
        ],
    )
    def test_accept_tensor_refuses(self, tensor, message):
        with pytest.raises(TypeError, match=message):
            accept_tensor(tensor)

    def test_home_of_numpy(self):
        array = np.ones((2, 2))
        for dispatch in (False, None):
            with config_context(array_api_dispatch=dispatch):
                home = ArrayHome.of(array)
                assert home.is_numpy
                assert home.dtypes == [np.float64, np.float32]
                assert home.bring(array) is array
                assert home.to_numpy(array) is array
