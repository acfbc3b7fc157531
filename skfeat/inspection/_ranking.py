"""Which features to show, and the rows that activate each of them most."""

import numpy as np
from scipy import sparse

from skfeat.inspection._common import check_count, check_features, take_rows


def rank_examples(caller, codes, features, n_features, n_examples):
    """Return features, and the row numbers and values of their top activations.

    Ties go to the lower index, of features as of rows. Of sparse codes only the
    columns of the chosen features become dense.
    """
    check_count(caller, "n_features", n_features)
    check_count(caller, "n_examples", n_examples)
    columns = sparse.csc_array(codes) if sparse.issparse(codes) else codes
    if features is None:
        peaks = columns.max(axis=0)
        peaks = peaks.toarray() if sparse.issparse(peaks) else peaks
        features = np.argsort(-peaks, kind="stable")[:n_features]
    features = check_features(caller, "features", features, codes.shape[1])
    chosen = take_rows(columns[:, features].T, slice(None))
    indices = np.argsort(-chosen, axis=1, kind="stable")[:, :n_examples]
    return features, indices, np.take_along_axis(chosen, indices, axis=1)
