import builtins
import importlib.util
import os
import sys
from pathlib import Path

import pytest
import torch
from _common import read_mnist
from hypothesis import settings

from skfeat.kernels._limits import LIMITS

settings.register_profile("skfeat", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("skfeat")

if importlib.util.find_spec("matplotlib"):
    import matplotlib

    matplotlib.use("Agg")

if "PYTEST_XDIST_WORKER" in os.environ:
    # The workers share the cores: more threads than cores is slower than one each.
    torch.set_num_threads(1)


class CloseFigures:
    """A plugin, as a fixture of this file would not reach the examples in skfeat/."""

    @pytest.fixture(autouse=True)
    def close_figures(self):
        yield
        # Not imported here: a test may be about matplotlib not being loaded.
        if "matplotlib.pyplot" in sys.modules:
            sys.modules["matplotlib.pyplot"].close("all")


def pytest_configure(config):
    config.pluginmanager.register(CloseFigures(), "close_figures")


@pytest.fixture(scope="session")
def mnist():
    """X_train, y_train, X_test, y_test; pixels are float32 in [0, 1]."""
    folder = os.environ.get("SKFEAT_DATA")
    if not folder:
        pytest.skip("needs MNIST: set SKFEAT_DATA to a folder with mnist.npz")
    path = Path(folder) / "mnist.npz"
    if not path.is_file():
        pytest.skip("needs MNIST: the folder SKFEAT_DATA names has no mnist.npz")
    return read_mnist(path)


@pytest.fixture(scope="module")
def compiled_when_small():
    """Let the compiled loops of connectors run on problems of any size."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("compiled_gram", "compiled_rectified", "compiled_moments"):
            patch.setattr(LIMITS, name, 0)
        yield


@pytest.fixture
def few_updates(monkeypatch):
    """Distil for a few updates only; what is asked is not how well it learns."""
    monkeypatch.setattr("skfeat.solvers.joint._train._UPDATES", 6)


@pytest.fixture
def without_networkx(monkeypatch):
    """Let importing networkx fail."""
    real = builtins.__import__

    def fake(name, *args):
        if name == "networkx":
            raise ModuleNotFoundError("No module named 'networkx'")
        return real(name, *args)

    monkeypatch.delitem(sys.modules, "networkx", raising=False)
    monkeypatch.setattr(builtins, "__import__", fake)
