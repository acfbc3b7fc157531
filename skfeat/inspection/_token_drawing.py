"""Token boxes, their texts and colour bars, drawn in axes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from skfeat.inspection._drawn_text import put_text, shortened, size_in_points
from skfeat.inspection._style import extend_of, style
from skfeat.inspection._token_colors import (
    ACTIVATION_STOPS,
    EFFECT_STOPS,
    UNKNOWN,
    ink_on,
)
from skfeat.inspection._token_layout import (
    BAR,
    BAR_GAP,
    BAR_TITLE,
    BOX,
    LABEL_GAP,
    LINE_GAP,
    PADDING,
    PASSAGE_GAP,
    STRIP,
    Layout,
)
from skfeat.inspection._token_passages import known_values
from skfeat.utils._checks import value_error

# Of a colour bar, in font sizes; the last is the size of its text.
_BAR_WIDTH, _BAR_SPACE, _BAR_INDENT, _BAR_FONT = 16, 2, 0.7, 0.85


@dataclass
class Scale:
    """Maps values to colours, for a collection of boxes and its colour bar."""

    cmap: Any
    norm: Any
    name: str

    def hex_colors(self, values: np.ndarray) -> list[str]:
        """Return the colours of values."""
        from matplotlib.colors import to_hex

        return [to_hex(color) for color in self.cmap(self.norm(values))]


class Drawn(NamedTuple):
    """The artists of a display."""

    boxes: Any
    effect_boxes: Any
    texts: list[Any]
    colorbars: list[Any]


def make_scales(
    cmap: Any, effect_cmap: Any, limits: tuple[float, float], effect_name: str
) -> tuple[Scale, Scale]:
    """Return the scale of the activations and that of the effects."""
    limit, effect_limit = limits
    return (
        _scale("cmap", cmap, ACTIVATION_STOPS, (0, limit), "activation"),
        _scale(
            "effect_cmap",
            effect_cmap,
            EFFECT_STOPS,
            (-effect_limit, effect_limit),
            effect_name,
        ),
    )


def _scale(
    parameter: str,
    cmap: Any,
    stops: tuple[str, ...],
    limits: tuple[float, float],
    name: str,
) -> Scale:
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    if cmap is None:
        cmap = LinearSegmentedColormap.from_list(name, stops)
    try:
        colors = colormaps.get_cmap(cmap).with_extremes(bad=UNKNOWN)
    except (ValueError, TypeError):
        allowed = "None, a matplotlib Colormap or the name of one"
        raise value_error(parameter, allowed, cmap) from None
    return Scale(colors, Normalize(*limits), name)


def check_options(
    text_kw: dict[str, Any] | None, box_kw: dict[str, Any] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of texts and of boxes, after trying them with matplotlib."""
    from matplotlib.collections import PolyCollection
    from matplotlib.text import Text

    for parameter, make, options in (
        ("text_kw", partial(Text, 0, 0, ""), text_kw),
        ("box_kw", partial(PolyCollection, []), box_kw),
    ):
        try:
            make(**style({}, options))
        except (AttributeError, TypeError, ValueError) as error:
            allowed = f"None or a dict of options of a {make.func.__name__}"
            raise value_error(parameter, allowed, options) from error
    return {"usetex": False, **(text_kw or {})}, box_kw or {}


def draw_passages(
    ax: Any,
    layout: Layout,
    scales: tuple[Scale, Scale],
    font: float,
    text_kw: dict[str, Any],
    box_kw: dict[str, Any],
) -> Drawn:
    """Draw all boxes and texts, and the colour bars of the layout.

    The axes must have their final size, with the title drawn.
    """
    width, height = size_in_points(ax)
    ax.set(xlim=(0, width), ylim=(0, height))
    font = layout.fit_font(ax, font, width, height)
    left = layout.label_width * font
    boxes, strips, texts = _Boxes(), _Boxes(), []
    y = height - 0.02 * font
    for passage in layout.passages:
        if passage.label:
            x, middle = left - LABEL_GAP * font, y - BOX / 2 * font
            options = {"horizontalalignment": "right", **text_kw}
            texts.append(
                put_text(ax, x, middle, passage.label, font, "0.35", text_kw=options)
            )
        inks = [ink_on(color) for color in scales[0].hex_colors(passage.activations)]
        natural = passage.box_widths(font)
        widths = np.minimum(natural, width - left)
        for start, end in passage.lines(width - left, font):
            x = left
            for i in range(start, end):
                boxes.add(x, y, widths[i], BOX * font, passage.activations[i])
                text = passage.texts[i]
                if widths[i] < natural[i]:
                    text, _ = shortened(ax, text, font, widths[i] - 2 * PADDING * font)
                center, middle = x + widths[i] / 2, y - BOX / 2 * font
                texts.append(
                    put_text(ax, center, middle, text, font, inks[i], text_kw=text_kw)
                )
                if passage.effects is not None:
                    below = y - BOX * font
                    strips.add(x, below, widths[i], STRIP * font, passage.effects[i])
                x += widths[i]
            y -= (passage.line_height + LINE_GAP) * font
        y -= (PASSAGE_GAP - LINE_GAP) * font
    drawn = boxes.draw(ax, scales[0], box_kw)
    effect_boxes = strips.draw(ax, scales[1], box_kw) if strips.values else None
    y -= (BAR_GAP + BAR_TITLE + BAR - PASSAGE_GAP) * font
    color_bars = _draw_color_bars(ax, layout, scales, font, (left, y, width))
    return Drawn(drawn, effect_boxes, texts, color_bars)


def _draw_color_bars(
    ax: Any,
    layout: Layout,
    scales: tuple[Scale, Scale],
    font: float,
    place: tuple[float, float, float],
) -> list[Any]:
    """Draw colour bars from a place (left, bottom, width of the axes) rightwards."""
    left, y, width = place
    values = (
        known_values(passage.activations for passage in layout.passages),
        known_values(passage.effects for passage in layout.passages),
    )
    bars, x = [], left + _BAR_INDENT * font
    for scale, shown in list(zip(scales, values, strict=True))[: layout.n_bars]:
        share = (width - left) / font / layout.n_bars - _BAR_SPACE
        size = min(_BAR_WIDTH, share) * font
        bars.append(_color_bar(ax, scale, shown, (x, y, size, BAR * font), font))
        x += size + _BAR_SPACE * font
    return bars


def _color_bar(
    ax: Any,
    scale: Scale,
    values: np.ndarray,
    bounds: tuple[float, float, float, float],
    font: float,
) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.ticker import MaxNLocator

    inset = ax.inset_axes(bounds, transform=ax.transData)
    inset.set_in_layout(False)
    size = _BAR_FONT * font
    # So few ticks that their labels, of about four letters, do not touch.
    n_steps = int(np.clip(bounds[2] / (4 * size), 1, 4))
    bar = ax.get_figure(root=True).colorbar(
        ScalarMappable(scale.norm, scale.cmap),
        cax=inset,
        orientation="horizontal",
        ticks=MaxNLocator(n_steps),
        extend=extend_of(values, scale.norm.vmin, scale.norm.vmax),
    )
    inset.tick_params(labelsize=size, length=0.25 * size, pad=0.2 * size)
    inset.set_title(scale.name, fontsize=size, loc="left", pad=0.3 * size)
    return bar


class _Boxes:
    """Rectangles and their values, drawn as one artist."""

    def __init__(self):
        self.corners: list[list[tuple[float, float]]] = []
        self.values: list[float] = []

    def add(
        self, x: float, top: float, width: float, height: float, value: float
    ) -> None:
        bottom, right = top - height, x + width
        self.corners.append([(x, bottom), (right, bottom), (right, top), (x, top)])
        self.values.append(value)

    def draw(self, ax: Any, scale: Scale, box_kw: dict[str, Any]) -> Any:
        from matplotlib.collections import PolyCollection

        options = {"edgecolor": "0.7", "linewidth": 0.5, "clip_on": False, "zorder": 3}
        options |= {"cmap": scale.cmap, "norm": scale.norm}
        boxes = PolyCollection(self.corners, **style(options, box_kw))
        boxes.set_array(np.ma.masked_invalid(np.array(self.values, dtype=float)))
        return ax.add_collection(boxes, autolim=False)
