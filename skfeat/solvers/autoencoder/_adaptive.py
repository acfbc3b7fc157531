"""Numbers that follow the batches: batch top-k's threshold, a penalty's weight, k."""

from __future__ import annotations

import math

from skfeat.solvers.autoencoder._settings import SAESettings

# Batch top-k averages its threshold over about this many batches.
_MEMORY = 100

# Share of a planned run in which the number of active features falls from its start, by
# so many equal factors: a change has its cost.
WIDE_SHARE, _N_FALLS = 0.5, 16

# How fast the penalty follows when a number of active features is requested.
_PENALTY_RATE = 0.01


class RunningThreshold:
    """The smallest code that batch top-k keeps, averaged over the last batches.

    Attributes
    ----------
    total, share : float
        The average is ``total / share``: early on, few batches have contributed.
    """

    def __init__(self) -> None:
        self.total, self.share = 0.0, 0.0

    def add(self, lowest: float) -> None:
        """Add the smallest code of a batch."""
        decay = 1 - 1 / _MEMORY
        self.total = decay * self.total + (1 - decay) * lowest
        self.share = decay * self.share + (1 - decay)

    @property
    def value(self) -> float:
        """The average."""
        return self.total / max(self.share, 1e-12)


class PenaltyWeight:
    """The weight of the penalty; it follows the batches where `l0` is set.

    Parameters
    ----------
    settings : SAESettings
    n_features : int
        Columns of the rows.

    Attributes
    ----------
    value : float
    """

    def __init__(self, settings: SAESettings, n_features: int):
        self._l0 = settings.l0
        self.value = settings.activation.penalty_weight(settings.alpha, n_features)

    def follow(self, l0: float) -> None:
        """Raise the weight where a batch has more active codes a row than requested."""
        if self._l0 is not None:
            surplus = min(l0 / self._l0 - 1, 1.0)
            self.value *= math.exp(_PENALTY_RATE * surplus)


def active_at(k_start: int, k: float, progress: float) -> float:
    """Return how many features a row are active: `k_start` at first, then ever fewer.

    Parameters
    ----------
    k_start : int
        The first number.
    k : float
        The last, which half of the run is left for.
    progress : float
        Share of the planned run that is over.
    """
    left = max(0.0, 1.0 - int(_N_FALLS * progress / WIDE_SHARE) / _N_FALLS)
    return k * (k_start / k) ** left
