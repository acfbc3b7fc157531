"""Which features to show, and the rows that activate each of them most."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from skfeat.inspection._inputs import Matrix, check_features, take_rows
from skfeat.utils._checks import check_int


def rank_examples(
    codes: Matrix, features: Any, n_features: int, n_examples: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, and the row numbers and values of their top activations.

    Ties go to the lower index, of features and of rows. Of sparse codes, only the
    columns of the chosen features become dense.
    """
    n_features = check_int("n_features", n_features, 1)
    n_examples = check_int("n_examples", n_examples, 1)
    columns = sparse.csc_array(codes) if sparse.issparse(codes) else codes
    if features is None:
        peaks = columns.max(axis=0)
        # Before scipy 1.14 it is a matrix of one row.
        peaks = peaks.toarray().ravel() if sparse.issparse(peaks) else peaks
        features = np.argsort(-peaks, kind="stable")[:n_features]
    features = check_features("features", features, codes.shape[1])
    chosen = take_rows(columns[:, features].T, slice(None))
    indices = np.argsort(-chosen, axis=1, kind="stable")[:, :n_examples]
    return features, indices, np.take_along_axis(chosen, indices, axis=1)
