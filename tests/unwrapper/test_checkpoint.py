"""Fits of unwrappers that are stopped at any moment, and go on."""

import json
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator

from skfeat import FeatureConnector, FeatureUnwrapper, SparseAutoencoder
from skfeat.utils import _checkpoint
from skfeat.utils import _stages as stages
from skfeat.utils._checkpoint import CheckpointFile
from tests.checkpoints import IGNORED, Killed, write_often

pytest.importorskip("safetensors")
pytestmark = IGNORED


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(6, 8),
        torch.nn.ReLU(),
        torch.nn.Linear(8, 7),
        torch.nn.ReLU(),
        torch.nn.Linear(7, 3),
    )


def rows(n=200):
    rng = np.random.RandomState(0)
    return (rng.randn(n, 4) @ rng.randn(4, 6)).astype(np.float32)


def unwrapper(sae=None, **params):
    sae = {"max_iter": 2, "batch_size": 50, **(sae or {})}
    if "topk" in sae.get("activation", "topk"):
        sae["k"] = 4
    if params.get("distill", True):
        params = {"max_iter": 5, "batch_size": 50, **params}
    params = {"autoencoder": SparseAutoencoder(12, **sae), "random_state": 0, **params}
    return FeatureUnwrapper(model(), **params)


def held(fitted):
    """Return all that a fit has left, as plain values."""
    return json.dumps(_plain(fitted))


def _plain(value):
    if isinstance(value, np.ndarray):
        return [str(value.dtype), list(value.shape), value.tobytes().hex()]
    if hasattr(value, "indptr"):
        return _plain([value.data, value.indices, value.indptr])
    if isinstance(value, torch.nn.Module):
        return None
    if isinstance(value, dict):
        return [
            (key, _plain(own))
            for key, own in sorted(value.items(), key=str)
            if key != "checkpoint"
        ]
    if isinstance(value, list | tuple):
        return [_plain(own) for own in value]
    if hasattr(value, "__dict__"):
        return _plain(vars(value))
    return repr(value)


def killed_and_resumed(make, X, every):
    """Fit with a kill at each so many writes; return the estimator and the kills."""
    whole, n_kills = CheckpointFile.save, 0
    writes = count(1)

    def save(self, content):
        if next(writes) % every == 0:
            raise Killed
        whole(self, content)

    with pytest.MonkeyPatch.context() as patch:
        write_often(patch)
        patch.setattr(CheckpointFile, "save", save)
        while True:
            try:
                return make().fit(X), n_kills
            except Killed:
                n_kills += 1
                assert n_kills < 300  # or it never ends


@pytest.mark.parametrize(
    ("params", "sae"),
    [
        ({}, {}),
        ({"connect_input": True, "connect_output": True}, {}),
        ({}, {"activation": "relu"}),
        ({}, {"activation": "batch_topk"}),
        ({"connector": FeatureConnector(alpha=0.01)}, {}),
        ({"joint": False}, {}),
        ({"distill": False}, {}),
        ({}, {"activation": "jumprelu"}),
        ({"shared_budget": True, "connect_input": True, "task": "regression"}, {}),
        ({"train_encoder": False}, {"tied": True}),
    ],
    ids=str,
)
def test_a_killed_fit_goes_on_as_if_never_killed(tmp_path, params, sae):
    X = rows()
    expected = unwrapper(sae, **params).fit(X)
    found, n_kills = killed_and_resumed(
        lambda: unwrapper(sae, checkpoint=tmp_path / "fit", **params), X, every=7
    )
    assert n_kills > 2
    assert held(found) == held(expected)
    assert found.autoencoders_[0].checkpoint is None


def test_a_killed_fit_of_a_mapped_file_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("skfeat.utils._rows._RUN_BYTES", 512)
    monkeypatch.setattr("skfeat.utils._rows._RUNS", 3)
    np.save(tmp_path / "rows.npy", rows())
    X = np.load(tmp_path / "rows.npy", mmap_mode="r")
    expected = unwrapper().fit(X)
    found, n_kills = killed_and_resumed(
        lambda: unwrapper(checkpoint=tmp_path / "fit"), X, every=5
    )
    assert n_kills > 3
    assert held(found) == held(expected)


def test_the_first_pass_over_a_file_goes_on(tmp_path, monkeypatch):
    np.save(tmp_path / "rows.npy", rows())
    X = np.load(tmp_path / "rows.npy", mmap_mode="r")
    row_blocks, n_read = stages.row_blocks, []

    def counted(X, n_at_once):
        for block, part in row_blocks(X, 16):
            n_read.append(len(part))
            yield block, part

    monkeypatch.setattr(stages, "row_blocks", counted)
    expected = unwrapper().fit(X)
    assert sum(n_read) == 200
    n_read.clear()
    found, n_kills = killed_and_resumed(
        lambda: unwrapper(checkpoint=tmp_path / "fit"), X, every=7
    )
    assert n_kills > 3
    assert 200 < sum(n_read) < 300  # each kill loses a block
    assert held(found) == held(expected)


def test_frozen_parts_are_told_by_what_they_have_learnt(tmp_path):
    X = rows()
    first = unwrapper().fit(X)
    frozen = [FrozenEstimator(first.autoencoders_[0]), SparseAutoencoder(12, k=4)]
    fits = [unwrapper(autoencoder=frozen, checkpoint=tmp_path).fit(X) for _ in range(2)]
    assert held(fits[0]) == held(fits[1])
    other = unwrapper(random_state=1).fit(X)
    frozen[0] = FrozenEstimator(other.autoencoders_[0])
    third = unwrapper(autoencoder=frozen, checkpoint=tmp_path).fit(X)
    assert held(third) != held(fits[0])
    assert len([*tmp_path.glob("FeatureUnwrapper-*.safetensors")]) == 2


def test_a_finished_fit_is_not_trained_again(tmp_path, monkeypatch):
    X = rows()
    expected = unwrapper(checkpoint=tmp_path).fit(X)

    def trained(*args):
        pytest.fail("an update is made")

    monkeypatch.setattr("skfeat.solvers.joint._learner.Learner.step", trained)
    monkeypatch.setattr("skfeat.solvers.joint._learner.Learner._start", trained)
    monkeypatch.setattr("skfeat.solvers.autoencoder._trainer.SAETrainer._step", trained)
    assert held(unwrapper(checkpoint=tmp_path).fit(X)) == held(expected)


def test_another_fit_has_other_files(tmp_path):
    X = rows()
    unwrapper(checkpoint=tmp_path).fit(X)
    n_files = len([*tmp_path.iterdir()])
    assert n_files == 3  # one for each autoencoder, one for the rest
    found = unwrapper(faithfulness=0.5, checkpoint=tmp_path).fit(X)
    assert held(found) == held(unwrapper(faithfulness=0.5).fit(X))
    assert len([*tmp_path.iterdir()]) == n_files + 1  # with the same autoencoders
    unwrapper(checkpoint=tmp_path).fit(X[:150])
    assert len([*tmp_path.iterdir()]) == 2 * n_files + 1


def test_ctrl_c_loses_nothing(tmp_path, monkeypatch):
    X = rows()
    expected = unwrapper().fit(X)
    from skfeat.solvers.joint._learner import Learner

    step, steps = Learner.step, count(1)

    def interrupted(self, *args):
        if next(steps) == 7:
            raise KeyboardInterrupt
        return step(self, *args)

    monkeypatch.setattr(Learner, "step", interrupted)
    with pytest.warns(UserWarning, match="interrupted after 1 epochs"):
        stopped = unwrapper(checkpoint=tmp_path).fit(X)
    assert stopped.n_iter_ == 1
    assert held(unwrapper(checkpoint=tmp_path).fit(X)) == held(expected)


def test_an_autoencoder_may_have_a_file_of_its_own(tmp_path):
    (tmp_path / "own").mkdir()
    sae = {"checkpoint": tmp_path / "own"}
    fitted = unwrapper(sae, checkpoint=tmp_path / "fit").fit(rows())
    assert fitted.autoencoders_[0].checkpoint == tmp_path / "own"
    assert len([*(tmp_path / "own").iterdir()]) == 2
    assert len([*(tmp_path / "fit").iterdir()]) == 1


def test_what_is_wrong_is_said(tmp_path):
    X = rows()
    with pytest.raises(ValueError, match="random_state=None is not possible with"):
        unwrapper(random_state=None, checkpoint=tmp_path).fit(X)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file' must be a folder"):
        unwrapper(checkpoint=tmp_path / "file").fit(X)
    with pytest.raises(ValueError, match="lies in a folder that does not exist"):
        unwrapper(checkpoint=tmp_path / "not" / "there").fit(X)
    unwrapper(checkpoint=tmp_path).fit(X)
    (path,) = tmp_path.glob("FeatureUnwrapper-*")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="its digest is not that of its content"):
        unwrapper(checkpoint=tmp_path).fit(X)


def test_arrays_of_other_shapes_are_refused(tmp_path):
    unwrapper(checkpoint=tmp_path).fit(rows())
    (path,) = tmp_path.glob("FeatureUnwrapper-*")
    settings, content = _checkpoint._read(path)
    learner = content["run"]["learner"]
    for name in ("coefs", "masks", "costs", "code_means"):
        whole = learner[name][0]
        learner[name][0] = whole[:-1].copy()
        with open(path, "wb") as file:
            _checkpoint._write(file, settings, content)
        with pytest.raises(ValueError, match=f"its {name} are not those"):
            unwrapper(checkpoint=tmp_path).fit(rows())
        learner[name][0] = whole


PROGRAM = """
import sys, warnings
from pathlib import Path
import numpy as np
warnings.simplefilter("ignore")
from tests.unwrapper.test_checkpoint import held, rows, unwrapper
from skfeat.utils import _checkpoint
from skfeat.utils import _stages as stages
_checkpoint._SECONDS_BETWEEN_WRITES, _checkpoint._LARGEST_SHARE = 0.03, float("inf")
folder = Path(sys.argv[1])
X = np.load(folder / "rows.npy", mmap_mode="r")
unwrapper(max_iter=1).fit(X)
print("begins", flush=True)
fitted = unwrapper(max_iter=30, checkpoint=folder / "fit").fit(X)
(folder / "held.json").write_text(held(fitted))
"""


@pytest.mark.slow
def test_a_process_is_killed_again_and_again(tmp_path):
    np.save(tmp_path / "rows.npy", rows(600))
    X = np.load(tmp_path / "rows.npy", mmap_mode="r")
    expected = held(unwrapper(max_iter=30).fit(X))
    n_kills = 0
    for seconds in (0.2, 0.5, 0.3, None):
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        ) as process:
            process.stdout.readline()
            if seconds is not None:
                time.sleep(seconds)
                process.send_signal(signal.SIGKILL)
            process.wait()
            n_kills += process.returncode == -signal.SIGKILL
    assert n_kills >= 2
    assert (tmp_path / "held.json").read_text() == expected
