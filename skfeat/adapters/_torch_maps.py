"""Make steps of convolutions and poolings of torch, whose maps have known sizes."""

from __future__ import annotations

from typing import Any

import numpy as np

from skfeat.adapters._torch_ops import Op, refusal
from skfeat.chain import Step
from skfeat.chain._kinds import Window
from skfeat.chain._shapes import MapShape

MAP_OPS = ("conv", "pool")


def map_step(op: Op, shape: MapShape | None, arrays: dict[str, np.ndarray]) -> Step:
    """Make the step of a convolution or a pooling.

    Parameters
    ----------
    op : Op
        Of one of the kinds `MAP_OPS`.
    shape : MapShape or None
        Of the maps that it is given; None: they are rows.
    arrays : dict of str to ndarray
        Its weights.

    Raises
    ------
    TypeError
        If it cannot be unwrapped, as where it is given rows.
    """
    what = op.settings["what"]
    if shape is None:
        raise refusal(
            f"{what} of rows without the sizes of their maps (pass X as maps of shape "
            "(n, channels, ...), or set input_shape)"
        )
    if op.settings["n_axes"] == 1 and shape.height > 1:
        raise refusal(f"{what} of maps with two axes")
    step = _convolution(op, shape, arrays) if op.kind == "conv" else _pooling(op, shape)
    if min(Window.of(step.settings).out_size) < 1:
        raise ValueError(f"{what} does not fit into maps of {shape[1:]}.")
    return step


def _convolution(op: Op, shape: MapShape, arrays: dict[str, np.ndarray]) -> Step:
    given = op.settings
    weight = arrays["weight"]
    n_out, n_read, *kernel = weight.shape
    groups = given["groups"]
    if n_read * groups != shape.channels:
        raise refusal(
            f"{given['what']}, which takes {n_read * groups} channels, but is given "
            f"{shape.channels}"
        )
    if given["padding_mode"] != "zeros":
        raise refusal(f"{given['what']} with padding_mode={given['padding_mode']!r}")
    n_axes = len(kernel)
    size = _two(kernel, 1, n_axes)
    dilation = _two(given["dilation"], 1, n_axes)
    before = after = (0, 0)
    if given["padding"] == "same":
        total = [d * (k - 1) for d, k in zip(dilation, size, strict=True)]
        before = total[0] // 2, total[1] // 2
        after = total[0] - before[0], total[1] - before[1]
    elif given["padding"] != "valid":
        before = after = _two(given["padding"], 0, n_axes)
    window = Window(
        shape.channels,
        (shape.height, shape.width),
        size,
        _two(given["stride"], 1, n_axes),
        dilation,
        before,
        after,
    )
    intercept = arrays.get("bias", np.zeros(n_out))
    coef = {"coef": weight.reshape(n_out, -1), "intercept": intercept}
    return Step("conv", op.name, coef, window.settings(groups=groups))


def _pooling(op: Op, shape: MapShape) -> Step:
    given, what, n_axes = op.settings, op.settings["what"], op.settings["n_axes"]
    function = given["function"]
    kind = "max_pool" if "max" in function else "mean_pool"
    size = shape.height, shape.width
    if given.get("return_indices"):
        raise refusal(f"{what} with return_indices=True")
    before = after = (0, 0)
    dilation = (1, 1)
    counts_padding = True
    if function.startswith("adaptive"):
        kernel = stride = _adaptive(what, given["output_size"], size, n_axes)
    else:
        kernel = _two(given["kernel_size"], 1, n_axes)
        steps = given.get("stride")
        stride = kernel if steps in (None, [], ()) else _two(steps, 1, n_axes)
        before = _two(given.get("padding", 0), 0, n_axes)
        dilation = _two(given.get("dilation", 1), 1, n_axes)
        counts_padding = bool(given.get("count_include_pad", True))
        if given.get("divisor_override") is not None:
            raise refusal(f"{what} with divisor_override")
        after = before
    window = Window(shape.channels, size, kernel, stride, dilation, before, after)
    if given.get("ceil_mode"):
        window = _with_partial_windows(window)
        if kind == "mean_pool" and window.after != window.before:
            raise refusal(f"{what} with ceil_mode=True")
    if kind == "max_pool":
        return Step(kind, op.name, {}, window.settings())
    counts = int(counts_padding)
    return Step(kind, op.name, {}, window.settings(counts_padding=counts))


def _with_partial_windows(window: Window) -> Window:
    """Return a window that also gives what lies partly behind the end of the maps."""
    after = []
    for axis, n_out in enumerate(window.out_size):
        begin = n_out * window.stride[axis]  # of the first one that is not given
        extent = window.dilation[axis] * (window.kernel[axis] - 1) + 1
        end = window.size[axis] + window.before[axis]
        rest = end + window.after[axis] - extent
        # torch leaves out one that begins in the padding at the end.
        is_given = rest % window.stride[axis] > 0 and begin < end
        more = begin - rest if is_given else 0
        after.append(window.after[axis] + more)
    return window._replace(after=(after[0], after[1]))


def _adaptive(
    what: str, wanted: Any, size: tuple[int, int], n_axes: int
) -> tuple[int, int]:
    """Return the kernel, and stride, of an adaptive pooling."""
    values = list(wanted) if isinstance(wanted, list | tuple) else [wanted] * n_axes
    if n_axes == 1:
        values = [1, *values]
    found = []
    for own, n_out in zip(size, values, strict=True):
        n_out = own if n_out is None else n_out
        if own % n_out:
            raise refusal(f"{what} of {own} positions to {n_out}")
        found.append(own // n_out)
    return found[0], found[1]


def _two(value: Any, of_height: int, n_axes: int) -> tuple[int, int]:
    """Return a size for both axes; of series, for the width alone."""
    values = list(value) if isinstance(value, list | tuple) else [value] * n_axes
    if len(values) < n_axes:
        values *= n_axes
    if n_axes == 1:
        values = [of_height, *values]
    return int(values[0]), int(values[1])
