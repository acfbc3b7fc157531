"""Feature activations: of one row, of many rows, or how often each feature fires."""

from __future__ import annotations

from typing import Any, Self

from skfeat.inspection._activation_drawing import (
    FEW_ROWS,
    draw_bars,
    draw_frequency,
    draw_heatmap,
)
from skfeat.inspection._axes import add_color_bar, single_axes
from skfeat.inspection._inputs import check_codes, check_methods
from skfeat.inspection._layers import codes_of
from skfeat.utils._checks import (
    check_flag,
    check_int,
    check_level,
    check_option,
    value_error,
)
from skfeat.utils._sklearn import check_matplotlib_support

KINDS = ("auto", "bars", "heatmap", "frequency")


class ActivationDisplay:
    """Picture of feature activations.

    It is recommended to create one with :meth:`from_estimator` or
    :meth:`from_activations`.

    Parameters
    ----------
    activations : {array-like, sparse matrix} of shape (n_samples, n_features) or \
            (n_features,)
        The activations.
    threshold : float, default=None
        A feature is active where its magnitude is above the threshold; None: where it
        is not zero.
    name : str, default=None
        Beginning of the title.

    Attributes
    ----------
    bars_ : list of matplotlib LineCollection, or None
        One set of bars for each row, for kind="bars".
    im_ : matplotlib AxesImage or None
        The image, for kind="heatmap".
    line_ : matplotlib Line2D or None
        The sorted rates, for kind="frequency".
    colorbar_ : matplotlib Colorbar or None
        The colour bar of the heatmap.
    ax_ : matplotlib Axes
        The axes drawn on.
    figure_ : matplotlib Figure
        The figure that holds them.

    Examples
    --------
    >>> from skfeat.inspection import ActivationDisplay
    >>> display = ActivationDisplay(activations=[0.0, 0.9, 0.0, 0.2], threshold=0.3)
    >>> display.plot().ax_.get_title()
    '1 of 4 above 0.3'
    """

    def __init__(
        self,
        *,
        activations: Any,
        threshold: float | None = None,
        name: str | None = None,
    ):
        self.activations = activations
        self.threshold = threshold
        self.name = name

    def plot(
        self,
        *,
        ax=None,
        kind="auto",
        max_features=256,
        cmap=None,
        vmax=None,
        colorbar=True,
        bar_kw=None,
        im_kw=None,
        line_kw=None,
    ) -> Self:
        """Draw the activations.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None: those of a new figure.
        kind : {"auto", "bars", "heatmap", "frequency"}, default="auto"
            Bars over the features, for at most 4 rows; a heatmap with the most
            frequently active features first; or the fraction of rows in which each
            feature is active, sorted. "auto" means bars for up to 4 rows, else the
            heatmap.
        max_features : int, default=256
            Number of features that the heatmap shows, the most frequently active.
        cmap : str or matplotlib Colormap, default=None
            Colours of the heatmap; None: "magma", or "RdBu_r" where activations
            are negative.
        vmax : float, default=None
            Upper colour limit; None: the 99.5th percentile of nonzero magnitudes.
        colorbar : bool, default=True
            Whether the heatmap has a colour bar.
        bar_kw, im_kw, line_kw : dict, default=None
            Options of `Axes.vlines` for bars, of `Axes.imshow` for the heatmap and
            of `Axes.plot` for the frequencies.

        Returns
        -------
        display : ActivationDisplay
            The object itself.
        """
        codes = check_codes("activations", self.activations)
        threshold = check_level("threshold", self.threshold)
        check_option("kind", kind, KINDS)
        check_flag("colorbar", colorbar)
        max_features = check_int("max_features", max_features, 1)
        vmax = check_level("vmax", vmax, positive=True)
        n_rows = codes.shape[0]
        if kind == "auto":
            kind = "bars" if n_rows <= FEW_ROWS else "heatmap"
        if kind == "bars" and n_rows > FEW_ROWS:
            allowed = f"'heatmap' or 'frequency' for more than {FEW_ROWS} rows"
            raise value_error("kind", allowed, kind)

        self.ax_ = ax = single_axes(f"{type(self).__name__}.plot", ax)
        self.figure_ = ax.figure
        self.bars_ = self.im_ = self.line_ = self.colorbar_ = None
        if kind == "bars":
            self.bars_, title = draw_bars(ax, codes, threshold, bar_kw)
        elif kind == "frequency":
            self.line_, title = draw_frequency(ax, codes, threshold, line_kw)
        else:
            self.im_, title = draw_heatmap(
                ax, codes, threshold, max_features, cmap, vmax, im_kw
            )
            if colorbar:
                shown = self.im_.get_array()
                self.colorbar_ = add_color_bar(self.im_, ax, shown, "activation")
        ax.set_title(f"{self.name}: {title}" if self.name else title)
        return self

    @classmethod
    def from_estimator(
        cls,
        transformer,
        X,
        *,
        layer=None,
        threshold=None,
        name=None,
        ax=None,
        kind="auto",
        max_features=256,
        cmap=None,
        vmax=None,
        colorbar=True,
        bar_kw=None,
        im_kw=None,
        line_kw=None,
    ) -> Self:
        """Draw the features that a fitted transformer finds in `X`.

        Parameters
        ----------
        transformer : estimator
            Fitted, with `transform`; of a `FeatureUnwrapper`, the features of one
            layer as the network computes them.
        X : {array-like, sparse matrix} of shape (n_samples, n_inputs)
            The inputs.
        layer : int or str, default=None
            Which layer of an unwrapper, by its number or name; None: the last.
        threshold
            As in :class:`ActivationDisplay`.
        name : str, default=None
            Begins the title; None: the name of the layer of an unwrapper.
        ax, kind, max_features, cmap, vmax, colorbar, bar_kw, im_kw, line_kw
            As in :meth:`plot`.

        Returns
        -------
        display : ActivationDisplay
            The drawn display.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.decomposition import PCA
        >>> from skfeat.inspection import ActivationDisplay
        >>> X = np.eye(6)
        >>> display = ActivationDisplay.from_estimator(PCA().fit(X), X)
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_methods("transformer", transformer, "transform")
        codes, title, _ = codes_of(transformer, X, layer)
        return cls.from_activations(
            codes,
            threshold=threshold,
            name=title if name is None else name,
            ax=ax,
            kind=kind,
            max_features=max_features,
            cmap=cmap,
            vmax=vmax,
            colorbar=colorbar,
            bar_kw=bar_kw,
            im_kw=im_kw,
            line_kw=line_kw,
        )

    @classmethod
    def from_activations(
        cls,
        activations,
        *,
        threshold=None,
        name=None,
        ax=None,
        kind="auto",
        max_features=256,
        cmap=None,
        vmax=None,
        colorbar=True,
        bar_kw=None,
        im_kw=None,
        line_kw=None,
    ) -> Self:
        """Draw activations.

        Parameters
        ----------
        activations, threshold, name
            As in :class:`ActivationDisplay`.
        ax, kind, max_features, cmap, vmax, colorbar, bar_kw, im_kw, line_kw
            As in :meth:`plot`.

        Returns
        -------
        display : ActivationDisplay
            The drawn display.

        Examples
        --------
        >>> import numpy as np
        >>> from skfeat.inspection import ActivationDisplay
        >>> codes = np.eye(8)[:, :6]
        >>> display = ActivationDisplay.from_activations(codes, kind="frequency")
        >>> display.ax_.get_title()
        '0 of 6 features dead in 8 rows'
        """
        display = cls(activations=activations, threshold=threshold, name=name)
        return display.plot(
            ax=ax,
            kind=kind,
            max_features=max_features,
            cmap=cmap,
            vmax=vmax,
            colorbar=colorbar,
            bar_kw=bar_kw,
            im_kw=im_kw,
            line_kw=line_kw,
        )
