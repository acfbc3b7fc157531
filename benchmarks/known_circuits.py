"""Are true connections found? Features and weights that are known, in superposition.

`make_feature_network` draws layers of features that are computed from one another by
known weights. How many of the features and of the weights are found,

- by connectors, given the true features;
- by autoencoders on each layer, and connectors between their codes;
- by a `FeatureUnwrapper` of a torch model that computes the network.

Then a map of where it ends: the same autoencoders and connectors with one thing
changed, more superposition, more active features, noise or other numbers of rows.

Autoencoders are told how many features are active (batch top-k, from eight times as
many at the start) and have a tenth more features than there are;
connectors are told how many weights there are. Features are matched by the directions
of their decoders. A path counts as found if each of its edges was. Weights of features
that match no known one count as wrong.

``python benchmarks/known_circuits.py`` writes ``records/known_circuits.json`` and a
picture of the map; with ``--no-map`` both keep the map that they have.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from _common import mean_and_spread, print_table, read_record, write_record

from skfeat import FeatureConnector, FeatureUnwrapper, SparseAutoencoder
from skfeat.datasets import make_feature_network, make_feature_network_model
from skfeat.metrics import edge_recovery, match_components, path_recovery

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "known_circuits.png"
TRUE, APART = "connectors of true features", "autoencoders and connectors"
UNWRAPPED, JOINT = "FeatureUnwrapper", "FeatureUnwrapper, joint"
FAITHFUL = "FeatureUnwrapper, joint, faithfulness=1"
# More features than there are: with just as many, one that is found twice costs one.
WIDER = 1.1
# Of the number of active features, k at the start. Features that fire together share
# one decoder row if k is low from the start. In the end it is the number itself: at
# 95 % of it many more rows point between two features, and on two networks a tenth of
# the paths is lost, in place of a fourteenth.
K_START = 8


@dataclass(frozen=True)
class Plan:
    """How large the experiment is."""

    n_samples: int = 16_000
    n_circuits: int = 12
    n_hidden: int = 96
    n_active: float = 3.0
    n_updates: int = 3000  # of the model's training
    n_map_seeds: int = 1
    axes: tuple = (
        ("n_hidden", (128, 80, 64, 48)),
        ("n_active", (1.5, 6.0, 12.0)),
        ("noise", (0.1, 0.2, 0.4)),
        ("n_samples", (4_000, 8_000, 32_000)),
    )


SMOKE = Plan(
    n_samples=1_000,
    n_circuits=2,
    n_hidden=20,
    n_active=1.0,
    n_updates=50,
    n_map_seeds=1,
    axes=(("noise", (0.2,)),),
)


def make(plan, seed, **changed):
    """Draw a network as the plan has it, but for what is changed."""
    params = {
        "n_samples": plan.n_samples,
        "n_circuits": plan.n_circuits,
        "n_hidden": plan.n_hidden,
        "n_active": plan.n_active,
        **changed,
    }
    return make_feature_network(**params, random_state=seed)


def autoencoders_for(network, seed, *, computed=False):
    """Return an autoencoder for each layer, told its true sparsity."""
    autoencoders = []
    for features, known in zip(
        network.features, known_features(network, computed=computed), strict=True
    ):
        n_active = features[:, np.flatnonzero(known)].nnz / features.shape[0]
        width = round(WIDER * known.sum())
        autoencoders.append(
            SparseAutoencoder(
                width,
                activation="batch_topk",
                k=n_active,
                k_start=min(round(K_START * max(1, n_active)), width),
                random_state=seed,
            )
        )
    return autoencoders


def known_features(network, *, computed):
    """Mark the features to be found: without distractors if all are computed."""
    return [(kinds != "distractor") | (not computed) for kinds in network.kinds]


def connectors_between(network, layers):
    """Fit a connector to each two layers of codes; return the weights."""
    return [
        FeatureConnector(n_nonzero_coefs=coef.nnz, random_state=0).fit(x, y).coef_
        for coef, x, y in zip(network.coefs, layers[:-1], layers[1:], strict=True)
    ]


def matched(network, autoencoders, *, computed=False):
    """Match decoders with directions; leave out distractors if all are computed."""
    pairs = [
        match_components(dictionary, autoencoder.components_)
        for dictionary, autoencoder in zip(
            network.dictionaries, autoencoders, strict=True
        )
    ]
    there = known_features(network, computed=computed)
    cosines = [c[known].mean() for (_, c), known in zip(pairs, there, strict=True)]
    indices = [
        np.where(known, i, -1) for (i, _), known in zip(pairs, there, strict=True)
    ]
    return indices, cosines


def scores(how, network, found, matches, cosines, seconds):
    """Return a row of figures."""
    each = matches or [None] * len(network.kinds)
    edges = [
        edge_recovery(coef, weights, *each[i : i + 2])
        for i, (coef, weights) in enumerate(zip(network.coefs, found, strict=True))
    ]
    return {
        "how": how,
        "matching": cosines,
        "F1": [edge.f1 for edge in edges],
        "precision": [edge.precision for edge in edges],
        "recall": [edge.recall for edge in edges],
        "signs": [edge.signs for edge in edges],
        "paths": path_recovery(network.coefs, found, matches),
        "seconds": seconds,
    }


def measure_true(network):
    """Connect the true features."""
    start = time.perf_counter()
    found = connectors_between(network, network.features)
    seconds = time.perf_counter() - start
    return scores(TRUE, network, found, None, None, seconds)


def measure_apart(network, seed):
    """Fit autoencoders to the rows of each layer, then connect their codes."""
    start = time.perf_counter()
    autoencoders = [
        autoencoder.fit(rows)
        for autoencoder, rows in zip(
            autoencoders_for(network, seed), network.activations, strict=True
        )
    ]
    codes = [
        autoencoder.transform(rows)
        for autoencoder, rows in zip(autoencoders, network.activations, strict=True)
    ]
    found = connectors_between(network, codes)
    seconds = time.perf_counter() - start
    return scores(APART, network, found, *matched(network, autoencoders), seconds)


def measure_unwrapped(network, plan, seed):
    """Unwrap a model of the network, in each way that there is."""
    model = make_feature_network_model(
        network, max_iter=plan.n_updates, random_state=seed
    )
    X = network.features[0].toarray().astype(np.float32)
    ways = {UNWRAPPED: {"joint": False}, JOINT: {}, FAITHFUL: {"faithfulness": 1.0}}
    rows = []
    for how, params in ways.items():
        start = time.perf_counter()
        unwrapper = FeatureUnwrapper(
            model.module,
            autoencoder=autoencoders_for(network, None, computed=True),
            layers=model.layers,
            n_nonzero_coefs=[coef.nnz for coef in network.coefs],
            task="regression",
            random_state=seed,
            **params,
        ).fit(X)
        seconds = time.perf_counter() - start
        found = [connector.coef_ for connector in unwrapper.connectors_]
        fit = matched(network, unwrapper.autoencoders_, computed=True)
        rows.append(scores(how, network, found, *fit, seconds))
        rows[-1]["R2 of the model's layers"] = list(model.r2)
    return rows


def measure(plan, seed):
    """Return the rows of one seed, all ways on one network."""
    network = make(plan, seed)
    return [
        measure_true(network),
        measure_apart(network, seed),
        *measure_unwrapped(network, plan, seed),
    ]


def measure_map(plan, base):
    """Change one thing at a time; the seeds of `base` are those without a change."""
    cells = []
    for name, values in plan.axes:
        for value in values:
            for seed in range(plan.n_map_seeds):
                network = make(plan, seed, **{name: value})
                # True features know nothing of how they are written.
                is_of_features = name in ("n_active", "n_samples")
                given = measure_true(network) if is_of_features else base[seed][0]
                rows = [given, measure_apart(network, seed)]
                cells.append(_cell(name, value, network, rows))
                print(f"{name} {value:g}, seed {seed} done", flush=True)
        for seed in range(plan.n_map_seeds):
            network = make(plan, seed)
            value = getattr(plan, name, 0.0)
            cells.append(_cell(name, value, network, base[seed][:2]))
    return cells


def _cell(name, value, network, rows):
    loads = [float(load) for load in network.load]
    return {"changed": name, "to": value, "load": loads, "rows": rows}


def print_ways(seeds):
    """Print means and spreads over seeds."""
    lines = []
    for same in zip(*seeds, strict=True):
        line = {"how": same[0]["how"]}
        for name in ("matching", "F1", "signs"):
            if same[0][name] is not None:
                means = np.mean([one[name] for one in same], axis=0)
                line[name] = " ".join(f"{mean:.3f}".lstrip("0") for mean in means)
        line["paths"] = mean_and_spread([one["paths"] for one in same])
        line["seconds"] = statistics.median(one["seconds"] for one in same)
        lines.append(line)
    print_table(lines, ["how", "matching", "F1", "signs", "paths", "seconds"])
    print(flush=True)


def summary(cells):
    """Return the means over seeds of each place on the map, sorted along its axes."""
    places = {}
    for cell in cells:
        places.setdefault((cell["changed"], cell["to"]), []).append(cell)
    lines = []
    for (name, value), same in places.items():
        given, found = zip(*[cell["rows"] for cell in same], strict=True)
        lines.append(
            {
                "changed": name,
                "to": value,
                "load": max(np.mean([cell["load"] for cell in same], axis=0)),
                "matching": np.mean([row["matching"] for row in found]),
                "F1": np.mean([row["F1"] for row in found]),
                "paths": np.mean([row["paths"] for row in found]),
                "F1, true features": np.mean([row["F1"] for row in given]),
            }
        )
    order = list(dict.fromkeys(line["changed"] for line in lines))
    return sorted(lines, key=lambda line: (order.index(line["changed"]), line["to"]))


LABELS = {
    "n_hidden": "dimensions of a layer",
    "n_active": "active features a row, first layer",
    "noise": "noise over the deviation of a layer",
    "n_samples": "rows",
}


def save_picture(lines, path):
    """Draw the map, an axis a panel."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(line["changed"] for line in lines))
    figure, axes = plt.subplots(
        1, len(names), figsize=(3.1 * len(names), 3.0), sharey=True, squeeze=False
    )
    styles = {
        "F1, true features": ("F1 of edges, given true features", "0.6", "--"),
        "matching": ("matching of features", "C0", "-"),
        "F1": ("F1 of edges", "C1", "-"),
        "paths": ("paths kept", "C2", "-"),
    }
    for name, axis in zip(names, axes[0], strict=True):
        here = [line for line in lines if line["changed"] == name]
        for key, (label, color, style) in styles.items():
            x, y = [line["to"] for line in here], [line[key] for line in here]
            axis.plot(x, y, style, color=color, marker="o", markersize=3, label=label)
        axis.axhline(0.95, color="0.85", linewidth=0.8, zorder=0)
        axis.set_xlabel(LABELS[name])
        if name != "noise":
            axis.set_xscale("log")
            axis.set_xticks(x, [f"{value:,g}" for value in x])
            axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylim(0, 1.03)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=4, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.92))
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="tiny, without a record")
    parser.add_argument("--no-map", action="store_true", help="keep the map as it is")
    parser.add_argument("--picture", type=Path, help="where to draw the map")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    plan, n_seeds = (SMOKE, 1) if options.smoke else (Plan(), options.seeds)
    seeds = []
    for seed in range(max(n_seeds, plan.n_map_seeds)):
        start = time.perf_counter()
        seeds.append(measure(plan, seed))
        print(f"seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)
    print_ways(seeds)
    if options.no_map and not options.smoke:
        kept = read_record("known_circuits")
        write_record("known_circuits", {**kept, "seeds": seeds})
        return
    cells = measure_map(plan, seeds)
    lines = summary(cells)
    print_table(lines, list(lines[0]))
    if not options.smoke:
        record = {"run": asdict(plan), "threads": torch.get_num_threads()}
        write_record("known_circuits", {**record, "seeds": seeds, "map": cells})
    picture = options.picture or (None if options.smoke else PICTURE)
    if picture:
        save_picture(lines, picture)


if __name__ == "__main__":
    main()
