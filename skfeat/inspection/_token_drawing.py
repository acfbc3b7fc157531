"""Boxes of tokens in axes: as wide as their texts, in as many lines as it takes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from skfeat.inspection._common import extend_of, param_error, style
from skfeat.inspection._drawn_text import put_text, room_of, shortened, text_width
from skfeat.inspection._token_colors import (
    ACTIVATION_STOPS,
    EFFECT_STOPS,
    UNKNOWN,
    ink_on,
)

# Lengths in units of the font size.
_PADDING, _BOX, _STRIP, _LINE_GAP, _GAP = 0.3, 1.65, 0.75, 0.5, 0.9
_SMALLEST_FONT = 3.0
_LABEL_GAP = 0.8
# Title, bar and ticks of a colour bar, all below the passages.
_BAR_GAP, _BAR_TITLE, _BAR, _BAR_TICKS = 0.6, 1.3, 0.7, 1.5
_BAR_BAND = _BAR_GAP + _BAR_TITLE + _BAR + _BAR_TICKS
_BAR_WIDTH, _BAR_SPACE, _BAR_INDENT, _BAR_FONT = 16, 2, 0.7, 0.85
_WIDEST = 730.0  # points of the text in a figure of our own
_NARROWEST = 150.0
_MISSING = "□"
# Of longer tokens the start is drawn. Widths change with the resolution a figure is
# saved in, those of long texts by more than the padding of a box.
_MOST_LETTERS = 40


@dataclass
class Passage:
    """One passage, ready to be drawn; `widths` in units of the font size."""

    texts: list[str]
    widths: np.ndarray
    activations: np.ndarray
    effects: np.ndarray | None
    label: str
    text_kw: dict[str, Any]

    def measure(self, ax, font):
        """Find the widths at a size: of small letters they do not shrink in step."""
        sizes = {
            text: text_width(ax, text, font, self.text_kw) / font
            for text in set(self.texts)
        }
        self.widths = np.array([sizes[text] for text in self.texts])


@dataclass
class Scale:
    """Values to colours: what a collection and its colour bar share."""

    cmap: Any
    norm: Any
    name: str

    def hex_colors(self, values) -> list[str]:
        """Return the colours of values."""
        from matplotlib.colors import to_hex

        return [to_hex(color) for color in self.cmap(self.norm(values))]


def make_scales(caller, cmap, effect_cmap, limits, effect_name) -> list[Scale]:
    """Return the scale of the activations and that of the effects."""
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    found, (limit, effect_limit) = [], limits
    for parameter, given, stops, ends, name in (
        ("cmap", cmap, ACTIVATION_STOPS, (0, limit), "activation"),
        (
            *("effect_cmap", effect_cmap, EFFECT_STOPS),
            *((-effect_limit, effect_limit), effect_name),
        ),
    ):
        if given is None:
            given = LinearSegmentedColormap.from_list(name, stops)
        try:
            colors = colormaps.get_cmap(given).with_extremes(bad=UNKNOWN)
        except (ValueError, TypeError):
            expected = "None, a matplotlib Colormap or the name of one"
            raise param_error(caller, parameter, expected, given) from None
        found.append(Scale(colors, Normalize(*ends), name))
    return found


def check_options(caller, text_kw, box_kw) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of texts and of boxes, which matplotlib must know."""
    from matplotlib.collections import PolyCollection
    from matplotlib.text import Text

    for parameter, make, options in (
        ("text_kw", partial(Text, 0, 0, ""), text_kw),
        ("box_kw", partial(PolyCollection, []), box_kw),
    ):
        try:
            make(**style({}, options))
        except (AttributeError, TypeError, ValueError) as error:
            expected = f"None or a dict of options of a {make.func.__name__}"
            raise param_error(caller, parameter, expected, options) from error
    return {"usetex": False, **(text_kw or {})}, box_kw or {}


def measured(ax, tokens, activations, effects, label, text_kw, known) -> Passage:
    """Make the texts fit to be drawn, and find their widths."""
    texts = [_drawable(text, known) for text in tokens]
    texts = [
        text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 1]}…"
        for text in texts
    ]
    label = _drawable(label, known)
    widths = np.zeros(len(texts))
    passage = Passage(texts, widths, activations, effects, label, text_kw)
    passage.measure(ax, 10.0)
    return passage


def size_for(passages, label_width, font, n_bars, titled):
    """Return inches for a figure that gives the passages the room they want."""
    natural = max((_box_widths(p, font).sum() for p in passages), default=0.0)
    width = float(np.clip(natural + 4, _NARROWEST, _WIDEST))
    height = wanted_height(passages, width, font, n_bars) + (25 if titled else 0)
    return (width + label_width * font + 20) / 72, (max(height, 30) + 10) / 72


def wanted_height(passages, width, font, n_bars) -> float:
    """Return the height of passages in lines of a width and the bars below them."""
    height = _height(_lines(passages, width, font), passages, font)
    return height + (_BAR_BAND if n_bars else 0) * font


def draw_passages(ax, passages, scales, font, label_width, n_bars, box_kw, text_kw):
    """Draw all boxes, texts and the first `n_bars` colour bars.

    The axes have their final size, all that takes room beside them stands.

    Returns
    -------
    boxes, effect_boxes, texts, colorbars
    """
    width, height = room_of(ax)
    ax.set(xlim=(0, width), ylim=(0, height))
    font = _fitting_font(ax, passages, font, label_width, n_bars, (width, height))
    left = label_width * font
    lines = _lines(passages, width - left, font)
    boxes, strips, texts = _Boxes(), _Boxes(), []
    y = height - 0.02 * font
    for passage, spans in zip(passages, lines, strict=True):
        if passage.label:
            x, middle = left - _LABEL_GAP * font, y - _BOX / 2 * font
            options = {"horizontalalignment": "right", **text_kw}
            texts.append(
                put_text(ax, x, middle, passage.label, font, "0.35", text_kw=options)
            )
        inks = [ink_on(color) for color in scales[0].hex_colors(passage.activations)]
        widths = np.minimum(_box_widths(passage, font), width - left)
        for span in spans:
            x = left
            for i in range(*span):
                boxes.add(x, y, widths[i], _BOX * font, passage.activations[i])
                text = passage.texts[i]
                if widths[i] < _box_widths(passage, font)[i]:
                    most = widths[i] - 2 * _PADDING * font
                    text, _ = shortened(ax, text, font, most)
                at = (x + widths[i] / 2, y - _BOX / 2 * font)
                texts.append(put_text(ax, *at, text, font, inks[i], text_kw=text_kw))
                if passage.effects is not None:
                    below = y - _BOX * font
                    strips.add(x, below, widths[i], _STRIP * font, passage.effects[i])
                x += widths[i]
            y -= (_line_height(passage) + _LINE_GAP) * font
        y -= (_GAP - _LINE_GAP) * font
    drawn = boxes.draw(ax, scales[0], box_kw)
    effects = strips.draw(ax, scales[1], box_kw) if strips.values else None
    y -= (_BAR_GAP + _BAR_TITLE + _BAR - _GAP) * font
    values = [_known(p.activations for p in passages)]
    values.append(_known(p.effects for p in passages if p.effects is not None))
    bars, x = [], left + _BAR_INDENT * font
    for scale, every in list(zip(scales, values, strict=True))[:n_bars]:
        size = min(_BAR_WIDTH, (width - left) / font / n_bars - _BAR_SPACE) * font
        bars.append(_color_bar(ax, scale, every, (x, y, size, _BAR * font), font))
        x += size + _BAR_SPACE * font
    return drawn, effects, texts, bars


def _fitting_font(ax, passages, font, label_width, n_bars, room):
    """Return the largest font at which all fits, the passages measured with it."""
    width, height = room
    band = _BAR_BAND if n_bars else 0.0
    larger = font + 1
    while larger > font:
        larger = font
        for passage in passages:
            passage.measure(ax, font)
        while font > _SMALLEST_FONT:
            lines = _lines(passages, width - label_width * font, font)
            if _height(lines, passages, font) + band * font <= height:
                break
            font = max(_SMALLEST_FONT, 0.97 * font)
    return font


def _known(values):
    every = np.concatenate([[0.0], *values])
    return every[~np.isnan(every)]


def _color_bar(ax, scale, values, bounds, font):
    from matplotlib.cm import ScalarMappable
    from matplotlib.ticker import MaxNLocator

    inset = ax.inset_axes(bounds, transform=ax.transData)
    inset.set_in_layout(False)
    size = _BAR_FONT * font
    # So few that their labels, of some four letters, do not touch.
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


def label_width(ax, passages) -> float:
    """Return the width of the widest label and the gap beside it, in font sizes."""
    font = 10.0
    widths = [
        text_width(ax, p.label, font, p.text_kw) / font for p in passages if p.label
    ]
    return max(widths) + _LABEL_GAP if widths else 0.0


class _Boxes:
    """Rectangles and their values, drawn as one artist."""

    def __init__(self):
        self.corners, self.values = [], []

    def add(self, x, top, width, height, value):
        bottom, right = top - height, x + width
        self.corners.append([(x, bottom), (right, bottom), (right, top), (x, top)])
        self.values.append(value)

    def draw(self, ax, scale, box_kw):
        from matplotlib.collections import PolyCollection

        options = {"edgecolor": "0.7", "linewidth": 0.5, "clip_on": False, "zorder": 3}
        options |= {"cmap": scale.cmap, "norm": scale.norm}
        boxes = PolyCollection(self.corners, **style(options, box_kw))
        boxes.set_array(np.ma.masked_invalid(np.array(self.values, dtype=float)))
        return ax.add_collection(boxes, autolim=False)


def _box_widths(passage, font):
    return (passage.widths + 2 * _PADDING) * font


def _line_height(passage):
    return _BOX + (_STRIP if passage.effects is not None else 0)


def _height(lines, passages, font):
    heights = [
        len(spans) * (_line_height(passage) + _LINE_GAP) + _GAP - _LINE_GAP
        for passage, spans in zip(passages, lines, strict=True)
    ]
    return (sum(heights) - _GAP) * font if heights else 0.0


def _lines(passages, room, font) -> list[list[tuple[int, int]]]:
    """Break each passage into lines that fit; a box wider than that has its own."""
    broken = []
    for passage in passages:
        spans, start, used = [], 0, 0.0
        for i, width in enumerate(_box_widths(passage, font)):
            if i > start and used + width > room:
                spans.append((start, i))
                start, used = i, 0.0
            used += width
        broken.append([*spans, (start, len(passage.texts))])
    return broken


def known_characters(ax, text_kw) -> set[int]:
    """Return the characters that the fonts in use have; of others matplotlib warns."""
    from matplotlib import font_manager

    artist = put_text(ax, 0, 0, "", 10.0, "black", text_kw=text_kw)
    properties = artist.get_fontproperties().copy()
    artist.remove()
    known: set[int] = set()
    for family in properties.get_family():
        properties.set_family(family)
        path = font_manager.findfont(properties)
        known |= set(font_manager.get_font(path).get_charmap())
    return known


def _drawable(text, known) -> str:
    return "".join(c if ord(c) in known else _MISSING for c in text)
