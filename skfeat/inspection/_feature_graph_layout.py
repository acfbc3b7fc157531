"""Where the boxes of a feature graph stand: which are shown, in what order, how large.

Lengths are typographic points; a column is an array of the nodes of one layer.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

SMALLEST_FONT = 5.0
LINE = 1.5  # height of a box with one line of text, in font sizes
_SLIVER = 0.2  # of a box without text, in lines
_GROWTH = 1.2  # by how many lines the box of the strongest node is higher


@dataclass(frozen=True)
class Edges:
    """The edges shown between two layers, the weakest first."""

    source: np.ndarray
    target: np.ndarray
    value: np.ndarray
    share: float
    """Of the sum of all magnitudes between the two layers."""


def strongest_edges(matrices, n_edges):
    """Choose the strongest edges between each two layers, from the last backwards.

    Before the last layers only edges count that lead to a node which has an edge on.

    Parameters
    ----------
    matrices : list of sparse arrays of shape (n_after, n_before)
    n_edges : int
        Of each.

    Returns
    -------
    list of Edges
    """
    chosen: list[Edges] = []
    reached = None
    for matrix in reversed(matrices):
        entries = sparse.coo_array(matrix)
        target, source = entries.coords
        strength = np.abs(entries.data)
        total = strength.sum()
        if reached is not None:
            strength = np.where(np.isin(target, reached), strength, 0)
        order = np.argsort(-strength, kind="stable")[:n_edges]
        order = order[strength[order] > 0][::-1]
        share = strength[order].sum() / total if total else 1.0
        edges = Edges(source[order], target[order], entries.data[order], float(share))
        chosen.insert(0, edges)
        reached = np.unique(edges.source)
    return chosen


def shown_columns(gaps, n_last):
    """Return the nodes of each column that an edge touches; ``n_last`` if it is few.

    The last column is shown whole where it is small: outputs that nothing reaches say
    something too.
    """
    columns = [np.unique(gaps[0].source)]
    for before, after in zip(gaps, [*gaps[1:], None], strict=True):
        touched = [before.target] if after is None else [before.target, after.source]
        columns.append(np.unique(np.concatenate(touched)))
    if n_last <= 12:
        columns[-1] = np.arange(n_last)
    return columns


def ordered_columns(columns, gaps, n_sweeps=8):
    """Order the nodes of each column so that few edges cross; the last one stays.

    Each node goes to the mean height of its neighbours, weighted by their edges, from
    the last column to the first and back again.
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
            pull = {node: [0.0, 0.0] for node in columns[at].tolist()}
            ends = zip(own.tolist(), other.tolist(), np.abs(edges.value), strict=True)
            for node, neighbour, weight in ends:
                pull[node][0] += weight * place[neighbour]
                pull[node][1] += weight
            present = _places(columns[at])
            goal = [
                total / weight if weight else present[node]
                for node, (total, weight) in pull.items()
            ]
            columns[at] = columns[at][np.argsort(goal, kind="stable")]
    return columns


def _places(column):
    """Map each node of a column to how far up it stands, from 0 to 1."""
    n = len(column)
    return {node: (i + 0.5) / n for i, node in enumerate(column.tolist())}


def font_size(columns, room, largest):
    """Return the largest font with which every column has room for all its labels."""
    longest = max(map(len, columns))
    return float(np.clip(room / (1.3 * LINE * longest), SMALLEST_FONT, largest))


def box_heights(strength, room, font):
    """Return the height of each box; those without a label are slivers.

    Parameters
    ----------
    strength : ndarray of shape (n,)
        From 0 to 1.
    room : float
        Height of the column.
    font : float

    Returns
    -------
    heights : ndarray of shape (n,)
    labelled : ndarray of bool of shape (n,)
    gap : float
        Between two boxes.
    """
    n, line = len(strength), LINE * font
    gap = min(0.3 * line, room / (3 * max(1, n)))
    room = room - gap * (n - 1)
    labelled = np.ones(n, bool)
    if n * line <= room:
        growth = _GROWTH * line * np.sqrt(strength)
        spare = (room - n * line) / max(growth.sum(), 1e-12)
        return line + growth * min(1.0, spare), labelled, gap
    sliver = min(_SLIVER * line, room / n)
    n_labelled = max(0, int((room - n * sliver) / (line - sliver)))
    labelled[np.argsort(-strength, kind="stable")[n_labelled:]] = False
    return np.where(labelled, line, sliver), labelled, gap


def box_bottoms(heights, gap, room, line):
    """Stack the boxes from the top, spread out a little, about the middle."""
    n = len(heights)
    spare = room - heights.sum() - gap * (n - 1)
    gap += min(max(0.0, spare) / max(1, n), 1.8 * line)
    total = heights.sum() + gap * (n - 1)
    tops = (room + total) / 2 - np.concatenate([[0], np.cumsum(heights + gap)[:-1]])
    return tops - heights


def ports(ends, columns, centres, heights):
    """Spread the ends of edges over the sides of their boxes, in the order they lead.

    Parameters
    ----------
    ends : pair of ndarray of shape (n_edges,)
        The node at this end of each edge, and at the other.
    columns : pair of ndarray
        The nodes shown at this end and at the other, from the top.
    centres : pair of ndarray
        Of their boxes.
    heights : ndarray
        Of the boxes at this end.

    Returns
    -------
    ndarray of shape (n_edges,)
        Heights where the edges end.
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
