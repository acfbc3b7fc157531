"""One fit on one process and on two, of one thread each.

Strong scaling: the same fit on both. Weak scaling: each process brings as much work as
the one had: batches of twice as many rows (``distribute="rows"``), twice as many
features (``distribute="features"``), or twice as many rows for a Gram matrix. The
processes are started by torchrun and exchange sums by gloo. Runs of one and of two
processes take turns; medians of the seconds, and their efficiency: the share of the
time of ideal scaling.

``python benchmarks/process_scaling.py`` writes ``records/process_scaling.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch.distributed as dist
from _common import print_table, write_record

from skfeat import FeatureConnector, SparseAutoencoder

HERE = Path(__file__).resolve()


@dataclass(frozen=True)
class Case:
    """A fit to time, as one process does it; `grow` is what weak scaling doubles."""

    name: str
    distribute: str | None  # None: the Gram matrix of a connector
    n_rows: int
    n_features: int
    n_components: int
    batch_size: int
    grow: str


CASES = [
    Case("rows, 64 -> 256", "rows", 40_960, 64, 256, 2048, "batch_size"),
    Case("rows, 512 -> 4096", "rows", 16_384, 512, 4096, 2048, "batch_size"),
    Case("features, 512 -> 4096", "features", 8192, 512, 4096, 2048, "n_components"),
    Case("Gram matrix, 1024 x 1024", None, 32_768, 1024, 1024, 0, "n_rows"),
]
SMOKE = [
    Case("rows", "rows", 512, 8, 16, 64, "batch_size"),
    Case("features", "features", 512, 8, 16, 64, "n_components"),
    Case("Gram matrix", None, 512, 8, 16, 0, "n_rows"),
]


def grown(case: Case) -> Case:
    """Return the case with twice the work."""
    larger = {case.grow: 2 * getattr(case, case.grow)}
    if case.grow == "batch_size":
        # As many updates, of twice the rows.
        larger["n_rows"] = 2 * case.n_rows
    return Case(**vars(case) | larger)


def make(case: Case):
    """Return an estimator and what it is fitted to."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((case.n_rows, case.n_features), dtype=np.float32)
    if case.distribute is None:
        # As codes of features are: few are active.
        X *= X > 1.5
        Y = X @ rng.standard_normal(
            (case.n_features, case.n_components), dtype=np.float32
        )
        # With so large a penalty all weights are zero: what is left is the Gram matrix.
        return FeatureConnector(link="identity", alpha=1e3, refit=False), (X, Y)
    sae = SparseAutoencoder(
        case.n_components,
        k=min(32, case.n_components // 4),
        max_iter=1,
        batch_size=case.batch_size,
        distribute=case.distribute,
        random_state=0,
    )
    return sae, (X,)


def seconds_of(case: Case) -> float:
    """Time one fit, from when all processes are ready."""
    estimator, data = make(case)
    if dist.is_initialized():
        dist.barrier()
    start = time.perf_counter()
    estimator.fit(*data)
    return time.perf_counter() - start


def work(cases, rounds) -> None:
    """Time all cases in this process; the first one prints what it took."""
    warnings.simplefilter("ignore")  # one epoch is one too few
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several:
        dist.init_process_group("gloo")
    found = {}
    for case in cases:
        for how, each in (("strong", case), ("weak", grown(case))):
            if how == "weak" and not several:
                continue
            times = [seconds_of(each) for _ in range(rounds + 1)]
            found[f"{case.name}, {how}"] = times[1:]  # the first one compiles
    if several:
        dist.destroy_process_group()
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(found))


def start(n_processes, *, smoke, rounds):
    """Run `work` under torchrun and return what it found."""
    launcher = [sys.executable]
    if n_processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone"]
        launcher += [f"--nproc-per-node={n_processes}"]
    done = subprocess.run(
        [*launcher, str(HERE), "--work", f"--rounds={rounds}"] + ["--smoke"] * smoke,
        env=os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3, help="fits a turn")
    parser.add_argument("--smoke", action="store_true", help="tiny, without a record")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cases = SMOKE if options.smoke else CASES
    if options.work:
        work(cases, options.rounds)
        return
    found: dict[str, list[float]] = {}
    for _ in range(1 if options.smoke else options.turns):
        for n_processes in (1, 2):
            times = start(n_processes, smoke=options.smoke, rounds=options.rounds)
            for name, more in times.items():
                found.setdefault(f"{name}, {n_processes}", []).extend(more)
    rows = []
    for case in cases:
        one, strong, weak = (
            statistics.median(found[f"{case.name}, {how}"])
            for how in ("strong, 1", "strong, 2", "weak, 2")
        )
        rows.append(
            {
                "fit": case.name,
                "one process, s": one,
                "two, same work, s": strong,
                "strong efficiency": one / strong / 2,
                "two, twice the work, s": weak,
                "weak efficiency": one / weak,
            }
        )
    print_table(rows, list(rows[0]))
    if not options.smoke:
        record = {"cases": [vars(case) for case in cases], "results": rows}
        write_record("process_scaling", {**record, "seconds": found})


if __name__ == "__main__":
    main()
