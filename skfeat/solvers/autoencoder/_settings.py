"""What stays fixed while an autoencoder trains, and how far a run has come."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from skfeat.kernels.sae._activations import TrainingActivation

# Weights are kept in one dtype, matrices may be multiplied in another.
DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.float32,
    "int8": torch.float32,
}

# Below this loss, on rows of unit mean square, there is nothing left to explain.
NOTHING_LEFT = 1e-12


@dataclass(frozen=True)
class SAESettings:
    """What stays fixed while an autoencoder trains."""

    n_components: int
    activation: TrainingActivation
    alpha: float
    l0: float | None
    prefixes: tuple[int, ...] | None
    dead_features: str
    tied: bool
    learning_rate: float
    batch_size: int
    precision: str
    device: torch.device
    seed: int
    distribute: str = "rows"
    skip: bool = False
    k_start: int | None = None
    # Multiply-adds of one product over all planned updates, infinite if none are.
    work: float = math.inf


@dataclass(frozen=True)
class Position:
    """How far an epoch has come.

    Parameters
    ----------
    epoch : int or None
        The number that the epoch was given.
    generator : ndarray of uint8
        State of the generator before the rows were shuffled.
    n_batches : int
        Batches done.
    total, weight : float
        Their summed loss, and the weight of their rows.
    """

    epoch: int | None
    generator: np.ndarray
    n_batches: int = 0
    total: float = 0.0
    weight: float = 0.0

    def after(self, weight: float, loss: float) -> Position:
        """Return the position one batch later, whose rows have this mean loss."""
        total, weight = self.total + weight * loss, self.weight + weight
        return Position(self.epoch, self.generator, self.n_batches + 1, total, weight)
