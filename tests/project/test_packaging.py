import importlib.metadata
import importlib.resources
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import skfeat
from skfeat.explorer._page import SCRIPTS

ROOT = Path(__file__).parents[2]

# Runs in a fresh interpreter. scikit-learn itself loads rich and pandas, which loads
# pyarrow, where they are installed: of those only who imports them tells.
IMPORT = """
import builtins, sys

OPTIONAL = {
    *("matplotlib", "pandas", "polars", "rich", "networkx", "onnx"),
    *("transformers", "tokenizers", "safetensors", "pyarrow", "datasets"),
}
importers = set()
original = builtins.__import__

def spy(name, globals=None, *args, **kwargs):
    package = name.partition(".")[0]
    if package in OPTIONAL:
        importers.add(((globals or {}).get("__name__", ""), package))
    return original(name, globals, *args, **kwargs)

builtins.__import__ = spy
import skfeat
builtins.__import__ = original

ours = sorted(pair for pair in importers if pair[0].partition(".")[0] == "skfeat")
assert not ours, f"skfeat imports {ours}"
loaded = (OPTIONAL - {"pandas", "pyarrow", "rich"}) & set(sys.modules)
assert not loaded, f"importing skfeat loads {sorted(loaded)}"
import torch
assert not torch.cuda.is_initialized(), "importing skfeat initialises CUDA"
"""


def test_import_is_quiet_and_light():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")


# Python's own random state is not asked: scikit-learn's import draws from it.
STATES = """
import numpy, torch

def states():
    key, position = numpy.random.get_state()[1:3]
    return key.tolist(), position, torch.get_rng_state().tolist()

before, threads = states(), torch.get_num_threads()
import skfeat
assert states() == before, "importing skfeat draws random numbers"
assert torch.get_num_threads() == threads, "importing skfeat changes the threads"
"""


def test_import_leaves_random_states_and_threads_alone():
    subprocess.run([sys.executable, "-c", STATES], check=True)


@pytest.mark.parametrize("name", skfeat.__all__)
def test_public_names_are_importable(name):
    assert getattr(skfeat, name) is not None


def test_all_has_no_duplicates():
    assert len(set(skfeat.__all__)) == len(skfeat.__all__)
    assert "__version__" in skfeat.__all__


def test_installed_version():
    try:
        installed = importlib.metadata.version("skfeat")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("skfeat runs from its folder, uninstalled")
    assert installed == skfeat.__version__, "install again: the metadata are old"


def test_changelog_names_this_version():
    changelog = ROOT / "CHANGELOG.md"
    if not changelog.is_file():
        pytest.skip("the tests run outside a checkout")
    latest = re.search(r"^## (\d+\.\d+\.\d+)", changelog.read_text(), re.MULTILINE)
    release = skfeat.__version__.partition(".dev")[0]
    assert latest is not None
    assert latest.group(1) == release


def test_typed():
    assert importlib.resources.files("skfeat").joinpath("py.typed").is_file()


def test_wheel(tmp_path):
    pytest.importorskip("hatchling")
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("the tests run outside a checkout")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    modules = {
        path.relative_to(ROOT).as_posix() for path in ROOT.glob("skfeat/**/*.py")
    }
    assert modules <= set(names)
    assert "skfeat/py.typed" in names
    page = [f"skfeat/explorer/page/{name}" for name in (*SCRIPTS, "page.html")]
    assert {*page, "skfeat/explorer/page/style.css"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    metadata = f"skfeat-{skfeat.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"skfeat", metadata}
