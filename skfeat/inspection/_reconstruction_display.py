"""The activations of one input, and their reconstruction."""

from __future__ import annotations

from typing import Self

import numpy as np

from skfeat.inspection._axes import (
    draw_stems,
    draw_threshold,
    legend_above,
    points_per_cell,
    single_axes,
)
from skfeat.inspection._inputs import check_methods, check_row
from skfeat.inspection._layers import autoencoder_of
from skfeat.inspection._style import BLUE, ORANGE, style
from skfeat.metrics._reconstruction import r2_of_sums
from skfeat.utils._checks import check_level, value_error
from skfeat.utils._sklearn import check_matplotlib_support


class ReconstructionDisplay:
    """Picture of one input and its reconstruction by an autoencoder.

    It is recommended to create one with :meth:`from_estimator` or
    :meth:`from_arrays`.

    Parameters
    ----------
    original : array-like of shape (n_neurons,)
        The activations of the neurons for one input.
    reconstruction : array-like of shape (n_neurons,)
        Their reconstruction by the autoencoder.
    threshold : float, default=None
        The title counts the neurons above this magnitude; None: no count.
    name : str, default=None
        Begins the title, such as with the name of the layer.

    Attributes
    ----------
    original_ : matplotlib LineCollection
        The bars of the original.
    reconstruction_ : matplotlib Line2D
        The dots of the reconstruction.
    ax_ : matplotlib Axes
        The axes drawn on.
    figure_ : matplotlib Figure
        The figure that holds them.

    Examples
    --------
    >>> from skfeat.inspection import ReconstructionDisplay
    >>> display = ReconstructionDisplay(
    ...     original=[0.0, 1.0, 0.2], reconstruction=[0.1, 0.9, 0.2], threshold=0.3
    ... )
    >>> display.plot().ax_.get_title()
    'R² = 0.964, relative error = 0.139, 1 of 3 above 0.3'
    """

    def __init__(self, *, original, reconstruction, threshold=None, name=None):
        self.original = original
        self.reconstruction = reconstruction
        self.threshold = threshold
        self.name = name

    def plot(self, *, ax=None, original_kw=None, reconstruction_kw=None) -> Self:
        """Draw bars for the original and dots for the reconstruction.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None: those of a new figure.
        original_kw : dict, default=None
            Options of `Axes.vlines` for the original.
        reconstruction_kw : dict, default=None
            Options of `Axes.plot` for the reconstruction.

        Returns
        -------
        display : ReconstructionDisplay
            The object itself.
        """
        original = check_row("original", self.original)
        rebuilt = check_row("reconstruction", self.reconstruction)
        if rebuilt.shape != original.shape:
            allowed = f"a row of as many values as original, {original.size}"
            raise value_error("reconstruction", allowed, rebuilt)
        threshold = check_level("threshold", self.threshold)

        ax = single_axes(f"{type(self).__name__}.plot", ax, figsize=(7.5, 3.6))
        original_kw = style({"color": BLUE, "label": "neurons"}, original_kw)
        self.original_ = draw_stems(ax, original, original_kw)
        size = float(np.clip(0.7 * points_per_cell(ax, original.size), 2, 5))
        defaults = {
            "color": ORANGE,
            "linestyle": "none",
            "marker": "o",
            "markersize": size,
            "label": "reconstruction",
        }
        (self.reconstruction_,) = ax.plot(rebuilt, **style(defaults, reconstruction_kw))
        draw_threshold(ax, original, threshold)
        ax.set(xlabel="neuron", ylabel="activation")
        title = _quality_text(original, rebuilt, threshold)
        ax.set_title(f"{self.name}: {title}" if self.name else title)
        legend_above(ax, 2)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_estimator(
        cls,
        autoencoder,
        x,
        *,
        layer=None,
        threshold=None,
        ax=None,
        original_kw=None,
        reconstruction_kw=None,
    ) -> Self:
        """Draw one input and its reconstruction by a fitted autoencoder.

        Parameters
        ----------
        autoencoder : estimator
            Fitted, with `transform` and `inverse_transform`; or a `FeatureUnwrapper`,
            whose model gives the activations of one layer.
        x : array-like of shape (n_neurons,) or (1, n_neurons)
            The input; of an unwrapper, a row of the data.
        layer : int or str, default=None
            Which layer of an unwrapper, by its number or name; None: the last.
        threshold
            As in :class:`ReconstructionDisplay`.
        ax, original_kw, reconstruction_kw
            As in :meth:`plot`.

        Returns
        -------
        display : ReconstructionDisplay
            The drawn display.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.decomposition import PCA
        >>> from skfeat.inspection import ReconstructionDisplay
        >>> X = np.random.default_rng(0).normal(size=(20, 6))
        >>> pca = PCA(3).fit(X)
        >>> display = ReconstructionDisplay.from_estimator(pca, X[0])
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        owner = autoencoder
        autoencoder, name = autoencoder_of(owner, layer)
        check_methods("autoencoder", autoencoder, "transform", "inverse_transform")
        # A 2-D x is passed as it is, as the estimator may check a data frame's names.
        if name is not None:
            X = x if np.ndim(x) == 2 else np.reshape(x, (1, -1))
            x = owner._activations(X, layer)
        original = check_row("x", x)
        X = x if np.ndim(x) == 2 else original.reshape(1, -1)
        display = cls(
            original=original,
            reconstruction=autoencoder.inverse_transform(autoencoder.transform(X)),
            threshold=threshold,
            name=name,
        )
        return display.plot(
            ax=ax, original_kw=original_kw, reconstruction_kw=reconstruction_kw
        )

    @classmethod
    def from_arrays(
        cls,
        original,
        reconstruction,
        *,
        threshold=None,
        ax=None,
        original_kw=None,
        reconstruction_kw=None,
    ) -> Self:
        """Draw one input and its reconstruction.

        Parameters
        ----------
        original, reconstruction, threshold
            As in :class:`ReconstructionDisplay`.
        ax, original_kw, reconstruction_kw
            As in :meth:`plot`.

        Returns
        -------
        display : ReconstructionDisplay
            The drawn display.

        Examples
        --------
        >>> from skfeat.inspection import ReconstructionDisplay
        >>> display = ReconstructionDisplay.from_arrays([0.0, 1.0], [0.1, 0.8])
        """
        display = cls(
            original=original, reconstruction=reconstruction, threshold=threshold
        )
        return display.plot(
            ax=ax, original_kw=original_kw, reconstruction_kw=reconstruction_kw
        )


def _quality_text(
    original: np.ndarray, rebuilt: np.ndarray, threshold: float | None
) -> str:
    """Describe the quality of the reconstruction by the figures that are defined."""
    error = np.sum((original - rebuilt) ** 2)
    spread = np.sum((original - original.mean()) ** 2)
    norm = np.linalg.norm(original)
    parts = [f"R² = {r2_of_sums(error, spread):.3f}"] if spread else []
    parts += [f"relative error = {np.sqrt(error) / norm:.3f}"] if norm else []
    if threshold is not None:
        n_above = np.count_nonzero(np.abs(original) > threshold)
        parts.append(f"{n_above} of {original.size:,} above {threshold:g}")
    return ", ".join(parts)
