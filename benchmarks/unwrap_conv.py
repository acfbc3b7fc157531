"""How much of a convolutional network few shared weights between features keep.

Small networks are trained on MNIST, on scikit-learn's digits and on series of two
kinds of pulses, then unwrapped whole: every convolution and the head, the outputs too.
A weight counts once, whatever the positions it is used at. Beside each stand

- the network pruned to as many nonzero weights, trained on its own outputs;
- connectors over autoencoders that nobody trained, with as many weights.

Points are of accuracy on rows that nothing was fitted to, times 100. ``--part`` runs
one data set, ``--seeds`` several seeds; the record is written seed by seed. ``--speed``
measures a fit to 60,000 images and their prediction, beside the model in torch.
``python benchmarks/unwrap_conv.py`` writes ``records/unwrap_conv.json``.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import time
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from _common import keep, kept_of, load_mnist, print_table
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from skfeat import FeatureUnwrapper, SparseAutoencoder
from skfeat.adapters import logits_end
from skfeat.controls import untrained_control
from skfeat.network._torch import step_modules
from skfeat.solvers._loop import one_cycle
from skfeat.solvers._mismatch import kl_divergence
from skfeat.solvers._prune import CurvaturePruning, Pruner, is_time, updates_between

RECORD = "unwrap_conv"


@dataclass(frozen=True)
class Plan:
    """How one data set is unwrapped."""

    channels: tuple = (16, 32)
    hidden: int = 64
    epochs: int = 6  # of the model
    weights: tuple = (4, 8)  # a feature that a connector computes, on average
    n_components: tuple = (32, 64, 64)
    k: tuple = (6, 8, 12)
    coder_epochs: int = 20
    n_updates: int = 1500
    batch_size: int = 128


PLANS = {
    "mnist": Plan(
        weights=(8,),
        n_components=(32, 64, 128),
        k=(8, 10, 16),
        coder_epochs=5,
    ),
    "digits": Plan(
        channels=(12, 24),
        hidden=32,
        epochs=25,
        n_components=(24, 48, 48),
        k=(4, 6, 8),
        coder_epochs=4,
        n_updates=600,
    ),
    "series": Plan(
        channels=(8, 8),
        hidden=16,
        epochs=15,
        n_components=(16, 16, 16),
        k=(3, 3, 4),
        coder_epochs=4,
        n_updates=600,
    ),
}
SMOKE = Plan(
    channels=(4, 6),
    hidden=8,
    epochs=2,
    weights=(4,),
    n_components=(8, 8, 8),
    k=(3, 3, 3),
    coder_epochs=1,
    n_updates=20,
)


def data_of(part, smoke):
    """Return training and test maps and labels."""
    if part == "mnist":
        X, y, X_test, y_test = load_mnist()
        X, X_test = X.reshape(-1, 1, 28, 28), X_test.reshape(-1, 1, 28, 28)
    elif part == "digits":
        X, y = load_digits(return_X_y=True)
        X = (X / 16).astype(np.float32).reshape(-1, 1, 8, 8)
        order = np.random.default_rng(0).permutation(len(X))
        X, y, X_test, y_test = split(X[order], y[order], 1300)
    else:
        X, y, X_test, y_test = split(*pulses(6000), 4000)
    n = 300 if smoke else len(X)
    return X[:n], y[:n], X_test[:n], y_test[:n]


def split(X, y, n):
    """Return the first n rows, and the rest."""
    return X[:n], y[:n], X[n:], y[n:]


def pulses(n, length=64):
    """Draw noisy series of two channels; the label is the order of two pulses.

    One pulse rises and then falls, the other falls and then rises, at random times and
    in random channels: what tells is which of them comes first.
    """
    rng = np.random.default_rng(0)
    X = 0.3 * rng.standard_normal((n, 2, length))
    shape = np.sin(np.linspace(0, 2 * np.pi, 9))
    y = rng.integers(0, 2, n)
    times = np.sort(rng.integers(0, length - 24, (n, 2)), axis=1)
    times[:, 1] += 12
    for row in range(n):
        signs = (1, -1) if y[row] else (-1, 1)
        for sign, at in zip(signs, times[row], strict=True):
            channel = rng.integers(2)
            X[row, channel, at : at + 9] += sign * shape
    return X.astype(np.float32), y


def make_model(part, plan):
    """Make an untrained network of two convolutions and a hidden layer."""
    if part == "series":
        conv, pool, kernel, n_in, positions = nn.Conv1d, nn.MaxPool1d, 7, 2, 16
    else:
        conv, pool, kernel, n_in = nn.Conv2d, nn.MaxPool2d, 3, 1
        positions = 49 if part == "mnist" else 4
    first, second = plan.channels
    return nn.Sequential(
        conv(n_in, first, kernel, padding=kernel // 2),
        nn.ReLU(),
        pool(2),
        conv(first, second, kernel, padding=kernel // 2),
        nn.ReLU(),
        pool(2),
        nn.Flatten(),
        nn.Linear(second * positions, plan.hidden),
        nn.ReLU(),
        nn.Linear(plan.hidden, 2 if part == "series" else 10),
    )


def train(part, plan, X, y, seed):
    """Train a network on labels."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = make_model(part, plan)
        X, y = torch.from_numpy(X), torch.as_tensor(y, dtype=torch.int64)
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.01)
        n_batches = -(-len(X) // 128)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=5e-3, total_steps=plan.epochs * n_batches
        )
        for _ in range(plan.epochs):
            for rows in torch.randperm(len(X)).split(128):
                loss = nn.functional.cross_entropy(model(X[rows]), y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return model.eval()


def predicted(model, X):
    """Return the labels that a module gives."""
    with torch.no_grad():
        parts = [model(rows).argmax(1) for rows in torch.from_numpy(X).split(1000)]
    return torch.cat(parts).numpy()


def pruned(chain, X, n_weights, plan, seed):
    """Prune all weights of a chain of steps to a number, trained on its outputs."""
    steps = chain.steps[: logits_end(chain, True)]
    teacher = step_modules(steps, torch.float32).requires_grad_(False)
    student = step_modules(steps, torch.float32)
    coefs = [p for name, p in student.named_parameters() if name.endswith("coef")]
    pruners = [
        Pruner.fixed(coef.detach(), torch.ones_like(coef, dtype=torch.bool))
        for coef in coefs
    ]
    for pruner in pruners:
        pruner.budget = 0
    pruners[0].budget = n_weights
    pruning = CurvaturePruning(coefs, pruners, shared=True)
    optimizer = torch.optim.Adam(student.parameters(), lr=2e-3)
    rng = np.random.default_rng(seed)
    rows, planned = torch.from_numpy(X.reshape(len(X), -1)), plan.n_updates
    for step in range(1, planned + 1):
        batch = rows[rng.integers(0, len(X), plan.batch_size)]
        weights = batch.new_full((len(batch),), 1 / len(batch))
        loss = kl_divergence(student(batch), teacher(batch), weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = 2e-3 * one_cycle(
            step / planned, warm_up=0.1, decay=0.5
        )
        pruning.take_gradients()
        optimizer.step()
        with torch.no_grad():
            pruning.hold()
            if is_time(step, step / planned, updates_between(planned)):
                pruning.prune(step / planned)
    with torch.no_grad():
        pruning.prune(1.0)
    return student


def fitted(model, X, plan, epochs, seed, each=8):
    """Unwrap a model to so many weights a feature, the outputs too."""
    n_outputs = model[-1].out_features
    return FeatureUnwrapper(
        model,
        autoencoder=[
            SparseAutoencoder(m, k=k, max_iter=plan.coder_epochs, random_state=seed)
            for m, k in zip(plan.n_components, plan.k, strict=True)
        ],
        # Outputs are few, and no sparse features: they have twenty each, by default.
        n_nonzero_coefs=[*(each * m for m in plan.n_components[1:]), 20 * n_outputs],
        connect_output=True,
        max_iter=epochs,
        batch_size=plan.batch_size,
        random_state=seed,
    ).fit(X)


def measure(part, plan, seed, smoke):
    """Unwrap one network to each budget, and return a row for each."""
    X, y, X_test, y_test = data_of(part, smoke)
    model = train(part, plan, X, y, seed)
    score = float((predicted(model, X_test) == y_test).mean())
    rows = []
    epochs = max(1, round(plan.n_updates * plan.batch_size / len(X)))
    for each in plan.weights:
        began = time.process_time()
        unwrapper = fitted(model, X, plan, epochs, seed, each)
        seconds = time.process_time() - began
        network = unwrapper.network()
        found = {
            "features": unwrapper.score(X_test, y_test),
            "untrained": float(
                (
                    untrained_control(unwrapper, X, random_state=seed).predict(X_test)
                    == y_test
                ).mean()
            ),
        }
        student = pruned(unwrapper._chain, X, network.n_weights_all_, plan, seed)
        flat = X_test.reshape(len(X_test), -1)
        found["pruned"] = float((predicted(student, flat) == y_test).mean())
        rows.append(
            {
                "data": part,
                "seed": seed,
                "weights a feature": each,
                "model": score,
                **{name: 100 * (score - own) for name, own in found.items()},
                "weights": sum(network.n_weights_) + network.n_weights_out_,
                "in all": network.n_weights_all_,
                "of the model": unwrapper._chain.n_weights(),
                "multiply-adds": network.n_multiply_adds(compact=True),
                "its own": unwrapper._chain.n_multiply_adds(),
                "seconds": seconds,
            }
        )
        print_table(rows[-1:], list(rows[-1]))
    return rows


def speed(plan, smoke):
    """Measure a fit to all images of MNIST, and their prediction, medians of three."""
    X, y, _, _ = data_of("mnist", smoke)
    model = train("mnist", SMOKE if smoke else Plan(epochs=1), X[:6000], y[:6000], 0)
    network = fitted(model, X[:2000], plan, 1, 0).network()
    flat = X.reshape(len(X), -1)
    ways = {
        "network": lambda: network.predict_raw(flat),
        "network in torch": lambda: predicted(network.to_torch(), flat),
        "model in torch": lambda: predicted(model, X),
    }
    times = {name: [] for name in ways}
    for _ in range(1 if smoke else 3):
        for name, run in ways.items():
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
    found = {name: statistics.median(own) for name, own in times.items()}
    found["peak MiB of predictions"] = peak()
    began = time.perf_counter()
    epochs = max(1, round(plan.n_updates * plan.batch_size / len(X)))
    fitted(model, X, plan, epochs, 0)
    found["fit"] = time.perf_counter() - began
    found["peak MiB of the fit"] = peak()
    found["load"] = os.getloadavg()[0]
    return [{"images": len(X), **found}]


def peak():
    """Return the largest memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="run through, no record")
    parser.add_argument("--part", choices=PLANS, help="one data set; default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--speed", action="store_true", help="measure prediction alone")
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    if args.speed:
        plan = SMOKE if args.smoke else PLANS["mnist"]
        rows = speed(plan, args.smoke)
        print_table(rows, list(rows[0]))
        if not args.smoke:
            keep(RECORD, "speed", plan, "rows", rows)
        return
    for part in [args.part] if args.part else PLANS:
        plan = SMOKE if args.smoke else PLANS[part]
        rows = [] if args.smoke else kept_of(RECORD, part, plan, "rows")
        done = {row["seed"] for row in rows}
        for seed in range(1 if args.smoke else args.seeds):
            if seed not in done:
                rows += measure(part, plan, seed, args.smoke)
                if not args.smoke:
                    keep(RECORD, part, plan, "rows", rows)
        print(part)
        print_table(rows, list(rows[0]))


if __name__ == "__main__":
    main()
