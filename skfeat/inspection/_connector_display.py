"""The weights of a connector as a picture."""

from __future__ import annotations

from typing import Self

from skfeat.inspection._axes import add_color_bar, single_axes
from skfeat.inspection._inputs import (
    check_labels,
    connector_labels,
    count_text,
    fitted_step,
    nonzero_values,
)
from skfeat.inspection._layers import connector_of
from skfeat.inspection._style import color_limit
from skfeat.inspection._weights import KINDS, draw_weights
from skfeat.utils._checks import check_flag, check_level, check_matrix, check_option

MAX_TICK_NAMES = 40


class ConnectorDisplay:
    """Picture of the weights that connect two layers.

    It is recommended to create one with :meth:`from_estimator` or
    :meth:`from_matrix`.

    Parameters
    ----------
    weights : {array-like, sparse matrix} of shape (n_outputs, n_inputs)
        The weights; drawn with outputs on rows and inputs on columns.
    input_names : sequence of str of length n_inputs, default=None
        Names of the inputs; the axis shows them if there are at most 40.
    output_names : sequence of str of length n_outputs, default=None
        Names of the outputs; the axis shows them if there are at most 40.
    threshold : float, default=None
        The title counts the weights above this magnitude; None: the nonzero weights.
    name : str, default=None
        Begins the title, such as with the names of the layers.

    Attributes
    ----------
    im_ : matplotlib AxesImage or PathCollection
        The image, or the points.
    colorbar_ : matplotlib Colorbar or None
        The colour bar.
    ax_ : matplotlib Axes
        The axes drawn on.
    figure_ : matplotlib Figure
        The figure that holds them.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat.inspection import ConnectorDisplay
    >>> display = ConnectorDisplay(weights=np.diag([0.5, -0.2, 0.05]), threshold=0.1)
    >>> display.plot().ax_.get_title()
    '2 of 9 weights with |w| > 0.1'
    """

    def __init__(
        self,
        *,
        weights,
        input_names=None,
        output_names=None,
        threshold=None,
        name=None,
    ):
        self.weights = weights
        self.input_names = input_names
        self.output_names = output_names
        self.threshold = threshold
        self.name = name

    def plot(
        self,
        *,
        ax=None,
        kind="auto",
        cmap="RdBu_r",
        vmax=None,
        colorbar=True,
        im_kw=None,
    ) -> Self:
        """Draw the weights.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None: those of a new figure.
        kind : {"auto", "image", "points"}, default="auto"
            A heatmap; or a visible square for each nonzero weight. "auto" means points
            for a large matrix of which less than 5 % is nonzero.
        cmap : str or matplotlib Colormap, default="RdBu_r"
            Colours, the middle one for zero.
        vmax : float, default=None
            The colour limits are -vmax and vmax; None: the 99.5th percentile of the
            nonzero magnitudes, so that a few outliers do not hide the rest.
        colorbar : bool, default=True
            Whether to draw the colour bar.
        im_kw : dict, default=None
            Options of `Axes.imshow` or, for points, of `Axes.scatter`.

        Returns
        -------
        display : ConnectorDisplay
            The object itself.
        """
        weights = check_matrix("weights", self.weights)
        n_out, n_in = weights.shape
        inputs = check_labels("input_names", self.input_names, n_in)
        outputs = check_labels("output_names", self.output_names, n_out)
        threshold = check_level("threshold", self.threshold)
        vmax = check_level("vmax", vmax, positive=True)
        check_option("kind", kind, KINDS)
        check_flag("colorbar", colorbar)

        ax = single_axes(f"{type(self).__name__}.plot", ax)
        values = nonzero_values(weights)
        limit = color_limit(values, vmax)
        self.im_ = draw_weights(
            ax, weights, kind=kind, cmap=cmap, limit=limit, im_kw=im_kw
        )
        self.ax_, self.figure_, self.colorbar_ = ax, ax.figure, None
        if colorbar:
            self.colorbar_ = add_color_bar(self.im_, ax, values, "weight")
        ax.set(xlabel="input feature", ylabel="output feature")
        if inputs and n_in <= MAX_TICK_NAMES:
            tilt = {"rotation": 90} if n_in > 12 else {"rotation": 30, "ha": "right"}
            ax.set_xticks(range(n_in), inputs, **tilt)
        if outputs and n_out <= MAX_TICK_NAMES:
            ax.set_yticks(range(n_out), outputs)
        title = count_text(weights, threshold, thing="weights", symbol="w")
        ax.set_title(f"{self.name}: {title}" if self.name else title)
        return self

    @classmethod
    def from_estimator(
        cls,
        connector,
        *,
        layer=None,
        input_names=None,
        output_names=None,
        threshold=None,
        ax=None,
        kind="auto",
        cmap="RdBu_r",
        vmax=None,
        colorbar=True,
        im_kw=None,
    ) -> Self:
        """Draw the `coef_` of a fitted connector, or of any linear model.

        Parameters
        ----------
        connector : estimator
            Fitted, with `coef_` of shape (n_outputs, n_inputs) or (n_inputs,), or a
            pipeline that ends in one; of a `FeatureUnwrapper`, the connector that
            computes one layer.
        layer : int or str, default=None
            Which layer of an unwrapper, by its number or name; None: the last.
        input_names, output_names : sequence of str, default=None
            None: what the connector calls them in its formulas, or the columns that
            another linear model was fitted to.
        threshold
            As in :class:`ConnectorDisplay`.
        ax, kind, cmap, vmax, colorbar, im_kw
            As in :meth:`plot`.

        Returns
        -------
        display : ConnectorDisplay
            The drawn display.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.linear_model import Lasso
        >>> from skfeat.inspection import ConnectorDisplay
        >>> X = np.eye(4)
        >>> connector = Lasso(alpha=0.01).fit(X, X[:, :2])
        >>> display = ConnectorDisplay.from_estimator(connector)
        """
        connector, name = connector_of(connector, layer)
        step = fitted_step("connector", connector, "coef_")
        coef, (inputs, outputs) = step.coef_, connector_labels(step)
        input_names = inputs if input_names is None else input_names
        output_names = outputs if output_names is None else output_names
        display = cls(
            weights=coef.reshape(1, -1) if coef.ndim == 1 else coef,
            input_names=input_names,
            output_names=output_names,
            threshold=threshold,
            name=name,
        )
        return display.plot(
            ax=ax, kind=kind, cmap=cmap, vmax=vmax, colorbar=colorbar, im_kw=im_kw
        )

    @classmethod
    def from_matrix(
        cls,
        weights,
        *,
        input_names=None,
        output_names=None,
        threshold=None,
        ax=None,
        kind="auto",
        cmap="RdBu_r",
        vmax=None,
        colorbar=True,
        im_kw=None,
    ) -> Self:
        """Draw a weight matrix.

        Parameters
        ----------
        weights, input_names, output_names, threshold
            As in :class:`ConnectorDisplay`.
        ax, kind, cmap, vmax, colorbar, im_kw
            As in :meth:`plot`.

        Returns
        -------
        display : ConnectorDisplay
            The drawn display.

        Examples
        --------
        >>> from scipy import sparse
        >>> from skfeat.inspection import ConnectorDisplay
        >>> weights = sparse.eye_array(200, format="csr")
        >>> ConnectorDisplay.from_matrix(weights).ax_.get_title()
        '200 of 40,000 weights nonzero'
        """
        display = cls(
            weights=weights,
            input_names=input_names,
            output_names=output_names,
            threshold=threshold,
        )
        return display.plot(
            ax=ax, kind=kind, cmap=cmap, vmax=vmax, colorbar=colorbar, im_kw=im_kw
        )
