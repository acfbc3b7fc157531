"""All that is to be known of a GPU, by one command of nine minutes: `make gpu`.

Runs the tests marked ``gpu``, and measures on one GPU: training steps of autoencoders
in float32, TF32 and bfloat16, beside plain torch and those of the four other libraries
that are installed; what `torch.compile` would gain; fits of a connector and of an
unwrapper beside the CPU's; and memory. Nothing begins after the time is up: what is
left out is in the record, ``records/gpu.json``, with the reason. ``--smoke`` does the
same, tiny, on the CPU and writes nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import statistics
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from _common import print_table, train_mlp, write_record
from _peers import available_peers
from sae_speed import Skfeat

from skfeat import FeatureConnector, FeatureUnwrapper, SparseAutoencoder
from skfeat.datasets import make_sparse_features

ROOT = Path(__file__).parents[1]
SECONDS = 8.5 * 60
# d, m, k, batch, rows, rounds.
SIZES = {
    "64 -> 256": (64, 256, 8, 4096, 61_440, 5),
    "768 -> 24,576": (768, 24_576, 32, 4096, 32_768, 5),
}
SMOKE = {"8 -> 32": (8, 32, 3, 64, 256, 1)}
# Our precision, and what float32 products may be rounded to.
PRECISIONS = {
    "float32": ("float32", "highest"),
    "TF32": ("float32", "high"),
    "bfloat16": ("bfloat16", "highest"),
}


@dataclass
class Clock:
    """Tells whether there is time left.

    Parameters
    ----------
    seconds : float
        From now on.
    """

    seconds: float

    def __post_init__(self):
        self.end = time.perf_counter() + self.seconds

    @property
    def left(self):
        """Seconds that are left."""
        return self.end - time.perf_counter()


@contextlib.contextmanager
def products(how):
    """Let float32 products be as exact as `how` says."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(how)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def finish(device):
    """Wait for what the device has been told to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device):
    """Return the bytes that tensors took at most, None on the CPU; and begin anew."""
    if device.type != "cuda":
        return None
    most = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return most


def ours(X, size, activation, precision, device):
    """Return the trainer behind `SparseAutoencoder.fit`, on the device."""
    _, m, k, batch_size, *_ = size
    # On the CPU too, nothing is compiled.
    return Skfeat(X, m, k, batch_size, activation, precision, device=device, work=0.0)


class Peer:
    """Another library's trainer, on the device."""

    def __init__(self, peer, X, size, activation, device):
        d, m, k, batch_size, _, n_rounds = size
        n_steps = (n_rounds + 1) * len(X) // batch_size
        self.X, self.batch_size = torch.from_numpy(X).to(device), batch_size
        self.device = device
        with torch.device(device):
            self.peer = peer(d, m, activation=activation, k=k, n_steps=n_steps)
            self.peer.prepare(self.X[:4096])

    def epoch(self):
        """Train on every row once."""
        order = torch.randperm(len(self.X), device=self.device)
        with torch.device(self.device):
            for rows in order.split(self.batch_size):
                self.peer.step(self.X[rows])


def time_epochs(racer, n_rounds, device):
    """Return the median of an epoch's seconds, after one that nobody times."""
    racer.epoch()
    times = []
    for _ in range(n_rounds):
        finish(device)
        start = time.perf_counter()
        racer.epoch()
        finish(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def races(sizes, device):
    """Yield what makes each racer, by size, activation, library and precision."""
    peers = available_peers()
    for name, size in sizes.items():
        d, _, k, _, n_rows, _ = size
        X, _, _ = make_sparse_features(
            n_rows, d, 2 * d, n_active=k, noise=0.1, random_state=0, dtype=np.float32
        )
        for activation in ("topk", "relu"):
            for label, (precision, how) in PRECISIONS.items():
                key = {"size": name, "activation": activation, "precision": label}
                yield (
                    {**key, "library": "skfeat"},
                    size,
                    how,
                    _ours(X, size, activation, precision, device),
                )
                if label == "bfloat16":  # the others' own products stay float32
                    continue
                for peer in peers:
                    if activation in peer.activations:
                        yield (
                            {**key, "library": peer.name},
                            size,
                            how,
                            _theirs(peer, X, size, activation, device),
                        )


def _ours(X, size, activation, precision, device):
    return lambda: ours(X, size, activation, precision, device)


def _theirs(peer, X, size, activation, device):
    return lambda: Peer(peer, X, size, activation, device)


def measure_steps(sizes, device, clock):
    """Time a training step of each library."""
    rows = []
    for row, size, how, make in races(sizes, device):
        if clock.left <= 0:
            rows.append({**row, "left out": "the time was up"})
            continue
        n_steps = size[4] / size[3]
        try:
            with products(how):
                peak_memory(device)
                seconds = time_epochs(make(), size[5], device)
        except Exception as error:  # a peer that has no such device stops no other
            if row["library"] == "skfeat":
                raise
            rows.append({**row, "left out": f"{type(error).__name__}: {error}"[:200]})
            continue
        row["ms a step"] = 1e3 * seconds / n_steps
        row["peak bytes"] = peak_memory(device)
        rows.append(row)
    print_table(rows, ["size", "activation", "precision", "library", "ms a step"])
    return rows


def gain_of_compiling(size, device):
    """Return how many times as fast gradients are that `torch.compile` has compiled."""
    d, batch_size = size[0], size[3]
    x = torch.randn(batch_size, d, device=device)
    weights = torch.full((batch_size,), 1 / batch_size, device=device)
    racer = ours(x.cpu().numpy(), size, "topk", "float32", device)
    gradients = racer.trainer.kernel.gradients
    medians = []
    for function in (gradients, torch.compile(gradients)):
        times = []
        for _ in range(25):
            finish(device)
            start = time.perf_counter()
            function(x, weights)
            finish(device)
            times.append(time.perf_counter() - start)
        medians.append(statistics.median(times[5:]))
    return medians[0] / medians[1]


def measure_fits(devices, *, smoke):
    """Time fits of a connector and of an unwrapper on each device."""
    n = 500 if smoke else 30_000
    p, epochs = (20, 3) if smoke else (1024, 5)
    rng = np.random.default_rng(0)
    codes = np.maximum(rng.standard_normal((n, p)) - 1.5, 0).astype(np.float32)
    weights = rng.standard_normal((p, p)) * (rng.random((p, p)) < 0.02)
    targets = np.maximum(codes @ weights.astype(np.float32), 0)
    images = rng.random((n, 64)).astype(np.float32)
    labels = images[:, :40].reshape(n, 10, 4).sum(axis=2).argmax(axis=1)
    width = 16 if smoke else 512
    model = train_mlp(images, labels, hidden=(width, width), epochs=2, seed=0)
    fits = {
        "connector": lambda device: FeatureConnector(
            1e-3, solver="minibatch", max_iter=epochs, device=device, random_state=0
        ).fit(codes, targets),
        "unwrapper": lambda device: FeatureUnwrapper(
            model,
            autoencoder=SparseAutoencoder(4 * width, max_iter=epochs, device=device),
            max_iter=epochs,
            device=device,
            random_state=0,
        ).fit(images),
    }
    rows = []
    for name, fit in fits.items():
        for device in devices:
            peak_memory(device)
            start = time.perf_counter()
            fit(str(device))
            seconds = time.perf_counter() - start
            row = {"fit": name, "device": device.type, "seconds": seconds}
            rows.append({**row, "peak bytes": peak_memory(device)})
    print_table(rows, ["fit", "device", "seconds"])
    return rows


def run_tests(seconds):
    """Run the tests marked gpu; return how many passed, failed and were skipped."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "gpu", "tests"]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"left out": f"not done after {seconds:.0f} seconds"}
    print("\n".join(done.stdout.splitlines()[-12:]))
    counts = re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)
    return {kind: int(number) for number, kind in counts} | {"status": done.returncode}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="tiny, on the CPU")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all of it")
    arguments = parser.parse_args()
    smoke = arguments.smoke
    device = torch.device("cpu" if smoke else arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("this machine has no GPU that torch can use; --smoke needs none")
    warnings.simplefilter("ignore")
    clock = Clock(arguments.seconds)
    record = {"device": str(device)}
    if device.type == "cuda":
        record["device"] = torch.cuda.get_device_name(device)
    if not smoke:
        record["tests"] = run_tests(clock.left / 3)
    devices = [device] if smoke else [torch.device("cpu"), device]
    record["fits"] = measure_fits(devices, smoke=smoke)
    record["steps"] = measure_steps(SMOKE if smoke else SIZES, device, clock)
    if not smoke and clock.left > 60:
        size = SIZES["768 -> 24,576"]
        record["times as fast by torch.compile"] = gain_of_compiling(size, device)
    if not smoke:
        print(write_record("gpu", record))
    failed = record.get("tests", {}).get("status", 0)
    sys.exit(int(failed not in (0, 5)))


if __name__ == "__main__":
    main()
