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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from _common import load_mnist, print_table, train_mlp, write_record
from article_figures import hidden_activations, save_figures
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
    start_epochs: int = 10
    full_batch_rows: int = 2_000


QUICK = Plan(1_000, 500, 16, budget=100, start_epochs=5, full_batch_rows=500)


class Measures:
    """Values of tables: ``values[table][quantity][column]`` is a list over seeds."""

    def __init__(self):
        self.values = {}

    def add(self, table, column, **quantities):
        """Add one seed's values of one column."""
        for name, value in quantities.items():
            cells = self.values.setdefault(table, {}).setdefault(name, {})
            cells.setdefault(column, []).append(float(value))

    def print(self):
        """Print all tables, the article's column first."""
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
        """Return the mean, the spread and the values of every cell."""
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
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.2g}"


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
    parser.add_argument("--quick", action="store_true", help="one tiny run, as a test")
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
    model = train_mlp(X, y, hidden=(plan.width,) * 3, epochs=plan.epochs, seed=seed)
    measure_model(model, *test, measures)
    activations = hidden_activations(model, X), hidden_activations(model, test[0])

    load, start = os.getloadavg()[0], time.perf_counter()
    default = FeatureUnwrapper(model, random_state=seed).fit(X)
    seconds = time.perf_counter() - start
    autoencoders = {
        "relu, tied": fit_autoencoders(seed, activations, alpha=ALPHA, tied=True),
        "relu, untied": fit_autoencoders(seed, activations, alpha=ALPHA),
        "top-k 32 (default)": default.autoencoders_,
    }
    for name, parts in autoencoders.items():
        measure_autoencoders(name, parts, activations[1], measures)

    wide = [FittedAutoencoder.of(part) for part in default.autoencoders_]
    narrow = [wide[0], *[SparseAutoencoder(k=8) for _ in wide[1:]]]
    unwrappers = {
        name: FeatureUnwrapper(
            model,
            autoencoder=parts,
            n_nonzero_coefs=plan.budget,
            distill=distill,
            random_state=seed,
        ).fit(X)
        for name, parts, distill in (
            ("by layer", wide, False),
            ("by layer, k 32 8 8", narrow, False),
            ("distilled", wide, True),
        )
    }
    codes = [
        part.transform(rows) for rows, part in zip(activations[1], wide, strict=True)
    ]
    connector = unwrappers["by layer"].connectors_[0]
    measure_connector(
        "FeatureConnector",
        connector.coef_.toarray(),
        connector.intercept_,
        codes,
        measures,
    )
    strong = (abs(model[2].weight.detach().numpy()) > STRONG).sum()
    measures.add(CONNECTOR, "FeatureConnector", **{"neuron weights above 0.1": strong})
    for name in ("relu, tied", "top-k 32 (default)"):
        compare_starts(
            name, plan, model, autoencoders[name], activations, seed, measures
        )

    for name, unwrapper in {**unwrappers, "defaults": default}.items():
        measure_network(name, unwrapper, *test, measures)
    measures.add(NETWORK, "defaults", **{"seconds of fit": seconds, "load": load})
    return model, unwrappers["by layer, k 32 8 8"]


def fit_autoencoders(seed, activations, **options):
    """Fit one with an L1 penalty on each hidden layer."""
    return [
        SparseAutoencoder(activation="relu", random_state=seed, **options).fit(rows)
        for rows in activations[0]
    ]


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
        "nonzero weights of all that runs": whole["n_weights_all"],
        "nonzero weights of the model": whole["n_weights_model"],
    }
    for index in (1, 2):
        link = f"connector {index}"
        quantities |= {
            f"{link}: nonzero weights": report["n_weights"][index],
            f"{link}: R2, fed true features": report["r2_true"][index],
            f"{link}: R2, fed the network's": report["r2_network"][index],
        }
    measures.add(NETWORK, name, **quantities)


def measure_connector(name, coef, intercept, codes, measures):
    predicted = np.maximum(codes[0] @ coef.T + intercept, 0)
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

    All minimise the L2 loss plus `PENALTY` times the L1 loss, which is measured on
    test rows. A FeatureConnector's alpha is for Lasso's scale.
    """
    train, test = (
        [
            part.transform(rows)
            for part, rows in zip(autoencoders[:2], both, strict=False)
        ]
        for both in activations
    )
    layer = [part.detach().numpy() for part in (model[2].weight, model[2].bias)]
    product = product_init(autoencoders[0], *layer, autoencoders[1])
    shape = product[0].shape
    bound = shape[1] ** -0.5
    draw = np.random.RandomState(seed).uniform(-bound, bound, shape)
    relu = autoencoders[0].activation == "relu"
    for column, start in (
        ("random", (draw, np.zeros(shape[0]))),
        ("product", product),
    ):
        objective, gradient = objective_and_gradient(start, *test)
        quantities = {"at the start": objective, "norm of the gradient there": gradient}
        for epoch, weights in enumerate(train_as_article(start, *train, plan, seed), 1):
            if epoch in (1, 2, 5, plan.start_epochs):
                objective, gradient = objective_and_gradient(weights, *test)
                quantities[f"article's way, {epoch} epochs"] = objective
        coef, intercept = weights
        # The article counts the weights above a threshold: here the rest is removed.
        coef = np.where(abs(coef) > STRONG, coef, 0.0)
        l2_loss, _ = objective_and_gradient((coef, intercept), *test, penalty=0.0)
        quantities["... cut at 0.1, L2 loss"] = l2_loss
        quantities["... cut at 0.1, weights"] = (coef != 0).sum()
        if relu and column == "random":
            measure_connector("as the article", coef, intercept, test, measures)
        for solver, n_rows in (
            ("minibatch", plan.n_rows),
            ("full_batch", plan.full_batch_rows),
        ):
            connector = FeatureConnector(
                PENALTY / (2 * shape[1]),
                solver=solver,
                init=start,
                refit=False,
                random_state=seed,
            ).fit(*(codes[:n_rows] for codes in train))
            weights = connector.coef_.toarray(), connector.intercept_
            objective, _ = objective_and_gradient(weights, *test)
            quantities[f"our {solver}, {n_rows:,} rows"] = objective
        measures.add(STARTS.format(name), column, **quantities)


def objective_and_gradient(weights, X, Y, penalty=PENALTY):
    """Return L2 loss + penalty * L1 loss, and the norm of its gradient."""
    parts = [torch.tensor(w, dtype=torch.float32, requires_grad=True) for w in weights]
    value = _objective(*parts, torch.from_numpy(X), torch.from_numpy(Y), penalty)
    gradients = torch.autograd.grad(value, parts)
    norm = sum(float(gradient.square().sum()) for gradient in gradients) ** 0.5
    return value.item(), norm


def _objective(coef, intercept, x, y, penalty):
    error = torch.addmm(intercept, x, coef.T).relu() - y
    return error.square().mean() + penalty * coef.abs().mean()


def train_as_article(start, X, Y, plan, seed):
    """Minimise by Adam with the penalty in the loss; yield the weights each epoch."""
    coef, intercept = parts = [
        torch.tensor(part, dtype=torch.float32, requires_grad=True) for part in start
    ]
    optimizer = torch.optim.Adam(parts, lr=1e-3)
    X, Y = torch.from_numpy(X), torch.from_numpy(Y)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(plan.start_epochs):
        for rows in torch.randperm(len(X), generator=generator).split(256):
            loss = _objective(coef, intercept, X[rows], Y[rows], PENALTY)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        yield [part.detach().numpy().copy() for part in parts]


if __name__ == "__main__":
    main()
