"""What a killed process leaves is removed by the next write; what is in use stays."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from skfeat.utils import _temporary
from skfeat.utils._files import replacing, replacing_folder
from skfeat.utils._temporary import temporary_path

ROOT = Path(__file__).parents[2]
has_locks = pytest.mark.skipif(os.name == "nt", reason="has no such locks")

KILLED = """
import os, signal, sys
from pathlib import Path
from skfeat.utils._files import replacing, replacing_folder

folder = Path(sys.argv[1])
with replacing(folder / "file") as file, replacing_folder(folder, ("one",)) as made:
    file.write(b"half")
    file.flush()
    (made / "one").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def hidden(folder):
    return [path for path in folder.iterdir() if path.name.startswith(".")]


def write_both(folder):
    with replacing(folder / "file") as file:
        file.write(b"whole")
    with replacing_folder(folder, ("one",)) as made:
        (made / "one").write_text("whole")


@pytest.fixture
def left_over(tmp_path):
    """A file and a folder that a killed process has left."""
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT)
    assert ended.returncode == -signal.SIGKILL
    found = hidden(tmp_path)
    assert sorted(path.is_dir() for path in found) == [False, True]
    return found


@has_locks
def test_the_next_write_removes_what_a_killed_process_left(left_over, tmp_path):
    with replacing(tmp_path / "other") as file:
        file.write(b"of another file")
    assert set(left_over) == set(hidden(tmp_path))
    write_both(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["file", "one", "other"]
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert (tmp_path / "one").read_text() == "whole"


@has_locks
def test_without_locks_it_stays(left_over, tmp_path, monkeypatch):
    monkeypatch.setattr(_temporary, "fcntl", None)
    write_both(tmp_path)
    assert set(left_over) == set(hidden(tmp_path))
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_what_another_call_is_writing_stays(tmp_path):
    with (
        replacing(tmp_path / "file") as file,
        replacing_folder(tmp_path, ("one",)) as made,
    ):
        file.write(b"last")
        (made / "one").write_text("last")
        write_both(tmp_path)
        assert len(hidden(tmp_path)) == 2
    assert (tmp_path / "file").read_bytes() == b"last"
    assert (tmp_path / "one").read_text() == "last"
    assert hidden(tmp_path) == []


@has_locks
@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
def test_one_that_is_removed_before_it_is_locked_is_made_again(make, tmp_path):
    made = []

    def make_slowly(path):
        make(path)
        made.append(path)
        if len(made) == 1:
            with temporary_path(tmp_path, "a", Path.touch):
                assert not path.exists()

    with temporary_path(tmp_path, "a", make_slowly) as path:
        assert path.exists()
        assert made == [made[0], path]
    assert hidden(tmp_path) == []


@has_locks
def test_one_that_another_call_has_locked_is_given_up(tmp_path, monkeypatch):
    made, lock = [], _temporary._lock

    def lock_second(number):
        made.append(number)
        return False if len(made) == 1 else lock(number)

    monkeypatch.setattr(_temporary, "_lock", lock_second)
    with temporary_path(tmp_path, "a", Path.touch) as path:
        assert hidden(tmp_path) == [path]
    assert len(made) == 2


def test_a_long_name_has_a_temporary_one(tmp_path):
    path = tmp_path / ("a" * 250)
    with replacing(path) as file:
        file.write(b"whole")
    assert os.listdir(tmp_path) == [path.name]


def test_an_error_names_the_file(tmp_path):
    path = tmp_path / "no folder" / "file"
    with pytest.raises(FileNotFoundError) as error, replacing(path):
        pass
    assert error.value.filename == str(path)
