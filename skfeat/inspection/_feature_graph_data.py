"""The data of a feature graph: flows of one row, mean flows of many, or weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from skfeat.chain._slopes import LINEAR
from skfeat.chain._steps import walk
from skfeat.inspection._inputs import check_labels
from skfeat.network import Attribution, Explanation, SparseFeatureNetwork
from skfeat.network._arrays import layer_title
from skfeat.utils._checks import check_matrix, value_error


def check_graph(
    edges: Any, node_values: Any, node_names: Any, layer_names: Any
) -> tuple[
    list[sparse.csr_array],
    list[np.ndarray] | None,
    list[list[str]],
    list[str] | None,
]:
    """Check the parameters of a :class:`FeatureGraphDisplay`, and fill in names."""
    if not isinstance(edges, (list, tuple)) or not edges:
        raise value_error("edges", "a list of matrices", edges)
    matrices = [sparse.csr_array(check_matrix("edges", matrix)) for matrix in edges]
    sizes = [matrices[0].shape[1], *(matrix.shape[0] for matrix in matrices)]
    if [matrix.shape[1] for matrix in matrices] != sizes[:-1]:
        allowed = "matrices that each have a column for each row of the one before"
        raise value_error("edges", allowed, [matrix.shape for matrix in matrices])
    titles = check_labels("layer_names", layer_names, len(sizes))
    if node_names is None:
        node_names = [[f"{i}_{j}" for j in range(n)] for i, n in enumerate(sizes)]
    elif len(node_names) != len(sizes):
        raise value_error("node_names", f"{len(sizes)} lists", node_names)
    names = [
        check_labels("node_names", column, n) or []
        for column, n in zip(node_names, sizes, strict=True)
    ]
    if node_values is None:
        return matrices, None, names, titles
    values = [np.asarray(column, dtype=float) for column in node_values]
    if [column.shape for column in values] != [(n,) for n in sizes] or not all(
        np.isfinite(column).all() for column in values
    ):
        allowed = f"finite arrays of {sizes} values or None"
        raise value_error("node_values", allowed, node_values)
    return matrices, values, names, titles


def graph_data(
    network: SparseFeatureNetwork,
    X: Any,
    *,
    output: Any,
    inputs: bool,
    input_names: Sequence[str] | None,
    output_names: Sequence[str] | None,
    model: Callable[[Any], np.ndarray] | None = None,
) -> dict[str, Any]:
    """Return the parameters of the :class:`FeatureGraphDisplay` of a network.

    For one row of X these are its flows with their signs, for several rows the mean
    magnitudes, and for None the weights. `model` computes of rows the outputs of the
    model that the network stands for: the heading of one row has both. All other
    parameters are those of :meth:`FeatureGraphDisplay.from_network`.
    """
    if not isinstance(network, SparseFeatureNetwork):
        raise TypeError(
            "network must be a SparseFeatureNetwork, as FeatureUnwrapper.network() "
            f"returns it. Got {type(network).__name__} instead."
        )
    if X is None and output is not None:
        raise ValueError(
            f"output={output!r} needs X: without rows the weights are drawn, which "
            "lead to all outputs."
        )
    d, q = network.n_features_in_, network.n_outputs_
    input_labels = check_labels("input_names", input_names, d) or network.input_names_
    output_labels = check_labels("output_names", output_names, q)
    output_labels = output_labels or network.output_names_
    if X is None:
        data = _weights(network, inputs)
    else:
        X = X if sparse.issparse(X) or np.ndim(X) != 1 else np.reshape(X, (1, -1))
        if np.shape(X)[:1] == (1,):
            parts = network.attribute(X, output, inputs=inputs)
            kind = "logit of class " if hasattr(network, "classes_") else ""
            data = _flows_of_one(parts, output_labels, kind)
            shown = int(parts.output[0])
            if model is not None:
                own = model(X)[0]
                data["heading"] += _own_output(own, shown, output, output_labels)
            output_labels = [output_labels[shown]]
        else:
            data = _mean_flows(network, X, output, inputs)
    has_outputs = len(data["edges"]) == len(network.feature_names_) + inputs
    return {
        **_names(
            network.feature_names_,
            network.layer_names_,
            input_labels if inputs else None,
            output_labels if has_outputs else None,
        ),
        **data,
    }


def _names(
    features: list[list[str]],
    layers: list[str],
    inputs: list[str] | None,
    outputs: list[str] | None,
) -> dict[str, Any]:
    """Return the names of nodes and layers, with those ends that are given."""
    names = [*features]
    titles = [layer_title(name) for name in layers]
    if inputs is not None:
        names.insert(0, inputs)
        titles.insert(0, "inputs")
    if outputs is not None:
        names.append(outputs)
        titles.append("outputs" if len(outputs) > 1 else "output")
    return {"node_names": names, "layer_names": titles}


def explained_data(explanation: Any) -> dict[str, Any]:
    """Return the parameters of the graph of an explanation, as of one row of X."""
    if not isinstance(explanation, Explanation):
        raise TypeError(
            "explanation must be what FeatureUnwrapper.explain returns. Got "
            f"{type(explanation).__name__} instead."
        )
    parts = explanation.attribution
    kind = "" if explanation.prediction is None else "logit of class "
    data = _flows_of_one(parts, parts.output_names, kind)
    if explanation.model_value is not None:
        data["heading"] += f"\nthe model itself: {explanation.model_value:.2f}"
    inputs = None if parts.inputs is None else parts.input_names
    outputs = [explanation.output_name]
    return {
        **_names(parts.feature_names, parts.layer_names, inputs, outputs),
        **data,
    }


def _flows_of_one(
    parts: Attribution, output_names: list[str], kind: str
) -> dict[str, Any]:
    """Return the edges, values and texts of the graph of one attributed row.

    `kind` says what the output of a name is, as "logit of class ".
    """
    edges = [parts.flow(0, i) for i in range(len(parts.coefs))]
    values = [column[0] for column in parts.features]
    edges.append(sparse.csr_array(parts.features[-1]))
    source = "the first features"
    if parts.inputs is not None and parts.input_edges is not None:
        source = "the inputs"
        shape = len(parts.feature_names[0]), len(parts.input_names)
        edges.insert(0, parts.input_edges.reshape(shape).tocsr())
        values.insert(0, parts.inputs[0])
    name, value = output_names[parts.output[0]], float(parts.value[0])
    first = float(values[0].sum())
    return {
        "edges": edges,
        "node_values": [*values, parts.value],
        "heading": f"{kind}{name}: {value:.2f} = {first:.2f} from {source} "
        f"{'-' if value < first else '+'} {abs(value - first):.2f} from constants",
        "value_name": f"contribution to {'the ' if kind else ''}{kind}{name}",
    }


def _own_output(own: np.ndarray, shown: int, asked: Any, names: list[str]) -> str:
    """Write what the model itself gives where the network gives what is shown."""
    text, most = f"\nthe model itself: {own[shown]:.2f}", int(own.argmax())
    if asked is None and most != shown:
        text += f", less than the {own[most]:.2f} of {names[most]}"
    return text


def _mean_flows(
    network: SparseFeatureNetwork, X: Any, output: Any, inputs: bool
) -> dict[str, Any]:
    flow = network.mean_flow(X, output, inputs=inputs)
    edges = [*flow.edges, sparse.csr_array(flow.to_outputs)]
    values = [*flow.features, flow.to_outputs.sum(axis=1)]
    if inputs:
        edges.insert(0, flow.input_edges)
        values.insert(0, flow.inputs)
    return {
        "edges": edges,
        "node_values": values,
        "heading": f"Mean of {np.shape(X)[0]:,} rows",
        "value_name": "mean |contribution| to the output",
        "signed": False,
    }


def _weights(network: SparseFeatureNetwork, inputs: bool) -> dict[str, Any]:
    edges = list(network.coefs_)
    if inputs:
        if network.front.steps:
            allowed = "False without X where steps come before the first features"
            raise value_error("inputs", allowed, inputs)
        edges.insert(0, sparse.csr_array(network.encoder_coef_))
    if all(step.kind in LINEAR for step in walk(network.back.steps)):
        # The head is affine: what one unit of each last feature adds to each output.
        d = network.back.n_features_in
        jacobian = network.back.forward(np.eye(d)) - network.back.forward(
            np.zeros((1, d))
        )
        edges.append(sparse.csr_array((network.decoder_coef_ @ jacobian).T))
    if not edges:
        allowed = "given for a network of a single layer with a nonlinear head"
        raise value_error("X", allowed, None)
    return {"edges": edges, "heading": "Weights", "value_name": "weight"}
