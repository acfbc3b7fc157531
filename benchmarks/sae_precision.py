"""What reduced precision costs a wide sparse autoencoder in quality.

Data: the second hidden layer of an MLP on MNIST, and sparse combinations of more known
directions than there are columns, as they are and with a few columns so large that
they would take all of a row's scale, as layers of language models have them. Each is
fitted at every precision that the processor has instructions for, with the same rows,
batches and seeds; unexplained variance on held-out rows, and the mean of the columns'
own, which large ones do not decide.

``python benchmarks/sae_precision.py`` writes ``records/sae_precision.json``.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
from _common import (
    load_mnist,
    mean_and_spread,
    precisions_for,
    print_table,
    train_mlp,
    write_record,
)
from article_figures import hidden_activations

from skfeat import SparseAutoencoder
from skfeat.datasets import make_sparse_features
from skfeat.metrics import fvu, matching_coefficient

D, M, K, EPOCHS, BATCH_SIZE = 512, 4096, 32, 8, 512
N_TRAIN, N_TEST, N_DIRECTIONS = 30_000, 10_000, 1024
# Which columns are made so many times as large.
LARGE = {3: 100.0, 77: 30.0, 200: 10.0}


def data_sets():
    """Yield name, training rows, test rows and known directions."""
    X, y, X_test, _ = load_mnist()
    model = train_mlp(X, y, seed=0)
    train, test = (hidden_activations(model, rows)[1] for rows in (X, X_test))
    yield "MNIST layer 2", train[:N_TRAIN], test, None
    for name, large in (("synthetic", {}), ("synthetic, large columns", LARGE)):
        rows, _, dictionary = make_sparse_features(
            N_TRAIN + N_TEST,
            D,
            N_DIRECTIONS,
            n_active=16,
            noise=0.02,
            random_state=0,
            dtype=np.float32,
        )
        for column, times in large.items():
            rows[:, column] *= times
        known = None if large else dictionary
        yield name, rows[:N_TRAIN], rows[N_TRAIN:], known


def judge(activation, precision, seed, train, test, dictionary):
    """Fit, and return the figures of one run."""
    sae = SparseAutoencoder(
        M,
        activation=activation,
        k=K,
        alpha=0.1,
        precision=precision,
        max_iter=EPOCHS,
        batch_size=BATCH_SIZE,
        n_iter_no_change=EPOCHS,
        random_state=seed,
    )
    sae.fit(train)
    decoded = sae.inverse_transform(sae.transform(test))
    error, variance = ((test - decoded) ** 2).mean(axis=0), test.var(axis=0)
    varies = variance > 0
    figures = {
        "FVU": fvu(test, decoded),
        "FVU, mean of columns": float((error[varies] / variance[varies]).mean()),
        "dead %": 100 * sae.n_dead_ / M,
    }
    if dictionary is not None:
        figures["matching"] = matching_coefficient(dictionary, sae.components_)
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for data, *about in data_sets():
        table = []
        # A penalty needs more updates than these to be worth its codes on the others.
        activations = ["topk", "batch_topk", *["relu"] * data.startswith("MNIST")]
        for activation in activations:
            for precision in precisions_for(activation):
                runs = [
                    judge(activation, precision, seed, *about)
                    for seed in range(arguments.seeds)
                ]
                row = {"data": data, "activation": activation, "precision": precision}
                for key in runs[0]:
                    row[key] = mean_and_spread([run[key] for run in runs])
                table.append(row)
        print_table(table, list(dict.fromkeys(key for row in table for key in row)))
        print(flush=True)
        rows += table
        schedule = {"epochs": EPOCHS, "batch": BATCH_SIZE, "features": M, "k": K}
        write_record("sae_precision", {**schedule, "table": rows})


if __name__ == "__main__":
    main()
