"""What flows through a network on average, as edges and sizes of the explorer."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from skfeat.chain._slopes import LINEAR, PIECEWISE_LINEAR
from skfeat.chain._steps import walk
from skfeat.explorer._description import Gap, strongest_by_row
from skfeat.network import _predict
from skfeat.network._arrays import NetworkArrays
from skfeat.network._attribution import mean_flow

# Inputs listed for a feature that no weights lead to.
_INPUTS = 64
# Edges from inputs to first features of the rows that are averaged at a time.
_BLOCK_EDGES = 2**24


class Flows:
    """What flows through the network on average, by contributions or by products."""

    def __init__(self, network: NetworkArrays, X: np.ndarray, output: np.ndarray):
        self.exact = is_piecewise_linear(network.back)
        self.inputs = None
        weights = weights_by_gap(network)
        if self.exact:
            self.name, self.part_name = "mean |contribution|", "contribution"
            has_inputs = is_piecewise_linear(network.front)
            flows, self.strength = _mean_flows(network, X, output, has_inputs)
            if has_inputs:
                weights.insert(0, input_weights(network))
                if weights[0] is None:
                    flows[0] = strongest_by_row(flows[0], _INPUTS)
                self.inputs = self.strength[0]
        else:
            self.name, self.part_name = "mean |weight × activation|", "activation"
            found = _predict.checked_features(network, X)
            sizes = [np.abs(part).mean(axis=0, dtype=float) for part in found]
            flows = [
                sparse.csr_array(abs(coef) @ sparse.diags_array(size))
                for coef, size in zip(network.coefs_, sizes, strict=False)
            ]
            # What the last features bring to the outputs is no weight times a value.
            weights = weights[: len(flows)]
            arriving = [flow.sum(axis=1) for flow in flows]
            leaving = [flow.sum(axis=0) for flow in flows]
            self.strength = [*leaving, *(arriving[-1:] or sizes[-1:])]
        pairs = zip(flows, weights, strict=True)
        self.gaps = [Gap.of(flow, weight) for flow, weight in pairs]


def _mean_flows(
    network: NetworkArrays, X: np.ndarray, output: np.ndarray, has_inputs: bool
) -> tuple[list[Any], list[np.ndarray]]:
    """Return the mean flows along the edges of each gap, and through each node.

    A few rows at a time: each may have an edge from every input to every feature.
    """
    size = max(1, _BLOCK_EDGES // (network.n_features_in_ * network.n_components_[0]))
    flows: list[Any] = []
    strengths: list[Any] = []
    for start in range(0, len(X), size):
        rows = slice(start, start + size)
        part = mean_flow(network, X[rows], output[rows], has_inputs)
        share = len(X[rows]) / len(X)
        edges = [*part.edges, sparse.csr_array(part.to_outputs)]
        nodes = [*part.features, part.to_outputs.sum(axis=1)]
        if has_inputs:
            edges.insert(0, sparse.csr_array(part.input_edges))
            nodes.insert(0, part.inputs)
        edges, nodes = [share * one for one in edges], [share * one for one in nodes]
        if start:
            edges = [a + b for a, b in zip(flows, edges, strict=True)]
            nodes = [a + b for a, b in zip(strengths, nodes, strict=True)]
        flows, strengths = edges, nodes
    return flows, strengths


def is_piecewise_linear(chain: Any) -> bool:
    """Tell whether contributions through a chain are exact."""
    return all(step.kind in PIECEWISE_LINEAR for step in walk(chain.steps))


def weights_by_gap(network: NetworkArrays) -> list[Any]:
    """Return the weights between features, and to the outputs where these are affine.

    Of outputs that are not, None.
    """
    weights: list[Any] = list(network.coefs_)
    if not all(step.kind in LINEAR for step in walk(network.back.steps)):
        return [*weights, None]
    d = network.back.n_features_in
    start = network.back.forward(np.zeros((1, d)))
    jacobian = network.back.forward(np.eye(d)) - start
    return [*weights, sparse.csr_array((network.decoder_coef_ @ jacobian).T)]


def input_weights(network: NetworkArrays) -> Any:
    """Return the weights from the inputs to the first features, if there are any."""
    if network.front.steps or not sparse.issparse(network.encoder_coef_):
        return None
    return network.encoder_coef_
