"""What an update of wide layers takes where all parts are trained together.

Three layers of rows of low rank have top-k autoencoders with random weights, two
connectors between them, and a third to ten outputs. Their start is timed, and then some
updates at several shares of a run of 1,500, with as many weights as are left there.
Seconds are those of the processor, on one thread.

``python benchmarks/wide_updates.py --before FOLDER`` runs the skfeat of another
checkout in turn, and writes ``records/wide_updates.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from _common import RECORDS, print_table
from _common import write_record as write

ROOT = Path(__file__).parents[1]
# Units and features of each layer, rows, and updates at each share of a run.
FULL, TINY = (1024, 4096, 2048, 8), (16, 32, 512, 2)
PLANNED, SHARES = 1500, (0.0, 0.2, 0.4, 0.69)


def network(d, m, n):
    """Return a problem of three layers."""
    from skfeat.activations import TopK
    from skfeat.solvers.joint._problem import Coder, Connection, Problem

    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape, dtype=np.float32)

    def coder():
        decoder = normal(m, d)
        decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
        zeros = np.zeros(m, np.float32), np.zeros(d, np.float32)
        return Coder(decoder.copy(), zeros[0], decoder, zeros[1], TopK(min(32, m // 4)))

    low = normal(n, 64)
    hidden = [
        np.maximum(low @ normal(64, d) / 8 + normal(n, d) / 10, 0) for _ in range(3)
    ]
    between = [Connection("relu", 4 * m)] * 2
    connections = [*between, Connection("identity", 80)]
    coders = [coder() for _ in range(3)]
    return Problem(hidden, coders, connections, outputs=low @ normal(64, 10))


def measure(d, m, n, n_updates):
    """Yield the rows of one checkout's table."""
    import torch

    from skfeat.kernels._threads import Team
    from skfeat.solvers.joint._learner import Learner
    from skfeat.solvers.joint._problem import JointSettings

    problem, device = network(d, m, n), torch.device("cpu")
    epochs = PLANNED * 512 // n
    settings = JointSettings(True, True, 0.1, False, epochs, 1e-4, 512, device, 0)
    process, peaks = psutil.Process(), [0]
    before = process.memory_info().rss

    def watch():
        while True:
            peaks[0] = max(peaks[0], process.memory_info().rss)
            time.sleep(0.01)

    threading.Thread(target=watch, daemon=True).start()
    with Team() as team:
        start = time.process_time()
        learner = Learner(problem, settings, team)
        seconds = time.process_time() - start
        yield {"part": "start", "seconds": seconds, "peak bytes": peaks[0] - before}
        peaks[0] = 0
        for share in SHARES:
            at = int(share * PLANNED) // 16 * 16
            learner.n_steps = at
            learner._prune(share)
            learner.step(np.arange(512), PLANNED)  # what is compiled is ready now
            learner.n_steps = at
            start = time.process_time()
            for number in range(n_updates):
                loss = learner.step((np.arange(512) + 512 * number) % n, PLANNED)
            yield {
                "part": f"an update at {share:.0%} of a run",
                "seconds": (time.process_time() - start) / n_updates,
                "peak bytes": peaks[0] - before,
                "weights": [int(pruner.mask.sum()) for pruner in learner.pruners],
                "loss": loss,
            }
        start = time.process_time()
        learner.finish()
        seconds = time.process_time() - start
        yield {"part": "end", "seconds": seconds, "peak bytes": peaks[0] - before}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="tiny; writes nothing")
    parser.add_argument("--before", type=Path, help="a checkout to compare with")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = TINY if arguments.smoke else FULL
    if arguments.here:
        print(json.dumps(list(measure(*sizes))))
        return
    checkouts = {"now": ROOT}
    if arguments.before:
        checkouts = {"before": arguments.before.resolve(), **checkouts}
    rows = []
    for name, checkout in checkouts.items():
        out = subprocess.run(
            [sys.executable, __file__, "--here", *["--smoke"] * arguments.smoke],
            env={**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        rows += [{"skfeat": name, **row} for row in json.loads(out.splitlines()[-1])]
        print_table(rows, ["skfeat", "part", "seconds", "peak bytes"])
        if not arguments.smoke:
            RECORDS.mkdir(exist_ok=True)
            keys = ("units", "features", "rows", "updates")
            write("wide_updates", {**dict(zip(keys, sizes, strict=True)), "rows": rows})


if __name__ == "__main__":
    main()
