"""Fits that stop in any way and go on end as if they had never stopped, to the bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from skfeat.autoencoder._setup import settings_of, start_training
from skfeat.kernels._limits import LIMITS
from skfeat.kernels._optional import has_numba
from skfeat.kernels.sae import _choose
from skfeat.solvers.autoencoder import _trainer
from skfeat.utils import _checkpoint
from skfeat.utils._checkpoint import CheckpointFile
from skfeat.utils._interrupts import InterruptsWait
from tests.autoencoder.test_sparse_autoencoder import RaiseAt, make_sae
from tests.checkpoints import IGNORED, assert_same_fit, kill_and_resume, make_rows

pytest.importorskip("safetensors")

ROOT = Path(__file__).parents[2]

pytestmark = IGNORED


@pytest.fixture(scope="module")
def X():
    return make_rows()


@pytest.fixture(autouse=True)
def as_large_fits(monkeypatch):
    """Train by the loops of large fits, whose ways round differently."""
    monkeypatch.setattr(LIMITS, "compiled_training", 0)


OPTIONS = {
    "topk": {},
    "batch_topk": {"activation": "batch_topk"},
    "fewer and fewer": {"activation": "batch_topk", "k": 2.5, "k_start": 9},
    "relu": {"activation": "relu"},
    "l0": {"activation": "jumprelu", "l0": 2.0},
    # Now dense, now sparse: about 6 of 40 features is where the kernels change.
    "both kernels": {
        "activation": "relu",
        "alpha": 0.5,
        "n_components": 40,
        "batch_size": 10,
        "max_iter": 20,
    },
    "gated": {"activation": "gated"},
    "prefixes": {"prefixes": [4, 8]},
    "resample": {"dead_features": "resample", "n_components": 30},
    "tied": {"tied": True, "center": False},
    "float64": {"precision": "float64"},
    "bfloat16": {"precision": "bfloat16"},
    "int8": {"precision": "int8"},
    "early stopping": {"early_stopping": True},
    "early stopping, penalty": {"early_stopping": True, "activation": "relu"},
    "stops early": {"tol": 0.2, "n_iter_no_change": 3},
}


KINDS = ("in memory", "mapped", "weighted")


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        *(("topk", rows) for rows in KINDS[1:]),
        *((name, KINDS[i % 3]) for i, name in enumerate(OPTIONS)),
    ],
)
def test_killed_fits_end_the_same(tmp_path, X, name, rows):
    def make(**params):
        return make_sae(**{"max_iter": 9, **OPTIONS[name], **params})

    fit_params = {}
    if rows == "mapped":
        np.save(tmp_path / "X.npy", X)
        X = np.load(tmp_path / "X.npy", mmap_mode="r")
    elif rows == "weighted":
        fit_params["sample_weight"] = np.arange(len(X)) % 3 / 2
    expected = make().fit(X, **fit_params)
    found, n_kills = kill_and_resume(make, tmp_path / "a.safetensors", X, **fit_params)
    # Four batches an epoch: kills at every third write come in the middle of epochs.
    assert n_kills >= expected.n_iter_
    assert_same_fit(found, expected)


def test_without_numba(tmp_path, X, monkeypatch):
    monkeypatch.setattr(_choose, "has_numba", lambda: False)
    found, _ = kill_and_resume(make_sae, tmp_path / "a.safetensors", X, 11)
    assert_same_fit(found, make_sae().fit(X))


@pytest.mark.skipif(not has_numba(), reason="needs numba")
def test_the_kernel_goes_on_as_it_was_about_to(X):
    """A dense batch and a sparse one round differently."""
    sae = make_sae(activation="relu", n_components=40, max_iter=1)
    trainer = start_training(sae, settings_of(sae, 6, len(X)), X, np.ones(len(X)))
    trainer.epoch(X, np.ones(len(X)))
    (density,) = trainer.kernel.memory
    assert density > 0
    other = _trainer.SAETrainer.from_state(trainer.settings, trainer.state())
    assert other.kernel.memory == (0,)
    other.go_on(trainer.progress())
    assert other.kernel.memory == trainer.kernel.memory


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_finished_fit_is_not_repeated(tmp_path, X, monkeypatch, early_stopping):
    path = tmp_path / "a.safetensors"

    def make():
        return make_sae(early_stopping=early_stopping, checkpoint=str(path))

    expected = make().fit(X)
    written = path.read_bytes()
    monkeypatch.setattr(_trainer.SAETrainer, "_step", None)  # it would fail
    assert_same_fit(make().fit(X), expected)
    assert path.read_bytes() == written
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_changes_no_fit(tmp_path, X):
    sae = make_sae(checkpoint=tmp_path / "a.safetensors").fit(X)
    assert_same_fit(sae, make_sae().fit(X))


class TestInterruption:
    @pytest.fixture(autouse=True)
    def handler(self):
        """Python's own: shells start what runs in the background without it."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, before)

    def test_ctrl_c_writes_and_waits_for_the_batch(self, tmp_path, X, monkeypatch):
        path, step, calls = tmp_path / "a.safetensors", _trainer.SAETrainer._step, []

        def interrupted(self, *args):
            calls.append(1)
            if len(calls) == 10:  # the second of four in the third epoch
                signal.raise_signal(signal.SIGINT)
            return step(self, *args)

        monkeypatch.setattr(_trainer.SAETrainer, "_step", interrupted)
        sae = make_sae(checkpoint=path)
        with pytest.warns(UserWarning, match="interrupted after 2 epochs"):
            sae.fit(X)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert (len(calls), sae.n_iter_, sae.n_steps_) == (10, 2, 10)
        assert np.isfinite(sae.transform(X)).all()
        expected = make_sae().fit(X)
        n_calls = len(calls)
        assert_same_fit(sae.fit(X), expected)
        assert len(calls) - n_calls == 4 * 24 - 10

    @pytest.mark.parametrize("activation", ["topk", "relu"])
    def test_in_the_validation_of_an_epoch(self, tmp_path, X, monkeypatch, activation):
        params = {"early_stopping": True, "activation": activation, "max_iter": 9}
        path, export = tmp_path / "a.safetensors", _trainer.SAETrainer.export
        loss = _trainer.SAETrainer.held_out_loss

        def interrupt(original):
            calls = []

            def method(self, *args):
                calls.append(1)
                if len(calls) == 5:
                    raise KeyboardInterrupt
                return original(self, *args)

            return method

        with monkeypatch.context() as patch:
            patch.setattr(_trainer.SAETrainer, "export", interrupt(export))
            patch.setattr(_trainer.SAETrainer, "held_out_loss", interrupt(loss))
            with pytest.warns(UserWarning, match="interrupted after"):
                sae = make_sae(checkpoint=path, **params).fit(X)
        assert len(sae.validation_scores_) == sae.n_iter_ < 9
        found = make_sae(checkpoint=path, **params).fit(X)
        assert_same_fit(found, make_sae(**params).fit(X))

    def test_a_batch_that_failed_is_not_written(self, tmp_path, X, monkeypatch):
        path = tmp_path / "a.safetensors"

        def fail(self):
            self._params["decoder"][:] = 7
            raise MemoryError

        with monkeypatch.context() as patch:
            patch.setattr(_trainer.Adam, "step", fail)
            with pytest.raises(MemoryError):
                make_sae(checkpoint=path).fit(X)
        assert_same_fit(make_sae(checkpoint=path).fit(X), make_sae().fit(X))

    @pytest.mark.parametrize(
        "error", [SystemExit(1), RuntimeError("callback")], ids=str
    )
    def test_what_a_callback_raises_loses_nothing(
        self, tmp_path, X, monkeypatch, error
    ):
        path = tmp_path / "a.safetensors"
        sae = make_sae(checkpoint=path).set_callbacks(RaiseAt(5, error))
        with pytest.raises(type(error)):
            sae.fit(X)
        steps, step = [], _trainer.SAETrainer._step
        monkeypatch.setattr(
            _trainer.SAETrainer,
            "_step",
            lambda self, *args: steps.append(1) or step(self, *args),
        )
        found = make_sae(checkpoint=path).fit(X)
        assert len(steps) == 4 * (24 - 5)
        assert_same_fit(found, make_sae().fit(X))

    def test_a_second_one_does_not_wait(self):
        done, wait = [], InterruptsWait()

        def work():
            with wait.installed(), wait:
                for number in (1, 2):
                    signal.raise_signal(signal.SIGINT)
                    done.append(number)

        with pytest.raises(KeyboardInterrupt):
            work()
        assert done == [1]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_a_handler_of_the_user_stays(self):
        seen, wait = [], InterruptsWait()
        before = signal.signal(signal.SIGINT, lambda *args: seen.append(1))
        try:
            with wait.installed(), wait:
                signal.raise_signal(signal.SIGINT)
                assert seen == [1]
        finally:
            signal.signal(signal.SIGINT, before)

    def test_between_two_pieces_it_does_not_wait(self):
        done, wait = [], InterruptsWait()

        def work():
            with wait.installed():
                with wait:
                    done.append(1)
                signal.raise_signal(signal.SIGINT)
                done.append(2)

        with pytest.raises(KeyboardInterrupt):
            work()
        assert done == [1]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_an_error_counts_more(self):
        wait = InterruptsWait()

        def work():
            with wait.installed(), wait:
                signal.raise_signal(signal.SIGINT)
                return 1 / 0

        with pytest.raises(ZeroDivisionError):
            work()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class TestWhenItIsWritten:
    @pytest.fixture
    def clock(self, monkeypatch):
        now = [1000.0]
        monkeypatch.setattr(_checkpoint.time, "monotonic", lambda: now[0])
        return now

    def test_every_minute(self, tmp_path, clock):
        with CheckpointFile(tmp_path / "a.safetensors", "test", {}) as file:
            clock[0] += 59.9
            assert not file.is_due
            clock[0] += 0.2
            assert file.is_due
            file.save({})
            assert not file.is_due

    def test_less_often_when_it_takes_long(self, tmp_path, clock, monkeypatch):
        write = _checkpoint._write

        def slow(*args):
            clock[0] += 2.0
            write(*args)

        monkeypatch.setattr(_checkpoint, "_write", slow)
        with CheckpointFile(tmp_path / "a.safetensors", "test", {}) as file:
            file.save({})
            clock[0] += 199.0  # 2 seconds are a hundredth of 200
            assert not file.is_due
            clock[0] += 2.0
            assert file.is_due


KILLED = """
import sys
from tests.solvers.test_checkpoint import fit_long, make_sae
from skfeat.kernels._limits import LIMITS
from skfeat.utils import _checkpoint

LIMITS.compiled_training = int(sys.argv[2])
_checkpoint._SECONDS_BETWEEN_WRITES = 0.02
_checkpoint._LARGEST_SHARE = float("inf")
make_sae(max_iter=1).fit([[0.0, 1.0], [1.0, 3.0]])  # loads what is compiled
print("begins", flush=True)
fit_long(sys.argv[1])
"""


def fit_long(checkpoint=None):
    X = np.random.RandomState(0).randn(400, 12)
    return make_sae(max_iter=1500, tol=0, checkpoint=checkpoint).fit(X)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills a process")
def test_sigkill_at_any_moment(tmp_path):
    path, rng = tmp_path / "a.safetensors", np.random.RandomState(0)
    codes = []
    for _ in range(4):
        process = subprocess.Popen(
            [
                *(sys.executable, "-W", "ignore", "-c", KILLED, str(path)),
                str(int(LIMITS.compiled_training)),
            ],
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            cwd=tmp_path,
        )
        with process:
            process.stdout.readline()
            time.sleep(rng.uniform(0.2, 0.6))
            process.send_signal(signal.SIGKILL)
        codes.append(process.returncode)
    assert codes[0] == -signal.SIGKILL
    assert 0 < len(_checkpoint._read(path)[1]["losses"]) < 1500
    found = fit_long(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]
    assert_same_fit(found, fit_long())
