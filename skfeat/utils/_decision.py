"""When one of two classes is predicted, where a model has a threshold of its own."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class DecisionRule(NamedTuple):
    """When one of two classes is predicted: by the probability of either.

    Parameters
    ----------
    threshold : float
        From 0 to 1.
    column : {1, 0}, default=1
        The class whose probability is compared.
    inclusive : bool, default=False
        Whether a probability that equals the threshold is enough.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat.network import DecisionRule
    >>> DecisionRule(0.7).decide(np.array([[0.4, 0.6], [0.2, 0.8]]))
    array([0, 1])
    """

    threshold: float
    column: int = 1
    inclusive: bool = False

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the index of the class that is predicted for each row.

        Parameters
        ----------
        probabilities : ndarray of shape (n, 2)

        Returns
        -------
        ndarray of int, shape (n,)
        """
        own = probabilities[:, self.column]
        # A Python float would be rounded to the dtype of the probabilities.
        threshold = np.float64(self.threshold)
        chosen = own >= threshold if self.inclusive else own > threshold
        return np.where(chosen, self.column, 1 - self.column)
