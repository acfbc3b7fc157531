"""Folders of files that belong together hold those of one write, whenever it stops."""

import os
import signal

import pytest

from skfeat.utils import _files
from skfeat.utils._files import replacing_folder

NAMES = ("config", "arrays", "card")


def write(folder, text, names=NAMES):
    with replacing_folder(folder, NAMES) as made:
        for name in names:
            (made / name).write_text(text)


def held(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_files_take_the_place_of_those_before(tmp_path):
    folder = tmp_path / "new" / "folder"
    write(folder, "first")
    (folder / "mine").write_text("stays")
    write(folder, "second", ("config", "arrays"))
    assert held(folder) == {"config": "second", "arrays": "second", "mine": "stays"}


def test_files_before_stay_where_writing_fails(tmp_path):
    write(tmp_path, "first")
    with pytest.raises(FileNotFoundError):
        write(tmp_path, "second", ("config", "arrays", "no folder/card"))
    assert held(tmp_path) == dict.fromkeys(NAMES, "first")


@pytest.fixture
def stop_at(monkeypatch):
    """Have a move raise an error, before or after it moves; or all from there on."""

    def stop(number, error, *, for_good=False, moved=False):
        moves = []

        def replace(source, target):
            moves.append(target)
            stops = len(moves) > number if for_good else len(moves) == number + 1
            if stops and not moved:
                raise error
            os.rename(source, target)
            if stops:
                raise error

        monkeypatch.setattr(_files.os, "replace", replace)

    return stop


N_MOVES = 2 * len(NAMES)


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("error", [OSError(28, "full"), KeyboardInterrupt()])
@pytest.mark.parametrize("number", range(N_MOVES))
def test_files_before_stay_where_a_move_fails(number, error, moved, tmp_path, stop_at):
    write(tmp_path, "first")
    stop_at(number, error, moved=moved)
    with pytest.raises(type(error)):
        write(tmp_path, "second")
    assert held(tmp_path) == dict.fromkeys(NAMES, "first")


@pytest.mark.parametrize("number", range(3))
def test_no_file_is_left_where_none_was_before(number, tmp_path, stop_at):
    stop_at(number, OSError(28, "full"))
    with pytest.raises(OSError, match="full"):
        write(tmp_path, "first")
    assert held(tmp_path) == {}


def test_ctrl_c_arrives_when_all_files_are_moved(tmp_path, monkeypatch):
    write(tmp_path, "first")

    def replace(source, target):
        signal.raise_signal(signal.SIGINT)
        os.rename(source, target)

    monkeypatch.setattr(_files.os, "replace", replace)
    # A process in the background may have been started to ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, "second")
    finally:
        signal.signal(signal.SIGINT, before)
    assert held(tmp_path) == dict.fromkeys(NAMES, "second")


def test_files_are_on_the_disk_before_they_are_moved(tmp_path, monkeypatch):
    calls = []
    sync, move = os.fsync, os.replace
    monkeypatch.setattr(_files.os, "fsync", lambda n: (calls.append("sync"), sync(n)))
    monkeypatch.setattr(
        _files.os, "replace", lambda a, b: (calls.append("move"), move(a, b))
    )
    write(tmp_path, "first")
    assert calls[: len(NAMES)] == ["sync"] * len(NAMES)
    assert calls.count("sync") == len(NAMES) + (os.name == "posix")


@pytest.mark.parametrize("number", range(N_MOVES))
def test_a_process_that_stops_leaves_no_mixture(number, tmp_path, stop_at, monkeypatch):
    write(tmp_path, "first")
    # As after a kill, nothing can be put back.
    stop_at(number, KeyboardInterrupt(), for_good=True)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, "second")
    monkeypatch.undo()
    found = held(tmp_path)
    assert "config" not in found or found == dict.fromkeys(NAMES, "first")
    assert len(set(found.values())) <= 1
    write(tmp_path, "third")
    assert held(tmp_path) == dict.fromkeys(NAMES, "third")
