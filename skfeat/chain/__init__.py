"""A trained network as plain steps in NumPy arrays, run with or without torch."""

from skfeat.chain._chain import (
    WHY_NOT_INNER,
    Chain,
    Head,
    HiddenLayer,
    find_hidden,
    merge_scales,
)
from skfeat.chain._shapes import MapShape, map_shape_after
from skfeat.chain._steps import ACTIVATIONS, JOINS, Step

__all__ = [
    "ACTIVATIONS",
    "JOINS",
    "WHY_NOT_INNER",
    "Chain",
    "Head",
    "HiddenLayer",
    "MapShape",
    "Step",
    "find_hidden",
    "map_shape_after",
    "merge_scales",
]
