"""The hub, whose three functions a fake stands for: there is no network in tests."""

import inspect
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from skfeat import SparseAutoencoder
from skfeat.sharing import from_pretrained, push_to_hub

pytestmark = pytest.mark.filterwarnings("ignore:.*(still falling|dead)")


@pytest.fixture(scope="module")
def sae():
    rows = np.random.default_rng(0).standard_normal((60, 4))
    return SparseAutoencoder(6, k=2, max_iter=2, random_state=0).fit(rows)


class Hub:
    """Keeps repositories as folders."""

    def __init__(self, root):
        self.root, self.calls = root, []

    def create_repo(self, repo_id, *, private, exist_ok):
        assert exist_ok
        self.calls.append(("create_repo", repo_id, private))
        (self.root / repo_id).mkdir(parents=True, exist_ok=True)

    def upload_folder(self, *, repo_id, folder_path, allow_patterns, commit_message):
        assert "skfeat" in commit_message
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/1")

    def snapshot_download(self, repo_id, *, revision, allow_patterns, **whose):
        assert whose["library_name"] == "skfeat"
        self.calls.append(("snapshot_download", repo_id, revision))
        if not (self.root / repo_id).is_dir():
            raise OSError("401 Client Error.\nRepository Not Found")
        return str(self.root / repo_id)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    fake = Hub(tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    monkeypatch.chdir(tmp_path)
    return fake


def test_there_and_back(sae, hub):
    address = push_to_hub(sae, "me/layer-3", license="mit", private=True)
    assert address == "https://hub/me/layer-3/1"
    assert ("create_repo", "me/layer-3", True) in hub.calls
    card = (hub.root / "me" / "layer-3" / "README.md").read_text()
    assert "from_pretrained('me/layer-3')" in card
    again = from_pretrained("me/layer-3", revision="v1")
    assert ("snapshot_download", "me/layer-3", "v1") in hub.calls
    np.testing.assert_array_equal(again.components_, sae.components_)


def test_what_the_hub_has_not(hub):
    told = "no folder 'me/none', and it cannot be had .*: 401 Client Error"
    with pytest.raises(FileNotFoundError, match=told):
        from_pretrained("me/none")


def test_a_folder_comes_before_a_repository(sae, hub, tmp_path):
    (tmp_path / "me" / "layer-3").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        from_pretrained("me/layer-3")
    assert hub.calls == []


@pytest.mark.parametrize("name", ["layer-3", "a/b/c", "../x/y", 3])
def test_names_of_repositories(name, sae, hub):
    with pytest.raises(ValueError, match="repository must be a str of the form"):
        push_to_hub(sae, name)
    assert hub.calls == []


def test_without_the_library(sae, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.chdir(tmp_path)
    for call in (lambda: push_to_hub(sae, "a/b"), lambda: from_pretrained("a/b")):
        with pytest.raises(ImportError, match=r"pip install 'skfeat\[hub\]'"):
            call()


@pytest.mark.parametrize("name", ["create_repo", "upload_folder", "snapshot_download"])
def test_the_fake_takes_what_the_library_takes(name):
    library = pytest.importorskip("huggingface_hub")
    known = inspect.signature(getattr(library, name)).parameters
    faked = inspect.signature(getattr(Hub(None), name)).parameters
    named = {key for key, p in faked.items() if p.kind is not p.VAR_KEYWORD}
    assert named | {"repo_id"} <= set(known)
    if name == "snapshot_download":
        assert {"library_name", "library_version"} <= set(known)
