"""Wall time of a whole training to the same held-out error, beside other libraries.

Each peer trains for twelve epochs on the first hidden layer of an MLP on MNIST, at the
rate that did best in ``sae_quality.py``; ours trains for ever more epochs, each a plan
of its own, and the shortest that explains the held-out rows as well as the peer is what
counts. Libraries take turns within each round; medians over rounds.

``python benchmarks/sae_time_to_quality.py`` in the environment of
``requirements-peers.txt`` writes ``records/sae_time_to_quality.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings

from _common import RECORDS, print_table, write_record
from _peers import available_peers
from sae_quality import EPOCHS, data_sets, train_ours, train_theirs

from skfeat.metrics import fvu

PLANS = (2, 3, 4, 6, 8, 12)
DATA = "MNIST layer 1"


def best_rate(library):
    """Return the learning rate that did best in the record of qualities."""
    table = json.loads((RECORDS / "sae_quality.json").read_text())["table"]
    rows = [r for r in table if (r["data"], r["library"]) == (DATA, library)]
    rate = rows[0]["rate"]
    return None if rate == "own" else float(rate)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    warnings.simplefilter("ignore")
    data = next(set_ for set_ in data_sets() if set_[0] == DATA)
    _, train, test, _, m, k, (_, batch_size) = data
    racers = {}
    for n_epochs in PLANS:
        plan = n_epochs, batch_size
        racers[f"skfeat, {n_epochs} epochs"] = lambda seed, plan=plan: train_ours(
            train, m, k, plan, seed
        )
    for peer in available_peers():
        about = peer, best_rate(peer.name), train, m, k, (EPOCHS, batch_size)
        racers[peer.name] = lambda seed, about=about: train_theirs(*about, seed)
    # What is compiled once a process is measured in sae_speed.py.
    train_ours(train[:4096], m, k, (2, batch_size), 0)
    seconds, errors = ({name: [] for name in racers} for _ in range(2))
    for seed in range(rounds):
        for name, racer in racers.items():
            start = time.perf_counter()
            encode, decode, _ = racer(seed)
            seconds[name].append(time.perf_counter() - start)
            errors[name].append(fvu(test, decode(encode(test))))
    table = []
    for name in racers:
        row = {"library": name, "seconds": statistics.median(seconds[name])}
        row["FVU"] = statistics.fmean(errors[name])
        if not name.startswith("skfeat"):
            enough = [
                statistics.median(seconds[ours])
                for ours in racers
                if ours.startswith("skfeat")
                and statistics.fmean(errors[ours]) <= row["FVU"]
            ]
            row["times ours to its FVU"] = row["seconds"] / min(enough, default=1e9)
        table.append(row)
    print_table(table, ["library", "seconds", "FVU", "times ours to its FVU"])
    write_record("sae_time_to_quality", {"data": DATA, "table": table})


if __name__ == "__main__":
    main()
