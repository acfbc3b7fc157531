"""Products with an encoder that are exact enough to select the largest codes.

The values of selected codes are computed again in full precision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# Does something to rows `first` to `last`.
Step = Callable[[int, int], None]


class Approximation(NamedTuple):
    """Pre-activations of a batch, still to be computed.

    Attributes
    ----------
    pre : ndarray of shape (n, width)
        Of float32, or of uint16: the bits of bfloat16. At least as wide as there are
        features.
    bias : ndarray of shape (width,)
        To be added; minus infinity for columns without a feature.
    multiply : callable
        Writes rows of `pre`; the caller limits torch's threads.
    tile : int
        How many at a time.
    slack : float
        As a share of a bound: how far below it numbers may be that are above it.
    """

    pre: np.ndarray
    bias: np.ndarray
    multiply: Step
    tile: int
    slack: float


# Makes the approximation of rows: takes the centred rows, the encoder and its bias,
# buffers and a team.
Approximate = Callable[..., Approximation]
