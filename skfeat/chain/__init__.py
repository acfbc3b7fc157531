"""A trained network as plain steps in NumPy arrays, run with or without torch."""

from skfeat.chain._chain import (
    WHY_NOT_INNER,
    Chain,
    Head,
    HiddenLayer,
    find_hidden,
    merge_scales,
)
from skfeat.chain._steps import ACTIVATIONS, JOINS, Step

__all__ = [
    "ACTIVATIONS",
    "JOINS",
    "WHY_NOT_INNER",
    "Chain",
    "Head",
    "HiddenLayer",
    "Step",
    "find_hidden",
    "merge_scales",
]
