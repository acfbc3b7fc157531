"""Sparse probing: how well one or sixteen features tell the label of a text.

113 data sets of labelled texts and the middle layer of a small language model, see
`_probing_data.py`. Every representation is fitted to the same rows, one a token,
without labels; a text is the mean over its tokens. For each data set `sparse_probe`
chooses the 1 or 16 features that say most of the label on the training part and scores
a logistic regression on the part held out (area under the ROC curve, three folds).
Compared are

- the coordinates of the layer, and the neurons of its MLP;
- principal components, and a nonnegative factorisation of the texts' positive and
  negative parts;
- autoencoders of equal width and number of active features: ours at its defaults, and
  four other libraries', each at the better of two rates by the variance it leaves
  unexplained;
- three without a dictionary: random directions with a trained encoder, an autoencoder
  before training, and codes of ours shuffled.

All coordinates at once say how much there is to know. "rank" is the mean over data sets
of the place among all others, 1 being the best. Autoencoders are trained from `--seeds`
seeds: their figures are means over these, ± the standard deviation, and ranks are taken
seed by seed. "behind" is the mean over data sets of what batch top-k of ours is ahead
by, ± its standard error over data sets, of scores averaged over seeds.

``python benchmarks/sparse_probing.py`` in the environment of
``requirements-peers.txt``, with the packages of `_probing_data.py`, writes
``records/sparse_probing.json``.
``--activations`` names the file that keeps what the language model gives.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from _common import print_table, read_record, write_record
from _peer_fits import RATES, train_at_best_rate, train_peer
from _peers import available_peers
from _probing_data import load_activations
from _random_rows import (
    FROZEN,
    PERMUTED,
    UNTRAINED,
    FrozenDecoder,
    permuted,
    untrained,
)
from scipy.stats import rankdata
from sklearn.decomposition import PCA, MiniBatchNMF

from skfeat import SparseAutoencoder
from skfeat.metrics import fvu, sparse_probe

TOPK, BATCH = "skfeat topk", "skfeat batch_topk"
OURS = {
    TOPK: {},
    BATCH: {"activation": "batch_topk"},
    "skfeat matryoshka": {"activation": "batch_topk", "prefixes": [48, 192]},
    "skfeat topk, k_start": {"k_start": 256},
}
ALL = "all coordinates"
COORDINATES, NEURONS, PRINCIPAL, NMF = "coordinates", "MLP neurons", "PCA", "NMF"
METHODS = (
    *(COORDINATES, NEURONS, PRINCIPAL, NMF),
    *OURS,
    *(name for name in RATES if name != "plain PyTorch"),
    *(FROZEN, UNTRAINED, PERMUTED),
)


@dataclass(frozen=True)
class Plan:
    """How large the experiment is."""

    n_each: int = 60  # texts of each class of each data set
    max_tokens: int = 64
    n_train: int = 60_000  # rows that representations are fitted to
    n_test: int = 5_000
    n_features: int = 768
    k: int = 32
    n_epochs: int = 2
    batch_size: int = 512
    ks: tuple = (1, 16)


class Representations:
    """What the texts are in each representation.

    Parameters
    ----------
    plan : Plan
    data : Activations
    """

    def __init__(self, plan, data):
        self.plan, self.data = plan, data
        self.coded = {}  # ours, which the shuffled codes are made of too
        self.rates = {}  # of the peers, the better of two with the first seed
        order = np.random.default_rng(0).permutation(len(data.tokens))
        train = order[: plan.n_train]
        test = order[plan.n_train : plan.n_train + plan.n_test]
        self.train = data.tokens[train].astype(np.float32)
        self.test = data.tokens[test].astype(np.float32)
        self.texts = data.pooled(lambda rows: rows, data.tokens.shape[1])

    def of(self, method, seed=0):
        """Return a representation of all texts, and the FVU of rows held out if any.

        The seed is that of autoencoders alone.
        """
        plan = self.plan
        if method == COORDINATES:
            return self.texts, None
        if method == NEURONS:
            return self.data.hidden, None
        if method == PRINCIPAL:
            # The mean over tokens of a linear map is the map of the mean.
            return PCA(random_state=0).fit(self.train).transform(self.texts), None
        if method == NMF:
            parts = np.hstack([np.maximum(self.texts, 0), np.maximum(-self.texts, 0)])
            nmf = MiniBatchNMF(64, random_state=0, max_iter=5)
            return nmf.fit_transform(parts), None
        if method == PERMUTED:
            return permuted(self.of(TOPK)[0], 0), None
        if method == FROZEN:
            fitted = FrozenDecoder(plan.n_features, plan.k, 0).fit(self.train)
            return self._coded(as_numpy(fitted.encode), as_numpy(fitted.decode))
        if method == UNTRAINED:
            part = untrained(self.train, plan.n_features, plan.k, 0, "topk")
            return self._coded(part.transform, part.inverse_transform)
        if method in RATES:
            return self._peer(method, seed)
        if (method, seed) in self.coded:
            return self.coded[method, seed]
        part = SparseAutoencoder(
            plan.n_features,
            k=plan.k,
            max_iter=plan.n_epochs,
            batch_size=plan.batch_size,
            random_state=seed,
            **OURS[method],
        ).fit(self.train)
        made = self._coded(part.transform, part.inverse_transform)
        self.coded[method, seed] = made
        return made

    def _peer(self, library, seed):
        plan = self.plan
        peer = next(one for one in available_peers() if one.name == library)
        about = plan.n_features, plan.k, (plan.n_epochs, plan.batch_size)
        if seed == 0:
            found = train_at_best_rate(peer, self.train, self.test, *about)
            self.rates[library], fitted = found
        else:
            fitted = train_peer(peer, self.rates[library], self.train, *about, seed)
        return self._coded(fitted.transform, fitted.inverse_transform)

    def _coded(self, encode, decode):
        left = fvu(self.test, decode(encode(self.test)))
        return self.data.pooled(encode, self.plan.n_features), left


def as_numpy(function):
    """Return a function of tensors as one of arrays."""
    return lambda rows: function(torch.from_numpy(rows)).detach().numpy()


def probe(texts, data, k):
    """Return the score of each data set."""
    return [
        sparse_probe(texts[members], labels, k, cv=3).score
        for members, labels in zip(data.members, data.labels, strict=True)
    ]


def table_of(runs, ks):
    """Return the figures of each representation.

    Parameters
    ----------
    runs : dict of list of dict
        For each representation the FVU and the scores of all data sets, a seed each.
    ks : sequence of int
    """
    names = [name for name in METHODS if name in runs]
    table = [
        {"of": name, "seeds": len(runs[name]), **spread_of("FVU", runs[name], "FVU")}
        for name in names
    ]
    for k in (f"k={k}" for k in ks):
        for line in table:
            line.update(spread_of(k, runs[line["of"]], f"AUC, {k}"))
        for line, rank in zip(
            table, ranks_of([runs[n] for n in names], k), strict=True
        ):
            line[f"rank, {k}"] = rank
        if BATCH in runs:
            for line in table:
                line.update(behind(runs[BATCH], runs[line["of"]], k))
    if ALL in runs:
        table.append({"of": ALL, "AUC, all": float(np.mean(runs[ALL][0]["all"]))})
    return table


def spread_of(key, runs, column):
    """Return the mean over seeds of the FVU or mean score, and its deviation."""
    if runs[0][key] is None:
        return {column: None}
    values = [np.mean(run[key]) for run in runs]
    found = {column: float(np.mean(values))}
    if len(values) > 1:
        found[f"{column} ±"] = float(np.std(values, ddof=1))
    return found


def ranks_of(runs, k):
    """Return the mean place of each representation, seed by seed among all others."""
    n_seeds = max(map(len, runs))
    places = []
    for seed in range(n_seeds):
        # What has no seed competes with each. Equal scores share their places.
        scores = np.array([own[seed % len(own)][k] for own in runs])
        places.append(rankdata(-scores, axis=0).mean(axis=1))
    return np.mean(places, axis=0).tolist()


def behind(first, other, k):
    """Return by how much `other` is behind, and the standard error over data sets."""
    ahead = np.subtract(
        *(np.mean([run[k] for run in of], axis=0) for of in (first, other))
    )
    error = ahead.std(ddof=1) / len(ahead) ** 0.5
    return {f"behind, {k}": float(ahead.mean()), f"behind, {k} ±": float(error)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--activations", type=Path, help="file of the model's rows")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=METHODS)
    parser.add_argument("--seeds", type=int, default=3, help="of each autoencoder")
    options = parser.parse_args()
    old = read_record("sparse_probing")
    runs, rates = old.get("runs", {}), old.get("rates", {})
    warnings.simplefilter("ignore")
    plan = Plan()
    with tempfile.TemporaryDirectory() as folder:
        path = options.activations or Path(folder) / "activations.npz"
        data = load_activations(path, plan.n_each, plan.max_tokens)
    made = Representations(plan, data)
    for method in options.methods:
        seeded = method in OURS or method in RATES
        own = []
        for seed in range(options.seeds if seeded else 1):
            begin = time.perf_counter()
            texts, left = made.of(method, seed)
            scores = {f"k={k}": probe(texts, data, k) for k in plan.ks}
            own.append({"FVU": left, **scores})
            means = {key: np.mean(values) for key, values in scores.items()}
            seconds = time.perf_counter() - begin
            told = {"of": method, "seed": seed, "FVU": left, **means}
            print(json.dumps({**told, "seconds": seconds}), flush=True)
        if method == COORDINATES:
            runs[ALL] = [{"all": probe(texts, data, texts.shape[1])}]
        runs[method] = own
        table = table_of(runs, plan.ks)
        record = {
            "table": table,
            "runs": runs,
            "rates": rates | made.rates,
            "data sets": data.names,
            "plan": asdict(plan),
        }
        write_record("sparse_probing", record)
    columns = {key: None for line in table for key in line}
    print_table(table, list(columns))


if __name__ == "__main__":
    main()
