"""A grid of images."""

from __future__ import annotations

from typing import Self

import numpy as np

from skfeat.inspection._axes import add_color_bar, hide_frame, panel_axes
from skfeat.inspection._inputs import (
    check_features,
    check_image_shape,
    check_labels,
    fitted_step,
)
from skfeat.inspection._layers import autoencoder_of
from skfeat.inspection._style import color_limit, style
from skfeat.utils._checks import (
    as_plain,
    check_flag,
    check_int,
    check_level,
    check_matrix,
    value_error,
)


class ImageGridDisplay:
    """Grid of images, such as the inputs that activate features or what features write.

    It is recommended to create one with :meth:`from_estimator` or
    :meth:`from_rows`.

    Parameters
    ----------
    images : array-like of shape (n_images, height, width)
        The images.
    titles : sequence of str of length n_images, default=None
        One title above each image.

    Attributes
    ----------
    im_ : list of matplotlib AxesImage
        The images.
    colorbar_ : matplotlib Colorbar or None
        The colour bar of all images.
    axes_ : ndarray of matplotlib Axes of shape (n_rows, n_cols)
        The panels; those past the last image are empty.
    bounding_ax_ : matplotlib Axes or None
        The axes that were split into the panels.
    figure_ : matplotlib Figure
        The figure that holds them.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat.inspection import ImageGridDisplay
    >>> display = ImageGridDisplay(images=np.zeros((5, 2, 3)))
    >>> display.plot(n_cols=3).axes_.shape
    (2, 3)
    """

    def __init__(self, *, images, titles=None):
        self.images = images
        self.titles = titles

    def plot(
        self,
        *,
        ax=None,
        n_cols=8,
        symmetric=False,
        cmap=None,
        vmax=None,
        colorbar=False,
        im_kw=None,
    ) -> Self:
        """Draw the images.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, default=None
            Axes to split into panels, or one for each panel; None: those of a new
            figure.
        n_cols : int, default=8
            Largest number of images in a row of the grid.
        symmetric : bool, default=False
            Whether all images share the colour limits -vmax and vmax, for images
            whose sign matters; otherwise each one spans its own range.
        cmap : str or matplotlib Colormap, default=None
            Colours; None: "RdBu_r" if symmetric, else "gray".
        vmax : float, default=None
            Colour limit if symmetric; None: the 99.5th percentile of nonzero
            magnitudes.
        colorbar : bool, default=False
            Whether to draw a colour bar; only symmetric images share one.
        im_kw : dict, default=None
            Options of `Axes.imshow`.

        Returns
        -------
        display : ImageGridDisplay
            The object itself.
        """
        images = np.asarray(self.images)
        if images.ndim != 3 or 0 in images.shape:
            allowed = "an array of shape (n_images, height, width)"
            raise value_error("images", allowed, images)
        check_matrix("images", images.reshape(len(images), -1))
        titles = check_labels("titles", self.titles, len(images))
        n_cols = min(check_int("n_cols", n_cols, 1), len(images))
        vmax = check_level("vmax", vmax, positive=True)
        symmetric = check_flag("symmetric", symmetric)
        if check_flag("colorbar", colorbar) and not symmetric:
            raise value_error("colorbar", "False unless symmetric=True", colorbar)

        n_rows = -(-len(images) // n_cols)
        height = 1.1 * images.shape[1] / images.shape[2] + 0.3 * bool(titles)
        size = (max(1.1 * n_cols, 2) + 0.9 * bool(colorbar), max(height * n_rows, 1.5))
        axes, self.bounding_ax_ = panel_axes(
            f"{type(self).__name__}.plot", ax, n_rows, n_cols, figsize=size
        )
        defaults = {"cmap": cmap or ("RdBu_r" if symmetric else "gray")}
        if symmetric:
            limit = color_limit(images, vmax)
            defaults |= {"vmin": -limit, "vmax": limit}
        for panel in axes.flat:
            hide_frame(panel)
        drawn = list(axes.flat)[: len(images)]
        self.im_ = [
            panel.imshow(image, **style(defaults, im_kw))
            for panel, image in zip(drawn, images, strict=True)
        ]
        for panel, title in zip(drawn, titles or [], strict=False):
            panel.set_title(title, fontsize="small", pad=3)
        self.axes_, self.figure_, self.colorbar_ = axes, drawn[0].figure, None
        if colorbar:
            panels = axes.ravel().tolist()
            self.colorbar_ = add_color_bar(self.im_[0], panels, images)
        return self

    @classmethod
    def from_estimator(
        cls,
        autoencoder,
        *,
        layer=None,
        image_shape,
        features=None,
        projection=None,
        titles=None,
        ax=None,
        n_cols=8,
        symmetric=True,
        cmap=None,
        vmax=None,
        colorbar=True,
        im_kw=None,
    ) -> Self:
        """Draw what features write: the rows of a fitted decoder as images.

        Parameters
        ----------
        autoencoder : estimator
            Fitted, with `components_` of shape (n_features, n_neurons), or a pipeline
            that ends in one; of a `FeatureUnwrapper`, the autoencoder of one layer.
        layer : int or str, default=None
            Which layer of an unwrapper, by its number or name; None: the last.
        image_shape : tuple of int (height, width)
            Shape of a row seen as an image.
        features : int or sequence of int, default=None
            The features to show; None: the first 24.
        projection : array-like of shape (n_neurons, n_pixels), default=None
            Maps neurons to pixels, such as the first weight matrix of the network;
            None: neurons are pixels.
        titles : sequence of str, default=None
            Titles; None: the numbers of the features, or their names in an unwrapper.
        ax, n_cols, symmetric, cmap, vmax, colorbar, im_kw
            As in :meth:`plot`.

        Returns
        -------
        display : ImageGridDisplay
            The drawn display.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.decomposition import PCA
        >>> from skfeat.inspection import ImageGridDisplay
        >>> pca = PCA(3).fit(np.eye(4))
        >>> display = ImageGridDisplay.from_estimator(pca, image_shape=(2, 2))
        >>> display.titles
        ['0', '1', '2']
        """
        owner = fitted_step("autoencoder", autoencoder)
        coder, name = autoencoder_of(owner, layer)
        components = np.asarray(
            fitted_step("autoencoder", coder, "components_").components_
        )
        n_features = len(components)
        features = range(min(24, n_features)) if features is None else features
        chosen = check_features("features", features, n_features)
        rows = components[chosen]
        if projection is not None:
            matrix = check_matrix("projection", projection)
            if matrix.shape[0] != rows.shape[1]:
                allowed = f"of shape ({rows.shape[1]}, n_pixels) or None"
                raise value_error("projection", allowed, matrix)
            rows = rows @ matrix
        if titles is None and name is not None:
            titles = [coder.get_feature_names_out()[j] for j in chosen]
        return cls.from_rows(
            rows,
            image_shape=image_shape,
            titles=[str(j) for j in chosen] if titles is None else titles,
            ax=ax,
            n_cols=n_cols,
            symmetric=symmetric,
            cmap=cmap,
            vmax=vmax,
            colorbar=colorbar,
            im_kw=im_kw,
        )

    @classmethod
    def from_rows(
        cls,
        rows,
        *,
        image_shape,
        titles=None,
        ax=None,
        n_cols=8,
        symmetric=False,
        cmap=None,
        vmax=None,
        colorbar=False,
        im_kw=None,
    ) -> Self:
        """Draw flat rows as images, such as those of `maximize_activation`.

        Parameters
        ----------
        rows : array-like of shape (n_images, height * width)
            The images.
        image_shape : tuple of int (height, width)
            Their shape.
        titles
            As in :class:`ImageGridDisplay`.
        ax, n_cols, symmetric, cmap, vmax, colorbar, im_kw
            As in :meth:`plot`.

        Returns
        -------
        display : ImageGridDisplay
            The drawn display.

        Examples
        --------
        >>> import numpy as np
        >>> from skfeat.inspection import ImageGridDisplay
        >>> display = ImageGridDisplay.from_rows(np.eye(4), image_shape=(2, 2))
        """
        rows = np.atleast_2d(as_plain("rows", rows))
        shape = check_image_shape(image_shape, rows.shape[1])
        display = cls(images=rows.reshape(-1, *shape), titles=titles)
        return display.plot(
            ax=ax,
            n_cols=n_cols,
            symmetric=symmetric,
            cmap=cmap,
            vmax=vmax,
            colorbar=colorbar,
            im_kw=im_kw,
        )
