"""A SparseFeatureNetwork as a networkx graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import networkx as nx

    from skfeat.network import SparseFeatureNetwork


def make_graph(network: SparseFeatureNetwork, all_features: bool) -> nx.DiGraph:
    """Return what :meth:`SparseFeatureNetwork.to_networkx` describes."""
    try:
        import networkx as nx
    except ImportError:
        raise ImportError(
            "to_networkx needs networkx; install it by pip install skfeat[graph]."
        ) from None
    graph = nx.DiGraph()
    intercepts = [network.encoder_intercept_, *network.intercepts_]
    layers = zip(network.layer_names_, intercepts, network.feature_names_, strict=True)
    for i, (layer, intercept, names) in enumerate(layers):
        for j, (bias, name) in enumerate(zip(intercept.tolist(), names, strict=True)):
            graph.add_node((layer, j), layer=i, index=j, bias=bias, feature_name=name)
    for i, coef in enumerate(network.coefs_):
        before, after = network.layer_names_[i : i + 2]
        for (row, column), weight in coef.todok().items():
            edge = (before, int(column)), (after, int(row))
            graph.add_edge(*edge, weight=float(weight))
    if not all_features:
        graph.remove_nodes_from(list(nx.isolates(graph)))
    return graph
