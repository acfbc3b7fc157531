"""Axes: new or given, split into panels, with ticks, bars, legends and colour bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from skfeat.inspection._style import GREY, extend_of, style
from skfeat.utils._checks import value_error
from skfeat.utils._sklearn import check_matplotlib_support


def single_axes(
    caller: str, ax: Any, figsize: tuple[float, float] | None = None
) -> Any:
    """Return `ax`, or the axes of a new figure.

    Raises
    ------
    ImportError
        If matplotlib is not installed; the message begins with `caller`.
    ValueError
        If `ax` is not matplotlib's Axes.
    """
    check_matplotlib_support(caller)
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=figsize, layout="constrained")
        return ax
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        raise value_error("ax", "matplotlib Axes or None", ax)
    return ax


def panel_axes(
    caller: str, ax: Any, n_rows: int, n_cols: int, *, figsize: tuple[float, float]
) -> tuple[Any, Any]:
    """Return an (n_rows, n_cols) array of axes, and the axes that they were split from.

    A single `ax` is split into panels, as scikit-learn's PartialDependenceDisplay does.
    An array of axes is used as it is, and the second result is None.
    """
    if isinstance(ax, (np.ndarray, Sequence)):
        given = np.asarray(ax, dtype=object)
        if given.size != n_rows * n_cols:
            raise ValueError(
                f"Expected ax to have {n_rows * n_cols} axes, got {given.size}."
            )
        return given.reshape(n_rows, n_cols), None
    ax = single_axes(caller, ax, figsize)
    if not ax.axison:
        raise ValueError(
            "The 'ax' was already used in another plot function, "
            "please set ax=display.axes_ instead."
        )
    if ax.get_subplotspec() is None:
        raise ValueError(
            "ax must be None, axes made by matplotlib.pyplot.subplots or an array of "
            "axes. Got axes that belong to no subplot grid instead."
        )
    ax.set_axis_off()
    grid = ax.get_subplotspec().subgridspec(n_rows, n_cols)
    axes = np.empty((n_rows, n_cols), dtype=object)
    for i, j in np.ndindex(n_rows, n_cols):
        axes[i, j] = ax.figure.add_subplot(grid[i, j])
    return axes, ax


@contextmanager
def closed_on_error(figure: Any) -> Iterator[None]:
    """Close a figure, unless it is None, if drawing in it fails."""
    try:
        yield
    except BaseException:
        if figure is not None:
            import matplotlib.pyplot as plt

            plt.close(figure)
        raise


def integer_ticks(*axes: Any) -> None:
    """Put ticks at whole numbers only, as features and epochs have no halves."""
    from matplotlib.ticker import MaxNLocator

    for axis in axes:
        if axis.get_scale() == "linear":
            axis.set_major_locator(
                MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True)
            )


def hide_frame(ax: Any) -> None:
    """Hide the frame and ticks, but keep the labels, which set_axis_off would hide."""
    ax.set(xticks=[], yticks=[])
    ax.patch.set_visible(False)
    ax.spines[:].set_visible(False)


def points_per_cell(ax: Any, n_cells: int) -> float:
    """Return the width in points of one of `n_cells` that share the width of `ax`."""
    width = ax.get_position().width * ax.get_figure(root=True).get_figwidth() * 72
    return width / n_cells


def legend_above(ax: Any, n_cols: int) -> None:
    """Add a legend above the data, as bars may fill every corner."""
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom, top + 0.12 * (top - bottom))
    ax.legend(loc="upper right", ncols=n_cols, frameon=False)


def draw_stems(ax: Any, values: np.ndarray, kw: dict[str, Any]) -> Any:
    """Draw the nonzero `values` as bars from zero, all in one artist."""
    at = np.flatnonzero(values)
    width = max(1.5, 0.7 * points_per_cell(ax, len(values)))
    bars = ax.vlines(at, 0, values[at], **style({"linewidth": width}, kw))
    bars.set_capstyle("butt")
    ax.axhline(0, color="0.3", linewidth=0.8)
    margin = max(0.5, 0.01 * len(values))
    ax.set_xlim(-margin - 0.5, len(values) - 0.5 + margin)
    return bars


def draw_threshold(ax: Any, values: np.ndarray, threshold: float | None) -> None:
    """Draw a dashed line at the threshold, on each side of zero that has values."""
    for sign in (1, -1):
        level = sign * (threshold or 0)
        if level and (sign * values > 0).any():
            ax.axhline(level, color=GREY, linestyle="--", linewidth=1, zorder=0.5)


def add_color_bar(
    mappable: Any, axes: Any, values: np.ndarray, label: str | None = None
) -> Any:
    """Add a colour bar beside axes, with arrows where values exceed its limits."""
    figure = mappable.axes.figure
    options = {} if label is None else {"label": label}
    extend = extend_of(values, *mappable.get_clim())
    return figure.colorbar(mappable, ax=axes, extend=extend, **options)
