"""Folders of files that belong together hold those of one write, whenever it stops."""

import os

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


@pytest.mark.parametrize("n_moves", range(2 * len(NAMES)))
def test_a_process_that_stops_leaves_no_mixture(n_moves, tmp_path, monkeypatch):
    write(tmp_path, "first")
    moves = []

    def replace(source, target):
        if len(moves) == n_moves:
            raise KeyboardInterrupt
        moves.append(target)
        os.rename(source, target)

    monkeypatch.setattr(_files.os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, "second")
    monkeypatch.undo()
    found = held(tmp_path)
    assert "config" not in found or found == dict.fromkeys(NAMES, "first")
    assert len(set(found.values())) <= 1
    write(tmp_path, "third")
    assert held(tmp_path) == dict.fromkeys(NAMES, "third")
