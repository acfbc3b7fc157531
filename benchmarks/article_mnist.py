"""Repeat the article's experiment on MNIST and print its figures beside ours.

Everything is measured on test rows. Losses are defined as the article's seem to be:

- L1 loss: the mean over all elements of the activations (of an autoencoder) or of the
  absolute weights (of a connector), without the weight it has in the objective;
- L2 loss: the mean over all elements of the squared error.

``--seeds N`` repeats all of it, from the training of the network on, and the record
``records/article_mnist.json`` is written anew after each seed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from _common import load_mnist, print_table, train_mlp, write_record
from article_figures import save_figures
from torch import nn

from skfeat import FeatureConnector, FeatureUnwrapper, SparseAutoencoder
from skfeat.initialization import product_init
from skfeat.metrics import fvu, l0, n_dead

FIGURES = Path(__file__).parent / "figures"
DOCS_IMAGES = Path(__file__).parents[1] / "docs" / "images"

# Activations, and weights, of larger magnitude are counted.
ACTIVE, STRONG = 0.3, 0.1
# Makes the L1 and the L2 loss of the tied autoencoder alike, as the article asks for.
ALPHA = 0.08
# Leaves about as many weights above 0.1 as the article reports.
PENALTY = 3.0

MLP = "The network that is unwrapped"
SAE = "Autoencoders of hidden layer {}"
CONNECTOR = "Connectors from layer 1 to layer 2"
STARTS = "Connector from a random and from the product start, {} features"
NETWORK = "The network of features"

ARTICLE = {
    MLP: {"accuracy": 0.978, "cross-entropy": 0.09},
    SAE.format(1): {
        "L1 loss": 0.04928,
        "L2 loss": 0.03970,
        "neurons above 0.3 (of 64)": 38,
        "features above 0.3 (of 256)": 7,
    },
    CONNECTOR: {
        "L1 loss": 0.02114,
        "L2 loss": 0.03209,
        "weights above 0.1": 458,
        "neuron weights above 0.1": 2205,
    },
    NETWORK: {"accuracy": 0.94, "accuracy of the model": 0.978, "points lost": 3.8},
}


@dataclass(frozen=True)
class Plan:
    """How large the experiment is."""

    n_rows: int = 60_000
    n_test: int = 10_000
    width: int = 64
    epochs: int = 20
    budget: int = 458
    start_epochs: int = 20
    full_batch_rows: int = 2_000


QUICK = Plan(
    n_rows=1_000,
    n_test=500,
    width=16,
    epochs=5,
    budget=100,
    start_epochs=3,
    full_batch_rows=500,
)


class Measures:
    """Values of tables: ``values[table][quantity][column]`` is a list over seeds."""

    def __init__(self):
        self.values = {}

    def add(self, table, column, **quantities):
        for name, value in quantities.items():
            cells = self.values.setdefault(table, {}).setdefault(name, {})
            cells.setdefault(column, []).append(float(value))

    def print(self):
        for table, rows in self.values.items():
            print(f"\n{table}\n")
            article = ARTICLE.get(table, {})
            columns = list(dict.fromkeys(c for cells in rows.values() for c in cells))
            print_table(
                [
                    {
                        "": name,
                        "article": str(article.get(name, "")),
                        **{column: _text(values) for column, values in cells.items()},
                    }
                    for name, cells in rows.items()
                ],
                ["", *(["article"] if article else []), *columns],
            )

    def record(self):
        return {
            table: {
                name: {column: _summary(values) for column, values in cells.items()}
                for name, cells in rows.items()
            }
            for table, rows in self.values.items()
        }


def _summary(values):
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "spread": spread, "values": values}


def _text(values):
    mean = f"{statistics.fmean(values):.4g}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.1g}"


class FittedAutoencoder(SparseAutoencoder):
    """Is fitted already, so that several unwrappers share the time of one fit."""

    @classmethod
    def of(cls, autoencoder):
        """Copy a fitted autoencoder."""
        fitted = cls(**autoencoder.get_params(deep=False))
        fitted.__dict__.update(vars(autoencoder))
        return fitted

    def __sklearn_clone__(self):
        return self

    def fit(self, X, y=None, sample_weight=None):
        """Do nothing."""
        return self


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="repetitions")
    parser.add_argument(
        "--quick", action="store_true", help="one tiny run, to see that all works"
    )
    parser.add_argument("--figures", type=Path, default=FIGURES, help="their folder")
    options = parser.parse_args()
    plan, n_seeds = (QUICK, 1) if options.quick else (Plan(), options.seeds)

    X_train, y_train, X_test, y_test = load_mnist()
    train = X_train[: plan.n_rows], y_train[: plan.n_rows]
    test = X_test[: plan.n_test], y_test[: plan.n_test]
    measures, seconds = Measures(), []
    for seed in range(n_seeds):
        start = time.perf_counter()
        model, unwrapper = measure_seed(plan, train, test, seed, measures)
        seconds.append(time.perf_counter() - start)
        print(f"seed {seed}: {seconds[-1]:.0f} s", flush=True)
        if not options.quick:
            payload = {"article": ARTICLE, "tables": measures.record()}
            write_record("article_mnist", {**payload, "seconds": seconds})
        if seed == 0:
            folders = [options.figures] + ([] if options.quick else [DOCS_IMAGES])
            save_figures(model, unwrapper, train[0], test[0], plan.budget, folders)
    measures.print()


def measure_seed(plan, train, test, seed, measures):
    """Run everything once; return the network and an unwrapper for pictures."""
    X, y = train
    hidden = (plan.width,) * 3
    model = train_mlp(X, y, hidden=hidden, epochs=plan.epochs, seed=seed)
    measure_model(model, *test, measures)
    activations = hidden_activations(model, X), hidden_activations(model, test[0])

    load, start = os.getloadavg()[0], time.perf_counter()
    default = FeatureUnwrapper(model, random_state=seed).fit(X)
    seconds = time.perf_counter() - start
    autoencoders = {"top-k 32 (default)": default.autoencoders_}
    for name, tied in (("relu, tied", True), ("relu, untied", False)):
        autoencoder = SparseAutoencoder(
            activation="relu", alpha=ALPHA, tied=tied, random_state=seed
        )
        autoencoders[name] = [
            SparseAutoencoder(**autoencoder.get_params()).fit(rows)
            for rows in activations[0]
        ]
    for name in ("relu, tied", "relu, untied", "top-k 32 (default)"):
        measure_autoencoders(name, autoencoders[name], activations[1], measures)

    shared = [FittedAutoencoder.of(part) for part in default.autoencoders_]
    budget = {"n_nonzero_coefs": plan.budget, "random_state": seed}
    layerwise, distilled = (
        FeatureUnwrapper(model, autoencoder=shared, distill=distill, **budget).fit(X)
        for distill in (False, True)
    )
    for name, unwrapper in (
        ("layer by layer", layerwise),
        ("distilled", distilled),
        ("defaults", default),
    ):
        measure_network(name, unwrapper, *test, measures)
    measures.add(NETWORK, "defaults", **{"seconds of fit": seconds, "load": load})

    codes = [
        part.transform(rows)
        for rows, part in zip(activations[1], default.autoencoders_, strict=False)
    ]
    connector = layerwise.connectors_[0]
    measure_connector(
        "ours, top-k", connector.coef_.toarray(), connector.predict, codes, measures
    )
    weights = model[2].weight.detach().numpy()
    strong = {"neuron weights above 0.1": (abs(weights) > STRONG).sum()}
    measures.add(CONNECTOR, "ours, top-k", **strong)
    for name in ("relu, tied", "top-k 32 (default)"):
        compare_starts(
            name, plan, model, autoencoders[name][:2], activations, seed, measures
        )
    return model, layerwise


def hidden_activations(model, X):
    """Return the activations of the three hidden layers."""
    rows, found = torch.from_numpy(X), []
    with torch.no_grad():
        for layer in model[:-1]:
            rows = layer(rows)
            if isinstance(layer, nn.ReLU):
                found.append(rows.numpy())
    return found


def measure_model(model, X, y, measures):
    with torch.no_grad():
        logits = model(torch.from_numpy(X))
    labels = torch.from_numpy(y)
    quantities = {
        "accuracy": (logits.argmax(dim=1) == labels).double().mean(),
        "cross-entropy": nn.functional.cross_entropy(logits, labels),
    }
    measures.add(MLP, "ours", **quantities)


def measure_autoencoders(name, autoencoders, activations, measures):
    for index, (autoencoder, rows) in enumerate(
        zip(autoencoders, activations, strict=True)
    ):
        codes = autoencoder.transform(rows)
        decoded = autoencoder.inverse_transform(codes)
        quantities = {
            "L1 loss": codes.mean(),
            "L2 loss": np.square(rows - decoded).mean(),
            "explained variance": 1 - fvu(rows, decoded),
            "active features (L0)": l0(codes),
            "dead features": n_dead(codes),
            "neurons above 0.3 (of 64)": (rows > ACTIVE).sum(axis=1).mean(),
            "features above 0.3 (of 256)": (codes > ACTIVE).sum(axis=1).mean(),
        }
        measures.add(SAE.format(index + 1), name, **quantities)


def measure_network(name, unwrapper, X, y, measures):
    report = unwrapper.report(X, y)
    whole = {column: values[-1] for column, values in report.items()}
    quantities = {
        "accuracy": whole["score"],
        "accuracy of the model": whole["score_model"],
        "points lost": 100 * (whole["score_model"] - whole["score"]),
        "agreement with the model": whole["agreement"],
        "KL from the model": whole["kl"],
    }
    for index in (1, 2):
        link = f"connector {index}"
        quantities |= {
            f"{link}: nonzero weights": report["n_weights"][index],
            f"{link}: R2, fed true features": report["r2_true"][index],
            f"{link}: R2, fed the network's": report["r2_network"][index],
        }
    measures.add(NETWORK, name, **quantities)


def measure_connector(name, coef, predict, codes, measures):
    predicted = predict(codes[0])
    quantities = {
        "L1 loss": abs(coef).mean(),
        "L2 loss": np.square(codes[1] - predicted).mean(),
        "R2, all features together": 1 - fvu(codes[1], predicted),
        "weights above 0.1": (abs(coef) > STRONG).sum(),
        "nonzero weights": (coef != 0).sum(),
    }
    measures.add(CONNECTOR, name, **quantities)


def compare_starts(name, plan, model, autoencoders, activations, seed, measures):
    """Fit the same connector from both starts, in the article's way and in ours.

    All minimise ``L2 loss + PENALTY * L1 loss``; that of a FeatureConnector is the
    same, divided by what makes it Lasso's.
    """
    train, test = (
        [
            part.transform(rows)
            for part, rows in zip(autoencoders, all_rows, strict=False)
        ]
        for all_rows in activations
    )
    layer = model[2]
    product = product_init(
        autoencoders[0],
        layer.weight.detach().numpy(),
        layer.bias.detach().numpy(),
        autoencoders[1],
    )
    bound = product[0].shape[1] ** -0.5
    draw = np.random.RandomState(seed).uniform(-bound, bound, product[0].shape)
    starts = {"random": (draw, np.zeros(len(draw))), "product": product}
    few = [codes[: plan.full_batch_rows] for codes in train]
    options = {"alpha": PENALTY / (2 * draw.shape[1]), "refit": False}
    table = STARTS.format(name)
    for column, start in starts.items():
        objective, gradient = objective_and_gradient(start, *train)
        quantities = {"at the start": objective, "norm of its gradient there": gradient}

        def watch(epoch, weights, quantities=quantities):
            if epoch in (1, 5, plan.start_epochs):
                objective, _ = objective_and_gradient(weights, *test)
                quantities[f"article's way, {epoch} epochs"] = objective

        coef, intercept = train_as_article(
            start, *train, epochs=plan.start_epochs, seed=seed, watch=watch
        )
        # The article counts weights above a threshold: here the others are removed.
        coef = np.where(abs(coef) > STRONG, coef, 0.0)
        quantities["... cut at 0.1: L2 loss"] = objective_and_gradient(
            (coef, intercept), *test, penalty=0.0
        )[0]
        quantities["... cut at 0.1: weights"] = (coef != 0).sum()
        if column == "random" and name.startswith("relu"):
            measure_connector(
                "article's way, relu tied",
                coef,
                lambda codes, w=coef, b=intercept: np.maximum(codes @ w.T + b, 0),
                test,
                measures,
            )
        for solver, rows in (("minibatch", train), ("full_batch", few)):
            connector = FeatureConnector(
                solver=solver, init=start, random_state=seed, **options
            ).fit(*rows)
            weights = connector.coef_.toarray(), connector.intercept_
            objective, _ = objective_and_gradient(weights, *test)
            quantities[f"our {solver}, {len(rows[0]):,} rows"] = objective
        measures.add(table, column, **quantities)


def objective_and_gradient(weights, X, Y, penalty=PENALTY):
    """Return L2 loss + penalty * L1 loss, and the norm of its gradient."""
    parts = [torch.tensor(w, dtype=torch.float32, requires_grad=True) for w in weights]
    value = _objective(*parts, torch.from_numpy(X), torch.from_numpy(Y), penalty)
    gradients = torch.autograd.grad(value, parts)
    return float(value), float(sum(g.square().sum() for g in gradients) ** 0.5)


def _objective(coef, intercept, x, y, penalty):
    error = torch.addmm(intercept, x, coef.T).relu() - y
    return error.square().mean() + penalty * coef.abs().mean()


def train_as_article(start, X, Y, *, epochs, seed, watch: Callable):
    """Minimise by Adam with the penalty in the loss, so that no weight is ever zero."""
    coef, intercept = parts = [
        torch.tensor(part, dtype=torch.float32, requires_grad=True) for part in start
    ]
    optimizer = torch.optim.Adam(parts, lr=1e-3)
    X, Y = torch.from_numpy(X), torch.from_numpy(Y)
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(1, epochs + 1):
        for rows in torch.randperm(len(X), generator=generator).split(256):
            loss = _objective(coef, intercept, X[rows], Y[rows], PENALTY)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        watch(epoch, [part.detach().numpy() for part in parts])
    return [part.detach().numpy() for part in parts]


if __name__ == "__main__":
    main()
