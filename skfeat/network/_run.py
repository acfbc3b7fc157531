"""How a SparseFeatureNetwork predicts: plainly, or compiled where that pays."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from skfeat.kernels._limits import LIMITS
from skfeat.kernels._optional import has_numba
from skfeat.network._arrays import NetworkArrays
from skfeat.network._predict import (
    NotModerateError,
    predict_carefully,
    predict_plainly,
)
from skfeat.utils._finite import is_moderate

# Below so many multiply-adds, collecting the weights for compiled loops takes longer
# than all else, even where they are compiled already.
_MIN_MULTIPLY_ADDS = 2**12
# A network that is called more often than that is in use, and compiling is repaid.
_CALLS = 8


def predict(network: NetworkArrays, X: np.ndarray) -> np.ndarray:
    """Compute the raw outputs of rows that need not be finite yet.

    Raises
    ------
    ValueError
        If a row has NaN or infinity, or outputs leave the range of the dtype.
    """
    n_weights = network.encoder_coef_.size + sum(coef.nnz for coef in network.coefs_)
    is_used = network.is_compiled or network.n_calls >= _CALLS
    least = 0 if is_used else LIMITS.compiled_prediction
    network.n_calls += 1
    plain = len(X) * n_weights < max(_MIN_MULTIPLY_ADDS, least) or not has_numba()
    predict_fast = predict_plainly if plain else _compiled_predict()
    try:
        outputs = predict_fast(network, X)
    except NotModerateError:
        return predict_carefully(network, X)
    return outputs if is_moderate(outputs) else predict_carefully(network, X)


@cache
def _compiled_predict() -> Callable[[NetworkArrays, np.ndarray], np.ndarray]:
    # An import statement at each call takes a twentieth of the time of a single row.
    from skfeat.network._predict_compiled import predict_compiled

    return predict_compiled
