"""Where connectors of maps start: regressions on sampled positions."""

from __future__ import annotations

import numpy as np
import torch

from skfeat.maps._reads import Reads
from skfeat.solvers.joint._problem import Coder
from skfeat.solvers.maps._problem import MapLayers
from skfeat.utils._torch import as_like, to_numpy

# Rows that a regression sees: at least so many, and so many times its inputs; and the
# numbers in them at most.
_ROWS, _TIMES_INPUTS, _MOST_NUMBERS = 8192, 4, 2**25
# Samples of which patches are written out at a time.
_BLOCK = 128


def patch_rows(
    layers: MapLayers,
    coders: list[Coder],
    index: int,
    reads: Reads,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Sample what a connector reads, and what it is to compute.

    Parameters
    ----------
    layers : MapLayers
    coders : list of Coder
    index : int
        Number of the layer that is computed; as many as there are layers: the outputs.
    reads : Reads
        What the connector reads of the layer before, or of the inputs.
    generator : Generator

    Returns
    -------
    X : ndarray of shape (n, n_places * m)
        Features that the autoencoder of the layer before encodes.
    Y : ndarray of shape (n, q)
    """
    n_out, n_samples = reads.n_positions_out, len(layers.X)
    width = _width(coders, index, layers) * reads.n_places
    wanted = n_patches(width, n_samples * n_out)
    each = min(n_out, -(-wanted // n_samples))
    n = min(n_samples, -(-wanted // each))
    chosen = np.linspace(0, n_samples - 1, n).astype(np.int64)
    found = []
    for start in range(0, n, _BLOCK):
        samples = chosen[start : start + _BLOCK]
        inputs, hidden, outputs = layers.run(samples)
        before = inputs if index == 0 else _encode(coders[index - 1], hidden[index - 1])
        after = outputs
        if index < len(coders):
            after = _encode(coders[index], hidden[index])
        position = generator.random((len(samples), n_out)).argsort(axis=1)[:, :each]
        sample = np.repeat(np.arange(len(samples)), each)
        X = reads.rows(to_numpy(before), sample, position.ravel())
        Y = to_numpy(after).reshape(len(samples), n_out, -1)
        found.append((X, Y[sample, position.ravel()]))
    read, computed = zip(*found, strict=True)
    return np.concatenate(read), np.concatenate(computed)


def n_patches(width: int, available: int) -> int:
    """Return how many patches of so many values a regression sees."""
    wanted = max(_ROWS, _TIMES_INPUTS * width)
    return min(wanted, max(1, _MOST_NUMBERS // width), available)


def _width(coders: list[Coder], index: int, layers: MapLayers) -> int:
    if index == 0:
        return layers.X.shape[1] // layers.n_positions_in
    return len(coders[index - 1].encoder)


def _encode(coder: Coder, hidden: torch.Tensor) -> torch.Tensor:
    encoder, bias, own = (
        as_like(part, hidden)
        for part in (coder.encoder, coder.encoder_bias, coder.bias)
    )
    return coder.activation.forward((hidden - own) @ encoder.T + bias)
