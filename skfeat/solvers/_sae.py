"""Minibatch training of a sparse autoencoder.

The solver works on centred rows of unit mean square, and exports weights that act on
raw rows. Codes are exported in the units of the raw rows, ``scale`` times the codes
of the scaled ones: the decoder rows keep their unit norm and a tied encoder stays
equal to its decoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from skfeat.kernels._sae import SAEKernel
from skfeat.solvers._loop import one_cycle
from skfeat.utils import _distributed as distributed
from skfeat.utils._torch import (
    load_optimizer_state,
    make_generator,
    n_batches,
    optimizer_state,
    shuffled_batches,
    to_numpy,
)

if TYPE_CHECKING:
    from skfeat.activations import ReLU, TopK

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Standardizer:
    """Centring and one scalar scale of the rows.

    Parameters
    ----------
    mean : ndarray of shape (d,)
    scale : float
    """

    mean: np.ndarray
    scale: float

    @classmethod
    def from_rows(cls, X, sample_weight, *, center: bool, rms: bool) -> Standardizer:
        """Measure the weighted mean and root mean square deviation of rows (n, d)."""
        weights = sample_weight / sample_weight.sum()
        # Blocks of rows keep float64 copies small next to X.
        blocks = [slice(start, start + 4096) for start in range(0, len(X), 4096)]
        mean = np.zeros(X.shape[1])
        if center:
            for block in blocks:
                mean += weights[block] @ X[block].astype(np.float64, copy=False)
        scale = 1.0
        if rms:
            # In units of the largest deviation, squares of tiny or huge rows stay
            # within range. Constant data has no scale: leave it as it is.
            largest = max(float(np.abs(X[block] - mean).max()) for block in blocks)
            unit = largest or 1.0
            total = sum(
                weights[block] @ np.square((X[block] - mean) / unit).sum(axis=1)
                for block in blocks
            )
            scale = unit * float(np.sqrt(total / X.shape[1])) or 1.0
        if not (np.isfinite(mean).all() and np.isfinite(scale)):
            raise ValueError(
                "The mean or the mean square of X is non-finite; rescale X."
            )
        return cls(mean, scale)

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """Centre and scale rows, in at least the precision they come in."""
        return (rows - self.mean) / self.scale


@dataclass(frozen=True)
class SAESettings:
    """What stays fixed while an autoencoder trains."""

    n_components: int
    activation: ReLU | TopK
    alpha: float
    tied: bool
    learning_rate: float
    batch_size: int
    precision: str
    device: torch.device
    seed: int


class SAETrainer:
    """Trains the weights of a sparse autoencoder, epoch by epoch.

    Parameters
    ----------
    settings : SAESettings
    standardizer : Standardizer
    """

    def __init__(self, settings: SAESettings, standardizer: Standardizer):
        self.settings = settings
        self.standardizer = standardizer
        self.generator = make_generator(settings.seed)
        self.dtype = DTYPES[settings.precision]
        self.n_steps = 0
        self.n_steps_planned: int | None = None
        self._initialise(len(standardizer.mean))

    def _initialise(self, n_features: int) -> None:
        settings = self.settings
        decoder = torch.randn(
            settings.n_components, n_features, generator=self.generator
        ).to(self.dtype)
        decoder /= decoder.norm(dim=1, keepdim=True).clamp_min(1e-12)
        # An encoder that starts as its decoder's transpose keeps features alive.
        params = {
            "decoder": decoder,
            "encoder_bias": torch.zeros(settings.n_components, dtype=self.dtype),
            "bias": torch.zeros(n_features, dtype=self.dtype),
        }
        if not settings.tied:
            params["encoder"] = decoder.clone()
        self._set_params(params)
        self.rows_since_fired = torch.zeros(
            settings.n_components, dtype=torch.int64, device=settings.device
        )

    def _set_params(self, params: dict[str, torch.Tensor]) -> None:
        settings = self.settings
        self.params = {key: value.to(settings.device) for key, value in params.items()}
        self.kernel = SAEKernel(self.params, settings.activation, settings.alpha)
        self.optimizer = torch.optim.Adam(
            list(self.params.values()), lr=settings.learning_rate, fused=True
        )

    def plan(self, n_rows: int, n_epochs: int) -> None:
        """Announce a whole run, so that the learning rate can warm up and decay."""
        self.n_steps_planned = n_epochs * n_batches(n_rows, self.settings.batch_size)

    def epoch(self, X: np.ndarray, sample_weight: np.ndarray) -> float:
        """Train on every row once, in shuffled batches; return the mean loss."""
        total = 0.0
        batches = shuffled_batches(len(X), self.settings.batch_size, self.generator)
        for rows in batches:
            weight = float(sample_weight[rows].sum())
            # Rows of a batch that all weigh nothing have nothing to say.
            if weight > 0:
                total += weight * self._step(X, sample_weight, rows, weight)
        return total / float(sample_weight.sum())

    def _step(self, X, sample_weight, rows, weight) -> float:
        settings = self.settings
        mine = distributed.shard(rows)
        x = torch.from_numpy(self.standardizer.apply(X[mine]))
        x = x.to(settings.device, self.dtype)
        weights = torch.from_numpy(sample_weight[mine] / weight)
        weights = weights.to(settings.device, self.dtype)
        loss, fired = self.kernel.gradients(x, weights, self._dead(len(X)))
        fired_count = fired.to(torch.int64)
        distributed.all_reduce(loss, fired_count, *self.kernel.grads())
        self.rows_since_fired += len(rows)
        self.rows_since_fired[fired_count > 0] = 0

        self.n_steps += 1
        if self.n_steps_planned is not None:
            # The cycle ends one update after the last, which would have no effect.
            factor = one_cycle(self.n_steps / (self.n_steps_planned + 1))
            self.optimizer.param_groups[0]["lr"] = settings.learning_rate * factor
        self.optimizer.step()
        decoder = self.params["decoder"]
        decoder /= decoder.norm(dim=1, keepdim=True).clamp_min(1e-12)
        return float(loss)

    def _dead(self, n_rows: int) -> torch.Tensor | None:
        """Return which features to revive: those silent for an epoch of rows."""
        if self.settings.activation.penalised:
            return None
        return (self.rows_since_fired >= n_rows).nonzero().squeeze(1)

    def n_dead(self, n_rows: int) -> int:
        """Count the features that fired for none of the last `n_rows` rows."""
        return int((self.rows_since_fired >= n_rows).sum())

    def export(self) -> dict[str, np.ndarray]:
        """Return the weights that act on raw rows, as float64 arrays.

        Raises
        ------
        ValueError
            If training has left weights that are not finite.
        """
        params = {key: to_numpy(p, np.float64) for key, p in self.params.items()}
        if not all(np.isfinite(value).all() for value in params.values()):
            raise ValueError(
                "SparseAutoencoder diverged: the weights are non-finite; lower "
                "'learning_rate_init' or rescale X."
            )
        scale = self.standardizer.scale
        return {
            "components_": params["decoder"],
            "intercept_": self.standardizer.mean + scale * params["bias"],
            "encoder_coef_": params.get("encoder", params["decoder"]).copy(),
            "encoder_intercept_": scale * params["encoder_bias"],
        }

    def state(self) -> dict:
        """Return all that is needed to go on training, as numpy arrays."""
        return {
            "params": {key: to_numpy(p) for key, p in self.params.items()},
            "moments": optimizer_state(self.optimizer),
            "rows_since_fired": to_numpy(self.rows_since_fired),
            "generator": to_numpy(self.generator.get_state()),
            "standardizer": self.standardizer,
            "tied": self.settings.tied,
        }

    @classmethod
    def from_state(cls, settings: SAESettings, state: dict) -> SAETrainer:
        """Rebuild a trainer from `state`, on the device of `settings`."""
        trainer = cls(settings, state["standardizer"])
        trainer._set_params(
            {
                key: torch.tensor(value, dtype=trainer.dtype)
                for key, value in state["params"].items()
            }
        )
        trainer.generator.set_state(torch.tensor(state["generator"]))
        trainer.rows_since_fired.copy_(torch.tensor(state["rows_since_fired"]))
        load_optimizer_state(trainer.optimizer, state["moments"])
        return trainer
