"""The page of a prompt's graph: tokens from the left, layers upwards."""

from __future__ import annotations

import json
from collections import defaultdict
from html import escape
from typing import Any

import numpy as np

from skfeat.inspection._token_text import visible
from skfeat.utils._shown import write_html

_POSITIVE, _NEGATIVE = "#c0392b", "#2471a3"
_STEP_X, _STEP_Y, _LEFT, _TOP, _DOT = 96, 64, 70, 30, 15
_EDGES = 300  # drawn at most, the strongest
_LETTER = 9.0  # at most so many pixels a letter of the picture is wide, on average

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body{{font-family:sans-serif;margin:1.5em;color:#222;background:#fff}}
.graph{{overflow-x:auto;border:1px solid #ddd}}
svg text{{font-size:12px;fill:#333}}
.e{{fill:none;opacity:.25}}
.n{{stroke:#fff;stroke-width:1;cursor:pointer}}
svg.on .e{{opacity:.03}} svg.on .e.s{{opacity:.9}}
#told{{min-height:2.6em;font-family:monospace}}
</style></head><body>
<h1>{title}</h1>
<p>A circle is a feature that an MLP reads, a square one that it computes, a diamond
what the replacement misses of an MLP's output. Red adds to the logit, blue takes from
it; the larger, the more.</p>
<p id="told">Point at a node to see what leads to it and on from it.</p>
<div class="graph">{svg}</div>
{table}
<script>
const told = {told};
const svg = document.querySelector("svg"), text = document.getElementById("told");
for (const node of svg.querySelectorAll(".n")) {{
  node.addEventListener("mouseover", () => {{
    svg.classList.add("on");
    for (const edge of svg.querySelectorAll(".e")) edge.classList.toggle("s",
      edge.dataset.a === node.dataset.i || edge.dataset.b === node.dataset.i);
    text.textContent = told[node.dataset.i];
  }});
  node.addEventListener("mouseout", () => svg.classList.remove("on"));
}}
</script></body></html>
"""


def prompt_page(graph: Any) -> str:
    """Return the page of a PromptGraph as one text."""
    title = escape(graph._heading())
    # No name of a user's can end the script that it stands in.
    told = json.dumps(_told(graph)).replace("<", "\\u003c")
    return _PAGE.format(
        title=title, svg=_svg(graph), told=told, table=write_html(graph._parts())
    )


def _told(graph: Any) -> list[str]:
    found = []
    for i, name in enumerate(graph["name"]):
        text = (
            f"{name} at {visible(graph['at'][i])!r} ({graph['position'][i]}): "
            f"activation {graph['activation'][i]:.3g}, adds "
            f"{graph['contribution'][i]:+.3f}"
        )
        if not np.isnan(graph["change"][i]):
            text += f", without it {graph['change'][i]:+.3f}"
        found.append(text)
    return found


def _places(graph: Any) -> tuple[list[tuple[float, float]], float, float]:
    """Return the place of each node, and the size of the picture."""
    shown = sorted(set(graph["position"]))
    row_of = {"token": 0.0, "read": -0.8, "write": -0.35, "error": -0.35}
    cells: dict[tuple[int, float], list[int]] = defaultdict(list)
    for i, (kind, layer, position) in enumerate(
        zip(graph["kind"], graph["layer"], graph["position"], strict=True)
    ):
        row = float(layer) if kind == "output" else 1.15 * layer + row_of[kind]
        if kind == "output":
            row = 1.15 * (layer - 1) + 0.4
        cells[position, row].append(i)
    widest = {
        position: max(len(nodes) for (at, _), nodes in cells.items() if at == position)
        for position in shown
    }
    left, lefts = float(_LEFT), {}
    for position in shown:
        lefts[position] = left
        left += max(_STEP_X, (widest[position] + 1) * (_DOT + 3))
    top = max(row for _, row in cells)
    places = [(0.0, 0.0)] * len(graph["kind"])
    for (position, row), nodes in cells.items():
        y = _TOP + (top - row) * _STEP_Y * 1.6
        for k, node in enumerate(nodes):
            places[node] = (lefts[position] + (k + 0.5) * (_DOT + 3), y)
    return places, left, _TOP + top * _STEP_Y * 1.6 + 50


def _svg(graph: Any) -> str:
    places, width, height = _places(graph)
    largest = max(np.abs(graph["contribution"][:-1]), default=1.0) or 1.0
    strongest = np.argsort(-np.abs(graph.flows), kind="stable")[:_EDGES]
    most = float(np.abs(graph.flows).max(initial=0)) or 1.0
    lines = []
    for edge in strongest[::-1]:
        a, b = int(graph.sources[edge]), int(graph.targets[edge])
        (x, y), (u, v) = places[a], places[b]
        flow = float(graph.flows[edge])
        lines.append(
            f'<path class="e" data-a="{a}" data-b="{b}" stroke="{_color(flow)}" '
            f'stroke-width="{0.5 + 5 * abs(flow) / most:.2f}" '
            f'd="M{x:.1f} {y:.1f}C{x:.1f} {y - 30:.1f} {u:.1f} {v + 30:.1f} '
            f'{u:.1f} {v:.1f}"/>'
        )
    for i, (x, y) in enumerate(places):
        value = float(graph["contribution"][i])
        size = 4 + 5 * min(1.0, abs(value) / largest) ** 0.5
        lines.append(_mark(graph["kind"][i], i, (x, y), size, _color(value)))
    texts = _texts(graph, places, height)
    lines += [
        f'<text x="{x:.0f}" y="{y:.0f}">{escape(text)}</text>' for x, y, text in texts
    ]
    rows: dict[int, list[float]] = {
        layer: [] for layer in sorted(set(graph["layer"][:-1])) if layer
    }
    for (_, y), layer in zip(places[:-1], graph["layer"][:-1], strict=True):
        if layer:
            rows[layer].append(y)
    lines += [
        f'<text x="8" y="{np.mean(ys) + 4:.0f}">MLP {layer}</text>'
        for layer, ys in rows.items()
    ]
    # What stands at the right must not be cut.
    width = max(width, *(x + _LETTER * (len(text) + 1) for x, _, text in texts))
    size = f'width="{width:.0f}" height="{height:.0f}"'
    return "\n".join([f'<svg {size} role="img">', *lines, "</svg>"])


def _texts(graph: Any, places: list, height: float) -> list[tuple[float, float, str]]:
    """Return the texts of tokens below the graph and beside the output."""
    lefts: dict[int, float] = {}
    found = []
    for (x, y), kind, name, position in zip(
        places, graph["kind"], graph["name"], graph["position"], strict=True
    ):
        lefts[position] = min(x, lefts.get(position, x))
        if kind == "output":
            found.append((x + 14, y + 4, visible(name)))
    return found + [
        (x - 6, height - 12, visible(graph.tokens[position]))
        for position, x in lefts.items()
    ]


def _color(value: float) -> str:
    return _POSITIVE if value > 0 else _NEGATIVE


def _mark(kind: str, i: int, at: tuple[float, float], size: float, color: str) -> str:
    x, y = at
    rest = f'class="n" data-i="{i}" fill="{color}"'
    if kind in ("write", "output", "token"):
        return (
            f'<rect x="{x - size:.1f}" y="{y - size:.1f}" width="{2 * size:.1f}" '
            f'height="{2 * size:.1f}" {rest}/>'
        )
    if kind == "error":
        ends = (x, y - size), (x + size, y), (x, y + size), (x - size, y)
        d = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in ends) + "Z"
        return f'<path d="{d}" {rest}/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}" {rest}/>'
