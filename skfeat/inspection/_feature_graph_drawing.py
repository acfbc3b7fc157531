"""The boxes, names and curves of a feature graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from skfeat.inspection import _feature_graph_layout as layout
from skfeat.inspection._drawn_text import (
    put_text,
    readable_on,
    shortened,
    size_in_points,
    text_width,
)
from skfeat.inspection._style import style

# How much wider text may be in a file of another resolution than the screen's.
_HINTING = 1.04
_WIDEST_EDGE, _THINNEST_EDGE = 5.0, 0.5
_WIDEST_FIGURE, _WIDEST_COLUMN = 16.0, 4.0  # inches, of up to six columns and of more
_GREY = np.array([0.92, 0.92, 0.92, 1.0])


class Colors:
    """Maps values to colours, which diverge about zero or start from it."""

    def __init__(self, cmap: Any, limit: float, signed: bool):
        from matplotlib import colormaps
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        self.cmap = colormaps.get_cmap(cmap)
        self.signed, self.limit = signed, limit
        norm = Normalize(-limit if signed else 0, limit)
        self.mappable = ScalarMappable(norm, self.cmap)

    def strength(self, values: np.ndarray) -> np.ndarray:
        """Return magnitudes as shares of the limit, from 0 to 1."""
        return np.clip(np.abs(values) / self.limit, 0, 1)

    def __call__(self, values: np.ndarray, least: float = 0.0) -> np.ndarray:
        """Return colours; with `least` above zero, small values stay visible."""
        strength = least + (1 - least) * self.strength(values)
        if not self.signed:
            return self.cmap(strength)
        return self.cmap(0.5 + 0.5 * np.where(np.asarray(values) < 0, -1, 1) * strength)


@dataclass
class Boxes:
    """The places and artists of boxes, column by column; lengths in points."""

    left: np.ndarray
    right: np.ndarray
    centres: list[np.ndarray]
    heights: list[np.ndarray]
    nodes: list[Any]
    texts: list[Any]
    images: list[Any]


Label: TypeAlias = tuple[str, str]


def node_labels(
    names: list[list[str]], values: list[np.ndarray] | None, *, signed: bool
) -> list[list[Label]]:
    """Return what stands in each box: a name, and a value if there are values."""
    if values is None:
        return [[(name, "") for name in column] for column in names]
    largest = float(np.abs(np.concatenate(values[:-1])).max(initial=0))
    # As many decimals for all as give the largest before the last column three digits.
    decimals = 2 - int(np.floor(np.log10(largest))) if largest else 0
    form = f"{{:{'+' if signed else ''}.{max(0, decimals)}f}}"
    return [
        [(name, f"  {form.format(value)}") for name, value in zip(*both, strict=True)]
        for both in zip(names, values, strict=True)
    ]


def figure_size(
    labels: list[list[Label]], font: float, images: list[np.ndarray | None]
) -> tuple[float, float]:
    """Return inches at which every column of boxes fits, within limits."""
    box = np.full(len(labels), layout.LABELLED_BOX * font)
    with_images = np.array([column is not None for column in images])
    box[with_images] = layout.LARGEST_IMAGE
    height = 1.5 + 1.7 * max(box * [len(column) for column in labels]) / 72
    widths = [
        max((len(name) + len(value) for name, value in column), default=0)
        for column in labels
    ]
    # Letters are about 0.6 of the font's size wide.
    text = (0.6 * font * sum(widths) + layout.LARGEST_IMAGE * with_images.sum()) / 72
    width = 1.6 * len(labels) + 1.2 + text
    # Of more than six columns, each one makes the figure wider: names stay readable.
    widest = _WIDEST_FIGURE + _WIDEST_COLUMN * max(0, len(labels) - 6)
    return float(np.clip(width, 4, widest)), float(np.clip(height, 3.2, 13))


def draw_boxes(
    ax: Any,
    labels: list[list[Label]],
    values: list[np.ndarray] | None,
    titles: list[str] | None,
    colors: Colors,
    font_size: float,
    images: list[np.ndarray | None],
) -> Boxes:
    """Draw the boxes with the names and the images in them.

    Parameters
    ----------
    ax : matplotlib Axes
        Their title, labels and colour bar must be drawn already.
    labels : list of list of tuple
        Names and values of the nodes shown, from the top.
    values : list of ndarray or None
    titles : list of str or None
        Titles of two lines.
    colors : Colors
    font_size : float
    images : list of {ndarray of shape (n, height, width), None}
        Of the nodes shown, from the top; nan where a node has none.

    Returns
    -------
    Boxes
    """
    width, height = size_in_points(ax)
    ax.set(xlim=(0, width), ylim=(0, height))
    title_height = 3.4 * font_size if titles else 0
    column_height = 0.98 * (height - title_height)
    font = layout.font_size(labels, column_height, font_size)
    title_font = min(font_size, 9)
    sides = _image_sides(images, column_height, font)
    margin = layout.IMAGE_MARGIN * font
    beside = np.array([side[0] + margin if side[0] else 0.0 for side in sides])
    shades = [
        _shades(len(column), None if values is None else values[i], colors)
        for i, column in enumerate(labels)
    ]
    stacks = [
        layout.box_heights(strength, column_height, font, side[1])
        for (strength, _), side in zip(shades, sides, strict=True)
    ]
    # Measuring a text takes about a millisecond: only those are that have room.
    with_room = [
        [column[j] for j in np.flatnonzero(labelled)]
        for column, (_, labelled, _) in zip(labels, stacks, strict=True)
    ]
    names, widths = _shorten_columns(ax, with_room, font, width, beside)
    short_titles: list[list[str]] = []
    if titles:
        short_titles, title_widths = _shorten_columns(
            ax, [[(title, "")] for title in titles], title_font, width
        )
        widths = np.maximum(widths, title_widths)
    distance = (width - widths.sum()) / max(1, len(names) - 1)
    left = np.concatenate([[0], np.cumsum(widths + distance)[:-1]])
    right = left + widths
    boxes = Boxes(left, right, [], [], [], [], [])
    for i, column in enumerate(names):
        (_, faces), (heights, labelled, gap) = shades[i], stacks[i]
        bottoms = layout.box_bottoms(
            heights, gap, column_height, layout.LABELLED_BOX * font
        )
        centres, middle = bottoms + heights / 2, (left[i] + beside[i] + right[i]) / 2
        boxes.centres.append(centres)
        boxes.heights.append(heights)
        boxes.nodes.append(_patches(ax, left[i], right[i], bottoms, heights, faces))
        pictures = images[i]
        for j, text in zip(np.flatnonzero(labelled), column, strict=True):
            color = readable_on(faces[j])
            boxes.texts.append(put_text(ax, middle, centres[j], text, font, color))
            if pictures is not None and np.isfinite(pictures[j]).all():
                corner = left[i] + margin, centres[j] - sides[i][1] / 2
                boxes.images.append(_image(ax, pictures[j], corner, sides[i]))
        if titles:
            middle = (left[i] + right[i]) / 2
            top, title = column_height + title_height, short_titles[i][0]
            put_text(ax, middle, top, title, title_font, "0.3", va="top")
    return boxes


def draw_edges(
    ax: Any,
    gaps: list[layout.Edges],
    columns: list[np.ndarray],
    boxes: Boxes,
    colors: Colors,
    edge_kw: dict[str, Any] | None,
) -> list[Any]:
    """Draw the edges between columns as curves, one artist for each pair of columns."""
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


def _shades(
    n: int, values: np.ndarray | None, colors: Colors
) -> tuple[np.ndarray, np.ndarray]:
    """Return how strong the boxes of a column are, from 0 to 1, and their colours."""
    if values is None or not n:
        return np.zeros(n), np.tile(_GREY, (n, 1))
    return np.abs(values) / (np.abs(values).max() or 1.0), colors(values)


def _image_sides(
    images: list[np.ndarray | None], column_height: float, font: float
) -> list[tuple[float, float]]:
    """Return the width and the height of the images of each column, 0 without any."""
    columns = [column for column in images if column is not None]
    largest = layout.image_side(columns, column_height, font)
    sides = []
    for column in images:
        shape = np.array((0, 0) if column is None else column.shape[:0:-1])
        width, high = largest * shape / max(1, *shape)
        sides.append((float(width), float(high)))
    return sides


def _image(
    ax: Any, image: np.ndarray, corner: tuple[float, float], size: tuple[float, float]
) -> Any:
    """Draw an image from its lower left corner on."""
    from matplotlib.image import AxesImage

    (x, y), (width, height) = corner, size
    # Unlike `Axes.imshow` it leaves the limits and the aspect of the axes alone.
    artist = AxesImage(
        ax, extent=(x, x + width, y, y + height), origin="upper", zorder=3.5
    )
    artist.set_data(image)
    artist.set_in_layout(False)
    return ax.add_image(artist)


def style_images(artists: list[Any], im_kw: dict[str, Any] | None) -> None:
    """Give all images the same grey levels, or the options wanted."""
    if not artists:
        return
    values = [artist.get_array() for artist in artists]
    limits = {"vmin": min(map(np.min, values)), "vmax": max(map(np.max, values))}
    options = style({"cmap": "gray", **limits}, im_kw)
    clim = options.pop("vmin"), options.pop("vmax")
    for artist in artists:
        artist.set(**options, clim=clim)


def largest_shown(gaps: list[layout.Edges], values: list[np.ndarray] | None) -> float:
    """Return the largest magnitude shown before the last column, 1 if there is none."""
    shown = [gap.value for gap in gaps] + (values or [])[:-1]
    return float(np.abs(np.concatenate(shown)).max(initial=0)) or 1.0


def _shorten_columns(
    ax: Any,
    labels: list[list[Label]],
    font: float,
    width: float,
    beside: np.ndarray | float = 0.0,
) -> tuple[list[list[str]], np.ndarray]:
    """Shorten names until the columns fit, the widest first; return widths too.

    Values are never cut, nor what stands beside the names, of widths `beside`.
    """
    pad = 0.9 * font

    def measured(text: str) -> float:
        return _HINTING * text_width(ax, text, font)

    wanted = np.array(
        [
            max((measured(name + value) for name, value in column), default=0) + pad
            for column in labels
        ]
    )
    widest = _capped(wanted + beside, 0.62 * width) - beside
    short_names, widths = [], []
    for column, room in zip(labels, widest, strict=True):
        texts = []
        for name, value in column:
            # Beside a letter, as a text's extent has no spaces at its ends.
            own = measured(f"x{value}") - measured("x") if value else 0.0
            # Rounding must not cut a name that has all the room it wants.
            left = (room - pad - own) / _HINTING
            text, size = shortened(ax, name, font, left + 0.5)
            texts.append((text + value, _HINTING * size + own))
        short_names.append([text for text, _ in texts])
        widths.append(max((size for _, size in texts), default=0) + pad)
    return short_names, np.array(widths) + beside


def _capped(wanted: np.ndarray, total: float) -> np.ndarray:
    """Lower the largest of some widths to one level, at which they sum to `total`."""
    order = np.sort(wanted)
    left = total
    for i, size in enumerate(order):
        if size * (len(order) - i) > left:
            return np.minimum(wanted, left / (len(order) - i))
        left -= size
    return wanted


def _patches(
    ax: Any,
    left: float,
    right: float,
    bottoms: np.ndarray,
    heights: np.ndarray,
    faces: np.ndarray,
) -> Any:
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
    options: dict[str, Any] = {
        "facecolor": faces,
        "edgecolor": "0.35",
        "linewidth": 0.6,
        # The outermost boxes end at the edge of the axes, half their border beyond.
        "clip_on": False,
    }
    return ax.add_collection(PatchCollection(patches, zorder=3, **options))


def _curves(
    x0: float, y0: np.ndarray, x1: float, y1: np.ndarray, n_points: int = 24
) -> Any:
    """Return smooth curves (n, n_points, 2) that are horizontal at both ends."""
    t = np.linspace(0, 1, n_points)
    x = x0 + (x1 - x0) * t
    y = y0[:, None] + (y1 - y0)[:, None] * (t * t * (3 - 2 * t))
    return np.stack(np.broadcast_arrays(x, y), axis=-1)
