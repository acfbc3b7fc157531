"""One input's activations with their reconstruction over them."""

import numpy as np

from skfeat.inspection._common import (
    BLUE,
    GREY,
    ORANGE,
    as_row,
    check_level,
    check_matplotlib_support,
    draw_stems,
    legend_above,
    param_error,
    points_per_cell,
    single_axes,
    style,
)


class ReconstructionDisplay:
    """Picture of one input and its reconstruction by an autoencoder.

    It is recommended to create one with :meth:`from_estimator` or
    :meth:`from_arrays`.

    Parameters
    ----------
    original : array-like of shape (n_neurons,)
        The activations of the neurons for one input.
    reconstruction : array-like of shape (n_neurons,)
        What the autoencoder makes of them.
    threshold : float, default=None
        The title counts the neurons of larger magnitude; None: no count.

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

    def __init__(self, *, original, reconstruction, threshold=None):
        self.original = original
        self.reconstruction = reconstruction
        self.threshold = threshold

    def plot(self, *, ax=None, original_kw=None, reconstruction_kw=None):
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
        caller = type(self).__name__
        original = as_row(caller, "original", self.original)
        rebuilt = as_row(caller, "reconstruction", self.reconstruction)
        if rebuilt.shape != original.shape:
            expected = f"of as many values as 'original' ({original.size})"
            raise param_error(caller, "reconstruction", expected, rebuilt)
        check_level(caller, "threshold", self.threshold)

        ax = single_axes(f"{caller}.plot", ax, figsize=(7.5, 3.6))
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
        for sign in (1, -1):
            level = sign * (self.threshold or 0)
            if level and (sign * original > 0).any():
                ax.axhline(level, color=GREY, linestyle="--", linewidth=1, zorder=0.5)
        ax.set(xlabel="neuron", ylabel="activation")
        ax.set_title(fit_text(original, rebuilt, self.threshold))
        legend_above(ax, 2)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_estimator(
        cls,
        autoencoder,
        x,
        *,
        threshold=None,
        ax=None,
        original_kw=None,
        reconstruction_kw=None,
    ):
        """Draw one input and what a fitted autoencoder makes of it.

        Parameters
        ----------
        autoencoder : estimator
            Fitted, with `transform` and `inverse_transform`.
        x : array-like of shape (n_neurons,) or (1, n_neurons)
            The input.
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
        original = as_row(f"{cls.__name__}.from_estimator", "x", x)
        # A data frame keeps its column names, which the estimator may check.
        X = x if np.ndim(x) == 2 else original.reshape(1, -1)
        return cls.from_arrays(
            original,
            autoencoder.inverse_transform(autoencoder.transform(X)),
            threshold=threshold,
            ax=ax,
            original_kw=original_kw,
            reconstruction_kw=reconstruction_kw,
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
    ):
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


def fit_text(original, rebuilt, threshold):
    """Say how good the reconstruction is; what is not defined is left out."""
    error = np.sum((original - rebuilt) ** 2)
    spread = np.sum((original - original.mean()) ** 2)
    norm = np.linalg.norm(original)
    parts = [f"R² = {1 - error / spread:.3f}"] if spread else []
    parts += [f"relative error = {np.sqrt(error) / norm:.3f}"] if norm else []
    if threshold is not None:
        n_above = np.count_nonzero(np.abs(original) > threshold)
        parts.append(f"{n_above} of {original.size:,} above {threshold:g}")
    return ", ".join(parts)
