"""Whether features are worth reading: neurons, pruned neurons and features compared.

An MLP 784-64-64-64-10 for MNIST becomes networks with as many nonzero weights in all,
from the pixels to the logits: its own neurons, pruned and distilled; features of
autoencoders that are fitted apart; of autoencoders trained together with the weights
between them; and of untrained autoencoders. The model
itself, with all its weights, stands beside them. Features are those that the network
computes; those that the autoencoders encode are measured too. On test rows are measured

- the classes that features fire on (`class_purity`), of all rows they fire on and of
  the 100 they fire most on, so that dense neurons and sparse features compare;
- the weights and features that make 90 % of the largest output of a row
  (`description_length` of `attribute`);
- the features and edges that a second fit of the same model, and one of another model,
  have too (`stability`, `edge_stability`);
- the features that are used (`used_features`).

Models are trained by two recipes, those of ``unwrap_mnist.py``, each seed a model.
``python benchmarks/feature_quality.py`` writes ``records/feature_quality.json`` after
each seed, and goes on from the seeds that it has; ``--recipe`` measures one recipe
alone. ``--page`` writes the tables and the picture of ``docs/feature_quality.md`` from
what the record holds.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass

import numpy as np
from _common import keep, kept_of, print_table, read_record, train_mlp
from _neurons import neurons
from _quality_measures import (
    measure_firing,
    measure_reading,
    measure_stability,
    readers_of,
)
from _quality_page import tables, write_page
from article_mnist import FittedAutoencoder
from unwrap_mnist import RECIPES, mnist

from skfeat import FeatureUnwrapper, SparseAutoencoder
from skfeat.controls import pruned_control
from skfeat.metrics import explained_variance, stability, used_features

RECORD = "feature_quality"
MODEL, PRUNED = "neurons", "pruned"
SEPARATE, JOINT, UNTRAINED = "apart", "together", "untrained"


@dataclass(frozen=True)
class Plan:
    """How large the experiment is."""

    n_rows: int = 60_000
    n_test: int = 10_000
    recipes: tuple = ("decayed", "plain")
    width: int = 64
    n_features: int = 256
    k: int = 32
    weights: tuple = (2_000, 6_000)
    n_read: int = 1_000
    n_top: int = 100
    fit_epochs: int | None = None  # of everything; None: the defaults
    mixup: float = 0.5  # the default, of joint training and of pruning


SMOKE = Plan(
    n_rows=600,
    n_test=300,
    recipes=("decayed",),
    width=16,
    n_features=24,
    k=6,
    weights=(400,),
    n_read=20,
    n_top=10,
    fit_epochs=4,
)


def fits_of(plan, model, X, seed):
    """Yield name, weights, network and autoencoders, if any, of one fit of each."""
    epochs = {} if plan.fit_epochs is None else {"max_iter": plan.fit_epochs}
    for n_weights in plan.weights:
        network = pruned_control(
            model,
            X,
            n_nonzero_coefs=n_weights,
            mixup=plan.mixup,
            random_state=seed,
            **epochs,
        )
        yield PRUNED, n_weights, network, None
    sizes = {"n_components": plan.n_features, "k": plan.k}
    parts = fit_parts(SparseAutoencoder(**sizes, **epochs), model, X, seed)
    # So small a rate moves nothing: what is left is the start, in the rows' units.
    start = SparseAutoencoder(
        **sizes, max_iter=1, learning_rate_init=1e-12, dead_features="ignore"
    )
    untrained = fit_parts(start, model, X, seed)
    ways = [
        (SEPARATE, parts, False),
        (JOINT, parts, True),
        (UNTRAINED, untrained, False),
    ]
    for name, start, joint in ways:
        for n_weights in plan.weights:
            unwrapper = FeatureUnwrapper(
                model,
                autoencoder=start,
                joint=joint,
                n_nonzero_coefs=shared_among(n_weights, plan),
                shared_budget=True,
                connect_input=True,
                connect_output=True,
                mixup=plan.mixup,
                random_state=seed,
                **epochs,
            ).fit(X)
            yield name, n_weights, unwrapper.network(), unwrapper.autoencoders_


def fit_parts(autoencoder, model, X, seed):
    """Fit the autoencoders of all layers, from which several unwrappers start."""
    unwrapper = FeatureUnwrapper(
        model,
        autoencoder=autoencoder,
        distill=False,
        n_nonzero_coefs=0,
        random_state=seed,
    ).fit(X)
    return [FittedAutoencoder.of(part) for part in unwrapper.autoencoders_]


def shared_among(n_weights, plan):
    """Split a budget of all maps: most for the pixels, fewest for the logits."""
    shares = np.array([0.6, 0.17, 0.17, 0.06])
    budgets = np.floor(shares * n_weights).astype(int)
    budgets[0] += n_weights - budgets.sum()
    return budgets.tolist()


def measure(plan, network, autoencoders, data):
    """Return what is measured of one network, and what two fits are compared by.

    Parameters
    ----------
    plan : Plan
    network : SparseFeatureNetwork
    autoencoders : list of SparseAutoencoder or None
    data : tuple
        Test rows, their labels, the model's activations and its accuracy on them.
    """
    X, y, activations, score = data
    maps = [network.encoder_coef_, *network.coefs_, network.decoder_coef_]
    whole = network.features(X)
    # Features that are the same for every row are intercepts, not features.
    network = network.compact()
    features = network.features(X)
    used = [
        used_features(codes, readers)
        for codes, readers in zip(features, readers_of(network), strict=True)
    ]
    reading = measure_reading(network, X[: plan.n_read])
    row = {
        "weights": [int(part.nnz) for part in maps],
        "points lost": 100 * (score - accuracy(network, X, y)),
        "layers": measure_firing(features, used, y, plan.n_top, reading.pop("brings")),
        **reading,
    }
    fit = {"network": network, "features": features, "used": used, "parts": None}
    if autoencoders is not None:
        fit["parts"] = [part.components_ for part in autoencoders]
        codes = [
            part.transform(rows)
            for part, rows in zip(autoencoders, activations, strict=True)
        ]
        fire = [used_features(part) for part in codes]
        row["encoded"] = measure_firing(codes, fire, y, plan.n_top)
        row["R2 of computed features"] = [
            explained_variance(*pair) for pair in zip(codes, whole, strict=True)
        ]
    return row, fit


def accuracy(network, X, y):
    return float((network.predict_raw(X).argmax(axis=1) == y).mean())


def measure_seed(plan, recipe, seed, before):
    """Return the rows of one model, and the fits that the next is compared with."""
    X, y, X_test, y_test = mnist(plan)
    model = train_mlp(X, y, hidden=(plan.width,) * 3, seed=seed, **RECIPES[recipe])
    own = neurons(model)
    data = X_test, y_test, own.features(X_test), accuracy(own, X_test, y_test)
    row, kept = measure(plan, own, None, data)
    rows, fits = [{"of": MODEL, "budget": None, **row}], {(MODEL, None): kept}
    for name, n_weights, network, parts in fits_of(plan, model, X, 2 * seed):
        row, fit = measure(plan, network, parts, data)
        rows.append({"of": name, "budget": n_weights, **row})
        fits[name, n_weights] = fit
    for name, n_weights, network, parts in fits_of(plan, model, X, 2 * seed + 1):
        _, again = measure(plan, network, parts, data)
        row = next(r for r in rows if (r["of"], r["budget"]) == (name, n_weights))
        row["same model"] = measure_stability(fits[name, n_weights], again)
        if parts is not None:
            row["same model"]["cosine"] = directions_alike(fits[name, n_weights], again)
    for row in rows:
        key = row["of"], row["budget"]
        if key in before:
            row["other model"] = measure_stability(before[key], fits[key])
    return rows, fits


def directions_alike(first, second):
    """Return the mean cosine of paired decoder rows: of one model's layers alone."""
    pairs = zip(first["parts"], second["parts"], strict=True)
    return [stability(*pair) for pair in pairs]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--recipe", choices=[*RECIPES, "all"], default="all")
    parser.add_argument("--smoke", action="store_true", help="tiny, without a record")
    parser.add_argument("--page", action="store_true", help="write the record's page")
    options = parser.parse_args()
    if options.page:
        write_page(read_record(RECORD))
        return
    warnings.simplefilter("ignore")
    plan, n_seeds = (SMOKE, 1) if options.smoke else (Plan(), options.seeds)
    for recipe in plan.recipes if options.recipe == "all" else [options.recipe]:
        # Those that the record has are not measured again: without their fits the next
        # model has none to be compared with.
        seeds = [] if options.smoke else kept_of(RECORD, recipe, plan, "seeds")
        before = {}
        for seed in range(len(seeds), n_seeds):
            rows, before = measure_seed(plan, recipe, seed, before)
            seeds.append(rows)
            if not options.smoke:
                keep(RECORD, recipe, plan, "seeds", seeds)
        for title, rows in tables(seeds).items():
            print(f"\n{title}, {recipe} models\n")
            print_table(rows, list(rows[0]))


if __name__ == "__main__":
    main()
