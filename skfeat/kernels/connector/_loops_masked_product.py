"""Compiled loops of a product at the nonzero weights alone, of features stored by row.

Weights are CSR (q, p): weight t of output o has ``pointer[o] <= t < pointer[o + 1]``
and reads input ``index[t]``. Features are (p, n): the inner loops run over data rows,
side by side in memory. No result depends on how a range is divided.
"""

from __future__ import annotations

from skfeat.kernels._compile import compile_loop


@compile_loop
def forward(first, last, pointer, index, values, features, out):
    """Write outputs `first` to `last` of ``values @ features``, (q, n)."""
    for o in range(first, last):
        row = out[o]
        row[:] = 0
        for t in range(pointer[o], pointer[o + 1]):
            weight, read = values[t], features[index[t]]
            for i in range(row.shape[0]):
                row[i] += weight * read[i]


@compile_loop
def gradient_of_values(first, last, pointer, index, features, grad, out):
    """Write the gradients of the weights of outputs `first` to `last`, given `grad`."""
    for o in range(first, last):
        grad_output = grad[o]
        for t in range(pointer[o], pointer[o + 1]):
            read = features[index[t]]
            total = out.dtype.type(0)
            for i in range(grad_output.shape[0]):
                total += grad_output[i] * read[i]
            out[t] = total
