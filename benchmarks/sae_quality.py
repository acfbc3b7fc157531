"""Quality of sparse autoencoders at equal k, rows and epochs, beside other libraries.

Data: the pixels of scikit-learn's digits, the three hidden layers of an MLP on MNIST,
and sparse combinations of known directions, with and without a large constant offset.
Everything is measured on rows that were not trained on, but for dead features, which
fire for no *training* row. Three rows of each table have no dictionary, with one seed:
random directions with a trained encoder, an autoencoder before training, and the codes
of ours shuffled. A peer trains at its library's own learning rate and at
`RATES`; the one that does best on held-out rows with the first seed is kept, which
favours it.

``python benchmarks/sae_quality.py`` in the environment of ``requirements-peers.txt``
writes ``records/sae_quality.json`` after each data set, replacing its rows there;
``--data`` takes the names of some data sets alone, ``--random`` replaces the random
rows alone.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from functools import partial

import numpy as np
import torch
from _common import (
    load_mnist,
    mean_and_spread,
    print_table,
    read_record,
    train_mlp,
    write_record,
)
from _peer_fits import train_peer
from _peers import available_peers
from _random_rows import (
    FROZEN,
    PERMUTED,
    UNTRAINED,
    FrozenDecoder,
    permuted,
    untrained,
)
from article_figures import hidden_activations
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skfeat import SparseAutoencoder
from skfeat.datasets import make_sparse_features
from skfeat.metrics import fvu, l0, matching_coefficient

RATES = (1e-3, 3e-3)
RANDOM = (FROZEN, UNTRAINED, PERMUTED)
EPOCHS, BATCH_SIZE = 12, 512
# Digits have few rows: as many updates take more epochs of smaller batches.
DIGITS_EPOCHS, DIGITS_BATCH_SIZE = 120, 128
N_TRAIN, N_TEST = 60_000, 10_000

# Ours beyond top-k, at the same number of active features on average.
OTHERS = {
    "batch_topk": {"activation": "batch_topk"},
    "matryoshka": {"prefixes": [32, 96]},
    "relu": {"activation": "relu", "l0": 8},
    "jumprelu": {"activation": "jumprelu", "l0": 8},
    "gated": {"activation": "gated", "l0": 8},
    "topk, ignore dead": {"dead_features": "ignore"},
    "topk, resample": {"dead_features": "resample"},
    "topk, tied": {"tied": True},
    "topk, float64": {"precision": "float64"},
}


def data_sets():
    """Yield name, training rows, test rows, known dictionary, m, k and schedule."""
    digits = load_digits().data.astype(np.float32)
    train, test = train_test_split(digits, test_size=0.25, random_state=0)
    yield "digits", train, test, None, 128, 8, (DIGITS_EPOCHS, DIGITS_BATCH_SIZE)
    schedule = EPOCHS, BATCH_SIZE
    X, y, X_test, _ = load_mnist()
    model = train_mlp(X, y, seed=0)
    layers = zip(
        hidden_activations(model, X), hidden_activations(model, X_test), strict=True
    )
    for i, (train, test) in enumerate(layers, start=1):
        yield f"MNIST layer {i}", train, test, None, 256, 8, schedule
    for offset in (0.0, 5.0):
        rows, _, dictionary = make_sparse_features(
            N_TRAIN + N_TEST,
            64,
            128,
            n_active=4,
            noise=0.05,
            offset=offset,
            random_state=0,
            dtype=np.float32,
        )
        name = "synthetic" if offset == 0 else f"synthetic, offset {offset:g}"
        yield name, rows[:N_TRAIN], rows[N_TRAIN:], dictionary, 128, 4, schedule


def train_ours(train, m, k, schedule, seed, **options):
    """Fit ours and return the functions that encode, decode and give directions."""
    sae = SparseAutoencoder(
        **{
            "n_components": m,
            "k": k,
            "max_iter": schedule[0],
            "batch_size": schedule[1],
            "n_iter_no_change": schedule[0],
            "random_state": seed,
            **options,
        }
    ).fit(train)
    return sae.transform, sae.inverse_transform, lambda: sae.components_


def train_theirs(peer, rate, train, m, k, schedule, seed):
    """Train a peer and return the same three functions."""
    fitted = train_peer(peer, rate, train, m, k, schedule, seed)
    return fitted.transform, fitted.inverse_transform, lambda: fitted.components_


def train_random(name, train, m, k, schedule, seed):
    """Make one of the random rows and return the same three functions."""
    if name == FROZEN:
        n_epochs, batch_size = schedule
        frozen = FrozenDecoder(m, k, seed, batch_size=batch_size).fit(train, n_epochs)
        return (
            lambda X: frozen.encode(torch.from_numpy(X)).numpy(),
            lambda F: frozen.decode(torch.from_numpy(F)).numpy(),
            frozen.directions.numpy,
        )
    if name == UNTRAINED:
        sae = untrained(train, m, k, seed, activation="topk")
        return sae.transform, sae.inverse_transform, lambda: sae.components_
    encode, decode, directions = train_ours(train, m, k, schedule, seed)
    return lambda X: permuted(encode(X), seed), decode, directions


def judge(train_it, train, test, dictionary):
    """Train and return the figures of one run."""
    encode, decode, directions = train_it()
    codes = encode(test)
    alive = np.zeros(codes.shape[1], dtype=bool)
    for part in np.array_split(train, 16):
        alive |= (encode(part) != 0).any(axis=0)
    figures = {
        "FVU": fvu(test, decode(codes)),
        "L0": l0(codes),
        "dead %": 100 * float(1 - alive.mean()),
    }
    if dictionary is not None:
        figures["matching"] = matching_coefficient(dictionary, directions())
    return figures


def _is_peer(row):
    own = row["library"].startswith("skfeat")
    return not own and row["library"] not in RANDOM


def summarise(name, data, runs, **more):
    """Make one row of the table."""
    row = {"data": data, "library": name, **more}
    for key in runs[0]:
        values = [run[key] for run in runs]
        if key in ("FVU", "matching"):
            row[key] = mean_and_spread(values)
        else:
            row[key] = statistics.fmean(values)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", nargs="*", help="names of data sets; default: all")
    parser.add_argument("--ours", action="store_true", help="keep the peers' rows")
    parser.add_argument("--random", action="store_true", help="keep all other rows")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = read_record("sae_quality").get("table", [])
    for data, train, test, dictionary, m, k, schedule in data_sets():
        if arguments.data and data not in arguments.data:
            continue
        about = train, test, dictionary
        table = []

        def ours(seed, _train=train, _m=m, _k=k, _schedule=schedule, **options):
            if "l0" in options:
                options["l0"] = _k
            if "prefixes" in options:
                options["prefixes"] = [_m // 8, _m // 3]
            return lambda: train_ours(_train, _m, _k, _schedule, seed, **options)

        of_data = [row for row in rows if row["data"] == data]
        if arguments.random:
            table += [row for row in of_data if row["library"] not in RANDOM]
        else:
            runs = [judge(ours(seed), *about) for seed in range(arguments.seeds)]
            table.append(summarise("skfeat topk", data, runs))
        if arguments.ours:
            table += [row for row in of_data if _is_peer(row)]
        keeps_peers = arguments.ours or arguments.random
        for peer in [] if keeps_peers else available_peers():
            # Signs do not move at the rates of Adam.
            rates = (None,) if peer.name == "sparsify" else (None, *RATES)

            about_run = train, m, k, schedule

            def theirs(rate, seed, _peer=peer, _about=about_run):
                return lambda: train_theirs(_peer, rate, *_about, seed)

            first = {rate: judge(theirs(rate, 0), *about) for rate in rates}
            rate = min(first, key=lambda rate, _f=first: _f[rate]["FVU"])
            others = range(1, arguments.seeds)
            runs = [first[rate], *(judge(theirs(rate, s), *about) for s in others)]
            chosen = "own" if rate is None else f"{rate:g}"
            table.append(summarise(peer.name, data, runs, rate=chosen))
        for name, options in () if arguments.random else OTHERS.items():
            run = judge(ours(0, **options), *about)
            table.append(summarise(f"skfeat {name}", data, [run]))
        for name in RANDOM:
            made = partial(train_random, name, train, m, k, schedule, 0)
            table.append(summarise(name, data, [judge(made, *about)]))
        keys = ["data", "library", "rate", "FVU", "L0", "dead %", "matching"]
        print_table(table, keys)
        print(flush=True)
        rows = [row for row in rows if row["data"] != data] + table
        schedules = {
            "epochs": EPOCHS,
            "batch": BATCH_SIZE,
            "digits": {"epochs": DIGITS_EPOCHS, "batch": DIGITS_BATCH_SIZE},
        }
        write_record("sae_quality", {**schedules, "table": rows})


if __name__ == "__main__":
    main()
