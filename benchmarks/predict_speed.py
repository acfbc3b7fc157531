"""Time of predicting with sparse networks, beside the dense models they replace.

Models and networks have random weights of the sizes and sparsity that unwrapping gives;
rows look like images of digits, most pixels dark. Intercepts are chosen on such rows so
that a feature is active in 3 to 12 % of them. Networks are compacted, and compiled.
Dense models run in torch, with as many threads. Contestants take turns in each round;
medians over rounds of the time of one call.

``python benchmarks/predict_speed.py`` writes ``records/predict_speed.json``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from _common import print_table, write_record
from scipy import sparse
from torch import nn

from skfeat.activations import JumpReLU, ReLU, TopK
from skfeat.adapters import read_chain
from skfeat.chain import Chain
from skfeat.kernels.inference._sparse_layers import SparseLayer, SparseStack
from skfeat.network import SparseFeatureNetwork, _predict

N_INPUTS, N_OUTPUTS = 784, 10
LEAST_ACTIVE, MOST_ACTIVE = 0.03, 0.12
N_CALIBRATION = 2000
BLOCK_ROWS, PADDING = 512, 16  # as predict_raw divides rows
LONGEST = 5.0  # seconds that one contestant may take in all, roughly


@dataclass(frozen=True)
class Case:
    """One network and the model it replaces."""

    name: str
    width: int  # of each of three hidden layers
    n_features: int  # of each feature layer
    n_read: int  # features that weights lead to and from
    n_weights: int  # of each connector
    k: int | None = None  # of top-k; None: a threshold a feature
    n_pixel_weights: int | None = None  # None: the first layer is kept


CASES = [
    Case("784-64-64-64-10, first layer kept", 64, 256, 256, 458, k=16),
    Case("784-512-512-512-10, first layer kept", 512, 2048, 300, 2000),
    Case("784-512-512-512-10, from the pixels", 512, 2048, 300, 2000, None, 5000),
]
SMOKE = [
    Case("smoke, first layer kept", 8, 32, 32, 60, k=4),
    Case("smoke, from the pixels", 8, 32, 20, 60, None, 100),
]


def make_rows(n, seed):
    """Draw rows of pixels in [0, 1], four of five dark."""
    rng = np.random.default_rng(seed)
    shape = rng.random(N_INPUTS) ** 2 * 0.55  # how often each pixel is lit
    lit = rng.random((n, N_INPUTS)) < shape
    return (lit * rng.random((n, N_INPUTS))).astype(np.float32)


def make_model(width, seed):
    """Make a multi-layer perceptron with three hidden layers."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        widths = [N_INPUTS, width, width, width, N_OUTPUTS]
        layers = [m for pair in pairwise(widths) for m in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers[:-1]).eval()


def make_weights(rng, shape, n_weights, outputs, inputs):
    """Draw that many weights between the features of two layers that are read."""
    chosen = rng.choice(len(outputs) * len(inputs), n_weights, replace=False)
    rows, columns = np.divmod(chosen, len(inputs))
    values = rng.uniform(0.2, 1, n_weights) * rng.choice([-1, 1, 1], n_weights)
    places = (outputs[rows], inputs[columns])
    return sparse.csr_array((values.astype(np.float32), places), shape)


def quantiles(rng, pre):
    """Find what each column exceeds in some 3 to 12 % of the rows."""
    share = rng.uniform(LEAST_ACTIVE, MOST_ACTIVE, pre.shape[1])
    ranks = ((1 - share) * len(pre)).astype(int)
    return np.sort(pre, axis=0)[ranks, np.arange(pre.shape[1])]


def make_network(case, model, seed):
    """Make a network of features in place of the model's hidden layers."""
    rng = np.random.default_rng(seed)
    chain = read_chain(model)
    rows = make_rows(N_CALIBRATION, seed + 1)
    front = chain.slice(0, chain.hidden[0].stop)
    back = chain.slice(chain.hidden[-1].stop)
    m = case.n_features
    read = [np.sort(rng.choice(m, case.n_read, replace=False)) for _ in range(3)]
    if case.n_pixel_weights:
        front, d = Chain.from_steps([], N_INPUTS), N_INPUTS
        shape, pixels = (m, d), np.arange(d)
        encoder = make_weights(rng, shape, case.n_pixel_weights, read[0], pixels)
        bias = np.zeros(d, np.float32)
    else:
        d = front.n_outputs
        encoder = rng.normal(size=(m, d)).astype(np.float32) / np.float32(d**0.5)
        bias = 0.1 * rng.normal(size=d).astype(np.float32)
    pre = (front.forward(rows) - bias) @ encoder.T
    cut = quantiles(rng, pre)
    intercept, activation = np.zeros(m, np.float32), ReLU()
    if case.k:
        activation = TopK(case.k)
    elif case.n_pixel_weights:
        intercept = -cut
    else:
        activation = JumpReLU(np.maximum(cut, 0))
    F = activation.encode(pre + intercept)
    coefs, intercepts = [], []
    for inputs, outputs in pairwise(read):
        coefs.append(make_weights(rng, (m, m), case.n_weights, outputs, inputs))
        pre = F @ coefs[-1].T
        # What nothing leads to stays off.
        leads = np.diff(coefs[-1].indptr) > 0
        intercepts.append(np.where(leads, -quantiles(rng, pre), -1).astype(np.float32))
        F = np.maximum(pre + intercepts[-1], 0)
    decoder = rng.normal(size=(m, case.width)).astype(np.float32)
    decoder[np.setdiff1d(np.arange(m), read[-1])] = 0
    return SparseFeatureNetwork(
        front=front,
        encoder_coef=encoder,
        encoder_intercept=intercept,
        encoder_bias=bias,
        activation=activation,
        coefs=coefs,
        intercepts=intercepts,
        links=["relu", "relu"],
        decoder_coef=decoder,
        decoder_intercept=np.zeros(case.width, np.float32),
        back=back,
        layer_names=["fc1", "fc2", "fc3"],
    )


def race(contestants, n_rounds, shortest):
    """Return the median seconds of one call of each contestant.

    A turn repeats a call until `shortest` seconds have passed, and counts their mean;
    calls that take long are measured in fewer rounds.
    """
    seconds = {}
    for name, call in contestants.items():
        call()  # compiles, where there is something to compile
        start = time.perf_counter()
        call()
        seconds[name] = time.perf_counter() - start
    n_calls = {name: max(1, round(shortest / once)) for name, once in seconds.items()}
    slowest = max(shortest, max(seconds.values()))
    times = {name: [] for name in contestants}
    for _ in range(min(n_rounds, max(5, round(LONGEST / slowest)))):
        for name, call in contestants.items():
            start = time.perf_counter()
            for _ in range(n_calls[name]):
                call()
            times[name].append((time.perf_counter() - start) / n_calls[name])
    return {name: statistics.median(taken) for name, taken in times.items()}


def dense_call(model, rows):
    """Make a call of a torch model on rows that are a tensor already."""
    tensor = torch.from_numpy(rows)

    def call():
        with torch.inference_mode():
            return model(tensor)

    return call


def whole_rows(case, batches, n_rounds, shortest):
    """Race whole networks; return a row of the record for each batch size."""
    model = make_model(case.width, seed=0)
    full = make_network(case, model, seed=1)
    network = full.compact().compile()
    dense_cost = read_chain(model).n_multiply_adds()
    X = make_rows(max(batches), seed=3)
    gap = np.abs(network.predict_raw(X[:1000]) - full.predict_raw(X[:1000])).max()
    active = [float((F > 0).mean()) for F in network.features(X[:1000])]
    rows = []
    for batch in batches:
        part = X[:batch]
        seconds = race(
            {
                "dense": dense_call(model, part),
                "skfeat": lambda part=part: network.predict_raw(part),
                "numpy": lambda part=part: _predict.predict_plainly(network, part),
            },
            n_rounds,
            shortest,
        )
        rows.append(
            {
                "network": case.name,
                "batch": batch,
                "multiply-adds, dense": dense_cost,
                "multiply-adds": network.n_multiply_adds(),
                "active": active,
                "compacted differs by": float(gap),
                "dense torch, us": 1e6 * seconds["dense"],
                "numpy and scipy, us": 1e6 * seconds["numpy"],
                "skfeat, us": 1e6 * seconds["skfeat"],
                "times as fast": seconds["dense"] / seconds["skfeat"],
            }
        )
    return rows


def connector_rows(case, batches, n_rounds, shortest):
    """Race the connectors against the two layers between the hidden layers.

    The connectors' part is what they add to the rest of the loop they run in, which
    reads the encoder's product, keeps the active features and hands the last layer's
    to the decoder's product. It is timed with connectors and without, on one thread.
    """
    model = make_model(case.width, seed=0)
    network = make_network(case, model, seed=1).compact()
    dense = nn.Sequential(*list(model)[2:6])
    X = make_rows(max(batches), seed=3)
    hidden = network.front.forward(X)
    pre = (hidden - network.encoder_bias_) @ network.encoder_coef_.T
    first, _, last = network.features(X)
    encoder = SparseLayer(None, network.encoder_intercept_, network.activation)
    connectors = list(
        map(SparseLayer, network.coefs_, network.intercepts_, network.links)
    )

    def loop_of(layers, blocks, out):
        stack = SparseStack(layers, network.encoder_bias_, np.float32)
        for block in blocks:
            stack.run(block, block.shape[1] - PADDING, out)

    rows = []
    for batch in batches:
        blocks = [
            np.ascontiguousarray(np.pad(part, ((0, PADDING), (0, 0))).T)
            for part in np.split(pre[:batch], range(BLOCK_ROWS, batch, BLOCK_ROWS))
        ]
        calls, outs = {"dense": dense_call(dense, hidden[:batch])}, {}
        for name, layers in (("with", [encoder, *connectors]), ("without", [encoder])):
            width = len(layers[-1].intercept)
            outs[name] = np.empty((width, blocks[0].shape[1]), np.float32)
            calls[name] = partial(loop_of, layers, blocks, outs[name])
        seconds = race(calls, n_rounds, shortest)
        n = blocks[-1].shape[1] - PADDING
        for name, expected in (("with", last), ("without", first)):
            np.testing.assert_allclose(
                outs[name][:, :n].T, expected[batch - n : batch], atol=1e-4
            )
        added = seconds["with"] - seconds["without"]
        rows.append(
            {
                "connectors of": case.name,
                "batch": batch,
                "weights": sum(network.n_weights_),
                "dense layers, us": 1e6 * seconds["dense"],
                "loop, us": 1e6 * seconds["with"],
                "loop without connectors, us": 1e6 * seconds["without"],
                "connectors, us": 1e6 * added,
                "times as fast": seconds["dense"] / added,
            }
        )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="tiny, writes no record")
    parser.add_argument("--rounds", type=int, default=101)
    options = parser.parse_args()
    if options.smoke:
        cases, whole, parts, shortest, n_rounds = SMOKE, (1, 40), (40,), 1e-4, 2
    else:
        cases, whole, parts = CASES, (1, 256, 10_000), (256, 4096)
        # Short turns: few of them are interrupted by other work on the machine.
        shortest, n_rounds = 0.002, options.rounds
    networks = [
        row for case in cases for row in whole_rows(case, whole, n_rounds, shortest)
    ]
    seconds = ["dense torch, us", "numpy and scipy, us", "skfeat, us", "times as fast"]
    print_table(networks, ["network", "batch", *seconds])
    kept = [case for case in cases if not case.n_pixel_weights]
    connectors = [
        row for case in kept for row in connector_rows(case, parts, n_rounds, shortest)
    ]
    print()
    print_table(
        connectors,
        [
            "connectors of",
            "batch",
            "dense layers, us",
            "connectors, us",
            "times as fast",
        ],
    )
    if not options.smoke:
        payload = {"n_rounds": n_rounds, "networks": networks, "connectors": connectors}
        print(f"\nRecord: {write_record('predict_speed', payload)}")


if __name__ == "__main__":
    main()
