"""The compiled loop of what the removal of each weight of a connector changes.

Features are stored by row (p, n): the inner loops run over data rows, side by side in
memory. No result depends on how a range is divided.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skfeat.kernels._compile import compile_loop


class Weights(NamedTuple):
    """Weights that are held, output after output.

    Attributes
    ----------
    pointer : ndarray of int64 (q + 1,)
        Where those of each output begin.
    column : ndarray of int64 (n_weights,)
        The input of each; of no length where each output has all inputs.
    mask : ndarray of bool (n_weights,)
        Which are left.
    coef : ndarray (n_weights,)
    """

    pointer: np.ndarray
    column: np.ndarray
    mask: np.ndarray
    coef: np.ndarray


@compile_loop
def removal_costs(
    first, last, weights, read, pre, gradient, rectified, n_positions, out
):
    """Write the costs of the weights of outputs `first` to `last`.

    See `Weights`; of those that are not left, zero is written.
    """
    pointer, column, mask, coef = weights
    zero = out.dtype.type(0)
    for o in range(first, last):
        before, slope = pre[o], gradient[o]
        for t in range(pointer[o], pointer[o + 1]):
            total = zero
            if mask[t]:
                j = column[t] if len(column) else t - pointer[o]
                weight, values = coef[t], read[j]
                if n_positions > 1:
                    for start in range(0, before.shape[0], n_positions):
                        change = zero
                        for i in range(start, start + n_positions):
                            without = before[i] - weight * values[i]
                            if rectified:
                                without = max(without, zero) - max(before[i], zero)
                            else:
                                without -= before[i]
                            change += without * slope[i]
                        total += change * change
                elif rectified:
                    for i in range(before.shape[0]):
                        without = max(before[i] - weight * values[i], zero)
                        change = (without - max(before[i], zero)) * slope[i]
                        total += change * change
                else:
                    for i in range(before.shape[0]):
                        change = weight * values[i] * slope[i]
                        total += change * change
            out[t] = total
