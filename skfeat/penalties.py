"""Penalties on the weights of a connector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class L1:
    """``alpha * sum |w|``: many weights of its minimisers are exactly zero."""

    alpha: float

    def value(self, coef: np.ndarray) -> float:
        """Penalty of the weights."""
        return self.alpha * float(np.abs(coef).sum())

    def prox(self, coef: np.ndarray, step) -> np.ndarray:
        """Minimise ``value(w) + |w - coef|^2 / (2 step)``, elementwise in `step`."""
        return np.sign(coef) * np.maximum(np.abs(coef) - self.alpha * step, 0.0)

    @staticmethod
    def alpha_max(gradient_at_zero: np.ndarray) -> float:
        """Smallest `alpha` at which all weights are zero."""
        return float(np.abs(gradient_at_zero).max(initial=0.0))
