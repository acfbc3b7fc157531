"""A language model's MLPs as sparse linear maps between features.

Trains a small model of Pythia's architecture on the books of ``SKFEAT_DATA`` (the first
time; it is kept in a folder), or takes one of transformers with ``--model``. For every
layer it unwraps the residual stream that enters the MLP, and what the MLP writes,
into features; connects them by ten weights an output feature; and measures on held-out
text

- the autoencoders: variance explained, active and dead features;
- the maps between features, in R2: a dense linear one, the sparse one, the Lasso's at
  the same budget, and a network of one hidden layer;
- the model's cross-entropy with the MLP's output replaced by the autoencoder's
  reconstruction, by each map's, by its mean and by zero.

Then it searches the sparse maps of the first seed for output features that are an OR or
an AND-NOT of input features, prints the clearest with the tokens that they fire on, and
writes a page and pictures of each to ``--pictures``.

``python benchmarks/language_model.py`` writes ``records/language_model.json``; with a
``--preset``, a record with its name.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict, replace

import numpy as np
from _common import mean_and_spread, print_table, write_record
from _language_model_connections import (
    KINDS,
    describe,
    find_in_layer,
    print_connection,
    save_pictures,
)
from _language_model_layers import (
    SMOKE,
    Plan,
    capture_layers,
    layers_of,
    measure_layer,
    some,
)
from _language_model_text import encode, load_books, split_books, windows
from _language_model_training import (
    PRESETS,
    cached_model,
    held_out_loss,
    load_model,
)


def options():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--preset", choices=PRESETS, help="of the model that is trained"
    )
    parser.add_argument("--cache", help="folder in which trained models are kept")
    parser.add_argument(
        "--model", help="name or folder of a causal language model of transformers"
    )
    parser.add_argument("--context", type=int, help="tokens of a window")
    parser.add_argument(
        "--layers", type=int, nargs="+", help="all that read more than a token"
    )
    parser.add_argument(
        "--source", help="module before the MLP, as in gpt_neox.layers.{before}"
    )
    parser.add_argument("--module", help="the MLP, as in gpt_neox.layers.{layer}.mlp")
    parser.add_argument("--seeds", type=int, default=1)
    for name, kind in (
        ("rows", int),
        ("features", int),
        ("k", int),
        ("weights", float),
    ):
        parser.add_argument(f"--{name}", type=kind)
    parser.add_argument("--pictures", default="language_model_figures", help="a folder")
    parser.add_argument("--smoke", action="store_true", help="tiny, without a record")
    return parser.parse_args()


def make_plan(given):
    """Return the plan that the options ask for."""
    changes = {
        "n_rows": given.rows,
        "n_inputs": given.features,
        "n_outputs": given.features,
        "k": given.k,
        "weights": given.weights,
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    return replace(SMOKE if given.smoke else Plan(), **changes)


def get_model(given):
    """Return the model, its tokenizer and what is known of it."""
    if given.model:
        model, tokenizer = load_model(given.model)
        context = min(128, model.config.max_position_embeddings)
        return model, tokenizer, context, {"model": given.model}
    preset = given.preset or ("tiny" if given.smoke else "small")
    model, tokenizer, training = cached_model(preset, given.cache)
    return model, tokenizer, PRESETS[preset].context, {"model": preset, **training}


def get_text(tokenizer, context):
    """Return windows of the training and of the held-out text."""
    first = tokenizer.bos_token_id
    first = tokenizer.eos_token_id if first is None else first
    return [
        windows(encode(tokenizer, texts), context, first)
        for texts in split_books(load_books())
    ]


TABLES = {
    "features": "Features on held-out text",
    "maps": "Maps from input to output features on held-out text",
    "loss": "Cross-entropy with the MLP's output replaced, nats a token",
    "of the mean": "Recovered of what the mean in its place loses",
    "of zero": "Recovered of what zero in its place loses",
}


def _figure(values):
    """Return the text of figures over seeds.

    A share recovered is nan where the loss that it divides by is within the noise.
    """
    known = [value for value in values if not np.isnan(value)]
    return mean_and_spread(known) if known else "within noise"


def print_layers(figures):
    """Print a table for each part of the figures: means and spreads over seeds."""
    layers = {}
    for figure in figures:
        layers.setdefault(figure["layer"], []).append(figure)
    for part, title in TABLES.items():
        print(f"\n{title}\n")
        rows = {
            layer: {
                name: _figure([figure[part][name] for figure in same])
                for name in same[0][part]
            }
            for layer, same in layers.items()
        }
        names = list(next(iter(rows.values())))
        print_table(
            [
                {"": name}
                | {f"layer {layer}": row[name] for layer, row in rows.items()}
                for name in names
            ],
            ["", *(f"layer {layer}" for layer in rows)],
        )


def main():
    given = options()
    plan = make_plan(given)
    start = time.perf_counter()
    model, tokenizer, context, about = get_model(given)
    context = given.context or context
    training, held_out = get_text(tokenizer, context)
    about["held out"] = held_out_loss(model, tokenizer, held_out)
    print(
        f"Model {about['model']}: {about['held out']['nats a token']:.4f} nats a "
        f"token, {about['held out']['nats a byte']:.4f} a byte of held-out text."
    )
    layers = layers_of(model, given.layers, given.source, given.module)
    rows = some(held_out, plan.n_held_out)
    seen = capture_layers(model, rows, layers)
    predicted = some(held_out, plan.n_predicted)
    record = {"model": about, "run": asdict(plan), "layers": [], "connections": []}
    name = "_".join(filter(None, ["language_model", given.preset]))

    def keep():
        record["seconds"] = time.perf_counter() - start
        if not given.smoke:
            write_record(name, record)

    pairs = {}
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory() as folder:
            chosen = some(training, plan.n_rows, seed)
            captured = capture_layers(model, chosen, layers, out=folder)
            for layer in layers:
                pair, figures = measure_layer(
                    model, layer, captured, seen, predicted, plan, seed
                )
                record["layers"].append(figures)
                pairs.setdefault(layer.number, pair)
                seconds = figures["seconds"]
                print(f"layer {layer.number}, seed {seed}: {seconds:.0f} s", flush=True)
        if seed == 0:
            found = find_connections(pairs, layers, seen, tokenizer, plan.n_connections)
            record["connections"] = [described for _, described in found]
            chosen = [one for one, _ in found]
            paths = save_pictures(
                chosen, pairs, seen, rows, model, tokenizer, given.pictures
            )
        keep()
    print_layers(record["layers"])
    print("\nConnections found by search, the clearest first\n")
    for described in record["connections"]:
        print_connection(described)
    print(f"\n{len(paths)} pages and pictures in {given.pictures}")
    print(f"{record['seconds']:.0f} seconds")


def find_connections(pairs, layers, seen, tokenizer, n):
    """Find the `n` clearest connections of each kind over all layers.

    Returns
    -------
    list of tuple
        A connection and its description each, the clearest of each kind first.
    """
    found = []
    for layer in layers:
        found += find_in_layer(pairs[layer.number], layer, seen, n)
    chosen = []
    for kind in KINDS:
        of_kind = [one for one in found if one.kind == kind]
        chosen += sorted(of_kind, key=lambda one: -one.score)[:n]
    return [
        (one, describe(one, pairs[one.layer.number], one.layer, seen, tokenizer))
        for one in chosen
    ]


if __name__ == "__main__":
    main()
