"""Metrics of fitted estimators, in the form that scikit-learn's searches take."""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_array, gen_batches

from skfeat.metrics._codes import features_per_row, is_active, rows_per_feature
from skfeat.metrics._dictionary import matching_coefficient
from skfeat.metrics._reconstruction import (
    BLOCK_ROWS,
    check_pair,
    fvu_in_blocks,
)
from skfeat.utils._arrays import as_numpy, check_weights


def _weighted(scorer):
    """Tell scikit-learn that a scorer takes `sample_weight`.

    A search that is fitted with weights and has several scorers calls this method of
    each, and scikit-learn 1.9 has no default for plain functions.
    """
    scorer._accept_sample_weight = lambda: True
    return scorer


@_weighted
def neg_fvu_scorer(estimator, X, y=None, sample_weight=None) -> float:
    """Score an estimator by the variance that its reconstruction leaves unexplained.

    Parameters
    ----------
    estimator : estimator instance
        Fitted, with `transform` and `inverse_transform`.
    X : array-like of shape (n, d)
        Rows to reconstruct.
    y : None
        Ignored.
    sample_weight : array-like of shape (n,), default=None
        Weight of each row's squared error and squared deviation.

    Returns
    -------
    float
        Minus the :func:`~skfeat.metrics.fvu`.

    Raises
    ------
    TypeError
        If the estimator lacks a method.

    Examples
    --------
    >>> from sklearn.decomposition import PCA
    >>> from skfeat.metrics import neg_fvu_scorer
    >>> X = [[0.0, 0.0], [2.0, 0.0], [0.0, 1.0], [2.0, 1.0]]
    >>> f"{neg_fvu_scorer(PCA(1).fit(X), X):.3f}"
    '-0.200'
    """
    _require(estimator, "transform", "inverse_transform")

    def rows(block):
        taken = as_numpy(_take(X, block))
        return check_array(taken, dtype=np.float64, input_name="X")

    def reconstruction(block):
        taken = _take(X, block)
        decoded = estimator.inverse_transform(estimator.transform(taken))
        return check_pair("X", taken, "its reconstruction", decoded)[1]

    return -fvu_in_blocks(rows, reconstruction, check_weights(sample_weight, X))


@_weighted
def explained_variance_scorer(estimator, X, y=None, sample_weight=None) -> float:
    """Score an estimator by the variance that its reconstruction explains.

    Parameters
    ----------
    estimator : estimator instance
        Fitted, with `transform` and `inverse_transform`.
    X : array-like of shape (n, d)
        Rows to reconstruct.
    y : None
        Ignored.
    sample_weight : array-like of shape (n,), default=None
        Weight of each row's squared error and squared deviation.

    Returns
    -------
    float
        The :func:`~skfeat.metrics.explained_variance`; of a `SparseAutoencoder` it is
        what its `score` returns, where X varies.

    Raises
    ------
    TypeError
        If the estimator lacks a method.

    Examples
    --------
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skfeat import SparseAutoencoder
    >>> from skfeat.datasets import make_sparse_features
    >>> from skfeat.metrics import explained_variance_scorer, neg_l0_scorer
    >>> X, _, _ = make_sparse_features(n_samples=1000, random_state=0)
    >>> scoring = {"ev": explained_variance_scorer, "l0": neg_l0_scorer}
    >>> search = GridSearchCV(
    ...     SparseAutoencoder(64, max_iter=200, random_state=0),
    ...     {"k": [2, 8]},
    ...     scoring=scoring,
    ...     refit="ev",
    ...     cv=2,
    ... ).fit(X)
    >>> search.best_params_
    {'k': 8}
    """
    return 1.0 + neg_fvu_scorer(estimator, X, y, sample_weight)


@_weighted
def neg_l0_scorer(estimator, X, y=None, sample_weight=None) -> float:
    """Score an estimator by how few features it makes active.

    Parameters
    ----------
    estimator : estimator instance
        Fitted, with `transform`.
    X : array-like of shape (n, d)
        Rows to encode.
    y : None
        Ignored.
    sample_weight : array-like of shape (n,), default=None
        Weight of each row in the mean.

    Returns
    -------
    float
        Minus the :func:`~skfeat.metrics.l0`.

    Raises
    ------
    TypeError
        If the estimator lacks `transform`.

    Examples
    --------
    >>> from sklearn.preprocessing import Binarizer
    >>> from skfeat.metrics import neg_l0_scorer
    >>> X = [[0.0, 1.0, 2.0], [0.0, 0.0, 3.0]]
    >>> neg_l0_scorer(Binarizer().fit(X), X)
    -1.5
    """
    weights = check_weights(sample_weight, X)
    total = sum(
        weights[block] @ features_per_row(active)
        for block, active in _active_blocks(estimator, X, len(weights))
    )
    return -float(total / weights.sum())


@_weighted
def neg_dead_fraction_scorer(estimator, X, y=None, sample_weight=None) -> float:
    """Score an estimator by how few of its features are dead on some rows.

    Parameters
    ----------
    estimator : estimator instance
        Fitted, with `transform`.
    X : array-like of shape (n, d)
        Rows to encode.
    y : None
        Ignored.
    sample_weight : array-like of shape (n,), default=None
        Rows that weigh nothing wake no feature.

    Returns
    -------
    float
        Minus the :func:`~skfeat.metrics.dead_fraction`.

    Raises
    ------
    TypeError
        If the estimator lacks `transform`.

    Examples
    --------
    >>> from sklearn.preprocessing import Binarizer
    >>> from skfeat.metrics import neg_dead_fraction_scorer
    >>> X = [[0.0, 1.0, 2.0, 1.0], [0.0, 0.0, 3.0, 1.0]]
    >>> neg_dead_fraction_scorer(Binarizer().fit(X), X)
    -0.25
    """
    weights = check_weights(sample_weight, X)
    n_rows = sum(
        rows_per_feature(active[np.flatnonzero(weights[block])])
        for block, active in _active_blocks(estimator, X, len(weights))
    )
    return -float(np.mean(n_rows == 0))


def make_recovery_scorer(dictionary):
    """Make a scorer of how well an estimator has found known directions.

    Parameters
    ----------
    dictionary : array-like of shape (m_known, d)
        Known directions, as of :func:`~skfeat.datasets.make_sparse_features`.

    Returns
    -------
    callable
        ``scorer(estimator, X, y=None)`` returns the
        :func:`~skfeat.metrics.matching_coefficient` of `dictionary` and
        ``estimator.components_``, whatever the rows X are. It can be pickled.

    Raises
    ------
    ValueError
        If `dictionary` is not a matrix of finite numbers.

    Examples
    --------
    >>> from skfeat import SparseAutoencoder
    >>> from skfeat.datasets import make_sparse_features
    >>> from skfeat.metrics import make_recovery_scorer
    >>> X, _, dictionary = make_sparse_features(
    ...     n_samples=2000, n_components=24, n_active=2, random_state=0
    ... )
    >>> scorer = make_recovery_scorer(dictionary)
    >>> autoencoder = SparseAutoencoder(24, k=2, random_state=0).fit(X)
    >>> scorer(autoencoder, X) > 0.8
    True
    """
    return _RecoveryScorer(dictionary)


class _RecoveryScorer:
    """See `make_recovery_scorer`; a class, as what a function returns has no pickle."""

    def __init__(self, dictionary):
        self._dictionary = check_array(
            as_numpy(dictionary, "dictionary"),
            dtype=np.float64,
            input_name="dictionary",
            copy=True,
        )

    def __call__(self, estimator, X=None, y=None, sample_weight=None) -> float:
        _require(estimator, "components_")
        return matching_coefficient(self._dictionary, estimator.components_)

    def _accept_sample_weight(self):
        return True

    def __repr__(self):
        m, d = self._dictionary.shape
        return f"make_recovery_scorer(<{m} directions of length {d}>)"


def _require(estimator, *names):
    for name in names:
        if not hasattr(estimator, name):
            raise TypeError(
                f"estimator must have {name} to be scored. Got "
                f"{type(estimator).__name__}, which has not, instead."
            )


def _active_blocks(estimator, X, n_rows):
    """Yield slices of rows and where their codes are not zero."""
    _require(estimator, "transform")
    for block in gen_batches(n_rows, BLOCK_ROWS):
        yield block, is_active(estimator.transform(_take(X, block)))


def _take(X, block):
    # Plain brackets go by label where a data frame of pandas < 3 has float labels.
    return X.iloc[block] if hasattr(X, "iloc") else X[block]
