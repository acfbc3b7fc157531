"""Compiled Newton steps of the rectified connector, on the support of one output."""

from __future__ import annotations

import numpy as np

from skfeat.kernels._compile import compile_loop, magnitude
from skfeat.kernels.connector._loops_cholesky import factorise, substitute


@compile_loop
def loss_of(output):
    """Return the loss of all rows."""
    y, wanted, weights, u = output.y, output.wanted, output.weights, output.u
    total = 0.0
    for i in range(u.shape[0]):
        error = u[i] * max(wanted[i], 1.0 if u[i] > 0 else 0.0) - y[i]
        total += weights[i] * error * error
    return total / 2


@compile_loop
def fill_newton(index, m, columns, output, buffers):
    """Write the Hessian and the negative gradient in m weights and the intercept.

    Rows count as in `fill_gradient`; the lower triangle is written. An input meets in
    each row the ones before it, which the row has a list of.
    """
    y, wanted, weights, u = output.y, output.wanted, output.weights, output.u
    pointer, row, value = columns.pointer, columns.row, columns.value
    head, links, held = buffers.head, buffers.links, buffers.held
    hessian, downhill = buffers.hessian, buffers.step
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
        share = weights[i] * max(wanted[i], 1.0 if u[i] > 0 else 0.0)
        total += share
        slope += share * (u[i] - y[i])
    hessian[m, m], downhill[m] = total, -slope


@compile_loop
def newton_step(w, intercept, fit_intercept, index, m, columns, output, alpha, buffers):
    """Move to the optimum on the support, were no row to turn on or off.

    A penalised step ends at the first weight that turns zero; a step that does not
    lower the objective is taken back. Returns the intercept and by how much the
    objective falls.

    Parameters
    ----------
    w : ndarray of shape (p,)
        Weights of the output; changed.
    intercept : float
    fit_intercept : bool
    index, m
        The support: ``index[:m]``.
    columns : Columns
    output : OutputRows
    alpha : float
    buffers : NewtonBuffers
    """
    pointer, row, value = columns.pointer, columns.row, columns.value
    u, hessian, step = output.u, buffers.hessian, buffers.step
    fill_newton(index, m, columns, output, buffers)
    size = m + 1 if fit_intercept else m
    for a in range(size):
        # Inputs whose rows are all off have no gradient: some ridge holds them still.
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
    before = loss_of(output)
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
        fell = before - loss_of(output)
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
