"""Files of checkpoints: damaged, foreign, in use, on a full disk."""

import errno
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from skfeat.solvers.autoencoder import _trainer
from skfeat.utils import _checkpoint, _files
from skfeat.utils._checkpoint import CheckpointFile, digest_of, digest_of_rows
from tests.autoencoder.test_sparse_autoencoder import make_sae
from tests.checkpoints import write_often

pytest.importorskip("safetensors")

from safetensors.numpy import load_file, save_file

X = np.random.RandomState(0).randn(80, 6)
ROOT = Path(__file__).parents[2]
REMEDY = "Name another file, or delete this one to start anew."

no_windows = pytest.mark.skipif(os.name == "nt", reason="has no such locks")


def fit(path, rows=X, sample_weight=None, **params):
    """Fit two epochs, or go on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        sae = make_sae(max_iter=2, checkpoint=path, **params)
        return sae.fit(rows, sample_weight=sample_weight)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "a.safetensors"
    fit(path)
    return path.read_bytes()


def test_safetensors_reads_the_file_too(path, saved):
    path.write_bytes(saved)
    arrays = load_file(path)
    assert arrays["state.params.decoder"].shape == (12, 6)
    assert arrays["losses"].shape == (2,)


TREE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text()
    | st.builds(
        np.zeros,
        st.lists(st.integers(0, 3), max_size=3),
        st.sampled_from(["f4", "f8", "i4", "i8", "u1"]),
    ),
    lambda parts: (
        st.lists(parts, max_size=3) | st.dictionaries(st.text(), parts, max_size=3)
    ),
)


@given(content=st.dictionaries(st.text(), TREE, max_size=3))
def test_anything_comes_back(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("tree") / "a.safetensors"
    with CheckpointFile(path, "test", {"a": (1, 2)}) as file:
        assert file.load() is None
        file.save(content)
        assert repr(file.load()) == repr(content)
    assert os.listdir(path.parent) == [path.name]


def test_arrays_keep_their_numbers(path):
    rng = np.random.RandomState(0)
    content = {
        "fortran": np.asfortranarray(rng.randn(3, 4)),
        "strided": rng.randn(9)[::2],
        "big endian": rng.randn(3).astype(">f8"),
        "scalar": np.array(3.5, dtype=np.float32),
        "bytes": rng.randint(0, 255, 7).astype(np.uint8),
    }
    with CheckpointFile(path, "test", {}) as file:
        file.save(content)
        found = file.load()
    assert found.keys() == content.keys()
    for name, array in content.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].shape == array.shape


OTHERS = {
    "parameter": ({"k": 2}, "k is 3 there and 2 here"),
    "two": ({"k": 2, "tol": 0.5}, "k is 3 there and 2 here, tol is 0.0001 there and"),
    "l0": ({"activation": "relu", "l0": 3}, "activation is 'topk' there and 'relu'"),
    "prefixes": ({"prefixes": np.array([4])}, r"prefixes is None there and \[4\] here"),
    "seed": ({"random_state": 1}, "random_state is 0 there and 1 here"),
    "no seed": ({"random_state": None}, "random_state is 0 there and None here"),
    "fewer": ({"rows": X[:70]}, r"shape of X is \[80, 6\] there and \[70, 6\] here\. "),
    "dtype": ({"rows": X.astype("f4")}, "dtype of X is 'float64' there and 'float32'"),
    "order": ({"rows": X[::-1]}, r"fit: X differs\."),
    "weights": ({"sample_weight": np.arange(80.0)}, r"fit: sample_weight differs\."),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_fit(path, saved, name):
    params, message = OTHERS[name]
    path.write_bytes(saved)
    start = f"checkpoint={str(path)!r} holds another fit: "
    with pytest.raises(ValueError, match=message) as error:
        fit(path, **params)
    assert str(error.value).startswith(start)
    assert str(error.value).endswith(REMEDY)
    assert path.read_bytes() == saved
    assert os.listdir(path.parent) == [path.name]


def test_another_version(path, saved, monkeypatch):
    path.write_bytes(saved)
    monkeypatch.setattr("skfeat._version.__version__", "9.9")
    with pytest.raises(ValueError, match=r"skfeat is '\d.*' there and '9.9' here"):
        fit(path)


def test_what_may_differ(path, saved):
    path.write_bytes(saved)
    whole = fit(path, verbose=0, sparse_output=True, device="cpu", warm_start=True)
    np.testing.assert_array_equal(whole.components_, fit(path).components_)


class Bomb:
    ran = False

    def __reduce__(self):
        return setattr, (Bomb, "ran", True)


FOREIGN = {
    "empty": b"",
    "text": b"some text that is no checkpoint",
    "pickle": pickle.dumps(Bomb()),
    "huge header": (2**62).to_bytes(8, "little") + b"{}",
    "array": b"\x93NUMPY\x01\x00",
}


def assert_refused(path, content, match="cannot be read"):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=match) as error:
        fit(path)
    assert str(error.value).startswith(f"checkpoint={str(path)!r} cannot be read: ")
    assert str(error.value).endswith(REMEDY)
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files(path, name):
    assert_refused(path, FOREIGN[name])
    assert not Bomb.ran


def test_another_safetensors_file(path):
    save_file({"W": np.zeros((2, 3))}, path)
    assert_refused(path, path.read_bytes(), match="format is not skfeat.checkpoint")


@given(
    where=st.floats(0, 1, exclude_max=True),
    flip=st.integers(1, 255),
    cut=st.booleans(),
)
def test_damage_is_seen_wherever_it_is(tmp_path_factory, saved, where, flip, cut):
    spoilt, i = bytearray(saved), int(where * len(saved))
    spoilt[i] ^= flip
    path = tmp_path_factory.mktemp("damaged") / "a.safetensors"
    assert_refused(path, bytes(saved[:i]) if cut else bytes(spoilt))


def cut_params(content):
    content["state"]["params"]["decoder"] = np.zeros((3, 6), dtype=np.float32)


def widen(content):
    content["state"]["params"]["encoder_bias"] = np.zeros(12)


def cut_moments(content):
    content["state"]["moments"]["0"]["exp_avg"] = np.zeros(1, dtype=np.float32)


def lose_moments(content):
    del content["state"]["moments"]["1"]


def cut_mean(content):
    content["state"]["standardizer"]["mean"] = np.zeros(2)


def cut_generator(content):
    content["state"]["generator"] = np.zeros(3, dtype=np.uint8)


def cut_position(content):
    content["progress"]["position"]["generator"] = np.zeros(3, dtype=np.uint8)


def count_back(content):
    content["progress"]["position"]["n_batches"] = -1


def count_words(content):
    content["progress"]["n_steps"] = "many"


def lose_state(content):
    content["state"] = None


def lose_losses(content):
    del content["losses"]


def add(content):
    content["state"]["more"] = 1


@pytest.mark.parametrize(
    "spoil",
    [
        *(cut_params, widen, cut_moments, lose_moments, cut_mean, cut_generator),
        *(cut_position, count_back, count_words, lose_state, lose_losses, add),
    ],
)
def test_forged_content(path, saved, spoil):
    path.write_bytes(saved)
    settings, content = _checkpoint._read(path)
    spoil(content)
    with open(path, "wb") as file:
        _checkpoint._write(file, settings, content)
    assert_refused(path, path.read_bytes())


class TestFullDisk:
    @pytest.fixture
    def full(self, monkeypatch):
        """After as many writes as asked for the disk is full."""

        def after(n_writes):
            sync, calls = os.fsync, []

            def fsync(number):
                calls.append(1)
                # A write calls it for the file and for the folder.
                if len(calls) > 2 * n_writes:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                sync(number)

            monkeypatch.setattr(_files.os, "fsync", fsync)

        return after

    def test_at_the_start(self, path, full):
        full(0)
        message = r"cannot be written \(No space left on device\)\.$"
        with pytest.raises(OSError, match=message) as error:
            fit(path)
        assert error.value.errno == errno.ENOSPC
        assert str(path) in str(error.value)
        assert os.listdir(path.parent) == []

    def test_in_the_middle(self, path, full, monkeypatch):
        expected = fit(None)
        with monkeypatch.context() as patch:
            write_often(patch)
            full(3)
            with pytest.raises(
                OSError, match="The one written before is kept, and fit goes on"
            ):
                fit(path)
        monkeypatch.undo()
        assert os.listdir(path.parent) == [path.name]
        assert _checkpoint._read(path)[1]["progress"]["n_steps"] == 2
        np.testing.assert_array_equal(fit(path).components_, expected.components_)

    def test_at_the_end(self, path, full):
        full(1)
        sae = make_sae(max_iter=30, tol=0, checkpoint=path)
        with pytest.raises(
            OSError, match="The one written before is kept, and fit goes on"
        ):
            sae.fit(X)
        assert sae.n_iter_ == 30
        expected = make_sae(max_iter=30, tol=0).fit(X)
        np.testing.assert_array_equal(sae.components_, expected.components_)


LIMITED = """
import resource, sys, warnings
import numpy as np
from tests.utils.test_checkpoint_files import X, fit

limit = resource.RLIMIT_FSIZE
resource.setrlimit(limit, (1000, resource.getrlimit(limit)[1]))
try:
    fit(sys.argv[1])
except OSError as error:
    print(error)
"""


@no_windows
@pytest.mark.slow
def test_a_disk_that_takes_no_more(path):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cannot be written (File too large)." in done.stdout
    assert os.listdir(path.parent) == []


HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "ab")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


@no_windows
class TestTwoFits:
    def test_in_one_process(self, path):
        with CheckpointFile(path, "test", {}) as file:
            with pytest.raises(BlockingIOError, match="is in use by another fit"):
                fit(path)
            file.save({})
        assert os.listdir(path.parent) == [path.name]

    def test_in_two_processes_and_after_a_kill(self, path, saved):
        path.write_bytes(saved)
        lock = f"{path}.lock"
        with subprocess.Popen(
            [sys.executable, "-S", "-c", HOLD, lock], stdout=subprocess.PIPE
        ) as process:
            process.stdout.readline()
            with pytest.raises(BlockingIOError, match=re.escape(repr(str(path)))):
                fit(path)
            assert path.read_bytes() == saved
            process.send_signal(signal.SIGKILL)
        assert os.path.exists(lock)
        fit(path)
        assert os.listdir(path.parent) == [path.name]

    def test_what_a_killed_write_leaves(self, path, saved):
        path.write_bytes(saved)
        path.with_name(f"{path.name}.tmp").write_bytes(saved[:100])
        fit(path)
        assert os.listdir(path.parent) == [path.name]

    def test_a_lock_file_that_was_just_taken_away(self, path, monkeypatch):
        import fcntl

        flock, calls = fcntl.flock, []

        def slow(file, how):
            flock(file, how)
            calls.append(1)
            if len(calls) == 1:  # the fit that held it ends between open and flock
                os.unlink(f"{path}.lock")

        monkeypatch.setattr(fcntl, "flock", slow)
        with CheckpointFile(path, "test", {}):
            assert len(calls) == 2
            assert os.listdir(path.parent) == [f"{path.name}.lock"]

    def test_a_file_system_without_locks(self, path, monkeypatch):
        import fcntl

        def flock(*args):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr(fcntl, "flock", flock)
        with pytest.warns(UserWarning, match=r"without locks \(No locks available\)"):
            fit(path)
        assert os.listdir(path.parent) == [path.name]


class TestRefused:
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("a.pt", r"must end in \.safetensors, or be an existing folder"),
            ("absent/a.safetensors", "lies in a folder that does not exist"),
        ],
    )
    def test_paths(self, tmp_path, name, message):
        with pytest.raises(ValueError, match=message):
            fit(tmp_path / name)
        assert list(tmp_path.iterdir()) == []

    def test_no_path(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ValueError, match=r"checkpoint='' must end in"):
            fit("")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without pipes")
    def test_a_pipe(self, path):
        os.mkfifo(path)
        with pytest.raises(ValueError, match="neither a regular file nor a folder"):
            fit(path)

    def test_a_link_leads_to_the_file(self, path, tmp_path):
        link = tmp_path / "link.safetensors"
        link.symlink_to(path)
        fit(link)
        assert link.is_symlink()
        first = path.read_bytes()
        fit(path)
        assert path.read_bytes() == first

    def test_a_folder_tells_fits_apart(self, tmp_path):
        with pytest.raises(ValueError, match="random_state=None is not possible"):
            fit(tmp_path, random_state=None)
        drawn = np.random.RandomState(0)
        fits = [fit(tmp_path, random_state=drawn) for _ in range(2)]
        assert not np.array_equal(fits[0].components_, fits[1].components_)
        again = fit(tmp_path, random_state=np.random.RandomState(0))
        np.testing.assert_array_equal(again.components_, fits[0].components_)
        assert len(list(tmp_path.iterdir())) == 2

    def test_kind(self):
        with pytest.raises(ValueError, match="The 'checkpoint' parameter of Sparse"):
            fit(3)

    def test_partial_fit(self, path):
        sae = make_sae(checkpoint=path)
        with pytest.raises(ValueError, match="is for fit alone"):
            sae.partial_fit(X)
        sae.set_params(checkpoint=None).partial_fit(X)

    @pytest.mark.skipif(
        not torch.distributed.is_available(), reason="torch without process groups"
    )
    def test_a_process_group(self, path, tmp_path):
        store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        try:
            with pytest.raises(ValueError, match="not possible in a process group"):
                fit(path)
        finally:
            torch.distributed.destroy_process_group()

    def test_without_safetensors(self, path, monkeypatch):
        monkeypatch.setitem(sys.modules, "safetensors", None)
        with pytest.raises(ImportError, match=r"pip install 'skfeat\[interop\]'"):
            fit(path)
        assert make_sae().fit(X).n_iter_ == 24

    def test_a_fit_that_is_not_valid_writes_nothing(self, path):
        with pytest.raises(ValueError, match="l0=99 is larger"):
            fit(path, activation="relu", l0=99)
        assert os.listdir(path.parent) == []


class TestDigests:
    @given(i=st.integers(0, 79), j=st.integers(0, 5))
    def test_every_value_of_few_rows(self, i, j):
        other = X.copy()
        other[i, j] = np.nextafter(other[i, j], 9)
        assert digest_of_rows(other) != digest_of_rows(X)
        assert digest_of_rows(np.asfortranarray(X)) == digest_of_rows(X)

    def test_runs_of_many(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_checkpoint, "_RUN_BYTES", 100)
        np.save(tmp_path / "X.npy", np.random.RandomState(0).randn(3001, 4))
        mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
        first = digest_of_rows(mapped)
        assert first == digest_of_rows(np.array(mapped))
        for rows in (mapped[::-1], mapped[1:], 2 * mapped, mapped[:, ::-1]):
            assert digest_of_rows(rows) != first
        ends = np.array(mapped)
        ends[-1] += 1
        assert digest_of_rows(ends) != first

    def test_of_content(self):
        assert digest_of({"a": np.zeros(3)}) == digest_of({"a": np.zeros(3)})
        others = [{"a": np.zeros(4)}, {"b": np.zeros(3)}, {"a": np.zeros(3, "f4")}]
        assert len({digest_of(part) for part in others}) == 3


def test_the_text_is_json(path, saved):
    size = int.from_bytes(saved[:8], "little")
    metadata = json.loads(saved[8 : 8 + size])["__metadata__"]
    text = json.loads(metadata["json"])
    assert text["settings"]["n_components"] == 12
    assert _trainer.SAETrainer.__name__ not in metadata["json"]
