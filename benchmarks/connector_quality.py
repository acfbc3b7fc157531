"""Accuracy of a network of features on MNIST against the weights of a connector.

An MLP of three hidden layers, an autoencoder on each, and two connectors in place of
the weights between them: pixels -> h1 -> F1 -> F2 -> F3 -> h3 -> logits, nothing
distilled. Every way fits each connector to the true features of both its layers, on
the same rows; every network applies a ReLU, also to weights of an identity link, which
favours those. "FeatureUnwrapper" is ours again as an unwrapper does it: the second
connector learns from the features that the first one computes. Everything is measured
on test rows; Adam is tuned on rows that no connector is fitted to.

``python benchmarks/connector_quality.py`` writes ``records/connector_quality.json``
after each seed.
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
import torch
from _common import load_mnist, train_mlp, write_record
from _connector_peers import Adam
from article_figures import hidden_activations
from article_mnist import FittedAutoencoder, Measures
from scipy import sparse

from skfeat import FeatureConnector, FeatureUnwrapper, SparseAutoencoder
from skfeat.metrics import fvu
from skfeat.network import SparseFeatureNetwork

BUDGETS = (100, 200, 458, 1000, 2000, 4000)
RATES = (1e-3, 1e-2)
# Adam makes no exact zeros: what its last, smallest steps leave below this is one.
NATURAL = 1e-3
ACCURACY, LIMITS = "Accuracy, by weights a connector", "What there is to reach"
R2 = "R2 of connector {}, fed true features, by weights a connector"


@dataclass(frozen=True)
class Plan:
    """How large the experiment is."""

    n_rows: int = 60_000
    n_validation: int = 10_000  # of these rows, the last
    n_test: int = 10_000
    width: int = 64
    epochs: int = 20
    n_components: int = 256
    k: int = 8
    adam_epochs: int = 20
    tuning_epochs: int = 8


SMOKE = Plan(1_200, 200, 300, 16, 10, 32, 4, 2, 2)


class Connector:
    """One connector's rows, and the ways of fitting it by Adam, to share their work.

    Parameters
    ----------
    train, validation : pair of ndarray
        Features of the layer before and of the layer after.
    alphas : list of float
        Penalties that Adam tries.
    plan : Plan
    seed : int
    """

    def __init__(self, train, validation, alphas, plan, seed):
        self.train, self.validation, self.plan = train, validation, plan
        self.tensors = [torch.from_numpy(codes) for codes in train]
        self.spread = train[0].std(axis=0)
        self.trained = {
            rate: [
                Adam(*self.tensors, alpha, rate=rate, seed=seed).train(
                    plan.adam_epochs, decay=True
                )
                for alpha in alphas
            ]
            for rate in RATES
        }

    def fine_tune(self, weights, rate=RATES[0]):
        """Train the nonzero weights on without a penalty."""
        coef, intercept = weights
        adam = Adam(
            *self.tensors, 0.0, rate=rate, start=(coef, intercept), support=coef != 0
        )
        return adam.train(self.plan.tuning_epochs, decay=True)

    def tuned_adam(self, budget):
        """Return the best of Adam with L1, cut to a budget and trained on."""
        found = []
        for rate, fits in self.trained.items():
            counts = np.array([(abs(coef) > NATURAL).sum() for coef, _ in fits])
            coef, intercept = fits[
                np.argmin(abs(np.log(np.maximum(counts, 1) / budget)))
            ]
            # By the size of what a weight adds, as an input of small scale needs more.
            order = np.argsort(abs(coef) * self.spread, axis=None)
            cut = coef.copy()
            cut.flat[order[: max(0, coef.size - budget)]] = 0.0
            found.append(self.fine_tune((cut, intercept), rate))
        return max(found, key=lambda weights: r2(weights, self.validation))


def fit_lasso(codes, budget, *, refit):
    """Fit by L1 with the identity link; return the weights and the penalty."""
    connector = FeatureConnector(
        link="identity", n_nonzero_coefs=budget, refit=refit, random_state=0
    ).fit(*codes)
    return weights_of(connector), connector.alpha_


def weights_of(connector):
    """Return weights (dense) and intercepts of a FeatureConnector."""
    return connector.coef_.toarray(), connector.intercept_


def r2(weights, codes):
    """Return the R2 of all features together."""
    coef, intercept = weights
    return 1 - fvu(codes[1], np.maximum(codes[0] @ coef.T + intercept, 0))


def with_connectors(network, weights):
    """Return the network with other weights between its features."""
    return SparseFeatureNetwork(
        front=network.front,
        encoder_coef=network.encoder_coef_,
        encoder_intercept=network.encoder_intercept_,
        encoder_bias=network.encoder_bias_,
        activation=network.activation,
        coefs=[sparse.csr_array(coef) for coef, _ in weights],
        intercepts=[intercept for _, intercept in weights],
        links=["relu"] * len(weights),
        decoder_coef=network.decoder_coef_,
        decoder_intercept=network.decoder_intercept_,
        back=network.back,
        layer_names=network.layer_names_,
    )


def measure_seed(plan, train, test, budgets, seed, measures):
    """Run everything once."""
    X, y = train
    model = train_mlp(X, y, hidden=(plan.width,) * 3, epochs=plan.epochs, seed=seed)
    autoencoders = [
        SparseAutoencoder(plan.n_components, k=plan.k, random_state=seed).fit(rows)
        for rows in hidden_activations(model, X)
    ]
    n_train = plan.n_rows - plan.n_validation
    pairs = [
        features_of_pairs(model, autoencoders, rows)
        for rows in (X[:n_train], X[n_train:], test[0])
    ]
    lassos = {
        budget: [fit_lasso(codes, budget, refit=False) for codes in pairs[0]]
        for budget in budgets
    }
    connectors = [
        Connector(*codes, [lassos[budget][i][1] for budget in budgets], plan, seed)
        for i, codes in enumerate(zip(pairs[0], pairs[1], strict=True))
    ]
    fitted = [FittedAutoencoder.of(part) for part in autoencoders]
    for budget in budgets:
        ours = FeatureConnector(n_nonzero_coefs=budget, random_state=seed)
        unwrapper = FeatureUnwrapper(
            model,
            autoencoder=fitted,
            connector=ours,
            distill=False,
            random_state=seed,
        ).fit(X[:n_train])
        refitted = [fit_lasso(codes, budget, refit=True)[0] for codes in pairs[0]]
        ways = {
            "lasso raw": [weights for weights, _ in lassos[budget]],
            "lasso + refit": refitted,
            "lasso support, relu refit": [
                connector.fine_tune(weights)
                for connector, weights in zip(connectors, refitted, strict=True)
            ],
            "tuned Adam": [connector.tuned_adam(budget) for connector in connectors],
            "relu pruned": [weights_of(ours.fit(*codes)) for codes in pairs[0]],
            "relu pruned, FeatureUnwrapper": [
                weights_of(connector) for connector in unwrapper.connectors_
            ],
        }
        network = unwrapper.network()
        for way, weights in ways.items():
            assert all((coef != 0).sum() <= budget for coef, _ in weights), way
            outputs = with_connectors(network, weights).predict_raw(test[0])
            measures.add(ACCURACY, str(budget), **{way: accuracy(outputs, test[1])})
            for i, (part, codes) in enumerate(zip(weights, pairs[2], strict=True), 1):
                measures.add(R2.format(i), str(budget), **{way: r2(part, codes)})
    with torch.no_grad():
        outputs = model(torch.from_numpy(test[0])).numpy()
    measures.add(LIMITS, "accuracy", **{"the MLP": accuracy(outputs, test[1])})
    outputs = network.raw_from_features(pairs[2][-1][1], layer=2)
    measures.add(LIMITS, "accuracy", **{"true F3": accuracy(outputs, test[1])})


def features_of_pairs(model, autoencoders, X):
    """Return the features (before, after) of each two layers in a row."""
    activations = hidden_activations(model, X)
    codes = [
        part.transform(rows)
        for part, rows in zip(autoencoders, activations, strict=True)
    ]
    return list(pairwise(codes))


def accuracy(outputs, y):
    """Return the share of rows whose largest output is that of the label."""
    return (outputs.argmax(axis=1) == y).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="repetitions")
    parser.add_argument("--budgets", type=int, nargs="+", default=BUDGETS)
    parser.add_argument("--smoke", action="store_true", help="tiny, without a record")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    plan = SMOKE if options.smoke else Plan()
    budgets, n_seeds = options.budgets, options.seeds
    if options.smoke:
        budgets, n_seeds = (20, 60), 1
    X_train, y_train, X_test, y_test = load_mnist()
    train = X_train[: plan.n_rows], y_train[: plan.n_rows]
    test = X_test[: plan.n_test], y_test[: plan.n_test]
    measures, seconds = Measures(), []
    for seed in range(n_seeds):
        start = time.perf_counter()
        measure_seed(plan, train, test, budgets, seed, measures)
        seconds.append(time.perf_counter() - start)
        print(f"seed {seed}: {seconds[-1]:.0f} s", flush=True)
        if not options.smoke:
            payload = {"plan": asdict(plan), "tables": measures.record()}
            write_record("connector_quality", {**payload, "seconds": seconds})
    measures.print()


if __name__ == "__main__":
    main()
