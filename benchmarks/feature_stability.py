"""Whether another seed finds the same features: single fits and ensembles.

Ten fits of an autoencoder that differ in their seed, on each of three data sets: the
pixels of scikit-learn's digits, a hidden layer of an MLP on MNIST, and rows of a world
of known features (`make_feature_world`). Directions of two fits are paired one to one;
the stability is their mean cosine. Measured are

- single fits, over all 45 pairs: top-k, in the world a start with more active features
  too (`k_start`), and autoencoders before training, which say what pairing finds in
  random directions;
- those features of a fit that recur in others, as `FeatureEnsemble` of five of the fits
  keeps them. The ten are split into two fives in several ways, and what the two keep is
  compared; a feature without a partner counts as 0;
- fits to other rows: each sees rows drawn anew from the same ones, with replacement.
  Beside them stand principal components of such rows, each with both signs, of which a
  row gets the largest;
- top-k autoencoders of other libraries, in as many updates of as many rows: fits that
  differ in their seed, and fits to rows drawn anew. Each library has the better of two
  learning rates by the variance that its first seed leaves on the rows held out, which
  favours it.

Beside each stands the variance left unexplained on rows held out, for ensembles how
many features are kept, and for single fits how many of the features fire for no row of
training. Spreads (±) are standard deviations, over pairs or fits.

``python benchmarks/feature_stability.py`` writes ``records/feature_stability.json``
after each row; the other libraries want the environment of ``requirements-peers.txt``.
``--data`` takes the names of some data sets alone, ``--parts samples`` that part alone.
"""

from __future__ import annotations

import argparse
import itertools
import warnings
from dataclasses import asdict, dataclass

import numpy as np
from _common import load_mnist, print_table, read_record, train_mlp, write_record
from _peer_fits import RATES, train_at_best_rate, train_peer
from _peers import available_peers
from _random_rows import UNTRAINED, untrained
from article_figures import hidden_activations
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skfeat import SparseAutoencoder
from skfeat.autoencoder._ensemble import recurring
from skfeat.autoencoder._setup import epochs_of
from skfeat.datasets import make_feature_world
from skfeat.metrics import fvu, stability


@dataclass(frozen=True)
class Plan:
    """How large the experiment is."""

    n_seeds: int = 10
    n_splits: int = 5
    n_rows: int = 10_000
    n_test: int = 5_000
    mlp_epochs: int = 20
    epochs: int | str = "auto"
    min_support: float = 0.6
    thresholds: tuple = (0.7, 0.9)
    peers: tuple = tuple(RATES)


SMOKE = Plan(4, 1, 400, 200, 1, 2, 0.5, (0.3,))
WORLD = "feature world"
DRAWN = "rows drawn anew"
SIZES = {"digits": (128, 8), "MNIST layer 2": (128, 8), WORLD: (128, 8)}


def data_of(name, plan):
    """Return training and test rows."""
    if name == "digits":
        X = load_digits().data.astype(np.float32)
        return train_test_split(X, test_size=0.25, random_state=0)
    if name == WORLD:
        world = make_feature_world(128, 64, n_trees=16, random_state=0)
        rng = np.random.RandomState(0)
        return [
            world.sample(n, rng)[0].astype(np.float32)
            for n in (plan.n_rows, plan.n_test)
        ]
    X, y, X_test, _ = load_mnist()
    model = train_mlp(
        X[: plan.n_rows], y[: plan.n_rows], epochs=plan.mlp_epochs, seed=0
    )
    parts = X[: plan.n_rows], X_test[: plan.n_test]
    return [hidden_activations(model, part)[1] for part in parts]


COLUMNS = (
    *("data", "of", "rate", "seeds", "features", "dead"),
    *("stability", "stability ±", "FVU", "FVU ±"),
)


def kept_of(fits, plan, threshold):
    """Return the fit that an ensemble of these keeps, and which of its features."""
    found = recurring(fits, threshold)
    kept = np.flatnonzero(found.support >= plan.min_support * len(fits) - 1e-9)
    return fits[found.reference], kept


class SignedComponents:
    """Principal components, each with both signs; a row gets the k largest codes."""

    def __init__(self, m, k):
        self.m, self.k = m, k

    def fit(self, X):
        """Find the components of rows."""
        self.pca = PCA(self.m // 2, svd_solver="full").fit(X)
        axes = self.pca.components_
        self.components_ = np.concatenate([axes, -axes])
        return self

    def transform(self, X):
        """Return codes (n, m)."""
        codes = (X - self.pca.mean_) @ self.components_.T
        least = np.partition(codes, -self.k, axis=1)[:, [-self.k]]
        return np.where(codes >= least, codes, 0)

    def inverse_transform(self, codes):
        """Return the rows that codes stand for."""
        return codes @ self.components_ + self.pca.mean_


def single_rows(name, fits, train, test):
    """Return the figures of single fits."""
    pairs = itertools.combinations(fits, 2)
    agreed = [stability(a.components_, b.components_) for a, b in pairs]
    left = [fvu(test, fit.inverse_transform(fit.transform(test))) for fit in fits]
    silent = [(fit.transform(train) == 0).all(axis=0).sum() for fit in fits]
    return {
        "of": name,
        "seeds": len(fits),
        "features": len(fits[0].components_),
        "dead": float(np.mean(silent)),
        "stability": float(np.mean(agreed)),
        "stability ±": float(np.std(agreed, ddof=1)),
        "FVU": float(np.mean(left)),
        "FVU ±": float(np.std(left, ddof=1)),
    }


def ensemble_rows(name, fits, test, plan, threshold):
    """Return the figures of ensembles of half of the fits each."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(plan.n_splits):
        halves = np.array_split(rng.permutation(len(fits)), 2)
        both = [kept_of([fits[i] for i in half], plan, threshold) for half in halves]
        if not all(len(kept) for _, kept in both):
            return None
        directions = [fit.components_[kept] for fit, kept in both]
        found.append(
            {
                "features": np.mean([len(kept) for _, kept in both]),
                "stability": stability(*directions),
                "FVU": np.mean([left_by(fit, kept, test) for fit, kept in both]),
            }
        )
    means = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
    return {"of": f"{name}, recurring at {threshold:g}", **means}


def left_by(fit, kept, test):
    """Return the FVU of a fit with some of its features alone."""
    codes = fit.transform(test)
    part = np.zeros_like(codes)
    part[:, kept] = codes[:, kept]
    return fvu(test, fit.inverse_transform(part))


def rows_of_seeds(data, train, test, plan):
    """Yield the figures of fits that differ in their seed."""
    m, k = SIZES[data]
    ways = {"topk": {}}
    if data == WORLD:
        ways[f"topk, k_start={8 * k}"] = {"k_start": 8 * k}
    for name, options in ways.items():
        fits = [
            ours(m, k, plan, seed, **options).fit(train) for seed in range(plan.n_seeds)
        ]
        yield single_rows(name, fits, train, test)
        for threshold in plan.thresholds:
            row = ensemble_rows(name, fits, test, plan, threshold)
            if row is not None:
                yield row
    starts = [untrained(train, m, k, seed, "topk") for seed in range(plan.n_seeds)]
    yield single_rows(UNTRAINED, starts, train, test)


def rows_of_samples(data, train, test, plan):
    """Yield the figures of fits that see other rows each."""
    m, k = SIZES[data]
    samples = [drawn_anew(train, seed) for seed in range(plan.n_seeds)]
    fits = [ours(m, k, plan, seed).fit(rows) for seed, rows in enumerate(samples)]
    yield single_rows(f"topk, {DRAWN}", fits, train, test)
    axes = [SignedComponents(m, k).fit(rows) for rows in samples]
    yield single_rows(f"principal components, {DRAWN}", axes, train, test)


def rows_of_peers(data, train, test, plan):
    """Yield the figures of other libraries' fits that differ in their seed."""
    about = about_peers(data, train, plan)
    for peer in peers_of(plan):
        rate, first = train_at_best_rate(peer, train, test, *about)
        others = [
            train_peer(peer, rate, train, *about, seed)
            for seed in range(1, plan.n_seeds)
        ]
        row = single_rows(peer.name, [first, *others], train, test)
        yield {**row, "rate": rate}


def rows_of_peers_samples(data, train, test, plan):
    """Yield the figures of other libraries' fits that see other rows each."""
    about = about_peers(data, train, plan)
    for peer in peers_of(plan):
        rate, _ = train_at_best_rate(peer, train, test, *about)
        fits = [
            train_peer(peer, rate, drawn_anew(train, seed), *about, seed)
            for seed in range(plan.n_seeds)
        ]
        row = single_rows(f"{peer.name}, {DRAWN}", fits, train, test)
        yield {**row, "rate": rate}


def peers_of(plan):
    """Return those of the plan's libraries that are installed; say which are not."""
    peers = [peer for peer in available_peers() if peer.name in plan.peers]
    missing = set(plan.peers) - {peer.name for peer in peers}
    if missing:
        print(f"Not installed, and not measured: {', '.join(sorted(missing))}.")
    return peers


def about_peers(data, train, plan):
    """Return width, active features, and a schedule of as many updates as ours has."""
    m, k = SIZES[data]
    example = ours(m, k, plan, 0)
    return m, k, (epochs_of(example, len(train)), example.batch_size)


def ours(m, k, plan, seed, **options):
    """Return one of our autoencoders, not yet fitted."""
    return SparseAutoencoder(m, k=k, max_iter=plan.epochs, random_state=seed, **options)


def drawn_anew(train, seed):
    """Return as many rows of these, drawn with replacement."""
    return train[np.random.RandomState(seed).randint(len(train), size=len(train))]


PARTS = {
    "seeds": rows_of_seeds,
    "peers": rows_of_peers,
    "samples": rows_of_samples,
    "peers-samples": rows_of_peers_samples,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", nargs="*", choices=[*SIZES], default=[*SIZES])
    parser.add_argument("--parts", nargs="*", choices=[*PARTS], default=[*PARTS])
    parser.add_argument("--seeds", type=int, default=Plan.n_seeds)
    parser.add_argument("--peers", nargs="*", choices=[*RATES], default=[*RATES])
    parser.add_argument("--smoke", action="store_true", help="tiny, without a record")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    plan = Plan(n_seeds=options.seeds, peers=tuple(options.peers))
    if options.smoke:
        plan = SMOKE
    # Rows name the libraries that this run and those before it have measured.
    run = {key: value for key, value in asdict(plan).items() if key != "peers"}
    table = [] if options.smoke else read_record("feature_stability").get("table", [])
    for data in options.data:
        train, test = data_of(data, plan)
        for part in options.parts:
            for row in PARTS[part](data, train, test, plan):
                row = {"data": data, **row}
                table = [old for old in table if not same(old, row)] + [row]
                if not options.smoke:
                    record = {"table": table, "run": run}
                    write_record("feature_stability", record)
        print_table([row for row in table if row["data"] == data], COLUMNS)
        print(flush=True)


def same(one, other):
    """Whether two rows are of the same data and method."""
    return all(one[key] == other[key] for key in ("data", "of"))


if __name__ == "__main__":
    main()
