"""Memory that one epoch over a mapped file takes.

Writes a file of ``--gigabytes`` GiB of float32 rows of 512 values, fits it for an
epoch, and reports the largest resident memory of the process, mapped pages included,
and rows a second beside those of rows in memory. Writes ``records/sae_memory.json``.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import psutil
from _common import print_table, write_record

from skfeat import SparseAutoencoder
from skfeat.datasets import make_sparse_features

N_FEATURES, N_COMPONENTS, K, BATCH_SIZE = 512, 1024, 16, 4096


class PeakResident(threading.Thread):
    """Watches the resident memory of this process."""

    def __init__(self):
        super().__init__(daemon=True)
        self.done = threading.Event()
        self.peak = 0

    def run(self):
        """Look every hundredth of a second."""
        process = psutil.Process()
        while not self.done.wait(0.01):
            self.peak = max(self.peak, process.memory_info().rss)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.join()


def write_rows(path, n_rows, block):
    """Write rows made of a block, a little different each time."""
    rows = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.float32, shape=(n_rows, N_FEATURES)
    )
    for start in range(0, n_rows, len(block)):
        part = block[: n_rows - start]
        rows[start : start + len(part)] = part * np.float32(1 + start % 7 / 100)
    rows.flush()
    del rows
    return np.load(path, mmap_mode="r")


def fit(X):
    """Fit one epoch and return the seconds it took."""
    sae = SparseAutoencoder(
        N_COMPONENTS, k=K, max_iter=1, batch_size=BATCH_SIZE, random_state=0
    )
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one epoch is one too few
        sae.fit(X)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=8.0)
    gigabytes = parser.parse_args().gigabytes
    n_rows = int(gigabytes * 2**30 / (4 * N_FEATURES))
    block, _, _ = make_sparse_features(
        65_536, N_FEATURES, 1024, n_active=16, random_state=0, dtype=np.float32
    )
    fit(block[:8192])  # compiles
    in_memory = len(block) / fit(block)
    with tempfile.TemporaryDirectory() as folder:
        rows = write_rows(Path(folder) / "rows.npy", n_rows, block)
        del block
        with PeakResident() as watch:
            seconds = fit(rows)
    record = {
        "file GiB": gigabytes,
        "rows": n_rows,
        "peak resident GiB": watch.peak / 2**30,
        "rows a second": n_rows / seconds,
        "rows a second in memory": in_memory,
        "seconds": seconds,
    }
    print_table([record], list(record))
    write_record("sae_memory", record)


if __name__ == "__main__":
    main()
