"""Tokens of passages, each coloured by the activation of a feature."""

from __future__ import annotations

import os
from typing import Any, Self

from skfeat.capture._checks import check_capture
from skfeat.capture._contexts import Contexts, activating_contexts
from skfeat.inspection._axes import closed_on_error, hide_frame, single_axes
from skfeat.inspection._inputs import check_methods
from skfeat.inspection._token_drawing import (
    Scale,
    check_options,
    draw_passages,
    make_scales,
)
from skfeat.inspection._token_html import html_page, html_table
from skfeat.inspection._token_layout import Layout
from skfeat.inspection._token_passages import Passage, check_passages, color_limits
from skfeat.inspection._token_text import token_texts
from skfeat.utils._checks import (
    check_level,
    check_option,
    check_path,
    type_error,
    value_error,
)
from skfeat.utils._sklearn import check_matplotlib_support


class TokenActivationsDisplay:
    r"""Passages in which a feature fires, token by token.

    Each token has a box, coloured from white to green by the activation of the feature.
    If effects are given, a strip below the boxes shows them from red to blue, white at
    zero and grey where there is none.

    It is recommended to create one with :meth:`from_contexts` or
    :meth:`from_estimator`. These do not draw, so that :meth:`to_html` and :meth:`save`
    work without matplotlib; call :meth:`plot` to draw. A notebook shows the display as
    HTML.

    Parameters
    ----------
    tokens : sequence of sequence of str or bytes
        The texts of the tokens of each passage. A space is shown as ``·``, a newline as
        ``⏎``, and any other invisible character as its code. A token that is a part of
        a character is given as bytes. Where bytes next to each other make a character,
        the first of their tokens shows it, and ``←`` stands in the others; each keeps
        its own colour. Other bytes are shown as their codes, such as ``\xc3``.
    activations : sequence of array-like of float
        The activation at each token.
    effects : sequence of array-like of float, default=None
        The effect at each token, nan where it is unknown; see
        :func:`skfeat.language.ablation_effect`.
    labels : sequence of str, default=None
        One label for each passage, written to its left.
    title : str, default=None
        Title above the passages.
    effect_name : str, default="effect on log-probability"
        Name of the effects.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes with the boxes.
    boxes_ : PolyCollection
        The boxes of the tokens.
    effect_boxes_ : PolyCollection or None
        The strips of effects.
    texts_ : list of matplotlib Text
        Labels and tokens.
    colorbars_ : list of matplotlib Colorbar
        The colour bar of the activations, and that of the effects if there are any.
    figure_ : matplotlib Figure
        The figure that holds them.

    Examples
    --------
    >>> from skfeat.inspection import TokenActivationsDisplay
    >>> display = TokenActivationsDisplay(
    ...     tokens=[["the", " old", " man"]], activations=[[0.0, 7.1, 0.5]]
    ... )
    >>> len(display.plot().texts_)
    3
    >>> "·old" in display.to_html()
    True
    """

    def __init__(
        self,
        *,
        tokens,
        activations,
        effects=None,
        labels=None,
        title=None,
        effect_name="effect on log-probability",
    ):
        self.tokens = tokens
        self.activations = activations
        self.effects = effects
        self.labels = labels
        self.title = title
        self.effect_name = effect_name

    def plot(
        self,
        *,
        ax=None,
        cmap=None,
        effect_cmap=None,
        vmax=None,
        effect_vmax=None,
        colorbar=True,
        font_size=9,
        text_kw=None,
        box_kw=None,
    ) -> Self:
        r"""Draw a row of boxes for each passage, long ones in several lines.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None: those of a new figure, as large as needed.
        cmap, effect_cmap : str or matplotlib Colormap, default=None
            Colours of the activations, from zero up, and of the effects, about zero.
            None: white to green, and red to blue.
        vmax, effect_vmax : float, default=None
            Values of the strongest colours. None: the largest activation, and the
            99.5th percentile of the effects' magnitudes.
        colorbar : bool, default=True
            Whether to draw a colour bar for each.
        font_size : float, default=9
            Largest size of the text; it shrinks to fit small axes.
        text_kw : dict, default=None
            Options of `Axes.text`. A character that the font lacks is drawn as its
            code, such as ``\u65e5``: ``{"family": [...]}`` chooses other fonts.
        box_kw : dict, default=None
            Options of the boxes, a `PolyCollection`.

        Returns
        -------
        display : TokenActivationsDisplay
            The object itself.
        """
        check_level("font_size", font_size, positive=True)
        passages = self._passages()
        limits = color_limits(passages, vmax, effect_vmax)
        caller = f"{type(self).__name__}.plot"
        check_matplotlib_support(caller)
        scales = make_scales(cmap, effect_cmap, limits, self.effect_name)
        text_kw, box_kw = check_options(text_kw, box_kw)
        is_new = ax is None
        ax = single_axes(caller, ax)
        with closed_on_error(ax.figure if is_new else None):
            layout = Layout.measure(ax, passages, text_kw)
            layout.n_bars = layout.n_bars if colorbar else 0
            if is_new:
                has_title = self.title is not None
                size = layout.figure_size(float(font_size), has_title=has_title)
                ax.figure.set_size_inches(size)
            self._draw(ax, layout, scales, float(font_size), text_kw, box_kw)
        return self

    def _draw(
        self,
        ax: Any,
        layout: Layout,
        scales: tuple[Scale, Scale],
        font_size: float,
        text_kw: dict[str, Any],
        box_kw: dict[str, Any],
    ) -> None:
        hide_frame(ax)
        if self.title is not None:
            ax.set_title(self.title, parse_math=False, loc="left")
        drawn = draw_passages(ax, layout, scales, font_size, text_kw, box_kw)
        self.boxes_, self.effect_boxes_ = drawn.boxes, drawn.effect_boxes
        self.texts_, self.colorbars_ = drawn.texts, drawn.colorbars
        if not layout.passages:
            ax.text(0, 0.5, "never active", color="0.4", transform=ax.transAxes)
        self.ax_, self.figure_ = ax, ax.figure

    def _wanted_height(self, ax: Any, width: float, font: float) -> float:
        """Return the height that the display needs at a width, both in points."""
        layout = Layout.measure(ax, self._passages(), {"usetex": False})
        return layout.height(width - layout.label_width * font, font)

    def to_html(self) -> str:
        """Return an HTML table with its style; all texts are escaped.

        A tooltip shows the numbers of each token.

        Returns
        -------
        str
            An HTML fragment. It loads nothing and runs no script.
        """
        passages = self._passages()
        limits = color_limits(passages, None, None)
        return html_table(passages, self.title, self.effect_name, limits)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table as an HTML page.

        Parameters
        ----------
        path : str or path
            The file, overwritten if it exists.
        """
        title = "Token activations" if self.title is None else self.title
        page = html_page(self.to_html(), title)
        check_path("path", path).write_text(page, encoding="utf-8")

    def _repr_html_(self) -> str:
        return self.to_html()

    @classmethod
    def from_contexts(
        cls,
        contexts,
        decode,
        *,
        title=None,
        labels="activation",
        effect_name="effect on log-probability",
    ) -> Self:
        """Show the passages from :func:`skfeat.language.activating_contexts`.

        Parameters
        ----------
        contexts : skfeat.language.Contexts
            The passages, with or without effects.
        decode : tokenizer, callable or sequence of str
            A tokenizer with ``decode``, a function from a token id to its text, or the
            texts by id. A tokenizer tells the bytes of tokens that are parts of
            characters; a function or sequence may give bytes.
        title : str, default=None
            Title above the passages.
        labels : "activation", sequence of str or None, default="activation"
            One label for each passage. "activation" means the activation at the token
            that the passage was chosen for.
        effect_name : str, default="effect on log-probability"
            Name of the effects.

        Returns
        -------
        display : TokenActivationsDisplay
            Not drawn yet.

        Examples
        --------
        >>> from skfeat.inspection import TokenActivationsDisplay
        >>> from skfeat.language import activating_contexts
        >>> contexts = activating_contexts(
        ...     [0.0, 2.0, 0.0], [0, 0, 0], [0, 1, 2], [2, 1, 0], random_state=0
        ... )
        >>> display = TokenActivationsDisplay.from_contexts(
        ...     contexts, ["man", " old", "the"]
        ... )
        >>> display.tokens, display.labels
        ([['the', ' old', 'man']], ['2'])
        """
        if not isinstance(contexts, Contexts):
            allowed = "what skfeat.language.activating_contexts returns"
            raise type_error("contexts", allowed, contexts)
        token_ids = [token for passage in contexts.tokens for token in passage]
        texts = token_texts(decode, token_ids)
        if isinstance(labels, str):
            if labels != "activation":
                allowed = "'activation', a sequence of str or None"
                raise value_error("labels", allowed, labels)
            labels = [
                f"{values[at]:.3g}"
                for values, at in zip(contexts.activations, contexts.focus, strict=True)
            ]
        return cls(
            tokens=[[texts[int(token)] for token in row] for row in contexts.tokens],
            activations=contexts.activations,
            effects=contexts.effects,
            labels=labels,
            title=title,
            effect_name=effect_name,
        )

    @classmethod
    def from_estimator(
        cls,
        transformer,
        capture,
        feature,
        *,
        decode,
        module=None,
        n_top=5,
        n_strata=5,
        n_per_stratum=1,
        before=10,
        after=5,
        random_state=None,
        title=None,
        labels="activation",
    ) -> Self:
        """Show the passages of a capture in which a feature of a transformer fires.

        Parameters
        ----------
        transformer : estimator
            Fitted, with `transform`, such as a :class:`skfeat.SparseAutoencoder`.
        capture : skfeat.capture.Capture
            Rows of the module that the transformer was fitted on, with tokens.
        feature : int
            Index of the feature.
        decode
            As in :meth:`from_contexts`.
        module : str, default=None
            Name of the module whose rows are taken; None: the only one of the capture.
        n_top, n_strata, n_per_stratum, before, after, random_state
            As in :func:`skfeat.language.activating_contexts`.
        title, labels
            As in :meth:`from_contexts`.

        Returns
        -------
        display : TokenActivationsDisplay
            Not drawn yet.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.preprocessing import Binarizer
        >>> from skfeat.capture import Capture
        >>> from skfeat.inspection import TokenActivationsDisplay
        >>> rows = Capture(
        ...     activations={"mlp": np.eye(3)},
        ...     sequence=np.zeros(3, int),
        ...     position=np.arange(3),
        ...     token_ids=np.array([2, 1, 0]),
        ... )
        >>> transformer = Binarizer().fit(rows.activations["mlp"])
        >>> TokenActivationsDisplay.from_estimator(
        ...     transformer, rows, 1, decode=["man", " old", "the"]
        ... ).activations
        [array([0., 1., 0.])]
        """
        check_methods("transformer", transformer, "transform")
        check_capture(capture)
        modules = list(capture.activations)
        if module is None and len(modules) == 1:
            module = modules[0]
        check_option("module", module, modules)
        contexts = activating_contexts(
            transformer.transform(capture.activations[module]),
            capture.sequence,
            capture.position,
            capture.token_ids,
            feature=feature,
            n_top=n_top,
            n_strata=n_strata,
            n_per_stratum=n_per_stratum,
            before=before,
            after=after,
            random_state=random_state,
        )
        return cls.from_contexts(contexts, decode, title=title, labels=labels)

    def _passages(self) -> list[Passage]:
        for name, is_optional in (("title", True), ("effect_name", False)):
            value = getattr(self, name)
            if not isinstance(value, str) and not (is_optional and value is None):
                allowed = "a str or None" if is_optional else "a str"
                raise value_error(name, allowed, value)
        return check_passages(self.tokens, self.activations, self.effects, self.labels)
