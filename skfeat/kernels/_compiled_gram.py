"""Compiled loops of the linear connector: second moments, and descent on them.

As `skfeat.kernels._compile` says, every loop works on a range ``first`` to ``last``,
releases the GIL, and gives the same result however the range is divided.
"""

from __future__ import annotations

import numpy as np

from skfeat.kernels._compile import compile_loop
from skfeat.kernels._vectors import prefetch

# Inner sweeps over the active inputs, and after how many of them an output jumps to
# the optimum on its support: sweeps settle slowly where inputs are correlated.
_SWEEPS, _JUMP_EVERY, _JUMPS = 200, 5, 10

# Rows that are read in any order are asked for so many ahead.
_AHEAD = 2

# A support larger than this is left to the sweeps: a jump costs its cube.
_LARGEST_JUMP = 512


@compile_loop
def count_nonzero(first, last, rows, count):
    """Count the nonzero numbers of each row."""
    for i in range(first, last):
        n = 0
        for j in range(rows.shape[1]):
            n += rows[i, j] != 0
        count[i] = n


@compile_loop
def compress(first, last, rows, start, indices, values):
    """Write the nonzero numbers of each row, those of row i from ``start[i]`` on."""
    for i in range(first, last):
        t = start[i]
        for j in range(rows.shape[1]):
            if rows[i, j] != 0:
                indices[t] = j
                values[t] = rows[i, j]
                t += 1


@compile_loop
def is_canonical(start, indices):
    """Tell whether the columns of each row increase."""
    for i in range(start.shape[0] - 1):
        for t in range(start[i] + 1, start[i + 1]):
            if indices[t] <= indices[t - 1]:
                return False
    return True


@compile_loop
def sum_columns(rows, weight, count, total, squares):
    """Count each column's nonzero numbers; add up their weighted sum and squares.

    Parameters
    ----------
    rows : tuple (start, indices, values)
        A matrix by rows.
    weight : ndarray of shape (n,)
    count, total, squares : ndarrays of shape (p,)
        Added to.
    """
    start, indices, values = rows
    for i in range(weight.shape[0]):
        for t in range(start[i], start[i + 1]):
            # Unsigned: no index counts from the end.
            j, value = np.uint64(indices[t]), np.float64(values[t])
            count[j] += 1
            total[j] += weight[i] * value
            squares[j] += weight[i] * value * value


@compile_loop
def add_products(first, last, pointer, left, start, indices, right, total):
    """Add ``left^T right`` of two sparse matrices to rows `first` to `last` of `total`.

    Parameters
    ----------
    pointer : ndarray of shape (p + 1,)
        Entries of column j of the left matrix: ``pointer[j]`` to ``pointer[j + 1]``.
    left : ndarray of float64
        Value of each, times the weight of its row.
    start : ndarray of shape (n_entries, 2)
        Where the entries of its row begin and end in the right matrix.
    indices, right : ndarrays
        Columns and values of the right matrix, row by row.
    total : ndarray of shape (p, q)
    """
    for j in range(first, last):
        sums = total[j]
        for t in range(pointer[j], pointer[j + 1]):
            if t + _AHEAD < pointer[last]:
                for line in range(2):
                    later = start[t + _AHEAD, 0] + 16 * line
                    prefetch(indices, later)
                    prefetch(right, later)
            value = left[t]
            # Unsigned: no index counts from the end, which would be asked each time.
            for s in range(np.uint64(start[t, 0]), np.uint64(start[t, 1])):
                sums[np.uint64(indices[s])] += value * right[s]


@compile_loop
def add_products_of_rows(
    first, last, begin, end, weight, left, right, own, values, reads, total
):
    """Add ``left^T W right`` of rows `begin` to `end` to rows of `total`.

    Parameters
    ----------
    weight : ndarray of shape (n,)
    left, right : tuples (start, indices, values)
        Matrices by rows, the columns of each row in order.
    own : bool
        The right matrix is the left one, and the upper triangle of `total` is enough.
    values, reads : ndarrays of shapes (n_entries,) and (n_entries, 2)
        Written over: the rows' entries by column, see `left` and `start` of
        `add_products`.
    total : ndarray of shape (p, q)
    """
    row_start, columns, numbers = left
    right_start, right_columns, right_numbers = right
    # The entries of column j come to ``pointer[j - first]`` and on, at last.
    pointer, since = (
        np.zeros(last - first + 2, np.int64),
        np.empty(end - begin, np.int64),
    )
    for i in range(begin, end):
        t = row_start[i] + np.searchsorted(
            columns[row_start[i] : row_start[i + 1]], first
        )
        since[i - begin] = t
        pointer[0] += t - row_start[i]
        while t < row_start[i + 1] and columns[t] < last:
            pointer[columns[t] - first + 2] += 1
            t += 1
    pointer[1] = pointer[0]
    for j in range(2, last - first + 2):
        pointer[j] += pointer[j - 1]
    for i in range(begin, end):
        t = since[i - begin]
        while t < row_start[i + 1] and columns[t] < last:
            at = pointer[columns[t] - first + 1]
            pointer[columns[t] - first + 1] += 1
            values[at] = weight[i] * numbers[t]
            reads[at, 0] = t if own else right_start[i]
            reads[at, 1] = right_start[i + 1]
            t += 1
    part = total[first:last]
    entries = pointer, values, reads
    add_products(0, last - first, *entries, right_columns, right_numbers, part)


@compile_loop
def add_products_by_row(first, last, x, weight, y, xx, xy):
    """Add ``X^T W X`` and ``X^T W Y`` to rows `first` to `last` of `xx` and `xy`.

    Parameters
    ----------
    x, y : tuples (start, indices, values)
        Matrices by rows, the columns of each row in order.
    weight : ndarray of shape (n,)
    xx : ndarray of shape (p, p)
        Its upper triangle alone is added to.
    xy : ndarray of shape (p, q)
    """
    x_start, x_index, x_value = x
    y_start, y_index, y_value = y
    for i in range(weight.shape[0]):
        t, end = x_start[i], x_start[i + 1]
        while t < end and x_index[t] < first:
            t += 1
        while t < end and x_index[t] < last:
            value, sums = weight[i] * x_value[t], xx[x_index[t]]
            for s in range(t, end):
                sums[np.uint64(x_index[s])] += value * x_value[s]
            sums = xy[x_index[t]]
            for s in range(y_start[i], y_start[i + 1]):
                sums[np.uint64(y_index[s])] += value * y_value[s]
            t += 1


@compile_loop
def fill_gram_row(j, out, columns, rows):
    """Write row j of the Gram matrix from the sparse rows."""
    pointer, row, left, mean = columns
    start, indices, values = rows
    for k in range(out.shape[0]):
        out[k] = -mean[j] * mean[k]
    for t in range(pointer[j], pointer[j + 1]):
        i, value = row[t], left[t]
        for s in range(start[i], start[i + 1]):
            out[indices[s]] += value * values[s]


@compile_loop
def factorise(matrix, n):
    """Write the Cholesky factor of ``matrix[:n, :n]`` over it, or return False."""
    for i in range(n):
        for j in range(i + 1):
            value = matrix[i, j]
            for k in range(j):
                value -= matrix[i, k] * matrix[j, k]
            if i != j:
                matrix[i, j] = value / matrix[j, j]
            elif value <= 0:
                return False
            else:
                matrix[i, i] = np.sqrt(value)
    return True


@compile_loop
def substitute(factor, vector, n):
    """Solve ``L L^T x = vector`` in place, L the lower triangle of `factor`."""
    for i in range(n):
        value = vector[i]
        for k in range(i):
            value -= factor[i, k] * vector[k]
        vector[i] = value / factor[i, i]
    for i in range(n - 1, -1, -1):
        value = vector[i]
        for k in range(i + 1, n):
            value -= factor[k, i] * vector[k]
        vector[i] = value / factor[i, i]


@compile_loop
def jump(gram, pull, weights, n, alpha, factor, step, index):
    """Move towards the optimum on the support, cut where the first weight turns zero.

    `pull` is the gradient's negative, kept up to date. Returns whether the optimum on
    the support was reached.
    """
    for _ in range(_JUMPS):
        m = 0
        for s in range(n):
            if weights[s] != 0:
                index[m] = s
                m += 1
        if m == 0 or m > _LARGEST_JUMP:
            return m == 0
        trace = 0.0
        for a in range(m):
            trace += gram[index[a], index[a]]
        for a in range(m):
            s = index[a]
            for b in range(a + 1):
                factor[a, b] = gram[s, index[b]]
            # Along directions that the data does not see the penalty alone decides.
            factor[a, a] += 1e-12 * trace / m
            step[a] = pull[s] - alpha * np.sign(weights[s])
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
            gain += step[a] * (pull[s] - alpha * np.sign(weights[s]))
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
                pull[t] -= change * gram[s, t]
        if first_zero >= 0:
            weights[index[first_zero]] = 0.0
        else:
            return True
    return False


@compile_loop
def descend_active(gram, pull, weights, n, alpha, allowed, factor, step, index):
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
            target = pull[s] + curvature * weights[s]
            size = abs(target) - alpha
            shrunk = np.sign(target) * size / curvature if size > 0 else 0.0
            change = shrunk - weights[s]
            if change != 0:
                weights[s] = shrunk
                decrease += change * change * curvature / 2
                for t in range(n):
                    pull[t] -= change * gram[s, t]
        settled = decrease <= allowed
        if (settled or sweep % _JUMP_EVERY == _JUMP_EVERY - 1) and jump(
            gram, pull, weights, n, alpha, factor, step, index
        ):
            settled = True
            for s in range(n):
                if weights[s] == 0 and abs(pull[s]) > alpha * (1 + 1e-12):
                    settled = False
        if settled:
            return


@compile_loop
def solve_lasso(
    first, last, yx, yy, xx, columns, rows, alpha, allowed, max_iter, coef, gap, n_iter
):
    """Solve outputs `first` to `last` of the L1 regression on second moments.

    Only *active* inputs are descended on: those with a weight and those whose
    gradient exceeds the penalty. Their rows of the Gram matrix are made when they
    become active, if it is not stored; all others are looked at once a round.

    Parameters
    ----------
    yx : ndarray of shape (q, p)
    yy : ndarray of shape (q,)
    xx : ndarray of shape (p, p)
        Empty where Gram rows are to be made from `columns` and `rows`.
    columns, rows : tuples of ndarrays
        See `fill_gram_row`.
    alpha, allowed : ndarrays of shape (q,)
        Penalty and largest duality gap of each output.
    max_iter : int
        Rounds at most.
    coef : ndarray of shape (q, p)
        The start, then the weights.
    gap, n_iter : ndarrays of shape (q,)
        Written: duality gap and rounds.
    """
    p = yx.shape[1]
    stored = xx.shape[0] > 0
    room = min(p, 32)
    made = np.empty((0 if stored else room, p))
    gram, factor = np.empty((room, room)), np.empty((room, room))
    active, place = np.empty(p, np.int64), np.full(p, -1, np.int64)
    index, step = np.empty(p, np.int64), np.empty(p)
    weights, pull, residual = np.empty(p), np.empty(p), np.empty(p)
    above, surplus = np.empty(p, np.int64), np.empty(p)
    for o in range(first, last):
        penalty = alpha[o]
        n = 0
        wanted = 0
        for j in range(p):
            if coef[o, j] != 0:
                above[wanted] = j
                wanted += 1
        for iteration in range(max_iter + 1):
            # Take what is wanted into the active set.
            if n + wanted > room:
                room = min(p, max(2 * room, n + wanted))
                if not stored:
                    larger = np.empty((room, p))
                    larger[:n] = made[:n]
                    made = larger
                gram, factor = np.empty((room, room)), np.empty((room, room))
            for t in range(wanted):
                j = above[t]
                if not stored:
                    fill_gram_row(j, made[n], columns, rows)
                active[n], place[j], weights[n] = j, n, coef[o, j]
                n += 1
            for s in range(n):
                gram_row = xx[active[s]] if stored else made[s]
                for t in range(n):
                    gram[s, t] = gram_row[active[t]]
            if iteration > 0:
                for s in range(n):
                    pull[s] = residual[active[s]]
                enough = 1e-3 * allowed[o]
                descend_active(
                    gram, pull, weights, n, penalty, enough, factor, step, index
                )
            # The residual is computed anew: sums of many updates drift.
            residual[:] = yx[o]
            for s in range(n):
                if weights[s] != 0:
                    w, gram_row = weights[s], xx[active[s]] if stored else made[s]
                    for j in range(p):
                        residual[j] -= w * gram_row[j]
            fitted, explained, size = 0.0, 0.0, 0.0
            for s in range(n):
                fitted += weights[s] * yx[o, active[s]]
                explained += weights[s] * residual[active[s]]
                size += abs(weights[s])
            largest = 0.0
            for j in range(p):
                largest = max(largest, abs(residual[j]))
            error = max(yy[o] - fitted - explained, 0.0)
            scale = penalty / largest if largest > penalty else 1.0
            primal = error / 2 + penalty * size
            dual = scale * (yy[o] - fitted) - scale * scale * error / 2
            gap[o], n_iter[o] = primal - dual, max(1, iteration)
            # One descent at least: a small gap still leaves weights free to move
            # where the objective is flat.
            if gap[o] <= allowed[o] and (iteration > 0 or n == 0):
                break
            wanted = 0
            for j in range(p):
                if place[j] < 0 and abs(residual[j]) > penalty:
                    above[wanted] = j
                    surplus[wanted] = -abs(residual[j])
                    wanted += 1
            most = max(16, n)
            if wanted > most:
                order = np.argsort(surplus[:wanted], kind="mergesort")[:most]
                above[:most] = above[order]
                wanted = most
        for j in range(p):
            coef[o, j] = 0.0
        for s in range(n):
            coef[o, active[s]] = weights[s]
            place[active[s]] = -1
