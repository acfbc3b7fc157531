"""Text in axes whose units are points: the size of axes, and the width of text."""

from __future__ import annotations

from typing import Any

import numpy as np

from skfeat.inspection._style import style

_SHORTEST = 3  # letters that a name keeps before the ellipsis


def size_in_points(ax: Any) -> tuple[float, float]:
    """Return width and height of axes in points, after laying out the figure."""
    figure = ax.get_figure(root=True)
    figure.draw_without_rendering()
    box = ax.get_window_extent()
    return box.width * 72 / figure.dpi, box.height * 72 / figure.dpi


def text_width(
    ax: Any, text: str, font: float, text_kw: dict[str, Any] | None = None
) -> float:
    """Return the width of a text in points."""
    artist = put_text(ax, 0, 0, text, font, "black", text_kw=text_kw)
    width = artist.get_window_extent().width
    artist.remove()
    return width * 72 / ax.get_figure(root=True).dpi


def put_text(
    ax: Any,
    x: float,
    y: float,
    text: str,
    font: float,
    color: str,
    va: str = "center_baseline",
    text_kw: dict[str, Any] | None = None,
) -> Any:
    """Write a text centred at (x, y), and keep it out of the layout."""
    # Names may contain dollar signs, which are not formulas.
    options = {"fontsize": font, "color": color, "zorder": 4, "parse_math": False}
    options |= {"horizontalalignment": "center", "verticalalignment": va}
    artist = ax.text(x, y, text, **style(options, text_kw))
    artist.set_in_layout(False)
    return artist


def shortened(ax: Any, name: str, font: float, widest: float) -> tuple[str, float]:
    """Cut the first line to at most `widest` points; return the text and its width."""
    first, *others = name.split("\n", 1)
    text, n_letters = name, len(first)
    while (width := text_width(ax, text, font)) > widest and n_letters > _SHORTEST:
        guess = int(n_letters * widest / width)
        n_letters = max(_SHORTEST, min(n_letters - 1, guess))
        text = "\n".join([first[:n_letters].rstrip() + "…", *others])
    return text, width


def readable_on(face: np.ndarray) -> str:
    """Return the colour of text, black or white, that is readable on `face`."""
    return "white" if face[:3] @ (0.3, 0.59, 0.11) < 0.5 else "black"
