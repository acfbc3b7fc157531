"""The shapes of maps along the steps of a chain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from skfeat.chain._kinds import KINDS, Window
from skfeat.chain._steps import Step

_ON_MAPS = ("conv", "max_pool", "mean_pool")


class MapShape(NamedTuple):
    """Sizes of a map that stands in a row channel by channel."""

    channels: int
    height: int
    width: int

    @property
    def n_positions(self) -> int:
        """Number of positions."""
        return self.height * self.width

    @property
    def n_values(self) -> int:
        """Length of the row."""
        return self.channels * self.n_positions

    @classmethod
    def of(cls, shape: Sequence[int]) -> MapShape:
        """Return the shape of (channels, time) or (channels, height, width)."""
        channels, *sizes = shape
        height, width = sizes if len(sizes) == 2 else (1, *sizes)
        return cls(int(channels), int(height), int(width))


def map_shape_after(steps: Sequence[Step], shape: MapShape | None) -> MapShape | None:
    """Return the shape of what steps make of maps of a shape; None where it is open.

    Rows that a convolution gives keep the shape of its maps when they are flattened.
    """
    for step in steps:
        shape = _after(step, shape)
    return shape


def _after(step: Step, shape: MapShape | None) -> MapShape | None:
    if step.kind in _ON_MAPS:
        window = Window.of(step.settings)
        is_conv = step.kind == "conv"
        channels = len(step.arrays["coef"]) if is_conv else window.channels
        return MapShape(channels, *window.out_size)
    if step.branches:
        return _joined(step, [map_shape_after(b, shape) for b in step.branches])
    if shape is None or step.kind in ("affine", "mean"):
        return None
    if step.kind != "slice":
        return shape
    n_values = KINDS["slice"].n_out(shape.n_values, {}, step.settings)
    is_whole = not (step.settings["start"] % shape.n_positions)
    if not is_whole or n_values % shape.n_positions:
        return None
    return shape._replace(channels=n_values // shape.n_positions)


def _joined(step: Step, found: Sequence[MapShape | None]) -> MapShape | None:
    shapes = [shape for shape in found if shape is not None]
    if not shapes or len({shape[1:] for shape in shapes}) > 1:
        return None
    if step.kind != "concatenate":
        return shapes[0]  # a branch whose shape is open has that of the others
    if len(shapes) < len(found):
        return None
    return shapes[0]._replace(channels=sum(shape.channels for shape in shapes))
