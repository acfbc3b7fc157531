"""Drawing a weight matrix: as an image, or as points that stay visible."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from skfeat.inspection._axes import integer_ticks, points_per_cell
from skfeat.inspection._inputs import Matrix, nonzero_values
from skfeat.inspection._style import style

KINDS = ("auto", "image", "points")
MIN_POINT = 3.0  # side of the smallest marker in typographic points
MAX_POINTS = 5_000  # more of the smallest markers would cover the whole panel


def choose_kind(weights: Matrix) -> str:
    """Return "points" where the pixels of an image would be too small to see."""
    size = weights.shape[0] * weights.shape[1]
    n_nonzero = nonzero_values(weights).size
    is_large, is_sparse = max(weights.shape) > 100, n_nonzero < 0.05 * size
    return "points" if is_large and is_sparse and n_nonzero <= MAX_POINTS else "image"


def pooled_image(weights: Matrix, max_shape: tuple[int, int]) -> np.ndarray:
    """Return a dense image of at most `max_shape` pixels.

    Each pixel shows the weight of largest magnitude that it covers: an average would
    fade a single weight, and a selection of rows could miss it.
    """
    shape = tuple(np.minimum(weights.shape, max_shape))
    if shape == weights.shape:
        return weights.toarray() if sparse.issparse(weights) else weights
    nonzeros = sparse.coo_array(weights)
    order = np.argsort(np.abs(nonzeros.data), kind="stable")
    sides = zip(nonzeros.coords, shape, weights.shape, strict=True)
    rows, cols = (
        index[order].astype(np.int64) * n_pixels // n for index, n_pixels, n in sides
    )
    image = np.zeros(shape)
    # Of repeated indices the last one counts, which is the largest.
    image[rows, cols] = nonzeros.data[order]
    return image


def draw_weights(
    ax: Any,
    weights: Matrix,
    *,
    kind: str,
    cmap: Any,
    limit: float,
    im_kw: dict[str, Any] | None,
) -> Any:
    """Draw weights on `ax`, outputs on rows, and return the image or the points."""
    n_out, n_in = weights.shape
    integer_ticks(ax.xaxis, ax.yaxis)
    if kind == "auto":
        kind = choose_kind(weights)
    defaults = {"cmap": cmap, "vmin": -limit, "vmax": limit}
    if kind == "image":
        extent = ax.get_window_extent()
        # Less than the axes have now, as a colour bar may take its share later.
        n_pixels = (max(1, int(0.8 * extent.height)), max(1, int(0.8 * extent.width)))
        defaults |= {"aspect": "auto", "interpolation": "nearest"}
        defaults["extent"] = (-0.5, n_in - 0.5, n_out - 0.5, -0.5)
        return ax.imshow(pooled_image(weights, n_pixels), **style(defaults, im_kw))
    from matplotlib import colormaps

    nonzeros = sparse.coo_array(weights)
    order = np.argsort(np.abs(nonzeros.data), kind="stable")  # the largest on top
    values = nonzeros.data[order]
    rows, cols = (index[order] for index in nonzeros.coords)
    side = max(MIN_POINT, points_per_cell(ax, n_in))
    defaults |= {"marker": "s", "s": side**2, "linewidth": 0.5}
    options = style(defaults, im_kw)
    # Weights near zero are nearly white, but their outline shows the sign.
    low, high = colormaps.get_cmap(options["cmap"])([0.15, 0.85])
    options.setdefault("edgecolor", [high if value > 0 else low for value in values])
    points = ax.scatter(cols, rows, c=values, **options)
    ax.set(xlim=(-0.5, n_in - 0.5), ylim=(n_out - 0.5, -0.5))
    return points
