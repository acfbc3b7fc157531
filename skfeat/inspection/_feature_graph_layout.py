"""The layout of a feature graph: which boxes are shown, in what order, how large.

Lengths are typographic points; a column is an array of the nodes of one layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

SMALLEST_FONT = 5.0
LARGEST_IMAGE = 30.0  # side of an image in a box
IMAGE_MARGIN = 0.3  # about an image, in font sizes
LABELLED_BOX = 1.5  # height of a box with one line of text, in font sizes
_UNLABELLED_BOX = 0.2  # height of a box without text, in heights of a labelled box
_GROWTH = 1.2  # extra height of the strongest node's box, in the same unit


@dataclass(frozen=True)
class Edges:
    """The edges shown between two layers, the weakest first."""

    source: np.ndarray
    target: np.ndarray
    value: np.ndarray
    share: float
    """Their share of the sum of all magnitudes between the two layers."""


def strongest_edges(matrices: Sequence[Any], n_edges: int) -> list[Edges]:
    """Choose the strongest edges between neighbouring layers, from the last backwards.

    Before the last layer, an edge must lead to a node from which a chosen edge leads
    on.

    Parameters
    ----------
    matrices : list of sparse arrays of shape (n_after, n_before)
    n_edges : int
        Largest number of edges between two layers.

    Returns
    -------
    list of Edges
    """
    chosen: list[Edges] = []
    reached = None
    for matrix in reversed(matrices):
        nonzeros = sparse.coo_array(matrix)
        target, source = nonzeros.coords
        strength = np.abs(nonzeros.data)
        total = strength.sum()
        if reached is not None:
            strength = np.where(np.isin(target, reached), strength, 0)
        order = np.argsort(-strength, kind="stable")[:n_edges]
        order = order[strength[order] > 0][::-1]
        share = strength[order].sum() / total if total else 1.0
        edges = Edges(source[order], target[order], nonzeros.data[order], float(share))
        chosen.insert(0, edges)
        reached = np.unique(edges.source)
    return chosen


def shown_columns(gaps: list[Edges], n_last: int) -> list[np.ndarray]:
    """Return the nodes of each column that an edge touches.

    A small last column, of `n_last` nodes, is shown as a whole, so that outputs that no
    edge reaches are visible as such.
    """
    columns = [np.unique(gaps[0].source)]
    for before, after in zip(gaps, [*gaps[1:], None], strict=True):
        touched = [before.target] if after is None else [before.target, after.source]
        columns.append(np.unique(np.concatenate(touched)))
    if n_last <= 12:
        columns[-1] = np.arange(n_last)
    return columns


def ordered_columns(
    columns: list[np.ndarray], gaps: list[Edges], n_sweeps: int = 8
) -> list[np.ndarray]:
    """Order the nodes of all columns but the last so that few edges cross.

    Sweeps from the last column to the first and back move each node to the mean height
    of its neighbours, weighted by their edges.
    """
    columns = [column.copy() for column in columns]
    last = len(columns) - 1
    for sweep in range(n_sweeps):
        backwards = sweep % 2 == 0
        for at in range(last - 1, -1, -1) if backwards else range(1, last):
            beside = at + 1 if backwards else at - 1
            edges = gaps[min(at, beside)]
            own, other = edges.source, edges.target
            if not backwards:
                own, other = other, own
            place = _places(columns[beside])
            sums = {node: [0.0, 0.0] for node in columns[at].tolist()}
            ends = zip(own.tolist(), other.tolist(), np.abs(edges.value), strict=True)
            for node, neighbour, weight in ends:
                sums[node][0] += weight * place[neighbour]
                sums[node][1] += weight
            present = _places(columns[at])
            mean = [
                total / weight if weight else present[node]
                for node, (total, weight) in sums.items()
            ]
            columns[at] = columns[at][np.argsort(mean, kind="stable")]
    return columns


def _places(column: np.ndarray) -> dict[int, float]:
    """Map each node of a column to its relative place, from 0 to 1."""
    n = len(column)
    return {node: (i + 0.5) / n for i, node in enumerate(column.tolist())}


def font_size(columns: Sequence[Any], height: float, largest: float) -> float:
    """Return the largest font at which all labels of every column fit its height."""
    longest = max(map(len, columns))
    fitting = height / (1.3 * LABELLED_BOX * longest)
    return float(np.clip(fitting, SMALLEST_FONT, largest))


def image_side(columns: Sequence[Any], height: float, font: float) -> float:
    """Return the largest side of images at which those of every column fit its height.

    Parameters
    ----------
    columns : sequence
        The columns that have images.
    height : float
        Height of a column.
    font : float
    """
    longest = max(map(len, columns), default=1)
    fitting = height / (1.3 * max(1, longest)) - 2 * IMAGE_MARGIN * font
    return float(np.clip(fitting, font, LARGEST_IMAGE))


def box_heights(
    strength: np.ndarray, height: float, font: float, image: float = 0.0
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the height of each box; where they do not fit, weak ones lose the label.

    Parameters
    ----------
    strength : ndarray of shape (n,)
        From 0 to 1.
    height : float
        Height of the column.
    font : float
    image : float, default=0
        Height of the images in the boxes.

    Returns
    -------
    heights : ndarray of shape (n,)
    labelled : ndarray of bool of shape (n,)
    gap : float
        Distance between two boxes.
    """
    n, line = len(strength), LABELLED_BOX * font
    box = max(line, image + 2 * IMAGE_MARGIN * font) if image else line
    gap = min(0.3 * line, height / (3 * max(1, n)))
    height = height - gap * (n - 1)
    labelled = np.ones(n, bool)
    if n * box <= height:
        growth = _GROWTH * line * np.sqrt(strength)
        spare = (height - n * box) / max(growth.sum(), 1e-12)
        return box + growth * min(1.0, spare), labelled, gap
    unlabelled = min(_UNLABELLED_BOX * line, height / n)
    n_labelled = max(0, int((height - n * unlabelled) / (box - unlabelled)))
    labelled[np.argsort(-strength, kind="stable")[n_labelled:]] = False
    return np.where(labelled, box, unlabelled), labelled, gap


def box_bottoms(
    heights: np.ndarray, gap: float, column_height: float, labelled_height: float
) -> np.ndarray:
    """Stack the boxes about the middle of the column, using spare height for gaps."""
    n = len(heights)
    spare = column_height - heights.sum() - gap * (n - 1)
    gap += min(max(0.0, spare) / max(1, n), 1.8 * labelled_height)
    total = heights.sum() + gap * (n - 1)
    offsets = np.concatenate([[0], np.cumsum(heights + gap)[:-1]])
    tops = (column_height + total) / 2 - offsets
    return tops - heights


def ports(
    ends: tuple[np.ndarray, np.ndarray],
    columns: tuple[np.ndarray, np.ndarray],
    centres: tuple[np.ndarray, np.ndarray],
    heights: np.ndarray,
) -> np.ndarray:
    """Spread the ends of edges over the sides of boxes, ordered by their other ends.

    Parameters
    ----------
    ends : pair of ndarray of shape (n_edges,)
        The node at this end of each edge, and the node at its other end.
    columns : pair of ndarray
        The nodes shown at this end and at the other, from the top.
    centres : pair of ndarray
        Centres of the boxes of these nodes.
    heights : ndarray
        Heights of the boxes at this end.

    Returns
    -------
    ndarray of shape (n_edges,)
        The height at which each edge ends.
    """
    box, other = (
        np.argsort(column)[np.searchsorted(column, nodes, sorter=np.argsort(column))]
        for nodes, column in zip(ends, columns, strict=True)
    )
    order = np.lexsort((centres[1][other], box))
    counts = np.bincount(box, minlength=len(heights))
    firsts = np.cumsum(counts) - counts
    rank = np.empty(len(box))
    rank[order] = np.arange(len(box)) - firsts[box[order]]
    offset = (rank + 0.5) / counts[box] - 0.5
    return centres[0][box] + 0.8 * heights[box] * offset
