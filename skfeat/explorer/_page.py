"""Writes a description into one HTML file that loads nothing."""

from __future__ import annotations

from html import escape
from importlib import resources
from pathlib import Path

from skfeat.explorer._description import Explorer
from skfeat.explorer._pack import pack

# In the order in which they stand in the page: each uses those before it.
SCRIPTS = (
    "elements.js",
    "data.js",
    "examples.js",
    "layout.js",
    "graph.js",
    "list.js",
    "views.js",
    "app.js",
)


def page_text(explorer: Explorer) -> str:
    """Return the whole page.

    What the user named is in the compressed data alone, and the title, escaped: no name
    can end the script that it stands in.
    """
    scripts = "\n".join(_file(name) for name in SCRIPTS)
    parts = {
        "{{title}}": escape(explorer.title),
        "{{style}}": _file("style.css"),
        "{{script}}": f'(() => {{\n"use strict";\n{scripts}\n}})();',
        "{{data}}": pack(explorer.to_plain()),
    }
    text = _file("page.html")
    # The title last: it is the only part that may hold a mark.
    for mark in reversed(parts):
        text = text.replace(mark, parts[mark])
    return text


def write_page(explorer: Explorer, path: Path) -> Path:
    """Write the page, over a file of that name, and return the path."""
    path.write_text(page_text(explorer), encoding="utf-8")
    return path


def _file(name: str) -> str:
    folder = resources.files("skfeat.explorer") / "page"
    return (folder / name).read_text(encoding="utf-8")
