"""Processes under torchrun compute what one computes (acceptance line 96)."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from skfeat import SparseAutoencoder

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="this torch has no gloo",
)
@pytest.mark.parametrize("n_processes", [2, 3])
def test_many_processes_equal_one(n_processes):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = [
        *(f"--nproc-per-node={n_processes}", "--master-addr=127.0.0.1"),
        f"--master-port={port}",
    ]
    path = filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")])
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", *options),
            *(str(HERE / "torchrun_script.py"), str(n_processes)),
        ],
        env=os.environ
        | {
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(path),
            "GLOO_SOCKET_IFNAME": "lo",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_processes_that_divide_features_cannot_resample():
    sae = SparseAutoencoder(6, dead_features="resample", distribute="features")
    with pytest.raises(ValueError, match=r"dead_features='resample' is not possible"):
        sae.fit([[0.0, 1.0], [1.0, 0.0]])
