"""Quality on held-out rows against the time of a fit, of unwrapping and of connectors.

Unwrapping: `FeatureUnwrapper` with the epochs of a default fit multiplied, those of
autoencoders and of the training together alike. Each is a fit of its own, whose
learning rates come down within it. Connectors: `FeatureConnector` at several
tolerances, beside scikit-learn's Lasso at several of its own (identity link) and Adam
at several times (ReLU link), all with the same penalty.

Times are of the processor, on one thread. ``python benchmarks/time_to_quality.py``
writes ``records/time_to_quality.json`` fit by fit, and goes on where it was stopped;
``--picture`` draws ``docs/images/time_to_quality.png`` of it and prints the table of
docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import time
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import torch
from _common import load_mnist, print_table, read_record, train_mlp, write_record
from _connector_peers import Adam, SklearnGram
from _connector_problem import Moments, make_data
from _page import markdown, text
from scipy import sparse
from sklearn.datasets import load_digits, make_friedman1
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor

from skfeat import FeatureConnector, FeatureUnwrapper, SparseAutoencoder

RECORD = "time_to_quality"
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "time_to_quality.png"
DIGITS, MNIST, VALUES = "digits", "10,000 images of MNIST", "values of ten inputs"
# Weights of all connectors, a layer's features to the next; None: the default.
BUDGETS = {DIGITS: 400, VALUES: None, MNIST: None}
# Of the epochs of the default, which is fitted first.
TIMES = (1, 1 / 8, 1 / 4, 1 / 2, 2)
# Rows of connectors' data; tolerances of ours and of the Lasso; seconds of Adam.
CONNECTOR_ROWS, ALPHA_SHARE = (20_000, 5_000), 0.01
TOLS = (1e-1, 1e-2, 1e-3, 1e-5, 1e-8)
LASSO_TOLS = (1, 1e-1, 1e-2, 1e-3, 1e-4, 1e-6)
ADAM_SECONDS, ADAM_RATES = (0.3, 1, 3, 10), (1e-3, 3e-3, 1e-2)


@cache
def problem(name, seed):
    """Return a model, rows it was trained on, held-out rows and their labels."""
    if name == MNIST:
        X, y, X_test, y_test = load_mnist()
        rows = np.random.default_rng(seed).permutation(len(X))[:10_000]
        X, y = X[rows], y[rows]
        return (
            train_mlp(X, y, hidden=(64,) * 3, epochs=10, seed=seed),
            X,
            X_test,
            y_test,
        )
    if name == DIGITS:
        X, y = load_digits(return_X_y=True)
        model = MLPClassifier((48, 48), max_iter=500, random_state=seed)
        X /= 16
    else:
        X, y = make_friedman1(4000, noise=0.5, random_state=seed)
        model = MLPRegressor(
            hidden_layer_sizes=(48, 48), max_iter=300, random_state=seed
        )
        y = (y - y.mean()) / y.std()
    X, X_test, y, y_test = train_test_split(X.astype(np.float32), y, random_state=seed)
    return model.fit(X, y), X, X_test, y_test


def unwrap(name, epochs, seed):
    """Unwrap a model in so many epochs, None: the default; return its figures."""
    model, X, X_test, y_test = problem(name, seed)
    params = {}
    if epochs is not None:
        first, together = epochs
        n_units = 64 if name == MNIST else 48
        params = {
            "autoencoder": SparseAutoencoder(k=min(32, n_units // 2), max_iter=first),
            "max_iter": together,
        }
    unwrapper = FeatureUnwrapper(
        model, n_nonzero_coefs=BUDGETS[name], random_state=seed, **params
    )
    start = time.process_time()
    unwrapper.fit(X)
    seconds = time.process_time() - start
    report = unwrapper.report(X_test, y_test)
    n_layers = len(unwrapper.autoencoders_)
    return {
        "CPU seconds": seconds,
        "points lost": 100 * (report["score_model"][-1] - report["score"][-1]),
        "mismatch": 1 - report["agreement"][-1]
        if np.isnan(report["kl"][-1])
        else report["kl"][-1],
        "left by autoencoders": float(np.mean(report["fvu"][:n_layers])),
        "left by connectors": 1 - float(np.mean(report["r2_network"][1:n_layers])),
        "epochs": [unwrapper.autoencoders_[0].n_iter_, unwrapper.n_iter_],
    }


def measure_unwrapping(smoke, n_seeds):
    """Measure what is not in the record yet, seed after seed."""
    if smoke:
        row = {"data": DIGITS} | unwrap(DIGITS, (5, 3), 0)
        print_table([row], [*row][:-1])
        return
    for seed in range(n_seeds):
        for name in BUDGETS:
            default = None
            for times in TIMES:
                about = {"data": name, "times": times, "seed": seed}
                rows = read_record(RECORD).get("unwrapping", [])
                row = next((r for r in rows if about.items() <= r.items()), None)
                if row is None:
                    epochs = default and [max(1, round(times * n)) for n in default]
                    row = about | unwrap(name, epochs, seed)
                    print_table([row], [*row][:-1])
                    kept = read_record(RECORD)
                    write_record(RECORD, {**kept, "unwrapping": [*rows, row]})
                default = default or row["epochs"]


def measure_connectors(link, smoke):
    """Return a row a contestant and tolerance, or time."""
    n_features, n_rows = (12, (400, 100)) if smoke else (256, CONNECTOR_ROWS)
    X, Y, X_test, Y_test = make_data(n_features, *n_rows)
    alpha = ALPHA_SHARE * np.abs(Moments(X, Y).yx).max()
    targets, tested = sparse.csr_array(Y), X_test.toarray()
    spread = np.square(Y_test - Y_test.mean(axis=0)).sum()

    def row(name, at, seconds, coef, intercept):
        values = tested @ coef.T + intercept
        values = np.maximum(values, 0) if link == "relu" else values
        left = np.square(values - Y_test).sum() / spread
        return {
            "contestant": name,
            "at": at,
            "CPU seconds": seconds,
            "left": float(left),
            "weights": int((coef != 0).sum()),
        }

    def clock(function, *arguments):
        start = time.process_time()
        found = function(*arguments)
        return time.process_time() - start, found

    options = {"link": link, "refit": False, "random_state": 0}
    FeatureConnector(alpha, **options).fit(X, targets)  # what it compiles is ready now
    rows = []
    for tol in TOLS[:2] if smoke else TOLS:
        connector = FeatureConnector(alpha, tol=tol, **options)
        seconds, _ = clock(connector.fit, X, targets)
        parts = connector.coef_.toarray(), connector.intercept_
        rows.append(row("skfeat", tol, seconds, *parts))
    if link == "identity":
        for tol in LASSO_TOLS[:2] if smoke else LASSO_TOLS:
            lasso = SklearnGram()
            fixed, _ = clock(lasso.prepare, X, Y)
            seconds, coef = clock(lasso.solve, alpha, tol)
            intercept = Y.mean(axis=0) - coef @ np.ravel(X.mean(axis=0))
            rows.append(row(lasso.name, tol, fixed + seconds, coef, intercept))
        return rows
    train = torch.from_numpy(X.toarray()), torch.from_numpy(Y)
    for rate in ADAM_RATES[:1] if smoke else ADAM_RATES:
        adam, spent = Adam(*train, alpha, rate=rate), 0.0
        for wanted in (0.05,) if smoke else ADAM_SECONDS:
            start = time.process_time()
            batches = iter(())
            while spent + time.process_time() - start < wanted:
                batch = next(batches, None)
                if batch is None:
                    batches = adam.batches()
                    continue
                adam.step(batch)
            spent += time.process_time() - start
            rows.append(row(f"Adam, rate {rate:g}", wanted, spent, *adam.weights()))
    return rows


def page(record):
    """Return the table of unwrapping that docs/benchmarks.md shows."""
    cells = []
    for name in dict.fromkeys(row["data"] for row in record["unwrapping"]):
        for times in sorted(TIMES):
            rows = [
                row
                for row in record["unwrapping"]
                if (row["data"], row["times"]) == (name, times)
            ]
            if rows:
                at = {key: [row[key] for row in rows] for key in rows[0]}
                cells.append(
                    {
                        "": name,
                        "updates": f"x {times:g}" + " (default)" * (times == 1),
                        "CPU s": text(at["CPU seconds"], 1),
                        "points lost": text(at["points lost"], 2),
                        "KL, or 1 - R2": text(at["mismatch"], 4),
                        "autoencoders leave": text(at["left by autoencoders"], 4),
                        "connectors leave": text(at["left by connectors"], 3),
                    }
                )
    return markdown(cells)


def draw(record, path):
    """Draw both: what is left unexplained against CPU seconds, defaults marked."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    for name in dict.fromkeys(row["data"] for row in record["unwrapping"]):
        rows = [row for row in record["unwrapping"] if row["data"] == name]
        times = sorted({row["times"] for row in rows})
        at = [
            np.mean(
                [
                    [row["CPU seconds"], row["mismatch"]]
                    for row in rows
                    if row["times"] == t
                ],
                axis=0,
            )
            for t in times
        ]
        _curve(axes[0], np.array(at), name, times.index(1))
    axes[0].set(title="Unwrapping", ylabel="KL from the model, or 1 - R2 to its values")
    for ax, link in zip(axes[1:], ("identity", "relu"), strict=True):
        rows = record["connectors"][link]
        for name in dict.fromkeys(row["contestant"] for row in rows):
            own = [row for row in rows if row["contestant"] == name]
            points = np.array([[row["CPU seconds"], row["left"]] for row in own])
            marked = next(
                (i for i, row in enumerate(own) if row["at"] == TOLS[-1]), None
            )
            _curve(ax, points, name, marked if name == "skfeat" else None)
        ax.set(title=f"A connector, {link} link", ylabel="variance left, held out")
    for ax in axes:
        ax.set(xscale="log", yscale="log", xlabel="CPU seconds of a fit")
        ax.xaxis.set_minor_formatter("")  # too many numbers for so short an axis
        ax.legend(fontsize="small")
    figure.savefig(path, dpi=100)


def _curve(ax, points, name, marked):
    (line,) = ax.plot(*points.T, ".-", label=name)
    if marked is not None:
        ax.plot(*points[marked], "o", markersize=10, color=line.get_color())


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="tiny; writes nothing")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--part", choices=["unwrapping", "connectors"], default=None)
    parser.add_argument("--picture", action="store_true", help="draw the record")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if options.picture:
        draw(read_record(RECORD), PICTURE)
        print(page(read_record(RECORD)))
        return
    if options.part != "unwrapping":
        found = {}
        for link in ("identity", "relu"):
            found[link] = measure_connectors(link, options.smoke)
            print_table(found[link], [*found[link][0]])
        if not options.smoke:
            write_record(RECORD, {**read_record(RECORD), "connectors": found})
    if options.part != "connectors":
        measure_unwrapping(options.smoke, 1 if options.smoke else options.seeds)


if __name__ == "__main__":
    main()
