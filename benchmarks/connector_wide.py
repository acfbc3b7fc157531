"""A connector between two layers of 24,000 features, without a Gram matrix.

Rows have 24 active inputs and 30 or so active outputs; every output is a sum of three
inputs, plus noise. ``python benchmarks/connector_wide.py`` writes
``records/connector_wide.json``: seconds, peak memory of the process, and the share of
the planted weights that are found.
"""

from __future__ import annotations

import time

import numpy as np
import psutil
from _common import print_table, write_record
from scipy import sparse

from skfeat import FeatureConnector

N_ROWS, WIDTH, N_ACTIVE, N_INPUTS = 200_000, 24_000, 24, 3
ALPHA = 2e-5


def make_data(n_rows=N_ROWS, width=WIDTH, n_active=N_ACTIVE):
    """Draw sparse inputs, planted weights and the outputs they make."""
    rng = np.random.default_rng(0)
    n_entries, n_weights = n_rows * n_active, width * N_INPUTS
    rows = np.repeat(np.arange(n_rows), n_active)
    columns = rng.integers(0, width, n_entries)
    X = sparse.csr_array(
        (rng.random(n_entries, dtype=np.float32), (rows, columns)), (n_rows, width)
    )
    outputs = np.repeat(np.arange(width), N_INPUTS)
    inputs = rng.integers(0, width, n_weights)
    weights = rng.random(n_weights, dtype=np.float32) + np.float32(0.3)
    planted = sparse.csr_array((weights, (outputs, inputs)), (width, width))
    Y = (X @ planted.T).tocsr()
    Y.data += 0.05 * rng.standard_normal(Y.nnz, dtype=np.float32)
    # What is weak does not fire.
    Y.data[Y.data < 0.35] = 0
    Y.eliminate_zeros()
    return X, Y, planted


def main():
    X, Y, planted = make_data()
    process = psutil.Process()
    before = process.memory_info().rss / 2**30
    start = time.perf_counter()
    connector = FeatureConnector(ALPHA, link="identity", tol=1e-6).fit(X, Y)
    found = (connector.coef_ != 0).multiply(planted != 0).nnz / planted.nnz
    row = {
        "rows": N_ROWS,
        "inputs and outputs": WIDTH,
        "% active": 100 * Y.nnz / N_ROWS / WIDTH,
        "seconds": time.perf_counter() - start,
        "GiB before": before,
        "GiB at the peak": peak_memory(),
        "weights": connector.coef_.nnz,
        "planted found": found,
    }
    print_table([row], list(row))
    write_record("connector_wide", {"alpha": ALPHA, **row})


def peak_memory():
    """Return the largest resident memory of this process so far, in GiB."""
    import resource

    # Kilobytes on Linux.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
