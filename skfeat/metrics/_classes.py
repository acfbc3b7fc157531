"""Metrics of labelled rows: of which classes the rows are that a feature fires on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.special import entr
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from skfeat.utils._arrays import as_numpy
from skfeat.utils._checks import check_int_or_none, check_option

# Weight of the pairs of different rows below which rounding would show.
_LEAST_PAIRS = 1e-9


class ClassPurity(NamedTuple):
    """What `class_purity` returns; nan and -1 stand for what cannot be told.

    Parameters
    ----------
    purity : ndarray of shape (m,)
        Share of each feature's firing that is on rows of its most frequent class; nan
        of a dead feature.
    entropy : ndarray of shape (m,)
        Entropy of the classes that each feature fires on, in nats; nan of a dead
        feature.
    selectivity : ndarray of shape (m,)
        Corrected for chance: the rate at which two different rows that the feature
        fires on are of one class, scaled to 0 at the rate of any two rows and to 1
        where they always are; nan of a feature that fires on fewer than two rows, or
        of whose weight one row has all but a billionth.
    top_class : ndarray of shape (m,)
        Position of the most frequent class in ``np.unique(y)``, the first of several;
        -1 of a dead feature.
    base_purity : float
        Share of the rows that is of the most frequent class: the purity of a feature
        that fires on all rows alike.
    base_entropy : float
        Entropy of the classes of all rows, in nats.

    Examples
    --------
    >>> from skfeat.metrics import class_purity
    >>> class_purity([[1.0], [1.0], [0.0], [0.0]], ["a", "b", "b", "b"]).base_purity
    0.75
    """

    purity: np.ndarray
    entropy: np.ndarray
    selectivity: np.ndarray
    top_class: np.ndarray
    base_purity: float
    base_entropy: float


def class_purity(codes, y, *, weight_by="activation", n_top=None) -> ClassPurity:
    """Measure how much each feature's firing is about single classes.

    Purity and entropy describe the rows at hand. Both flatter features that fire on few
    rows, a feature of one row being perfectly pure, and purity depends on how
    unequal the classes are. `selectivity` has neither fault: its mean over all
    reassignments of the labels to the rows is 0 for every feature, however many rows
    it fires on and with whatever weights.

    A feature may be worth reading and not be about one class: a stroke that three
    digits share has a purity of a third. And codes that are sparse for any reason,
    such as those of untrained autoencoders, are purer than dense ones. A measure of
    one set of features therefore means little without that of a control.

    Parameters
    ----------
    codes : ndarray or sparse matrix of shape (n, m)
        Feature activations. Negative ones, as of tanh neurons, count by magnitude.
    y : array-like of shape (n,)
        The class of each row.
    weight_by : {"activation", "count"}, default="activation"
        Whether a row counts by the feature's activation on it, or as one.
    n_top : int, default=None
        Take only this many rows with the largest activations of each feature, and those
        that equal the last of them; ``None``: all on which it fires. With it, dense and
        sparse features are compared on equally many rows.

    Returns
    -------
    ClassPurity
        Named tuple of `purity`, `entropy`, `selectivity` and `top_class`, each with an
        entry a feature, and of the floats `base_purity` and `base_entropy`.

    Raises
    ------
    ValueError
        If `y` is not of as many rows as `codes` or holds no classes, if all rows are of
        one class, or if a parameter is not one of those allowed.

    Notes
    -----
    With weights ``u`` of the rows that sum to one for a feature, the rate at which two
    different rows are of one class is ``(sum_c p_c^2 - s) / (1 - s)`` where ``p_c`` is
    the weight of class c and ``s = sum_i u_i^2``, the weight of drawing the same row
    twice. Of counts it is the unbiased form of Simpson's index [1]_. Selectivity is
    ``(rate - chance) / (1 - chance)``, as kappa is of agreement, where chance is the
    rate of any two different rows.

    References
    ----------
    .. [1] E. H. Simpson, "Measurement of Diversity", Nature 163, 1949.

    Examples
    --------
    The first feature fires on two rows of one class, the second on all rows alike:

    >>> from skfeat.metrics import class_purity
    >>> codes = [[2.0, 1.0], [1.0, 1.0], [0.0, 1.0], [0.0, 1.0]]
    >>> found = class_purity(codes, ["cat", "cat", "dog", "dog"])
    >>> found.purity, found.selectivity
    (array([1. , 0.5]), array([1., 0.]))
    """
    codes = check_array(
        as_numpy(codes, "codes"),
        accept_sparse="csc",
        dtype=[np.float64, np.float32],
        input_name="codes",
    )
    y = column_or_1d(as_numpy(y, "y"))
    check_consistent_length(codes, y)
    check_classification_targets(y)
    check_option("weight_by", weight_by, ("activation", "count"))
    check_int_or_none("n_top", n_top)
    _, labels, counts = np.unique(y, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        raise ValueError("y must have at least two classes, got a single one.")
    base, n = counts / len(y), len(y)
    chance = float((base * (counts - 1)).sum() / (n - 1))

    weights = _weights(sparse.csc_array(codes), weight_by, n_top)
    table, same_row = _class_table(weights, labels, len(counts))
    alive = np.diff(weights.indptr) > 0
    # A row alone has no other to be compared with.
    pairs = 1 - same_row
    pairs = np.where(alive & (pairs > _LEAST_PAIRS), pairs, np.nan)
    rate = (np.square(table).sum(axis=0) - same_row) / pairs
    return ClassPurity(
        purity=np.where(alive, table.max(axis=0), np.nan),
        entropy=np.where(alive, entr(table).sum(axis=0), np.nan),
        selectivity=(rate - chance) / (1 - chance),
        top_class=np.where(alive, table.argmax(axis=0), -1),
        base_purity=float(base.max()),
        base_entropy=float(entr(base).sum()),
    )


def _weights(codes, weight_by, n_top):
    """Return the weight of each row for each feature, in CSC without stored zeros."""
    weights = codes.astype(np.float64, copy=True)
    weights.sum_duplicates()
    weights.eliminate_zeros()
    np.abs(weights.data, out=weights.data)
    for start, stop in zip(weights.indptr, weights.indptr[1:], strict=False):
        column = weights.data[start:stop]
        if not len(column):
            continue
        if n_top is not None and len(column) > n_top:
            column[column < np.partition(column, -n_top)[-n_top]] = 0
        # By the largest first: sums and squares of any unit stay within range.
        column[:] = column > 0 if weight_by == "count" else column / column.max()
    weights.eliminate_zeros()
    return weights


def _class_table(weights, labels, n_classes):
    """Return the share of each class (n_classes, m), and the shares' self-overlap."""
    n, m = weights.shape
    ones = (np.ones(n), (labels, np.arange(n)))
    table = (sparse.csr_array(ones, shape=(n_classes, n)) @ weights).toarray()
    total = table.sum(axis=0)
    total = np.where(total > 0, total, 1.0)
    columns = np.repeat(np.arange(m), np.diff(weights.indptr))
    squares = np.bincount(columns, np.square(weights.data), minlength=m)
    return table / total, squares / total**2
