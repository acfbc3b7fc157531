"""Time of training a sparse autoencoder, beside the libraries that do the same.

Every library trains on the same rows in batches of the same size: shuffling and
gathering the rows, the step itself with all the library does in one (dead features,
clipping, decoder norms, the optimiser), and nothing else. Libraries take turns within
each round, so that a machine that slows down slows all of them; medians over rounds.

``python benchmarks/sae_speed.py`` in the environment of ``requirements-peers.txt``
writes ``records/sae_speed.json``, which has a section for each processor; ``--rows``
and ``--activations`` measure some and keep what the section says of the others.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from _common import machine, precisions_for, print_table, read_record, write_record
from _peers import PlainTorch, available_peers

from skfeat import SparseAutoencoder
from skfeat.datasets import make_sparse_features
from skfeat.kernels._optional import has_numba
from skfeat.kernels.sae._activations import make_training_activation
from skfeat.solvers.autoencoder._settings import SAESettings
from skfeat.solvers.autoencoder._standardizer import Standardizer
from skfeat.solvers.autoencoder._trainer import SAETrainer

# d, m, k, batch, rows of the data, epochs before the clock runs, timed epochs a round,
# rounds.
SIZES = {
    "small batches": (64, 256, 8, 256, 15_360, 2, 1, 9),
    "small": (64, 256, 8, 4096, 61_440, 4, 1, 9),
    "medium": (512, 4096, 32, 4096, 8_192, 1, 1, 5),
    "large": (768, 24_576, 32, 4096, 4_096, 2, 1, 5),
}
KINDS = ("topk", "batch_topk", "relu", "gated", "jumprelu")


def describe(size):
    """Return what the record calls a size."""
    d, m, _, batch_size, *_ = SIZES[size]
    return f"{d} -> {m}, batch {batch_size}"


class Skfeat:
    """The trainer behind `SparseAutoencoder.fit`, an epoch at a time."""

    name = "skfeat"

    def __init__(
        self, X, m, k, batch_size, activation, precision="float32", **settings
    ):
        d = X.shape[1]
        self.X, self.weights = X, np.ones(len(X))
        settings = {"device": torch.device("cpu"), "seed": 0} | settings
        settings = SAESettings(
            n_components=m,
            activation=make_training_activation(activation, k, d),
            alpha=0.1,
            l0=None,
            prefixes=None,
            dead_features="auxk",
            tied=False,
            learning_rate=4e-3 * min(1, (256 / m) ** 0.5),
            batch_size=batch_size,
            precision=precision,
            **settings,
        )
        measured = Standardizer.from_rows(X, self.weights, center=True, rms=True)
        self.trainer = SAETrainer(settings, measured)

    def epoch(self):
        """Train on every row once."""
        self.trainer.epoch(self.X, self.weights)


class Other:
    """A peer, an epoch at a time."""

    def __init__(self, peer, X, m, k, batch_size, activation, n_steps):
        self.name = peer.name
        self.X, self.batch_size = torch.from_numpy(X), batch_size
        self.peer = peer(X.shape[1], m, activation=activation, k=k, n_steps=n_steps)
        self.peer.prepare(self.X[:4096])

    def epoch(self):
        """Train on every row once."""
        for rows in torch.randperm(len(self.X)).split(self.batch_size):
            self.peer.step(self.X[rows])


def measure(size, activation):
    """Time every library at one size; return rows of a table."""
    d, m, k, batch_size, n_rows, n_warm, n_timed, n_rounds = SIZES[size]
    X, _, _ = make_sparse_features(
        n_rows, d, 2 * d, n_active=k, noise=0.1, random_state=0, dtype=np.float32
    )
    n_epochs = n_warm + n_timed * n_rounds + 1
    n_steps = n_epochs * n_rows // batch_size
    precisions = precisions_for(activation)
    racers = [Skfeat(X, m, k, batch_size, activation, p) for p in precisions]
    for racer, precision in zip(racers, precisions, strict=True):
        racer.name = f"skfeat {precision}"
    for peer in [*available_peers(), PlainTorch]:
        if activation not in peer.activations:
            continue
        racers += [Other(peer, X, m, k, batch_size, activation, n_steps)]
    times = {racer.name: [] for racer in racers}
    for racer in racers:
        for _ in range(n_warm):
            racer.epoch()
    for _ in range(n_rounds):
        for racer in racers:
            start = time.perf_counter()
            for _ in range(n_timed):
                racer.epoch()
            times[racer.name].append((time.perf_counter() - start) / n_timed)
    peers = [name for name in times if not name.startswith(("skfeat", "plain"))]
    fastest = min(statistics.median(times[name]) for name in peers)
    rows = []
    for name, seconds in times.items():
        median = statistics.median(seconds)
        rows.append(
            {
                "size": describe(size),
                "activation": activation,
                "library": name,
                "ms a step": 1e3 * median * batch_size / n_rows,
                "us a row": 1e6 * median / n_rows,
                "speed over the fastest peer": fastest / median,
            }
        )
    print_table(rows, list(rows[0]))
    print(flush=True)
    return rows


def overhead_of_fit():
    """Return what a whole `fit` costs beside its training steps."""
    X, _, _ = make_sparse_features(
        61_440, 64, 128, n_active=8, noise=0.1, random_state=0, dtype=np.float32
    )
    # Enough of them that the fit compiles its loops, too.
    steps, fits, n_epochs = [], [], 16
    for _ in range(11):
        racer = Skfeat(X, 256, 8, 512, "topk")
        racer.trainer.plan(len(X), n_epochs)
        start = time.perf_counter()
        for _ in range(n_epochs):
            racer.epoch()
        steps.append(time.perf_counter() - start)
        sae = SparseAutoencoder(256, k=8, max_iter=n_epochs, random_state=0)
        start = time.perf_counter()
        sae.fit(X)
        fits.append(time.perf_counter() - start)
    return statistics.median(fits) / statistics.median(steps) - 1


def warm_up():
    """Return the seconds that the compiled loops take to be ready in this process."""
    start = time.perf_counter()
    X = np.random.default_rng(0).standard_normal((512, 8)).astype(np.float32)
    Skfeat(X, 32, 2, 64, "topk").epoch()
    return time.perf_counter() - start


def instructions():
    """Return which vector and matrix instructions the processor has, on Linux."""
    info = Path("/proc/cpuinfo")
    flags = info.read_text().split() if info.is_file() else []
    wanted = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8")
    return [name for name in wanted if name in flags]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = {
        "small": ["small batches", "small"],
        "medium": ["medium"],
        "large": ["large"],
        "all": list(SIZES),
    }
    parser.add_argument("--rows", choices=[*kinds], default="all")
    parser.add_argument("--activations", nargs="+", choices=KINDS, default=KINDS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    seconds = warm_up()
    print(f"Compiled loops ready after {seconds:.1f} s (numba: {has_numba()})\n")
    here = machine() | {"instructions": instructions()}
    sections = read_record("sae_speed").get("processors", {})
    own = sections.setdefault(here["cpu"], {})
    own |= {"machine": here, "warm-up seconds": seconds}
    for size in kinds[options.rows]:
        for activation in options.activations:
            if activation == "batch_topk" and size != "small":
                continue
            about = {"size": describe(size), "activation": activation}
            rows = own.get("rows", [])
            others = [row for row in rows if not about.items() <= row.items()]
            own["rows"] = others + measure(size, activation)
            write_record("sae_speed", {"processors": sections})
    own["overhead of fit over its steps"] = overhead_of_fit()
    print(f"fit costs {own['overhead of fit over its steps']:.1%} beside its steps")
    write_record("sae_speed", {"processors": sections})


if __name__ == "__main__":
    main()
