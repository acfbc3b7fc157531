"""Seconds of one grid search, one after the other and by joblib's backends.

Four points of a grid, two folds; each backend has two workers of one core. Times are
those of a search in an engine that runs and has fitted once: starting it and loading
what it needs are told apart. The scores of every backend are those of the serial
search, or the benchmark fails. ``python benchmarks/many_fits.py`` writes
``records/many_fits.json``; what docs/many_fits.md shows of it, ``--page`` prints.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings

import numpy as np
import torch
from _backends import started
from _common import RECORDS, print_table, write_record
from sklearn.model_selection import GridSearchCV

from skfeat import SparseAutoencoder
from skfeat.datasets import make_sparse_features

BACKENDS = ("serial", "loky", "threading", "dask", "ray")
# Rows, epochs.
FULL, SMOKE = (16_384, 10), (600, 2)


def search(X, n_epochs):
    """Fit four autoencoders on two folds each."""
    autoencoder = SparseAutoencoder(
        512, batch_size=1024, max_iter=n_epochs, random_state=0
    )
    grid = {"k": [4, 8, 16, 32]}
    return GridSearchCV(autoencoder, grid, cv=2, refit=False).fit(X)


def measure(name, X, n_epochs):
    """Time a search on one backend; return a row of the table and the scores."""
    start = time.perf_counter()
    with started(name):
        search(X[:256], 1)
        ready = time.perf_counter()
        found = search(X, n_epochs)
        seconds = time.perf_counter() - ready
    row = {"backend": name, "seconds": seconds, "seconds to start": ready - start}
    return row, found.cv_results_["mean_test_score"]


def page_table(record):
    """Return the table of docs/many_fits.md."""
    lines = ["| | seconds | to start |", "|---|---|---|"]
    lines += [
        f"| {row['backend']} | {row['seconds']:.1f} | {row['seconds to start']:.1f} |"
        for row in record["rows"]
    ]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="tiny; writes nothing")
    parser.add_argument("--page", action="store_true", help="print the page's table")
    arguments = parser.parse_args()
    if arguments.page:
        record = json.loads((RECORDS / "many_fits.json").read_text(encoding="utf-8"))
        print(page_table(record))
        return
    warnings.simplefilter("ignore")
    # Serial fits shall have the one thread that a worker has, threads too.
    torch.set_num_threads(1)
    n_rows, n_epochs = SMOKE if arguments.smoke else FULL
    X, _, _ = make_sparse_features(
        n_rows, 64, 256, n_active=8, noise=0.1, random_state=0, dtype=np.float32
    )
    rows, expected = [], None
    for name in BACKENDS:
        row, scores = measure(name, X, n_epochs)
        expected = scores if expected is None else expected
        if not np.array_equal(scores, expected):
            raise RuntimeError(f"{name} found {scores}, serial fits {expected}")
        rows.append(row)
    print_table(rows, list(rows[0]))
    if not arguments.smoke:
        write_record("many_fits", {"rows of data": n_rows, "rows": rows})


if __name__ == "__main__":
    main()
