"""What the displays share: input checks, axes, colour limits and stems."""

from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils.validation import check_is_fitted

from skfeat.utils._checks import is_int
from skfeat.utils._sklearn import _validate_style_kwargs, check_matplotlib_support

# Of collections matplotlib takes both; scikit-learn's helper knows the singular.
PLURALS = {
    f"{name}s": name for name in ("color", "edgecolor", "linestyle", "linewidth")
}
BLUE, ORANGE, GREY = "tab:blue", "tab:orange", "0.6"


def param_error(caller, name, expected, value):
    """Build the ValueError of a bad parameter, worded as scikit-learn's own."""
    shape = getattr(value, "shape", None)
    got = repr(value) if shape is None else f"an array of shape {tuple(shape)}"
    return ValueError(
        f"The {name!r} parameter of {caller} must be {expected}. Got {got} instead."
    )


def check_option(caller, name, value, options):
    """Check that `value` is one of a few strings."""
    if value not in options:
        allowed = ", ".join(repr(option) for option in options)
        raise param_error(caller, name, f"one of {allowed}", value)


def check_count(caller, name, value):
    """Check that `value` is an int of at least 1."""
    if not is_int(value) or value < 1:
        raise param_error(caller, name, "an int of at least 1", value)


def check_level(caller, name, value, *, positive=False):
    """Check a magnitude such as a threshold or a colour limit; None passes."""
    if value is None:
        return
    is_real = isinstance(value, (int, float, np.number)) and np.isfinite(value)
    if not is_real or value < 0 or (positive and value == 0):
        sign = "positive" if positive else "non-negative"
        raise param_error(caller, name, f"a finite {sign} number or None", value)


def check_matrix(caller, name, value):
    """Return `value` as a finite 2-D ndarray or CSR array with no stored zeros."""
    if sparse.issparse(value):
        matrix = sparse.csr_array(value, copy=True)
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        finite = np.isfinite(matrix.data).all()
    else:
        matrix = np.asarray(value)
        numeric = matrix.dtype.kind in "biuf"
        finite = numeric and np.isfinite(matrix).all()
    if matrix.ndim != 2 or 0 in matrix.shape or not finite:
        expected = "a non-empty 2-D array or sparse matrix of finite numbers"
        if matrix.ndim == 2 and 0 not in matrix.shape:
            raise ValueError(
                f"The {name!r} parameter of {caller} must be {expected}. "
                "Got NaN, infinity or something that is not a number in it instead."
            )
        raise param_error(caller, name, expected, matrix)
    return matrix


def check_names(caller, name, names, n):
    """Check that there is a name for each of `n` things; None passes."""
    if names is None:
        return None
    if isinstance(names, str) or len(names) != n:
        expected = f"a sequence of {n} names or None"
        got = list(names) if hasattr(names, "shape") else names
        raise param_error(caller, name, expected, got)
    return [str(item) for item in names]


def fitted_step(estimator):
    """Return the fitted estimator that holds the weights: a pipeline's last step."""
    check_is_fitted(estimator)
    return estimator[-1] if hasattr(estimator, "named_steps") else estimator


def take_rows(matrix, rows):
    """Return the given rows of an array, data frame or sparse matrix, dense."""
    if sparse.issparse(matrix):
        return sparse.csr_array(matrix)[rows].toarray()
    return np.asarray(matrix)[rows]


def nonzero_values(matrix):
    """Return the nonzero entries of an ndarray or of a CSR array as a vector."""
    return matrix.data if sparse.issparse(matrix) else matrix[matrix != 0]


def count_text(matrix, threshold, *, thing, symbol):
    """Say how many entries are above `threshold` in magnitude, or nonzero."""
    values, size = np.abs(nonzero_values(matrix)), matrix.shape[0] * matrix.shape[1]
    if threshold is None:
        return f"{values.size:,} of {size:,} {thing} nonzero"
    n_above = np.count_nonzero(values > threshold)
    return f"{n_above:,} of {size:,} {thing} with |{symbol}| > {threshold:g}"


def color_limit(values, vmax=None):
    """Return `vmax`, by default the 99.5th percentile of the nonzero magnitudes.

    A percentile, not the maximum: one huge weight would bleach all the others. It
    is one of the magnitudes ("higher"), in a small matrix the largest.
    """
    if vmax is not None:
        return float(vmax)
    magnitudes = np.abs(values[values != 0])
    return (
        float(np.percentile(magnitudes, 99.5, method="higher"))
        if magnitudes.size
        else 1.0
    )


def extend_of(values, low, high):
    """Tell a colour bar at which ends the data go past the colour limits."""
    below, above = bool((values < low).any()), bool((values > high).any())
    return {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[
        below, above
    ]


def style(defaults: dict[str, Any], user: dict[str, Any] | None) -> dict[str, Any]:
    """Merge style options; the user's win, under any of matplotlib's aliases."""
    user = {PLURALS.get(name, name): value for name, value in (user or {}).items()}
    if "norm" in user:  # matplotlib refuses a norm beside colour limits
        defaults = {k: v for k, v in defaults.items() if k not in ("vmin", "vmax")}
    return _validate_style_kwargs(defaults, user)


def single_axes(caller, ax, figsize=None):
    """Return `ax`, or the axes of a new figure."""
    check_matplotlib_support(caller)
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=figsize, layout="constrained")
        return ax
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        raise param_error(caller, "ax", "matplotlib Axes or None", ax)
    return ax


@contextmanager
def closed_on_error(figure):
    """Close a figure, if one is given, that cannot be drawn to its end."""
    try:
        yield
    except BaseException:
        if figure is not None:
            import matplotlib.pyplot as plt

            plt.close(figure)
        raise


def panel_axes(caller, ax, n_rows, n_cols, *, figsize, **grid_kw):
    """Return an (n_rows, n_cols) array of axes and the axes that bound them.

    A single `ax` is split into panels, as scikit-learn's PartialDependenceDisplay
    does; an array of axes is taken as it is and has no bounding axes.
    """
    if not isinstance(ax, (np.ndarray, Sequence)):
        ax = single_axes(caller, ax, figsize)
    else:
        axes = np.asarray(ax, dtype=object)
        if axes.size != n_rows * n_cols:
            raise ValueError(
                f"Expected ax to have {n_rows * n_cols} axes, got {axes.size}."
            )
        return axes.reshape(n_rows, n_cols), None
    if not ax.axison:
        raise ValueError(
            "The 'ax' was already used in another plot function, "
            "please set ax=display.axes_ instead."
        )
    if ax.get_subplotspec() is None:
        raise ValueError(
            f"The 'ax' parameter of {caller} must be None, axes made by "
            "matplotlib.pyplot.subplots or an array of axes. "
            "Got axes that belong to no subplot grid instead."
        )
    ax.set_axis_off()
    grid = ax.get_subplotspec().subgridspec(n_rows, n_cols, **grid_kw)
    axes = np.empty((n_rows, n_cols), dtype=object)
    for i, j in np.ndindex(n_rows, n_cols):
        axes[i, j] = ax.figure.add_subplot(grid[i, j])
    return axes, ax


def integer_ticks(*axes):
    """Put ticks on whole numbers only: features and epochs have no halves."""
    from matplotlib.ticker import MaxNLocator

    for axis in axes:
        if axis.get_scale() == "linear":
            axis.set_major_locator(
                MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True)
            )


def bare(ax):
    """Strip the frame and ticks, but keep the labels, which set_axis_off hides."""
    ax.set(xticks=[], yticks=[])
    ax.patch.set_visible(False)
    ax.spines[:].set_visible(False)


def points_per_cell(ax, n_cells):
    """Return the width in points of one of `n_cells` that share the width of `ax`."""
    width = ax.get_position().width * ax.get_figure(root=True).get_figwidth() * 72
    return width / n_cells


def legend_above(ax, n_cols):
    """Add a legend above the data: among bars no corner is sure to be empty."""
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom, top + 0.12 * (top - bottom))
    ax.legend(loc="upper right", ncols=n_cols, frameon=False)


def draw_stems(ax, values, kw):
    """Draw the nonzero `values` as bars from zero: one artist, however many."""
    at = np.flatnonzero(values)
    width = max(1.5, 0.7 * points_per_cell(ax, len(values)))
    bars = ax.vlines(at, 0, values[at], **style({"linewidth": width}, kw))
    bars.set_capstyle("butt")
    ax.axhline(0, color="0.3", linewidth=0.8)
    margin = max(0.5, 0.01 * len(values))
    ax.set_xlim(-margin - 0.5, len(values) - 0.5 + margin)
    return bars


def as_codes(caller, name, value):
    """Return activations as a finite matrix; a vector becomes one row."""
    one_row = not sparse.issparse(value) and np.ndim(value) == 1
    return check_matrix(caller, name, np.reshape(value, (1, -1)) if one_row else value)


def as_row(caller, name, value):
    """Return the one row of `value` as a dense finite vector of floats."""
    matrix = as_codes(caller, name, value)
    if matrix.shape[0] != 1:
        raise param_error(caller, name, "one row: (n,) or (1, n)", matrix)
    return take_rows(matrix, slice(None)).ravel().astype(float)


def check_features(caller, name, features, n_features, *, ndim=1):
    """Return `features`, an int or a sequence of int, as an array of indices."""
    chosen = np.array(features, ndmin=1)
    is_index = chosen.ndim == ndim and chosen.size > 0 and chosen.dtype.kind in "iu"
    if not is_index or chosen.min() < 0 or chosen.max() >= n_features:
        expected = f"an int or a sequence of int from 0 to {n_features - 1}"
        if ndim == 2:
            expected = f"a 2-D array of int from 0 to {n_features - 1}"
        value = features.tolist() if hasattr(features, "tolist") else features
        raise param_error(caller, name, expected, value)
    return chosen


def check_image_shape(caller, image_shape, n_values):
    """Return `image_shape` as two ints whose product is `n_values`."""
    shape = tuple(np.ravel(image_shape).tolist())
    is_int = all(type(side) is int and side > 0 for side in shape)
    if len(shape) != 2 or not is_int or shape[0] * shape[1] != n_values:
        expected = f"(height, width) with height * width = {n_values}"
        raise param_error(caller, "image_shape", expected, image_shape)
    return shape
