"""The layout of token boxes: as wide as their texts, in as many lines as they need.

Lengths without a unit are in font sizes, all others in points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from skfeat.inspection._drawn_text import put_text, text_width
from skfeat.inspection._token_passages import Passage
from skfeat.inspection._token_text import code_of, visible_passage

PADDING, BOX, STRIP, LINE_GAP, PASSAGE_GAP = 0.3, 1.65, 0.75, 0.5, 0.9
LABEL_GAP = 0.8
# A colour bar below the passages: the gap above it, its title, the bar and its ticks.
BAR_GAP, BAR_TITLE, BAR, _BAR_TICKS = 0.6, 1.3, 0.7, 1.5
_BAR_BAND = BAR_GAP + BAR_TITLE + BAR + _BAR_TICKS
_SMALLEST_FONT = 3.0  # points
_WIDEST, _NARROWEST = 730.0, 150.0  # points of the text in a new figure
# Longer tokens are cut: text widths change with the resolution that a figure is saved
# in, those of long texts by more than the padding of a box.
_MOST_LETTERS = 40


@dataclass
class MeasuredPassage:
    """A passage whose texts can be drawn, with their widths in font sizes."""

    texts: list[str]
    widths: np.ndarray
    activations: np.ndarray
    effects: np.ndarray | None
    label: str
    text_kw: dict[str, Any]

    def measure(self, ax: Any, font: float) -> None:
        """Measure the widths at a font size, as small letters are relatively wider."""
        sizes = {
            text: text_width(ax, text, font, self.text_kw) / font
            for text in set(self.texts)
        }
        self.widths = np.array([sizes[text] for text in self.texts])

    def box_widths(self, font: float) -> np.ndarray:
        """Return the widths of the boxes in points."""
        return (self.widths + 2 * PADDING) * font

    @property
    def line_height(self) -> float:
        """Height of a line of boxes, with the strip of effects if there is one."""
        return BOX + (STRIP if self.effects is not None else 0)

    def lines(self, width: float, font: float) -> list[tuple[int, int]]:
        """Break the passage into lines; a box wider than a line has its own line."""
        spans, start, used = [], 0, 0.0
        for i, size in enumerate(self.box_widths(font)):
            if i > start and used + size > width:
                spans.append((start, i))
                start, used = i, 0.0
            used += size
        return [*spans, (start, len(self.texts))]


@dataclass
class Layout:
    """Measured passages, the width of their labels, and the colour bars below them."""

    passages: list[MeasuredPassage]
    label_width: float
    n_bars: int

    @classmethod
    def measure(
        cls, ax: Any, passages: list[Passage], text_kw: dict[str, Any]
    ) -> Layout:
        """Measure passages in axes, with a colour bar for each kind of value."""
        known = _known_characters(ax, text_kw)
        measured = [_measured(ax, passage, text_kw, known) for passage in passages]
        font = 10.0
        widths = [
            text_width(ax, passage.label, font, text_kw) / font
            for passage in measured
            if passage.label
        ]
        label_width = max(widths) + LABEL_GAP if widths else 0.0
        n_bars = 1 + any(passage.effects is not None for passage in measured)
        return cls(measured, label_width, n_bars)

    def height(self, width: float, font: float) -> float:
        """Return the height in points of passages in lines of a width, and the bars."""
        heights = [
            len(passage.lines(width, font)) * (passage.line_height + LINE_GAP)
            + PASSAGE_GAP
            - LINE_GAP
            for passage in self.passages
        ]
        height = (sum(heights) - PASSAGE_GAP) * font if heights else 0.0
        return height + (_BAR_BAND if self.n_bars else 0) * font

    def figure_size(self, font: float, *, has_title: bool) -> tuple[float, float]:
        """Return the inches of a figure in which the passages fit, within limits."""
        natural = max((p.box_widths(font).sum() for p in self.passages), default=0.0)
        width = float(np.clip(natural + 4, _NARROWEST, _WIDEST))
        height = self.height(width, font) + (25 if has_title else 0)
        return (width + self.label_width * font + 20) / 72, (max(height, 30) + 10) / 72

    def fit_font(self, ax: Any, font: float, width: float, height: float) -> float:
        """Return the largest font that fits, after measuring the passages with it."""
        larger = font + 1
        while larger > font:
            larger = font
            for passage in self.passages:
                passage.measure(ax, font)
            while font > _SMALLEST_FONT:
                if self.height(width - self.label_width * font, font) <= height:
                    break
                font = max(_SMALLEST_FONT, 0.97 * font)
        return font


def _measured(
    ax: Any, passage: Passage, text_kw: dict[str, Any], known: set[int]
) -> MeasuredPassage:
    texts = [_drawable(shown.text, known) for shown in visible_passage(passage.tokens)]
    texts = [
        text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 1]}…"
        for text in texts
    ]
    measured = MeasuredPassage(
        texts=texts,
        widths=np.zeros(len(texts)),
        activations=passage.activations,
        effects=passage.effects,
        label=_drawable(passage.label, known),
        text_kw=text_kw,
    )
    measured.measure(ax, 10.0)
    return measured


def _known_characters(ax: Any, text_kw: dict[str, Any]) -> set[int]:
    """Return the characters of the fonts in use; matplotlib warns of any other."""
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


def _drawable(text: str, known: set[int]) -> str:
    return "".join(c if ord(c) in known else code_of(c) for c in text)
