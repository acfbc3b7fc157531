"""Processes under torchrun compute what one computes (acceptance line 96)."""

import os
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from skfeat import SparseAutoencoder
from skfeat.datasets import make_sparse_features

ROOT = Path(__file__).parents[2]

needs_gloo = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="this torch has no gloo",
)


def torchrun(n_processes, script, *args, folder):
    """Run a script in several processes of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = [
        *(f"--nproc-per-node={n_processes}", "--master-addr=127.0.0.1"),
        f"--master-port={port}",
    ]
    path = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", *options),
            *(str(script), *args),
        ],
        env=os.environ
        | {
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(path),
            "GLOO_SOCKET_IFNAME": "lo",
        },
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@needs_gloo
@pytest.mark.parametrize("n_processes", [2, 3])
def test_many_processes_equal_one(n_processes, tmp_path):
    script = ROOT / "tests" / "torchrun_script.py"
    torchrun(n_processes, script, str(n_processes), folder=tmp_path)


@pytest.mark.slow
@needs_gloo
@pytest.mark.parametrize("by", ["rows", "features"])
def test_script_of_the_docs(tmp_path, by):
    page = (ROOT / "docs" / "many_devices.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    changed = code.replace("1024,\n    k=32", "64,\n    k=4, max_iter=2, tol=0.0")
    assert changed != code
    script = tmp_path / "fit_together.py"
    script.write_text(changed.replace('distribute="rows"', f'distribute="{by}"'))
    X, _, _ = make_sparse_features(600, 16, 32, random_state=0)
    np.save(tmp_path / "activations.npy", X)
    torchrun(2, script, folder=tmp_path)
    alone = SparseAutoencoder(64, k=4, max_iter=2, tol=0.0, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two epochs are too few
        alone.fit(X)
    found = np.load(tmp_path / "weights.npz")["components"]
    np.testing.assert_allclose(found, alone.components_, atol=1e-4)


def test_processes_that_divide_features_cannot_resample():
    sae = SparseAutoencoder(6, dead_features="resample", distribute="features")
    with pytest.raises(ValueError, match=r"dead_features='resample' is not possible"):
        sae.fit([[0.0, 1.0], [1.0, 0.0]])
