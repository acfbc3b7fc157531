"""Two processes under torchrun compute what one computes (acceptance line 96)."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]

SCRIPT = """
import sys
import warnings

import numpy as np
import torch.distributed as dist

from skfeat import FeatureConnector, SparseAutoencoder

warnings.simplefilter("ignore")  # of dead features, and of the few epochs
rng = np.random.RandomState(0)
X = np.maximum(rng.randn(161, 5), 0) @ rng.randn(5, 6) + 0.1 * rng.randn(161, 6)
F = np.maximum(rng.randn(161, 8), 0)
Y = np.maximum(F @ rng.randn(8, 3) + 0.1, 0)
weights = np.arange(161) % 3
many = {"precision": "float64", "max_iter": 8, "random_state": 0, "batch_size": 23}


def fit_all():
    found = {}
    for name, params, sample_weight in [
        ("topk", {"n_components": 12, "k": 3}, None),
        ("relu", {"n_components": 12, "activation": "relu", "tied": True}, weights),
        # Not k=1, where the first gradients of the encoder are rounding errors of zero,
        # which Adam makes as large as any.
        ("dead", {"n_components": 90, "k": 2, "max_iter": 6}, weights),
        ("early", {"n_components": 12, "k": 3, "early_stopping": True}, None),
        # A rank that gets no row of a batch at all.
        ("single", {"n_components": 12, "k": 3, "batch_size": 1, "max_iter": 1}, None),
    ]:
        sae = SparseAutoencoder(**{**many, **params})
        sae.fit(X, sample_weight=sample_weight)
        found[f"{name} components"] = sae.components_
        found[f"{name} encoder"] = sae.encoder_coef_
        found[f"{name} encoder intercept"] = sae.encoder_intercept_
        found[f"{name} intercept"] = sae.intercept_
        found[f"{name} loss"] = np.array(sae.loss_curve_)
        found[f"{name} dead"] = np.array([sae.n_dead_])
    assert found["dead dead"] > 5
    sae.partial_fit(X)
    found["partial_fit"] = sae.components_
    for name, params in [("alpha", {}), ("budget", {"n_nonzero_coefs": 9})]:
        connector = FeatureConnector(
            solver="minibatch", max_iter=8, batch_size=23, random_state=0, **params
        )
        connector.fit(F, Y, sample_weight=weights)
        found[f"connector {name} coef"] = connector.coef_.toarray()
        found[f"connector {name} intercept"] = connector.intercept_
        found[f"connector {name} loss"] = np.array(connector.loss_curve_)
    return found


alone = fit_all()
dist.init_process_group("gloo")
assert dist.get_world_size() == 2
# That ranks share the work is seen in the calls; the results could not tell.
calls, reduce = [], dist.all_reduce
dist.all_reduce = lambda tensor: (calls.append(1), reduce(tensor))
together = fit_all()
dist.destroy_process_group()
assert len(calls) > 100, "nothing was reduced"
for name, value in alone.items():
    error = np.abs(together[name] - value).max()
    assert error <= 1e-12, (name, error)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="this torch has no gloo",
)
def test_two_processes_equal_one(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(SCRIPT)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--nproc-per-node=2", "--master-addr=127.0.0.1", f"--master-port={port}"]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *options, str(script)],
        env=os.environ
        | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
