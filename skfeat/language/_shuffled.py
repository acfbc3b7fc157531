"""What a connection scores where its output has nothing to do with its inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# The share of shuffles that score no more than what is reported.
_QUANTILE = 0.95


@dataclass
class ReadRows:
    """The rows in which an output or an input fires, and one for all others.

    Parameters
    ----------
    readings : list of ndarray of bool, shape (n,)
        Where the logic, and where each simpler reading, predicts that the output fires.
    y : ndarray of shape (n,)
        Activations of the output.
    predicted : ndarray of shape (n,)
        What the connector predicts.
    n_silent : int
        For how many rows the last one stands; 0 means for itself alone.
    threshold : float
        Activation above which the output fires.
    """

    readings: list[np.ndarray]
    y: np.ndarray
    predicted: np.ndarray
    n_silent: int
    threshold: float

    @property
    def weights(self) -> np.ndarray:
        """For how many rows each one stands."""
        weights = np.ones(len(self.y))
        weights[-1] = max(1, self.n_silent)
        return weights


def score_of(f1: float, f1_simpler: float, r2: float) -> float:
    """Return the score of a connection; `r2` is nan without a measured output."""
    score = f1 * max(0.0, f1 - f1_simpler)
    return float(score if np.isnan(r2) else score * max(0.0, r2))


def shuffled_scores(
    rows: ReadRows, has_r2: bool, n_shuffles: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Score a connection with the rows of its output in random order.

    A shuffle moves the activations of the output to other rows. How often each feature
    fires, how strongly, and which inputs fire together stay as they are, and so does
    the reading; what is lost is which input fires where the output does.

    Parameters
    ----------
    rows : ReadRows
    has_r2 : bool
        Whether the output was measured, so that the score has an R2.
    n_shuffles : int
    rng : numpy.random.Generator

    Returns
    -------
    score, f1 : float
        The 95 % quantiles over the shuffles; nan without any.
    """
    if n_shuffles == 0:
        return np.nan, np.nan
    weights, last = rows.weights, len(rows.y) - 1
    n_rows = int(weights.sum())
    # Most rows have the activation of the last one: only the others are moved.
    usual = rows.y[-1]
    moved = rows.y[rows.y != usual]
    fires, usual_fires = moved > rows.threshold, bool(usual > rows.threshold)
    n_fired = fires.sum() + usual_fires * (n_rows - len(moved))
    n_read = [weights @ reading for reading in rows.readings]
    mean = (moved.sum() + usual * (n_rows - len(moved))) / n_rows
    spread = np.square(moved - mean).sum() + (n_rows - len(moved)) * (usual - mean) ** 2
    usual_error = weights @ np.square(rows.predicted - usual)

    scores, f1s = [], []
    for _ in range(n_shuffles):
        places = rng.choice(n_rows, len(moved), replace=False)
        places = np.minimum(places, last)
        f1 = []
        for reading, n in zip(rows.readings, n_read, strict=True):
            here = reading[places]
            both = here[fires].sum()
            if usual_fires:
                both += n - here.sum()
            f1.append(2 * both / (n + n_fired) if n + n_fired else 0.0)
        r2 = np.nan
        if has_r2:
            predicted = rows.predicted[places]
            change = np.square(moved - predicted) - np.square(usual - predicted)
            r2 = 1 - (usual_error + change.sum()) / spread if spread else np.nan
        scores.append(score_of(f1[0], max(f1[1:], default=0.0), r2))
        f1s.append(f1[0])
    score, f1_first = (
        float(np.quantile(values, _QUANTILE, method="higher"))
        for values in (scores, f1s)
    )
    return score, f1_first
