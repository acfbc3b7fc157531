"""Points of accuracy that an unwrapped network loses, against its weights.

Parts, each measured on test rows:

- ``narrow``: an MLP 784-64-64-64-10 for MNIST, 256 features a layer. Losses over
  budgets, with what the connectors keep of the layers' features (R2) beside them; the
  same at one budget over `faithfulness`; budgets shared by the connectors; networks
  that are sparse from the pixels to the logits.
- ``wide``: an MLP 784-512-512-512-10, 1024 features a layer, with the time of
  ``predict`` beside the dense model's and the multiply-adds of both.
- ``regression``: MLPs for the diabetes data of scikit-learn, in R2.
- ``defaults``: seconds of ``FeatureUnwrapper(model).fit(X)`` on the narrow MLP. Not in
  a run of all parts at once unless nothing else runs: it is a time.

``python benchmarks/unwrap_mnist.py`` writes ``records/unwrap_mnist.json`` after each
seed; ``--part`` runs one, which replaces its own in the record.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from dataclasses import asdict, dataclass

import numpy as np
import torch
from _common import (
    RECORDS,
    load_mnist,
    mean_and_spread,
    print_table,
    train_mlp,
    write_record,
)
from article_mnist import FittedAutoencoder
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

from skfeat import FeatureUnwrapper, SparseAutoencoder

BATCHES = (1, 256, 10_000)


@dataclass(frozen=True)
class Plan:
    """How large the experiment is."""

    n_rows: int = 60_000
    n_test: int = 10_000
    epochs: int = 20
    narrow: int = 64
    wide: int = 512
    wide_features: int = 1024
    wide_epochs: int = 10  # of its autoencoders
    budgets: tuple = (100, 200, 458, 1000, 2000, 4000)
    wide_budgets: tuple = (1000, 2000, 5000)
    regression_budgets: tuple = (25, 50, 100, 200, 400)
    pixel_weights: int = 5_000
    output_weights: int = 200
    faithfulness: tuple = (0.0, 0.01, 0.1, 1.0, 10.0)
    n_rounds: int = 15


SMOKE = Plan(
    n_rows=600,
    n_test=300,
    epochs=4,
    narrow=16,
    wide=24,
    wide_features=48,
    wide_epochs=2,
    budgets=(60,),
    wide_budgets=(100,),
    regression_budgets=(50,),
    pixel_weights=400,
    output_weights=40,
    faithfulness=(1.0,),
    n_rounds=2,
)


def measure(how, model, data, autoencoders, **params):
    """Unwrap a model; return the network and a row of figures on test rows."""
    X, X_test, y_test = data
    start = time.perf_counter()
    unwrapper = FeatureUnwrapper(
        model, autoencoder=autoencoders, random_state=0, **params
    ).fit(X)
    seconds = time.perf_counter() - start
    report = unwrapper.report(X_test, y_test)
    network = unwrapper.network()
    kept = {"score of the model": report.score_model[-1], "score": report.score[-1]}
    return network, {
        "how": how,
        **kept,
        "lost": kept["score of the model"] - kept["score"],
        "agreement": report.agreement[-1],
        "R2": list(report.r2_true[1:-1]),
        "R2 of network": list(report.r2_network[1:-1]),
        "weights": [network.n_weights_in_, *network.n_weights_, network.n_weights_out_],
        "multiply-adds": network.n_multiply_adds(compact=True),
        "multiply-adds of the model": report.multiply_adds_model[-1],
        "seconds after the autoencoders": seconds,
    }


def fit_autoencoders(model, X, **params):
    """Fit the autoencoders that all unwrappings of a model share."""
    return [
        FittedAutoencoder.of(fitted)
        for fitted in FeatureUnwrapper(
            model,
            autoencoder=SparseAutoencoder(**params) if params else None,
            distill=False,
            n_nonzero_coefs=0,
            random_state=0,
        )
        .fit(X)
        .autoencoders_
    ]


def measure_narrow(plan, seed):
    """Return the rows of one seed."""
    X, y, X_test, y_test = mnist(plan)
    model = train_mlp(X, y, hidden=(plan.narrow,) * 3, epochs=plan.epochs, seed=seed)
    data, parts = (X, X_test, y_test), fit_autoencoders(model, X)
    rows, middle = [], plan.budgets[len(plan.budgets) // 2 - 1]

    def add(how, **params):
        rows.append(measure(how, model, data, parts, **params)[1])

    for budget in plan.budgets:
        add(f"{budget} weights a connector", n_nonzero_coefs=budget)
    for value in plan.faithfulness:
        add(
            f"{middle} weights, faithfulness {value:g}",
            n_nonzero_coefs=middle,
            faithfulness=value,
        )
    for budget in plan.budgets[:3]:
        add(
            f"{budget} weights a connector, shared",
            n_nonzero_coefs=budget,
            shared_budget=True,
        )
    for budget in plan.budgets[:3]:
        first, last = plan.pixel_weights, plan.output_weights
        add(
            f"{first} from the pixels, {budget}, {budget}, {last} to the logits",
            n_nonzero_coefs=[first, budget, budget, last],
            connect_input=True,
            connect_output=True,
        )
    return rows


def measure_wide(plan, seed):
    """Return the rows of one seed, with times of prediction."""
    X, y, X_test, y_test = mnist(plan)
    model = train_mlp(
        X, y, hidden=(plan.wide,) * 3, epochs=plan.epochs, learning_rate=2e-3, seed=seed
    )
    params = {"n_components": plan.wide_features, "max_iter": plan.wide_epochs}
    parts = fit_autoencoders(model, X, **params)
    data, rows = (X, X_test, y_test), []
    for budget in plan.wide_budgets:
        first, last = 2 * plan.pixel_weights, plan.output_weights
        for how, more in (
            (f"{budget} weights a connector", {"n_nonzero_coefs": budget}),
            (
                f"{first} from the pixels, {budget}, {budget}, {last} to the logits",
                {
                    "n_nonzero_coefs": [first, budget, budget, last],
                    "connect_input": True,
                    "connect_output": True,
                },
            ),
        ):
            network, row = measure(how, model, data, parts, **more)
            rows.append({**row, **race(model, network.compact(), X_test, plan)})
    return rows


def race(model, network, X, plan):
    """Time both in turns; return medians and their ratio, a batch size each."""
    found = {}
    for batch in BATCHES:
        rows = np.ascontiguousarray(np.resize(X, (batch, X.shape[1])))
        calls = max(1, 2000 // batch)
        dense = torch.from_numpy(rows)
        times = []
        with torch.inference_mode():
            for _ in range(plan.n_rounds):
                start = time.perf_counter()
                for _ in range(calls):
                    model(dense).numpy()
                between = time.perf_counter()
                for _ in range(calls):
                    network.predict_raw(rows)
                times.append((between - start, time.perf_counter() - between))
        theirs, ours = (statistics.median(t) / calls for t in zip(*times, strict=True))
        found[f"batch {batch}"] = {"model": theirs, "network": ours}
        found[f"times faster at {batch}"] = theirs / ours
    return found


def measure_regression(plan, seed):
    """Return the rows of one seed."""
    X, y = load_diabetes(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, random_state=seed)
    scale = StandardScaler().fit(X)
    X, X_test = scale.transform(X), scale.transform(X_test)
    spread = y.std()
    model = MLPRegressor(
        hidden_layer_sizes=(32, 32, 32), alpha=1.0, max_iter=200, random_state=seed
    )
    model.fit(X, (y - y.mean()) / spread)
    data = X, X_test, (y_test - y.mean()) / spread
    params = {"n_components": 64, "k": 16}
    parts = fit_autoencoders(model, X, **params)
    return [
        measure(
            f"{budget} weights a connector",
            model,
            data,
            parts,
            n_nonzero_coefs=budget,
        )[1]
        for budget in plan.regression_budgets
    ]


def measure_defaults(plan, seed):
    """Time the fit of a default unwrapper, after one that compiles."""
    X, y, X_test, y_test = mnist(plan)
    model = train_mlp(X, y, hidden=(plan.narrow,) * 3, epochs=plan.epochs, seed=seed)
    if seed == 0:
        measure("warm-up", model, (X[:5000], X_test, y_test), None)
    row = measure("defaults", model, (X, X_test, y_test), None)[1]
    row["seconds of fit"] = row.pop("seconds after the autoencoders")
    return [row]


def mnist(plan):
    """Return as many rows as the plan has."""
    X, y, X_test, y_test = load_mnist()
    n, m = plan.n_rows, plan.n_test
    return X[:n], y[:n], X_test[:m], y_test[:m]


PARTS = {
    "narrow": measure_narrow,
    "wide": measure_wide,
    "regression": measure_regression,
    "defaults": measure_defaults,
}


def print_part(seeds):
    """Print means and spreads over seeds."""

    def text(values):
        return "" if values[0] is None else mean_and_spread(values)

    columns = ["how", "score of the model", "score", "lost", "agreement", "R2"]
    more = [name for name in seeds[0][0] if name.startswith(("times", "multiply"))]
    rows = []
    for same in zip(*seeds, strict=True):
        row = {"how": same[0]["how"]}
        for name in (*columns[1:5], *more):
            row[name] = text([one[name] for one in same])
        means = np.mean([one["R2"] for one in same], axis=0)
        row["R2"] = " / ".join(f"{mean:.2f}" for mean in means)
        rows.append(row)
    print_table(rows, columns + more)
    print(flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--smoke", action="store_true", help="tiny, without a record")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    plan, n_seeds = (SMOKE, 1) if options.smoke else (Plan(), options.seeds)
    path = RECORDS / "unwrap_mnist.json"
    record = json.loads(path.read_text()) if path.is_file() else {}
    record.pop("machine", None)
    for part, measured in PARTS.items():
        if options.part not in (part, "all"):
            continue
        seeds = []
        for seed in range(n_seeds):
            seeds.append(measured(plan, seed))
            if not options.smoke:
                record[part] = {"seeds": seeds, "run": asdict(plan)}
                record[part]["threads"] = torch.get_num_threads()
                write_record("unwrap_mnist", record)
        print(part)
        print_part(seeds)


if __name__ == "__main__":
    main()
