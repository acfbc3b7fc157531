"""Fits that are killed at random moments and go on end as if never killed.

Fifty fits, five of each kind. Each runs in a process of its own that writes its
checkpoint twenty times a second, so that kills come in the middle of writes too, and
is killed by SIGKILL after a random share of the time that it takes. It is resumed once,
in another process, and everything that the estimator then holds is compared with a fit
that was not killed: weights, curves, counts, and the state that training goes on from.

Then the price: what a write takes and how much of the time that is, at the interval of
a default fit; what a batch takes longer; and how long it takes to read one and go on.

Run: python benchmarks/checkpoint_kills.py (--quick for two kills)
"""

from __future__ import annotations

import argparse
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from _common import print_table, write_record

from skfeat import SparseAutoencoder
from skfeat.utils import _checkpoint
from skfeat.utils._checkpoint import CheckpointFile
from skfeat.utils._interrupts import InterruptsWait

N, D, M, EPOCHS, BATCH = 3000, 32, 128, 40, 100

KINDS = {
    "topk": {},
    "batch_topk": {"activation": "batch_topk"},
    "relu": {"activation": "relu"},
    "jumprelu, l0": {"activation": "jumprelu", "l0": 6.0},
    "gated": {"activation": "gated"},
    "Matryoshka": {"prefixes": [16, 64]},
    "resampling": {"dead_features": "resample"},
    "early stopping": {"early_stopping": True, "n_iter_no_change": EPOCHS},
    "mapped file": {},
    "tied, float64, weights": {"tied": True, "precision": "float64"},
}

# Sizes at which the price is measured: features in, features out.
SIZES = ((64, 256), (512, 4096), (768, 24576))

SECONDS_BETWEEN_WRITES = 0.05


def write_often():
    """Have this process write many times a second, whatever it costs."""
    _checkpoint._SECONDS_BETWEEN_WRITES = SECONDS_BETWEEN_WRITES
    _checkpoint._LARGEST_SHARE = float("inf")


def fit(kind, folder, checkpoint=None, max_iter=EPOCHS):
    """Fit on rows with a known kind of structure."""
    rng = np.random.default_rng(0)
    X = rng.exponential(size=(N, M)) * (rng.random((N, M)) < 0.05)
    X = (X @ rng.normal(size=(M, D))).astype(np.float32)
    sample_weight = None
    if kind == "mapped file":
        path = Path(folder) / "rows.npy"
        if not path.exists():
            np.save(path, X)
        X = np.load(path, mmap_mode="r")
    if "weights" in kind:
        sample_weight = np.arange(N) % 4 / 2
    params = {"k": 8, "batch_size": BATCH, "max_iter": max_iter, "tol": 0.0}
    sae = SparseAutoencoder(
        M, **params, **KINDS[kind], random_state=0, checkpoint=checkpoint
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sae.fit(X, sample_weight=sample_weight)


def content(sae):
    """Return the bytes of everything that a fit has left."""
    held = {k: v for k, v in vars(sae).items() if k != "checkpoint"}
    # Equal values in equal bytes: no references to what is shared.
    state = held.pop("_state")
    flat = {**held, **state, "moments": list(state["moments"].items())}
    mean, scale = flat.pop("standardizer").__dict__.values()
    flat |= {"mean": mean, "scale": scale}
    return {name: pickle.dumps(_plain(value)) for name, value in flat.items()}


def _plain(value):
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return [(key, _plain(part)) for key, part in value.items()]
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return repr(value)


def child(kind, folder, path):
    """Fit in this process, which the parent kills."""
    write_often()
    fit(kind, folder, max_iter=1)  # loads what is compiled
    print("begins", flush=True)
    fit(kind, folder, path)


def run_child(kind, folder, seconds=None):
    """Fit in another process, killed after some seconds; return its code and time."""
    path = Path(folder) / "fit.safetensors"
    for left in Path(folder).glob("*.safetensors*"):
        left.unlink()
    command = [sys.executable, __file__, "--child", kind, str(folder), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        start = time.perf_counter()
        if seconds is not None:
            time.sleep(seconds)
            process.send_signal(signal.SIGKILL)
        process.wait()
    return process.returncode, time.perf_counter() - start


def kill_one(kind, folder, seconds):
    """Kill a fit; return what was left, or None if it was over."""
    code, _ = run_child(kind, folder, seconds)
    if code != -signal.SIGKILL:
        return None
    path = Path(folder) / "fit.safetensors"
    return {
        "seconds": seconds,
        "in a write": path.with_name(f"{path.name}.tmp").exists(),
        **_where(path),
    }


def _where(path):
    if not path.exists():
        return {"updates": 0, "in an epoch": False}
    _, saved = _checkpoint._read(path)
    position = saved["progress"]["position"]
    inside = position is not None and position["epoch"] >= len(saved["losses"])
    return {"updates": saved["progress"]["n_steps"], "in an epoch": inside}


def kills(kind, n_kills, rng):
    """Kill and resume fits of one kind; return what happened to each."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        expected = fit(kind, folder)
        reference = content(expected)
        _, seconds = run_child(kind, folder)
        while len(results) < n_kills:
            killed = kill_one(kind, folder, rng.uniform() * seconds)
            if killed is None:
                continue
            path = Path(folder) / "fit.safetensors"
            start = time.perf_counter()
            found = content(fit(kind, folder, path))
            names = {*found, *reference}
            killed |= {
                "kind": kind,
                "resume_seconds": time.perf_counter() - start,
                "all_updates": expected.n_steps_,
                "different": sorted(
                    name for name in names if found.get(name) != reference.get(name)
                ),
            }
            results.append(killed)
            print(".", end="", flush=True)
    return results


def price(d, m):
    """Measure a write of a model of m features, and a fit that goes on from it."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(64, d)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "fit.safetensors"
        writes, save = [], CheckpointFile.save

        def timed(self, content):
            start = time.perf_counter()
            save(self, content)
            writes.append(time.perf_counter() - start)

        sae = SparseAutoencoder(
            m, max_iter=3, batch_size=64, random_state=0, checkpoint=path
        )
        CheckpointFile.save = timed
        try:
            sae.fit(X)
            start = time.perf_counter()
            sae.fit(X)  # is finished: it is read, checked, and nothing else
            resume = time.perf_counter() - start
        finally:
            CheckpointFile.save = save
        size = path.stat().st_size
    interval = max(
        _checkpoint._SECONDS_BETWEEN_WRITES, writes[-1] / _checkpoint._LARGEST_SHARE
    )
    return {
        "shape": f"{d} to {m}",
        "MB": size / 1e6,
        "write, s": writes[-1],
        "every, s": interval,
        "share, %": 100 * writes[-1] / interval,
        "read and go on, s": resume,
    }


def batch_price(n=20_000):
    """Return the microseconds that a checkpoint adds to a batch without a write."""
    with (
        tempfile.TemporaryDirectory() as folder,
        CheckpointFile(Path(folder) / "a.safetensors", "test", {}) as file,
    ):
        wait = InterruptsWait()
        start = time.perf_counter()
        for _ in range(n):
            with wait:
                pass
            assert not file.is_due
        return 1e6 * (time.perf_counter() - start) / n


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two kills")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return

    rng = np.random.default_rng(0)
    results, rows = [], []
    for kind in ["topk", "mapped file"] if options.quick else KINDS:
        some = kills(kind, 1 if options.quick else 5, rng)
        results += some
        rows.append(
            {
                "fits": kind,
                "kills": len(some),
                "in a write": sum(one["in a write"] for one in some),
                "in an epoch": sum(one["in an epoch"] for one in some),
                "updates kept": ", ".join(str(one["updates"]) for one in some),
                "of": some[0]["all_updates"],
                "equal": sum(not one["different"] for one in some),
            }
        )
    print()
    print_table(rows, list(rows[0]))
    equal = sum(not one["different"] for one in results)
    print(f"\n{len(results)} kills, {len(results)} resumed, {equal} equal to the bit\n")

    prices = [price(*size) for size in (SIZES[:1] if options.quick else SIZES)]
    print_table(prices, list(prices[0]))
    extra = batch_price()
    print(f"\nA batch takes {extra:.1f} microseconds longer.")
    if not options.quick:
        record = {
            "kills": len(results),
            "equal": equal,
            "fits": results,
            "price": prices,
            "microseconds a batch": extra,
        }
        print(f"\nwritten to {write_record('checkpoint_kills', record)}")
    if equal < len(results):
        raise SystemExit("A fit that was resumed differs from one that was not killed.")


if __name__ == "__main__":
    main()
