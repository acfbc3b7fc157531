"""A SparseFeatureNetwork as a networkx graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scipy import sparse

from skfeat.network._arrays import NetworkArrays
from skfeat.utils._names import Numbered

if TYPE_CHECKING:
    import networkx as nx


def make_graph(network: NetworkArrays, all_features: bool) -> nx.DiGraph:
    """Return what :meth:`SparseFeatureNetwork.to_networkx` describes."""
    graph = empty_graph()
    intercepts = [network.encoder_intercept_, *network.intercepts_]
    layers = zip(network.layer_names_, intercepts, network.feature_names_, strict=True)
    nodes = []
    for i, (layer, intercept, names) in enumerate(layers):
        nodes.append([(layer, j) for j in range(len(names))])
        for j, (bias, name) in enumerate(zip(intercept.tolist(), names, strict=True)):
            graph.add_node((layer, j), layer=i, index=j, bias=bias, feature_name=name)
    for i, coef in enumerate(network.coefs_):
        add_edges(graph, coef, nodes[i], nodes[i + 1])
    if sparse.issparse(network.encoder_coef_):
        own = None if network.front.steps else network.input_names_
        inputs = _add_end(graph, "input", -1, 0 - network.encoder_bias_, own)
        add_edges(graph, network.encoder_coef_, inputs, nodes[0])
    if sparse.issparse(network.decoder_coef_):
        own = None if network.back.steps else network.output_names_
        bias = network.decoder_intercept_
        outputs = _add_end(graph, "output", len(nodes), bias, own)
        add_edges(graph, network.decoder_coef_.T, nodes[-1], outputs)
    return graph if all_features else without_isolates(graph)


def _add_end(graph, name, layer, bias, own_names):
    """Add the nodes of an end; steps before or after it leave them without names."""
    if any(existing == name for existing, _ in graph):
        raise ValueError(
            f"layer_names must not have {name!r}, which the graph calls an end of the "
            "network by."
        )
    names = Numbered(f"{name}_", len(bias)) if own_names is None else own_names
    for j, (value, own) in enumerate(zip(bias.tolist(), names, strict=True)):
        graph.add_node((name, j), layer=layer, index=j, bias=value, feature_name=own)
    return [(name, j) for j in range(len(bias))]


def empty_graph() -> nx.DiGraph:
    """Return a graph without nodes, or raise ImportError without networkx."""
    try:
        import networkx as nx
    except ImportError:
        raise ImportError(
            "to_networkx needs networkx; install it by pip install skfeat[graph]."
        ) from None
    return nx.DiGraph()


def add_edges(graph, coef, before, after):
    """Add an edge a stored weight of `coef`, of shape (len(after), len(before))."""
    for (row, column), weight in coef.todok().items():
        graph.add_edge(before[column], after[row], weight=float(weight))


def without_isolates(graph):
    """Return the graph after taking out, in place, the nodes without an edge."""
    graph.remove_nodes_from([node for node, degree in graph.degree if not degree])
    return graph
