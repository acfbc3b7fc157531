"""The loops that numba compiles for prediction: sparse layers on tiles of rows.

A tile holds the features of `TILE` rows, feature by feature, in a flat array. Each
weight multiplies all rows of the tile at once, in a few of the processor's vectors. A
tile goes through all layers before the next one starts, so that it stays in the first
cache.

This module imports numba, and no torch; `_sparse_layers` beside it calls it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skfeat.kernels._compile import compile_loop
from skfeat.kernels.selection._loops_row import kth_largest
from skfeat.kernels.selection._loops_rows import LANES, bisect, n_above_low, start_lanes
from skfeat.kernels.simd._vectors import TILE, copy_plus, keep_above, weighted_sum

# What a layer does to its pre-activations.
IDENTITY, RELU, TOPK, JUMPRELU = range(4)

# For so few rows sorting is faster than bisecting for bounds.
_FEW_ROWS = 4

# Halvings before ties, or values out of all proportion, are given up on.
_MAX_HALVINGS = 24


@compile_loop
def load_columns(inputs, first, n_rows, width, intercept, tile):
    """Read pre-activations (features, n_rows) from row `first` on; add intercepts."""
    for i in range(len(intercept)):
        at, source = i * TILE, i * n_rows + first
        if width == TILE:
            copy_plus(tile, at, inputs, source, intercept[i])
        else:
            tile[at : at + TILE] = 0
            for t in range(width):
                tile[at + t] = inputs[source + t] + intercept[i]


@compile_loop
def load_rows(inputs, first, width, bias, tile):
    """Read rows (rows, inputs), less the bias."""
    n_in = len(bias)
    if width < TILE:
        tile[: n_in * TILE] = 0
    for i in range(n_in):
        own = bias[i]
        for t in range(width):
            tile[i * TILE + t] = inputs[(first + t) * n_in + i] - own


@compile_loop
def store_columns(tile, m, first, n_rows, width, out):
    """Write features to (features, n_rows), as `load_columns` reads them."""
    none = tile.dtype.type(0)
    for j in range(m):
        at, target = j * TILE, j * n_rows + first
        if width == TILE:
            copy_plus(out, target, tile, at, none)
        else:
            for t in range(width):
                out[target + t] = tile[at + t]


class Layers(NamedTuple):
    """All layers of a network.

    Attributes
    ----------
    bias : ndarray of shape (n_in,)
        Is subtracted from inputs in rows.
    widths : ndarray of shape (n_layers + in_rows,)
        Of the inputs if they are in rows, and of each layer.
    operations : ndarray of shape (n_layers,)
        Codes of what each does to its pre-activations.
    starts : ndarray
        Of each sparse layer where the weights of each feature start, and the end, one
        layer after another.
    indices, values : ndarrays of shape (n_weights,)
        Which feature of the layer before a weight multiplies, and the weight.
    intercepts : ndarray
        Of each layer, one after another.
    k, threshold
        Of the first layer's operation.
    n_groups : int
        Equal parts of the first layer, each of which keeps its own `k`.
    """

    bias: np.ndarray
    widths: np.ndarray
    operations: np.ndarray
    starts: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    intercepts: np.ndarray
    k: int
    threshold: np.ndarray
    n_groups: int


class SparseWeights(NamedTuple):
    """One sparse layer: the weights of feature j are ``start[j]`` to ``start[j + 1]``.

    Attributes
    ----------
    start : ndarray of shape (n_out + 1,)
    source, weight : ndarrays of shape (n_weights,)
    intercept : ndarray of shape (n_out,)
    """

    start: np.ndarray
    source: np.ndarray
    weight: np.ndarray
    intercept: np.ndarray


@compile_loop
def connect(tile, layer, rectified, out):
    """Compute one layer from the tile of the layer before."""
    start, intercept = layer.start, layer.intercept
    source, weight = layer.source, layer.weight
    for j in range(len(intercept)):
        weighted_sum(
            out,
            j * TILE,
            intercept[j],
            weight,
            source,
            start[j],
            start[j + 1],
            tile,
            rectified,
        )


@compile_loop
def cut_below(tile, m, threshold):
    """Set what does not exceed its feature's threshold to zero."""
    none = tile.dtype.type(0)
    for i in range(m):
        bound = threshold[i]
        for at in range(i * TILE, (i + 1) * TILE):
            tile[at] = tile[at] if tile[at] > bound else none


@compile_loop
def keep_topk(tile, m, width, k, lanes, column):
    """Set all but the `k` largest positive values of each of `width` rows to zero.

    For all rows at once a number is bisected that exactly `k` of their values exceed.
    Rows where ties prevent it, and few rows, are sorted.
    """
    start_lanes(tile, m, lanes)
    bisect(tile, m, k, lanes, _MAX_HALVINGS if width > _FEW_ROWS else 0)
    for t in range(width):
        if n_above_low(lanes, t) > k:
            _keep_topk_of(tile, t, m, k, column)
            lanes[t] = 0
    for i in range(m):
        keep_above(tile, i * TILE, lanes)


@compile_loop
def _keep_topk_of(tile, t, m, k, column):
    """Do it for one row by sorting, among equal values the first ones."""
    for i in range(m):
        column[i] = tile[i * TILE + t]
    bound = kth_largest(column, m, k)
    n_ties = k
    for i in range(m):
        n_ties -= tile[i * TILE + t] > bound
    for i in range(m):
        at = i * TILE + t
        if tile[at] == bound and n_ties > 0:
            n_ties -= 1
        elif tile[at] <= bound:
            tile[at] = 0


@compile_loop
def keep_topk_rows(F, k):
    """Do what `keep_topk` does to a few rows (n, m)."""
    none = F.dtype.type(0)
    column = np.empty(F.shape[1], F.dtype)
    for i in range(len(F)):
        column[:] = F[i]
        bound = kth_largest(column, len(column), k)
        n_ties = k
        for v in F[i]:
            n_ties -= v > bound
        for j in range(len(column)):
            v = F[i, j]
            if v == bound and n_ties > 0:
                n_ties -= 1
            elif v <= bound:
                v = none
            F[i, j] = none if v <= none else v


@compile_loop
def connect_rows(F, start, source, weight, intercept, rectified, out):
    """Compute one layer (n, n_out) of a few rows (n, n_in), one value at a time."""
    none = out.dtype.type(0)
    for i in range(len(F)):
        for j in range(len(intercept)):
            total = intercept[j]
            for p in range(start[j], start[j + 1]):
                total += weight[p] * F[i, source[p]]
            out[i, j] = none if rectified and total <= none else total


@compile_loop
def activate(operation, tile, m, width, k, n_groups, threshold, lanes, column):
    """Turn the first layer's pre-activations into codes; the last two are buffers."""
    if operation == RELU:
        lanes[:] = 0
        for i in range(m):
            keep_above(tile, i * TILE, lanes)
    elif operation == JUMPRELU:
        cut_below(tile, m, threshold)
    elif operation == TOPK:
        own = m // n_groups
        for group in range(n_groups):
            part = tile[group * own * TILE : (group + 1) * own * TILE]
            keep_topk(part, own, width, k, lanes, column)


@compile_loop
def run_tiles(n_rows, inputs, in_rows, stride, layers, out):
    """Take rows through all layers, tile by tile.

    Parameters
    ----------
    inputs : ndarray, flat
        (n_rows, n_in) if `in_rows`: what the first layer reads; else its
        pre-activations without intercepts, (m_0, stride).
    stride : int
        Row length of inputs and outputs that lie feature by feature, at least `n_rows`.
    layers : Layers
    out : ndarray, flat
        Receives what the last layer computes, (widths[-1], stride).
    """
    widths, operations, weight = layers.widths, layers.operations, layers.values
    start, intercept = layers.starts, layers.intercepts
    widest = widths.max()
    tile = np.empty(widest * TILE, weight.dtype)
    other = np.empty(widest * TILE, weight.dtype)
    column = np.empty(widest, weight.dtype)
    lanes = np.empty(LANES, weight.dtype)
    for begin in range(0, n_rows, TILE):
        width = min(TILE, n_rows - begin)
        at_start, at_intercept = 0, 0
        if in_rows:
            load_rows(inputs, begin, width, layers.bias, tile)
        for layer in range(len(operations)):
            m = widths[layer + in_rows]
            own = intercept[at_intercept : at_intercept + m]
            at_intercept += m
            if layer == 0 and not in_rows:
                load_columns(inputs, begin, stride, width, own, tile)
            else:
                rectified = operations[layer] == RELU
                starts = start[at_start : at_start + m + 1]
                at_start += m + 1
                sparse = SparseWeights(starts, layers.indices, weight, own)
                connect(tile, sparse, rectified, other)
                tile, other = other, tile
            if layer == 0:
                activate(
                    operations[0],
                    tile,
                    m,
                    width,
                    layers.k,
                    layers.n_groups,
                    layers.threshold,
                    lanes,
                    column,
                )
        store_columns(tile, widths[-1], begin, stride, width, out)
