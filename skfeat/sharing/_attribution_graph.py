"""The graph of one explained row, in the format of sites that show such graphs."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import numpy as np

from skfeat import _version
from skfeat.network import Explanation
from skfeat.utils._checks import check_path, type_error, value_error
from skfeat.utils._site import SITE

_SCHEMA_VERSION = 1
_INPUT, _FEATURE, _OUTPUT = "embedding", "cross layer transcoder", "logit"
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]*")


def attribution_graph(
    explanation: Explanation,
    path: str | os.PathLike[str] | None = None,
    *,
    slug: str = "row",
    scan: str = "skfeat",
) -> dict[str, Any]:
    """Write the explanation of one row as an attribution graph.

    The format is that of circuit-tracer [1]_, version 1, which Neuronpedia reads. Its
    words are those of language models: here the "tokens" of the prompt are the inputs
    with their values, and an "embedding" is what an input brings; features, which
    belong to no single input, stand at the last one. Weights of links are exact
    contributions to the output: what enters a node adds up to what it brings, but for
    constants, which have no node.

    Parameters
    ----------
    explanation : Explanation
        What ``FeatureUnwrapper.explain`` or ``SparseFeatureNetwork.explain`` returns.
    path : str or path, default=None
        A JSON file to write the graph to.
    slug : str, default="row"
        Name of the graph in addresses: lower-case letters, digits and hyphens.
    scan : str, default="skfeat"
        Name of the model, by which a site finds the pages of its features.

    Returns
    -------
    graph : dict
        ``metadata``; ``qParams``, with the output pinned; ``nodes``, of every input
        and feature that brings anything, and of the output; ``links``, with
        ``source``, ``target`` and ``weight``. The ``influence`` of a node is the share
        of all magnitudes that it and the stronger ones of its kind have: a threshold
        on it keeps the strongest.

    Raises
    ------
    TypeError
        If `explanation` is no Explanation.
    ValueError
        If `slug` is not as above.

    References
    ----------
    .. [1] E. Ameisen et al., "Circuit Tracing: Revealing Computational Graphs in
       Language Models", Transformer Circuits Thread, 2025.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skfeat import FeatureUnwrapper, SparseAutoencoder
    >>> from skfeat.sharing import attribution_graph
    >>> X, y = load_iris(return_X_y=True)
    >>> X = (X - X.mean(axis=0)) / X.std(axis=0)
    >>> mlp = MLPClassifier((8, 8), solver="lbfgs", tol=0.01, random_state=0)
    >>> part = SparseAutoencoder(8, k=4, max_iter=200, random_state=0)
    >>> unwrapper = FeatureUnwrapper(mlp.fit(X, y), autoencoder=part, random_state=0)
    >>> graph = attribution_graph(unwrapper.fit(X).explain(X[0]))
    >>> graph["metadata"]["prompt_tokens"][0], graph["nodes"][-1]["clerp"]
    ('x0=-0.9007', 'logit of class 0: ...')
    """
    if not isinstance(explanation, Explanation):
        raise type_error(
            "explanation", "what FeatureUnwrapper.explain returns", explanation
        )
    if not isinstance(slug, str) or not _SLUG.fullmatch(slug):
        raise value_error("slug", "lower-case letters, digits and hyphens", slug)
    if not isinstance(scan, str):
        raise type_error("scan", "a str", scan)
    tokens = _tokens(explanation)
    nodes = _Nodes(explanation, len(tokens))
    graph = {
        "metadata": {
            "slug": slug,
            "scan": scan,
            "transcoder_list": [],
            "prompt_tokens": tokens,
            "prompt": ", ".join(tokens),
            "node_threshold": 1.0,
            "schema_version": _SCHEMA_VERSION,
            "info": {
                "generator": {
                    "name": "skfeat",
                    "version": _version.__version__,
                    "url": SITE,
                }
            },
        },
        "qParams": {
            "pinnedIds": [nodes.output_id],
            "supernodes": [],
            "linkType": "both",
            "clickedId": nodes.output_id,
            "sg_pos": "",
        },
        "nodes": nodes.nodes,
        "links": _links(explanation, nodes),
    }
    if path is not None:
        text = json.dumps(graph, indent=1, allow_nan=False) + "\n"
        check_path("path", path).write_text(text, encoding="utf-8")
    return graph


def _tokens(explanation: Explanation) -> list[str]:
    parts = explanation.attribution
    if parts.inputs is None:
        return ["row"]
    values = explanation.values[0]
    return [f"{n}={v:.4g}" for n, v in zip(parts.input_names, values, strict=True)]


class _Nodes:
    """The nodes of a graph, and the numbers that name them."""

    def __init__(self, explanation: Explanation, n_tokens: int):
        parts = explanation.attribution
        self.last, self.n_tokens = n_tokens - 1, n_tokens
        self.nodes: list[dict[str, Any]] = []
        self.ids: list[dict[int, str]] = []
        values = explanation.values
        self.has_inputs = parts.inputs is not None
        if parts.inputs is not None:
            self._add("E", parts.inputs[0], values[0], parts.input_names, _INPUT)
            values = values[1:]
        for layer, (brings, value) in enumerate(
            zip(parts.features, values, strict=True)
        ):
            names = parts.feature_names[layer]
            self._add(str(layer), brings[0], value, names, _FEATURE)
        self.output_id = self._add_output(explanation)

    def _add(
        self,
        layer: str,
        brings: np.ndarray,
        values: np.ndarray,
        names: list[str],
        kind: str,
    ) -> None:
        """Add the nodes of a layer that bring anything."""
        ids: dict[int, str] = {}
        strength = np.abs(brings.astype(np.float64))
        order = np.argsort(-strength, kind="stable")
        shares = np.empty(len(order))
        shares[order] = np.cumsum(strength[order]) / (strength.sum() or 1.0)
        for j in np.flatnonzero(brings).tolist():
            at = j if kind == _INPUT else self.last
            ids[j] = f"{layer}_{j}_{at}"
            self.nodes.append(
                self._node(
                    ids[j],
                    layer,
                    j,
                    at,
                    feature_type=kind,
                    clerp=f"{names[j]}: {brings[j]:+.4g}",
                    influence=min(float(shares[j]), 1.0),
                    activation=float(values[j]),
                )
            )
        self.ids.append(ids)

    def _add_output(self, explanation: Explanation) -> str:
        parts = explanation.attribution
        number, layer = int(parts.output[0]), str(len(parts.features))
        name = explanation.output_name
        if explanation.prediction is not None:
            name = f"logit of class {name}"
        node_id = f"{layer}_{number}_{self.last}"
        node = self._node(
            node_id,
            layer,
            number,
            self.last,
            feature_type=_OUTPUT,
            clerp=f"{name}: {explanation.value:.4g}",
            influence=None,
            activation=explanation.value,
        )
        node["is_target_logit"] = True
        self.nodes.append(node)
        self.ids.append({number: node_id})
        return node_id

    def _node(
        self, node_id: str, layer: str, feature: int, at: int, **others: Any
    ) -> dict[str, Any]:
        reverse = self.n_tokens - 1 - at
        return {
            "node_id": node_id,
            "feature": feature,
            "layer": layer,
            "ctx_idx": at,
            "token_prob": 0.0,
            "is_target_logit": False,
            "run_idx": 0,
            "reverse_ctx_idx": reverse,
            "jsNodeId": f"{layer}_{feature}-{reverse}",
            **others,
        }


def _links(explanation: Explanation, nodes: _Nodes) -> list[dict[str, Any]]:
    """Return what flows between nodes, from the inputs on."""
    parts = explanation.attribution
    flows = [parts.flow(0, i) for i in range(len(parts.coefs))]
    if parts.input_edges is not None:
        shape = len(parts.feature_names[0]), len(parts.input_names)
        flows.insert(0, parts.input_edges.reshape(shape).tocsr())
    links = []
    for i, flow in enumerate(flows):
        found = flow.tocoo()
        target, source = found.coords
        for start, end, weight in zip(
            source.tolist(), target.tolist(), found.data.tolist(), strict=True
        ):
            # What leads to a feature that brings nothing cancels out or is zero.
            if weight and start in nodes.ids[i] and end in nodes.ids[i + 1]:
                links.append((nodes.ids[i][start], nodes.ids[i + 1][end], weight))
    last = parts.features[-1][0]
    links += [(name, nodes.output_id, last[j]) for j, name in nodes.ids[-2].items()]
    return [
        {"source": source, "target": target, "weight": float(weight)}
        for source, target, weight in links
    ]
