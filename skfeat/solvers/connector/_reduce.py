"""What a connector need not be fitted to: copies of inputs, outputs that never vary.

The weights of exact copies of an input can be shared among them in any way, at the same
penalty and the same error. All on the first copy is one of the optima, and the only
kind that wastes no budget. An output that is constant is its intercept, exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse

from skfeat.solvers.connector._fit_parts import Fit, FitOptions, Rows
from skfeat.solvers.connector._path import Solution

# Rows that columns are first compared on, and how many more the next time: most are
# told apart by a few.
_FIRST_ROWS, _MORE_ROWS, _MOST_ROWS = 256, 4, 4096


@dataclass(frozen=True)
class Reduction:
    """A smaller problem, and the way back to the weights of the whole.

    Parameters
    ----------
    rows : Rows
        Without copies of inputs and without outputs that are left out.
    first : ndarray of int, shape (p,)
        Of each input the position, in the smaller problem, of the first copy.
    inputs : ndarray of int
        The inputs that the smaller problem has.
    outputs : ndarray of int
        The outputs that it has.
    constants : ndarray of shape (q,)
        Intercepts of the others.
    """

    rows: Rows
    first: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray
    constants: np.ndarray

    @classmethod
    def of(
        cls, rows: Rows, *, fit_intercept: bool, random_start: bool = False
    ) -> Reduction:
        """Find copies and constants among rows of positive weight.

        Parameters
        ----------
        rows : Rows
        fit_intercept : bool
            Without an intercept only an output of zeros needs no weights.
        random_start : bool, default=False
            Of the solver's weights. Those of outputs that are zero stay at a start of
            zero; from another one they have to be left out.
        """
        first, inputs = _first_copies(rows)
        constant, values = _constant_outputs(rows)
        drop = constant & (random_start & (values == 0) | fit_intercept & (values != 0))
        outputs = np.flatnonzero(~drop)
        if len(inputs) < len(first):
            rows = replace(rows, X=rows.X[:, inputs])
        if drop.any():
            rows = replace(rows, Y=rows.Y[:, outputs])
        return cls(rows, first, inputs, outputs, np.where(drop, values, 0.0))

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left out."""
        return self._same_inputs and len(self.outputs) == len(self.constants)

    @property
    def _same_inputs(self) -> bool:
        return len(self.inputs) == len(self.first)

    def options(self, options: FitOptions) -> FitOptions:
        """Return the options of the smaller problem."""
        budget = options.budget
        if isinstance(budget, np.ndarray):
            budget = np.minimum(budget[self.outputs], len(self.inputs))
        elif budget is not None:
            budget = min(budget, len(self.inputs) * len(self.outputs))
        return replace(options, budget=budget)

    def start(self, start: Solution | None) -> Solution | None:
        """Return the start of the smaller problem; copies add up their weights."""
        if start is None or self.is_whole:
            return start
        coef = start.coef[self.outputs]
        if not self._same_inputs:
            joined = np.zeros((len(coef), len(self.inputs)))
            np.add.at(joined.T, self.first, coef.T)
            coef = joined
        return start._replace(coef=coef, intercept=start.intercept[self.outputs])

    def weights(self, coef: Any, intercept: np.ndarray) -> tuple[Any, np.ndarray]:
        """Return the weights of all outputs and inputs, dense or sparse as given."""
        if self.is_whole:
            return coef, intercept
        shape = len(self.constants), len(self.first)
        whole = self.constants.copy()
        whole[self.outputs] = intercept
        if sparse.issparse(coef):
            entries = coef.tocoo()
            places = self.outputs[entries.row], self.inputs[entries.col]
            return sparse.csr_array((entries.data, places), shape=shape), whole
        matrix = np.zeros(shape)
        matrix[np.ix_(self.outputs, self.inputs)] = coef
        return matrix, whole

    def whole(self, fit: Fit) -> Fit:
        """Return a fit of the smaller problem as one of the whole."""
        if self.is_whole:
            return fit
        coef, intercept = self.weights(fit.coef, fit.intercept)
        # What a trainer keeps has the shape of the smaller problem.
        return replace(fit, coef=coef, intercept=intercept, state=None)

    def solution(self, solution: Solution) -> Solution:
        """Return a solution of the smaller problem as one of the whole."""
        coef, intercept = self.weights(solution.coef, solution.intercept)
        return solution._replace(coef=coef, intercept=intercept)

    @property
    def is_solved(self) -> bool:
        """Whether no output is left that needs a fit."""
        return not len(self.outputs)

    def nothing(self, options: FitOptions) -> Fit:
        """Return the fit of no outputs."""
        empty = np.zeros((0, len(self.inputs)))
        return Fit(empty, np.zeros(0), options.alpha, 0, 0.0)


def _first_copies(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Return of each column of X the position of its first copy, and the firsts.

    Columns of zeros, as of dead features, count as different: they get no weights.
    """
    p = rows.X.shape[1]
    zero = np.ones(p, dtype=bool)
    group = np.zeros(p, dtype=np.intp)  # by the first column of each
    undecided = np.arange(p)
    for block in _blocks(rows):
        columns = _columns(rows.X, block, undecided)
        zero[undecided] &= ~columns.any(axis=1)
        seen: dict[tuple[int, bytes], int] = {}
        for j, column in zip(undecided.tolist(), columns, strict=True):
            group[j] = seen.setdefault((group[j], column.tobytes()), j)
        sizes = np.bincount(group[undecided], minlength=p)
        undecided = undecided[sizes[group[undecided]] > 1]
        if not len(undecided):
            break
    alone = zero | ~np.isin(np.arange(p), undecided)
    group[alone] = np.flatnonzero(alone)
    inputs, first = np.unique(group, return_inverse=True)
    return first, inputs


def _constant_outputs(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Tell which columns of Y do not vary, and return the values in its first row."""
    first = np.flatnonzero(rows.sample_weight)[:1]
    values = _columns(rows.Y, first, np.arange(rows.Y.shape[1]))[:, 0]
    constant = np.ones(len(values), dtype=bool)
    for block in _blocks(rows):
        left = np.flatnonzero(constant)
        if not len(left):
            break
        columns = _columns(rows.Y, block, left)
        constant[left] = (columns == values[left, None]).all(axis=1)
    return constant, values.astype(np.float64)


def _blocks(rows: Rows) -> Iterator[np.ndarray]:
    """Yield which rows of positive weight to look at, ever more of them at a time."""
    start, size = 0, _FIRST_ROWS
    while start < len(rows.sample_weight):
        yield start + np.flatnonzero(rows.sample_weight[start : start + size])
        start, size = start + size, min(size * _MORE_ROWS, _MOST_ROWS)


def _columns(array: Any, block: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return some columns of some rows, column by column."""
    if not sparse.issparse(array):
        return np.ascontiguousarray(array[np.ix_(block, columns)].T)
    # A run of rows is sliced, which is faster.
    is_run = len(block) and block[-1] - block[0] == len(block) - 1
    part = array[block[0] : block[-1] + 1] if is_run else array[block]
    part = part if len(columns) == array.shape[1] else part[:, columns]
    return np.ascontiguousarray(part.toarray().T)
