"""A capture in a folder survives what may end it, and refuses what is not its own."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skfeat import SparseAutoencoder
from skfeat.capture import Capture, _store, capture
from tests.capture.test_capture import LM_BATCHES, TinyLM, assert_same, tokens

ROOT = Path(__file__).parents[2]


def test_files(tmp_path):
    model, batches = TinyLM(), [tokens(3, 7), tokens(2, 5)]
    kept = capture(model, batches, ["embed", "mlp"])
    found = capture(model, batches, ["embed", "mlp"], out=tmp_path / "new" / "rows")
    assert_same(found, kept)
    assert found.folder == tmp_path / "new" / "rows"
    assert isinstance(found.activations["mlp"], np.memmap)
    assert not found.activations["mlp"].flags.writeable
    assert_same(Capture.load(str(found.folder)), kept)
    # Any program can read them.
    plain = np.load(found.folder / "activations.1.npy", allow_pickle=False)
    np.testing.assert_array_equal(plain, kept.activations["mlp"])
    np.testing.assert_array_equal(
        np.load(found.folder / "token_ids.npy"), kept.token_ids
    )
    sae = SparseAutoencoder(8, k=2, random_state=0)
    assert sae.partial_fit(found.activations["mlp"]).transform(plain).shape == (
        len(plain),
        8,
    )


def test_no_row_is_kept(tmp_path):
    batch = {"input_ids": tokens(2, 3), "attention_mask": torch.zeros(2, 3)}
    for out in (None, tmp_path / "rows"):
        with pytest.warns(UserWarning, match="capture keeps no row: the batches hold"):
            found = capture(TinyLM(), [batch], "mlp", out=out)
        assert found.activations["mlp"].shape == (0, 6)
        assert found.n_rows == 0


def files_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


class Stop(Exception):
    """Ends a capture from outside."""


def stopped(batches, after):
    yield from batches[:after]
    raise Stop


@pytest.mark.parametrize("after", [[0], [1], [3], [6], [1, 2, 2, 5]])
def test_a_resumed_capture_equals_an_uninterrupted_one(tmp_path, after):
    model, names = TinyLM(), ["mlp", "embed"]
    whole = capture(model, LM_BATCHES, names, out=tmp_path / "whole")
    for stop in after:
        with pytest.raises(Stop):
            capture(model, stopped(LM_BATCHES, stop), names, out=tmp_path / "parts")
        if stop:
            part = Capture.load(tmp_path / "parts")
            assert not part.complete
            assert "interrupted" in repr(part)
            expected = whole.activations["mlp"][: part.n_rows]
            np.testing.assert_array_equal(part.activations["mlp"], expected)
    calls = []
    handle = model.embed.register_forward_hook(lambda *args: calls.append(1))
    found = capture(model, iter(LM_BATCHES), names, out=tmp_path / "parts")
    handle.remove()
    # The last batch of before is run again, to know the model.
    assert len(calls) == len(LM_BATCHES) - after[-1] + (after[-1] > 0)
    assert found.complete
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")


def test_a_failing_forward_can_be_resumed(tmp_path):
    model, calls = TinyLM(), itertools.count()
    expected = capture(model, LM_BATCHES, "mlp", out=tmp_path / "whole")

    def fail(*args):
        if next(calls) == 3:
            raise Stop

    handle = model.mlp[1].register_forward_hook(fail)
    with pytest.raises(Stop):
        capture(model, LM_BATCHES, "mlp", out=tmp_path / "parts")
    handle.remove()
    assert json.loads((tmp_path / "parts/capture.json").read_text())["n_batches"] == 3
    assert_same(capture(model, LM_BATCHES, "mlp", out=tmp_path / "parts"), expected)


KILLED = """
import sys, time
import torch
from tests.capture.test_capture import LM_BATCHES, TinyLM
from skfeat.capture import _store, capture

torch.set_num_threads(1)
_store._SECONDS_BETWEEN_CHECKPOINTS = 0
def slow():
    for batch in LM_BATCHES:
        yield batch
        print("batch", flush=True)
        time.sleep({pause})
capture(TinyLM(), slow(), ["mlp", "embed"], out=sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills a process")
def test_a_killed_capture_is_resumed(tmp_path):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED.format(pause=0.2), str(tmp_path / "parts")],
        env=environment,
        stdout=subprocess.PIPE,
        cwd=tmp_path,
    )
    with process:
        for _ in range(3):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    part = Capture.load(tmp_path / "parts")
    assert part.n_rows > 0
    assert not part.complete
    whole = capture(TinyLM(), LM_BATCHES, ["mlp", "embed"], out=tmp_path / "whole")
    found = capture(TinyLM(), LM_BATCHES, ["mlp", "embed"], out=tmp_path / "parts")
    assert_same(found, whole)
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")


@given(
    cut=st.lists(st.integers(0, 400), min_size=5, max_size=5), where=st.integers(1, 5)
)
@settings(max_examples=15)
def test_what_lies_behind_the_state_is_cut_off(tmp_path_factory, cut, where):
    folder, model = tmp_path_factory.mktemp("torn"), TinyLM()
    whole = capture(model, LM_BATCHES, "mlp", out=folder / "whole")
    with pytest.raises(Stop):
        capture(model, stopped(LM_BATCHES, where), "mlp", out=folder / "parts")
    # A machine that stops may leave any number of further bytes.
    for path, size in zip(sorted((folder / "parts").glob("*.npy")), cut, strict=False):
        with open(path, "ab") as file:
            file.write(b"\xff" * size)
    assert_same(capture(model, LM_BATCHES, "mlp", out=folder / "parts"), whole)
    assert files_of(folder / "parts") == files_of(folder / "whole")


def test_a_failed_write_leaves_a_state_that_holds(tmp_path, monkeypatch):
    model = TinyLM()
    with pytest.raises(Stop):
        capture(model, stopped(LM_BATCHES, 2), "mlp", out=tmp_path / "parts")
    before = (tmp_path / "parts/capture.json").read_bytes()

    def fail(*args):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(_store.os, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            capture(model, LM_BATCHES, "mlp", out=tmp_path / "parts")
    assert (tmp_path / "parts/capture.json").read_bytes() == before
    found = capture(model, LM_BATCHES, "mlp", out=tmp_path / "parts")
    assert_same(found, capture(model, LM_BATCHES, "mlp"))
    assert not list((tmp_path / "parts").glob("*.tmp"))


def test_a_finished_capture_takes_up_further_batches(tmp_path):
    model = TinyLM()
    capture(model, LM_BATCHES[:4], "mlp", out=tmp_path / "parts")
    again = capture(model, LM_BATCHES[:4], "mlp", out=tmp_path / "parts")
    assert again.complete
    found = capture(model, LM_BATCHES, "mlp", out=tmp_path / "parts")
    assert_same(found, capture(model, LM_BATCHES, "mlp"))


OTHERS = {
    "modules": ({"modules": ["embed"]}, r"of modules=\['mlp'\] not \['embed'\]"),
    "what": ({"what": "input"}, "of what='output' not 'input'"),
    "index": ({"index": 1}, "of index=None not 1"),
    "dtype": ({"dtype": "float16"}, "of dtype='float32' not 'float16'"),
    "padding": ({"keep_padding": True}, "of keep_padding=False not True"),
    "special": ({"special_tokens": [3]}, r"special_tokens=\[0, 1, 2\] not \[3\]"),
    "batches": (
        {"batches": LM_BATCHES[1:]},
        "its first 4 differ from those of this call",
    ),
    "fewer": ({"batches": LM_BATCHES[:3]}, "end before the 4 batches that out="),
    "none": ({"batches": []}, "end before the 4 batches that out="),
    "model": ({"model": TinyLM(d=7)}, "holds the rows of another model; name another"),
}


@pytest.mark.parametrize(("other", "match"), OTHERS.values(), ids=OTHERS.keys())
def test_a_folder_of_another_capture_is_refused(tmp_path, other, match):
    usual = {"model": TinyLM(), "batches": LM_BATCHES[:4], "modules": ["mlp"]}
    capture(**usual, out=tmp_path / "rows")
    before = files_of(tmp_path / "rows")
    with pytest.raises(ValueError, match=match) as info:
        capture(**{**usual, **other}, out=tmp_path / "rows")
    assert str(info.value).count(". ") == 0
    assert files_of(tmp_path / "rows") == before


def test_a_model_with_other_weights_is_refused(tmp_path):
    model = TinyLM()
    capture(model, LM_BATCHES, "mlp", out=tmp_path / "rows")
    with torch.no_grad():
        for weight in model.parameters():
            weight += 1e-3
    with pytest.raises(ValueError, match="rows of another model"):
        capture(model, LM_BATCHES, "mlp", out=tmp_path / "rows")


CHANGES = {
    "one entry of a weight": lambda model: model.mlp[0].weight.data[3, 2].add_(1),
    "a buffer": lambda model: model.scale.add_(1),
    "an activation function": lambda model: model.mlp.__setitem__(1, nn.ReLU()),
    "a hook": lambda model: model.embed.register_forward_hook(
        lambda module, args, output: 1.01 * output
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("more", [0, 2])
def test_a_model_that_computes_otherwise_is_refused(tmp_path, change, more):
    model = TinyLM()
    model.register_buffer("scale", torch.ones(500), persistent=False)
    capture(model, LM_BATCHES[:4], "mlp", out=tmp_path / "rows")
    before = files_of(tmp_path / "rows")
    change(model)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"rows of another model.* another folder"):
            capture(model, LM_BATCHES[: 4 + more], "mlp", out=tmp_path / "rows")
    assert files_of(tmp_path / "rows") == before


def test_rounding_does_not_make_another_model(tmp_path):
    model = TinyLM()
    expected = capture(model, LM_BATCHES[:4], "mlp", out=tmp_path / "rows")
    expected = np.array(expected.activations["mlp"])
    with torch.no_grad():
        model.mlp[0].register_forward_hook(lambda module, args, out: out * (1 + 1e-6))
    found = capture(model, LM_BATCHES[:4], "mlp", out=tmp_path / "rows")
    np.testing.assert_array_equal(found.activations["mlp"], expected)


def test_a_capture_that_never_began_is_in_nobodys_way(tmp_path):
    model = TinyLM()
    with pytest.raises(Stop):
        capture(model, stopped(LM_BATCHES, 0), ["mlp", "embed"], out=tmp_path)
    with pytest.raises(ValueError, match="interrupted before its first batch"):
        Capture.load(tmp_path)
    # One that was killed while it wrote its first rows.
    state = json.loads((tmp_path / "capture.json").read_text())
    state["columns"] = {
        name: ["<f4", [6]] if "." in name else ["<i8", []]
        for name in ("activations.0", "activations.1", "sequence", "position")
    }
    (tmp_path / "capture.json").write_text(json.dumps(state))
    (tmp_path / "activations.1.npy").write_bytes(b"half")
    found = capture(model, LM_BATCHES, "embed", out=tmp_path)
    assert_same(found, capture(model, LM_BATCHES, "embed"))
    assert not (tmp_path / "activations.1.npy").exists()


def test_other_folders_are_refused(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("1")
    with pytest.raises(ValueError, match="holds other files and no capture"):
        capture(TinyLM(), LM_BATCHES, "mlp", out=tmp_path / "thesis")
    with pytest.raises(ValueError, match="must be a folder; it is a file"):
        capture(TinyLM(), LM_BATCHES, "mlp", out=tmp_path / "thesis/chapter.txt")
    below = tmp_path / "thesis" / "chapter.txt" / "rows"
    with pytest.raises(ValueError, match=r"out=.*rows' must be a .* below a file"):
        capture(TinyLM(), LM_BATCHES, "mlp", out=below)
    with pytest.raises(FileNotFoundError, match="There is no capture in"):
        Capture.load(tmp_path / "thesis")
    for path in (3, None, ["rows"]):
        with pytest.raises(TypeError, match=r"folder must be a path.* Got .* instead"):
            Capture.load(path)
    with pytest.raises(TypeError, match=r"out must be a path.* Got 3 instead"):
        capture(TinyLM(), LM_BATCHES, "mlp", out=3)
    with pytest.raises(FileNotFoundError, match="There is no capture in"):
        Capture.load(tmp_path / "nowhere")


DAMAGE = {
    "empty": lambda state: "",
    "not json": lambda state: "{",
    "not text": lambda state: b"\xff\xfe\x00",
    "a list": lambda state: "[]",
    "format": lambda state: {**state, "format": "other"},
    "version": lambda state: {**state, "version": 2},
    "rows": lambda state: {**state, "n_rows": -1},
    "rows text": lambda state: {**state, "n_rows": "5"},
    "too many rows": lambda state: {**state, "n_rows": 10**6},
    "very many rows": lambda state: {**state, "n_rows": 10**40},
    "no settings": lambda state: {k: v for k, v in state.items() if k != "settings"},
    "object": lambda state: {
        **state,
        "columns": {**state["columns"], "position": ["O", []]},
    },
    "shape": lambda state: {
        **state,
        "columns": {**state["columns"], "activations.0": ["<f4", [10**9]]},
    },
    "path": lambda state: {
        **state,
        "columns": {**state["columns"], "../../secret": ["<f4", []]},
    },
    "no column": lambda state: {**state, "columns": {}},
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_folders_are_refused(tmp_path, damage):
    capture(TinyLM(), LM_BATCHES, "mlp", out=tmp_path)
    path = tmp_path / "capture.json"
    content = damage(json.loads(path.read_text()))
    if isinstance(content, dict):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match="Cannot read a capture from"):
        Capture.load(tmp_path)


def test_files_that_are_too_short_are_refused(tmp_path):
    capture(TinyLM(), LM_BATCHES, "mlp", out=tmp_path)
    os.truncate(tmp_path / "activations.0.npy", 200)
    with pytest.raises(ValueError, match=r"activations.0.npy is shorter than its"):
        Capture.load(tmp_path)
    with pytest.raises(ValueError, match=r"is damaged: activations.0.npy is shorter"):
        capture(TinyLM(), LM_BATCHES, "mlp", out=tmp_path)


def test_a_callback_may_end_a_capture(tmp_path):
    def stop(progress):
        if progress.n_batches == 2:
            raise Stop

    with pytest.raises(Stop):
        capture(TinyLM(), LM_BATCHES, "mlp", out=tmp_path / "rows", callback=stop)
    found = capture(TinyLM(), LM_BATCHES, "mlp", out=tmp_path / "rows")
    assert_same(found, capture(TinyLM(), LM_BATCHES, "mlp"))


def test_memory_does_not_grow_with_the_rows(tmp_path):
    psutil = pytest.importorskip("psutil")
    process = psutil.Process()
    model = nn.Linear(256, 1024)
    peak = [0, 0]

    def batches(n):
        for _ in range(n):
            yield torch.ones(512, 256)

    def watch(progress):
        half = progress.n_batches > 20
        peak[half] = max(peak[half], process.memory_info().rss)

    found = capture(model, batches(100), "", out=tmp_path / "rows", callback=watch)
    assert found.activations[""].nbytes == 200 * 2**20
    assert peak[1] - peak[0] < 50 * 2**20


def test_checkpoints_come_while_it_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(_store, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    state = tmp_path / "rows" / "capture.json"
    seen = []

    def watch(progress):
        seen.append(json.loads(state.read_text())["n_rows"])
        time.sleep(0)

    found = capture(TinyLM(), LM_BATCHES, "mlp", out=state.parent, callback=watch)
    assert seen[-1] == found.n_rows
    assert seen == sorted(set(seen))
