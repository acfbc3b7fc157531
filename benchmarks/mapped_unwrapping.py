"""A network unwrapped on a mapped file larger than the memory it takes, and killed.

A file of 20 GiB of rows is written, block by block, to a folder that is deleted
afterwards. A network of two hidden layers is unwrapped on it, once in peace and once in
processes that are killed by SIGKILL after random times, ten of them, each of which goes
on from what the one before kept. All that both fits leave is compared.

Memory is that of the process that fits, read ten times a second: what is its own (anon)
and what it has mapped of files at that moment, which the system may take back (file).

A process is killed after a random share, of up to a fifth, of the processor's time that
the whole fit takes.

Run: python benchmarks/mapped_unwrapping.py (--smoke for a small file and two kills)
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import psutil
import torch
from _common import print_table, write_record

from skfeat import FeatureUnwrapper, SparseAutoencoder
from skfeat.utils import _checkpoint

N_COLUMNS, UNITS, N_OUTPUTS, N_FEATURES = 4096, 32, 10, 128
FULL = {"GiB": 20.0, "kills": 10, "batch": 2048, "seconds between writes": 5.0}
SMOKE = {"GiB": 0.02, "kills": 2, "batch": 128, "seconds between writes": 0.02}


def write_rows(path, gib):
    """Write rows that lie near a space of 32 dimensions, block by block."""
    rng = np.random.default_rng(0)
    n, size = int(gib * 2**30 / (4 * N_COLUMNS)), 4096
    basis = rng.standard_normal((32, N_COLUMNS), dtype=np.float32)
    rows = np.lib.format.open_memmap(path, "w+", np.float32, (n, N_COLUMNS))
    for start in range(0, n, size):
        block = rows[start : start + size]
        block[:] = rng.standard_normal((len(block), 32), dtype=np.float32) @ basis
        rows._mmap.madvise(4)  # MADV_DONTNEED: of a shared mapping nothing is lost
    rows.flush()


def model():
    """Return a network that depends on the rows; it need not have been trained."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(N_COLUMNS, UNITS),
        torch.nn.ReLU(),
        torch.nn.Linear(UNITS, UNITS),
        torch.nn.ReLU(),
        torch.nn.Linear(UNITS, N_OUTPUTS),
    )


class Memory(threading.Thread):
    """Notes the largest resident memory of this process."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peak = {"VmRSS": 0, "RssAnon": 0, "RssFile": 0}

    def run(self):
        """Read it ten times a second."""
        while True:
            status = Path("/proc/self/status").read_text()
            for line in status.splitlines():
                name, _, value = line.partition(":")
                if name in self.peak:
                    kib = int(value.split()[0])
                    self.peak[name] = max(self.peak[name], kib * 1024)
            time.sleep(0.1)


def fit(folder, settings, checkpoint):
    """Unwrap in this process, and write what that leaves and what it took."""
    warnings.simplefilter("ignore")
    _checkpoint._SECONDS_BETWEEN_WRITES = settings["seconds between writes"]
    _checkpoint._LARGEST_SHARE = float("inf")
    memory = Memory()
    memory.start()
    X = np.load(folder / "rows.npy", mmap_mode="r")
    autoencoder = SparseAutoencoder(
        N_FEATURES, k=8, max_iter=1, batch_size=settings["batch"]
    )
    print("begins", flush=True)
    start, cpu = time.perf_counter(), time.process_time()
    unwrapper = FeatureUnwrapper(
        model(),
        autoencoder=autoencoder,
        max_iter=1,
        batch_size=settings["batch"],
        random_state=0,
        checkpoint=folder / "checkpoint" if checkpoint else None,
    ).fit(X)
    found = {
        "seconds": time.perf_counter() - start,
        "CPU seconds": time.process_time() - cpu,
        "digest": digest(unwrapper),
        **memory.peak,
    }
    name = "killed.json" if checkpoint else "whole.json"
    (folder / name).write_text(json.dumps(found))


def digest(unwrapper):
    """Digest all arrays and numbers that a fit leaves."""
    found = hashlib.blake2b()

    def add(value):
        if isinstance(value, np.ndarray):
            found.update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
        elif hasattr(value, "indptr"):
            add([value.data, value.indices, value.indptr])
        elif isinstance(value, dict):
            add([part for _, part in sorted(value.items())])
        elif isinstance(value, list | tuple):
            for part in value:
                add(part)
        elif isinstance(value, int | float | str):
            found.update(repr(value).encode())

    for part in [*unwrapper.autoencoders_, *unwrapper.connectors_]:
        add({k: v for k, v in vars(part).items() if k != "checkpoint"})
    add([unwrapper.loss_curve_, unwrapper._means])
    add(vars(unwrapper.network()))
    return found.hexdigest()


def run(folder, options, checkpoint, cpu_seconds=None):
    """Fit in another process, killed after so much of the processor's time.

    Return what it took, and its exit code.
    """
    command = [sys.executable, __file__, "--fit", str(folder), checkpoint, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        begin, peak, cpu = time.perf_counter(), 0, 0.0
        handle = psutil.Process(process.pid)
        start = sum(handle.cpu_times()[:2])
        while process.poll() is None:
            try:
                peak = max(peak, handle.memory_info().rss)
                cpu = sum(handle.cpu_times()[:2]) - start
            except psutil.Error:
                break
            if cpu_seconds is not None and cpu > cpu_seconds:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.02)
        process.wait()
    took = {"seconds": time.perf_counter() - begin, "CPU seconds": cpu}
    return took | {"peak bytes": peak}, process.returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="small; writes nothing")
    parser.add_argument("--folder", type=Path, help="keep rows and the whole fit there")
    parser.add_argument("--fit", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    settings = SMOKE if arguments.smoke else FULL
    if arguments.fit:
        folder, checkpoint = arguments.fit
        fit(Path(folder), settings, checkpoint == "kept")
        return
    options = ["--smoke"] * arguments.smoke
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.folder or Path(name)
        if not (folder / "rows.npy").exists():
            write_rows(folder / "rows.npy", settings["GiB"])
        n = len(np.load(folder / "rows.npy", mmap_mode="r"))
        n_bytes = os.stat(folder / "rows.npy").st_size
        print(f"{n:,} rows, {n_bytes / 2**30:.1f} GiB", flush=True)
        if not (folder / "whole.json").exists():
            _, code = run(folder, options, "none")
            if code:
                raise SystemExit(f"The fit in peace ended with the status {code}.")
        whole = json.loads((folder / "whole.json").read_text())
        processes, digests, n_kills = [], [], 0
        while n_kills < settings["kills"] or not digests:
            is_last = n_kills == settings["kills"]
            share = rng.uniform(0.02, 0.2)
            limit = None if is_last else share * whole["CPU seconds"]
            found, code = run(folder, options, "kept", limit)
            if code not in (0, -signal.SIGKILL):
                raise SystemExit(f"A fit ended with the status {code}.")
            n_kills += code == -signal.SIGKILL
            processes.append(found | {"killed": code == -signal.SIGKILL})
            print(".", end="", flush=True)
            if code == 0:
                # It was over before its time: the next one begins anew.
                resumed = json.loads((folder / "killed.json").read_text())
                digests.append(resumed["digest"])
                shutil.rmtree(folder / "checkpoint")
    record = {
        "rows": n,
        "columns": N_COLUMNS,
        "bytes": n_bytes,
        "settings": settings,
        "in peace": whole,
        "processes": processes,
        "kills": n_kills,
        "equal": {whole["digest"]} == {*digests},
    }
    peak = max(whole["VmRSS"], *(one["peak bytes"] for one in processes))
    print()
    print_table([whole], ["seconds", "CPU seconds", "VmRSS", "RssAnon", "RssFile"])
    print(
        f"\n{n_kills} kills, equal to the bit: {record['equal']}; "
        f"most resident {peak / 2**30:.2f} GiB"
    )
    if not arguments.smoke:
        record["most resident bytes"] = peak
        print(f"written to {write_record('mapped_unwrapping', record)}")
    if not record["equal"]:
        raise SystemExit("A fit that was killed differs from one that was not.")


if __name__ == "__main__":
    main()
