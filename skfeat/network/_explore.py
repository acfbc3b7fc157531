"""A SparseFeatureNetwork and some rows as what the explorer's page shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from skfeat.explorer._description import Explorer, Gap, Layer, formulas_of
from skfeat.explorer._page import write_page
from skfeat.explorer._rows import (
    MOST_MEASURED,
    RowStore,
    as_labels,
    as_random,
    check_image_shape,
    fitting_examples,
    shown_columns,
)
from skfeat.explorer._statistics import choose_rows, count_classes, summarize
from skfeat.network import _predict
from skfeat.network._arrays import NetworkArrays, as_inputs, layer_title
from skfeat.network._decide import hard_predictions
from skfeat.network._explanation import output_index
from skfeat.network._explore_flows import Flows
from skfeat.network._explore_rows import shown_rows
from skfeat.utils._checks import check_int
from skfeat.utils._files import check_writable

# Pairs of a row and a feature that are ablated at once.
_ABLATED_ROWS = 4096
# Flows from an input to a feature on a row: these take a minute. So few rows at least.
_MOST_FLOWS, _LEAST_MEASURED = 3e8, 50
# Outputs for which the effects of a feature are listed one by one.
_MOST_OUTPUTS = 32


@dataclass
class Options:
    """The parameters of :meth:`SparseFeatureNetwork.explore`, checked there."""

    title: str = "Explorer"
    output: int | str | None = None
    image_shape: Any = None
    n_rows: int = 24
    n_examples: int = 6
    random_state: Any = 0
    model: Callable[[np.ndarray], np.ndarray] | None = None
    """Computes the outputs of the model that the network stands for."""
    logic: Callable[[list[np.ndarray]], list[list[str] | None]] | None = None
    """Writes the logic of each layer's features, of the features of some rows."""


def explore(
    network: NetworkArrays, X: Any, y: Any, path: Any, options: Options
) -> Path:
    """Do what :meth:`SparseFeatureNetwork.explore` describes."""
    file = check_writable(path)
    return write_page(describe(network, X, y, options), file)


def describe(network: NetworkArrays, X: Any, y: Any, options: Options) -> Explorer:
    """Return what the page shows of a network on rows X with labels y."""
    X = as_inputs(network, X)
    if not len(X):
        raise ValueError("X must have at least one row to show, got none.")
    n_rows = check_int("n_rows", options.n_rows)
    n_examples = check_int("n_examples", options.n_examples, 1)
    n_examples = fitting_examples(n_examples, sum(network.n_components_), X.shape)
    image_shape = check_image_shape(options.image_shape, X.shape[1])
    labels = as_labels(y, len(X))
    random = as_random(options.random_state)
    network_rows = _Rows(network, X, output_index(network, options.output))
    measured = np.sort(random.permutation(len(X))[: network_rows.n_measured()])
    parts = Flows(network, X[measured], network_rows.outputs_of(measured))
    layers, columns = _layers(network, network_rows, parts)
    _add_effects(network, X[measured], network_rows.outputs_of(measured), layers)
    features = [layer for layer in layers if layer.kind == "features"]
    if options.logic is not None:
        own = [part[measured].toarray() for part in network_rows.features]
        for layer, logics in zip(features, options.logic(own), strict=True):
            layer.logics = logics

    shown = np.sort(random.permutation(len(X))[:n_rows])
    store = RowStore(shown)
    for layer, values in zip(layers, columns, strict=True):
        layer.statistics = summarize(values)
        if layer.kind != "inputs":
            choose_rows(values, layer.statistics, n_examples, n_examples, random)
            store.add(layer.statistics)
        if layer.kind == "features" and labels is not None and labels.classes:
            of = labels.codes, len(labels.classes)
            layer.statistics.classes = count_classes(values, *of)
    for layer in layers:
        if layer.statistics is not None:
            store.renumber(layer.statistics)
    return Explorer(
        title=options.title,
        layers=layers,
        gaps=parts.gaps,
        rows=shown_rows(network, X, shown, network_rows, store, labels, options.model),
        examples=store.describe(
            X,
            labels,
            image_shape,
            shown_columns(network.input_names_, X, parts.inputs),
        ),
        flow="contribution" if parts.exact else "product",
        strength_name=parts.name,
        part_name=parts.part_name,
        effect_name="mean |change| of the output without it",
        notes=_notes(len(X), len(measured), parts),
    )


class _Rows:
    """Features and outputs of all rows, in sparse columns."""

    def __init__(self, network: NetworkArrays, X: np.ndarray, output: int | None):
        blocks: list[list[sparse.csc_array]] = []
        outputs = []
        for rows in _predict.blocks(network, len(X)):
            found = _predict.checked_features(network, X[rows])
            blocks.append([sparse.csc_array(part) for part in found])
            outputs.append(_predict.finish(network, found[-1]))
        self.X = X
        self.features: list[Any] = [
            sparse.csc_array(sparse.vstack(parts, format="csc"))
            for parts in zip(*blocks, strict=True)
        ]
        self.outputs = np.concatenate(outputs)
        if output is not None:
            self.shown = np.full(len(X), output)
        elif hasattr(network, "classes_") and network.n_outputs_ > 1:
            self.shown = hard_predictions(self.outputs, network.decision_rule)
        else:
            self.shown = self.outputs.argmax(axis=1)

    def n_measured(self) -> int:
        """Return over how many rows to average; fewer of wide layers of dense codes."""
        per_row = self.features[0].nnz / len(self.X) * self.X.shape[1]
        affordable = int(_MOST_FLOWS / max(per_row, 1))
        return min(MOST_MEASURED, max(_LEAST_MEASURED, affordable))

    def outputs_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the output that some rows are shown by."""
        return self.shown[rows]


def _layers(
    network: NetworkArrays, rows: _Rows, flows: Flows
) -> tuple[list[Layer], list[sparse.csc_array]]:
    """Return the columns of the graph, and the values of their nodes on all rows."""
    titles = [layer_title(name) for name in network.layer_names_]
    named: list[tuple[str, str, Sequence[str], Any]] = [
        (title, "features", names, values)
        for title, names, values in zip(
            titles, network.feature_names_, rows.features, strict=True
        )
    ]
    if len(flows.strength) > len(named):
        outputs = network.output_names_, rows.outputs
        title = "outputs" if network.n_outputs_ > 1 else "output"
        named.append((title, "outputs", *outputs))
        if len(flows.strength) > len(named):
            named.insert(0, ("inputs", "inputs", network.input_names_, rows.X))
    layers = [
        Layer(title=title, kind=kind, names=names, strength=strength)
        for (title, kind, names, _), strength in zip(named, flows.strength, strict=True)
    ]
    for at, layer in enumerate(layers[1:]):
        layer.formulas = _formulas(flows.gaps[at], layers[at], layer)
    return layers, [sparse.csc_array(values) for *_, values in named]


def _formulas(gap: Gap, before: Layer, layer: Layer) -> list[str] | None:
    """Write each node as a sum of those before it, if all of its weights are there."""
    if gap.weights is None or len(gap.weights) < gap.n_edges:
        return None
    shape = len(layer.names), len(before.names)
    coef = sparse.csr_array((gap.weights, gap.indices, gap.indptr), shape=shape)
    return formulas_of(coef, before.names, layer.names)


def _add_effects(
    network: NetworkArrays, X: np.ndarray, output: np.ndarray, layers: list[Layer]
) -> None:
    """Measure what leaving each feature out, alone, changes on the rows X."""
    own = _predict.checked_features(network, X)
    before = _predict.finish(network, own[-1])
    classes = getattr(network, "classes_", None)
    rule = network.decision_rule
    decided = None if classes is None else hard_predictions(before, rule)
    features = [layer for layer in layers if layer.kind == "features"]
    for at, (layer, F) in enumerate(zip(features, own, strict=True)):
        n, m = F.shape
        layer.effect, sums = np.zeros(m), np.zeros((m, network.n_outputs_))
        if decided is not None:
            layer.flips = np.zeros(m)
        # Elsewhere it is zero already, and nothing changes.
        feature, row = np.nonzero(F.T)
        for start in range(0, len(row), _ABLATED_ROWS):
            span = slice(start, start + _ABLATED_ROWS)
            j, i = feature[span], row[span]
            without = F[i]
            without[np.arange(len(i)), j] = 0
            after = _predict.continue_checked(network, without, at)
            change = (after - before[i]).astype(float)
            np.add.at(sums, j, change / n)
            shown = np.abs(change[np.arange(len(i)), output[i]])
            np.add.at(layer.effect, j, shown / n)
            if decided is not None and layer.flips is not None:
                flipped = hard_predictions(after, rule) != decided[i]
                np.add.at(layer.flips, j, flipped / n)
        if network.n_outputs_ <= _MOST_OUTPUTS and layers[-1].kind == "outputs":
            layer.effects = sums


def _notes(n_rows: int, n_measured: int, flows: Flows) -> list[str]:
    over = f"All figures are over {n_rows:,} rows."
    if n_measured < n_rows:
        over = (
            f"Densities, histograms and examples are over {n_rows:,} rows, all other "
            f"figures over {n_measured:,} of them, drawn at random."
        )
    curved = (
        "The model is curved between the last features and the outputs, so that no "
        "split of an output is exact: edges show weight times activation."
    )
    return [over, *([] if flows.exact else [curved])]
