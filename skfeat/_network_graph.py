"""A SparseFeatureNetwork as a networkx graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import networkx as nx

    from skfeat.network import SparseFeatureNetwork


def make_graph(network: SparseFeatureNetwork, all_features: bool) -> nx.DiGraph:
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
    return graph if all_features else without_isolates(graph)


def empty_graph() -> nx.DiGraph:
    """Return a graph without nodes, or raise an ImportError that says what to do."""
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
