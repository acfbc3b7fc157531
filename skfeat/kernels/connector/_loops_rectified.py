"""Compiled coordinate descent of the rectified connector, one output at a time.

As `skfeat.kernels._compile` says, every loop works on a range ``first`` to ``last``,
releases the GIL, and gives the same result however the range is divided.

The pre-activations u of an output are kept for all rows. A step of one weight touches
the rows in which its input is nonzero, and costs nothing elsewhere.
"""

from __future__ import annotations

import numpy as np

from skfeat.kernels._compile import compile_loop, magnitude
from skfeat.kernels.connector._loops_cholesky import factorise, substitute
from skfeat.kernels.selection._loops_row import keep_largest
from skfeat.kernels.simd._vectors import prefetch

# Sweeps over the active inputs before a jump, and before all inputs are looked at.
_SWEEPS = 10

# Rows that are read in any order are asked for so many ahead.
_AHEAD = 8

# A support larger than this is left to the sweeps: a jump costs its cube.
_LARGEST_JUMP = 256


@compile_loop
def move(delta, rows, x, y, wanted, weights, u):
    """Add ``delta * x`` to u at some rows; return by how much the loss grows."""
    grown = 0.0
    for t in range(rows.shape[0]):
        i = rows[t]
        before = u[i]
        after = before + delta * x[t]
        u[i] = after
        # The loss is (u on - y)^2 / 2, where on is 1 or 0: no branch to guess wrong.
        off = before * max(wanted[i], 1.0 if before > 0 else 0.0) - y[i]
        now = after * max(wanted[i], 1.0 if after > 0 else 0.0) - y[i]
        grown += weights[i] * (now - off) * (now + off)
    return grown / 2


@compile_loop
def step_weight(w, rows, x, y, wanted, weights, u, alpha, bound):
    """Take one step of a weight; return it, and by how much the objective falls.

    The step is exact while no row turns on or off. If that makes the objective grow,
    the step of a curvature that bounds the loss from above is taken instead.
    """
    slope, curvature = 0.0, 0.0
    for t in range(rows.shape[0]):
        i = rows[t]
        pull = weights[i] * x[t] * max(wanted[i], 1.0 if u[i] > 0 else 0.0)
        slope += pull * (u[i] - y[i])
        curvature += pull * x[t]
    if curvature <= 0:
        curvature = bound
    for _ in range(4):
        target = curvature * w - slope
        size = magnitude(target) - alpha
        new = np.sign(target) * size / curvature if size > 0 else 0.0
        delta = new - w
        if delta == 0:
            return w, 0.0
        grown = move(delta, rows, x, y, wanted, weights, u)
        grown += alpha * (magnitude(new) - magnitude(w))
        if grown <= 0:
            return new, -grown
        move(-delta, rows, x, y, wanted, weights, u)
        # At the bound already, only rounding can be in the way.
        curvature = bound if curvature < bound else 4 * curvature
    return w, 0.0


@compile_loop
def step_intercept(y, wanted, weights, u):
    """Take one step of the intercept; return it, and by how much the loss falls."""
    slope, curvature = 0.0, 0.0
    for i in range(u.shape[0]):
        pull = weights[i] * max(wanted[i], 1.0 if u[i] > 0 else 0.0)
        slope += pull * (u[i] - y[i])
        curvature += pull
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
def loss_of(y, wanted, weights, u):
    """Return the loss of all rows."""
    total = 0.0
    for i in range(u.shape[0]):
        error = u[i] * max(wanted[i], 1.0 if u[i] > 0 else 0.0) - y[i]
        total += weights[i] * error * error
    return total / 2


@compile_loop
def fill_newton(
    index, m, lists, pointer, row, value, y, wanted, weights, u, hessian, downhill
):
    """Write the Hessian and the negative gradient in m weights and the intercept.

    The rows that pull are those of `fill_gradient`; the lower triangle is written. An
    input meets in each row the ones before it, which the row has a list of.

    Parameters
    ----------
    lists : tuple of ndarrays
        Of shape (n,): the last entry of each row's list, -1 everywhere before and
        after. Of shapes (n_entries, 2) and (n_entries,): of each entry the one before
        it and the place of its input, and its value; both are written over.
    """
    head, links, held = lists
    hessian[: m + 1, : m + 1] = 0
    downhill[: m + 1] = 0
    n_links = 0
    for a in range(m):
        curvature, along, slope = 0.0, 0.0, 0.0
        for t in range(pointer[index[a]], pointer[index[a] + 1]):
            i = row[t]
            if u[i] > 0 or wanted[i] > 0:
                share = weights[i] * value[t]
                slope += share * (u[i] - y[i])
                along += share
                curvature += share * value[t]
                other = head[i]
                while other >= 0:
                    b = links[other, 1]
                    hessian[a, b] += share * held[other]
                    other = links[other, 0]
                links[n_links, 0], links[n_links, 1] = head[i], a
                held[n_links], head[i] = value[t], n_links
                n_links += 1
        hessian[a, a], hessian[m, a], downhill[a] = curvature, along, -slope
    for a in range(m):
        for t in range(pointer[index[a]], pointer[index[a] + 1]):
            head[row[t]] = -1
    total, slope = 0.0, 0.0
    for i in range(u.shape[0]):
        pull = weights[i] * max(wanted[i], 1.0 if u[i] > 0 else 0.0)
        total += pull
        slope += pull * (u[i] - y[i])
    hessian[m, m], downhill[m] = total, -slope


@compile_loop
def jump(
    w,
    intercept,
    fit_intercept,
    index,
    m,
    lists,
    pointer,
    row,
    value,
    y,
    wanted,
    weights,
    u,
    alpha,
    hessian,
    step,
):
    """Move to the optimum on the support, were no row to turn on or off.

    Of a penalised step no more is taken than up to the first weight that turns zero;
    a step that does not lower the objective is taken back. Returns the intercept and
    by how much the objective falls.
    """
    columns = pointer, row, value
    fill_newton(index, m, lists, *columns, y, wanted, weights, u, hessian, step)
    size = m + 1 if fit_intercept else m
    for a in range(size):
        # Inputs whose rows are all off have no say: a trace of ridge holds them still.
        hessian[a, a] *= 1 + 1e-10
        hessian[a, a] += 1e-300
        if a < m:
            step[a] -= alpha * np.sign(w[index[a]])
            if hessian[a, a] <= 1e-290:
                return intercept, 0.0
    if size == 0 or not factorise(hessian, size):
        return intercept, 0.0
    substitute(hessian, step, size)
    length, first_zero = 1.0, -1
    size_before, size_after = 0.0, 0.0
    for a in range(m):
        at = w[index[a]]
        size_before += magnitude(at)
        if alpha > 0 and step[a] * at < 0 and -at / step[a] < length:
            length, first_zero = -at / step[a], a
    before = loss_of(y, wanted, weights, u)
    for _ in range(3):
        shift = length * step[m] if fit_intercept else 0.0
        for i in range(u.shape[0]):
            u[i] += shift
        size_after = 0.0
        for a in range(m):
            j, delta = index[a], length * step[a]
            size_after += magnitude(w[j] + delta)
            for t in range(pointer[j], pointer[j + 1]):
                u[row[t]] += delta * value[t]
        fell = before - loss_of(y, wanted, weights, u)
        fell += alpha * (size_before - size_after)
        if fell > 0:
            for a in range(m):
                w[index[a]] += length * step[a]
            if first_zero >= 0:
                w[index[first_zero]] = 0.0
            return intercept + shift, fell
        for i in range(u.shape[0]):
            u[i] -= shift
        for a in range(m):
            j, delta = index[a], length * step[a]
            for t in range(pointer[j], pointer[j + 1]):
                u[row[t]] -= delta * value[t]
        length, first_zero = length / 4, -1
    return intercept, 0.0


@compile_loop
def fill_gradient(y, wanted, weights, u, start, indices, values, gradient, on):
    """Write the gradient in the weights; return that in the intercept.

    `on` has room for a number more than there are rows.
    """
    gradient[:] = 0
    total, n_on = 0.0, 0
    for i in range(u.shape[0]):
        # Written always, counted if it is one: no branch to guess wrong.
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
        pull = weights[i] * (u[i] - y[i])
        total += pull
        for s in range(start[i], start[i + 1]):
            gradient[np.uint64(indices[s])] += pull * values[s]
    return total


@compile_loop
def descend_rectified(
    first,
    last,
    pointer,
    row,
    value,
    start,
    indices,
    values,
    y_pointer,
    y_row,
    y_value,
    weights,
    bound,
    alpha,
    fit_intercept,
    convex,
    restricted,
    allowed,
    max_iter,
    coef,
    intercept,
    decrease,
    n_iter,
):
    """Minimise the objective of outputs `first` to `last`.

    Parameters
    ----------
    pointer, row, value : ndarrays
        The inputs by columns.
    start, indices, values : ndarrays
        The inputs by rows.
    y_pointer, y_row, y_value : ndarrays
        The targets by columns.
    weights : ndarray of shape (n,)
        Weights of the rows, with sum one.
    bound : ndarray of shape (p,)
        Weighted mean square of each input.
    alpha : ndarray of shape (q,)
    fit_intercept, convex : bool
        `convex` minimises the convex majorant of the loss.
    restricted : bool
        Only weights that are nonzero at the start may be so.
    allowed : ndarray of shape (q,)
        Decrease that one step of every weight promises below which to stop.
    max_iter : int
        Sweeps at most.
    coef, intercept : ndarrays of shapes (q, p) and (q,)
        The start, then the solution.
    decrease, n_iter : ndarrays of shape (q,)
        Written: the decrease promised in the end, and the sweeps made.
    """
    n, p = start.shape[0] - 1, coef.shape[1]
    u, y, gradient = np.empty(n), np.empty(n), np.empty(p)
    # Rows that pull even where they are off: those that the majorant wants on.
    wanted = np.empty(n)
    active, is_active = np.empty(p, np.int64), np.zeros(p, np.bool_)
    entering, surplus = np.empty(p, np.int64), np.empty(p)
    on, head = np.empty(n + 1, np.int32), np.full(n, -1, np.int32)
    links, held = np.empty((0, 2), np.int32), np.empty(0)
    hessian, newton = np.empty((32, 32)), np.empty(32)
    for o in range(first, last):
        penalty = alpha[o]
        y[:] = 0
        wanted[:] = 0
        for t in range(y_pointer[o], y_pointer[o + 1]):
            y[y_row[t]] = y_value[t]
            wanted[y_row[t]] = 1.0 if convex and y_value[t] > 0 else 0.0
        u[:] = intercept[o]
        n_active = 0
        for j in range(p):
            w = coef[o, j]
            if w != 0:
                active[n_active], is_active[j] = j, True
                n_active += 1
                for t in range(pointer[j], pointer[j + 1]):
                    u[row[t]] += w * value[t]
        # Where all rows are off the first weights say which are to be on, before the
        # intercept does.
        fresh = n_active == 0 and intercept[o] <= 0
        sweeps, gained_by_round = 0, np.inf
        while True:
            total = fill_gradient(
                y, wanted, weights, u, start, indices, values, gradient, on
            )
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
            if promised <= allowed[o] or sweeps >= max_iter:
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
                    delta, fell = step_intercept(y, wanted, weights, u)
                    intercept[o] += delta
                    gained += fell
                for a in range(n_active):
                    j = active[a]
                    part = slice(pointer[j], pointer[j + 1])
                    coef[o, j], fell = step_weight(
                        coef[o, j],
                        row[part],
                        value[part],
                        y,
                        wanted,
                        weights,
                        u,
                        penalty,
                        bound[j],
                    )
                    gained += fell
                sweeps += 1
                gained_by_round += gained
                if gained <= promised * 0.1 or sweeps >= max_iter:
                    break
            m, n_entries = 0, 0
            for a in range(n_active):
                j = active[a]
                if coef[o, j] != 0:
                    entering[m] = j
                    m += 1
                    n_entries += pointer[j + 1] - pointer[j]
            if m <= _LARGEST_JUMP:
                if n_entries > links.shape[0]:
                    room = 2 * n_entries
                    links, held = np.empty((room, 2), np.int32), np.empty(room)
                if m + 1 > hessian.shape[0]:
                    room = min(_LARGEST_JUMP + 1, 2 * (m + 1))
                    hessian, newton = np.empty((room, room)), np.empty(room)
                intercept[o], fell = jump(
                    coef[o],
                    intercept[o],
                    fit_intercept,
                    entering,
                    m,
                    (head, links, held),
                    pointer,
                    row,
                    value,
                    y,
                    wanted,
                    weights,
                    u,
                    penalty,
                    hessian,
                    newton,
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
        decrease[o], n_iter[o] = promised, max(1, sweeps)
        for a in range(n_active):
            is_active[active[a]] = False
