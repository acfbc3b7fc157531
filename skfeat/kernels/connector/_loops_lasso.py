"""Compiled loops of the linear connector: descent on second moments.

By the rules of `skfeat.kernels._compile`, every loop works on a range, releases the
GIL, and gives the same result however the range is divided.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skfeat.kernels._compile import compile_loop, integers_below, magnitude
from skfeat.kernels.connector._loops_cholesky import factorise, substitute
from skfeat.kernels.selection._loops_row import keep_largest

# Inner sweeps over the active inputs, after how many of them Newton steps go to the
# optimum on the support, since sweeps settle slowly where inputs are correlated, and
# how many steps at most.
_SWEEPS, _STEP_EVERY, _STEPS = 200, 5, 10

# A support larger than this is left to the sweeps: a Newton step costs its cube.
_LARGEST_STEP = 512

# Inputs that enter the active set at a time, at least.
_ENTER = 16


@compile_loop
def fill_gram_row(j, out, columns, rows):
    """Write row j of the Gram matrix from the sparse rows."""
    pointer, row, mean = columns.pointer, columns.row, columns.mean
    start, indices, values = rows.start, rows.indices, rows.values
    for k in range(out.shape[0]):
        out[k] = -mean[j] * mean[k]
    for t in range(pointer[j], pointer[j + 1]):
        i, value = row[t], columns.value[t]
        for s in range(start[i], start[i + 1]):
            out[indices[s]] += value * values[s]


@compile_loop
def newton_step(gram, residual, weights, n, alpha, buffers):
    """Move towards the optimum on the support, cut where the first weight turns zero.

    `residual` is the gradient's negative, kept up to date. Returns whether the optimum
    on the support was reached.
    """
    factor, step, index = buffers.factor, buffers.step, buffers.support
    for _ in range(_STEPS):
        m = 0
        for s in range(n):
            if weights[s] != 0:
                index[m] = s
                m += 1
        if m == 0 or m > _LARGEST_STEP:
            return m == 0
        trace = 0.0
        for a in range(m):
            trace += gram[index[a], index[a]]
        for a in range(m):
            s = index[a]
            for b in range(a + 1):
                factor[a, b] = gram[s, index[b]]
            # Along directions without data the penalty alone decides.
            factor[a, a] += 1e-12 * trace / m
            step[a] = residual[s] - alpha * np.sign(weights[s])
        if not factorise(factor, m):
            return False
        substitute(factor, step, m)
        length, first_zero = 1.0, -1
        for a in range(m):
            w = weights[index[a]]
            if step[a] * w < 0 and -w / step[a] < length:
                length, first_zero = -w / step[a], a
        # A nearly singular system may have pointed anywhere.
        gain, curvature = 0.0, 0.0
        for a in range(m):
            s = index[a]
            gain += step[a] * (residual[s] - alpha * np.sign(weights[s]))
            for b in range(m):
                curvature += step[a] * gram[s, index[b]] * step[b]
        if not gain > length * curvature / 2:
            return False
        for a in range(m):
            s = index[a]
            change = length * step[a]
            if a == first_zero:
                change = -weights[s]
            weights[s] += change
            for t in range(n):
                residual[t] -= change * gram[s, t]
        if first_zero >= 0:
            weights[index[first_zero]] = 0.0
        else:
            return True
    return False


@compile_loop
def descend_active(gram, residual, weights, n, alpha, allowed, buffers):
    """Coordinate descent over the active inputs until it moves no more.

    `allowed` is the decrease of a sweep below which there is no more to gain.
    """
    for sweep in range(_SWEEPS):
        decrease = 0.0
        for s in range(n):
            curvature = gram[s, s]
            if curvature <= 0:
                # A constant input explains nothing.
                weights[s] = 0.0
                continue
            target = residual[s] + curvature * weights[s]
            size = magnitude(target) - alpha
            shrunk = np.sign(target) * size / curvature if size > 0 else 0.0
            change = shrunk - weights[s]
            if change != 0:
                weights[s] = shrunk
                decrease += change * change * curvature / 2
                for t in range(n):
                    residual[t] -= change * gram[s, t]
        settled = decrease <= allowed
        if (settled or sweep % _STEP_EVERY == _STEP_EVERY - 1) and newton_step(
            gram, residual, weights, n, alpha, buffers
        ):
            settled = True
            for s in range(n):
                if weights[s] == 0 and magnitude(residual[s]) > alpha * (1 + 1e-12):
                    settled = False
        if settled:
            return


@compile_loop
def widen(matrix, n, shape):
    """Return a larger matrix with the first n rows, as wide as they are, of this."""
    wider = np.empty(shape)
    wider[:n, : matrix.shape[1]] = matrix[:n]
    return wider


@compile_loop
def subtract_rows(residual, weights, n, table, at):
    """Subtract n rows of a table, each times its weight, from the residual."""
    for s in range(n):
        if weights[s] != 0:
            w, row = weights[s], table[at[s]]
            for j in range(len(residual)):
                residual[j] -= w * row[j]


@compile_loop
def duality_gap(residual, yx, yy, weights, active, n, penalty):
    """Return by how much the objective may exceed its optimum, at most."""
    fitted, explained, size = 0.0, 0.0, 0.0
    for s in range(n):
        fitted += weights[s] * yx[active[s]]
        explained += weights[s] * residual[active[s]]
        size += magnitude(weights[s])
    largest = 0.0
    for j in range(len(residual)):
        largest = max(largest, magnitude(residual[j]))
    error = max(yy - fitted - explained, 0.0)
    scale = penalty / largest if largest > penalty else 1.0
    primal = error / 2 + penalty * size
    return primal - scale * (yy - fitted) + scale * scale * error / 2


@compile_loop
def find_violators(residual, place, penalty, most, violators, surplus):
    """Write the inactive inputs whose gradient exceeds the penalty; return how many.

    If they are more than `most`, the worst of them.
    """
    n = 0
    for j in range(len(residual)):
        if place[j] < 0 and magnitude(residual[j]) > penalty:
            violators[n] = j
            surplus[n] = magnitude(residual[j])
            n += 1
    return keep_largest(violators, surplus, n, most)


class NewtonBuffers(NamedTuple):
    """Buffers of Newton steps on a support.

    Attributes
    ----------
    factor : ndarray of shape (n, n)
        For as many inputs as may be active.
    step : ndarray of shape (p,)
    support : ndarray of int64, shape (p,)
    """

    factor: np.ndarray
    step: np.ndarray
    support: np.ndarray


@compile_loop
def solve_lasso(first, last, moments, alphas, allowed, max_iter, solutions):
    """Solve outputs `first` to `last` of the L1 regression on second moments.

    Only *active* inputs are descended on: those with a weight and those whose
    gradient exceeds the penalty. Their rows of the Gram matrix are made when they
    become active, if it is not stored; all others are checked once a round. An
    output is solved for all penalties while its Gram rows are in the cache.

    Parameters
    ----------
    moments : LassoMoments
    alphas : ndarray of shape (n_alphas,)
        Penalties; each solution starts the next.
    allowed : ndarray of shape (q,)
        Largest duality gap of each output.
    max_iter : int
        Rounds at most, of each solution.
    solutions : LassoSolutions
        Written.
    """
    yx, yy, xx = moments.yx, moments.yy, moments.xx
    coef, gap, n_iter = solutions.coef, solutions.gap, solutions.n_iter
    p = yx.shape[1]
    stored = xx.shape[0] > 0
    width = min(p, 32)
    # The Gram row of an active input is that of its number, or of its place.
    table = xx if stored else np.empty((width, p))
    gram, factor = np.empty((width, width)), np.empty((width, width))
    active, place = np.empty(p, np.int64), np.full(p, -1, np.int64)
    at = active if stored else integers_below(p)
    index, step = np.empty(p, np.int64), np.empty(p)
    weights, of_active, residual = np.empty(p), np.empty(p), np.empty(p)
    wanted, surplus = np.empty(p, np.int64), np.empty(p)
    for o in range(first, last):
        n, n_wanted = 0, 0
        residual[:] = yx[o]
        for j in range(p):
            if coef[0, o, j] != 0:
                wanted[n_wanted] = j
                n_wanted += 1
        for a in range(len(alphas)):
            penalty = alphas[a]
            for iteration in range(max_iter + 1):
                # The inputs listed in `wanted` become active.
                if n + n_wanted > width:
                    width = min(p, max(2 * width, n + n_wanted))
                    if not stored:
                        table = widen(table, n, (width, p))
                    gram = widen(gram, n, (width, width))
                    factor = np.empty((width, width))
                for t in range(n_wanted):
                    j = wanted[t]
                    active[n], place[j] = j, n
                    weights[n] = coef[0, o, j] if a == 0 else 0.0
                    if not stored:
                        fill_gram_row(j, table[n], moments.columns, moments.rows)
                    for s in range(n + 1):
                        gram[n, s] = gram[s, n] = table[at[n], active[s]]
                    n += 1
                if iteration > 0:
                    for s in range(n):
                        of_active[s] = residual[active[s]]
                    enough = 1e-3 * allowed[o]
                    buffers = NewtonBuffers(factor, step, index)
                    descend_active(
                        gram, of_active, weights, n, penalty, enough, buffers
                    )
                if n and (iteration > 0 or a == 0):
                    # Computed anew: sums of many updates drift.
                    residual[:] = yx[o]
                    subtract_rows(residual, weights, n, table, at)
                gap[a, o] = duality_gap(
                    residual, yx[o], yy[o], weights, active, n, penalty
                )
                n_iter[a, o] = max(1, iteration)
                n_wanted = 0
                # One descent at least: a small gap still leaves weights free to move
                # where the objective is flat.
                if gap[a, o] <= allowed[o] and (iteration > 0 or n == 0):
                    break
                most = max(_ENTER, n)
                n_wanted = find_violators(
                    residual, place, penalty, most, wanted, surplus
                )
            n_wanted = 0
            for j in range(p):
                coef[a, o, j] = 0.0
            for s in range(n):
                coef[a, o, active[s]] = weights[s]
        for s in range(n):
            place[active[s]] = -1
