"""Which autoencoders find the features of a known world: SynthSAEBench in small.

A world of 2,048 features in 256 dimensions, in trees, correlated and as Zipf has it
(`make_feature_world`, the generator of SynthSAEBench). Autoencoders of 512 features,
with 25 and 20 active a row, see the same million rows, each once: every activation of
ours, and the trainers of SAELens with the settings that were published for them.
SAELens' own evaluation scores all of them, on rows that its own sampler draws from the
world:

- F1: of each feature found, as a classifier of the rows that the known feature of the
  nearest direction fires on; the mean over the features found;
- MCC: the mean cosine of known and found directions, paired one to one;
- the variance explained, active features, dead ones, uniqueness, shrinkage.

Absorption, of `skfeat.metrics`, is measured on the same rows. Three rows have no
dictionary: random directions with a trained encoder, an autoencoder before training,
and the codes of ours shuffled.

A trainer of SAELens gets several learning rates at the first seed and the first number
of active features; the one with the best F1 is kept for the others, which favours it. A
second world, with other trees, rates, magnitudes and directions, shows whether defaults
were fitted to the first.

``python benchmarks/synth_bench.py`` in the environment of ``requirements-peers.txt``
writes ``records/synth_bench.json`` after each fit and goes on from there; a part of it
says how many rows were trained on. ``--methods``, ``--seeds``, ``--active`` and
``--widths`` take some alone, and ``--rows 3000000 --widths 512 2048`` is the experiment
at full size, which takes days of a core. ``--show`` prints what the record has. Times
are seconds of the processor.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from dataclasses import dataclass, field

import numpy as np
from _common import keep, kept_of, mean_and_spread, print_table
from _lens_trainers import ARCHITECTURES, BATCH_SIZE, PREFIXES, train_lens
from _random_rows import (
    FROZEN,
    PERMUTED,
    UNTRAINED,
    FrozenDecoder,
    untrained,
)
from _world_judge import Frozen, Judge, Permuted, as_lens

from skfeat import SparseAutoencoder
from skfeat.datasets import make_feature_world

LENS = "SAELens "
# Ours, by name. The number of active features is added; at a wide start it is so many
# times as large.
OURS = {
    "skfeat matryoshka": {"activation": "batch_topk", "prefixes": True},
    "skfeat matryoshka, topk": {"activation": "topk", "prefixes": True},
    "skfeat matryoshka, wide start": {
        "activation": "batch_topk",
        "prefixes": True,
        "k_start": 8,
    },
    "skfeat batch_topk": {"activation": "batch_topk"},
    "skfeat batch_topk, wide start": {"activation": "batch_topk", "k_start": 8},
    "skfeat topk": {"activation": "topk"},
    "skfeat jumprelu": {"activation": "jumprelu"},
    "skfeat gated": {"activation": "gated"},
    "skfeat relu": {"activation": "relu"},
}
RANDOM = (FROZEN, UNTRAINED, PERMUTED)
METHODS = (*OURS, *(LENS + name for name in ARCHITECTURES), *RANDOM)
COLUMNS = ("F1", "precision", "recall", "MCC", "EV", "L0", "dead", "unique")
# Of SAELens' trainers: the published one and larger ones, for fewer rows.
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
_CHUNK = 100_000
# The law of the first is flatter than the published one, so that of as many features
# in all the most frequent quarter are as active: about 19 of 27 a row.
_WORLDS = {
    "first": {"frequency_exponent": 0.25},
    "second": {
        "frequency_exponent": 0.4,
        "rates": (0.3, 1e-3),
        "n_trees": 64,
        "n_children": (2, 5),
        "depth": 2,
        "exclusive": 0.7,
        "correlation_scale": 0.15,
        "magnitudes": (4.0, 2.0),
        "deviations": (0.3, 0.3),
        "n_orthogonal_steps": 0,
    },
}


@dataclass(frozen=True)
class Plan:
    """How large the experiment is."""

    n_components: int = 2048
    n_features: int = 256
    n_rows: int = 1_000_000
    n_test: int = 50_000
    n_absorption: int = 10_000
    world: dict = field(default_factory=lambda: dict(_WORLDS["first"]))


SMOKE = Plan(
    n_components=96,
    n_features=24,
    n_rows=4 * BATCH_SIZE,
    n_test=2_000,
    n_absorption=500,
    world={"n_trees": 8, "depth": 2},
)


@dataclass
class Case:
    """What one fit is to learn, and what it is judged on."""

    world: object
    X: np.ndarray
    judge: Judge
    m: int
    k: int
    seed: int
    fitted: dict = field(default_factory=dict)  # ours, by what was asked for


def train_ours(case, **options):
    """Fit ours, at its defaults but for what is given, on each row once."""
    if options.get("prefixes"):
        options["prefixes"] = [case.m // share for share in PREFIXES]
    if "k_start" in options:
        options = {**options, "k_start": options["k_start"] * case.k}
    penalised = options["activation"] in ("relu", "jumprelu", "gated")
    options["l0" if penalised else "k"] = case.k
    given = {"max_iter": 1, "random_state": case.seed, **options}
    key = case.m, str(given)
    if key not in case.fitted:
        case.fitted[key] = as_lens(SparseAutoencoder(case.m, **given).fit(case.X))
    return case.fitted[key]


def train(method, case, rate):
    """Return what a method trains to, as SAELens has it."""
    if method in OURS:
        return train_ours(case, **OURS[method])
    if method == FROZEN:
        return Frozen(FrozenDecoder(case.m, case.k, case.seed).fit(case.X))
    if method == UNTRAINED:
        return as_lens(untrained(case.X, case.m, case.k, case.seed))
    if method == PERMUTED:
        trained = train_ours(case, activation="batch_topk")
        return Permuted(trained, case.seed)
    name = method.removeprefix(LENS)
    return train_lens(name, case.X, case.m, case.k, rate, case.seed)


def run(method, case, rate=None):
    """Train and judge; return a row."""
    begin = time.process_time()
    sae = train(method, case, rate)
    seconds = time.process_time() - begin
    return {
        "method": method,
        "width": case.m,
        "active": case.k,
        "seed": case.seed,
        "rate": rate,
        **case.judge.figures(sae),
        "seconds": seconds,
    }


def best_rate(rows, method, width):
    """Return the rate of a trainer with the best F1 where several were tried."""
    tried = [row for row in rows if (row["method"], row["width"]) == (method, width)]
    if not tried:
        return None
    first = [row for row in tried if _place(row) == _place(tried[0])]
    return max(first, key=lambda row: row["F1"])["rate"]


def _place(row):
    return row["seed"], row["active"]


def rates_of(method, width, place, rates, rows):
    """Return the rates to try at a seed and number active: all at the first of them."""
    if not method.startswith(LENS):
        return (None,)
    tried = [row for row in rows if (row["method"], row["width"]) == (method, width)]
    if not tried or _place(tried[0]) == place:
        return rates
    return (best_rate(rows, method, width),)


def _key(row):
    return tuple(row[name] for name in ("method", "width", "active", "seed", "rate"))


def run_seed(plan, seed, sizes, methods, rates, rows, keep):
    """Add the rows of a seed that are not there yet, calling `keep` after each."""
    done = {_key(row) for row in rows}
    case = None
    for width, active in sizes:
        for method in methods:
            for rate in rates_of(method, width, (seed, active), rates, rows):
                if (method, width, active, seed, rate) in done:
                    continue
                if case is None:
                    world, X = draw(plan, seed)
                    case = Case(world, X, Judge(world, plan, seed), 0, 0, seed)
                case.m, case.k = width, active
                rows.append(run(method, case, rate))
                keep(rows)


def draw(plan, seed):
    """Return a world and rows of it."""
    world = make_feature_world(
        plan.n_components, plan.n_features, random_state=seed, **plan.world
    )
    X = np.empty((plan.n_rows, plan.n_features), dtype=np.float32)
    rng = np.random.RandomState(seed)
    # The codes of all rows at once would take as much memory again.
    for begin in range(0, plan.n_rows, _CHUNK):
        part = X[begin : begin + _CHUNK]
        part[:] = world.sample(len(part), rng)[0]
    return world, X


def print_rows(rows):
    """Print means and spreads over seeds, of each trainer at its best rate."""
    groups = {}
    for row in rows:
        if row["rate"] == best_rate(rows, row["method"], row["width"]):
            groups.setdefault(_key(row)[:3], []).append(row)
    table = []
    for (method, width, active), group in groups.items():
        line = {"width": width, "active": active, "method": method}
        line |= {"rate": group[0]["rate"], "seeds": len(group)}
        for name in (*COLUMNS, "shrinkage", "absorption", "seconds"):
            values = [row[name] for row in group]
            shown = name in ("F1", "MCC", "EV")
            line[name] = mean_and_spread(values) if shown else float(np.mean(values))
        table.append(line)
    table.sort(key=lambda line: (line["width"], line["active"]))
    if table:
        print_table(table, list(table[0]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", nargs="*", type=int, default=range(5))
    parser.add_argument("--rows", type=int, default=Plan.n_rows, help="to train on")
    parser.add_argument("--world", choices=[*_WORLDS], default="first")
    parser.add_argument("--widths", nargs="*", type=int, default=(512,))
    parser.add_argument("--active", nargs="*", type=int, default=(25, 20))
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=METHODS)
    parser.add_argument("--rates", nargs="*", type=float, default=RATES)
    parser.add_argument("--show", action="store_true", help="print the record alone")
    parser.add_argument("--smoke", action="store_true", help="tiny, without a record")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.smoke:
        rows = []
        run_seed(SMOKE, 0, [(32, 4)], options.methods, (1e-3,), rows, lambda rows: None)
        print_rows(rows)
        return
    plan = Plan(n_rows=options.rows, world=_WORLDS[options.world])
    part = f"{options.world} world, {plan.n_rows:,} rows"
    rows = kept_of("synth_bench", part, plan, "rows")
    sizes = [(m, k) for m in options.widths for k in options.active]

    def keep_rows(rows):
        keep("synth_bench", part, plan, "rows", rows)
        print(json.dumps(rows[-1]), flush=True)

    for seed in () if options.show else options.seeds:
        run_seed(
            plan, seed, sizes, options.methods, tuple(options.rates), rows, keep_rows
        )
    print(part)
    print_rows(rows)


if __name__ == "__main__":
    main()
