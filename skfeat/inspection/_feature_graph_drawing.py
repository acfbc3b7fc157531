"""The boxes, names and curves of a feature graph."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from skfeat.inspection import _feature_graph_layout as layout
from skfeat.inspection._common import style
from skfeat.inspection._drawn_text import put_text, readable_on, room_of, shortened

_WIDEST_EDGE, _THINNEST_EDGE = 5.0, 0.5
_GREY = np.array([0.92, 0.92, 0.92, 1.0])


class Colors:
    """From values to colours: diverging about zero, or growing from it."""

    def __init__(self, cmap, limit, signed):
        from matplotlib import colormaps
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        self.cmap = colormaps.get_cmap(cmap)
        self.signed, self.limit = signed, limit
        norm = Normalize(-limit if signed else 0, limit)
        self.mappable = ScalarMappable(norm, self.cmap)

    def strength(self, values):
        """Return magnitudes from 0 to 1."""
        return np.clip(np.abs(values) / self.limit, 0, 1)

    def __call__(self, values, least=0.0):
        """Return colours; with `least` above zero also those of small values show."""
        strength = least + (1 - least) * self.strength(values)
        if not self.signed:
            return self.cmap(strength)
        return self.cmap(0.5 + 0.5 * np.where(np.asarray(values) < 0, -1, 1) * strength)


@dataclass
class Boxes:
    """What stands where, column by column; lengths in points."""

    left: np.ndarray
    right: np.ndarray
    centres: list[np.ndarray]
    heights: list[np.ndarray]
    nodes: list[Any]
    texts: list[Any]


def figure_size(columns, font):
    """Return inches that give every column of boxes the room it wants."""
    longest = max(map(len, columns))
    height = 1.5 + 1.7 * layout.LINE * font * longest / 72
    return 2.3 * len(columns) + 1.2, float(np.clip(height, 3.2, 13))


def draw_boxes(ax, names, values, titles, colors, font_size):
    """Draw the boxes with the names in them.

    Parameters
    ----------
    ax : matplotlib Axes
        All that takes room beside it stands already.
    names : list of list of str
        Of the nodes shown, from the top.
    values : list of ndarray or None
    titles : list of str or None
        Of two lines.
    colors : Colors
    font_size : float

    Returns
    -------
    Boxes
    """
    width, height = room_of(ax)
    ax.set(xlim=(0, width), ylim=(0, height))
    head = 3.4 * font_size if titles else 0
    room = 0.98 * (height - head)
    font = layout.font_size(names, room, font_size)
    title_font = min(font_size, 9)
    names, sizes = _fitting(ax, names, font, width)
    if titles:
        titles, title_sizes = _fitting(ax, [[t] for t in titles], title_font, width)
        sizes = np.maximum(sizes, title_sizes)
    space = (width - sizes.sum()) / max(1, len(names) - 1)
    left = np.concatenate([[0], np.cumsum(sizes + space)[:-1]])
    right = left + sizes
    boxes = Boxes(left, right, [], [], [], [])
    for i, column in enumerate(names):
        strength, faces = np.zeros(len(column)), np.tile(_GREY, (len(column), 1))
        if values is not None and len(column):
            largest = np.abs(values[i]).max() or 1.0
            strength, faces = np.abs(values[i]) / largest, colors(values[i])
        heights, labelled, gap = layout.box_heights(strength, room, font)
        bottoms = layout.box_bottoms(heights, gap, room, layout.LINE * font)
        centres, middle = bottoms + heights / 2, (left[i] + right[i]) / 2
        boxes.centres.append(centres)
        boxes.heights.append(heights)
        boxes.nodes.append(_patches(ax, left[i], right[i], bottoms, heights, faces))
        for j in np.flatnonzero(labelled):
            color = readable_on(faces[j])
            text = put_text(ax, middle, centres[j], column[j], font, color)
            boxes.texts.append(text)
        if titles:
            top = room + head
            put_text(ax, middle, top, titles[i][0], title_font, "0.3", va="top")
    return boxes


def draw_edges(ax, gaps, columns, boxes, colors, edge_kw):
    """Draw the edges between each two columns as curves, one artist for each."""
    from matplotlib.collections import LineCollection

    artists = []
    for i, gap in enumerate(gaps):
        here, there = columns[i], columns[i + 1]
        starts = layout.ports(
            (gap.source, gap.target),
            (here, there),
            (boxes.centres[i], boxes.centres[i + 1]),
            boxes.heights[i],
        )
        ends = layout.ports(
            (gap.target, gap.source),
            (there, here),
            (boxes.centres[i + 1], boxes.centres[i]),
            boxes.heights[i + 1],
        )
        thick = (_WIDEST_EDGE - _THINNEST_EDGE) * colors.strength(gap.value)
        options = {
            "color": colors(gap.value, least=0.35),
            "linewidth": _THINNEST_EDGE + thick,
            "alpha": 0.85,
            "capstyle": "butt",
            "zorder": 2,
        }
        segments = _curves(boxes.right[i], starts, boxes.left[i + 1], ends)
        lines = LineCollection(segments, **style(options, edge_kw))
        artists.append(ax.add_collection(lines))
    return artists


def _fitting(ax, names, font, width):
    """Return names that fit into their columns, and how wide these must be."""
    widest, pad = 0.62 * width / len(names), 0.9 * font
    fitting, sizes = [], []
    for column in names:
        kept = [shortened(ax, name, font, widest - pad) for name in column]
        fitting.append([name for name, _ in kept])
        sizes.append(max((size for _, size in kept), default=0) + pad)
    return fitting, np.array(sizes)


def _patches(ax, left, right, bottoms, heights, faces):
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import FancyBboxPatch

    patches = [
        FancyBboxPatch(
            (left, bottom),
            right - left,
            height,
            boxstyle=f"round,pad=0,rounding_size={0.25 * min(height, right - left)}",
        )
        for bottom, height in zip(bottoms, heights, strict=True)
    ]
    options = {"facecolor": faces, "edgecolor": "0.35", "linewidth": 0.6}
    # The outermost boxes end where the axes do: their borders lie half outside.
    options["clip_on"] = False
    return ax.add_collection(PatchCollection(patches, zorder=3, **options))


def _curves(x0, y0, x1, y1, n_points=24):
    """Return smooth lines (n, n_points, 2) that start and end level."""
    t = np.linspace(0, 1, n_points)
    x = x0 + (x1 - x0) * t
    y = y0[:, None] + (y1 - y0)[:, None] * (t * t * (3 - 2 * t))
    return np.stack(np.broadcast_arrays(x, y), axis=-1)
