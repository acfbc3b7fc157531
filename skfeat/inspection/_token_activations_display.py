"""Tokens of passages, each coloured by how strongly a feature fires on it."""

import numpy as np

from skfeat.capture._checks import check_capture
from skfeat.capture._contexts import activating_contexts
from skfeat.inspection._common import (
    check_level,
    check_names,
    closed_on_error,
    color_limit,
    param_error,
    single_axes,
)
from skfeat.inspection._token_drawing import (
    check_options,
    draw_passages,
    known_characters,
    label_width,
    make_scales,
    measured,
    size_for,
    wanted_height,
)
from skfeat.inspection._token_html import html_page, html_table
from skfeat.inspection._token_text import token_texts, visible
from skfeat.utils._checks import check_path
from skfeat.utils._sklearn import check_matplotlib_support


class TokenActivationsDisplay:
    """Passages in which a feature fires, token by token.

    A box a token, coloured from white to green by the activation of the feature. Where
    effects are given, a second row below, without words, is coloured from red to blue
    by them, white at zero; grey where there is none.

    It is recommended to create one with :meth:`from_contexts` or
    :meth:`from_estimator`. These do not draw, so that HTML can be had without
    matplotlib: call :meth:`plot`, :meth:`save` or :meth:`to_html`. A notebook shows
    the display as it is.

    Parameters
    ----------
    tokens : sequence of sequence of str
        The texts of the tokens of each passage. Spaces are shown as ``·``, newlines as
        ``⏎``, other characters that cannot be seen by their code.
    activations : sequence of array-like of float
        One of each token.
    effects : sequence of array-like of float, default=None
        One of each token, nan where it is not known; see
        :func:`skfeat.language.ablation_effect`.
    labels : sequence of str, default=None
        One a passage, written to its left.
    title : str, default=None
        Written above.
    effect_name : str, default="effect on log-probability"
        What the effects are.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes with the boxes.
    boxes_ : PolyCollection
        The boxes of the tokens.
    effect_boxes_ : PolyCollection or None
        The row of effects.
    texts_ : list of matplotlib Text
        Labels and tokens.
    colorbars_ : list of matplotlib Colorbar
        Of the activations, and of the effects if there are any.
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
    ):
        """Draw a row of boxes a passage; long ones go on in further lines.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None: those of a new figure, as large as is needed.
        cmap, effect_cmap : str or matplotlib Colormap, default=None
            Colours of the activations, from zero up, and of the effects, about zero.
            None: white to green, and red to blue.
        vmax, effect_vmax : float, default=None
            What the strongest colours stand for. None: the largest activation, and
            the 99.5th percentile of the effects' magnitudes.
        colorbar : bool, default=True
            Add a colour bar for each.
        font_size : float, default=9
            Largest size of the text; it is smaller where the axes are too small.
        text_kw : dict, default=None
            Options of `Axes.text`.
        box_kw : dict, default=None
            Options of the boxes, a `PolyCollection`.

        Returns
        -------
        display : TokenActivationsDisplay
            The object itself.
        """
        caller = type(self).__name__
        check_level(caller, "font_size", font_size, positive=True)
        passages, _ = self._checked()
        limits = self._limits(passages, vmax, effect_vmax)
        check_matplotlib_support(f"{caller}.plot")
        scales = make_scales(caller, cmap, effect_cmap, limits, self.effect_name)
        text_kw, box_kw = check_options(caller, text_kw, box_kw)
        own = ax is None
        ax = single_axes(f"{caller}.plot", ax)
        with closed_on_error(ax.figure if own else None):
            found, left, n_bars = self._measured(ax, text_kw)
            n_bars = n_bars if colorbar else 0
            if own:
                titled = self.title is not None
                size = size_for(found, left, float(font_size), n_bars, titled)
                ax.figure.set_size_inches(size)
            self._draw(ax, found, scales, font_size, left, n_bars, box_kw, text_kw)
        return self

    def _measured(self, ax, text_kw):
        """Return passages with their widths, that of labels, how many colour bars."""
        passages, labels = self._checked()
        known = known_characters(ax, text_kw)
        found = [
            measured(
                *(ax, list(map(visible, tokens)), values, effects, label),
                *(text_kw, known),
            )
            for (tokens, values, effects), label in zip(passages, labels, strict=True)
        ]
        n_bars = 1 + any(p.effects is not None for p in found)
        return found, label_width(ax, found), n_bars

    def _wanted_height(self, ax, width, font):
        """Return the height of all at a width, both in points."""
        found, left, n_bars = self._measured(ax, {"usetex": False})
        return wanted_height(found, width - left * font, font, n_bars)

    def _draw(self, ax, found, scales, font_size, left, n_bars, box_kw, text_kw):
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.patch.set_visible(False)
        if self.title is not None:
            ax.set_title(self.title, parse_math=False, loc="left")
        drawn = draw_passages(
            ax, found, scales, float(font_size), left, n_bars, box_kw, text_kw
        )
        self.boxes_, self.effect_boxes_, self.texts_, self.colorbars_ = drawn
        if not found:
            ax.text(0, 0.5, "never active", color="0.4", transform=ax.transAxes)
        self.ax_, self.figure_ = ax, ax.figure

    def to_html(self) -> str:
        """Return a table for a page, with all it needs and safe whatever the tokens.

        Resting the pointer on a token shows its numbers.

        Returns
        -------
        str
            An HTML fragment. It refers to nothing outside and runs no script.
        """
        passages, labels = self._checked()
        limits = self._limits(passages, None, None)
        labels = labels if any(labels) else None
        return html_table(passages, labels, self.title, self.effect_name, *limits)

    def save(self, path) -> None:
        """Write the table as an HTML page.

        Parameters
        ----------
        path : str or path
            The file, overwritten if it exists.
        """
        title = "Token activations" if self.title is None else self.title
        page = html_page(self.to_html(), title)
        check_path("path", path).write_text(page, encoding="utf-8")

    def _repr_html_(self):
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
    ):
        """Show the passages that :func:`skfeat.language.activating_contexts` found.

        Parameters
        ----------
        contexts : skfeat.language.Contexts
            The passages, with effects or without.
        decode : tokenizer, callable or sequence of str
            A tokenizer with ``decode``, a function from a token id to its text, or the
            texts by id.
        title : str, default=None
            Written above.
        labels : "activation", sequence of str or None, default="activation"
            "activation" writes that of the token which each passage was chosen for.
        effect_name : str, default="effect on log-probability"
            What the effects are.

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
        token_ids = [token for passage in contexts.tokens for token in passage]
        texts = token_texts(decode, token_ids)
        if isinstance(labels, str):
            if labels != "activation":
                expected = "'activation', a sequence of str or None"
                caller = f"{cls.__name__}.from_contexts"
                raise param_error(caller, "labels", expected, labels)
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
    ):
        """Show the passages of a capture in which a feature of a transformer fires.

        Parameters
        ----------
        transformer : estimator
            Fitted, with `transform`, such as a :class:`skfeat.SparseAutoencoder`.
        capture : skfeat.capture.Capture
            Rows of the module that the transformer was fitted on, with tokens.
        feature : int
            The feature.
        decode
            As in :meth:`from_contexts`.
        module : str, default=None
            Which module's rows to take; None: the only one of the capture.
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
        check_capture(capture)
        caller = f"{cls.__name__}.from_estimator"
        modules = list(capture.activations)
        if module is None and len(modules) == 1:
            module = modules[0]
        if module not in modules:
            expected = f"one of {', '.join(map(repr, modules))}"
            raise param_error(caller, "module", expected, module)
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

    def _checked(self):
        """Return texts, activations and effects of each passage, and its label."""
        caller = type(self).__name__
        tokens = [list(passage) for passage in self.tokens]
        if any(isinstance(passage, str) for passage in self.tokens) or not all(
            isinstance(text, str) for passage in tokens for text in passage
        ):
            expected = "a sequence of sequences of str"
            raise param_error(caller, "tokens", expected, self.tokens)
        for name in ("title", "effect_name"):
            value = getattr(self, name)
            if not isinstance(value, str) and (value is not None or name != "title"):
                expected = "a str or None" if name == "title" else "a str"
                raise param_error(caller, name, expected, value)
        activations = self._values("activations", self.activations, tokens)
        effects = [None] * len(tokens)
        if self.effects is not None:
            effects = self._values("effects", self.effects, tokens, known=False)
        labels = check_names(caller, "labels", self.labels, len(tokens))
        labels = [""] * len(tokens) if labels is None else labels
        return list(zip(tokens, activations, effects, strict=True)), labels

    def _values(self, name, values, tokens, known=True):
        caller = type(self).__name__
        found = [np.asarray(passage) for passage in values]
        if [v.shape for v in found] != [(len(passage),) for passage in tokens]:
            raise ValueError(
                f"The {name!r} parameter of {caller} must be a number a token of each "
                f"passage. Got arrays of shapes {[v.shape for v in found]} for "
                f"passages of {[len(passage) for passage in tokens]} tokens instead."
            )
        for passage in found:
            if passage.dtype.kind not in "biuf" or np.isinf(passage).any():
                raise param_error(caller, name, "finite numbers", passage.tolist())
            if known and np.isnan(passage).any():
                raise param_error(caller, name, "finite numbers", passage.tolist())
        return [passage.astype(float) for passage in found]

    def _limits(self, passages, vmax, effect_vmax):
        """Return what the strongest colours of activations and effects stand for."""
        caller = type(self).__name__
        check_level(caller, "vmax", vmax, positive=True)
        check_level(caller, "effect_vmax", effect_vmax, positive=True)
        if vmax is None:
            vmax = max((v.max(initial=0) for _, v, _ in passages), default=0) or 1.0
        known = [e[~np.isnan(e)] for _, _, e in passages if e is not None]
        effects = np.concatenate([[0.0], *known])
        return float(vmax), color_limit(effects, effect_vmax)
