"""Metrics of directions: learnt ones against known ones, or two fits."""

from __future__ import annotations

from numbers import Real

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.utils import check_array, gen_batches

from skfeat.utils._arrays import as_numpy
from skfeat.utils._sklearn import Interval, InvalidParameterError

# Cosines held at once by what needs only the largest of each row: 32 MB.
_BLOCK_ELEMENTS = 2**22


def mean_max_cosine(dictionary, components) -> float:
    """Mean over known directions of the largest cosine with a learnt one.

    It is the mean max cosine similarity (MMCS) of [1]_. One learnt direction may serve
    several known ones; `matching_coefficient` allows each only once.

    Parameters
    ----------
    dictionary : array-like of shape (m_known, d)
        Known directions, of any length. The cosine with a row of zeros is 0.
    components : array-like of shape (m_learnt, d)
        Learnt directions. Signs matter: opposite directions have cosine -1.

    Returns
    -------
    float
        At most 1, where every known direction was learnt.

    Raises
    ------
    ValueError
        If the directions do not have the same length d or are not finite.

    Notes
    -----
    The cosines are computed in blocks of known directions, so that memory does not
    grow with ``m_known * m_learnt``.

    References
    ----------
    .. [1] L. Sharkey, D. Braun and B. Millidge, "Taking features out of superposition
       with sparse autoencoders", AI Alignment Forum, 2022.

    Examples
    --------
    >>> from skfeat.metrics import mean_max_cosine
    >>> mean_max_cosine([[1, 0], [0, 1]], [[2, 0], [0, -1]])
    0.5
    """
    pair = _unit_pair("dictionary", dictionary, "components", components)
    return float(_largest_cosines(*pair).mean())


def recovery_rate(dictionary, components, threshold=0.9) -> float:
    """Share of the known directions that some learnt one is close to.

    Parameters
    ----------
    dictionary : array-like of shape (m_known, d)
        Known directions, of any length. The cosine with a row of zeros is 0.
    components : array-like of shape (m_learnt, d)
        Learnt directions.
    threshold : float, default=0.9
        Smallest cosine that counts as close; above 0 and at most 1.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If `threshold` is out of range, or if the directions do not have the same
        length d or are not finite.

    Examples
    --------
    >>> from skfeat.metrics import recovery_rate
    >>> recovery_rate([[1, 0], [0, 1]], [[2, 0.1], [0, -1]])
    0.5
    """
    allowed = Interval(Real, 0, 1, closed="right")
    if not allowed.is_satisfied_by(threshold):
        raise InvalidParameterError(
            f"threshold must be {allowed}. Got {threshold!r} instead."
        )
    pair = _unit_pair("dictionary", dictionary, "components", components)
    # The cosine of a row with itself may round to just below 1.
    rounding = 64 * np.finfo(np.float64).eps
    return float((_largest_cosines(*pair) >= threshold - rounding).mean())


def match_components(dictionary, components) -> tuple[np.ndarray, np.ndarray]:
    """Pair known and learnt directions one to one, with the largest sum of cosines.

    Parameters
    ----------
    dictionary : array-like of shape (m_known, d)
        Known directions, of any length. The cosine with a row of zeros is 0.
    components : array-like of shape (m_learnt, d)
        Learnt directions. Signs matter: opposite directions have cosine -1.

    Returns
    -------
    indices : ndarray of shape (m_known,)
        Row of `components` that each known direction is paired with; -1 for those left
        over when fewer were learnt than are known.
    cosines : ndarray of shape (m_known,)
        Cosine of each pair; 0 for those left over.

    Raises
    ------
    ValueError
        If the directions do not have the same length d or are not finite.

    See Also
    --------
    matching_coefficient : The mean of the cosines.

    Notes
    -----
    The assignment problem is solved exactly [1]_. All ``m_known * m_learnt`` cosines
    are held at once, 8 bytes each, and time grows with the cube of the numbers of
    directions; `mean_max_cosine` has no such limits.

    References
    ----------
    .. [1] D. F. Crouse, "On implementing 2D rectangular assignment algorithms", IEEE
       Transactions on Aerospace and Electronic Systems, 2016.

    Examples
    --------
    >>> from skfeat.metrics import match_components
    >>> indices, cosines = match_components([[1, 0], [0, 1]], [[0, 3], [1, 1], [2, 0]])
    >>> indices, cosines
    (array([2, 0]), array([1., 1.]))
    """
    pair = _unit_pair("dictionary", dictionary, "components", components)
    return _match(*pair)


def matching_coefficient(dictionary, components) -> float:
    """Mean cosine of known and learnt directions under the best one-to-one pairing.

    Known directions left over when fewer were learnt count as 0; learnt directions
    left over do not count.

    Parameters
    ----------
    dictionary : array-like of shape (m_known, d)
        Known directions, of any length. The cosine with a row of zeros is 0.
    components : array-like of shape (m_learnt, d)
        Learnt directions. Signs matter: opposite directions have cosine -1.

    Returns
    -------
    float
        At most 1, where every known direction was learnt. Neither the order
        nor the lengths of the directions change it.

    Raises
    ------
    ValueError
        If the directions do not have the same length d or are not finite.

    See Also
    --------
    match_components : The pairing, and what it costs.
    make_recovery_scorer : The same for model selection.

    Examples
    --------
    >>> from skfeat.metrics import matching_coefficient
    >>> matching_coefficient([[1, 0], [0, 1]], [[0, 3], [1, 1], [2, 0]])
    1.0
    >>> matching_coefficient([[1, 0], [0, 1]], [[0, 3]])
    0.5
    """
    return float(match_components(dictionary, components)[1].mean())


def nearest_components(dictionary, components) -> tuple[np.ndarray, np.ndarray]:
    """Return for each learnt direction the known one that it is closest to.

    Several may be closest to the same one; `match_components` allows each only once.

    Parameters
    ----------
    dictionary : array-like of shape (m_known, d)
        Known directions, of any length. The cosine with a row of zeros is 0.
    components : array-like of shape (m_learnt, d)
        Learnt directions. Signs do not matter: opposite directions are as close as
        equal ones.

    Returns
    -------
    indices : ndarray of shape (m_learnt,)
        Row of `dictionary`; the first of several.
    cosines : ndarray of shape (m_learnt,)
        Magnitudes of the cosines.

    Raises
    ------
    ValueError
        If the directions do not have the same length d or are not finite.

    See Also
    --------
    feature_detection : Judges each learnt feature as a detector of its known one.
    uniqueness : How many of the known ones are some learnt one's.

    Examples
    --------
    >>> from skfeat.metrics import nearest_components
    >>> nearest_components([[1, 0], [0, 1]], [[0, 3], [0, -2], [2, 0]])
    (array([1, 1, 0]), array([1., 1., 1.]))
    """
    known, learnt = _unit_pair("dictionary", dictionary, "components", components)
    indices = np.empty(len(learnt), dtype=np.intp)
    cosines = np.empty(len(learnt))
    for block in gen_batches(len(learnt), max(1, _BLOCK_ELEMENTS // len(known))):
        close = np.abs(_cosines(learnt[block], known))
        indices[block], cosines[block] = close.argmax(axis=1), close.max(axis=1)
    return indices, cosines


def uniqueness(dictionary, components) -> float:
    """Known directions that are closest to some learnt one, over the learnt ones.

    Parameters
    ----------
    dictionary : array-like of shape (m_known, d)
        Known directions, of any length. The cosine with a row of zeros is 0.
    components : array-like of shape (m_learnt, d)
        Learnt directions. Signs do not matter.

    Returns
    -------
    float
        Above 0 and at most 1, where each learnt direction has a known one of its own;
        at most ``m_known / m_learnt``.

    Raises
    ------
    ValueError
        If the directions do not have the same length d or are not finite.

    Examples
    --------
    >>> from skfeat.metrics import uniqueness
    >>> uniqueness([[1, 0], [0, 1]], [[1, 0.1], [1, -0.1]])
    0.5
    """
    indices, _ = nearest_components(dictionary, components)
    return len(np.unique(indices)) / len(indices)


def mean_correlation_coefficient(dictionary, components) -> float:
    """Mean magnitude of the cosines of directions under the best one-to-one pairing.

    It is the MCC of [1]_. Signs do not matter, nor do directions left over, be they
    known or learnt: an autoencoder with few features may have an MCC of 1.
    `matching_coefficient` counts known directions that were not found as 0.

    Parameters
    ----------
    dictionary : array-like of shape (m_known, d)
        Known directions, of any length. The cosine with a row of zeros is 0.
    components : array-like of shape (m_learnt, d)
        Learnt directions.

    Returns
    -------
    float
        Between 0 and 1. It is the same with known and learnt directions exchanged.

    Raises
    ------
    ValueError
        If the directions do not have the same length d or are not finite.

    References
    ----------
    .. [1] X. Song et al., "Position: Mechanistic Interpretability Should Prioritize
       Feature Consistency in SAEs", 2025.

    Examples
    --------
    >>> from skfeat.metrics import mean_correlation_coefficient
    >>> mean_correlation_coefficient([[1, 0], [0, 1]], [[0, -3]])
    1.0
    """
    pair = _unit_pair("dictionary", dictionary, "components", components)
    cosines = np.abs(_cosines(*pair))
    return float(cosines[linear_sum_assignment(cosines, maximize=True)].mean())


def stability(components_a, components_b) -> float:
    """Mean cosine of the directions of two fits under the best one-to-one pairing.

    Fits that differ only in their seed often agree on part of the directions only [1]_.
    The order of the two fits does not matter: where one has more directions, those
    left over count as 0.

    Parameters
    ----------
    components_a : array-like of shape (m_a, d)
        Directions of one fit, of any length. The cosine with a row of zeros is 0.
    components_b : array-like of shape (m_b, d)
        Directions of another fit on the same features.

    Returns
    -------
    float
        At most 1, where both have the same directions, in any order.

    Raises
    ------
    ValueError
        If the directions do not have the same length d or are not finite.

    See Also
    --------
    match_components : The pairing, and what it costs.

    References
    ----------
    .. [1] G. Paulo and N. Belrose, "Sparse Autoencoders Trained on the Same Data Learn
       Different Features", 2025.

    Examples
    --------
    >>> from skfeat.metrics import stability
    >>> stability([[1, 0], [0, 1]], [[0, 1], [1, 0]])
    1.0
    >>> stability([[1, 0], [0, 1]], [[0, 1]])
    0.5
    """
    a, b = _unit_pair("components_a", components_a, "components_b", components_b)
    return float(_match(a, b)[1].sum() / max(len(a), len(b)))


def _unit_pair(first_name, first, second_name, second):
    """Validate two sets of directions in one space; return rows of norm one."""
    first, second = as_numpy(first, first_name), as_numpy(second, second_name)
    first = check_array(first, dtype=np.float64, input_name=first_name)
    second = check_array(second, dtype=np.float64, input_name=second_name)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"{first_name} and {second_name} must have the same number of columns. Got "
            f"{first.shape[1]} and {second.shape[1]} instead."
        )
    return _unit_rows(first), _unit_rows(second)


def _unit_rows(rows):
    """Scale rows to norm one; rows of zeros stay, so that their cosines are 0."""
    largest = np.abs(rows).max(axis=1, keepdims=True)
    # By the largest entry first: its square may be out of range.
    rows = rows / np.where(largest > 0, largest, 1.0)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1.0)


def _largest_cosines(first, second):
    """Largest cosine of each row of `first` with a row of `second`, block by block."""
    largest = np.empty(len(first))
    for block in gen_batches(len(first), max(1, _BLOCK_ELEMENTS // len(second))):
        largest[block] = _cosines(first[block], second).max(axis=1)
    return largest


def _match(first, second):
    cosines = _cosines(first, second)
    rows, columns = linear_sum_assignment(cosines, maximize=True)
    indices, matched = np.full(len(first), -1), np.zeros(len(first))
    indices[rows], matched[rows] = columns, cosines[rows, columns]
    return indices, matched


def _cosines(first, second):
    cosines = first @ second.T
    # Rounding may carry the cosine of equal rows beyond 1.
    return np.clip(cosines, -1.0, 1.0, out=cosines)
