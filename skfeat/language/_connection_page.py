"""A page that puts an output feature beside the inputs that it is computed from."""

from __future__ import annotations

import re
import textwrap
from html import escape
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skfeat.capture._checks import check_capture, check_codes, check_vector
from skfeat.capture._contexts import activating_contexts
from skfeat.inspection import TokenActivationsDisplay
from skfeat.inspection._common import check_level, closed_on_error
from skfeat.inspection._token_html import html_page
from skfeat.language._ablation import AblationEffect
from skfeat.language._feature_tokens import feature_tokens
from skfeat.utils._checks import check_int, check_path
from skfeat.utils._sklearn import check_matplotlib_support

_STYLE = """
.skfeat-connection{font-family:sans-serif;margin:0 0 2.5em}
.skfeat-connection h2{font-size:1.25em;margin:.4em 0}
.skfeat-connection p{margin:.3em 0}
.skfeat-connection .f{font-family:monospace}
.skfeat-connection table.e{border-collapse:collapse;margin:.6em 0;font-size:14px}
.skfeat-connection table.e th,.skfeat-connection table.e td{text-align:right;
padding:.15em .7em;border:0;border-bottom:1px solid #8886;background:none}
.skfeat-connection table.e td:first-child,.skfeat-connection table.e th:first-child{
text-align:left}
"""
_MEANING = {
    "or": "Each of several inputs is enough.",
    "and-not": "An input is enough, unless another one fires.",
    "and": "Only inputs that fire together are enough.",
    "single": "One input is enough.",
    "mixed": "No simple logic explains where it fires.",
    "none": "It never fires, or no input does.",
}
_UNKNOWN = "–"
_COLUMNS = {
    "weight": "weight",
    "role": "role",
    "firing_rate": "fires",
    "mean_contribution": "adds",
    "mean_output": "mean output where it fires",
    "output_rate_firing": "output fires with it",
    "output_rate_alone": "with it alone",
    "n_alone": "tokens alone",
    "output_rate_with": "among judged tokens: with it",
    "output_rate_without": "without it",
}


class ConnectionPage:
    r"""Connections side by side with their features, as HTML and as displays.

    Made by :func:`connection_page`; a notebook shows it as it is.

    Parameters
    ----------
    sections : list of Bunch
        One a connection: ``connection``, ``labels`` (of the output and its inputs),
        ``names`` and ``displays`` (a `TokenActivationsDisplay` each, the output's
        first).
    title : str
        Of the page.

    Examples
    --------
    >>> from skfeat.language import ConnectionPage
    >>> ConnectionPage([], "Nothing found").to_html()
    '<h1>Nothing found</h1>\n'
    """

    def __init__(self, sections, title):
        self.sections = sections
        self.title = title

    def plot(self, index=0, *, figure=None, width=9.0, font_size=9):
        """Draw one connection: its reading, and the passages of its features.

        Parameters
        ----------
        index : int, default=0
            Which of the sections.
        figure : matplotlib Figure or SubFigure, default=None
            An empty one to draw in; None: a new one, as high as is needed.
        width : float, default=9.0
            Of a new figure, in inches.
        font_size : float, default=9
            Largest size of the text.

        Returns
        -------
        matplotlib Figure or SubFigure
            With an axes a feature, the output's first.
        """
        check_matplotlib_support("ConnectionPage.plot")
        import matplotlib.pyplot as plt

        if not self.sections:
            raise ValueError("sections are empty: there is no connection to draw.")
        index = check_int("index", index, most=len(self.sections) - 1)
        section = self.sections[index]
        for name, value in (("width", width), ("font_size", font_size)):
            check_level("ConnectionPage.plot", name, value, positive=True)
        own = figure is None
        if own:
            figure = plt.figure(figsize=(width, width), layout="constrained")
        with closed_on_error(figure if own else None):
            self._draw(section, figure, own, font_size)
        return figure

    def _draw(self, section, figure, own, font_size):
        reading = _labelled(section.connection.logic.formula, _label_of(section))
        title = f"{section.connection.name} ({section.labels[0]}) = {reading}"
        displays = section.displays
        axes = figure.subplots(len(displays), squeeze=False)[:, 0]
        room = figure.bbox.width * 72 / axes[0].get_figure(root=True).dpi
        heights = [
            one._wanted_height(axes[0], room - 20, font_size) for one in displays
        ]
        axes[0].get_gridspec().set_height_ratios(heights)
        lines = textwrap.wrap(title, int(room / (0.6 * font_size)))
        style = {"fontsize": 1.1 * font_size, "parse_math": False, "ha": "left"}
        figure.suptitle("\n".join(lines), x=0.01, **style)
        if own:
            # Titles, and the paddings of the layout.
            above = 1.5 * font_size * len(lines) + len(axes) * (2 * font_size + 12)
            figure.set_figheight((sum(heights) + above) / 72)
        for ax, display in zip(axes, displays, strict=True):
            display.plot(ax=ax, font_size=font_size)
            ax.set_title(
                display.title, fontsize=font_size, loc="left", parse_math=False
            )

    def to_html(self) -> str:
        """Return the page's content.

        Returns
        -------
        str
            An HTML fragment. It refers to nothing outside and runs no script.
        """
        style = f"<style>{_STYLE}</style>\n" if self.sections else ""
        body = "".join(map(_section, self.sections))
        return f"{style}<h1>{escape(self.title)}</h1>\n{body}"

    def save(self, path) -> None:
        """Write the page to a file.

        Parameters
        ----------
        path : str or path
            The file, overwritten if it exists.
        """
        page = html_page(self.to_html(), self.title)
        check_path("path", path).write_text(page, encoding="utf-8")

    def _repr_html_(self):
        return self.to_html()


def connection_page(
    connections,
    X,
    Y,
    capture,
    decode,
    *,
    effects=None,
    n_inputs=4,
    n_top=3,
    n_strata=3,
    before=10,
    after=5,
    title="Connections between features",
    random_state=None,
) -> ConnectionPage:
    """Put output features beside their inputs: formula, logic, and passages of each.

    Parameters
    ----------
    connections : Bunch or list of Bunch
        From :func:`find_connections` or :func:`read_connection`.
    X : array-like or sparse matrix of shape (n_rows, n_inputs)
        Activations of the input features.
    Y : array-like or sparse matrix of shape (n_rows, n_outputs)
        Measured activations of the output features.
    capture : skfeat.capture.Capture
        Whose rows were encoded, with tokens.
    decode : tokenizer, callable or sequence of str
        A tokenizer with ``decode``, a function from a token id to its text, or the
        texts by id.
    effects : callable, default=None
        Called as ``effects(side, feature, sequences)`` with "input" or "output", a
        column of X or Y, and the numbers of the sequences that are shown; returns the
        :class:`AblationEffect` of that feature there. ``None``: no effects are shown.
    n_inputs : int, default=4
        Number of inputs shown with passages, those that the logic names first.
    n_top, n_strata, before, after
        As in :func:`activating_contexts`.
    title : str, default="Connections between features"
        Of the page.
    random_state : int, RandomState instance or None, default=None
        Draws the passages.

    Returns
    -------
    ConnectionPage

    Raises
    ------
    TypeError
        If `connections`, `capture`, `decode`, `effects` or `title` is none.
    ValueError
        If an argument is not as described.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat import FeatureConnector
    >>> from skfeat.capture import Capture
    >>> from skfeat.language import connection_page, read_connection
    >>> tokens = np.random.RandomState(0).randint(0, 4, 400)
    >>> X = np.eye(4)[tokens]
    >>> Y = X[:, [1]] + X[:, [2]]
    >>> connector = FeatureConnector(n_nonzero_coefs=2).fit(X, Y)
    >>> rows = Capture({}, np.zeros(400, int), np.arange(400), tokens)
    >>> words = ["the", "old", "former", "?"]
    >>> found = read_connection(connector, 0, X, Y)
    >>> page = connection_page(found, X, Y, rows, words)
    >>> page.sections[0].labels
    ['old/former', 'old', 'former']
    """
    if isinstance(connections, Bunch):
        connections = [connections]
    if not isinstance(connections, list | tuple) or not all(
        isinstance(one, Bunch) and "logic" in one for one in connections
    ):
        raise TypeError(
            "connections must be what find_connections or read_connection returns. Got "
            f"{connections!r} instead."
        )
    if effects is not None and not callable(effects):
        raise TypeError(f"effects must be None or callable. Got {effects!r} instead.")
    if not isinstance(title, str):
        raise TypeError(f"title must be a str. Got {title!r} instead.")
    n_inputs = check_int("n_inputs", n_inputs)
    check_capture(capture)
    token_ids = check_vector("token_ids", capture.token_ids)
    codes = {
        "input": check_codes("X", X, len(token_ids)),
        "output": check_codes("Y", Y, len(token_ids)),
    }
    shown: dict[Any, Any] = {}

    def show(side, feature, name):
        """Return the label and the display of a feature, of each but once."""
        if (side, feature) not in shown:
            one = codes[side][:, [feature]]
            label = feature_tokens(one, token_ids, decode).labels[0]
            contexts = activating_contexts(
                one,
                capture.sequence,
                capture.position,
                token_ids,
                feature=0,
                n_top=n_top,
                n_strata=n_strata,
                before=before,
                after=after,
                random_state=random_state,
            )
            if effects is not None and len(contexts):
                effect = effects(side, feature, np.unique(contexts.sequence))
                if not isinstance(effect, AblationEffect):
                    raise TypeError(
                        f"effects must return an AblationEffect. Got {effect!r} "
                        "instead."
                    )
                contexts = contexts.with_effects(
                    effect.log_prob, effect.sequence, effect.position
                )
            display = TokenActivationsDisplay.from_contexts(
                contexts, decode, title=f"{side} {name}: {label}"
            )
            shown[side, feature] = label, display
        return shown[side, feature]

    sections = []
    for connection in connections:
        inputs = connection.logic.inputs
        named = [("output", connection.output, connection.name)]
        named += [("input", one["index"], one["name"]) for one in _first(inputs)]
        found = [show(*one) for one in named[: 1 + n_inputs]]
        labels = [label for label, _ in found]
        rest = [one["index"] for one in _first(inputs)[n_inputs:]]
        if rest:
            others = feature_tokens(codes["input"], token_ids, decode, features=rest)
            labels += others.labels
        sections.append(
            Bunch(
                connection=connection,
                names=[name for _, _, name in named],
                labels=labels,
                displays=[display for _, display in found],
            )
        )
    return ConnectionPage(sections, title)


def _first(inputs):
    """Return the inputs that the logic names, then the others, strongest first."""
    named = ("suffices", "in a pair", "inhibits")
    return sorted(inputs, key=lambda one: one["role"] not in named)


def _label_of(section) -> dict[str, str]:
    return dict(zip(section.names[1:], section.labels[1:], strict=True))


def _labelled(formula, label_of) -> str:
    """Put labels in the place of names."""
    # Longer names first: F1_1 is a part of F1_10.
    names = "|".join(map(re.escape, sorted(label_of, key=len, reverse=True)))
    return re.sub(rf"\*({names})", lambda name: f"*({label_of[name[1]]})", formula)


def _section(section) -> str:
    connection, logic = section.connection, section.connection.logic
    label_of = _label_of(section)
    reading = _labelled(logic.formula, label_of)
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
        f'<p class="f">{escape(reading)}</p>',
        f"<p>{_MEANING[logic.kind]} {quality}</p>",
        _evidence(logic, label_of),
        *(display.to_html() for display in section.displays),
    ]
    body = "\n".join(lines)
    return f'<section class="skfeat-connection">\n{body}\n</section>\n'


def _evidence(logic, label_of) -> str:
    columns = [["input"]]
    for one in logic.inputs:
        columns[0].append(f"{one['name']} {label_of.get(one['name'], '')}".strip())
    for key, title in _COLUMNS.items():
        cells = [_cell(one[key]) for one in logic.inputs]
        # What is known of no input is left out: rates with and without an inhibitor.
        if any(cell != _UNKNOWN for cell in cells):
            columns.append([title, *cells])
    rows = zip(*columns, strict=True)
    lines = []
    for number, row in enumerate(rows):
        tag = "td" if number else "th"
        tagged = "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row)
        lines.append(f"<tr>{tagged}</tr>\n")
    return f'<table class="e">\n{"".join(lines)}</table>'


def _cell(value) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    return _UNKNOWN if np.isnan(value) else f"{value:.3g}"
