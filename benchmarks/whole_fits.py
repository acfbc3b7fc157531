"""Seconds and memory of whole fits, as a person waits for them.

Each case is a process of its own, once *cold*, with empty folders for what numba and
torch keep of compiled code, and then *warm*, with what the cold run left there. Cases:
`make demo`, the README's example, and `FeatureUnwrapper` by its defaults at three more
sizes. Of the two larger ones, with 2,048 and 8,192 features a layer, a few updates are
made, and the whole fit is estimated from them. Of `make demo` the unwrapping counts by
itself, without the training of its own network.

``python benchmarks/whole_fits.py`` writes ``records/whole_fits.json``; with ``--before
FOLDER`` each case runs in turn with the skfeat of another checkout too. What
docs/benchmarks.md shows of the record, ``--page`` prints.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import psutil
from _common import RECORDS, load_mnist, print_table, read_record, train_mlp
from _common import write_record as write

ROOT = Path(__file__).parents[1]
MNIST = "MNIST, 64 units"
FIRST_USE = ("make demo", "README example")
# Rows, units and features of each of three layers, and the rows that are fitted.
ESTIMATED = {
    "60,000 x 784, 512 units": (60_000, 512, 2048, 16_384),
    "50,000 x 784, 2,048 units": (50_000, 2048, 8192, 1024),
}
TINY = (2_000, 12, 24, 1024)
CASES = (*FIRST_USE, MNIST, *ESTIMATED)


def program(case, checkout):
    """Return the arguments that run a case in a Python process."""
    if case == "make demo":
        return [str(checkout / "benchmarks" / "demo.py")]
    if case == "README example":
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        return ["-c", text.partition("```python\n")[2].partition("```")[0]]
    return [str(Path(__file__).resolve()), "--fit", case]


def fit(case, smoke):
    """Fit a case in this process; print what it scores, and its estimate, as JSON."""
    warnings.simplefilter("ignore")
    if case in ESTIMATED:
        if not smoke:
            compile_whatever_the_size()
        print(json.dumps(estimate(*(TINY if smoke else ESTIMATED[case]))))
        return
    from skfeat import FeatureUnwrapper

    X, y, X_test, y_test = load_mnist()
    model = train_mlp(X, y, hidden=(64, 64, 64), epochs=3, seed=0)
    start, cpu = time.perf_counter(), time.process_time()
    unwrapper = FeatureUnwrapper(model, random_state=0).fit(X)
    found = {
        "fit seconds": time.perf_counter() - start,
        "fit CPU seconds": time.process_time() - cpu,
    }
    report = unwrapper.report(X_test, y_test)
    found["points lost"] = 100 * (report["score_model"][-1] - report["score"][-1])
    found["FVU"] = report["fvu"][-1]
    print(json.dumps(found))


def compile_whatever_the_size():
    """Let few updates run the loops that only a whole fit would be worth compiling."""
    from skfeat.kernels._limits import LIMITS

    LIMITS.compiled_training = LIMITS.compiled_masked = LIMITS.compiled_removal = 0


def estimate(n_rows, n_units, n_features, n_some):
    """Estimate the seconds of a fit from a few updates of each of its parts."""
    from skfeat import FeatureUnwrapper, SparseAutoencoder
    from skfeat.autoencoder._setup import epochs_of
    from skfeat.solvers.joint._train import planned_epochs

    rng = np.random.default_rng(0)
    X = rng.random((n_some, 784), dtype=np.float32)
    y = X[:, :40].reshape(n_some, 10, 4).sum(axis=2).argmax(axis=1)
    model = train_mlp(X, y, hidden=(n_units,) * 3, epochs=1, seed=0)

    def seconds(n_first, n_together):
        """Return the seconds of a fit, and those of the processor."""
        autoencoder = SparseAutoencoder(n_features, max_iter=n_first)
        unwrapper = FeatureUnwrapper(
            model, autoencoder=autoencoder, max_iter=n_together, random_state=0
        )
        start = np.array([time.perf_counter(), time.process_time()])
        unwrapper.fit(X)
        return np.array([time.perf_counter(), time.process_time()]) - start

    seconds(1, 1)  # what is compiled is ready now
    base, first, together = seconds(1, 1), seconds(3, 1), seconds(1, 3)
    first, together = (np.maximum(s - base, 0) / 2 for s in (first, together))
    start = np.maximum(base - first - together, 0)
    first, together = (n_rows / n_some * s for s in (first, together))
    n_first = epochs_of(SparseAutoencoder(), n_rows)
    n_together = planned_epochs(n_rows, 512)
    whole = start + n_first * first + n_together * together
    return {
        "fit seconds": whole[0],
        "fit CPU seconds": whole[1],
        "CPU seconds of the start": start[1],
        "CPU seconds an epoch of all autoencoders": first[1],
        "CPU seconds an epoch together": together[1],
    }


def run(case, checkout, cache, smoke):
    """Run a case; return seconds, CPU seconds, peak bytes and what it printed."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout),
        "NUMBA_CACHE_DIR": str(cache / "numba"),
        "XDG_CACHE_HOME": str(cache / "xdg"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
    }
    options = ["--smoke"] if smoke and case not in FIRST_USE else []
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", *program(case, checkout), *options],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        peak = 0
        cpu = 0.0
        handle = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak = max(peak, handle.memory_info().rss)
                cpu = sum(handle.cpu_times()[:2])
            except psutil.Error:
                break
            time.sleep(0.05)
        out = process.communicate()[0]
        seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"{case} failed with status {process.returncode}")
    last = out.splitlines()[-1]
    printed = json.loads(last) if last.startswith("{") else {}
    if unwrapped := re.search(r"^Done in (\d+) seconds", out, re.MULTILINE):
        printed = {"fit seconds": int(unwrapped[1])}
    return {"seconds": seconds, "CPU seconds": cpu, "peak bytes": peak, **printed}


def measure(case, checkouts, smoke):
    """Run a case cold and warm with each checkout; yield rows of the table.

    What an estimate compiles does not count, so that it is made once.
    """
    with tempfile.TemporaryDirectory() as folder:
        for state in ("cold",) if case in ESTIMATED else ("cold", "warm"):
            for name, checkout in checkouts.items():
                found = run(case, checkout, Path(folder) / name, smoke)
                row = {"case": case, "skfeat": name, "caches": state, **found}
                print_table([row], ["case", "skfeat", "caches", "seconds"])
                yield row


def page_table(record):
    """Return the table of docs/benchmarks.md."""
    rows = record["rows"]
    versions = list(dict.fromkeys(row["skfeat"] for row in rows))
    heads = ["", "version", *["cold, s", "CPU s", "fit, s"]]
    heads += ["warm, s", "CPU s", "fit, s", "GiB"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for case in dict.fromkeys(row["case"] for row in rows):
        for version in versions:
            found = {
                row["caches"]: row
                for row in rows
                if (row["case"], row["skfeat"]) == (case, version)
            }
            if not found:
                continue
            cells = [case, version]
            for state in ("cold", "warm"):
                row = found.get(state, {})
                of_process = [row.get(key) for key in ("seconds", "CPU seconds")]
                if case in ESTIMATED:
                    of_process = [None, None]
                of_fit = row.get("fit CPU seconds", row.get("fit seconds"))
                cells += [
                    "" if number is None else f"{number:,.0f}"
                    for number in (*of_process, of_fit)
                ]
            peak = max(row["peak bytes"] for row in found.values())
            lines.append("| " + " | ".join([*cells, f"{peak / 2**30:.1f}"]) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="tiny; writes nothing")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--before", type=Path, help="a checkout to compare with")
    parser.add_argument("--page", action="store_true", help="print the page's table")
    parser.add_argument("--fit", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.page:
        record = json.loads((RECORDS / "whole_fits.json").read_text(encoding="utf-8"))
        print(page_table(record))
        return
    if arguments.fit:
        fit(arguments.fit, arguments.smoke)
        return
    checkouts = {"now": ROOT}
    if arguments.before:
        checkouts = {"before": arguments.before.resolve(), **checkouts}
    cases = [*ESTIMATED][:1] if arguments.smoke else arguments.cases
    for case in cases:
        for found in measure(case, checkouts, arguments.smoke):
            if not arguments.smoke:
                kept = read_record("whole_fits").get("rows", [])
                about = {key: found[key] for key in ("case", "skfeat", "caches")}
                rows = [row for row in kept if not about.items() <= row.items()]
                rows.append(found)
                rows.sort(key=lambda row: CASES.index(row["case"]))
                write("whole_fits", {"rows": rows})


if __name__ == "__main__":
    main()
