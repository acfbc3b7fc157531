"""Where in images the features of a convolutional model fire."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from skfeat.inspection._axes import hide_frame, panel_axes
from skfeat.inspection._inputs import check_features
from skfeat.inspection._style import style
from skfeat.maps._reads import field_of
from skfeat.network import SparseMapNetwork
from skfeat.network._arrays import layer_index
from skfeat.utils._checks import check_flag, check_int, value_error

# Images of which features are computed at a time.
_BLOCK = 256


class FeatureMapDisplay:
    """Images on which features of maps fire most, and where in them.

    Each line is a feature, each panel one of the images where its strongest position is
    strongest: the image in grey, over it how strongly the feature fires at each
    position, and around what the strongest position reads a frame.

    It is recommended to create one with :meth:`from_estimator`.

    Parameters
    ----------
    images : array-like of shape (n_features, n_examples, height, width)
        The images.
    activations : array-like of shape (n_features, n_examples, map_height, map_width)
        What the feature is at each position.
    boxes : array-like of int, shape (n_features, n_examples, 4)
        Top, left, bottom and right of what the strongest position reads.
    names : sequence of str of length n_features
        What the features are called.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_features, n_examples)
        The panels.
    im_ : list of matplotlib AxesImage
        The activations over the images.
    patches_ : list of matplotlib Rectangle
        The frames.
    bounding_ax_ : matplotlib Axes or None
        The axes that were split into the panels.
    figure_ : matplotlib Figure
        The figure that holds them.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat.inspection import FeatureMapDisplay
    >>> display = FeatureMapDisplay(
    ...     images=np.zeros((1, 2, 8, 8)),
    ...     activations=np.ones((1, 2, 4, 4)),
    ...     boxes=[[[0, 0, 4, 4], [2, 2, 6, 6]]],
    ...     names=["F1_0"],
    ... )
    >>> display.plot().axes_.shape
    (1, 2)
    """

    def __init__(self, *, images, activations, boxes, names):
        self.images = images
        self.activations = activations
        self.boxes = boxes
        self.names = names

    def plot(self, *, ax=None, patches=False, cmap=None, alpha=0.6, im_kw=None) -> Self:
        """Draw the images.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, default=None
            Axes to split into panels, or one for each panel; None: those of a new
            figure.
        patches : bool, default=False
            Draw of each image only what its strongest position reads.
        cmap : str or matplotlib Colormap, default=None
            Colours of the activations; None: "autumn_r".
        alpha : float, default=0.6
            How much of the image the strongest activation covers.
        im_kw : dict, default=None
            Options of `Axes.imshow` for the activations.

        Returns
        -------
        display : FeatureMapDisplay
            The object itself.
        """
        images, activations = np.asarray(self.images), np.asarray(self.activations)
        if images.ndim != 4 or 0 in images.shape:
            allowed = "an array of shape (n_features, n_examples, height, width)"
            raise value_error("images", allowed, images.shape)
        if activations.ndim != 4 or activations.shape[:2] != images.shape[:2]:
            allowed = f"of shape {images.shape[:2]} and the sizes of maps"
            raise value_error("activations", allowed, activations.shape)
        boxes = np.asarray(self.boxes).reshape(*images.shape[:2], 4)
        patches = check_flag("patches", patches)
        n_rows, n_cols = images.shape[:2]
        size = (max(1.2 * n_cols, 2) + 0.5, max(1.25 * n_rows, 1.5))
        axes, self.bounding_ax_ = panel_axes(
            f"{type(self).__name__}.plot", ax, n_rows, n_cols, figsize=size
        )
        from matplotlib.patches import Rectangle

        self.im_, self.patches_ = [], []
        height, width = images.shape[2:]
        for row, name in enumerate(self.names):
            top = activations[row].max() or 1.0
            for column in range(n_cols):
                panel, fired = axes[row, column], activations[row, column]
                hide_frame(panel)
                panel.imshow(images[row, column], cmap="gray")
                extent = (-0.5, width - 0.5, height - 0.5, -0.5)
                own = {
                    "cmap": cmap or "autumn_r",
                    "vmin": 0,
                    "vmax": top,
                    "extent": extent,
                }
                own |= {"alpha": alpha * np.clip(fired / top, 0, 1)}
                y0, x0, y1, x1 = boxes[row, column]
                if patches:
                    own["alpha"] = np.zeros_like(own["alpha"])
                self.im_.append(panel.imshow(fired, **style(own, im_kw)))
                if patches:
                    # A patch at the border of an image is smaller; its edge shows it.
                    panel.spines[:].set(visible=True, color="tab:red")
                    panel.set_xlim(x0 - 0.5, x1 - 0.5)
                    panel.set_ylim(y1 - 0.5, y0 - 0.5)
                    continue
                frame = Rectangle(
                    (x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, color="tab:red"
                )
                self.patches_.append(panel.add_patch(frame))
            axes[row, 0].set_ylabel(
                name, rotation=0, ha="right", va="center", fontsize="small"
            )
        self.axes_, self.figure_ = axes, axes[0, 0].figure
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        *,
        layer=0,
        features=None,
        n_examples=6,
        ax=None,
        **plot_options,
    ) -> Self:
        """Find the images on which features fire most, and draw them.

        Parameters
        ----------
        estimator : FeatureUnwrapper or SparseMapNetwork
            Of a model of images.
        X : array-like of shape (n, n_channels, height, width)
            Images; of several channels their mean is drawn.
        layer : int or str, default=0
            Index or name of an unwrapped layer.
        features : int or sequence of int, default=None
            Features to draw; None: the eight whose strongest activations, summed over
            images, are largest.
        n_examples : int, default=6
            Images a feature.
        ax : matplotlib Axes or array of Axes, default=None
            As of :meth:`plot`.
        **plot_options
            Options of :meth:`plot`.

        Returns
        -------
        display : FeatureMapDisplay

        Raises
        ------
        ValueError
            If the layer is no map of images, or there is no such feature.
        """
        network = estimator
        if hasattr(estimator, "network"):
            network = estimator.network()
        shape = network.input_shape if isinstance(network, SparseMapNetwork) else None
        if shape is None or len(shape) != 3:
            raise ValueError(
                "estimator must be of a convolutional model that was unwrapped on "
                f"images; explore() and TopExamplesDisplay show others. Got "
                f"{type(estimator).__name__} of input_shape={shape} instead."
            )
        at = layer_index(network.layer_names_, layer)
        map_shape, m = network.map_shapes[at], network.n_shared_components_[at]
        X = np.asarray(X)
        n_examples = min(check_int("n_examples", n_examples, 1), len(X))
        found = _activations(network, X, at)
        strongest = found.max(axis=1)
        if features is None:
            order = np.argsort(-strongest.sum(axis=0), kind="stable")
            features = order[: min(8, m)]
        features = check_features("features", features, m)
        images = X.reshape(len(X), *shape).mean(axis=1)
        chosen = np.argsort(-strongest[:, features], axis=0, kind="stable")
        chosen = chosen[:n_examples].T
        codes = np.stack(
            [found[rows][:, :, j] for rows, j in zip(chosen, features, strict=True)]
        )
        boxes = _boxes(network, at, codes.argmax(axis=2), shape[1:])
        names = [f"F{at + 1}_{j}" for j in features]
        display = cls(
            images=images[chosen],
            activations=codes.reshape(*codes.shape[:2], *map_shape),
            boxes=boxes,
            names=names,
        )
        return display.plot(ax=ax, **plot_options)


def _activations(network: SparseMapNetwork, X: np.ndarray, at: int) -> np.ndarray:
    """Return the features of a layer, (n, n_positions, m)."""
    m = network.n_shared_components_[at]
    parts = [
        network.features(X[start : start + _BLOCK])[at]
        for start in range(0, len(X), _BLOCK)
    ]
    return np.concatenate(parts).reshape(len(X), -1, m)


def _boxes(
    network: SparseMapNetwork, at: int, position: np.ndarray, size: Any
) -> np.ndarray:
    """Return top, left, bottom and right of what positions of a layer read."""
    fields = field_of(network, at)
    places = np.unravel_index(position, network.map_shapes[at])
    ends = []
    for (low, high, stride), place, length in zip(fields, places, size, strict=True):
        ends.append(np.clip(place * stride + low, 0, length - 1))
        ends.append(np.clip(place * stride + high + 1, 1, length))
    top, bottom, left, right = ends
    return np.stack([top, left, bottom, right], axis=-1)
