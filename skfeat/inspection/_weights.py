"""How a weight matrix is drawn: as an image, or as points that stay visible."""

import numpy as np
from scipy import sparse

from skfeat.inspection._common import (
    integer_ticks,
    nonzero_values,
    points_per_cell,
    style,
)

KINDS = ("auto", "image", "points")
MIN_POINT = 3.0  # side of the smallest marker in typographic points
MAX_POINTS = 5_000  # more of the smallest markers cover the whole of a panel


def choose_kind(weights):
    """Return "points" where the pixels of an image would be too small to see."""
    size = weights.shape[0] * weights.shape[1]
    n_nonzero = nonzero_values(weights).size
    large, thin = max(weights.shape) > 100, n_nonzero < 0.05 * size
    return "points" if large and thin and n_nonzero <= MAX_POINTS else "image"


def pooled_image(weights, max_shape):
    """Return a dense image of at most `max_shape` pixels.

    Each pixel keeps the weight of largest magnitude among those it covers: an
    average would fade a lone weight away, and leaving rows out would lose it.
    """
    shape = tuple(np.minimum(weights.shape, max_shape))
    if shape == weights.shape:
        return weights.toarray() if sparse.issparse(weights) else weights
    entries = sparse.coo_array(weights)
    order = np.argsort(np.abs(entries.data), kind="stable")
    rows, cols = (
        index[order].astype(np.int64) * small // side
        for index, small, side in zip(entries.coords, shape, weights.shape, strict=True)
    )
    image = np.zeros(shape)
    image[rows, cols] = entries.data[order]  # of repeated indices the last one wins
    return image


def draw_weights(ax, weights, *, kind, cmap, limit, im_kw):
    """Draw weights on `ax`, outputs on rows, and return the image or the points."""
    n_out, n_in = weights.shape
    integer_ticks(ax.xaxis, ax.yaxis)
    if kind == "auto":
        kind = choose_kind(weights)
    defaults = {"cmap": cmap, "vmin": -limit, "vmax": limit}
    if kind == "image":
        extent = ax.get_window_extent()
        # A colour bar is still to take its share of the room.
        room = (max(1, int(0.8 * extent.height)), max(1, int(0.8 * extent.width)))
        defaults |= {"aspect": "auto", "interpolation": "nearest"}
        defaults["extent"] = (-0.5, n_in - 0.5, n_out - 0.5, -0.5)
        return ax.imshow(pooled_image(weights, room), **style(defaults, im_kw))
    from matplotlib import colormaps

    entries = sparse.coo_array(weights)
    order = np.argsort(np.abs(entries.data), kind="stable")  # the largest on top
    rows, cols = (index[order] for index in entries.coords)
    side = max(MIN_POINT, points_per_cell(ax, n_in))
    defaults |= {"marker": "s", "s": side**2, "linewidth": 0.5}
    options = style(defaults, im_kw)
    # Weights near zero are nearly white: the outline keeps their sign in sight.
    low, high = colormaps.get_cmap(options["cmap"])([0.15, 0.85])
    options.setdefault(
        "edgecolor", [high if value > 0 else low for value in entries.data[order]]
    )
    points = ax.scatter(cols, rows, c=entries.data[order], **options)
    ax.set(xlim=(-0.5, n_in - 0.5), ylim=(n_out - 0.5, -0.5))
    return points
