"""Metrics of labelled rows: how well few features tell the labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from skfeat.utils._arrays import as_numpy
from skfeat.utils._checks import check_int, value_error
from skfeat.utils._folds import are_folds, check_folds

_RULES = ("correlation", "mean_difference")


class SparseProbe(NamedTuple):
    """What `sparse_probe` returns.

    Parameters
    ----------
    score : float
        Mean of `scores`.
    scores : ndarray of shape (n_splits,)
        Score of each split, on the rows held out.
    features : ndarray of int of shape (n_splits, k)
        The features chosen in each split, the best first.

    Examples
    --------
    >>> from skfeat.metrics import sparse_probe
    >>> codes = [[0.0, 1.0], [0.0, 3.0], [2.0, 1.0], [2.0, 3.0]] * 5
    >>> sparse_probe(codes, ["a", "a", "b", "b"] * 5).score
    1.0
    """

    score: float
    scores: np.ndarray
    features: np.ndarray


def sparse_probe(
    codes,
    y,
    k=1,
    *,
    selection="correlation",
    classifier=None,
    cv=5,
    scoring="roc_auc_ovr",
) -> SparseProbe:
    """Measure how well a classifier tells labels from the k best features.

    For each split of a cross-validation, features are ranked on the training rows, a
    classifier is fitted to the best k of them, and scored on the rows held out. Where a
    concept has a feature of its own, one is enough [1]_. A high score alone says
    little: neurons, principal components and random directions on the same rows tell
    how much of it is the features' merit [2]_.

    Parameters
    ----------
    codes : ndarray or sparse matrix of shape (n, m)
        Feature activations, or any other representation of rows.
    y : array-like of shape (n,)
        The class of each row.
    k : int, default=1
        Number of features the classifier sees; at most m.
    selection : {"correlation", "mean_difference"} or callable, default="correlation"
        How features are ranked. "correlation": by the share of a feature's variance
        that lies between classes, which for two classes is its squared correlation
        with the label. "mean_difference": by the largest difference between the mean in
        a class and the mean in all others, in units of the mean magnitude where the
        feature is not zero [2]_. A callable is given the training rows of `codes` and
        of `y`, and returns scores of shape (m,), or a tuple that begins with them, as
        :func:`sklearn.feature_selection.mutual_info_classif` and its like.
    classifier : classifier of scikit-learn, default=None
        Cloned for each split. ``None`` is a logistic regression on standardised
        features.
    cv : int, cross-validation generator or iterable of splits, default=5
        As in :func:`sklearn.model_selection.cross_validate`: an int is the number of
        stratified folds.
    scoring : str or callable, default="roc_auc_ovr"
        Scorer of scikit-learn. The default is the area under the ROC curve, 0.5 by
        chance; of several classes the mean of each against the others.

    Returns
    -------
    SparseProbe
        Named tuple of the mean ``score``, the ``scores`` and the ``features`` of each
        split.

    Raises
    ------
    ValueError
        If `y` is not of as many rows as `codes`, holds no classes or one alone, or if a
        parameter is not one of those allowed.

    See Also
    --------
    class_purity : Which classes each feature fires on.

    Notes
    -----
    Features are ranked one by one: two that say the same may both be among the k.

    References
    ----------
    .. [1] W. Gurnee et al., "Finding Neurons in a Haystack: Case Studies with Sparse
       Probing", 2023.
    .. [2] S. Kantamneni et al., "Are Sparse Autoencoders Useful? A Case Study in Sparse
       Probing", 2025.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skfeat import SparseAutoencoder
    >>> from skfeat.metrics import sparse_probe
    >>> X, y = load_digits(return_X_y=True)
    >>> codes = SparseAutoencoder(128, k=8, random_state=0).fit_transform(X)
    >>> probe = sparse_probe(codes, y == 0, k=4)
    >>> probe.features.shape
    (5, 4)
    >>> bool(probe.score > 0.95)
    True
    """
    codes = check_array(
        as_numpy(codes, "codes"),
        accept_sparse="csr",
        dtype=[np.float64, np.float32],
        input_name="codes",
    )
    y = column_or_1d(as_numpy(y, "y"))
    check_consistent_length(codes, y)
    check_classification_targets(y)
    k = check_int("k", k, 1, codes.shape[1])
    rank = _ranking(selection)
    if len(np.unique(y)) < 2:
        raise ValueError("y must have at least two classes, got a single one.")
    if classifier is None:
        classifier = make_pipeline(StandardScaler(), LogisticRegression())
    scorer = check_scoring(classifier, scoring)
    scores, features = [], []
    splitter = check_cv(cv, y, classifier=True)
    # Folds that the user gave are taken as they are, to say what is wrong with them.
    given = splitter.cv if are_folds(cv) else splitter.split(codes, y)
    for train, test in check_folds("cv", given, len(y)):
        chosen = _best(rank(codes[train], y[train]), k, codes.shape[1])
        probe = clone(classifier).fit(_columns(codes, train, chosen), y[train])
        scores.append(scorer(probe, _columns(codes, test, chosen), y[test]))
        features.append(chosen)
    return SparseProbe(float(np.mean(scores)), np.array(scores), np.array(features))


def _ranking(selection: Any) -> Callable[[Any, np.ndarray], Any]:
    """Return the function that scores features."""
    if callable(selection):
        return selection
    if not isinstance(selection, str) or selection not in _RULES:
        allowed = f"a callable or one of {', '.join(map(repr, _RULES))}"
        raise value_error("selection", allowed, selection)
    return {"correlation": _correlation, "mean_difference": _mean_difference}[selection]


def _best(scores, k, m):
    """Return the k features of the largest scores, the first of equal ones."""
    scores = np.asarray(scores[0] if isinstance(scores, tuple) else scores, dtype=float)
    if scores.shape != (m,):
        raise ValueError(
            f"selection must return scores of shape ({m},). Got {scores.shape} instead."
        )
    return np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")[:k]


def _columns(codes, rows, columns):
    """Return a part of the codes as an ndarray: k columns are few."""
    part = codes[rows][:, columns]
    return part.toarray() if sparse.issparse(part) else part


def _correlation(codes, y):
    """Return the correlation ratio of each feature and the label, squared."""
    means, sizes = _class_means(codes, y)
    share = sizes / sizes.sum()
    mean = share @ means
    between = share @ np.square(means - mean)
    squares = codes.multiply(codes) if sparse.issparse(codes) else np.square(codes)
    total = np.asarray(squares.mean(axis=0), dtype=np.float64).ravel() - mean**2
    # Rounding leaves of a constant column a tiny part of its square.
    varies = total > 1e-12 * (total + mean**2)
    return np.divide(between, total, out=np.zeros_like(total), where=varies)


def _mean_difference(codes, y):
    """Return the largest difference of means of a class and the rest, in own units."""
    means, sizes = _class_means(codes, y)
    rest = sizes.sum() - sizes
    others = (sizes @ means - sizes[:, None] * means) / rest[:, None]
    sums = np.asarray(abs(codes).sum(axis=0), dtype=np.float64).ravel()
    counts = np.asarray((codes != 0).sum(axis=0)).ravel()
    unit = np.divide(sums, counts, out=np.ones_like(sums), where=counts > 0)
    return np.abs(means - others).max(axis=0) / unit


def _class_means(codes, y):
    """Return the mean of each feature in each class (c, m), and the classes' sizes."""
    _, labels, sizes = np.unique(y, return_inverse=True, return_counts=True)
    n = len(y)
    ones = (1 / sizes[labels], (labels, np.arange(n)))
    share = sparse.csr_array(ones, shape=(len(sizes), n))
    means = share @ codes
    means = means.toarray() if sparse.issparse(means) else means
    return means.astype(np.float64), sizes.astype(np.float64)
