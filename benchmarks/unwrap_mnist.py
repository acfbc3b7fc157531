"""Points of accuracy that an unwrapped network loses, against its weights.

Every table has the controls beside the networks of features: the model's own layers,
pruned to as many weights and distilled (``pruned``), and the separate fit
(``joint=False``). Parts, each measured on test rows:

- ``pixels``: an MLP 784-64-64-64-10 for MNIST, 256 features a layer, every weight from
  the pixels to the logits sparse and counted; budgets of the whole network. Models of
  two recipes of training.
- ``patient``: the same in three times the epochs, without the separate fit.
- ``controls``: the fewest and the most of these weights beside all controls: sparse
  networks trained from random weights, over autoencoders that nobody trained, and of
  shuffled features too.
- ``faithfulness``: the same over `faithfulness`.
- ``kept``: the model's first layer is kept, with the encoder as its own reconstruction
  makes it; budgets a connector.
- ``trained``: the same, but what follows moves that encoder, and the first layer of the
  control.
- ``wide``: an MLP 784-512-512-512-10, 1024 features a layer, with the time of
  ``predict`` beside the dense model's and the multiply-adds of both.
- ``digits``, ``regression``: MLPs for the digits and the diabetes data of scikit-learn.
- ``mixup``: over `mixup`, the narrow MLP of either recipe with the most weights of
  ``pixels``, and the digits with the middle budget.
- ``defaults``: seconds of ``FeatureUnwrapper(model).fit(X)`` on the narrow MLP. Not in
  a run of all parts at once unless nothing else runs: it is a time.

``python benchmarks/unwrap_mnist.py`` writes ``records/unwrap_mnist.json`` after each
seed. Seeds that the record has already, measured as now, are not measured again;
``--part`` runs one part. ``--page`` writes the record's tables and picture into
``docs/trained_together.md``.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass

import numpy as np
from _common import (
    keep,
    kept_of,
    load_mnist,
    mean_and_spread,
    print_table,
    read_record,
    train_mlp,
)
from _unwrap_measures import (
    control,
    figures_of,
    fit_autoencoders,
    measure,
    model_values,
    race,
)
from _unwrap_page import write_page
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

from skfeat import FeatureUnwrapper
from skfeat.controls import fit_controls

RECORD = "unwrap_mnist"


@dataclass(frozen=True)
class Plan:
    """How large the experiment is."""

    n_rows: int = 60_000
    n_test: int = 10_000
    recipes: tuple = ("decayed", "plain")
    narrow: int = 64
    wide: int = 512
    wide_features: int = 1024
    wide_epochs: int = 10  # of its autoencoders
    updates: int = 22  # epochs of joint training; pruning has as many
    patient_updates: int = 66
    totals: tuple = (1000, 2000, 4000, 6000)
    budgets: tuple = (100, 200, 458, 1000)
    wide_budgets: tuple = (1000, 2000, 5000)
    digits_totals: tuple = (400, 800, 1600)
    regression_budgets: tuple = (25, 50, 100, 200, 400)
    pixel_weights: int = 10_000  # of the wide one
    output_weights: int = 200
    faithfulness: tuple = (0.0, 0.01, 0.3, 1.0)
    mixup: float = 0.5  # the default, of joint training and of pruning
    mixups: tuple = (0.0, 0.25, 0.5, 1.0)
    n_rounds: int = 15


SMOKE = Plan(
    n_rows=600,
    n_test=300,
    recipes=("plain",),
    narrow=16,
    wide=24,
    wide_features=48,
    wide_epochs=2,
    updates=4,
    patient_updates=6,
    totals=(240,),
    budgets=(60,),
    wide_budgets=(100,),
    digits_totals=(300,),
    regression_budgets=(50,),
    pixel_weights=400,
    output_weights=40,
    faithfulness=(1.0,),
    mixups=(0.0, 0.5),
    n_rounds=2,
)

# How models are trained: the second is less accurate, and nothing was tuned on it.
RECIPES = {
    "decayed": {},
    "plain": {"epochs": 8, "learning_rate": 1e-3, "weight_decay": 0.0},
}
SPARSE_ENDS = {"connect_input": True, "connect_output": True}


def narrow(plan, seed, recipe=None):
    """Return a narrow MLP, its data and autoencoders of its layers."""
    X, y, X_test, y_test = mnist(plan)
    recipe = RECIPES[recipe or plan.recipes[0]]
    model = train_mlp(X, y, hidden=(plan.narrow,) * 3, seed=seed, **recipe)
    return model, (X, X_test, y_test), fit_autoencoders(model, X)


def measure_pixels(plan, seed, *, n_epochs=None):
    """Return the rows of one seed; with `n_epochs` without the separate fit."""
    rows, max_iter = [], n_epochs or plan.updates
    for recipe in plan.recipes:
        model, data, parts = narrow(plan, seed, recipe)
        for total in plan.totals:
            params, name = whole_budget(total), f"{recipe}, {total}"
            found = measure(name, model, data, parts, max_iter=max_iter, **params)
            rows.append(found[1])
            if n_epochs is None:
                apart = {**params, "joint": False}
                found = measure(f"{name}, apart", model, data, parts, **apart)
                rows.append(found[1])
            rows.append(control(f"{name}, pruned", model, data, total, max_iter))
    return rows


def measure_patient(plan, seed):
    """Return the rows of one seed."""
    return measure_pixels(plan, seed, n_epochs=plan.patient_updates)


def whole_budget(total):
    """Return the parameters of a network that is sparse from end to end."""
    each = [total // 4] * 3 + [total - total // 4 * 3]
    return {"n_nonzero_coefs": each, "shared_budget": True, **SPARSE_ENDS}


def measure_controls(plan, seed):
    """Return the rows of one seed."""
    rows = []
    for recipe in plan.recipes:
        model, data, parts = narrow(plan, seed, recipe)
        outputs = model_values(model, data[1])
        for total in sorted({plan.totals[0], plan.totals[-1]}):
            unwrapper = FeatureUnwrapper(
                model,
                autoencoder=parts,
                max_iter=plan.updates,
                mixup=plan.mixup,
                random_state=0,
                **whole_budget(total),
            ).fit(data[0])
            networks = {"together": unwrapper.network()} | fit_controls(
                unwrapper, data[0], max_iter=plan.updates, random_state=0
            )
            rows += [
                {"how": f"{recipe}, {total}, {how}", **figures_of(own, outputs, data)}
                for how, own in networks.items()
            ]
    return rows


def measure_faithfulness(plan, seed):
    """Return the rows of one seed."""
    model, data, parts = narrow(plan, seed)
    return [
        measure(
            f"{total}, faithfulness {value:g}",
            model,
            data,
            parts,
            max_iter=plan.updates,
            faithfulness=value,
            **whole_budget(total),
        )[1]
        for total in plan.totals
        for value in plan.faithfulness
    ]


def measure_mixup(plan, seed):
    """Return the rows of one seed."""
    total = plan.totals[-1]
    whole = {"max_iter": plan.updates, **whole_budget(total)}
    setups = [
        (f"MNIST, {recipe}, {total}", *narrow(plan, seed, recipe), whole)
        for recipe in plan.recipes
    ]
    total = plan.digits_totals[len(plan.digits_totals) // 2]
    setups.append((f"digits, {total}", *digits(seed), whole_budget(total)))
    return [
        measure(f"{name}, mixup {value:g}", *setup, mixup=value, **params)[1]
        for name, *setup, params in setups
        for value in plan.mixups
    ]


def measure_kept(plan, seed, *, trained=False):
    """Return the rows of one seed."""
    model, data, parts = narrow(plan, seed)
    rows = []
    for budget in plan.budgets:
        params = {"n_nonzero_coefs": budget}
        first = None if trained else "frozen"
        rows += [
            measure(
                f"{budget}",
                model,
                data,
                parts,
                train_encoder=trained,
                max_iter=plan.updates,
                **params,
            )[1],
            control(
                f"{budget}, pruned",
                model,
                data,
                [first, budget, budget, None],
                plan.updates,
            ),
        ]
        if not trained:
            rows.append(
                measure(f"{budget}, apart", model, data, parts, joint=False, **params)[
                    1
                ]
            )
    return rows


def measure_trained(plan, seed):
    """Return the rows of one seed."""
    return measure_kept(plan, seed, trained=True)


def measure_wide(plan, seed):
    """Return the rows of one seed, with times of prediction."""
    X, y, X_test, y_test = mnist(plan)
    model = train_mlp(X, y, hidden=(plan.wide,) * 3, learning_rate=2e-3, seed=seed)
    params = {"n_components": plan.wide_features, "max_iter": plan.wide_epochs}
    parts = fit_autoencoders(model, X, **params)
    data, rows = (X, X_test, y_test), []
    for budget in plan.wide_budgets:
        first, last = plan.pixel_weights, plan.output_weights
        ways = {
            f"{budget} a connector": [budget] * 2,
            f"{first} from the pixels, {budget}, {budget}, {last} to the logits": [
                first,
                budget,
                budget,
                last,
            ],
        }
        for how, budgets in ways.items():
            ends = SPARSE_ENDS if len(budgets) == 4 else {}
            of_layers = budgets if ends else [None, *budgets, None]
            for name, joint in ((how, True), (f"{how}, apart", False)):
                network, row = measure(
                    name,
                    model,
                    data,
                    parts,
                    joint=joint,
                    n_nonzero_coefs=budgets,
                    **ends,
                )
                rows.append(
                    {**row, **race(model, network.compact(), X_test, plan.n_rounds)}
                )
            name = f"{how}, pruned"
            rows.append(control(name, model, data, of_layers, plan.updates))
    return rows


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
    parts = fit_autoencoders(model, X, n_components=64, k=16)
    rows = []
    for budget in plan.regression_budgets:
        rows += three_ways(
            f"{budget} a connector", model, data, parts, [budget] * 2, plan
        )
    return rows


def three_ways(how, model, data, parts, budgets, plan, **params):
    """Return rows of the joint fit, the separate one, and the model pruned."""
    of_layers = [None, *budgets, None] if len(budgets) == 2 else sum(budgets)
    return [
        measure(how, model, data, parts, n_nonzero_coefs=budgets, **params)[1],
        measure(
            f"{how}, apart",
            model,
            data,
            parts,
            joint=False,
            n_nonzero_coefs=budgets,
            **params,
        )[1],
        control(f"{how}, pruned", model, data, of_layers, "auto"),
    ]


def digits(seed):
    """Return an MLP for the digits, its data and autoencoders of its layers."""
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X / 16, y, random_state=seed, stratify=y)
    model = MLPClassifier((32, 32, 32), max_iter=300, alpha=1e-2, random_state=seed)
    model.fit(X, y)
    return model, (X, X_test, y_test), fit_autoencoders(model, X)


def measure_digits(plan, seed):
    """Return the rows of one seed."""
    model, data, parts = digits(seed)
    rows = []
    for total in plan.digits_totals:
        budgets = whole_budget(total)
        each = budgets.pop("n_nonzero_coefs")
        rows += three_ways(f"{total}", model, data, parts, each, plan, **budgets)
    return rows


def measure_defaults(plan, seed):
    """Time the fit of a default unwrapper, after one that compiles."""
    X, y, X_test, y_test = mnist(plan)
    model = train_mlp(X, y, hidden=(plan.narrow,) * 3, seed=seed)
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
    "pixels": measure_pixels,
    "patient": measure_patient,
    "controls": measure_controls,
    "faithfulness": measure_faithfulness,
    "kept": measure_kept,
    "trained": measure_trained,
    "wide": measure_wide,
    "digits": measure_digits,
    "mixup": measure_mixup,
    "regression": measure_regression,
    "defaults": measure_defaults,
}


def print_part(seeds):
    """Print means and spreads over seeds."""

    def text(values):
        return "" if values[0] is None else mean_and_spread(values)

    columns = ["how", "score of the model", "lost", "KL", "weights in all", "R2"]
    more = [name for name in seeds[0][0] if name.startswith("times")]
    rows = []
    for same in zip(*seeds, strict=True):
        row = {"how": same[0]["how"]}
        for name in ("score of the model", "lost", "KL", *more):
            row[name] = text([one.get(name) for one in same])
        row["weights in all"] = (
            f"{np.mean([one['weights in all'] for one in same]):.0f}"
        )
        if "R2 of network" in same[0]:
            means = np.mean([one["R2 of network"] for one in same], axis=0)
            row["R2"] = " / ".join(f"{mean:.2f}" for mean in means if mean == mean)
        rows.append(row)
    print_table(rows, columns + more)
    print(flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--smoke", action="store_true", help="tiny, without a record")
    parser.add_argument("--page", action="store_true", help="write the record's page")
    options = parser.parse_args()
    if options.page:
        write_page(read_record(RECORD))
        return
    warnings.simplefilter("ignore")
    plan, n_seeds = (SMOKE, 1) if options.smoke else (Plan(), options.seeds)
    for part, measured in PARTS.items():
        if options.part not in (part, "all"):
            continue
        seeds = [] if options.smoke else kept_of(RECORD, part, plan, "seeds")
        for seed in range(len(seeds), n_seeds):
            seeds.append(measured(plan, seed))
            if not options.smoke:
                keep(RECORD, part, plan, "seeds", seeds)
        print(part)
        print_part(seeds)


if __name__ == "__main__":
    main()
