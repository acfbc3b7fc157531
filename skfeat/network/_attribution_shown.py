"""An attribution as it is shown: what the parts of each layer add up to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from skfeat.utils._shown import Column, Part

INPUTS, CONSTANTS = "inputs", "constants"
_NAMED = 4


def levels(attribution: Any) -> Iterator[tuple[str, list[str], np.ndarray, np.ndarray]]:
    """Yield the inputs, if they are among the parts, and then each layer.

    Yields
    ------
    layer : str
    names : list of str
        Of the parts.
    parts : ndarray of shape (n, m)
    constants : ndarray of shape (n,)
        What the biases bring that come after them.
    """
    one = attribution
    if one.inputs is not None:
        constants = one.total("inputs") - one.inputs.sum(axis=1)
        yield INPUTS, one.input_names, one.inputs, constants
    for i, parts in enumerate(one.features):
        constants = one.total(i) - parts.sum(axis=1)
        yield one.layer_names[i], one.feature_names[i], parts, constants


def part_rows(
    attribution: Any,
    layer: str,
    names: list[str],
    parts: np.ndarray,
    constants: np.ndarray,
) -> dict[str, Any]:
    """Return a layer's parts that are not zero, row by row, and the constants."""
    whole = np.column_stack([parts, constants])
    labels = np.asarray([*names, CONSTANTS], dtype=object)
    outputs = np.asarray(attribution.output_names, dtype=object)[attribution.output]
    row, column = np.nonzero(whole)
    return {
        "row": row,
        "output": outputs[row],
        "layer": [layer] * len(row),
        "name": labels[column],
        "contribution": whole[row, column],
    }


def parts_of_attribution(attribution: Any) -> list[Part]:
    """Return what is shown of an attribution: means over its rows, layer by layer."""
    n = len(attribution.value)
    if not n:
        return ["contributions to an output of no rows"]
    counts = np.bincount(attribution.output)
    order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)].tolist()
    named = [f"{attribution.output_names[i]} in {counts[i]:,}" for i in order[:_NAMED]]
    if len(order) > _NAMED:
        named.append(f"{len(order) - _NAMED} others")
    heading = f"contributions to an output of each of {n:,} rows: {', '.join(named)}"
    if n == 1:
        heading = f"contributions to {attribution.output_names[order[0]]} in one row"
    table: list[list[str]] = []
    for layer, _, parts, constants in levels(attribution):
        sums = [
            np.maximum(parts, 0).sum(axis=1),
            np.minimum(parts, 0).sum(axis=1),
            constants,
            parts.sum(axis=1) + constants,
        ]
        active = np.count_nonzero(parts, axis=1).mean()
        means = [f"{one.mean():.4g}" for one in sums]
        table.append([layer, f"{parts.shape[1]:,}", f"{active:.4g}", *means])
    titles = {
        "layer": "",
        "parts": "features of the layer, or inputs",
        "active": "those that bring something, in a row",
        "for": "sum of the positive contributions",
        "against": "sum of the negative ones",
        "constants": "what biases after this layer bring",
        "output": "sum of all three, the same at each layer but for rounding",
    }
    cells = zip(*table, strict=True)
    mean = "" if n == 1 else "; figures are means over the rows"
    return [
        f"{heading}{mean}",
        [
            Column(title, list(column), meaning, is_text=title == "layer")
            for (title, meaning), column in zip(titles.items(), cells, strict=True)
        ],
    ]
