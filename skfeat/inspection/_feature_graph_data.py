"""What a feature graph shows of a network: flows of one row, of many, or weights."""

import numpy as np
from scipy import sparse

from skfeat.chain._slopes import LINEAR
from skfeat.chain._steps import walk
from skfeat.inspection._common import check_names, param_error
from skfeat.network import SparseFeatureNetwork


def graph_data(caller, network, X, *, output, inputs, input_names, output_names):
    """Return the parameters of a :class:`FeatureGraphDisplay`.

    X of one row gives its flows with their signs, of several their mean magnitudes,
    None the weights. The others are as of :meth:`FeatureGraphDisplay.from_network`.
    """
    if not isinstance(network, SparseFeatureNetwork):
        raise TypeError(
            f"{caller} draws a SparseFeatureNetwork, as FeatureUnwrapper.network() "
            f"returns; got {type(network).__name__}."
        )
    if X is None and output is not None:
        raise ValueError(
            f"{caller}: output={output!r} needs X: without rows the weights are drawn, "
            f"which lead to all outputs."
        )
    d, q = network.n_features_in_, network.n_outputs_
    input_names = check_names(caller, "input_names", input_names, d)
    output_names = check_names(caller, "output_names", output_names, q)
    output_names = output_names or [f"output {o}" for o in range(q)]
    if X is None:
        data = _weights(caller, network, inputs)
    else:
        X = X if sparse.issparse(X) or np.ndim(X) != 1 else np.reshape(X, (1, -1))
        if np.shape(X)[:1] == (1,):
            data = _flows_of_one(network, X, output, inputs, output_names)
            output_names = [data.pop("output_name")]
        else:
            data = _mean_flows(network, X, output, inputs)
    names = [*network.feature_names_]
    # Modules of an nn.Sequential are called "0", "2": that alone tells nothing.
    titles = [f"layer {n}" if n.isdigit() else n for n in network.layer_names_]
    if inputs:
        names.insert(0, input_names or [f"x{k}" for k in range(d)])
        titles.insert(0, "inputs")
    if len(data["edges"]) == len(names):
        names.append(output_names)
        titles.append("outputs" if len(output_names) > 1 else "output")
    return {"node_names": names, "layer_names": titles, **data}


def _flows_of_one(network, X, output, inputs, output_names):
    parts = network.attribute(X, output, inputs=inputs)
    edges = [parts.flow(0, i) for i in range(len(network.coefs_))]
    values = [column[0] for column in parts.features]
    edges.append(sparse.csr_array(parts.features[-1]))
    if inputs:
        shape = network.n_components_[0], network.n_features_in_
        edges.insert(0, parts.input_edges.reshape(shape).tocsr())
        values.insert(0, parts.inputs[0])
    name, value = output_names[parts.output[0]], float(parts.value[0])
    first = float(values[0].sum())
    source = "the inputs" if inputs else "the first features"
    return {
        "edges": edges,
        "node_values": [*values, parts.value],
        "output_name": name,
        "heading": f"{name}: {value:.2f} = {first:.2f} from {source} "
        f"{'-' if value < first else '+'} {abs(value - first):.2f} from constants",
        "value_name": f"contribution to {name}",
    }


def _mean_flows(network, X, output, inputs):
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


def _weights(caller, network, inputs):
    edges = list(network.coefs_)
    if inputs:
        if network.front.steps:
            expected = "False without X where steps come before the first features"
            raise param_error(caller, "inputs", expected, inputs)
        edges.insert(0, sparse.csr_array(network.encoder_coef_))
    if all(step.kind in LINEAR for step in walk(network.back.steps)):
        # What a unit of each last feature adds to each output.
        d = network.back.n_features_in
        slopes = network.back.forward(np.eye(d)) - network.back.forward(
            np.zeros((1, d))
        )
        edges.append(sparse.csr_array((network.decoder_coef_ @ slopes).T))
    if not edges:
        expected = "given for a network of a single layer with a nonlinear end"
        raise param_error(caller, "X", expected, None)
    return {"edges": edges, "heading": "Weights", "value_name": "weight"}
