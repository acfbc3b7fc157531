"""Compiled coordinate descent of the rectified connector, one output at a time.

By the rules of `skfeat.kernels._compile`, every loop works on a range, releases the
GIL, and gives the same result however the range is divided.

The pre-activations u of an output are kept for all rows. A step of one weight touches
the rows in which its input is nonzero, and costs nothing elsewhere.
"""

from __future__ import annotations

import numpy as np

from skfeat.kernels._compile import compile_loop, magnitude
from skfeat.kernels.connector._arrays import NewtonBuffers, OutputRows
from skfeat.kernels.connector._loops_newton import newton_step
from skfeat.kernels.selection._loops_row import keep_largest
from skfeat.kernels.simd._vectors import prefetch

# Sweeps over the active inputs before a Newton step, and before all inputs are
# checked.
_SWEEPS = 10

# Rows that are read in any order are prefetched so many ahead.
_AHEAD = 8

# A support larger than this is left to the sweeps: a Newton step costs its cube.
_LARGEST_STEP = 256


@compile_loop
def move(delta, rows, x, output):
    """Add ``delta * x`` to u at some rows; return by how much the loss grows."""
    y, wanted, weights, u = output.y, output.wanted, output.weights, output.u
    grown = 0.0
    for t in range(rows.shape[0]):
        i = rows[t]
        before = u[i]
        after = before + delta * x[t]
        u[i] = after
        # The loss is (u on - y)^2 / 2, where on is 1 or 0: no branch to mispredict.
        off = before * max(wanted[i], 1.0 if before > 0 else 0.0) - y[i]
        now = after * max(wanted[i], 1.0 if after > 0 else 0.0) - y[i]
        grown += weights[i] * (now - off) * (now + off)
    return grown / 2


@compile_loop
def step_weight(w, rows, x, output, alpha, bound):
    """Take one step of a weight; return it, and by how much the objective falls.

    The step is exact while no row turns on or off. If that makes the objective grow,
    the step of a curvature that bounds the loss from above is taken instead.
    """
    y, wanted, weights, u = output.y, output.wanted, output.weights, output.u
    slope, curvature = 0.0, 0.0
    for t in range(rows.shape[0]):
        i = rows[t]
        share = weights[i] * x[t] * max(wanted[i], 1.0 if u[i] > 0 else 0.0)
        slope += share * (u[i] - y[i])
        curvature += share * x[t]
    if curvature <= 0:
        curvature = bound
    for _ in range(4):
        target = curvature * w - slope
        size = magnitude(target) - alpha
        new = np.sign(target) * size / curvature if size > 0 else 0.0
        delta = new - w
        if delta == 0:
            return w, 0.0
        grown = move(delta, rows, x, output)
        grown += alpha * (magnitude(new) - magnitude(w))
        if grown <= 0:
            return new, -grown
        move(-delta, rows, x, output)
        # At the bound already, only rounding can be in the way.
        curvature = bound if curvature < bound else 4 * curvature
    return w, 0.0


@compile_loop
def step_intercept(output):
    """Take one step of the intercept; return it, and by how much the loss falls."""
    y, wanted, weights, u = output.y, output.wanted, output.weights, output.u
    slope, curvature = 0.0, 0.0
    for i in range(u.shape[0]):
        share = weights[i] * max(wanted[i], 1.0 if u[i] > 0 else 0.0)
        slope += share * (u[i] - y[i])
        curvature += share
    if curvature <= 0 or slope == 0:
        return 0.0, 0.0
    for _ in range(4):
        delta, grown = -slope / curvature, 0.0
        for i in range(u.shape[0]):
            before, after = u[i], u[i] + delta
            off = before * max(wanted[i], 1.0 if before > 0 else 0.0) - y[i]
            now = after * max(wanted[i], 1.0 if after > 0 else 0.0) - y[i]
            grown += weights[i] * (now - off) * (now + off)
        if grown <= 0:
            for i in range(u.shape[0]):
                u[i] += delta
            return delta, -grown / 2
        curvature = 1.0 if curvature < 1.0 else 4 * curvature
    return 0.0, 0.0


@compile_loop
def fill_gradient(output, data_rows, gradient, on):
    """Write the gradient in the weights; return that in the intercept.

    `on` holds a number more than there are rows.
    """
    y, wanted, weights, u = output.y, output.wanted, output.weights, output.u
    start, indices, values = data_rows.start, data_rows.indices, data_rows.values
    gradient[:] = 0
    total, n_on = 0.0, 0
    for i in range(u.shape[0]):
        # Written always, counted if it is one: no branch to mispredict.
        on[n_on] = i
        n_on += (u[i] > 0) | (wanted[i] > 0)
    for k in range(n_on):
        if k + _AHEAD < n_on:
            later = on[k + _AHEAD]
            for s in range(start[later], start[later + 1], 8):
                prefetch(values, s)
            for s in range(start[later], start[later + 1], 16):
                prefetch(indices, s)
        i = on[k]
        weighted_residual = weights[i] * (u[i] - y[i])
        total += weighted_residual
        for s in range(start[i], start[i + 1]):
            gradient[np.uint64(indices[s])] += weighted_residual * values[s]
    return total


@compile_loop
def descend_rectified(first, last, data, objective, solution):
    """Minimise the objective of outputs `first` to `last`.

    Parameters
    ----------
    data : RectifiedData
    objective : RectifiedObjective
    solution : RectifiedSolution
        The start; written over.
    """
    columns, targets, bound = data.columns, data.targets, data.bound
    pointer, row, value = columns.pointer, columns.row, columns.value
    coef, intercept = solution.coef, solution.intercept
    fit_intercept, restricted = objective.fit_intercept, objective.restricted
    max_iter = objective.max_iter
    n, p = data.rows.start.shape[0] - 1, coef.shape[1]
    u, y, gradient = np.empty(n), np.empty(n), np.empty(p)
    wanted = np.empty(n)
    output = OutputRows(y, wanted, data.weights, u)
    active, is_active = np.empty(p, np.int64), np.zeros(p, np.bool_)
    entering, surplus = np.empty(p, np.int64), np.empty(p)
    on, head = np.empty(n + 1, np.int32), np.full(n, -1, np.int32)
    links, held = np.empty((0, 2), np.int32), np.empty(0)
    hessian, step = np.empty((32, 32)), np.empty(32)
    for o in range(first, last):
        penalty = objective.alpha[o]
        y[:] = 0
        wanted[:] = 0
        for t in range(targets.pointer[o], targets.pointer[o + 1]):
            i, target = targets.row[t], targets.value[t]
            y[i] = target
            wanted[i] = 1.0 if objective.convex and target > 0 else 0.0
        u[:] = intercept[o]
        n_active = 0
        for j in range(p):
            w = coef[o, j]
            if w != 0:
                active[n_active], is_active[j] = j, True
                n_active += 1
                for t in range(pointer[j], pointer[j + 1]):
                    u[row[t]] += w * value[t]
        # Where all rows are off, the first weights turn some on before the intercept
        # moves.
        fresh = n_active == 0 and intercept[o] <= 0
        sweeps, gained_by_round = 0, np.inf
        while True:
            total = fill_gradient(output, data.rows, gradient, on)
            promised = total * total / 2 if fit_intercept else 0.0
            n_entering = 0
            for j in range(p):
                w = coef[o, j]
                if bound[j] <= 0 or (restricted and not is_active[j]):
                    continue
                if w != 0:
                    violation = magnitude(gradient[j] + penalty * np.sign(w))
                else:
                    violation = max(magnitude(gradient[j]) - penalty, 0.0)
                gain = violation * violation / (2 * bound[j])
                promised += gain
                if gain > 0 and not is_active[j]:
                    entering[n_entering] = j
                    surplus[n_entering] = gain
                    n_entering += 1
            # Where rounding stops the steps, what they promise no longer counts.
            promised = min(promised, gained_by_round)
            if promised <= objective.allowed[o] or sweeps >= max_iter:
                break
            gained_by_round = 0.0
            most = max(16, n_active)
            n_entering = keep_largest(entering, surplus, n_entering, most)
            for t in range(n_entering):
                active[n_active], is_active[entering[t]] = entering[t], True
                n_active += 1
            for sweep in range(_SWEEPS):
                gained = 0.0
                waits = fresh and sweeps == 0 and n_active > 0
                if fit_intercept and sweep % 2 == 0 and not waits:
                    delta, fell = step_intercept(output)
                    intercept[o] += delta
                    gained += fell
                for a in range(n_active):
                    j = active[a]
                    part = slice(pointer[j], pointer[j + 1])
                    coef[o, j], fell = step_weight(
                        coef[o, j],
                        row[part],
                        value[part],
                        output,
                        penalty,
                        bound[j],
                    )
                    gained += fell
                sweeps += 1
                gained_by_round += gained
                if gained <= promised * 0.1 or sweeps >= max_iter:
                    break
            m, n_nonzeros = 0, 0
            for a in range(n_active):
                j = active[a]
                if coef[o, j] != 0:
                    entering[m] = j
                    m += 1
                    n_nonzeros += pointer[j + 1] - pointer[j]
            if m <= _LARGEST_STEP:
                if n_nonzeros > links.shape[0]:
                    size = 2 * n_nonzeros
                    links, held = np.empty((size, 2), np.int32), np.empty(size)
                if m + 1 > hessian.shape[0]:
                    size = min(_LARGEST_STEP + 1, 2 * (m + 1))
                    hessian, step = np.empty((size, size)), np.empty(size)
                intercept[o], fell = newton_step(
                    coef[o],
                    intercept[o],
                    fit_intercept,
                    entering,
                    m,
                    columns,
                    output,
                    penalty,
                    NewtonBuffers(head, links, held, hessian, step),
                )
                gained_by_round += fell
            # Inputs whose weights have come back to zero are no longer swept over.
            kept = 0
            for a in range(n_active):
                j = active[a]
                if coef[o, j] != 0 or restricted:
                    active[kept] = j
                    kept += 1
                else:
                    is_active[j] = False
            n_active = kept
        solution.decrease[o] = promised
        solution.n_iter[o] = max(1, sweeps)
        for a in range(n_active):
            is_active[active[a]] = False
