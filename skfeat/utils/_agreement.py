"""That the processes of a group fit the same: else they would end up with nonsense."""

from __future__ import annotations

from numbers import Number
from typing import Any

import numpy as np
from scipy import sparse

from skfeat.utils import _distributed as distributed
from skfeat.utils._checkpoint import digest_of_rows

# Parameters that may differ: what is drawn or stored once, and what is said.
_FREE = {"random_state", "device", "verbose", "checkpoint"}


def refuse_different_fits(estimator: Any, state: str | None, **data: Any) -> None:
    """Raise ValueError on all processes of a group unless they fit the same.

    Parameters
    ----------
    estimator : estimator
        Its parameters are compared, as far as they are numbers, strings or arrays.
    state : str or None
        The fitted attribute that the fit starts from, if it starts from one.
    **data : ndarray or sparse matrix
        What is fitted.
    """
    if not distributed.is_active():
        return
    params = estimator.get_params(deep=False)
    parts = {name: params[name] for name in params.keys() - _FREE}
    parts |= data
    if state is not None:
        parts[state] = getattr(estimator, state)
    mine = {name: _digest(value) for name, value in sorted(parts.items())}
    everyone = distributed.gather_objects(mine)
    different = [
        name for name in mine if len({digests[name] for digests in everyone}) > 1
    ]
    if different:
        raise ValueError(
            f"{type(estimator).__name__}: the processes of the group fit with "
            f"different {', '.join(different)}. Give each of them the same rows and "
            f"parameters; the work is divided among them then."
        )


def _digest(value: Any) -> str:
    if sparse.issparse(value):
        value = value.tocsr()
        parts = value.data, value.indices, value.indptr
        return f"{value.shape} {[digest_of_rows(part) for part in parts]}"
    if isinstance(value, np.ndarray) and value.ndim and value.dtype != object:
        return digest_of_rows(value)
    plain = value is None or isinstance(value, str | bool | Number)
    return repr(value) if plain else type(value).__name__
