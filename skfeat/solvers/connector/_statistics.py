"""Means and second moments of inputs and targets, from one pass over the rows."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse

from skfeat.kernels._threads import Team
from skfeat.solvers.connector._choose import sums_nonzeros
from skfeat.solvers.connector._gram import GramProblem
from skfeat.utils import _distributed as distributed

# Rows that are copied at a time.
_ROWS = 8192

# Rows of a matrix that are changed at a time, and rows and columns: fresh memory for
# as large a matrix would take longer than the sums.
_STRIP, _TILE = 64, 256

# What is left of the squares of a constant column, over its own, where means are
# subtracted from sums and not from numbers.
_CANCELLED = 1e-13


@dataclass
class GramStatistics:
    """Weighted means and centred second moments of inputs X and targets Y.

    Parameters
    ----------
    weight : float
        Sum of the sample weights.
    x_mean : ndarray of shape (p,)
    y_mean : ndarray of shape (q,)
    xx : ndarray of shape (p, p)
        Sums of products of deviations, not divided by `weight`.
    yx : ndarray of shape (q, p)
    yy : ndarray of shape (q,)
    """

    weight: float
    x_mean: np.ndarray
    y_mean: np.ndarray
    xx: np.ndarray
    yx: np.ndarray
    yy: np.ndarray

    @classmethod
    def zeros(cls, n_inputs: int, n_outputs: int) -> GramStatistics:
        """Statistics of no rows."""
        return cls(
            0.0,
            np.zeros(n_inputs),
            np.zeros(n_outputs),
            np.zeros((n_inputs, n_inputs)),
            np.zeros((n_outputs, n_inputs)),
            np.zeros(n_outputs),
        )

    def update(self, X, Y: np.ndarray, sample_weight: np.ndarray) -> GramStatistics:
        """Add rows, in blocks, accumulating in float64; sparse X stays sparse.

        The processes of a group each read a share of the rows.

        Raises
        ------
        ValueError
            If squares of X or Y overflow.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            if distributed.is_active():
                mine = distributed.run_of(X.shape[0])
                part = GramStatistics.zeros(self.xx.shape[0], self.yx.shape[0])
                part._add(X[mine], Y[mine], sample_weight[mine])
                part._sum_over_processes()
                if part.weight > 0:
                    self._merge(part)
            else:
                self._add(X, Y, sample_weight)
        # No product of two columns is larger than their squares.
        if not np.isfinite(np.concatenate([np.diag(self.xx), self.yy])).all():
            raise ValueError(
                "The second moments of X and y are non-finite; rescale them."
            )
        return self

    def _add(self, X, Y, sample_weight) -> None:
        if sums_nonzeros(X, Y):
            if sample_weight.any():
                self._merge(_sparse_moments(X, Y, sample_weight))
            return
        for rows in _blocks(X):
            weights = sample_weight[rows]
            if weights.any():
                self._merge(_dense_moments(X[rows], Y[rows], weights))

    def _sum_over_processes(self) -> None:
        """Become the statistics of the rows of all processes."""
        own_weight, own_x, own_y = self.weight, self.x_mean, self.y_mean
        weight = np.array([own_weight])
        x_mean, y_mean = own_weight * own_x, own_weight * own_y
        distributed.all_reduce(*map(torch.from_numpy, (weight, x_mean, y_mean)))
        self.weight = float(weight[0])
        if self.weight == 0:
            return
        self.x_mean, self.y_mean = x_mean / self.weight, y_mean / self.weight
        # Deviations from the common means.
        shift_x, shift_y = own_x - self.x_mean, own_y - self.y_mean
        _add_outer(self.xx, own_weight * shift_x, shift_x)
        _add_outer(self.yx, own_weight * shift_y, shift_x)
        self.yy += own_weight * np.square(shift_y)
        distributed.all_reduce(*map(torch.from_numpy, (self.xx, self.yx, self.yy)))

    def _merge(self, more: GramStatistics) -> None:
        """Add the statistics of other rows, which are used up."""
        if self.weight == 0:
            self.__dict__.update(vars(more))
            return
        weight = more.weight
        shift_x, shift_y = more.x_mean - self.x_mean, more.y_mean - self.y_mean
        total = self.weight + weight
        mixed = self.weight * weight / total
        self.xx += more.xx
        self.yx += more.yx
        _add_outer(self.xx, mixed * shift_x, shift_x)
        _add_outer(self.yx, mixed * shift_y, shift_x)
        self.yy += more.yy + mixed * np.square(shift_y)
        self.x_mean = self.x_mean + weight / total * shift_x
        self.y_mean = self.y_mean + weight / total * shift_y
        self.weight = total

    def problem(self, fit_intercept: bool, *, in_place: bool = False) -> GramProblem:
        """Return the regression problem, centred if there is an intercept.

        Parameters
        ----------
        fit_intercept : bool
        in_place : bool, default=False
            Whether the problem may take the statistics' memory, which are used up.
        """
        parts = self.xx, self.yx, self.yy
        outs = parts if in_place else (None, None, None)
        xx, yx, yy = (
            np.divide(part, self.weight, out=out)
            for part, out in zip(parts, outs, strict=True)
        )
        x_mean, y_mean = self.x_mean, self.y_mean
        if not fit_intercept:
            _add_outer(xx, x_mean, x_mean)
            _add_outer(yx, y_mean, x_mean)
            yy += np.square(y_mean)
            x_mean, y_mean = np.zeros_like(x_mean), np.zeros_like(y_mean)
        # What is left of a constant input are rounding errors of its mean.
        constant = np.diag(xx) <= 1e-26 * np.square(x_mean)
        _clear(constant, xx, yx)
        return GramProblem(xx, yx, yy, x_mean, y_mean)

    def copy(self) -> GramStatistics:
        """Return statistics that `update` can change without changing these."""
        return deepcopy(self)


def _blocks(X):
    """Yield slices of rows, few enough for copies in float64."""
    for start in range(0, X.shape[0], _ROWS):
        yield slice(start, start + _ROWS)


def _add_outer(matrix: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
    """Add the outer product of two vectors to a matrix."""
    for start in range(0, len(left), _STRIP):
        strip = slice(start, start + _STRIP)
        matrix[strip] += np.outer(left[strip], right)


def _mirror(matrix: np.ndarray) -> None:
    """Copy the upper triangle of a matrix to the lower one."""
    for start in range(0, len(matrix), _TILE):
        tile = slice(start, start + _TILE)
        corner = matrix[tile, tile]
        corner += np.triu(corner, 1).T
        for end in range(start + _TILE, len(matrix), _TILE):
            rest = slice(end, end + _TILE)
            matrix[rest, tile] = matrix[tile, rest].T


def _dense_moments(X, Y, w) -> GramStatistics:
    # Means first, then products of deviations: no cancellation of large offsets.
    weight = w.sum()
    Y = Y.toarray() if sparse.issparse(Y) else Y
    Y = Y.astype(np.float64, copy=False)
    y_mean = w @ Y / weight
    Y = Y - y_mean
    X = X.astype(np.float64, copy=False)
    x_mean = w @ X / weight
    if sparse.issparse(X):
        weighted = X.multiply(w[:, None]).tocsr()
        xx = (weighted.T @ X).toarray() - weight * np.outer(x_mean, x_mean)
        yx = weighted.T.dot(Y).T
        _clear_constants(xx, yx, weight, x_mean)
    else:
        X = X - x_mean
        weighted = X * w[:, None]
        xx = weighted.T @ X
        yx = Y.T @ weighted
    return GramStatistics(weight, x_mean, y_mean, xx, yx, w @ np.square(Y))


def _sparse_moments(X, Y, w) -> GramStatistics:
    from skfeat.kernels.connector._second_moments import add_products, compress

    # Of numbers that are mostly zero the mean is no larger than the spread, so
    # products of deviations are those of the numbers less those of the means.
    result = GramStatistics.zeros(X.shape[1], Y.shape[1])
    result.weight = weight = w.sum()
    whole = sparse.issparse(X) and sparse.issparse(Y)
    with Team() as team:
        for rows in [slice(None)] if whole else _blocks(X):
            x, y, shares = X, Y, w
            if not whole:
                x, y, shares = X[rows], Y[rows], w[rows]
            x, y = compress(x, team), compress(y, team)
            sums_x, sums_y = add_products(x, y, shares, result.xx, result.yx, team)
            result.x_mean += sums_x.total / weight
            result.y_mean += sums_y.total / weight
            result.yy += sums_y.squares
    _mirror(result.xx)
    _add_outer(result.xx, -weight * result.x_mean, result.x_mean)
    _add_outer(result.yx, -weight * result.y_mean, result.x_mean)
    result.yy -= weight * np.square(result.y_mean)
    _clear_constants(result.xx, result.yx, weight, result.x_mean)
    return result


def _clear_constants(xx, yx, weight, x_mean) -> None:
    """Set to zero what is left of constant inputs: rounding errors of their sums."""
    _clear(np.diag(xx) <= _CANCELLED * weight * np.square(x_mean), xx, yx)


def _clear(inputs: np.ndarray, xx, yx) -> None:
    """Set to zero the products of some inputs."""
    if inputs.any():
        xx[inputs], xx[:, inputs], yx[:, inputs] = 0.0, 0.0, 0.0
