"""Weight matrices over time: checked frames on one colour scale, and the animation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skfeat.inspection._axes import add_color_bar
from skfeat.inspection._inputs import Matrix, check_labels, nonzero_values
from skfeat.inspection._style import color_limit
from skfeat.inspection._weights import KINDS, draw_weights
from skfeat.utils._checks import (
    check_level,
    check_matrix,
    check_option,
    check_sequence,
    value_error,
)


@dataclass
class Frames:
    """Matrices of one shape, their titles, and how all of them are drawn."""

    matrices: list[Matrix]
    titles: list[str]
    values: np.ndarray
    kind: str
    cmap: Any
    limit: float

    @classmethod
    def check(
        cls,
        matrices: Sequence[Any],
        titles: Sequence[str] | None,
        *,
        kind: str,
        cmap: Any,
        vmax: float | None,
    ) -> Frames:
        """Check the parameters of a display and of its `plot`."""
        check_option("kind", kind, KINDS)
        vmax = check_level("vmax", vmax, positive=True)
        several = check_sequence("frames", "matrices", matrices)
        checked = [check_matrix("frames", matrix) for matrix in several]
        shapes = [matrix.shape for matrix in checked]
        if len(set(shapes)) != 1:
            allowed = "one or more matrices of the same shape"
            raise value_error("frames", allowed, shapes)
        names = check_labels("titles", titles, len(checked))
        names = names or [f"epoch {i + 1}" for i in range(len(checked))]
        values = np.concatenate([nonzero_values(matrix) for matrix in checked])
        return cls(checked, names, values, kind, cmap, color_limit(values, vmax))

    def draw(self, ax: Any, index: int, im_kw: dict[str, Any] | None) -> Any:
        """Draw one matrix and return the image or the points."""
        return draw_weights(
            ax,
            self.matrices[index],
            kind=self.kind,
            cmap=self.cmap,
            limit=self.limit,
            im_kw=im_kw,
        )


def write_gif(
    path: Path, frames: Frames, im_kw: dict[str, Any] | None, *, fps: Any, dpi: int
) -> None:
    """Write one picture for each frame; they share the colour bar of the first."""
    from matplotlib.animation import PillowWriter
    from matplotlib.figure import Figure

    # Made without pyplot, so that no window appears and no figure stays open.
    figure = Figure(figsize=(5, 4.2), dpi=dpi, layout="constrained")
    ax = figure.subplots()
    writer = PillowWriter(fps=fps)
    with writer.saving(figure, path, dpi):
        for i, title in enumerate(frames.titles):
            ax.clear()
            im = frames.draw(ax, i, im_kw)
            ax.set(xlabel="input feature", ylabel="output feature", title=title)
            if i == 0:
                add_color_bar(im, ax, frames.values, "weight")
            writer.grab_frame()
