"""Links of Markdown pages that lead out of ``docs/``, turned to pages of the site.

In the repository a page links to a record, an example or a file beside the code; on the
site the same link leads to the page made of it.
"""

from __future__ import annotations

import re
from pathlib import Path

from skfeat import __version__

REWRITES = [
    (r"\]\(\.\./benchmarks/records/(\w+)\.json", r"](records/\1.md"),
    (r"\]\(examples/(\w+)\.py", r"](gallery/\1.rst"),
    (r"\]\(\.\./skfeat/kernels/README\.md", r"](kernels.md"),
    (r"\]\(\.\./CONTRIBUTING\.md", r"](contributing.md"),
    (r"\]\(\.\./CHANGELOG\.md", r"](changelog.md"),
    (r"@VERSION@", __version__),
]


def rewrite(text: str) -> str:
    """Return a page with its links led to pages of the site."""
    for pattern, replacement in REWRITES:
        text = re.sub(pattern, replacement, text)
    return text


def _on_read(app, docname, source):
    if Path(app.env.doc2path(docname)).suffix == ".md":
        source[0] = rewrite(source[0])


def setup(app):
    """Register with Sphinx."""
    app.connect("source-read", _on_read)
    return {"parallel_read_safe": True}
