"""The weights of a FeatureConnector as a networkx graph."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from skfeat.network._graph import add_edges, empty_graph, without_isolates

if TYPE_CHECKING:
    import networkx as nx


def connector_graph(
    coef, intercept, input_names, output_names, *, all_features=False
) -> nx.DiGraph:
    """Make a bipartite directed graph of the inputs, the outputs and their weights.

    Parameters
    ----------
    coef : CSR matrix of shape (n_outputs, n_inputs)
        The weights.
    intercept : ndarray of shape (n_outputs,)
        The intercepts.
    input_names : sequence of str of length n_inputs
    output_names : sequence of str of length n_outputs
    all_features : bool, default=False
        Keep inputs and outputs without an edge too.

    Returns
    -------
    graph : networkx.DiGraph
        Nodes are the names, with the attributes ``layer`` (0 for inputs, 1 for
        outputs), ``index`` and, for outputs, ``bias`` (the intercept); edges go from
        inputs to outputs, with ``weight``.

    Raises
    ------
    ImportError
        If networkx is not installed.
    ValueError
        If the names are not all different.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> coef = sparse.csr_array(np.array([[0.0, 0.5, 0.0], [0.0, -1.0, 0.0]]))
    >>> graph = connector_graph(coef, np.zeros(2), ["a", "b", "c"], ["d", "e"])
    >>> graph.edges(data="weight")
    OutEdgeDataView([('b', 'd', 0.5), ('b', 'e', -1.0)])
    """
    graph = empty_graph()
    # str: a node named by numpy's string would print as one.
    inputs, outputs = list(map(str, input_names)), list(map(str, output_names))
    name, times = Counter([*inputs, *outputs]).most_common(1)[0]
    if times > 1:
        # networkx would make one node of them.
        raise ValueError(
            f"feature_names and output_names must all be different, as each names a "
            f"node. Got {name!r} {times} times."
        )
    for i, name in enumerate(inputs):
        graph.add_node(name, layer=0, index=i)
    for i, (name, bias) in enumerate(zip(outputs, intercept.tolist(), strict=True)):
        graph.add_node(name, layer=1, index=i, bias=bias)
    add_edges(graph, coef, inputs, outputs)
    return graph if all_features else without_isolates(graph)
