"""Minibatch solver of the connector, for more rows than full batches can afford.

Adam on the convex majorant of the rectified loss, with a proximal step in Adam's own
metric after every update, so that zeros are exact, and gradual pruning towards a
budget of weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import sparse

from skfeat.losses import rectified_convex
from skfeat.solvers._loop import one_cycle
from skfeat.solvers._prune import Pruner
from skfeat.utils import _distributed as distributed
from skfeat.utils._adam import Adam
from skfeat.utils._progress import tick
from skfeat.utils._torch import (
    make_generator,
    n_batches,
    shuffled_batches,
    to_numpy,
    without_autocast,
)

if TYPE_CHECKING:
    from skfeat.solvers.connector._path import Solution


@dataclass(frozen=True)
class ConnectorSettings:
    """What stays fixed while a connector trains.

    Parameters
    ----------
    alpha : float
        Weight of the L1 penalty.
    budget : int, ndarray of shape (q,) or None
        Nonzero weights to end with, in all or of each output.
    fit_intercept : bool
    learning_rate : float
    batch_size : int
    device : torch.device
    dtype : torch.dtype
    seed : int
    """

    alpha: float
    budget: int | np.ndarray | None
    fit_intercept: bool
    learning_rate: float
    batch_size: int
    device: torch.device
    dtype: torch.dtype
    seed: int


@dataclass(frozen=True)
class Scales:
    """Units in which a connector trains, so that a rate suits data of any scale.

    Parameters
    ----------
    x : float
        Root mean square of all inputs.
    y : float
        Root mean square of all targets.
    spread : ndarray of shape (p,)
        Standard deviation of each input.
    n_outputs : int
    """

    x: float
    y: float
    spread: np.ndarray
    n_outputs: int

    @classmethod
    def of(cls, X, Y: np.ndarray, sample_weight: np.ndarray) -> Scales:
        """Measure rows and targets.

        Raises
        ------
        ValueError
            If their squares overflow.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            mean, square = _moments(X, sample_weight)
            _, y_square = _moments(Y, sample_weight)
        if not (np.isfinite(square).all() and np.isfinite(y_square).all()):
            raise ValueError(
                "The second moments of X and y are non-finite; rescale them."
            )
        return cls(
            float(np.sqrt(square.mean())) or 1.0,
            float(np.sqrt(y_square.mean())) or 1.0,
            np.sqrt(np.maximum(square - mean**2, 0.0)),
            Y.shape[1],
        )


def _random_start(seed: int, scales: Scales) -> tuple[np.ndarray, np.ndarray]:
    """Draw weights as torch does those of a linear layer, in the units of training."""
    q, p = scales.n_outputs, len(scales.spread)
    bound = 1 / np.sqrt(p)
    return np.random.RandomState(seed).uniform(-bound, bound, (q, p)), np.zeros(q)


def _moments(X, sample_weight) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and mean square of each column, in blocks of rows."""
    mean, square = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    weights = sample_weight / sample_weight.sum()
    for start in range(0, X.shape[0], 8192):
        rows = slice(start, start + 8192)
        block = X[rows].astype(np.float64)
        mean += weights[rows] @ block
        # To an spmatrix, `*` is the matrix product.
        squared = block.multiply(block) if sparse.issparse(block) else block * block
        square += weights[rows] @ squared
    return mean, square


class ConnectorTrainer:
    """Trains the weights of a connector, epoch by epoch.

    Parameters
    ----------
    settings : ConnectorSettings
    start : Solution or None
        In the units of the rows. None starts as torch does a linear layer.
    scales : Scales
    support : bool ndarray of shape (q, p), optional
        Weights that may be nonzero; all by default.
    """

    def __init__(
        self,
        settings: ConnectorSettings,
        start: Solution | None,
        scales: Scales,
        support: np.ndarray | None = None,
    ):
        self.settings = settings
        self.generator = make_generator(settings.seed)
        self.scales = scales
        self.alpha = settings.alpha / (scales.x * scales.y)
        if start is None:
            coef, intercept = _random_start(settings.seed, scales)
        else:
            coef = start.coef * (scales.x / scales.y)
            intercept = start.intercept / scales.y
        self.coef, self.intercept, self.spread = (
            torch.tensor(array, dtype=settings.dtype, device=settings.device)
            for array in (coef, intercept, scales.spread / scales.x)
        )
        params = [self.coef, self.intercept] if settings.fit_intercept else [self.coef]
        self.optimizer = Adam(params, settings.learning_rate)
        self.pruner = None
        if settings.budget is not None:
            self.pruner = Pruner(self.coef, settings.budget, self.coef.numel())
        if support is not None:
            kept = torch.tensor(support, device=settings.device)
            self.pruner = Pruner.fixed(self.coef, kept)
        self.n_steps = 0
        self.n_steps_planned: int | None = None

    def plan(self, n_rows: int, n_epochs: int) -> None:
        """Announce a whole run, for the learning rate and the pruning schedule."""
        self.n_steps_planned = n_epochs * n_batches(n_rows, self.settings.batch_size)

    @without_autocast()
    def epoch(self, X, Y: np.ndarray, sample_weight: np.ndarray) -> float:
        """Train on every row once; return the mean objective over the batches."""
        total = 0.0
        batches = shuffled_batches(X.shape[0], self.settings.batch_size, self.generator)
        n_planned = n_batches(X.shape[0], self.settings.batch_size)
        for number, rows in enumerate(batches):
            tick("batch", number, n_planned)
            weight = float(sample_weight[rows].sum())
            if weight > 0:
                total += weight * self._step(X, Y, sample_weight, rows, weight)
        penalty = self.alpha * float(self.coef.abs().sum())
        return total / float(sample_weight.sum()) + penalty

    def _saliency(self) -> torch.Tensor:
        return self.coef.abs() * self.spread

    def _step(self, X, Y, sample_weight, rows, weight) -> float:
        mine = distributed.shard(rows)
        x = self._tensor(X[mine], self.scales.x)
        y = self._tensor(Y[mine], self.scales.y)
        weights = self._tensor(sample_weight[mine], weight)[:, None]
        u = torch.addmm(self.intercept, x, self.coef.T)
        residual, value = rectified_convex(u, y)
        loss = (weights * value).sum()
        residual = weights * residual
        self.coef.grad = residual.T @ x
        self.intercept.grad = residual.sum(0)
        distributed.all_reduce(loss, self.coef.grad, self.intercept.grad)
        if self.pruner is not None:
            self.coef.grad *= self.pruner.mask
        self._update()
        return float(loss)

    def _update(self):
        rate = self.settings.learning_rate
        self.n_steps += 1
        progress = 0.0
        if self.n_steps_planned is not None:
            progress = self.n_steps / self.n_steps_planned
            rate *= one_cycle(progress, warm_up=0.1, decay=0.4)
            self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        if self.alpha > 0:
            state = self.optimizer.state[self.coef]
            corrected = state["exp_avg_sq"] / (1 - 0.999 ** float(state["step"]))
            threshold = self.alpha * rate / (corrected.sqrt_() + 1e-8)
            self.coef.sub_(self.coef.clamp(-threshold, threshold))
        if self.pruner is not None:
            self.pruner.step(self.n_steps, progress, self._saliency)

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Return a copy of the weights (q, p) and the intercept (q,), in raw units."""
        coef, intercept = (
            to_numpy(tensor, np.float64) for tensor in (self.coef, self.intercept)
        )
        return coef * (self.scales.y / self.scales.x), intercept * self.scales.y

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Trim the weights to the budget and return them.

        Raises
        ------
        ValueError
            If training has left weights that are not finite.
        """
        if not (self.coef.isfinite().all() and self.intercept.isfinite().all()):
            raise ValueError(
                "FeatureConnector diverged: the weights are non-finite; lower "
                "'learning_rate_init'."
            )
        if self.pruner is not None:
            self.pruner.prune(1.0, self._saliency())
        return self.weights()

    def state(self) -> dict:
        """Return all that is needed to go on training, as numpy arrays."""
        return {
            "coef": to_numpy(self.coef),
            "intercept": to_numpy(self.intercept),
            "moments": self.optimizer.moments(),
            "generator": to_numpy(self.generator.get_state()),
            "scales": self.scales,
        }

    def load_state(self, state: dict) -> None:
        """Go on from `state`."""
        self.coef.copy_(torch.tensor(state["coef"], device="cpu"))
        self.intercept.copy_(torch.tensor(state["intercept"], device="cpu"))
        self.optimizer.load_moments(state["moments"])
        self.generator.set_state(torch.tensor(state["generator"], device="cpu"))

    def _tensor(self, array, unit: float) -> torch.Tensor:
        """Return an array in a unit: before the division its dtype may be needed."""
        if sparse.issparse(array):
            array = array.toarray()
        tensor = torch.from_numpy(np.asarray(array)).to(self.settings.device)
        return (tensor / unit).to(self.settings.dtype)
