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
of the place among all others, 1 being the best.

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

TOPK = "skfeat topk"
OURS = {
    TOPK: {},
    "skfeat batch_topk": {"activation": "batch_topk"},
    "skfeat matryoshka": {"activation": "batch_topk", "prefixes": [48, 192]},
    "skfeat topk, k_start": {"k_start": 256},
}
# Learning rates of the others' top-k; the signs that sparsify descends by take larger.
PEERS = {
    "SAELens": (1e-3, 3e-3),
    "dictionary_learning": (1e-3, 3e-3),
    "overcomplete": (1e-3, 3e-3),
    "sparsify": (7e-3, 2e-2),
}
ALL = "all coordinates"
COORDINATES, NEURONS, PRINCIPAL, NMF = "coordinates", "MLP neurons", "PCA", "NMF"
METHODS = (
    *(COORDINATES, NEURONS, PRINCIPAL, NMF),
    *OURS,
    *PEERS,
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
        order = np.random.default_rng(0).permutation(len(data.tokens))
        train = order[: plan.n_train]
        test = order[plan.n_train : plan.n_train + plan.n_test]
        self.train = data.tokens[train].astype(np.float32)
        self.test = data.tokens[test].astype(np.float32)
        self.texts = data.pooled(lambda rows: rows, data.tokens.shape[1])

    def of(self, method):
        """Return a representation of all texts, and the FVU of rows held out if any."""
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
        if method in PEERS:
            fits = (self._peer(method, rate) for rate in PEERS[method])
            return min(fits, key=lambda fit: fit[1])
        if method in self.coded:
            return self.coded[method]
        part = SparseAutoencoder(
            plan.n_features,
            k=plan.k,
            max_iter=plan.n_epochs,
            batch_size=plan.batch_size,
            random_state=0,
            **OURS[method],
        ).fit(self.train)
        self.coded[method] = self._coded(part.transform, part.inverse_transform)
        return self.coded[method]

    def _peer(self, library, rate):
        from _peers import available_peers

        found = {peer.name: peer for peer in available_peers()}
        plan, rows = self.plan, torch.from_numpy(self.train)
        n_steps = plan.n_epochs * -(-len(rows) // plan.batch_size)
        shape = rows.shape[1], plan.n_features
        peer = found[library](*shape, k=plan.k, learning_rate=rate, n_steps=n_steps)
        peer.prepare(rows[:4096])
        for _ in range(plan.n_epochs):
            for part in torch.randperm(len(rows)).split(plan.batch_size):
                peer.step(rows[part])
        return self._coded(as_numpy(peer.encode), as_numpy(peer.decode))

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


def table_of(rows, ks):
    """Return mean scores, ranks, and how often each representation is the best."""
    names = [name for name in METHODS if name in rows]
    table = [{"of": name, "FVU": rows[name]["FVU"]} for name in names]
    for k in (f"k={k}" for k in ks):
        scores = np.array([rows[name][k] for name in names])
        # Equal scores share their places.
        places = rankdata(-scores, axis=0)
        for line, own, place in zip(table, scores, places, strict=True):
            line[f"AUC, {k}"] = float(own.mean())
            line[f"rank, {k}"] = float(place.mean())
            line[f"best, {k}"] = int((own == scores.max(axis=0)).sum())
    if ALL in rows:
        table.append({"of": ALL, "AUC, all": float(np.mean(rows[ALL]["all"]))})
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--activations", type=Path, help="file of the model's rows")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=METHODS)
    options = parser.parse_args()
    rows = read_record("sparse_probing").get("scores", {})
    warnings.simplefilter("ignore")
    plan = Plan()
    with tempfile.TemporaryDirectory() as folder:
        path = options.activations or Path(folder) / "activations.npz"
        data = load_activations(path, plan.n_each, plan.max_tokens)
    made = Representations(plan, data)
    for method in options.methods:
        begin = time.perf_counter()
        texts, left = made.of(method)
        rows[method] = {"FVU": left} | {
            f"k={k}": probe(texts, data, k) for k in plan.ks
        }
        if method == COORDINATES:
            rows[ALL] = {"all": probe(texts, data, texts.shape[1])}
        table = table_of(rows, plan.ks)
        record = {
            "table": table,
            "scores": rows,
            "data sets": data.names,
            "run": asdict(plan),
        }
        write_record("sparse_probing", record)
        means = {key: np.mean(rows[method][key]) for key in rows[method] if "k" in key}
        seconds = time.perf_counter() - begin
        print(
            json.dumps({"of": method, "FVU": left, **means, "seconds": seconds}),
            flush=True,
        )
    print_table(table, list(table[0]))


if __name__ == "__main__":
    main()
