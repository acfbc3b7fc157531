"""Weight matrices over time: what they share, and the film of them."""

import numpy as np

from skfeat.inspection._common import (
    check_level,
    check_matplotlib_support,
    check_matrix,
    check_names,
    check_option,
    color_limit,
    extend_of,
    nonzero_values,
    param_error,
)
from skfeat.inspection._weights import KINDS, draw_weights


def check_frames(caller, frames, titles, kind, cmap, vmax):
    """Return checked frames, a title for each, how to draw them, all their values."""
    name = caller.split(".")[0]
    check_option(caller, "kind", kind, KINDS)
    check_level(caller, "vmax", vmax, positive=True)
    frames = [check_matrix(name, "frames", frame) for frame in frames]
    shapes = [frame.shape for frame in frames]
    if len(set(shapes)) != 1:
        expected = "one or more matrices of the same shape"
        raise param_error(name, "frames", expected, shapes)
    titles = check_names(name, "titles", titles, len(frames))
    titles = titles or [f"epoch {i + 1}" for i in range(len(frames))]
    values = np.concatenate([nonzero_values(frame) for frame in frames])
    options = {"kind": kind, "cmap": cmap, "limit": color_limit(values, vmax)}
    return frames, titles, options, values


def write_gif(caller, path, frames, titles, options, values, *, fps, dpi):
    """Write one picture a frame; the colour bar is drawn once for all of them."""
    check_matplotlib_support(caller)
    from matplotlib.animation import PillowWriter
    from matplotlib.figure import Figure

    # Not one of pyplot's figures: none is left open and no window can appear.
    figure = Figure(figsize=(5, 4.2), dpi=dpi, layout="constrained")
    ax = figure.subplots()
    writer = PillowWriter(fps=fps)
    with writer.saving(figure, path, dpi):
        for i, (frame, title) in enumerate(zip(frames, titles, strict=True)):
            ax.clear()
            im = draw_weights(ax, frame, **options)
            ax.set(xlabel="input feature", ylabel="output feature", title=title)
            if i == 0:
                extend = extend_of(values, *im.get_clim())
                figure.colorbar(im, ax=ax, label="weight", extend=extend)
            writer.grab_frame()
