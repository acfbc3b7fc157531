"""Patches of maps as rows, of which a convolution is a linear map."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from scipy import sparse

from skfeat.utils._checks import check_int


class Patches:
    """The positions that a convolution or a pooling reads, for each that it gives.

    A convolution is a linear map of patches, the same at every position. Features of
    the maps before it, patch by patch, are therefore rows like any others: a
    :class:`skfeat.FeatureConnector` fitted to them is a sparse convolution.

    Rows of a map are its positions, counted row by row, sample after sample, as
    :func:`skfeat.capture.capture` gives them; columns of a patch are the features at
    its first place, then at its second, and so on.

    Parameters
    ----------
    map_shape : int or tuple of int
        Sizes of the maps that are read, such as (height, width) or (time,).
    kernel_size : int or tuple of int
        Sizes of a patch; an int is for every axis.
    stride : int or tuple of int, default=1
        Steps between neighbouring patches.
    padding : int or tuple of int, default=0
        Zeros before the first and after the last position of each axis.
    dilation : int or tuple of int, default=1
        Steps between neighbouring places of a patch.

    Attributes
    ----------
    out_shape : tuple of int
        Sizes of the maps that are given: one patch for each position.
    n_places : int
        Places of a patch.
    source : ndarray of int, shape (n_positions_out, n_places)
        The position that each place of each patch reads, -1 where it is padding.

    Raises
    ------
    ValueError
        If a parameter is not valid, or no patch fits into the map.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat import FeatureConnector
    >>> from skfeat.maps import Patches
    >>> rng = np.random.default_rng(0)
    >>> F1 = rng.random((50, 8, 8, 4)) * (rng.random((50, 8, 8, 4)) < 0.2)
    >>> F1 = F1.reshape(-1, 4)  # 50 maps of 8 x 8 positions, with four features each
    >>> patches = Patches((8, 8), 3, padding=1)
    >>> X = patches.rows(F1)
    >>> X.shape
    (3200, 36)
    >>> F2 = 2 * X[:, [0]] + X[:, [35]]  # the first above, left; the last below, right
    >>> connector = FeatureConnector(link="identity", n_nonzero_coefs=2).fit(X, F2)
    >>> connector.formula(0, feature_names=patches.names(["a", "b", "c", "d"]))
    'F2_0 = 2.00*a[-1,-1] + 1.00*d[+1,+1]'
    >>> patches.kernels(connector.coef_).shape
    (1, 4, 3, 3)
    """

    def __init__(
        self,
        map_shape: int | Sequence[int],
        kernel_size: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
    ):
        has_axes = isinstance(map_shape, list | tuple | np.ndarray)
        n_axes = len(map_shape) if has_axes else 1  # type: ignore[arg-type]
        self.map_shape = _sizes("map_shape", map_shape, n_axes, 1)
        self.kernel_size = _sizes("kernel_size", kernel_size, n_axes, 1)
        self.stride = _sizes("stride", stride, n_axes, 1)
        self.padding = _sizes("padding", padding, n_axes, 0)
        self.dilation = _sizes("dilation", dilation, n_axes, 1)
        axes = [
            _reads(*of_axis)
            for of_axis in zip(
                self.map_shape,
                self.kernel_size,
                self.stride,
                self.padding,
                self.dilation,
                strict=True,
            )
        ]
        if any(len(reads) == 0 for reads in axes):
            raise ValueError(
                f"kernel_size={self.kernel_size} with dilation={self.dilation} must "
                f"fit into map_shape={self.map_shape} with padding={self.padding}."
            )
        self.out_shape = tuple(len(reads) for reads in axes)
        self.n_places = int(np.prod(self.kernel_size))
        self._n_positions = int(np.prod(self.map_shape))
        self.source = self._source(axes)

    def __repr__(self) -> str:
        return f"Patches({self.map_shape} to {self.out_shape}, of {self.kernel_size})"

    def _source(self, axes: list[np.ndarray]) -> np.ndarray:
        """Combine what each axis reads, of shape (n_out, kernel), into positions."""
        n_axes = len(axes)
        position = np.zeros((1,) * (2 * n_axes), dtype=np.int64)
        inside = np.ones_like(position, dtype=bool)
        for axis, (reads, size) in enumerate(zip(axes, self.map_shape, strict=True)):
            shape = [1] * (2 * n_axes)
            shape[axis], shape[n_axes + axis] = reads.shape
            reads = reads.reshape(shape)
            position = position * size + reads
            inside = inside & (reads >= 0) & (reads < size)
        return np.where(inside, position, -1).reshape(-1, self.n_places)

    def rows(
        self, codes: Any, sample: Any = None, position: Any = None
    ) -> np.ndarray | sparse.csr_array:
        """Return the patches of maps as rows.

        Parameters
        ----------
        codes : array-like or sparse matrix of shape (n_samples * n_positions, m)
            A row for every position of every map, sample after sample.
        sample, position : array-like of int, shape (n,), default=None
            The patches to return, by their sample and their position in `out_shape`,
            such as the `sequence` and the `position` of a capture that has drawn some.
            ``None`` returns all, sample after sample.

        Returns
        -------
        ndarray or csr_array of shape (n, n_places * m)
            Sparse if `codes` is. Padding is zero.

        Raises
        ------
        ValueError
            If `codes` does not have a row for each position, or there is no such
            patch.
        """
        codes, n_samples = self._checked(codes)
        n_positions, n_out = self._n_positions, len(self.source)
        if (sample is None) != (position is None):
            raise ValueError("sample and position must be given both, or neither.")
        if sample is None:
            sample = np.repeat(np.arange(n_samples), n_out)
            position = np.tile(np.arange(n_out), n_samples)
        sample = _indices("sample", sample, n_samples)
        position = _indices("position", position, n_out)
        if len(sample) != len(position):
            raise ValueError(
                f"position must have {len(sample)} entries, as sample has. Got "
                f"{len(position)} instead."
            )
        reads = self.source[position]
        reads = np.where(reads >= 0, reads + sample[:, None] * n_positions, -1)
        if not sparse.issparse(codes):
            found = codes[reads]
            found[reads < 0] = 0
            return found.reshape(len(reads), -1)
        # The row of padding is one more, without entries.
        empty = sparse.csr_array((1, codes.shape[1]), dtype=codes.dtype)
        padded = sparse.csr_array(sparse.vstack([codes, empty]))
        return sparse.csr_array(
            sparse.hstack([padded[of_place] for of_place in reads.T])
        )

    def convolve(self, codes: Any, coef: Any, intercept: Any = 0.0) -> np.ndarray:
        """Apply weights over patches at every position, without writing patches out.

        Parameters
        ----------
        codes : array-like or sparse matrix of shape (n_samples * n_positions, m)
            A row for every position of every map, sample after sample.
        coef : array-like or sparse matrix of shape (n_out, n_places * m)
            Such as the `coef_` of a connector that was fitted to patches.
        intercept : array-like of shape (n_out,), default=0

        Returns
        -------
        ndarray of shape (n_samples * n_positions_out, n_out)
            Before any link: of ``link="relu"`` take ``numpy.maximum(..., 0)``.

        Raises
        ------
        ValueError
            If `codes` or `coef` has another shape.
        """
        codes, n_samples = self._checked(codes)
        weights = sparse.csr_array(coef)
        m = codes.shape[1]
        self._check_columns(weights.shape[1], m)
        n_positions, n_out = self._n_positions, len(self.source)
        dtype = np.result_type(codes.dtype, weights.dtype)
        found = np.empty((n_samples, n_out, weights.shape[0]), dtype)
        found[:] = intercept
        for place, reads in enumerate(self.source.T):
            part = weights[:, place * m : (place + 1) * m]
            if not part.nnz:
                continue
            values = codes @ part.T
            values = values.toarray() if sparse.issparse(values) else values
            values = values.reshape(n_samples, n_positions, -1)
            inside = np.flatnonzero(reads >= 0)
            found[:, inside] += values[:, reads[inside]]
        return found.reshape(n_samples * n_out, -1)

    def kernels(self, coef: Any) -> np.ndarray:
        """Return weights over patches as torch's convolutions have them.

        Parameters
        ----------
        coef : array-like or sparse matrix of shape (n_out, n_places * m)

        Returns
        -------
        kernels : ndarray
            Of shape (n_out, m) and the sizes of the kernel.

        Raises
        ------
        ValueError
            If the columns are not those of patches.
        """
        dense = coef.toarray() if sparse.issparse(coef) else np.asarray(coef)
        if dense.ndim != 2 or dense.shape[1] % self.n_places:
            raise ValueError(
                f"coef must have a column for each feature at each of {self.n_places} "
                f"places. Got the shape {dense.shape} instead."
            )
        places = dense.reshape(len(dense), *self.kernel_size, -1)
        return np.moveaxis(places, -1, 1)

    def names(self, feature_names: Sequence[str]) -> list[str]:
        """Return the names of the columns of patches: feature and place.

        Parameters
        ----------
        feature_names : sequence of str
            Names of the features at a position.

        Returns
        -------
        list of str
            Such as ``"F1_3[+1,-1]"``: one below and one left of the middle of the patch
            (of the place after it, where there is none).
        """
        axes = [
            [f"{(place - size // 2) * step:+d}" for place in range(size)]
            for size, step in zip(self.kernel_size, self.dilation, strict=True)
        ]
        places = [",".join(place).replace("+0", "0") for place in product(*axes)]
        return [f"{name}[{place}]" for place in places for name in feature_names]

    def _checked(self, codes: Any) -> tuple[Any, int]:
        """Return rows of whole maps, and how many maps these are."""
        is_sparse = sparse.issparse(codes)
        codes = sparse.csr_array(codes) if is_sparse else np.asarray(codes)
        n_positions = self._n_positions
        if codes.ndim != 2 or codes.shape[0] % n_positions:
            raise ValueError(
                f"codes must have {n_positions} rows for each map of {self.map_shape}. "
                f"Got the shape {codes.shape} instead."
            )
        return codes, codes.shape[0] // n_positions

    def _check_columns(self, n_columns: int, m: int) -> None:
        if n_columns != self.n_places * m:
            raise ValueError(
                f"coef must have {self.n_places} * {m} columns. Got {n_columns} "
                "instead."
            )


def _sizes(name: str, value: Any, n_axes: int, least: int) -> tuple[int, ...]:
    """Return a size for each axis."""
    sizes = [value] * n_axes
    if isinstance(value, list | tuple | np.ndarray):
        sizes = list(value)
    if len(sizes) != n_axes or n_axes == 0:
        raise ValueError(
            f"{name} must be an int or have one for each axis of map_shape. Got "
            f"{value!r} instead."
        )
    return tuple(check_int(name, size, least=least) for size in sizes)


def _reads(size: int, kernel: int, stride: int, padding: int, dilation: int) -> Any:
    """Return what patches read along one axis, (n_out, kernel), padding outside."""
    n_out = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    first = np.arange(max(n_out, 0)) * stride - padding
    return first[:, None] + np.arange(kernel) * dilation


def _indices(name: str, value: Any, n: int) -> np.ndarray:
    array = np.asarray(value)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be a vector of ints. Got {value!r} instead.")
    if array.size and (array.min() < 0 or array.max() >= n):
        raise ValueError(
            f"{name} must be from 0 to {n - 1}. Got {array.min()} to {array.max()} "
            "instead."
        )
    return array.astype(np.int64)
