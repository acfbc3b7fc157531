"""A connector during its training: one panel or animation frame for each epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np

from skfeat.inspection._animation import Frames, write_gif
from skfeat.inspection._axes import add_color_bar, panel_axes
from skfeat.inspection._inputs import fitted_steps
from skfeat.utils._checks import check_flag, check_int, check_level, value_error
from skfeat.utils._sklearn import check_matplotlib_support


class ConnectorHistoryDisplay:
    """Pictures of a weight matrix over time, all on one colour scale.

    It is recommended to create one with :meth:`from_estimators` or
    :meth:`from_matrices`.

    Parameters
    ----------
    frames : sequence of {array-like, sparse matrix} of shape (n_outputs, n_inputs)
        The weights after each epoch.
    titles : sequence of str, default=None
        One title for each frame; None: "epoch 1" and so on.

    Attributes
    ----------
    im_ : list of matplotlib AxesImage or PathCollection
        The image or the points of each panel.
    colorbar_ : matplotlib Colorbar or None
        The colour bar of all panels.
    axes_ : ndarray of matplotlib Axes of shape (1, n_panels)
        The panels.
    bounding_ax_ : matplotlib Axes or None
        The axes that were split into the panels.
    figure_ : matplotlib Figure
        The figure that holds them.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat.inspection import ConnectorHistoryDisplay
    >>> frames = [scale * np.eye(3) for scale in (0.1, 0.5, 0.9)]
    >>> display = ConnectorHistoryDisplay(frames=frames).plot(max_frames=2)
    >>> [ax.get_title() for ax in display.axes_.flat]
    ['epoch 1', 'epoch 3']
    """

    def __init__(self, *, frames, titles=None):
        self.frames = frames
        self.titles = titles

    def plot(
        self,
        *,
        ax=None,
        max_frames=6,
        kind="auto",
        cmap="RdBu_r",
        vmax=None,
        colorbar=True,
        im_kw=None,
    ) -> Self:
        """Draw a strip of panels.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, default=None
            Axes to split into panels, or one for each panel; None: those of a new
            figure.
        max_frames : int, default=6
            Largest number of panels: evenly spaced frames, including the first and
            the last.
        kind : {"auto", "image", "points"}, default="auto"
            As in :meth:`ConnectorDisplay.plot`; "auto" decides for each frame.
        cmap : str or matplotlib Colormap, default="RdBu_r"
            Colours, the middle one for zero.
        vmax : float, default=None
            The colour limits are -vmax and vmax; None: the 99.5th percentile of the
            nonzero magnitudes of all frames.
        colorbar : bool, default=True
            Whether to draw the colour bar.
        im_kw : dict, default=None
            Options of `Axes.imshow` or, for points, of `Axes.scatter`.

        Returns
        -------
        display : ConnectorHistoryDisplay
            The object itself.
        """
        max_frames = check_int("max_frames", max_frames, 1)
        check_flag("colorbar", colorbar)
        frames = Frames.check(self.frames, self.titles, kind=kind, cmap=cmap, vmax=vmax)
        n_frames = len(frames.matrices)
        n_panels = min(max_frames, n_frames)
        # From the end, so that a single panel shows the last frame, the result.
        chosen = np.linspace(n_frames - 1, 0, n_panels).round().astype(int)[::-1]
        size = (2 * n_panels + 1, 2.5)
        axes, self.bounding_ax_ = panel_axes(
            f"{type(self).__name__}.plot", ax, 1, n_panels, figsize=size
        )
        self.im_ = []
        for panel, i in zip(axes.flat, chosen, strict=True):
            self.im_.append(frames.draw(panel, i, im_kw))
            panel.set_title(frames.titles[i])
            panel.set(xticks=[], yticks=[], xlabel="input")
        axes[0, 0].set_ylabel("output")
        self.axes_, self.figure_, self.colorbar_ = axes, axes[0, 0].figure, None
        if colorbar:
            self.colorbar_ = add_color_bar(
                self.im_[0], axes.ravel().tolist(), frames.values, "weight"
            )
        return self

    def save_animation(
        self, path, *, fps=4, kind="auto", cmap="RdBu_r", vmax=None, im_kw=None, dpi=100
    ) -> Path:
        """Write all frames as an animated GIF.

        Parameters
        ----------
        path : str or path-like
            Where to write; ends in ".gif".
        fps : int or float, default=4
            Frames per second.
        kind, cmap, vmax, im_kw
            As in :meth:`plot`.
        dpi : int, default=100
            Pixels per inch; a picture has 5 by 4.2 inches.

        Returns
        -------
        path : pathlib.Path
            The file written.

        Examples
        --------
        >>> import tempfile
        >>> import numpy as np
        >>> from skfeat.inspection import ConnectorHistoryDisplay
        >>> display = ConnectorHistoryDisplay(frames=[np.eye(3), 2 * np.eye(3)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     display.save_animation(f"{folder}/history.gif").name
        'history.gif'
        """
        path = Path(path)
        if path.suffix.lower() != ".gif":
            raise value_error("path", "a path that ends in '.gif'", str(path))
        if fps is None:
            raise value_error("fps", "a finite positive number", fps)
        check_level("fps", fps, positive=True)
        frames = Frames.check(self.frames, self.titles, kind=kind, cmap=cmap, vmax=vmax)
        check_matplotlib_support(f"{type(self).__name__}.save_animation")
        write_gif(path, frames, im_kw, fps=fps, dpi=dpi)
        return path

    @classmethod
    def from_estimators(
        cls,
        connectors,
        *,
        titles=None,
        ax=None,
        max_frames=6,
        kind="auto",
        cmap="RdBu_r",
        vmax=None,
        colorbar=True,
        im_kw=None,
    ) -> Self:
        """Draw the `coef_` of fitted connectors, such as copies made during training.

        Parameters
        ----------
        connectors : sequence of estimators
            Each fitted, with `coef_`, or a pipeline that ends in one.
        titles
            As in :class:`ConnectorHistoryDisplay`.
        ax, max_frames, kind, cmap, vmax, colorbar, im_kw
            As in :meth:`plot`.

        Returns
        -------
        display : ConnectorHistoryDisplay
            The drawn display.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.linear_model import Lasso
        >>> from skfeat.inspection import ConnectorHistoryDisplay
        >>> X = np.eye(4)
        >>> lassos = [Lasso(alpha=alpha).fit(X, X) for alpha in (0.1, 0.01)]
        >>> display = ConnectorHistoryDisplay.from_estimators(lassos)
        """
        return cls.from_matrices(
            [step.coef_ for step in fitted_steps("connectors", connectors, "coef_")],
            titles=titles,
            ax=ax,
            max_frames=max_frames,
            kind=kind,
            cmap=cmap,
            vmax=vmax,
            colorbar=colorbar,
            im_kw=im_kw,
        )

    @classmethod
    def from_matrices(
        cls,
        frames,
        *,
        titles=None,
        ax=None,
        max_frames=6,
        kind="auto",
        cmap="RdBu_r",
        vmax=None,
        colorbar=True,
        im_kw=None,
    ) -> Self:
        """Draw weight matrices.

        Parameters
        ----------
        frames, titles
            As in :class:`ConnectorHistoryDisplay`.
        ax, max_frames, kind, cmap, vmax, colorbar, im_kw
            As in :meth:`plot`.

        Returns
        -------
        display : ConnectorHistoryDisplay
            The drawn display.

        Examples
        --------
        >>> import numpy as np
        >>> from skfeat.inspection import ConnectorHistoryDisplay
        >>> display = ConnectorHistoryDisplay.from_matrices([np.eye(3), -np.eye(3)])
        """
        display = cls(frames=frames, titles=titles)
        return display.plot(
            ax=ax,
            max_frames=max_frames,
            kind=kind,
            cmap=cmap,
            vmax=vmax,
            colorbar=colorbar,
            im_kw=im_kw,
        )
