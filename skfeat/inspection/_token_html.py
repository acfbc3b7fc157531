"""Tokens coloured by activation, as self-contained HTML."""

from __future__ import annotations

from html import escape

import numpy as np

from skfeat.inspection._token_colors import (
    ACTIVATION_STOPS,
    EFFECT_STOPS,
    activation_position,
    effect_position,
    hex_colors,
    ink_on,
)
from skfeat.inspection._token_passages import Passage
from skfeat.inspection._token_text import visible, visible_passage

# Boxes set the colour of their text, so that it is readable on light and dark pages.
_STYLE = """
.skfeat-tokens{font-family:sans-serif;font-size:14px;color:inherit;margin:.6em 0}
.skfeat-tokens table{border-collapse:collapse;width:auto;margin:0;border:0}
.skfeat-tokens caption{text-align:left;font-weight:bold;padding:.2em 0}
.skfeat-tokens tr,.skfeat-tokens td,.skfeat-tokens th{background:none;border:0}
.skfeat-tokens th{font-weight:normal;text-align:right;vertical-align:top;
padding:.25em .7em .25em 0;white-space:nowrap;opacity:.75}
.skfeat-tokens td{text-align:left;padding:.2em 0;line-height:1.5}
.skfeat-tokens .t{display:inline-block;vertical-align:top;white-space:pre;
margin:0 0 3px;border:1px solid #bbb;border-left-width:0}
.skfeat-tokens .t:first-child{border-left-width:1px}
.skfeat-tokens .t b{display:block;padding:0 3px;font-weight:normal}
.skfeat-tokens .t i{display:block;height:.7em;border-top:1px solid #bbb}
.skfeat-tokens .l{font-size:12px;margin:.3em 1.5em .3em 0;display:inline-block}
.skfeat-tokens .l span{display:inline-block;width:9em;height:.8em;
border:1px solid #bbb;vertical-align:middle;margin:0 .4em}
"""
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root{{color-scheme:light dark}}
body{{font-family:sans-serif;max-width:75em;margin:1em auto;padding:0 1em}}
{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def html_page(body: str, title: str, style: str = "") -> str:
    """Return a whole document, light or dark as the browser is set."""
    return _PAGE.format(body=body, title=escape(title), style=style)


def html_table(
    passages: list[Passage],
    title: str | None,
    effect_name: str,
    limits: tuple[float, float],
) -> str:
    """Return a table with a row of boxes for each passage.

    `limits` are the values of the strongest colours of activations and of effects.
    """
    limit, effect_limit = limits
    has_labels = any(passage.label for passage in passages)
    rows = []
    for passage in passages:
        boxes = _boxes(passage, effect_name, limits)
        label = f"<th>{_text(passage.label)}</th>" if has_labels else ""
        rows.append(f"<tr>{label}<td>{boxes}</td></tr>\n")
    caption = "" if title is None else f"<caption>{_text(title)}</caption>\n"
    if not rows:
        rows = ["<tr><td>never active</td></tr>\n"]
    legend = _legend("activation", ACTIVATION_STOPS, "0", f"{limit:.3g}")
    if any(passage.effects is not None for passage in passages):
        ends = f"{-effect_limit:.3g}", f"{effect_limit:.3g}"
        legend += _legend(effect_name, EFFECT_STOPS, *ends)
    return (
        f'<div class="skfeat-tokens">\n<style>{_STYLE}</style>\n<table>\n{caption}'
        f"<tbody>\n{''.join(rows)}</tbody>\n</table>\n<div>{legend}</div>\n</div>\n"
    )


def _boxes(passage: Passage, effect_name: str, limits: tuple[float, float]) -> str:
    limit, effect_limit = limits
    positions = activation_position(passage.activations, limit)
    fills = hex_colors(ACTIVATION_STOPS, positions)
    strips = notes = [""] * len(passage.tokens)
    if passage.effects is not None:
        positions = effect_position(passage.effects, effect_limit)
        strips = [
            f'<i style="background:{color}"></i>'
            for color in hex_colors(EFFECT_STOPS, positions)
        ]
        notes = [f", {effect_name} {_effect(value)}" for value in passage.effects]
    boxes = []
    shown = visible_passage(passage.tokens)
    for token, value, fill, strip, note in zip(
        shown, passage.activations, fills, strips, notes, strict=True
    ):
        tooltip = _text(f"{token.name}: activation {value:.3g}{note}")
        boxes.append(
            f'<span class="t" title="{tooltip}"><b style="background:{fill};'
            f'color:{ink_on(fill)}">{_text(token.text)}</b>{strip}</span>'
        )
    # Line breaks are allowed between boxes, or long passages would leave the page.
    return "<wbr>".join(boxes)


def _legend(name: str, stops: tuple[str, ...], low: str, high: str) -> str:
    bar = f'<span style="background:linear-gradient(90deg,{",".join(stops)})"></span>'
    return f'<span class="l">{_text(name)}: {_text(low)}{bar}{_text(high)}</span>'


def _text(text: str) -> str:
    # Spaces stay spaces, while other invisible characters are shown by their code.
    return escape(" ".join(visible(part) for part in text.split(" ") if part))


def _effect(value: float) -> str:
    return "unknown" if np.isnan(value) else f"{value:+.3g}"
