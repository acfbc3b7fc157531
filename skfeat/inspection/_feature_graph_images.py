"""Images in the boxes of a feature graph: the row that excites each feature most."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing

from skfeat.inspection._inputs import check_image_shape, take_rows
from skfeat.utils._checks import value_error

_BLOCK_ROWS = 4096


def check_images(images: Any, sizes: list[int]) -> list[np.ndarray | None]:
    """Check `node_images` of a graph whose columns have so many nodes."""
    if images is None:
        return [None] * len(sizes)
    if not isinstance(images, (list, tuple)) or len(images) != len(sizes):
        raise value_error("node_images", f"a list of {len(sizes)} arrays", images)
    checked = []
    for column, n in zip(images, sizes, strict=True):
        array = None if column is None else np.asarray(column, dtype=float)
        if array is not None and (array.ndim != 3 or len(array) != n):
            allowed = (
                f"None or arrays of shape (n_i, height, width), with n_i of {sizes}"
            )
            raise value_error("node_images", allowed, array.shape)
        checked.append(array)
    return checked


def check_examples(examples: Any, X: Any, image_shape: Any) -> Any:
    """Return the rows that images are taken from, None without images.

    Raises
    ------
    ValueError
        If only one of `examples` and `image_shape` is given, and X is not several rows.
    """
    if image_shape is None:
        if examples is not None:
            raise value_error("image_shape", "given where examples are", None)
        return None
    if examples is None and X is not None and np.ndim(X) > 1 and np.shape(X)[0] > 1:
        examples = X
    if examples is None:
        allowed = "rows to show where image_shape is given and X has not several rows"
        raise value_error("examples", allowed, None)
    check_image_shape(image_shape, int(np.prod(np.shape(examples)[1:])))
    return examples


def layer_images(
    network: Any, rows: Any, shown: Any, image_shape: Any
) -> list[np.ndarray]:
    """Return the row that excites each feature most as an image, layer by layer.

    Parameters
    ----------
    network : SparseFeatureNetwork
    rows : array-like of shape (n, n_features_in)
        What the network computes its features from.
    shown : array-like of shape (n, ...)
        The same rows as images.
    image_shape : tuple of int

    Returns
    -------
    list of ndarray of shape (m, height, width)
        nan where no row excites a feature.
    """
    layers = []
    for strongest, values in _strongest(network, rows):
        images = take_rows(shown, strongest).reshape(-1, *image_shape).astype(float)
        images[values <= 0] = np.nan
        layers.append(images)
    return layers


def _strongest(network: Any, X: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return of each layer's features the row of the highest value, and that value."""
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for start in range(0, np.shape(X)[0], _BLOCK_ROWS):
        block = _safe_indexing(X, slice(start, start + _BLOCK_ROWS))
        for i, values in enumerate(network.features(block)):
            rows, strengths = values.argmax(axis=0) + start, values.max(axis=0)
            if start:
                better = strengths > found[i][1]
                rows = np.where(better, rows, found[i][0])
                strengths = np.maximum(strengths, found[i][1])
                found[i] = rows, strengths
            else:
                found.append((rows, strengths))
    return found
