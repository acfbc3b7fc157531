"""Single rows of a network as graphs of the explorer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

from skfeat.explorer._description import ShownRow, strongest_by_row
from skfeat.explorer._rows import Labels, RowStore
from skfeat.network._arrays import NetworkArrays
from skfeat.network._attribution import attribute
from skfeat.network._decide import decide
from skfeat.network._explore_flows import input_weights, is_piecewise_linear

# Inputs listed for a feature of a row that no weights lead to.
_INPUTS = 8


def shown_rows(
    network: NetworkArrays,
    X: np.ndarray,
    shown: np.ndarray,
    rows: Any,
    store: RowStore,
    labels: Labels | None,
    model: Callable[[np.ndarray], np.ndarray] | None,
) -> list[ShownRow]:
    """Describe the rows that have a graph of their own."""
    if not len(shown):
        return []
    outputs, output = rows.outputs[shown], rows.shown[shown]
    facts = _facts(network, X[shown], outputs, output, model)
    if labels is not None:
        for row, told in zip(shown.tolist(), facts, strict=True):
            told.insert(0, ("label", labels.texts[row]))
    found = []
    has_inputs = is_piecewise_linear(network.front)
    exact = is_piecewise_linear(network.back)
    features = [sparse.csr_array(part)[shown].toarray() for part in rows.features]
    for i, row in enumerate(shown.tolist()):
        own = [part[i] for part in features]
        if not exact:
            values = [_nonzero(part, part) for part in own]
            edges: list[Any] = [None] * len(network.coefs_)
        else:
            # One at a time: a row may have an edge from every input to every feature.
            attribution = attribute(network, X[[row]], output[[i]], has_inputs)
            parts = [part[0] for part in attribution.features]
            values = [_nonzero(*pair) for pair in zip(own, parts, strict=True)]
            edges = [None] * len(network.coefs_)
            last, shown_output = values[-1], int(output[i])
            edges.append((last[0], np.full(len(last[0]), shown_output), last[2]))
            value = attribution.value
            values.append((np.array([shown_output]), value, value))
            if attribution.inputs is not None:
                values.insert(0, _nonzero(X[row], attribution.inputs[0]))
                edges.insert(0, _input_edges(network, attribution.input_edges))
        found.append(
            ShownRow(int(store.place[row]), values=values, edges=edges, facts=facts[i])
        )
    return found


def _nonzero(values: np.ndarray, parts: np.ndarray) -> tuple[Any, Any, Any]:
    """Return the nodes that are not zero, their values and their parts."""
    nodes = np.flatnonzero((values != 0) | (parts != 0))
    return nodes, values[nodes], parts[nodes]


def _input_edges(network: NetworkArrays, flows: Any) -> Any:
    """Return the strongest flows from the inputs of a row, or None with weights."""
    if input_weights(network) is not None:
        return None
    shape = network.n_components_[0], network.n_features_in_
    found = strongest_by_row(flows.reshape(shape), _INPUTS).tocoo()
    return found.coords[1], found.coords[0], found.data


def _facts(
    network: NetworkArrays,
    X: np.ndarray,
    outputs: np.ndarray,
    shown: np.ndarray,
    model: Callable[[np.ndarray], np.ndarray] | None,
) -> list[list[tuple[str, str]]]:
    """Say what the network, and the model, give for each row."""
    classes, rule = getattr(network, "classes_", None), network.decision_rule
    own = None if model is None else model(X)
    label, own_label = (
        None if values is None or classes is None else decide(values, classes, rule)
        for values in (outputs, own)
    )
    found = []
    for i, j in enumerate(shown.tolist()):
        name = network.output_names_[j]
        what = name if classes is None else f"logit of class {name}"
        facts = [(f"{what} by the network", f"{outputs[i, j]:.3f}")]
        if own is not None:
            facts.append(("by the model itself", f"{own[i, j]:.3f}"))
        if label is not None:
            facts.append(("predicted by the network", str(label[i])))
        if own_label is not None:
            facts.append(("by the model", str(own_label[i])))
        found.append(facts)
    return found
