"""Tokens coloured by activation, as HTML that needs nothing else."""

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
from skfeat.inspection._token_text import visible

# Boxes bring their own ink, so that they read the same on a light or a dark page.
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
    """Return a whole document, light or dark as its reader's browser is."""
    return _PAGE.format(body=body, title=escape(title), style=style)


def html_table(passages, labels, title, effect_name, limit, effect_limit) -> str:
    """Return a table with a row of boxes a passage.

    Parameters
    ----------
    passages : list of tuple (list of str, ndarray, ndarray or None)
        Tokens, activations and effects.
    labels : list of str or None
    title : str or None
    effect_name : str
    limit, effect_limit : float
        What the strongest colours stand for.

    Returns
    -------
    str
    """
    rows = []
    for number, (tokens, activations, effects) in enumerate(passages):
        boxes = _boxes(tokens, activations, effects, effect_name, limit, effect_limit)
        label = "" if labels is None else f"<th>{_text(labels[number])}</th>"
        rows.append(f"<tr>{label}<td>{boxes}</td></tr>\n")
    caption = "" if title is None else f"<caption>{_text(title)}</caption>\n"
    if not rows:
        rows = ["<tr><td>never active</td></tr>\n"]
    legend = _legend("activation", ACTIVATION_STOPS, "0", f"{limit:.3g}")
    if any(effects is not None for _, _, effects in passages):
        ends = f"{-effect_limit:.3g}", f"{effect_limit:.3g}"
        legend += _legend(effect_name, EFFECT_STOPS, *ends)
    return (
        f'<div class="skfeat-tokens">\n<style>{_STYLE}</style>\n<table>\n{caption}'
        f"<tbody>\n{''.join(rows)}</tbody>\n</table>\n<div>{legend}</div>\n</div>\n"
    )


def _boxes(tokens, activations, effects, effect_name, limit, effect_limit) -> str:
    fills = hex_colors(ACTIVATION_STOPS, activation_position(activations, limit))
    strips, notes = [""] * len(tokens), [""] * len(tokens)
    if effects is not None:
        places = effect_position(effects, effect_limit)
        strips = [
            f'<i style="background:{color}"></i>'
            for color in hex_colors(EFFECT_STOPS, places)
        ]
        notes = [f", {effect_name} {_number(effect, '+.3g')}" for effect in effects]
    boxes = []
    for text, value, fill, strip, note in zip(
        tokens, activations, fills, strips, notes, strict=True
    ):
        shown = visible(text)
        tooltip = _text(f"{shown}: activation {value:.3g}{note}")
        boxes.append(
            f'<span class="t" title="{tooltip}"><b style="background:{fill};'
            f'color:{ink_on(fill)}">{_text(shown)}</b>{strip}</span>'
        )
    # Without a place to break a long passage would run out of the page.
    return "<wbr>".join(boxes)


def _legend(name, stops, low, high) -> str:
    bar = f'<span style="background:linear-gradient(90deg,{",".join(stops)})"></span>'
    return f'<span class="l">{_text(name)}: {_text(low)}{bar}{_text(high)}</span>'


def _text(text: str) -> str:
    # Spaces of names are spaces; whatever else cannot be seen is written out.
    return escape(" ".join(visible(part) for part in text.split(" ") if part))


def _number(value, spec) -> str:
    return "unknown" if np.isnan(value) else format(value, spec)
