"""The features of a network and what flows between them, as a graph in layers."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from skfeat.inspection import _feature_graph_layout as layout
from skfeat.inspection._axes import hide_frame, single_axes
from skfeat.inspection._feature_graph_data import (
    check_graph,
    explained_data,
    graph_data,
)
from skfeat.inspection._feature_graph_drawing import (
    Colors,
    draw_boxes,
    draw_edges,
    figure_size,
    largest_shown,
    node_labels,
    style_images,
)
from skfeat.inspection._feature_graph_images import (
    check_examples,
    check_images,
    layer_images,
)
from skfeat.inspection._inputs import fitted_step
from skfeat.inspection._style import extend_of
from skfeat.utils._checks import check_flag, check_int, check_level
from skfeat.utils._sklearn import check_matplotlib_support


class FeatureGraphDisplay:
    """Picture of features in columns, layer by layer, and of the edges between them.

    It is recommended to create one with :meth:`from_estimator` or
    :meth:`from_network`. For one input it shows the circuit that computes an output, by
    exact contributions (``SparseFeatureNetwork.attribute``); for many, the mean flows;
    without inputs, the weights. Only the strongest edges are drawn, and the text below
    gives their share of the total.

    Parameters
    ----------
    edges : list of {array-like, sparse matrix} of shape (n_i+1, n_i)
        Edges from the nodes of each column to those of the next.
    node_values : list of array-like of shape (n_i,), default=None
        Values that stand beside the names and set the colour and height of the boxes;
        None: all boxes are grey and equally high.
    node_names : list of lists of str, default=None
        One list for each column; None: "0_0", "0_1" and so on.
    node_images : list of {array-like of shape (n_i, height, width), None}, default=None
        Images that stand in the boxes, at the left; nan where a node has none.
    layer_names : list of str, default=None
        Titles of the columns.
    signed : bool, default=True
        Whether values have a sign, so that colours diverge about zero.
    heading : str, default=""
        Title of the picture.
    value_name : str, default="flow"
        Label of the colour bar.

    Attributes
    ----------
    edges_ : list of matplotlib LineCollection
        The edges between each pair of columns, the strongest last.
    nodes_ : list of matplotlib PatchCollection
        The boxes of each column, from the top.
    texts_ : list of matplotlib Text
        The names in the boxes.
    images_ : list of matplotlib AxesImage
        The images in the boxes.
    columns_ : list of ndarray of int
        The nodes of each column that are shown, from the top.
    coverage_ : list of float
        The share of the magnitudes between each pair of columns that is shown.
    colorbar_ : matplotlib Colorbar or None
        The colour bar.
    ax_ : matplotlib Axes
        The axes drawn on.
    figure_ : matplotlib Figure
        The figure that holds them.

    Examples
    --------
    >>> from skfeat.inspection import FeatureGraphDisplay
    >>> display = FeatureGraphDisplay(
    ...     edges=[[[2.0, 0.0], [-1.0, 0.5]], [[3.0, 1.0]]],
    ...     node_names=[["ears", "wings"], ["cat", "bird"], ["pet"]],
    ... )
    >>> display = display.plot(n_edges=2)
    >>> [column.tolist() for column in display.columns_]
    [[0], [0, 1], [0]]
    >>> [round(share, 3) for share in display.coverage_]
    [0.857, 1.0]
    """

    def __init__(
        self,
        *,
        edges,
        node_values=None,
        node_names=None,
        node_images=None,
        layer_names=None,
        signed=True,
        heading="",
        value_name="flow",
    ):
        self.edges = edges
        self.node_values = node_values
        self.node_names = node_names
        self.node_images = node_images
        self.layer_names = layer_names
        self.signed = signed
        self.heading = heading
        self.value_name = value_name

    def plot(
        self,
        *,
        ax=None,
        n_edges=30,
        cmap=None,
        vmax=None,
        colorbar=True,
        font_size=8,
        edge_kw=None,
        im_kw=None,
    ) -> Self:
        """Draw the graph.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None: those of a new figure, as large as the graph needs.
            Names are placed for the present size of the axes.
        n_edges : int, default=30
            Number of edges to draw between each pair of columns: the strongest ones
            that lead to a node from which an edge leads on.
        cmap : str or matplotlib Colormap, default=None
            Colours; None: "RdBu_r" for values with a sign, else "Blues".
        vmax : float, default=None
            Value of the strongest colour; None: the largest magnitude shown before the
            last column, whose values are sums of those.
        colorbar : bool, default=True
            Whether to draw the colour bar.
        font_size : float, default=8
            Largest size of the names. They shrink down to 5 where a column is full;
            beyond that, the weakest nodes have no name.
        edge_kw : dict, default=None
            Options of matplotlib's `LineCollection`.
        im_kw : dict, default=None
            Options of the images, such as `cmap`; all share their grey levels.

        Returns
        -------
        display : FeatureGraphDisplay
            The object itself.
        """
        edges, values, names, titles = check_graph(
            self.edges, self.node_values, self.node_names, self.layer_names
        )
        n_edges = check_int("n_edges", n_edges, 1)
        vmax = check_level("vmax", vmax, positive=True)
        check_level("font_size", font_size, positive=True, optional=False)
        check_flag("colorbar", colorbar)
        caller = f"{type(self).__name__}.plot"
        check_matplotlib_support(caller)
        gaps = layout.strongest_edges(edges, n_edges)
        columns = layout.shown_columns(gaps, edges[-1].shape[0])
        columns = layout.ordered_columns(columns, gaps)
        images = check_images(self.node_images, [len(column) for column in names])
        self.columns_, self.coverage_ = columns, [gap.share for gap in gaps]

        shown = [[names[i][j] for j in column] for i, column in enumerate(columns)]
        if values is not None:
            values = [own[column] for own, column in zip(values, columns, strict=True)]
        images = [
            None if own is None else own[column]
            for own, column in zip(images, columns, strict=True)
        ]
        labels = node_labels(shown, values, signed=self.signed)
        ax = single_axes(caller, ax, figure_size(labels, font_size, images))
        self.ax_, self.figure_, self.colorbar_ = ax, ax.figure, None
        colors = Colors(
            cmap or ("RdBu_r" if self.signed else "Blues"),
            vmax or largest_shown(gaps, values),
            self.signed,
        )
        hide_frame(ax)
        # Names of outputs may contain dollar signs, which are not formulas.
        ax.set_title(self.heading, fontsize="medium", parse_math=False)
        ax.set_xlabel(_coverage_text(gaps, edges), fontsize="small", color="0.3")
        if colorbar:
            beyond = np.concatenate([gap.value for gap in gaps] + (values or []))
            extend = extend_of(beyond, -colors.limit, colors.limit)
            self.colorbar_ = ax.figure.colorbar(
                colors.mappable,
                ax=ax,
                shrink=0.6,
                aspect=30,
                extend=extend,
            )
            self.colorbar_.set_label(self.value_name, parse_math=False)
        if titles:
            sizes = zip(titles, columns, names, strict=True)
            titles = [f"{title}\n{len(c):,} of {len(n):,}" for title, c, n in sizes]
        boxes = draw_boxes(ax, labels, values, titles, colors, font_size, images)
        self.nodes_, self.texts_, self.images_ = boxes.nodes, boxes.texts, boxes.images
        style_images(self.images_, im_kw)
        self.edges_ = draw_edges(ax, gaps, columns, boxes, colors, edge_kw)
        return self

    @classmethod
    def from_estimator(
        cls,
        unwrapper,
        X=None,
        *,
        output=None,
        inputs=False,
        input_names=None,
        output_names=None,
        examples=None,
        image_shape=None,
        ax=None,
        n_edges=30,
        cmap=None,
        vmax=None,
        colorbar=True,
        font_size=8,
        edge_kw=None,
        im_kw=None,
    ) -> Self:
        """Draw the network of a fitted unwrapper.

        The heading of one row has the model's own output beside the network's.

        Parameters
        ----------
        unwrapper : FeatureUnwrapper
            Fitted, or a pipeline that ends in one; X is then the input of that step.
        X, output, inputs
            As in :meth:`from_network`. By default, `output` is the largest output of
            each row, over the columns of all heads. For a model with several heads,
            which need not be comparable, give a column, such as
            ``unwrapper.heads_["cls"].start + 2``.
        input_names : sequence of str, default=None
            Names of the inputs; None: the names of the fitted columns, or "x0", "x1"
            and so on.
        output_names : sequence of str, default=None
            Names of the outputs; None: the classes, or the names of several heads,
            such as "value" or, for a head with several columns, "cls[2]"; or "output 0"
            and so on.
        examples, image_shape
            As in :meth:`from_network`.
        ax, n_edges, cmap, vmax, colorbar, font_size, edge_kw, im_kw
            As in :meth:`plot`.

        Returns
        -------
        display : FeatureGraphDisplay
            The drawn display.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.neural_network import MLPClassifier
        >>> from skfeat import FeatureUnwrapper, SparseAutoencoder
        >>> from skfeat.inspection import FeatureGraphDisplay
        >>> X, y = load_iris(return_X_y=True)
        >>> X = (X - X.mean(axis=0)) / X.std(axis=0)
        >>> mlp = MLPClassifier((8, 8), solver="lbfgs", tol=0.01, random_state=0)
        >>> mlp = mlp.fit(X, y)
        >>> part = SparseAutoencoder(8, k=4, max_iter=200, random_state=0)
        >>> unwrapper = FeatureUnwrapper(mlp, autoencoder=part, random_state=0).fit(X)
        >>> display = FeatureGraphDisplay.from_estimator(unwrapper, X[0], inputs=True)
        >>> display.layer_names
        ['inputs', 'hidden_0', 'hidden_1', 'output']
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        unwrapper = fitted_step("unwrapper", unwrapper)
        if not hasattr(unwrapper, "network"):
            raise TypeError(
                "unwrapper must be a fitted FeatureUnwrapper. Got "
                f"{type(unwrapper).__name__} instead."
            )
        network = unwrapper.network()
        shown = rows = check_examples(examples, X, image_shape)
        if getattr(unwrapper, "_starts_later", False):
            if X is not None:
                X = unwrapper.network_inputs(np.atleast_2d(X) if np.ndim(X) == 1 else X)
            if shown is not None:
                rows = unwrapper.network_inputs(shown)
        data = graph_data(
            network,
            X,
            output=output,
            inputs=inputs,
            input_names=input_names,
            output_names=output_names,
            model=getattr(unwrapper, "_model_values", None),
        )
        if shown is not None:
            images = layer_images(network, rows, shown, image_shape)
            data["node_images"] = _beside_ends(images, data, inputs)
        return cls(**data).plot(
            ax=ax,
            n_edges=n_edges,
            cmap=cmap,
            vmax=vmax,
            colorbar=colorbar,
            font_size=font_size,
            edge_kw=edge_kw,
            im_kw=im_kw,
        )

    @classmethod
    def from_network(
        cls,
        network,
        X=None,
        *,
        output=None,
        inputs=False,
        input_names=None,
        output_names=None,
        examples=None,
        image_shape=None,
        ax=None,
        n_edges=30,
        cmap=None,
        vmax=None,
        colorbar=True,
        font_size=8,
        edge_kw=None,
        im_kw=None,
    ) -> Self:
        """Draw a network of features.

        Parameters
        ----------
        network : SparseFeatureNetwork
            The network.
        X : array-like of shape (n_features_in,) or (n, n_features_in), default=None
            One row: the exact contribution of each feature and each edge to an output,
            with its sign. Several rows: the mean magnitudes of these. None: weights.
        output : int or array-like of int of shape (n,), default=None
            The output that contributions are to; None: the largest output of each row,
            over all heads.
        inputs : bool, default=False
            Whether to show the inputs too, on the left.
        input_names : sequence of str, default=None
            Names of the inputs; None: the network's `input_names_`.
        output_names : sequence of str, default=None
            Names of the outputs; None: the network's `output_names_`.
        examples : array-like of shape (n, n_features_in), default=None
            Rows that are images: the box of a feature shows the one that excites it
            most. None: X, if it has several rows and `image_shape` is given.
        image_shape : tuple of int (height, width), default=None
            Shape of a row of `examples` as an image; None: no images.
        ax, n_edges, cmap, vmax, colorbar, font_size, edge_kw, im_kw
            As in :meth:`plot`.

        Returns
        -------
        display : FeatureGraphDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If the network is curved between its features and the outputs, as by a tanh;
            see ``SparseFeatureNetwork.attribute``.
        """
        check_matplotlib_support(f"{cls.__name__}.from_network")
        data = graph_data(
            network,
            X,
            output=output,
            inputs=inputs,
            input_names=input_names,
            output_names=output_names,
        )
        shown = check_examples(examples, X, image_shape)
        if shown is not None:
            images = layer_images(network, shown, shown, image_shape)
            data["node_images"] = _beside_ends(images, data, inputs)
        return cls(**data).plot(
            ax=ax,
            n_edges=n_edges,
            cmap=cmap,
            vmax=vmax,
            colorbar=colorbar,
            font_size=font_size,
            edge_kw=edge_kw,
            im_kw=im_kw,
        )

    @classmethod
    def from_explanation(
        cls,
        explanation,
        *,
        ax=None,
        n_edges=30,
        cmap=None,
        vmax=None,
        colorbar=True,
        font_size=8,
        edge_kw=None,
        im_kw=None,
    ) -> Self:
        """Draw the explanation of one row, with its inputs if they are among the parts.

        Parameters
        ----------
        explanation : Explanation
            What ``FeatureUnwrapper.explain`` or ``SparseFeatureNetwork.explain``
            returns.
        ax, n_edges, cmap, vmax, colorbar, font_size, edge_kw, im_kw
            As in :meth:`plot`.

        Returns
        -------
        display : FeatureGraphDisplay
            The drawn display.
        """
        check_matplotlib_support(f"{cls.__name__}.from_explanation")
        return cls(**explained_data(explanation)).plot(
            ax=ax,
            n_edges=n_edges,
            cmap=cmap,
            vmax=vmax,
            colorbar=colorbar,
            font_size=font_size,
            edge_kw=edge_kw,
            im_kw=im_kw,
        )


def _beside_ends(images: list[Any], data: dict[str, Any], inputs: bool) -> list[Any]:
    """Return the images of all columns: inputs and outputs have none."""
    n_after = len(data["edges"]) + 1 - len(images) - bool(inputs)
    return [*[None] * bool(inputs), *images, *[None] * n_after]


def _coverage_text(gaps: list[layout.Edges], edges: list[Any]) -> str:
    parts = [
        f"{len(gap.value):,} of {matrix.nnz:,} edges ({gap.share:.0%})"
        for gap, matrix in zip(gaps, edges, strict=True)
    ]
    return f"shown, with their share of the total: {', '.join(parts)}"
