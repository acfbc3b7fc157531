"""A SparseFeatureNetwork as an ONNX file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from skfeat import _version
from skfeat.activations import Activation, JumpReLU, TopK
from skfeat.chain import Step
from skfeat.chain._kinds import JOINS, KINDS, OnnxGraph, add_affine
from skfeat.network._arrays import NetworkArrays, names_and_classes
from skfeat.utils._files import check_writable

# The first operator set with Gelu, and the file version that came with it: what is
# newer than it has to be, older runtimes refuse.
_OPSET, _IR_VERSION = 20, 9


def write(network: NetworkArrays, path: str | os.PathLike[str]) -> None:
    """Write the file that :meth:`SparseFeatureNetwork.to_onnx` describes."""
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise ImportError(
            "to_onnx needs onnx; install it by pip install skfeat[onnx]."
        ) from None

    path = check_writable(path)
    convolutions = getattr(network, "convolutions", None)
    graph = _graph_of(network) if convolutions is None else _graph_of_maps(network)
    graph.add("Identity", output="outputs")
    _save(network, graph, path)


def _graph_of(network: NetworkArrays) -> OnnxGraph:
    graph = OnnxGraph("X")
    _add_steps(graph, network.front.steps)
    if network.encoder_bias_.any():
        graph.add("Sub", graph.constant("encoder_bias", network.encoder_bias_))
    _add_layer(graph, network.encoder_coef_, network.encoder_intercept_)
    _add_activation(graph, network.activation, network.n_components_[0])
    connectors = zip(network.coefs_, network.intercepts_, network.links, strict=True)
    for coef, intercept, link in connectors:
        _add_layer(graph, coef, intercept)
        if link == "relu":
            graph.add("Relu")
    _add_layer(graph, network.decoder_coef_.T, network.decoder_intercept_)
    _add_steps(graph, network.back.steps)
    return graph


def _graph_of_maps(network: Any) -> OnnxGraph:
    """Return the graph of a network of maps, by convolutions."""
    graph = OnnxGraph("X")
    before, after = network.convolutions()
    _add_steps(graph, before)
    m, activation = network.n_shared_components_[0], network.shared_activation
    n_positions = network.n_components_[0] // m

    def add_shape(*sizes: int) -> None:
        shape = np.array([-1, *sizes], dtype=np.int64)
        graph.add("Reshape", graph.constant("shape", shape))

    if isinstance(activation, TopK) and activation.k < m:
        add_shape(m, n_positions)
        graph.add("Transpose", perm=[0, 2, 1])
        add_shape(m)
        _add_activation(graph, activation, m)
        add_shape(n_positions, m)
        graph.add("Transpose", perm=[0, 2, 1])
        add_shape(m * n_positions)
    else:
        if isinstance(activation, JumpReLU):
            activation = JumpReLU(np.repeat(activation.threshold, n_positions))
        _add_activation(graph, activation, m * n_positions)
    _add_steps(graph, after)
    return graph


def _save(network: NetworkArrays, graph: OnnxGraph, path: str | os.PathLike) -> None:
    import onnx

    def rows(name: str, width: int) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(
            name, onnx.TensorProto.FLOAT, ["n", width]
        )

    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [
                onnx.helper.make_node(operator, inputs, outputs, **attributes)
                for operator, inputs, outputs, attributes in graph.nodes
            ],
            "SparseFeatureNetwork",
            [rows("X", network.n_features_in_)],
            [rows("outputs", network.n_outputs_)],
            [
                onnx.numpy_helper.from_array(array, name)
                for name, array in graph.constants.items()
            ],
        ),
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="skfeat",
        producer_version=_version.__version__,
    )
    named = names_and_classes(network) | {"input_names": network.input_names_}
    onnx.helper.set_model_props(model, _metadata(named))
    onnx.save_model(model, os.fspath(path), format="protobuf")


def _metadata(named: dict[str, Any]) -> dict[str, str]:
    """Write in JSON what inputs and outputs are; a regressor has no classes."""
    classes = named["classes"]
    if classes is None:
        named = {key: named[key] for key in ("input_names", "output_names")}
    else:
        named["classes"] = classes.tolist()
    return {key: json.dumps(value, default=str) for key, value in named.items()}


def _add_layer(
    graph: OnnxGraph, coef: np.ndarray | sparse.csr_array, intercept: np.ndarray
) -> None:
    dense = coef if isinstance(coef, np.ndarray) else coef.toarray()
    add_affine(graph, dense, intercept)


def _add_activation(graph: OnnxGraph, activation: Activation, m: int) -> None:
    if isinstance(activation, TopK) and activation.n_groups > 1:
        own = m // activation.n_groups
        graph.add("Reshape", graph.constant("groups", np.array([-1, own])))
        _add_activation(graph, TopK(activation.k), own)
        graph.add("Reshape", graph.constant("rows", np.array([-1, m])))
        return
    pre = graph.last
    if isinstance(activation, JumpReLU):
        threshold = graph.constant("threshold", activation.threshold)
        above = graph.add("Greater", threshold)
        graph.add_on("Where", above, pre, graph.constant("zero", np.zeros(1)))
    elif isinstance(activation, TopK) and activation.k < m:
        k = graph.constant("k", np.array([activation.k], dtype=np.int64))
        largest = graph.add("TopK", k, n_outputs=2, axis=1, sorted=0)
        values = graph.add("Relu")
        graph.add_on("Shape", pre)
        zeros = graph.add("ConstantOfShape")  # of float32, if not told otherwise
        graph.add_on("ScatterElements", zeros, f"{largest}_1", values, axis=1)
    else:
        graph.add("Relu")


def _add_steps(graph: OnnxGraph, steps: Sequence[Step]) -> None:
    for step in steps:
        if step.branches:
            _add_join(graph, step)
        else:
            KINDS[step.kind].onnx(graph, step.arrays, step.settings)


def _add_join(graph: OnnxGraph, step: Step) -> None:
    source, results = graph.last, []
    for branch in step.branches:
        graph.last = source
        _add_steps(graph, branch)
        results.append(graph.last)
    JOINS[step.kind].onnx(graph, results)
