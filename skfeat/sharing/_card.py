"""The page that says what a shared folder holds, made of what was fitted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from skfeat import _version
from skfeat.sharing._facts import Facts, facts_of
from skfeat.sharing._kinds import to_share
from skfeat.utils._checks import type_error, value_error
from skfeat.utils._shown import Column, Shown, one_line
from skfeat.utils._site import SITE

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
HERE = "path/of/this/folder"


def model_card(
    estimator: Any,
    *,
    license: str = "unknown",
    description: str | None = None,
    measures: Any = None,
    source: str | None = None,
) -> str:
    """Write the page that says what a fitted estimator is, in Markdown.

    It has the sizes, the parameters that differ from their defaults, what `fit` has
    measured, and the lines that load and use it; nothing in it is a guess.

    Parameters
    ----------
    estimator : estimator or SparseFeatureNetwork
        As of :func:`save_pretrained`.
    license : str, default="unknown"
        The licence's identifier, such as "bsd-3-clause", for the header.
    description : str, default=None
        What the page says first: of which model and data the estimator is. Markdown.
    measures : Report, PairReport, other result with a table, or dict, default=None
        Shown as a table.
    source : str, default=None
        What the example loads: a folder or a repository. ``None``: this folder.

    Returns
    -------
    str

    Raises
    ------
    TypeError
        If the estimator is of a class that cannot be shared, or the measures of one
        that has no table.
    NotFittedError
        If the estimator is not fitted.
    ValueError
        If `license` is no identifier.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat import FeatureConnector
    >>> from skfeat.sharing import model_card
    >>> X = np.eye(4)
    >>> card = model_card(FeatureConnector(link="identity").fit(X, X[:, :2]))
    >>> print(card.partition("# ")[2].partition("|")[0].strip())
    Sparse connector from 4 features to 2...
    """
    return write_card(
        *to_share(estimator), license, description, measures, source or HERE
    )


def write_card(
    kind: str,
    thing: Any,
    license: str,
    description: str | None,
    measures: Any,
    source: str,
) -> str:
    """Write the page of what :func:`to_share` has returned."""
    if not isinstance(license, str) or not _LICENSE.fullmatch(license):
        raise value_error(
            "license", "an identifier in lower case, such as 'bsd-3-clause'", license
        )
    if description is not None and not isinstance(description, str):
        raise type_error("description", "a str or None", description)
    shown = _measures(measures)
    facts = facts_of(kind, thing)
    sections = [
        _header(license, facts.tags),
        f"# {facts.title}",
        *([description.strip()] if description else []),
        facts.what,
        "## Figures",
        _table([("", [row[0] for row in facts.rows]), ("", _values(facts.rows))]),
        *([facts.note] if facts.note else []),
        *(["## Measures", *shown] if shown else []),
        "## How to load it",
        _program(facts, source),
        *_parameters(facts),
        "## What it does not say",
        facts.limits,
        "## Files",
        _files(facts),
    ]
    return "\n\n".join(sections) + "\n"


def _header(license: str, tags: Sequence[str]) -> str:
    lines = ["---", "library_name: skfeat", f"license: {license}", "tags:"]
    return "\n".join([*lines, *(f"- {tag}" for tag in tags), "---"])


def _files(facts: Facts) -> str:
    return (
        f"`config.json` and `{facts.file}` hold plain values and arrays: loading them "
        f"executes nothing. Written by [skfeat]({SITE}) {_version.__version__}."
    )


def _program(facts: Facts, source: str) -> str:
    lines = [
        "```python",
        "from skfeat.sharing import from_pretrained",
        "",
        f"{facts.variable} = from_pretrained({source!r})",
        *facts.use,
        "```",
    ]
    return "\n".join(lines)


def _parameters(facts: Facts) -> list[str]:
    if not facts.params:
        return []
    told = "\n".join(f"- `{name}={value!r}`" for name, value in facts.params.items())
    return ["## Parameters", f"Those that differ from their defaults.\n\n{told}"]


def _values(rows: Sequence[tuple[str, Any]]) -> list[str]:
    return [_number(value) for _, value in rows]


def _number(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return str(value)


def _measures(measures: Any) -> list[str]:
    """Turn measures into paragraphs and tables of Markdown."""
    if measures is None:
        return []
    if isinstance(measures, Shown):
        parts = measures._parts()
        return [
            _cell(part) if isinstance(part, str) else _shown_table(part)
            for part in parts
        ]
    if not isinstance(measures, Mapping):
        allowed = "a result with a table, such as a Report, a dict or None"
        raise type_error("measures", allowed, measures)
    names, values = list(map(str, measures)), list(map(_number, measures.values()))
    return [_table([("measure", names), ("value", values)])]


def _shown_table(columns: Sequence[Column]) -> str:
    shown = [column for column in columns if column.bars is None]
    table = _table([(column.title, column.cells) for column in shown])
    meanings = [f"- {c.title}: {c.meaning}" for c in shown if c.meaning]
    return "\n".join([table, "", *meanings]) if meanings else table


def _table(columns: Sequence[tuple[str, Sequence[str]]]) -> str:
    head = [_cell(title) for title, _ in columns]
    rows = zip(*(map(_cell, cells) for _, cells in columns), strict=True)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def _cell(text: str) -> str:
    """Write text that Markdown takes as it is."""
    return re.sub(r"([\\|<*`\[])", r"\\\1", one_line(text))
