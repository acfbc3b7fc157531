"""Rows, often of a mapped file, and what functions make of them in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from skfeat.utils._rows import Batch, ComputedRows, row_blocks


@dataclass(frozen=True)
class Moments:
    """What units of columns are found from.

    Parameters
    ----------
    mean, square : ndarray of shape (d,)
        Mean, and mean squared deviation from it.
    low, high : ndarray of shape (d,)
        Least and largest value.
    """

    mean: np.ndarray
    square: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def deviation(self, mean: np.ndarray) -> np.ndarray:
        """Return how far values are from a mean (d,) at most."""
        return np.maximum(np.abs(self.high - mean), np.abs(mean - self.low))

    def unit(self, *, center: bool, rms: bool) -> tuple[np.ndarray, float]:
        """Return a mean or zeros, and the root mean square deviation from it or one."""
        mean = self.mean if center else np.zeros_like(self.mean)
        square = self.square + np.square(self.mean - mean)
        return mean, (float(np.sqrt(square.mean())) or 1.0) if rms else 1.0


class RunningMoments:
    """Moments of several tables, of as many of their rows as have been added.

    Blocks of rows are merged as Chan et al. do [1]_, which loses no digits.

    Parameters
    ----------
    n : int, default=0
        Rows that have been added.
    found : list of list of ndarray, optional
        Of each table: mean, sum of squared deviations, least and largest value.

    References
    ----------
    .. [1] T. Chan, G. Golub and R. LeVeque, "Algorithms for computing the sample
       variance: analysis and recommendations", The American Statistician, 1983.
    """

    def __init__(self, n: int = 0, found: list[list[np.ndarray]] | None = None):
        self.n, self.found = n, found or []

    def add(self, block: Sequence[np.ndarray]) -> None:
        """Add a block of rows of each table."""
        size, parts = len(block[0]), [_measured(rows) for rows in block]
        if not self.found:
            self.n, self.found = size, parts
            return
        share = size / (self.n + size)
        for own, (mean, square, low, high) in zip(self.found, parts, strict=True):
            step = mean - own[0]
            own[0] = own[0] + share * step
            own[1] = own[1] + square + np.square(step) * (self.n * share)
            own[2], own[3] = np.minimum(own[2], low), np.maximum(own[3], high)
        self.n += size

    def moments(self) -> list[Moments]:
        """Return the moments of each table."""
        return [
            Moments(mean, square / self.n, low, high)
            for mean, square, low, high in self.found
        ]


def _measured(rows: np.ndarray) -> list[np.ndarray]:
    rows = rows.astype(np.float64, copy=False)
    mean = rows.mean(axis=0)
    square = np.square(rows - mean).sum(axis=0)
    return [mean, square, rows.min(axis=0), rows.max(axis=0)]


class NotFiniteError(ValueError):
    """What a stage computes is not finite for every row."""

    @classmethod
    def of(cls, what: str) -> NotFiniteError:
        """Name what is not finite."""
        return cls(
            f"{what} are not finite for every row of X; X may be too large for the "
            "model."
        )


class Stage(NamedTuple):
    """One function of `Stages`.

    Attributes
    ----------
    function : callable
        Maps the rows (b, d) of the stage before to rows (b, width).
    width : int
    row_bytes : int
        Bytes that a row takes at most while it is computed.
    name : str
        What is computed, for messages.
    """

    function: Callable[[np.ndarray], np.ndarray]
    width: int
    row_bytes: int
    name: str


class Composed:
    """Functions, one after the other."""

    def __init__(self, functions: Sequence[Callable[[np.ndarray], np.ndarray]]):
        self.functions = functions

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Compute rows from those that the first function takes."""
        for function in self.functions:
            rows = function(rows)
        return rows


class StagesOfBatch:
    """What stages make of the rows of a batch, each computed once, when it is read.

    Parameters
    ----------
    first : ndarray of shape (b, d)
        What the first stage makes of the rows.
    stages : sequence of Stage
    """

    def __init__(self, first: np.ndarray, stages: Sequence[Stage]):
        self._done, self._stages = [first], stages

    def __getitem__(self, index: int) -> np.ndarray:
        while len(self._done) <= index:
            stage = self._stages[len(self._done)]
            self._done.append(stage.function(self._done[-1]))
        return self._done[index]


class Stages:
    """Rows and a sequence of functions of them.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Often mapped ones.
    stages : list of Stage
        The first takes rows of X.
    dtype : np.dtype
        Of what is computed.
    key : str, default=""
        Digest of all functions.
    """

    def __init__(
        self, X: np.ndarray, stages: Sequence[Stage], dtype: np.dtype, key: str = ""
    ):
        self.X, self.stages, self.dtype, self.key = X, stages, np.dtype(dtype), key
        self.moments: list[Moments] | None = None

    @property
    def row_bytes(self) -> int:
        """Bytes that one row takes at most, in all stages."""
        return max(self.X[:1].nbytes, *(stage.row_bytes for stage in self.stages))

    def measure(
        self,
        running: RunningMoments | None = None,
        after_block: Callable[[RunningMoments], None] | None = None,
    ) -> None:
        """Find the moments of all stages, in one pass over the file.

        Parameters
        ----------
        running : RunningMoments, optional
            Of the rows that have been read before.
        after_block : callable, optional
            Called with the moments so far after each block of rows.

        Raises
        ------
        NotFiniteError
            If something that is computed is not finite.
        """
        running = RunningMoments() if running is None else running
        n_at_once = max(1, 2**24 // self.row_bytes)
        with np.errstate(over="ignore", invalid="ignore"):
            for _, rows in row_blocks(self.X[running.n :], n_at_once):
                computed = StagesOfBatch(self.stages[0].function(rows), self.stages)
                running.add([computed[index] for index in range(len(self.stages))])
                if after_block is not None:
                    after_block(running)
        self.moments = running.moments()
        self.check_moments()

    def check_moments(self) -> None:
        """Raise ValueError for moments that are not finite, or not those of stages."""
        assert self.moments is not None
        for stage, moments in zip(self.stages, self.moments, strict=True):
            if moments.mean.shape != (stage.width,):
                raise ValueError("its moments are not those of such a network")
            if not np.isfinite([moments.low, moments.high]).all():
                raise NotFiniteError.of(stage.name)

    def rows(self, index: int) -> ComputedRows:
        """Return what a stage computes of all rows, none of which is held."""
        functions = [stage.function for stage in self.stages[: index + 1]]
        return ComputedRows(
            self.X,
            Composed(functions),
            self.stages[index].width,
            self.dtype,
            key=f"{self.key} {index}",
            row_bytes=self.row_bytes,
            moments=None if self.moments is None else self.moments[index],
        )

    def of_batch(self, batch: Batch) -> StagesOfBatch:
        """Return what the stages make of the rows of a batch.

        Rows are mixed after the first stage, where they are inputs of the network.
        """
        return StagesOfBatch(batch.rows(self.stages[0].function), self.stages)
