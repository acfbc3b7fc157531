"""Time of fitting a connector, beside libraries for the Lasso and beside Adam.

Data: sparse non-negative features, and others that a few of them make up. Identity
link: every contestant solves the same Lasso, each at the loosest tolerance of its own
at which its objective is within 1e-4 of the optimum, which an independent duality gap
vouches for. ReLU link: ours is done when it is done; Adam goes on for the time given,
and its objective is noted on the way. Contestants take turns in each round; medians
over rounds.

``python benchmarks/connector_speed.py``, in the environment of
``requirements-peers.txt``, writes ``records/connector_speed.json``; ``--size`` and
``--link`` run parts of it, which replace theirs in the record.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from _common import print_table, read_record, write_record
from _connector_peers import Adam, available_lassos
from _connector_problem import Moments, describe, judge, make_data
from scipy import sparse

from skfeat import FeatureConnector

# Of the smallest alpha without weights; leaves about 1 % of the weights.
ALPHA_SHARE, N_ALPHAS = 0.01, 30
CLOSE_ENOUGH, TINY_TOL = 1e-4, 1e-10
TOLS = 10.0 ** -np.arange(1, 12.5, 0.5)
RATES = (1e-3, 3e-3, 1e-2)
CHECKPOINTS = (0.03, 0.1, 0.3, 0.6, 1.0)
# Beside the default: how soon ours is where others end.
ROUGH_TOLS = (0.1, 0.01, 0.001)


@dataclass(frozen=True)
class Size:
    """How large a problem is, and how long it may take."""

    n_features: int  # of both layers
    n_rows: int
    n_test: int
    n_outputs: int  # of those that go output by output; all are in proportion
    n_rounds: int
    adam_batch: int
    adam_seconds: float  # identity link
    relu_seconds: float  # ReLU link: at least this long, and ten times ours ...
    relu_most: float  # ... but no longer than this
    batches: tuple = (256, 4096)
    rates: tuple = RATES


SIZES = {
    "small": Size(256, 60_000, 10_000, 256, 5, 256, 60, 30, 30),
    "large": Size(
        2048, 100_000, 10_000, 64, 2, 4096, 120, 30, 200, (4096,), (1e-3, 3e-3)
    ),
}
SMOKE = Size(16, 600, 200, 8, 1, 64, 0.2, 0.1, 0.1, (64,), (1e-2,))


class Ours:
    """FeatureConnector on the sparse matrices as they are."""

    name = "skfeat"
    samples = False

    def prepare(self, X, Y):
        """Store them: second moments are computed in each fit."""
        self.X, self.Y = X, Y

    def solve(self, alpha, tol):
        """Return the weights."""
        options = {"link": "identity", "refit": False, "random_state": 0}
        connector = FeatureConnector(alpha, tol=tol, **options)
        return connector.fit(self.X, self.Y).coef_.toarray()


def clock(function, *arguments):
    """Return the seconds a call takes, and its result."""
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def measure_identity(size):
    """Race to the optimum of the Lasso; return a record."""
    X, Y, _, _ = make_data(size.n_features, size.n_rows, size.n_test)
    moments = Moments(X, Y)
    alpha_max = np.abs(moments.yx).max()
    alpha = ALPHA_SHARE * alpha_max
    # Each gets the targets in the form it takes them in.
    ours, codes = Ours(), sparse.csr_array(Y)
    ours.prepare(X, codes)
    optimum = ours.solve(alpha, TINY_TOL)
    best = moments.objective(optimum, alpha)
    about = {
        **describe(X, Y, optimum, alpha),
        "optimum": best,
        "its duality gap, relative": moments.gap(optimum, alpha) / best,
    }
    print(*(f"{key}: {value:.4g}" for key, value in about.items()), sep=", ")

    def excess(coef):
        least = moments.objective(optimum[: len(coef)], alpha, len(coef))
        return moments.objective(coef, alpha, len(coef)) / least - 1

    # Searching also compiles what each library compiles.
    racers, tols = [ours, *available_lassos()], {}
    targets = {
        racer.name: Y[:, : size.n_outputs] if racer.samples else Y for racer in racers
    }
    targets[ours.name] = codes
    for racer in racers:
        racer.prepare(X, targets[racer.name])
        tols[racer.name] = _loosest(racer, alpha, excess)
    times, reached = {racer.name: [] for racer in racers}, {}
    for _ in range(size.n_rounds):
        for racer in racers:
            if tols[racer.name] is None:
                continue
            fixed, _ = clock(racer.prepare, X, targets[racer.name])
            seconds, coef = clock(racer.solve, alpha, tols[racer.name])
            reached[racer.name] = excess(coef)
            times[racer.name].append(fixed + seconds * Y.shape[1] / len(coef))
    baseline = statistics.median(times[ours.name] or [np.nan])
    rows = []
    for name, seconds in times.items():
        row = {"contestant": name, "tol": tols[name], "excess": reached.get(name)}
        if seconds:
            row["seconds"] = statistics.median(seconds)
            row["times ours"] = row["seconds"] / baseline
        n_outputs = targets[name].shape[1]
        if n_outputs < Y.shape[1]:
            row["how"] = f"measured on {n_outputs} of {Y.shape[1]} outputs"
        rows.append(row)
    rows.append(_identity_adam(size, X, Y, alpha, excess))
    print_table(rows, ["contestant", "tol", "excess", "seconds", "times ours", "how"])
    path = measure_path(size, ours, alpha_max, tols[ours.name] or TINY_TOL)
    return {**about, "rows": rows, "path": path}


def _loosest(racer, alpha, excess):
    for tol in TOLS:
        if excess(racer.solve(alpha, tol)) <= CLOSE_ENOUGH:
            return tol
    return None


def _identity_adam(size, X, Y, alpha, excess):
    adam = Adam(
        torch.from_numpy(X.toarray()),
        torch.from_numpy(Y),
        alpha,
        link="identity",
        batch_size=size.adam_batch,
    )
    ((seconds, epochs, weights),) = adam.train_for([size.adam_seconds])
    return {
        "contestant": f"Adam + L1, batch {size.adam_batch}",
        "excess": excess(weights[0]),
        "seconds": seconds,
        "how": f"stopped after {epochs:.0f} epochs",
    }


def measure_path(size, ours, alpha_max, tol):
    """Time a path, as sparse matrices, beside a solution at its smallest alpha."""
    alphas = alpha_max * np.geomspace(1, ALPHA_SHARE, N_ALPHAS)
    connector = FeatureConnector(link="identity", tol=tol)
    options = {"alphas": alphas, "sparse_output": True}
    times = []
    for _ in range(size.n_rounds):
        path, _ = clock(lambda: connector.connector_path(ours.X, ours.Y, **options))
        one, _ = clock(ours.solve, alphas[-1], tol)
        times.append((path, one))
    path, one = (statistics.median(seconds) for seconds in zip(*times, strict=True))
    print(f"A path of {N_ALPHAS}: {path:.3g} s, {path / one:.3g} times one solution\n")
    return {"alphas": N_ALPHAS, "seconds": path, "one": one, "ratio": path / one}


def measure_relu(size):
    """Let ours and Adam minimise the squared error behind a ReLU; return a record."""
    X, Y, X_test, Y_test = make_data(size.n_features, size.n_rows, size.n_test)
    alpha = ALPHA_SHARE * np.abs(Moments(X, Y).yx).max()
    train, test = (
        (torch.from_numpy(inputs.toarray()), torch.from_numpy(outputs))
        for inputs, outputs in ((X, Y), (X_test, Y_test))
    )
    targets = sparse.csr_array(Y)
    options = {"link": "relu", "refit": False, "random_state": 0}
    # The first one compiles what there is to compile.
    fits = [FeatureConnector(alpha, **options).fit(X, targets)]
    times = {tol: [] for tol in (*ROUGH_TOLS, None)}
    found = {}
    for _ in range(size.n_rounds):
        for tol, seconds in times.items():
            connector = FeatureConnector(alpha, **options)
            if tol is not None:
                connector.set_params(tol=tol)
            taken, found[tol] = clock(connector.fit, X, targets)
            seconds.append(taken)
        fits.append(found[None])
    rows = []
    for tol, fitted in found.items():
        figures = judge(fitted.coef_.toarray(), fitted.intercept_, train, test, alpha)
        name = "skfeat" if tol is None else f"skfeat, tol={tol:g}"
        ours = statistics.median(times[tol])
        rows.append({"contestant": name, "seconds": ours, **figures})
    coefs = [fitted.coef_.toarray() for fitted in fits]
    limit = min(max(size.relu_seconds, 10 * ours), size.relu_most)
    for proximal in (False, True):
        for batch in size.batches:
            for rate in size.rates:
                adam = Adam(
                    *train,
                    alpha,
                    rate=rate,
                    batch_size=batch,
                    proximal=proximal,
                )
                rows.append(_follow(adam, limit, test, figures["objective"]))
                rows[-1]["contestant"] = (
                    f"Adam, {'proximal' if proximal else 'L1 in the loss'}, "
                    f"batch {batch}, rate {rate:g}"
                )
    columns = ["contestant", "seconds", "objective", "R2", "exact zeros"]
    print_table(rows, [*columns, "seconds to 1 % of ours"])
    print(flush=True)
    same = all((coef == coefs[0]).all() for coef in coefs)
    return {**describe(X, Y, coefs[0], alpha), "ours repeats": same, "rows": rows}


def _follow(adam, limit, test, goal):
    curve = []
    for seconds, epochs, weights in adam.train_for([limit * c for c in CHECKPOINTS]):
        figures = judge(*weights, (adam.X, adam.Y), test, adam.alpha)
        curve.append({"seconds": seconds, "epochs": epochs, **figures})
    close = [c["seconds"] for c in curve if c["objective"] <= 1.01 * goal]
    # At a checkpoint: it may have been so earlier, since the one before.
    first = close[0] if close else None
    return {**curve[-1], "seconds to 1 % of ours": first, "curve": curve}


def measure_warm_up(links):
    """Time the first and the second fit of processes with and without numba's cache."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for link in links:
            environment = {**os.environ, "NUMBA_CACHE_DIR": str(Path(folder) / link)}
            for cache in ("empty", "filled"):
                done = subprocess.run(
                    [sys.executable, __file__, "--first-fit", link],
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=True,
                )
                first, second = map(float, done.stdout.split())
                row = {"link": link, "numba's cache": cache}
                rows.append({**row, "first fit": first, "second fit": second})
    print_table(rows, list(rows[0]))
    print(flush=True)
    return {link: [row for row in rows if row["link"] == link] for link in links}


def first_fit(link):
    """Print the seconds of the first and the second fit of this process."""
    X, Y, _, _ = make_data(256, 6_000, 0)
    connector = FeatureConnector(1e-4, link=link, refit=False, random_state=0)
    print(*(clock(connector.fit, X, sparse.csr_array(Y))[0] for _ in range(2)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=[*SIZES, "all"], default="all")
    parser.add_argument("--link", choices=["identity", "relu", "all"], default="all")
    parser.add_argument("--smoke", action="store_true", help="tiny, without a record")
    parser.add_argument("--first-fit", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.first_fit:
        return first_fit(options.first_fit)
    record = read_record("connector_speed")
    measures = {"identity": measure_identity, "relu": measure_relu}
    links = [link for link in measures if options.link in (link, "all")]
    record.setdefault("warm-up", {}).update(measure_warm_up(links))
    sizes = {"smoke": SMOKE} if options.smoke else SIZES
    for name, size in sizes.items():
        if not options.smoke and options.size not in (name, "all"):
            continue
        for link in links:
            print(f"{link} link, {name}", flush=True)
            part = {**measures[link](size), "run": asdict(size)}
            record.setdefault(link, {})[name] = part
            if not options.smoke:
                write_record("connector_speed", record)
    return None


if __name__ == "__main__":
    main()
