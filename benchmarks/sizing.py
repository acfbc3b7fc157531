"""What fits of other sizes take: bytes and FLOPs counted, hours from measured rates.

Measures on this machine the steps of an autoencoder, second moments of sparse codes,
connectors and reading from disk, each at several sizes. A rule with as few rates as it
needs is set by the first sizes and must predict the last: by how far it fails stands in
the record. ``python benchmarks/sizing.py`` writes ``records/sizing.json`` and, from
that alone, ``docs/sizing.md`` (see `_sizing_page`); ``--page`` writes the page anew.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from _common import RECORDS, machine, write_record
from _sizing_page import CASES, ROWS_A_PASS, page, products, size_case, step_flops
from connector_wide import make_data
from sae_speed import Skfeat
from scipy.optimize import nnls

from skfeat import FeatureConnector
from skfeat.datasets import make_sparse_features
from skfeat.solvers.connector._lasso_wide import _SHARE
from skfeat.solvers.connector._statistics import GramStatistics
from skfeat.utils._rows import row_blocks

PAGE = Path(__file__).parents[1] / "docs" / "sizing.md"
N_ROUNDS = 8
# Active features of a row of codes; the penalty, in their share of all features, is
# that of connector_wide.py.
N_ACTIVE, ALPHA, TOL = 32, 0.02, 1e-6

# What the time of moments, and of a connector without them, is made of.
RULES = {"moments": ("products", "passes"), "wide": ("products", "pairs")}

# d, m, k, rows an epoch, epochs; then rows and width; the last of each is predicted.
FULL = {
    "step": [
        (64, 256, 8, 61_440),
        (512, 4096, 32, 8192),
        (768, 24_576, 32, 4096),
    ],
    "moments": [(50_000, 2048), (50_000, 4096), (100_000, 6144)],
    "solve": [(50_000, 1024), (50_000, 3072)],
    "wide": [(20_000, 12_288), (80_000, 12_288), (40_000, 24_576)],
    "disk bytes": 2**30,
}
SMOKE = {
    "step": [(16, 32, 4, 4096), (16, 64, 4, 4096), (32, 64, 4, 4096)],
    "moments": [(2000, 64), (3000, 64), (2000, 128)],
    "solve": [(2000, 40), (2000, 48)],
    "wide": [(40, 11_600), (80, 11_600), (60, 11_700)],
    "disk bytes": 2**22,
}


def seconds_of(function, *args):
    """Return the seconds of a call, and what it returns."""
    start = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - start, result


def measure_steps(sizes):
    """Time steps of 4096 rows at all sizes in turns; of each the fastest epoch.

    Other work on the machine only slows an epoch down, and slows all sizes in turns.
    """
    racers = []
    for d, m, k, n_rows in sizes:
        X, _, _ = make_sparse_features(
            n_rows, d, 2 * d, n_active=k, noise=0.1, random_state=0, dtype=np.float32
        )
        racers.append(Skfeat(X, m, k, 4096, "topk"))
        racers[-1].epoch()
    times = [[seconds_of(r.epoch)[0] for r in racers] for _ in range(N_ROUNDS)]
    rows = []
    for (d, m, k, n_rows), best in zip(sizes, np.min(times, axis=0), strict=True):
        flops = step_flops(d, m, k)
        rows.append(
            {
                "d": d,
                "m": m,
                "k": k,
                "rows a second": n_rows / best,
                "FLOPs a row": flops,
                "FLOPs a second": n_rows * flops / best,
            }
        )
    return rows


def connected(n_rows, width):
    """Draw codes of two layers, 32 features active in the first."""
    X, Y, _ = make_data(n_rows, width, N_ACTIVE)
    return X, Y, products(n_rows, N_ACTIVE, Y.nnz / n_rows)


def measure_moments(n_rows, width):
    """Time the second moments of the codes of two layers."""
    X, Y, n_products = connected(n_rows, width)
    add = GramStatistics.zeros(width, width).update
    seconds, _ = seconds_of(add, X, Y, np.ones(n_rows))
    sizes = {"rows": n_rows, "m": width}
    return {**sizes, "seconds": seconds, "products": n_products}


def measure_solve(n_rows, width):
    """Time the solution of a connector whose second moments are known."""
    X, Y, _ = connected(n_rows, width)
    moments = GramStatistics.zeros(width, width).update(X, Y, np.ones(n_rows))
    problem = moments.problem(fit_intercept=True)

    alpha = ALPHA * N_ACTIVE / width

    def solve():
        return problem.solve(alpha, np.zeros((width, width)), tol=TOL, max_iter=100)

    seconds, _ = seconds_of(solve)
    sizes = {"rows": n_rows, "m": width}
    return {**sizes, "seconds": seconds, "pairs a second": width**2 / seconds}


def measure_wide(n_rows, width):
    """Time a connector of layers too wide for a Gram matrix, from the codes on."""
    X, Y, n_products = connected(n_rows, width)
    connector = FeatureConnector(ALPHA * N_ACTIVE / width, link="identity", tol=TOL)
    seconds, _ = seconds_of(connector.fit, X, Y)
    sizes = {"rows": n_rows, "m": width}
    return {**sizes, "seconds": seconds, "products": n_products, "pairs": width**2}


def measure_disk(n_bytes):
    """Time reading rows of a mapped file that the system has let go of."""
    with tempfile.NamedTemporaryFile(suffix=".npy", dir=Path.cwd()) as file:
        rows = np.lib.format.open_memmap(
            file.name, mode="w+", dtype=np.float32, shape=(n_bytes // 2048, 512)
        )
        for start in range(0, len(rows), 4096):
            rows[start : start + 4096] = start
        rows.flush()
        del rows
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        X = np.load(file.name, mmap_mode="r")
        seconds, _ = seconds_of(
            lambda: sum(float(part.sum()) for _, part in row_blocks(X))
        )
    return {"bytes": n_bytes, "seconds": seconds, "bytes a second": n_bytes / seconds}


def check_rules(found):
    """Set each rule by the first sizes, and predict the last."""
    _, first, last = found["step"]
    rows_a_second = first["FLOPs a second"] / last["FLOPs a row"]
    errors = {"step": last["rows a second"] / rows_a_second - 1}
    first, last = found["solve"]
    errors["solve"] = last["pairs a second"] / first["pairs a second"] - 1
    costs = {}
    for name, terms in RULES.items():
        *known, last = [
            row | {"passes": row["rows"] * row["m"] ** 2 / ROWS_A_PASS}
            for row in found[name]
        ]
        costs[name] = cost_of_terms(known, terms)
        predicted = sum(cost * last[term] for term, cost in costs[name].items())
        errors[name] = predicted / last["seconds"] - 1
    return errors, costs


def cost_of_terms(rows, terms):
    """Return the seconds of a unit of each term that explain as many times."""
    matrix = np.array([[row[term] for term in terms] for row in rows], dtype=float)
    costs, _ = nnls(matrix, [row["seconds"] for row in rows])
    return dict(zip(terms, costs.tolist(), strict=True))


def measure(sizes):
    """Measure everything; return the record."""
    kinds = {"moments": measure_moments, "solve": measure_solve, "wide": measure_wide}
    found = {"step": measure_steps(sizes["step"])}
    print("step", found["step"], flush=True)
    for name, function in kinds.items():
        function(*sizes[name][0])  # compiles
        found[name] = []
        for size in sizes[name]:
            found[name].append(function(*size))
            print(name, found[name][-1], flush=True)
    found["disk"] = measure_disk(sizes["disk bytes"])
    print("disk", found["disk"])
    found["numbers of a share of outputs"] = _SHARE
    return conclude(found)


def conclude(found):
    """Add to what was measured what follows from it."""
    errors, costs = check_rules(found)
    found["predicted over measured, less one"] = errors
    # All that is extrapolated to is larger than anything measured: by the largest.
    found["rates"] = {
        "FLOPs a second": found["step"][-1]["FLOPs a second"],
        "pairs a second": found["solve"][-1]["pairs a second"],
        "seconds of moments": costs["moments"],
        "seconds without a Gram matrix": costs["wide"],
        "bytes a second from disk": found["disk"]["bytes a second"],
    }
    found["cases"] = [size_case(case, found) for case in CASES]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="tiny; writes nothing")
    parser.add_argument("--page", action="store_true", help="write the page anew")
    parser.add_argument("--steps", action="store_true", help="time steps alone anew")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.smoke:
        print(page({"machine": machine(), **measure(SMOKE)}))
        return
    path = RECORDS / "sizing.json"
    if not (arguments.page or arguments.steps):
        write_record("sizing", measure(FULL))
    record = json.loads(path.read_text(encoding="utf-8"))
    if arguments.steps:
        record["step"] = measure_steps(FULL["step"])
    record = conclude(record)
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    PAGE.write_text(page(record), encoding="utf-8")


if __name__ == "__main__":
    main()
