"""Prediction of sparse layers on tiles of rows. Needs numba, and no torch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import sparse

from skfeat.activations import JumpReLU, TopK
from skfeat.kernels.inference import _loops_sparse_layers as loops

if TYPE_CHECKING:
    from skfeat.activations import Activation

# Rough costs of a row in nanoseconds, which only decide on threads: of a weight, of
# reading or writing a value, of finding the k largest of so many values.
_WEIGHT_COST, _VALUE_COST, _TOPK_COST = 0.1, 0.3, 0.5


_NO_INDEX = np.empty(0, dtype=np.int64)


class SparseLayer(NamedTuple):
    """What leads to one layer: ``link(F @ coef.T + intercept)``.

    Attributes
    ----------
    coef : csr_array of shape (n_out, n_in), or None
        Also a csc_array of the transposed shape. None: the inputs are ``F @ coef.T``
        already; for the first layer alone.
    intercept : ndarray of shape (n_out,)
    link : {"relu", "identity"} or Activation
        One that is not "identity" or "relu" for the first layer alone.
    """

    coef: sparse.csr_array | sparse.csc_array | None
    intercept: np.ndarray
    link: str | Activation


class SparseStack:
    """Sparse layers, one after the other, as the compiled loops take them.

    Parameters
    ----------
    layers : sequence of SparseLayer
    bias : ndarray of shape (n_in,)
        Is subtracted from the inputs; not if the first layer has no `coef`.
    dtype : float32 or float64

    Attributes
    ----------
    in_rows : bool
        Whether the first layer reads rows.
    n_outputs : int
        Width of the last layer.
    cost : float
        Of a row, in nanoseconds, roughly.
    """

    def __init__(self, layers: Sequence[SparseLayer], bias: np.ndarray, dtype):
        first = layers[0]
        self.in_rows = first.coef is not None
        coefs: list[Any] = [layer.coef for layer in layers]
        if not self.in_rows:
            del coefs[0]
        intercepts = [layer.intercept for layer in layers]
        widths = [len(bias)] * self.in_rows + [len(part) for part in intercepts]
        self.n_outputs = widths[-1]
        n_before = list(accumulate((coef.nnz for coef in coefs), initial=0))
        self.cost = n_before[-1] * _WEIGHT_COST + sum(widths) * _VALUE_COST
        if isinstance(first.link, TopK):
            self.cost += widths[0] * _TOPK_COST

        starts = [c.indptr + n for c, n in zip(coefs, n_before, strict=False)]
        bias = bias.astype(dtype, copy=False)
        threshold = getattr(first.link, "threshold", bias)
        no_values = np.empty(0, dtype)
        indices = [coef.indices for coef in coefs]
        values = [coef.data for coef in coefs]
        self._layers = loops.Layers(
            bias=bias,
            widths=np.array(widths),
            operations=np.array([_operation(layer.link) for layer in layers]),
            starts=np.concatenate([_NO_INDEX, *starts]),
            indices=np.concatenate([_NO_INDEX, *indices]),
            values=np.concatenate([no_values, *values], dtype=dtype),
            intercepts=np.concatenate(intercepts, dtype=dtype),
            k=min(
                getattr(first.link, "k", 1),
                len(first.intercept) // getattr(first.link, "n_groups", 1),
            ),
            threshold=threshold.astype(dtype, copy=False),
            n_groups=getattr(first.link, "n_groups", 1),
        )

    def run(self, inputs: np.ndarray, n_rows: int, out: np.ndarray) -> None:
        """Compute the last layer.

        Parameters
        ----------
        inputs : ndarray of shape (n_rows, n_in), or (m_0, width)
            The latter, in C order, if the first layer has no `coef`.
        n_rows : int
        out : ndarray of shape (n_outputs, width), in C order
            Its first `n_rows` columns are written, of at least as many.
        """
        flat = np.ascontiguousarray(inputs).reshape(-1)
        loops.run_tiles(
            n_rows, flat, self.in_rows, out.shape[1], self._layers, out.reshape(-1)
        )


def _operation(link: str | Activation) -> int:
    if isinstance(link, TopK):
        return loops.TOPK
    if isinstance(link, JumpReLU):
        return loops.JUMPRELU
    return loops.IDENTITY if link == "identity" else loops.RELU
