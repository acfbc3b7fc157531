"""The rows that activate each feature most."""

from __future__ import annotations

from typing import Self

import numpy as np

from skfeat.inspection._axes import hide_frame, panel_axes
from skfeat.inspection._inputs import (
    check_codes,
    check_features,
    check_image_shape,
    check_labels,
    check_methods,
    feature_labels,
    take_rows,
)
from skfeat.inspection._layers import codes_of
from skfeat.inspection._ranking import rank_examples
from skfeat.inspection._style import BLUE, style
from skfeat.inspection._table_rows import (
    MOST_COLUMNS,
    Columns,
    draw_table_row,
    panel_size,
)
from skfeat.utils._checks import as_plain, check_matrix, value_error
from skfeat.utils._names import column_names, string_names
from skfeat.utils._sklearn import check_matplotlib_support


class TopExamplesDisplay:
    """Picture of the examples that activate each feature most.

    It is recommended to create one with :meth:`from_estimator` or
    :meth:`from_activations`.

    Parameters
    ----------
    indices : array-like of shape (n_features, n_examples)
        Rows of `examples`, the strongest first.
    values : array-like of shape (n_features, n_examples)
        The activations of these examples; examples of activation zero are not shown.
    examples : {array-like, sparse matrix} of shape (n_samples, n_values)
        The rows to show.
    image_shape : tuple of int (height, width), default=None
        Shape of a row as an image; None: rows are drawn as lines.
    feature_names : sequence of str of length n_features, default=None
        Names at the left of each row of panels.
    value_names : sequence of str of length n_values, default=None
        Names of the columns of `examples`, if it is a table. Rows are then drawn as
        bars of their distance from the column's mean, in standard deviations and cut
        at three, with the values on them; of a wide table the eight columns in which a
        feature's examples differ most from all rows.
    name : str, default=None
        Title, such as the name of the layer.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_features, n_examples)
        The panels.
    bounding_ax_ : matplotlib Axes or None
        The axes that were split into the panels.
    figure_ : matplotlib Figure
        The figure that holds them.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat.inspection import TopExamplesDisplay
    >>> display = TopExamplesDisplay(
    ...     indices=[[1, 0]], values=[[0.9, 0.4]], examples=np.eye(4)
    ... )
    >>> display.plot().axes_.shape
    (1, 2)
    """

    def __init__(
        self,
        *,
        indices,
        values,
        examples,
        image_shape=None,
        feature_names=None,
        value_names=None,
        name=None,
    ):
        self.indices = indices
        self.values = values
        self.examples = examples
        self.image_shape = image_shape
        self.feature_names = feature_names
        self.value_names = value_names
        self.name = name

    def plot(self, *, ax=None, im_kw=None, line_kw=None, bar_kw=None) -> Self:
        """Draw a row of panels for each feature, with the activation under each panel.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, default=None
            Axes to split into panels, or one for each panel; None: those of a new
            figure.
        im_kw : dict, default=None
            Options of `Axes.imshow`; all images share their grey levels.
        line_kw : dict, default=None
            Options of `Axes.plot`, for rows that are neither images nor of a table.
        bar_kw : dict, default=None
            Options of `Axes.barh`, for rows of a table.

        Returns
        -------
        display : TopExamplesDisplay
            The object itself.
        """
        values = check_matrix("values", self.values)
        n_features, n_examples = values.shape
        names = check_labels("feature_names", self.feature_names, n_features)
        n_rows = np.shape(self.examples)[0]
        indices = check_features("indices", self.indices, n_rows, ndim=2)
        if indices.shape != values.shape:
            allowed = f"of the shape of values, {values.shape}"
            raise value_error("indices", allowed, indices)
        shown = take_rows(self.examples, indices.ravel())
        shown = check_matrix("examples", shown)
        shape = self.image_shape
        if shape is not None:
            shape = check_image_shape(shape, shown.shape[1])

        columns = None
        size = (1.2 + 0.85 * n_examples, 1.05 * n_features + 0.1)
        columns_named = check_labels("value_names", self.value_names, shown.shape[1])
        if columns_named and shape is None:
            columns = Columns(self.examples, columns_named)
            n_shown = min(MOST_COLUMNS, len(columns_named))
            wide, high, beside = panel_size(n_shown, columns_named)
            size = (1.2 + beside + wide * n_examples, high * n_features + 0.1)
        axes, self.bounding_ax_ = panel_axes(
            f"{type(self).__name__}.plot", ax, n_features, n_examples, figsize=size
        )
        limits = {"vmin": shown.min(), "vmax": shown.max()}
        margin = 0.05 * np.ptp(shown) or 0.5
        shown = shown.reshape(n_features, n_examples, -1)
        for i, j in np.ndindex(axes.shape):
            hide_frame(axes[i, j])
            if values[i, j] <= 0:
                continue
            if columns is not None:
                chosen = columns.strongest(shown[i][values[i] > 0])
                first = j == np.argmax(values[i] > 0)
                draw_table_row(
                    axes[i, j], columns, shown[i, j], chosen, named=first, bar_kw=bar_kw
                )
            elif shape is None:
                line = style({"color": BLUE, "linewidth": 0.8}, line_kw)
                axes[i, j].plot(shown[i, j], **line)
                axes[i, j].set_ylim(shown.min() - margin, shown.max() + margin)
                axes[i, j].spines["bottom"].set_visible(True)
            else:
                image = style({"cmap": "gray", **limits}, im_kw)
                axes[i, j].imshow(shown[i, j].reshape(shape), **image)
            axes[i, j].set_xlabel(f"{values[i, j]:.3g}", fontsize="small", labelpad=2)
        if self.name:
            axes[0, 0].set_title(self.name, loc="left", fontsize="medium")
        for i, row in enumerate(axes):
            label = names[i] if names else f"feature {i}"
            row[0].set_ylabel(label, rotation=0, ha="right", va="center")
            if values[i].max() <= 0:
                text = row[0].text(0, 0.5, "never active", va="center", color="0.4")
                # The text may extend into the next panels, which are empty.
                text.set(in_layout=False, fontsize="small")
        self.axes_, self.figure_ = axes, axes[0, 0].figure
        return self

    @classmethod
    def from_estimator(
        cls,
        transformer,
        X,
        *,
        layer=None,
        features=None,
        n_features=6,
        n_examples=8,
        examples=None,
        image_shape=None,
        feature_names=None,
        value_names=None,
        ax=None,
        im_kw=None,
        line_kw=None,
        bar_kw=None,
    ) -> Self:
        """Draw the rows of `X` that activate the features of a transformer most.

        Parameters
        ----------
        transformer : estimator
            Fitted, with `transform`; of a `FeatureUnwrapper`, the features of one
            layer as the network computes them.
        X : {array-like, sparse matrix} of shape (n_samples, n_inputs)
            The inputs.
        layer : int or str, default=None
            Which layer of an unwrapper, by its number or name; None: the last.
        features, n_features, n_examples
            As in :meth:`from_activations`.
        examples : {array-like, sparse matrix} of shape (n_samples, n_values), \
                default=None
            The rows to show, such as the images that `X` was computed from; None: `X`.
        image_shape
            As in :class:`TopExamplesDisplay`.
        feature_names : sequence of str, default=None
            Names of the features shown; None: what `get_feature_names_out` of the
            transformer calls them.
        value_names : sequence of str, default=None
            Names of the columns of the rows shown; None: those of a data frame, or the
            columns that the transformer was fitted to.
        ax, im_kw, line_kw, bar_kw
            As in :meth:`plot`.

        Returns
        -------
        display : TopExamplesDisplay
            The drawn display.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.preprocessing import Binarizer
        >>> from skfeat.inspection import TopExamplesDisplay
        >>> X = np.eye(4)
        >>> display = TopExamplesDisplay.from_estimator(
        ...     Binarizer().fit(X), X, n_examples=2, image_shape=(2, 2)
        ... )
        >>> display.axes_.shape
        (4, 2)
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_methods("transformer", transformer, "transform")
        codes, name, names = codes_of(transformer, X, layer)
        if examples is None:
            examples = X
            if value_names is None and column_names(X) is None:
                value_names = getattr(transformer, "feature_names_in_", None)
        display = cls._of_ranked(
            codes, examples, (features, n_features, n_examples), feature_names, names
        )
        display.image_shape, display.name = image_shape, name
        if value_names is not None:
            display.value_names = value_names
        return display.plot(ax=ax, im_kw=im_kw, line_kw=line_kw, bar_kw=bar_kw)

    @classmethod
    def from_activations(
        cls,
        activations,
        examples,
        *,
        features=None,
        n_features=6,
        n_examples=8,
        image_shape=None,
        feature_names=None,
        value_names=None,
        ax=None,
        im_kw=None,
        line_kw=None,
        bar_kw=None,
    ) -> Self:
        """Draw the examples of the highest activations.

        Parameters
        ----------
        activations : {array-like, sparse matrix} of shape (n_samples, n_features)
            The activations.
        examples : {array-like, sparse matrix} of shape (n_samples, n_values)
            The rows to show.
        features : int or sequence of int, default=None
            The features to show; None: those with the highest activations.
        n_features : int, default=6
            Number of features to show if `features` is None.
        n_examples : int, default=8
            Number of examples for each feature; of equal ones the first rows are shown.
        image_shape
            As in :class:`TopExamplesDisplay`.
        feature_names : sequence of str, default=None
            Names of the features shown; None: those of the columns, if `activations`
            is a data frame, else "feature 3" and so on.
        value_names : sequence of str, default=None
            Names of the columns of `examples`; None: those of a data frame.
        ax, im_kw, line_kw, bar_kw
            As in :meth:`plot`.

        Returns
        -------
        display : TopExamplesDisplay
            The drawn display.

        Examples
        --------
        >>> import numpy as np
        >>> from skfeat.inspection import TopExamplesDisplay
        >>> codes = np.array([[0.0, 0.5], [0.0, 0.9], [0.0, 0.5]])
        >>> display = TopExamplesDisplay.from_activations(
        ...     codes, np.eye(3), features=[1, 0]
        ... )
        >>> display.indices
        array([[1, 0, 2],
               [0, 1, 2]])
        """
        display = cls._of_ranked(
            activations, examples, (features, n_features, n_examples), feature_names
        )
        display.image_shape = image_shape
        if value_names is not None:
            display.value_names = value_names
        return display.plot(ax=ax, im_kw=im_kw, line_kw=line_kw, bar_kw=bar_kw)

    @classmethod
    def _of_ranked(
        cls, activations, examples, choice, feature_names, names=None
    ) -> Self:
        """Make the display of features and examples that `rank_examples` chooses."""
        codes = check_codes("activations", activations)
        # A data frame keeps its names.
        if not hasattr(examples, "shape") or hasattr(examples, "detach"):
            examples = as_plain("examples", examples)
        if not examples.shape or examples.shape[0] != codes.shape[0]:
            allowed = f"of as many rows as the activations ({codes.shape[0]})"
            raise value_error("examples", allowed, examples)
        features, indices, values = rank_examples(codes, *choice)
        if feature_names is None:
            if names is None:
                names = feature_labels(None, activations, codes.shape[1])
            feature_names = [names[j] for j in features.tolist()]
        return cls(
            indices=indices,
            values=values,
            examples=examples,
            feature_names=feature_names,
            value_names=string_names(examples),
        )
