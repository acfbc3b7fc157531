"""How much of what a model does is kept by what stands for it."""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_array

from skfeat.metrics._reconstruction import check_pair
from skfeat.utils._arrays import as_numpy
from skfeat.utils._checks import (
    check_callable,
    check_finite_number,
    is_real,
    value_error,
)


def agreement(logits, approximate_logits) -> float:
    """Share of rows to which two classifiers give the same label.

    Parameters
    ----------
    logits : array-like of shape (n, n_classes)
        Of one classifier; probabilities will do. A single column is the logit of the
        second of two classes.
    approximate_logits : array-like of shape (n, n_classes)
        Of the other.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        If the shapes differ, or if an entry is not finite.

    See Also
    --------
    kl_divergence : Also counts by how much they differ.

    Examples
    --------
    >>> from skfeat.metrics import agreement
    >>> agreement([[2.0, 1.0], [0.0, 1.0]], [[5.0, 1.0], [3.0, 1.0]])
    0.5
    """
    pair = check_pair("logits", logits, "approximate_logits", approximate_logits)
    first, second = (
        part.argmax(axis=1) if part.shape[1] > 1 else part[:, 0] > 0 for part in pair
    )
    return float(np.mean(first == second))


def mean_ablation_floor(forward, activations, y, *, metric, reference=None) -> float:
    """Score of a model that is told nothing of a layer but its mean.

    What stands for the layer should score well above it.

    Parameters
    ----------
    forward : callable
        Maps activations (n, d) to what `metric` takes as a prediction.
    activations : array-like of shape (n, d)
        Of the layer, on the rows that are scored.
    y : array-like of shape (n,) or (n, n_outputs)
        Labels or values that predictions are scored against.
    metric : callable
        Called as ``metric(y, predictions)``, as those of :mod:`sklearn.metrics`.
    reference : array-like of shape (n_reference, d), default=None
        Activations to take the mean over; ``None``: `activations`.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If there are no rows, or a value is not finite, or if `reference` has another
        number of columns.
    TypeError
        If `forward` or `metric` is no function, or `metric` returns no number.

    See Also
    --------
    score_kept : Where a score lies between this floor and the model's.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.metrics import accuracy_score
    >>> from skfeat.metrics import mean_ablation_floor
    >>> H = np.array([[1.0], [2.0], [-6.0]])
    >>> mean_ablation_floor(
    ...     lambda H: H[:, 0] > 0, H, [True, True, False], metric=accuracy_score
    ... )
    0.3333333333333333
    """
    check_callable("forward", forward)
    check_callable("metric", metric)
    activations = _rows("activations", activations)
    if activations.ndim != 2:
        raise value_error("activations", "rows, (n, d)", activations)
    rows = activations if reference is None else _rows("reference", reference)
    if rows.ndim != 2 or not len(rows) or rows.shape[1:] != activations.shape[1:]:
        raise ValueError(
            f"reference must be at least one row of as many columns as activations, "
            f"{activations.shape}. Got an array of shape {rows.shape} instead."
        )
    # Summed as float64, which the mean of huge float32 rows may need.
    mean = rows.mean(axis=0, dtype=np.float64).astype(rows.dtype)
    found = metric(y, forward(np.broadcast_to(mean, activations.shape)))
    if not is_real(found):
        raise TypeError(f"metric must return a number. Got {found!r} instead.")
    return float(found)


def _rows(name: str, value) -> np.ndarray:
    """Check values; whether they are rows the caller says in its own words."""
    return check_array(
        as_numpy(value, name),
        dtype=[np.float64, np.float32],
        ensure_2d=False,
        allow_nd=True,
        ensure_min_samples=0,
        input_name=name,
    )


def score_kept(score, score_model, score_floor, noise=0.0) -> float:
    """Where a score lies between a floor and the score of the model.

    If the floor scores as the model does, but for noise, the result would be noise
    over noise, anything from far below zero to far above one: it is nan instead.

    Parameters
    ----------
    score : float
        Of what stands for the model, or for a layer of it.
    score_model : float
        Of the model itself. Scores may be losses: all that counts is the way.
    score_floor : float
        Of knowing nothing, as :func:`mean_ablation_floor` gives it.
    noise : float, default=0.0
        Of the difference between the model and the floor, as :func:`paired_noise`
        gives it.

    Returns
    -------
    float
        1 at the model, 0 at the floor; nan where the two differ by no more than
        `noise`.

    Raises
    ------
    ValueError
        If a score is not a finite number, or `noise` is negative or nan.

    Examples
    --------
    >>> from skfeat.metrics import score_kept
    >>> round(score_kept(0.95, 0.98, 0.10), 4)
    0.9659
    >>> score_kept(0.95, 0.98, 0.97, noise=0.02)
    nan
    """
    if not is_real(noise) or not noise >= 0:
        raise value_error("noise", "at least 0", noise)
    score = check_finite_number("score", score)
    model = check_finite_number("score_model", score_model)
    floor = check_finite_number("score_floor", score_floor)
    span = model - floor
    return (score - floor) / span if abs(span) > noise else np.nan
