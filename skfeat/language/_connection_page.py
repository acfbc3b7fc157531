"""A page that shows output features beside the inputs that they are computed from."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from html import escape
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skfeat.capture._capture import Capture
from skfeat.capture._checks import check_capture, check_codes, check_vector
from skfeat.capture._contexts import Contexts, activating_contexts
from skfeat.inspection._axes import closed_on_error
from skfeat.inspection._token_activations_display import TokenActivationsDisplay
from skfeat.inspection._token_html import html_page
from skfeat.language._ablation import AblationEffect
from skfeat.language._connection_html import STYLE, html_section, labelled_logic
from skfeat.language._feature_tokens import feature_tokens
from skfeat.utils._checks import check_int, check_level, check_path
from skfeat.utils._sklearn import check_matplotlib_support


class ConnectionPage:
    r"""Connections beside the passages of their features, as HTML and as figures.

    :func:`connection_page` makes one; a notebook displays it as it is.

    Parameters
    ----------
    sections : list of Bunch
        One for each connection, with ``connection``, ``labels`` and ``names`` of the
        output and its inputs, and ``displays``, one `TokenActivationsDisplay` for each
        feature, the output's first.
    title : str
        Title of the page.

    Examples
    --------
    >>> from skfeat.language import ConnectionPage
    >>> ConnectionPage([], "Connections").to_html()
    '<h1>Connections</h1>\n<p>No connection was found.</p>\n'
    """

    def __init__(self, sections: list[Bunch], title: str):
        self.sections = sections
        self.title = title

    def plot(
        self,
        index: int = 0,
        *,
        figure: Any = None,
        width: float = 9.0,
        font_size: float = 9,
    ) -> Any:
        """Draw one connection: its logic, and the passages of its features.

        Parameters
        ----------
        index : int, default=0
            Index of the section.
        figure : matplotlib Figure or SubFigure, default=None
            An empty one to draw in; None: a new one, as high as needed.
        width : float, default=9.0
            Width of a new figure, in inches.
        font_size : float, default=9
            Largest size of the text.

        Returns
        -------
        matplotlib Figure or SubFigure
            With one axes for each feature, the output's first.

        Raises
        ------
        ValueError
            If there is no section, or an argument is not valid.
        """
        check_matplotlib_support("ConnectionPage.plot")
        import matplotlib.pyplot as plt

        if not self.sections:
            raise ValueError("sections is empty: there is no connection to draw.")
        index = check_int("index", index, most=len(self.sections) - 1)
        section = self.sections[index]
        for name, value in (("width", width), ("font_size", font_size)):
            check_level(name, value, positive=True)
        is_new = figure is None
        if is_new:
            figure = plt.figure(figsize=(width, width), layout="constrained")
        with closed_on_error(figure if is_new else None):
            self._draw(section, figure, is_new, font_size)
        return figure

    def _draw(
        self, section: Bunch, figure: Any, is_new: bool, font_size: float
    ) -> None:
        name, label = section.connection.name, section.labels[0]
        title = f"{name} ({label}) = {labelled_logic(section)}"
        displays = section.displays
        axes = figure.subplots(len(displays), squeeze=False)[:, 0]
        width = figure.bbox.width * 72 / axes[0].get_figure(root=True).dpi
        heights = [
            display._wanted_height(axes[0], width - 20, font_size)
            for display in displays
        ]
        axes[0].get_gridspec().set_height_ratios(heights)
        lines = textwrap.wrap(title, int(width / (0.6 * font_size)))
        style = {"fontsize": 1.1 * font_size, "parse_math": False, "ha": "left"}
        figure.suptitle("\n".join(lines), x=0.01, **style)
        if is_new:
            # The titles, and the paddings of the layout.
            above = 1.5 * font_size * len(lines) + len(axes) * (2 * font_size + 12)
            figure.set_figheight((sum(heights) + above) / 72)
        for ax, display in zip(axes, displays, strict=True):
            display.plot(ax=ax, font_size=font_size)
            ax.set_title(
                display.title, fontsize=font_size, loc="left", parse_math=False
            )

    def to_html(self) -> str:
        """Return the content of the page.

        Returns
        -------
        str
            An HTML fragment. It loads nothing and runs no script.
        """
        style = f"<style>{STYLE}</style>\n" if self.sections else ""
        body = "".join(map(html_section, self.sections))
        body = body or "<p>No connection was found.</p>\n"
        return f"{style}<h1>{escape(self.title)}</h1>\n{body}"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page to a file.

        Parameters
        ----------
        path : str or path
            The file, overwritten if it exists.
        """
        page = html_page(self.to_html(), self.title)
        check_path("path", path).write_text(page, encoding="utf-8")

    def _repr_html_(self) -> str:
        return self.to_html()


def connection_page(
    connections: Bunch | list[Bunch],
    X: Any,
    Y: Any,
    capture: Capture,
    decode: Any,
    *,
    effects: Callable[[str, int, np.ndarray], AblationEffect] | None = None,
    n_inputs: int = 4,
    n_top: int = 3,
    n_strata: int = 3,
    before: int = 10,
    after: int = 5,
    title: str = "Connections between features",
    random_state: Any = None,
) -> ConnectionPage:
    """Show output features beside their inputs: formula, logic, and passages of each.

    Parameters
    ----------
    connections : Bunch or list of Bunch
        From :func:`find_connections` or :func:`read_connection`.
    X : array-like or sparse matrix of shape (n_rows, n_inputs)
        Activations of the input features.
    Y : array-like or sparse matrix of shape (n_rows, n_outputs)
        Measured activations of the output features.
    capture : skfeat.capture.Capture
        The capture whose rows were encoded, with tokens.
    decode : tokenizer, callable or sequence of str
        A tokenizer with ``decode``, a function from a token id to its text, or the
        texts by id. Texts may be bytes.
    effects : callable, default=None
        Called as ``effects(side, feature, sequences)`` with "input" or "output", a
        column of X or Y, and the numbers of the sequences that are shown; returns the
        :class:`AblationEffect` of that feature there. ``None``: no effects are shown.
    n_inputs : int, default=4
        Number of inputs shown with passages, those that the logic names first.
    n_top, n_strata, before, after
        As in :func:`activating_contexts`.
    title : str, default="Connections between features"
        Title of the page.
    random_state : int, RandomState instance or None, default=None
        Determines the passages.

    Returns
    -------
    ConnectionPage

    Raises
    ------
    TypeError
        If `connections`, `capture`, `decode`, `effects` or `title` has another type.
    ValueError
        If an argument is not valid.

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
        isinstance(connection, Bunch) and "logic" in connection
        for connection in connections
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
    n_rows = len(check_vector("token_ids", capture.token_ids))
    features = _Features(
        codes={
            "input": check_codes("X", X, n_rows),
            "output": check_codes("Y", Y, n_rows),
        },
        capture=capture,
        decode=decode,
        effects=effects,
        find_contexts=partial(
            activating_contexts,
            n_top=n_top,
            n_strata=n_strata,
            before=before,
            after=after,
            random_state=random_state,
        ),
    )
    sections = [features.section(connection, n_inputs) for connection in connections]
    return ConnectionPage(sections, title)


@dataclass
class _Features:
    """Labels and displays of features, each made once however often it is shown."""

    codes: dict[str, Any]
    capture: Capture
    decode: Any
    effects: Callable[[str, int, np.ndarray], AblationEffect] | None
    find_contexts: Callable[..., Contexts]
    shown: dict[tuple[str, int], tuple[str, TokenActivationsDisplay]] = field(
        default_factory=dict
    )

    def section(self, connection: Bunch, n_inputs: int) -> Bunch:
        """Return a section of the page, with displays of the first `n_inputs`."""
        inputs = _inputs_in_order(connection.logic)
        shown = [self._show("output", connection.output, connection.name)]
        shown += [
            self._show("input", entry["index"], entry["name"])
            for entry in inputs[:n_inputs]
        ]
        labels = [label for label, _ in shown]
        rest = [entry["index"] for entry in inputs[n_inputs:]]
        if rest:
            tokens = self.capture.token_ids
            labels += feature_tokens(
                self.codes["input"], tokens, self.decode, features=rest
            ).labels
        return Bunch(
            connection=connection,
            names=[connection.name, *(entry["name"] for entry in inputs)],
            labels=labels,
            displays=[display for _, display in shown],
        )

    def _show(
        self, side: str, feature: int, name: str
    ) -> tuple[str, TokenActivationsDisplay]:
        key = side, feature
        if key not in self.shown:
            activations = self.codes[side][:, [feature]]
            tokens = self.capture.token_ids
            label = feature_tokens(activations, tokens, self.decode).labels[0]
            contexts = self.find_contexts(
                activations,
                self.capture.sequence,
                self.capture.position,
                tokens,
                feature=0,
            )
            display = TokenActivationsDisplay.from_contexts(
                self._with_effects(contexts, side, feature),
                self.decode,
                title=f"{side} {name}: {label}",
            )
            self.shown[key] = label, display
        return self.shown[key]

    def _with_effects(self, contexts: Contexts, side: str, feature: int) -> Contexts:
        if self.effects is None or not len(contexts):
            return contexts
        effect = self.effects(side, feature, np.unique(contexts.sequence))
        if not isinstance(effect, AblationEffect):
            raise TypeError(
                f"effects must return an AblationEffect. Got {effect!r} instead."
            )
        return contexts.with_effects(effect.log_prob, effect.sequence, effect.position)


def _inputs_in_order(logic: Bunch) -> list[dict[str, Any]]:
    """Return the inputs that the logic names, then the others, strongest first."""
    named = ("suffices", "in a pair", "inhibits")
    return sorted(logic.inputs, key=lambda entry: entry["role"] not in named)
