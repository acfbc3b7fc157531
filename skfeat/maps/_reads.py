"""Which positions of the maps before it a layer reads, found from the steps between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import gcd
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from skfeat.chain import Step
from skfeat.chain._kinds import Window
from skfeat.chain._shapes import MapShape
from skfeat.maps._patches import Patches


@dataclass(frozen=True, eq=False)
class Reads:
    """How a connector reads the features of a layer: patch by patch, or on average.

    Parameters
    ----------
    patches : Patches
        Over the positions of the layer before, which are one if it is no map.
    is_mean : bool, default=False
        Whether features are averaged over all positions before they are read.
    """

    patches: Patches
    is_mean: bool = False

    @property
    def n_places(self) -> int:
        """Weights that an output may have for each feature."""
        return self.patches.n_places

    @property
    def n_positions_in(self) -> int:
        """Positions of the layer that is read."""
        return int(np.prod(self.patches.map_shape))

    @property
    def n_positions_out(self) -> int:
        """Positions of the layer that is computed."""
        return len(self.patches.source)

    def rows(
        self, codes: Any, sample: np.ndarray | None = None, position: Any = None
    ) -> Any:
        """Return what the connector reads as rows; as `Patches.rows`."""
        if not self.is_mean:
            return self.patches.rows(codes, sample, position)
        codes = np.asarray(codes)
        means = codes.reshape(-1, self.n_positions_in, codes.shape[1]).mean(axis=1)
        return means if sample is None else means[sample]

    def unroll(self, coef: Any) -> sparse.csr_array:
        """Write shared weights out for each position.

        Parameters
        ----------
        coef : array-like or sparse matrix of shape (q, n_places * m)

        Returns
        -------
        csr_array of shape (n_positions_out * q, n_positions_in * m)
            Rows and columns count the features of the first position, then those of
            the second, and so on.
        """
        weights = sparse.coo_array(coef)
        q, n_columns = weights.shape
        if self.is_mean:
            n = self.n_positions_in
            tiled = sparse.hstack([sparse.csr_array(weights) / n] * n, format="csr")
            return sparse.csr_array(tiled).astype(weights.dtype, copy=False)
        m = n_columns // self.n_places
        place, feature = np.divmod(weights.col.astype(np.int64), m)
        source = self.patches.source
        reads = source[:, place]  # (n_positions_out, nnz)
        inside = reads >= 0
        position = np.broadcast_to(np.arange(len(source))[:, None], reads.shape)
        rows = (position * q + weights.row)[inside]
        columns = (reads * m + feature)[inside]
        data = np.broadcast_to(weights.data, reads.shape)[inside]
        shape = len(source) * q, self.n_positions_in * m
        return sparse.csr_array((data, (rows, columns)), shape=shape)

    def names(self, feature_names: Sequence[str]) -> list[str]:
        """Return the names of the columns of a connector."""
        if self.is_mean:
            return [f"mean {name}" for name in feature_names]
        if self.n_places == 1:
            return list(feature_names)
        return self.patches.names(feature_names)

    def settings(self) -> dict[str, Any]:
        """Return what `from_settings` makes it of again, as plain lists."""
        patches = self.patches
        sizes = ("map_shape", "kernel_size", "stride", "padding", "dilation")
        found = {name: list(getattr(patches, name)) for name in sizes}
        return found | {"is_mean": self.is_mean}

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> Reads:
        """Undo `settings`."""
        sizes = dict(settings)
        is_mean, map_shape = bool(sizes.pop("is_mean")), sizes.pop("map_shape")
        return cls(Patches(map_shape, **sizes), is_mean)


def reads_of_rows() -> Reads:
    """Return how rows are read, which are maps of one position."""
    return Reads(Patches((1, 1), 1))


def positions_of(values: np.ndarray, n_positions: int) -> np.ndarray:
    """Return maps, channel by channel, as a row for each position of each sample."""
    if n_positions == 1:
        return values
    maps = values.reshape(len(values), -1, n_positions)
    return np.ascontiguousarray(maps.transpose(0, 2, 1)).reshape(-1, maps.shape[1])


class _Field(NamedTuple):
    """What one position reads along an axis: offsets from ``stride * position``."""

    offsets: np.ndarray
    stride: int
    size: int


def reads_between(
    steps: Sequence[Step], before: MapShape | None, after: MapShape | None
) -> Reads:
    """Find which positions of one layer the steps to another read.

    Parameters
    ----------
    steps : sequence of Step
        From the one layer to the other.
    before, after : MapShape or None
        The shapes of both; None of rows.

    Raises
    ------
    TypeError
        If positions read others in a way that no convolution does.
    """
    if before is None:
        if after is not None:
            raise _unlike_a_convolution("a layer of rows leads to maps")
        return reads_of_rows()
    size = before.height, before.width
    first = next((step for step in steps if step.kind not in _ELEMENTWISE), None)
    if first is not None and first.kind == "mean_pool":
        window = Window.of(first.settings)
        if window.out_size == (1, 1) and window.kernel == size:
            return Reads(Patches(size, 1, stride=size), is_mean=True)
    if after is None:
        return Reads(Patches(size, size))
    itself = np.zeros(1, np.int64)
    fields = _through(steps, tuple(_Field(itself, 1, own) for own in size))
    sizes = [_as_patches(field, own) for field, own in zip(fields, size, strict=True)]
    kernel, stride, padding, dilation = zip(*sizes, strict=True)
    patches = Patches(size, kernel, stride=stride, padding=padding, dilation=dilation)
    if patches.out_shape != (after.height, after.width):
        raise _unlike_a_convolution(
            f"maps of {size} lead to maps of {(after.height, after.width)}"
        )
    return Reads(patches)


def field_of(network: Any, layer: int) -> list[tuple[int, int, int]]:
    """Return what a position of a layer reads of the inputs, along both axes.

    Parameters
    ----------
    network : SparseMapNetwork
    layer : int

    Returns
    -------
    list of (int, int, int)
        First and last offset, from ``stride * position``, and the stride; the first
        and last position of the inputs where the layer reads all of them.
    """
    sizes = (
        network.input_shape[1:]
        if len(network.input_shape) == 3
        else (
            1,
            network.input_shape[1],
        )
    )
    if network.reads_in is None:
        itself = np.zeros(1, np.int64)
        start = tuple(_Field(itself, 1, int(size)) for size in sizes)
        found = [
            (int(field.offsets[0]), int(field.offsets[-1]), field.stride)
            for field in _through(network.front.steps, start)
        ]
        steps = network.reads[:layer]
    else:
        found = [(0, 0, 1), (0, 0, 1)]
        steps = [network.reads_in, *network.reads[:layer]]
    for reads in steps:
        patches = reads.patches
        if reads.is_mean or patches.kernel_size == patches.map_shape != (1, 1):
            return [(0, int(size) - 1, 1) for size in sizes]
        found = [
            (
                low - stride * padding,
                high + stride * (dilation * (kernel - 1) - padding),
                stride * step,
            )
            for (low, high, stride), kernel, step, padding, dilation in zip(
                found,
                patches.kernel_size,
                patches.stride,
                patches.padding,
                patches.dilation,
                strict=True,
            )
        ]
    return found


# What a single step of these reads is the position itself.
_ELEMENTWISE = ("relu", "identity", "scale")
_JOINED_ALIKE = ("add", "multiply", "concatenate")


def _through(steps: Sequence[Step], fields: tuple[_Field, ...]) -> tuple[_Field, ...]:
    for step in steps:
        if step.kind in ("conv", "max_pool", "mean_pool"):
            window = Window.of(step.settings)
            fields = tuple(
                _Field(
                    np.unique(
                        field.offsets[:, None]
                        + field.stride * (np.arange(kernel) * dilation - begin)[None, :]
                    ),
                    field.stride * stride,
                    size,
                )
                for field, kernel, stride, dilation, begin, size in zip(
                    fields,
                    window.kernel,
                    window.stride,
                    window.dilation,
                    window.before,
                    window.out_size,
                    strict=True,
                )
            )
        elif step.kind in _JOINED_ALIKE:
            found = [_through(branch, fields) for branch in step.branches]
            fields = tuple(map(_joined, zip(*found, strict=True)))
        elif step.kind in ("affine", "mean", "softmax", "log_softmax"):
            raise _unlike_a_convolution(f"a {step.kind} step lies between two maps")
    return fields


def _joined(fields: Sequence[_Field]) -> _Field:
    if len({(field.stride, field.size) for field in fields}) > 1:
        raise _unlike_a_convolution("branches of different strides meet")
    offsets = np.unique(np.concatenate([field.offsets for field in fields]))
    return fields[0]._replace(offsets=offsets)


def _as_patches(field: _Field, size: int) -> tuple[int, int, int, int]:
    """Return kernel, stride, padding and dilation that read what a field does."""
    offsets = field.offsets
    if field.size == 1:
        offsets = offsets[(offsets >= 0) & (offsets < size)]
    low, high = min(int(offsets[0]), 0), int(offsets[-1])
    steps = np.diff(np.append(offsets, low if low < offsets[0] else offsets[-1:]))
    dilation = reduce(gcd, map(abs, steps.tolist()), 0) or 1
    stride = 1 if field.size == 1 else field.stride
    # Where there is more padding at one end the patch is wider there: of it, Patches
    # has as much at both.
    padding = -low
    while True:
        kernel = -(-(high + padding) // dilation) + 1
        n_out = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        if n_out == field.size:
            return kernel, stride, padding, dilation
        if n_out < field.size:
            padding += dilation
        else:
            high += dilation
        if max(padding, high) > 2 * size + offsets[-1] - low:
            raise _unlike_a_convolution("padding differs between the ends")


def _unlike_a_convolution(why: str) -> TypeError:
    return TypeError(
        f"FeatureUnwrapper cannot connect two layers as a convolution, as {why}; name "
        "the layers to unwrap by layers=, or unwrap the part after a module by start=."
    )
