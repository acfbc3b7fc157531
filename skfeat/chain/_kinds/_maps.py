"""The kinds of step on maps: convolutions and poolings.

A map of channels over positions stands in a row channel by channel, as torch flattens
it. Of a series of one axis the height is 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from skfeat.chain._kinds._kind import Arrays, Settings, StepKind
from skfeat.chain._kinds._onnx_graph import OnnxGraph

_READ_BY_CODE = "it is read with the sizes of its maps, by code of skfeat.adapters"

# Numbers of the patches of one block of rows: few enough for the cache.
_BLOCK_ELEMENTS = 2**21

_WINDOW = {
    "channels": 1.0,
    "height": 1.0,
    "width": 1.0,
    "kernel_height": 1.0,
    "kernel_width": 1.0,
    "stride_height": 1.0,
    "stride_width": 1.0,
    "dilation_height": 1.0,
    "dilation_width": 1.0,
    "top": 0.0,
    "bottom": 0.0,
    "left": 0.0,
    "right": 0.0,
}


class Window(NamedTuple):
    """What a convolution or a pooling reads along each axis, the height first."""

    channels: int
    size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    before: tuple[int, int]
    after: tuple[int, int]

    @classmethod
    def of(cls, settings: Settings) -> Window:
        """Read the settings of a step."""

        def both(prefix: str) -> tuple[int, int]:
            return int(settings[f"{prefix}height"]), int(settings[f"{prefix}width"])

        return cls(
            int(settings["channels"]),
            both(""),
            both("kernel_"),
            both("stride_"),
            both("dilation_"),
            (int(settings["top"]), int(settings["left"])),
            (int(settings["bottom"]), int(settings["right"])),
        )

    def settings(self, **others: float) -> dict[str, float]:
        """Return the settings of a step, with those that only some kinds have."""
        values = (
            self.channels,
            *self.size,
            *self.kernel,
            *self.stride,
            *self.dilation,
            *(self.before[0], self.after[0], self.before[1], self.after[1]),
        )
        return {**dict(zip(_WINDOW, values, strict=True)), **others}

    @property
    def out_size(self) -> tuple[int, int]:
        """Sizes of the maps that are given."""
        axes = zip(
            self.size,
            self.kernel,
            self.stride,
            self.dilation,
            self.before,
            self.after,
            strict=True,
        )
        height, width = (
            (size + before + after - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, dilation, before, after in axes
        )
        return height, width

    def maps(self, x: Any) -> Any:
        """Give rows of values, numpy's or torch's, the shape of maps."""
        return x.reshape(len(x), self.channels, *self.size)

    def places(self) -> Iterator[tuple[slice, slice]]:
        """Yield what each place of the kernel reads of a padded map."""
        out = self.out_size
        for i in range(self.kernel[0]):
            for j in range(self.kernel[1]):
                starts = i * self.dilation[0], j * self.dilation[1]
                yield tuple(  # type: ignore[misc]
                    slice(start, start + (n - 1) * step + 1, step)
                    for start, n, step in zip(starts, out, self.stride, strict=True)
                )

    def patches(self, x: np.ndarray, fill: float) -> np.ndarray:
        """Return what each place reads: (n, channels, n_places, n_positions)."""
        maps = self.maps(x)
        if any((*self.before, *self.after)):
            around = [(0, 0), (0, 0), *zip(self.before, self.after, strict=True)]
            maps = np.pad(maps, around, constant_values=fill)
        height, width = self.out_size
        n_places = self.kernel[0] * self.kernel[1]
        found = np.empty((len(x), self.channels, n_places, height, width), x.dtype)
        for place, (rows, columns) in enumerate(self.places()):
            found[:, :, place] = maps[:, :, rows, columns]
        return found.reshape(len(x), self.channels, n_places, height * width)

    def scatter(self, parts: np.ndarray) -> np.ndarray:
        """Add what belongs to each place, as `patches` has it, up to rows of maps."""
        height, width = (
            size + before + after
            for size, before, after in zip(
                self.size, self.before, self.after, strict=True
            )
        )
        n = len(parts)
        padded = np.zeros((n, self.channels, height, width), parts.dtype)
        parts = parts.reshape(*parts.shape[:3], *self.out_size)
        for place, (rows, columns) in enumerate(self.places()):
            padded[:, :, rows, columns] += parts[:, :, place]
        (top, left), (own_height, own_width) = self.before, self.size
        inner = padded[:, :, top : top + own_height, left : left + own_width]
        return inner.reshape(n, -1)

    def padded(self, F: Any, maps: Any, fill: float) -> Any:
        """Pad maps of torch."""
        (top, left), (bottom, right) = self.before, self.after
        if not any((top, left, bottom, right)):
            return maps
        return F.pad(maps, (left, right, top, bottom), value=fill)

    def counts(self, counts_padding: bool) -> np.ndarray:
        """Return how many numbers each mean of a pooling is over."""
        n_places = self.kernel[0] * self.kernel[1]
        if counts_padding:
            return np.full(int(np.prod(self.out_size)), float(n_places))
        one = self._replace(channels=1)
        ones = np.ones((1, int(np.prod(self.size))))
        return one.patches(ones, 0.0)[0, 0].sum(axis=0)


def window_width(settings: Settings) -> int:
    """Return the width of the rows that a step on maps takes."""
    window = Window.of(settings)
    return window.channels * window.size[0] * window.size[1]


def _width_of_pooled(n: int, arrays: Arrays, settings: Settings) -> int:
    window = Window.of(settings)
    return window.channels * window.out_size[0] * window.out_size[1]


def _width_of_convolved(n: int, arrays: Arrays, settings: Settings) -> int:
    height, width = Window.of(settings).out_size
    return len(arrays["intercept"]) * height * width


def _find_problem(settings: Settings, label: str) -> str:
    if not all(type(value) is int for value in settings.values()):
        return f"{label} must have ints as its settings."
    window = Window.of(settings)
    if min(window.out_size) < 1:
        return f"{label} has a kernel that does not fit into its maps."
    if window.channels % settings.get("groups", 1):
        return f"{label} must have as many channels in each group."
    return ""


def _convolve(x: np.ndarray, arrays: Arrays, settings: Settings) -> np.ndarray:
    window, groups = Window.of(settings), int(settings["groups"])
    coef, intercept = arrays["coef"], arrays["intercept"]
    coef = coef.reshape(groups, len(coef) // groups, -1)
    n_positions = int(np.prod(window.out_size))
    block = max(1, _BLOCK_ELEMENTS // (coef.shape[2] * groups * n_positions))
    out = np.empty((len(x), groups, coef.shape[1], n_positions), x.dtype)
    for start in range(0, len(x), block):
        rows = slice(start, start + block)
        patches = window.patches(x[rows], 0.0)
        patches = patches.reshape(len(patches), groups, -1, n_positions)
        np.matmul(coef, patches, out=out[rows])
    out = out.reshape(len(x), -1, n_positions)
    out += intercept[:, None]
    return out.reshape(len(x), -1)


def _vjp_of_convolution(grad, before, after, arrays, settings):
    window, groups = Window.of(settings), int(settings["groups"])
    coef, intercept = arrays["coef"], arrays["intercept"]
    n = len(grad)
    grad = grad.reshape(n, groups, len(coef) // groups, -1)
    own = grad.reshape(n, len(coef), -1).sum(axis=2) @ intercept
    coef = coef.reshape(groups, len(coef) // groups, -1)
    parts = np.matmul(coef.transpose(0, 2, 1), grad)
    return window.scatter(parts.reshape(n, window.channels, -1, grad.shape[3])), own


def _convolve_torch(F: Any, x: Any, arrays: Arrays, settings: Settings) -> Any:
    window, groups = Window.of(settings), int(settings["groups"])
    coef = arrays["coef"].reshape(
        len(arrays["coef"]), window.channels // groups, *window.kernel
    )
    maps = window.padded(F, window.maps(x), 0.0)
    return F.conv2d(
        maps, coef, arrays["intercept"], window.stride, 0, window.dilation, groups
    ).flatten(1)


def _convolve_onnx(graph: OnnxGraph, arrays: Arrays, settings: Settings) -> None:
    window, groups = Window.of(settings), int(settings["groups"])
    coef = arrays["coef"].reshape(
        len(arrays["coef"]), window.channels // groups, *window.kernel
    )
    names = graph.constant("coef", coef), graph.constant("b", arrays["intercept"])
    with_maps(graph, window, "Conv", *names, group=groups)


def with_maps(
    graph: OnnxGraph, window: Window, operator: str, *names: str, **attributes: Any
) -> None:
    """Add an operator on maps to a graph of rows."""
    shape = np.array([-1, window.channels, *window.size], dtype=np.int64)
    graph.add("Reshape", graph.constant("maps", shape))
    if operator != "AveragePool":
        attributes["dilations"] = window.dilation
    graph.add(
        operator,
        *names,
        kernel_shape=window.kernel,
        strides=window.stride,
        pads=(*window.before, *window.after),
        **attributes,
    )
    graph.add("Flatten", axis=1)


def _max_pool(x: np.ndarray, arrays: Arrays, settings: Settings) -> np.ndarray:
    window = Window.of(settings)
    maps = window.maps(x)
    if any((*window.before, *window.after)):
        around = [(0, 0), (0, 0), *zip(window.before, window.after, strict=True)]
        maps = np.pad(maps, around, constant_values=-np.inf)
    places = list(window.places())
    found = maps[:, :, *places[0]].copy()
    for place in places[1:]:
        np.maximum(found, maps[:, :, *place], out=found)
    return found.reshape(len(x), -1)


def _vjp_of_max_pool(grad, before, after, arrays, settings):
    window = Window.of(settings)
    largest = window.patches(before, -np.inf).argmax(axis=2)[:, :, None]
    place = np.arange(window.kernel[0] * window.kernel[1])[:, None]
    grad = grad.reshape(len(grad), window.channels, 1, -1)
    return window.scatter(np.where(place == largest, grad, grad.dtype.type(0))), 0.0


def _max_pool_torch(F: Any, x: Any, arrays: Arrays, settings: Settings) -> Any:
    window = Window.of(settings)
    maps = window.padded(F, window.maps(x), -float("inf"))
    return F.max_pool2d(maps, window.kernel, window.stride, 0, window.dilation).flatten(
        1
    )


def _mean_pool(x: np.ndarray, arrays: Arrays, settings: Settings) -> np.ndarray:
    window = Window.of(settings)
    sums = window.patches(x, 0.0).sum(axis=2)
    sums /= window.counts(bool(settings["counts_padding"])).astype(x.dtype)
    return sums.reshape(len(x), -1)


def _vjp_of_mean_pool(grad, before, after, arrays, settings):
    window = Window.of(settings)
    counts = window.counts(bool(settings["counts_padding"])).astype(grad.dtype)
    shares = grad.reshape(len(grad), window.channels, 1, -1) / counts
    n_places = window.kernel[0] * window.kernel[1]
    return window.scatter(np.repeat(shares, n_places, axis=2)), 0.0


def _mean_pool_torch(F: Any, x: Any, arrays: Arrays, settings: Settings) -> Any:
    window = Window.of(settings)
    maps = window.padded(F, window.maps(x), 0.0)
    means = F.avg_pool2d(maps, window.kernel, window.stride)
    counts = window.counts(bool(settings["counts_padding"]))
    n_places = window.kernel[0] * window.kernel[1]
    times = (n_places / counts).reshape(window.out_size)
    return (means * means.new_tensor(times)).flatten(1)


MAPS = {
    "conv": StepKind(
        numpy=_convolve,
        torch=_convolve_torch,
        vjp=_vjp_of_convolution,
        onnx=_convolve_onnx,
        torch_forms=_READ_BY_CODE,
        role="layer",
        is_linear=True,
        arrays=("coef", "intercept"),
        settings=_WINDOW | {"groups": 1.0},
        find_problem=_find_problem,
        n_in=lambda a, s: window_width(s),
        n_out=_width_of_convolved,
        n_multiply_adds=lambda a, s: (
            a["coef"].size * int(np.prod(Window.of(s).out_size))
        ),
    ),
    "max_pool": StepKind(
        numpy=_max_pool,
        torch=_max_pool_torch,
        vjp=_vjp_of_max_pool,
        onnx=lambda graph, a, s: with_maps(graph, Window.of(s), "MaxPool"),
        torch_forms=_READ_BY_CODE,
        role="layer",
        settings=_WINDOW,
        find_problem=_find_problem,
        n_in=lambda a, s: window_width(s),
        n_out=_width_of_pooled,
    ),
    "mean_pool": StepKind(
        numpy=_mean_pool,
        torch=_mean_pool_torch,
        vjp=_vjp_of_mean_pool,
        onnx=lambda graph, a, s: with_maps(
            graph,
            Window.of(s),
            "AveragePool",
            count_include_pad=int(s["counts_padding"]),
        ),
        torch_forms=_READ_BY_CODE,
        role="layer",
        is_linear=True,
        settings=_WINDOW | {"counts_padding": 0.0},
        find_problem=_find_problem,
        n_in=lambda a, s: window_width(s),
        n_out=_width_of_pooled,
    ),
}
