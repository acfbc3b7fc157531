"""Arrays of any library in, numpy inside, the caller's library out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn import get_config

from skfeat.utils._sklearn import (
    _check_sample_weight,
    _convert_to_numpy,
    _num_samples,
    get_namespace_and_device,
    move_to,
    supported_float_dtypes,
)


def accept_tensor(X, name="X"):
    """Make a torch tensor fit for scikit-learn's validation; return all else as it is.

    Without array API dispatch a tensor becomes a numpy array, from whatever device it
    lies on; with it, it only loses its autograd history.

    Raises
    ------
    TypeError
        If X is a tensor of a dtype or a layout that numpy does not have, or a path, an
        iterator or a mapping, of which numpy would make one object.
    ValueError
        If X is an array with masked values.
    """
    if not isinstance(X, torch.Tensor):
        _refuse_what_holds_no_rows(X, name)
        return X
    if X.layout != torch.strided:
        raise TypeError(
            f"{name} is a torch tensor with layout {X.layout}; pass a dense tensor "
            f"({name}.to_dense()) or a scipy.sparse matrix where sparse data is "
            f"accepted."
        )
    if X.dtype == torch.bfloat16:
        raise TypeError(
            f"{name} is a torch tensor of dtype torch.bfloat16, which numpy does not "
            f"have; pass {name}.float()."
        )
    if X.device.type == "meta":
        raise TypeError(f"{name} is a torch tensor on the device 'meta', without data.")
    X = X.detach()
    return X if get_config()["array_api_dispatch"] else X.cpu().numpy()


def _refuse_what_holds_no_rows(X, name: str) -> None:
    if isinstance(X, str | bytes | os.PathLike):
        raise TypeError(
            f"{name} must be an array, not a path. Got {X!r} instead; map the file by "
            f"np.load({X!r}, mmap_mode='r'), or read its rows by skfeat.rows.iter_rows."
        )
    if hasattr(X, "__next__"):
        raise TypeError(
            f"{name} must be an array, which can be read more than once. Got {X!r} "
            f"instead; write its rows to a file by skfeat.rows.store_rows, and pass "
            f"what that returns."
        )
    if isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        raise ValueError(
            f"{name} is a masked array, whose mask would be ignored; pass "
            f"{name}.filled(value), or only the rows without a masked value."
        )
    if isinstance(X, Mapping | Set) and not sparse.issparse(X):
        raise TypeError(
            f"{name} must be an array. Got a {type(X).__name__}, which has no rows, "
            f"instead."
        )


def as_numpy(X, name="X"):
    """Bring an array of any library to numpy, whatever is dispatched."""
    X = accept_tensor(X, name)
    return ArrayHome.of(X).to_numpy(X)


@dataclass(frozen=True)
class ArrayHome:
    """The array library and the device that a caller's array lives in."""

    xp: Any
    device: Any

    @classmethod
    def of(cls, X) -> ArrayHome:
        """Find the home of X; numpy's, unless array API dispatch is on."""
        xp, _, device = get_namespace_and_device(X)
        return cls(xp, device)

    @property
    def dtypes(self):
        """Dtypes to validate with: the widest first, so that it is the default."""
        dtypes = supported_float_dtypes(self.xp, self.device)
        # Half precision cannot hold what is summed here.
        half = getattr(self.xp, "float16", None)
        return [dtype for dtype in dtypes if dtype != half]

    @property
    def is_numpy(self) -> bool:
        """Whether nothing needs to be moved."""
        return get_namespace_and_device(np.empty(0))[0] == self.xp

    def to_numpy(self, array) -> np.ndarray:
        """Bring an array of this home to numpy."""
        return array if self.is_numpy else _convert_to_numpy(array, self.xp)

    def bring(self, array: np.ndarray):
        """Bring a numpy array here."""
        if self.is_numpy:
            return array
        return move_to(array, xp=self.xp, device=self.device)


# Largest values of inputs and targets whose products, four at a time, floating point
# can still tell from zero and from infinity.
_MAGNITUDES = 1e-70, 1e70


def check_magnitude(name: str, rows) -> None:
    """Refuse rows, dense or sparse, whose products would leave floating point.

    Raises
    ------
    ValueError
        If the largest absolute value lies outside 1e-70 to 1e70, and is not zero.
    """
    values = rows.data if sparse.issparse(rows) else rows
    largest = float(max(values.max(initial=0), -values.min(initial=0)))
    low, high = _MAGNITUDES
    if largest and not low <= largest <= high:
        raise ValueError(
            f"{name} has values up to {largest:.3g}, whose products leave the range of "
            f"floating point: rescale {name} to between {low:g} and {high:g}."
        )


def check_weights(sample_weight, X) -> np.ndarray:
    """Return the weights of the rows of X, float64, of any library; ones for None.

    Raises
    ------
    ValueError
        If there are not as many as rows, or one is negative or not finite, or all are
        zero.
    """
    if sample_weight is not None:
        sample_weight = as_numpy(sample_weight, "sample_weight")
    # Only how many rows X has matters, not in which library they live.
    rows = np.empty(_num_samples(X))
    checked = _check_sample_weight(
        sample_weight, rows, dtype=np.float64, ensure_non_negative=True
    )
    if not np.isfinite(checked).all():
        raise ValueError(
            f"sample_weight must be finite. Got {sample_weight!r} instead."
        )
    return checked
