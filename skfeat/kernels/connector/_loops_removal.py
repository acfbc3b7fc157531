"""The compiled loop of what the removal of each weight of a connector changes.

Features are stored by row (p, n): the inner loops run over data rows, side by side in
memory. No result depends on how a range is divided.
"""

from __future__ import annotations

from skfeat.kernels._compile import compile_loop


@compile_loop
def removal_costs(
    first, last, mask, coef, read, pre, gradient, rectified, n_positions, out
):
    """Write the costs of the weights of outputs `first` to `last`, (q, p)."""
    zero = out.dtype.type(0)
    for o in range(first, last):
        before, slope = pre[o], gradient[o]
        for j in range(mask.shape[1]):
            total = zero
            if mask[o, j]:
                weight, values = coef[o, j], read[j]
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
            out[o, j] = total
