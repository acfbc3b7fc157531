"""The features of a network and what flows between them, as a graph in layers."""

import numpy as np
from scipy import sparse

from skfeat.inspection import _feature_graph_layout as layout
from skfeat.inspection._common import (
    bare,
    check_count,
    check_level,
    check_matplotlib_support,
    check_matrix,
    check_names,
    fitted_step,
    param_error,
    single_axes,
)
from skfeat.inspection._feature_graph_data import graph_data
from skfeat.inspection._feature_graph_drawing import (
    Colors,
    draw_boxes,
    draw_edges,
    figure_size,
)


class FeatureGraphDisplay:
    """Picture of features in columns, layer by layer, and of what leads where.

    It is recommended to create one with :meth:`from_estimator` or
    :meth:`from_network`: of one input it shows the circuit that computes an output,
    by exact contributions (``SparseFeatureNetwork.attribute``); of many, what the
    network uses; without any, its weights. Only the strongest edges are drawn, and
    what share of the whole they are stands below.

    Parameters
    ----------
    edges : list of {array-like, sparse matrix} of shape (n_i+1, n_i)
        From the nodes of each column to those of the next.
    node_values : list of array-like of shape (n_i,), default=None
        They set colour and height of the boxes; None: boxes are grey and alike.
    node_names : list of lists of str, default=None
        One list a column; None: "0_0", "0_1" and so on.
    layer_names : list of str, default=None
        Titles of the columns.
    signed : bool, default=True
        Whether values have a sign: colours then diverge about zero.
    heading : str, default=""
        Title of the picture.
    value_name : str, default="flow"
        What the colour bar shows.

    Attributes
    ----------
    edges_ : list of matplotlib LineCollection
        The edges between each two columns, the strongest last.
    nodes_ : list of matplotlib PatchCollection
        The boxes of each column, from the top.
    texts_ : list of matplotlib Text
        The names in them.
    columns_ : list of ndarray of int
        Which nodes of each column are shown, from the top.
    coverage_ : list of float
        What share of the magnitudes between each two columns is shown.
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
        layer_names=None,
        signed=True,
        heading="",
        value_name="flow",
    ):
        self.edges = edges
        self.node_values = node_values
        self.node_names = node_names
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
    ):
        """Draw the graph.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None: those of a new figure, as large as the graph needs.
            Names are placed for the size that the axes have now.
        n_edges : int, default=30
            How many edges to draw between each two columns: the strongest, and before
            the last columns of those only that lead on.
        cmap : str or matplotlib Colormap, default=None
            Colours; None: "RdBu_r" for values with a sign, else "Blues".
        vmax : float, default=None
            Value of the strongest colour; None: the largest magnitude shown.
        colorbar : bool, default=True
            Whether to draw the colour bar.
        font_size : float, default=8
            Largest size of the names, which shrink to 5 where a column is full. Where
            even that is too large, the weakest nodes go without a name.
        edge_kw : dict, default=None
            Options of matplotlib's `LineCollection`.

        Returns
        -------
        display : FeatureGraphDisplay
            The object itself.
        """
        caller = type(self).__name__
        edges, values, names, titles = self._checked(caller)
        check_count(f"{caller}.plot", "n_edges", n_edges)
        check_level(f"{caller}.plot", "vmax", vmax, positive=True)
        check_level(f"{caller}.plot", "font_size", font_size, positive=True)
        check_matplotlib_support(f"{caller}.plot")
        gaps = layout.strongest_edges(edges, n_edges)
        columns = layout.shown_columns(gaps, edges[-1].shape[0])
        columns = layout.ordered_columns(columns, gaps)
        self.columns_, self.coverage_ = columns, [gap.share for gap in gaps]

        ax = single_axes(f"{caller}.plot", ax, figure_size(columns, font_size))
        self.ax_, self.figure_, self.colorbar_ = ax, ax.figure, None
        colors = Colors(
            cmap or ("RdBu_r" if self.signed else "Blues"),
            vmax or _largest(gaps, columns, values),
            self.signed,
        )
        bare(ax)
        ax.set_title(self.heading, fontsize="medium")
        ax.set_xlabel(_coverage_text(gaps, edges), fontsize="small", color="0.3")
        if colorbar:
            self.colorbar_ = ax.figure.colorbar(
                colors.mappable, ax=ax, label=self.value_name, shrink=0.6, aspect=30
            )
        shown = [[names[i][j] for j in column] for i, column in enumerate(columns)]
        if titles:
            sizes = zip(titles, columns, names, strict=True)
            titles = [f"{title}\n{len(c):,} of {len(n):,}" for title, c, n in sizes]
        if values is not None:
            values = [own[column] for own, column in zip(values, columns, strict=True)]
        boxes = draw_boxes(ax, shown, values, titles, colors, font_size)
        self.nodes_, self.texts_ = boxes.nodes, boxes.texts
        self.edges_ = draw_edges(ax, gaps, columns, boxes, colors, edge_kw)
        return self

    def _checked(self, caller):
        """Return edges, values, names and titles, or say what is wrong with them."""
        if not isinstance(self.edges, (list, tuple)) or not self.edges:
            raise param_error(caller, "edges", "a list of matrices", self.edges)
        edges = [check_matrix(caller, "edges", matrix) for matrix in self.edges]
        sizes = [edges[0].shape[1], *(matrix.shape[0] for matrix in edges)]
        if [matrix.shape[1] for matrix in edges] != sizes[:-1]:
            expected = "matrices that each have a column for each row of the one before"
            shapes = [matrix.shape for matrix in edges]
            raise param_error(caller, "edges", expected, shapes)
        titles = check_names(caller, "layer_names", self.layer_names, len(sizes))
        names = self.node_names
        if names is None:
            names = [[f"{i}_{j}" for j in range(n)] for i, n in enumerate(sizes)]
        elif len(names) != len(sizes):
            raise param_error(caller, "node_names", f"{len(sizes)} lists", names)
        names = [
            check_names(caller, "node_names", column, n)
            for column, n in zip(names, sizes, strict=True)
        ]
        values = self.node_values
        if values is not None:
            values = [np.asarray(column, dtype=float) for column in values]
            if [column.shape for column in values] != [(n,) for n in sizes] or not all(
                np.isfinite(column).all() for column in values
            ):
                expected = f"finite arrays of {sizes} values or None"
                raise param_error(caller, "node_values", expected, self.node_values)
        return [sparse.csr_array(matrix) for matrix in edges], values, names, titles

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
        ax=None,
        n_edges=30,
        cmap=None,
        vmax=None,
        colorbar=True,
        font_size=8,
        edge_kw=None,
    ):
        """Draw the network of a fitted unwrapper.

        Parameters
        ----------
        unwrapper : FeatureUnwrapper
            Fitted; of a pipeline the last step counts, and X is what that step gets.
        X, output, inputs
            As in :meth:`from_network`. The default `output`, each row's largest, is
            over the columns of all heads: of a model with several, which may be of
            unrelated things, give a column, as ``unwrapper.heads_["cls"].start + 2``.
        input_names : sequence of str, default=None
            Names of the inputs; None: the names of the columns that it was fitted on.
        output_names : sequence of str, default=None
            Names of the outputs; None: the classes, or of a model with several heads
            their names, as "value" or, of one with several columns, "cls[2]".
        ax, n_edges, cmap, vmax, colorbar, font_size, edge_kw
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
        unwrapper = fitted_step(unwrapper)
        if not hasattr(unwrapper, "network"):
            raise TypeError(
                f"{cls.__name__}.from_estimator draws a fitted FeatureUnwrapper; got "
                f"{type(unwrapper).__name__}."
            )
        network = unwrapper.network()
        if output_names is None and hasattr(unwrapper, "classes_"):
            classes = unwrapper.classes_[-network.n_outputs_ :]
            output_names = [str(label) for label in classes]
        elif output_names is None and hasattr(unwrapper, "heads_"):
            output_names = _head_names(unwrapper.heads_)
        if input_names is None:
            input_names = getattr(unwrapper, "feature_names_in_", None)
        return cls.from_network(
            network,
            X,
            output=output,
            inputs=inputs,
            input_names=input_names,
            output_names=output_names,
            ax=ax,
            n_edges=n_edges,
            cmap=cmap,
            vmax=vmax,
            colorbar=colorbar,
            font_size=font_size,
            edge_kw=edge_kw,
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
        ax=None,
        n_edges=30,
        cmap=None,
        vmax=None,
        colorbar=True,
        font_size=8,
        edge_kw=None,
    ):
        """Draw a network of features.

        Parameters
        ----------
        network : SparseFeatureNetwork
            The network.
        X : array-like of shape (n_features_in,) or (n, n_features_in), default=None
            One row: what each feature and each edge contributes to an output, exactly,
            with its sign. Several rows: the mean magnitudes of that. None: weights.
        output : int or array-like of int of shape (n,), default=None
            Which output contributions are to; None: each row's largest, whatever
            heads the outputs are of.
        inputs : bool, default=False
            Whether to show the inputs too, on the left.
        input_names : sequence of str, default=None
            Names of the inputs; None: "x0", "x1" and so on.
        output_names : sequence of str, default=None
            Names of the outputs; None: "output 0", "output 1" and so on.
        ax, n_edges, cmap, vmax, colorbar, font_size, edge_kw
            As in :meth:`plot`.

        Returns
        -------
        display : FeatureGraphDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If the network is curved between its features and the outputs, as with a
            tanh; see ``SparseFeatureNetwork.attribute``.
        """
        caller = f"{cls.__name__}.from_network"
        check_matplotlib_support(caller)
        data = graph_data(
            caller,
            network,
            X,
            output=output,
            inputs=inputs,
            input_names=input_names,
            output_names=output_names,
        )
        return cls(**data).plot(
            ax=ax,
            n_edges=n_edges,
            cmap=cmap,
            vmax=vmax,
            colorbar=colorbar,
            font_size=font_size,
            edge_kw=edge_kw,
        )


def _head_names(heads):
    """Return a name for each column of the heads, which are slices by name."""
    names: list[str] = []
    for name, head in heads.items():
        # Those of a tuple are called "0", "1": that alone tells nothing.
        name = f"head {name}" if name.isdigit() else name
        n_columns = head.stop - head.start
        several = [f"{name}[{column}]" for column in range(n_columns)]
        names += [name] if n_columns == 1 else several
    return names


def _largest(gaps, columns, values):
    """Return the largest magnitude that is shown, 1 where there is none."""
    shown = [gap.value for gap in gaps]
    if values is not None:
        shown += [own[column] for own, column in zip(values, columns, strict=True)]
    return float(np.abs(np.concatenate(shown)).max(initial=0)) or 1.0


def _coverage_text(gaps, edges):
    parts = [
        f"{len(gap.value):,} of {matrix.nnz:,} edges ({gap.share:.0%})"
        for gap, matrix in zip(gaps, edges, strict=True)
    ]
    return f"shown, with their share of the total: {', '.join(parts)}"
