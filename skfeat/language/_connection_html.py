"""A connection as a section of an HTML page: its formula, its logic, its evidence."""

from __future__ import annotations

import re
from html import escape

import numpy as np
from sklearn.utils import Bunch

from skfeat.language._connection import columns_of_scores
from skfeat.utils._shown import write_html

STYLE = """
.skfeat-connection{font-family:sans-serif;margin:0 0 2.5em}
.skfeat-connection h2{font-size:1.25em;margin:.4em 0}
.skfeat-connection p{margin:.3em 0}
.skfeat-connection .f{font-family:monospace}
"""
_MEANING = {
    "or": "Each of several inputs is enough.",
    "and-not": "An input is enough, unless another one fires.",
    "and": "Only inputs that fire together are enough.",
    "single": "One input is enough.",
    "mixed": "No simple logic explains where it fires.",
    "none": "It never fires, or no input does.",
}


def labelled_logic(section: Bunch) -> str:
    """Return the logic of a connection with labels in place of feature names."""
    label_of = _labels_of_inputs(section)
    # Longer names first, as F1_1 is the beginning of F1_10.
    names = "|".join(map(re.escape, sorted(label_of, key=len, reverse=True)))
    formula = section.connection.logic.formula
    return re.sub(rf"\*({names})", lambda name: f"*({label_of[name[1]]})", formula)


def html_section(section: Bunch) -> str:
    """Return a connection and the passages of its features as HTML."""
    connection, logic = section.connection, section.connection.logic
    quality = (
        f"As a prediction of where the output fires: precision {logic.precision:.2f}, "
        f"recall {logic.recall:.2f}. It fires at {logic.output_rate:.2%} of "
        f"{logic.n_rows:,} tokens; of the {logic.n_without_inputs:,} where no listed "
        f"input does, at {logic.rate_without_inputs:.2%}."
    )
    if not np.isnan(connection.r2):
        quality += f" R2 of the weighted sum: {connection.r2:.2f}."
    lines = [
        f"<h2>{escape(connection.name)}: {escape(section.labels[0])}</h2>",
        f'<p class="f">{escape(connection.formula)}</p>',
        f'<p class="f">{escape(logic.kind)}: {escape(logic.formula)}</p>',
        f'<p class="f">{escape(labelled_logic(section))}</p>',
        f"<p>{_MEANING[logic.kind]} {quality}</p>",
        write_html(
            [
                columns_of_scores([connection]),
                *_beside_chance(connection),
                logic.columns_of_inputs(_labels_of_inputs(section)),
            ]
        ),
        *(display.to_html() for display in section.displays),
    ]
    body = "\n".join(lines)
    return f'<section class="skfeat-connection">\n{body}\n</section>\n'


def _labels_of_inputs(section: Bunch) -> dict[str, str]:
    return dict(zip(section.names[1:], section.labels[1:], strict=True))


def _beside_chance(connection: Bunch) -> list[str]:
    if connection.score <= connection.score_shuffled:
        return ["The score is no higher than chance gives."]
    return []
