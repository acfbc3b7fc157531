"""Minibatch training of a sparse autoencoder, epoch by epoch.

The trainer works on centred rows of unit mean square, and exports weights that act on
raw rows.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from copy import copy
from dataclasses import asdict
from typing import Self

import numpy as np
import torch

from skfeat.activations import Activation
from skfeat.kernels._threads import Team
from skfeat.kernels.sae._choose import is_small, make_kernel, runs_compiled
from skfeat.kernels.sae._kernel import SHARED, KernelSettings, Pairs
from skfeat.kernels.sae._kernel import Batch as KernelBatch
from skfeat.kernels.sae._reference import loss_reference
from skfeat.kernels.sae._shards import Shards
from skfeat.solvers._loop import one_cycle
from skfeat.solvers.autoencoder._adam import Adam
from skfeat.solvers.autoencoder._adaptive import (
    PenaltyWeight,
    RunningThreshold,
    active_at,
)
from skfeat.solvers.autoencoder._batch_rows import BatchRows
from skfeat.solvers.autoencoder._dead_features import DeadFeatures
from skfeat.solvers.autoencoder._settings import DTYPES, Position, SAESettings
from skfeat.solvers.autoencoder._standardizer import Standardizer
from skfeat.solvers.autoencoder._weights import fold_standardizer, initial_weights
from skfeat.utils._interrupts import InterruptsWait
from skfeat.utils._progress import tick
from skfeat.utils._rows import Batch, batches_of_rows, rows_at
from skfeat.utils._torch import (
    generator_from,
    make_generator,
    n_batches,
    to_numpy,
    torch_alone,
    without_autocast,
)

# Shares of a planned run in which the learning rate warms up and decays: after the
# warm-up it falls all the way, from a rate that would be too large to stay at.
_WARM_UP, _DECAY = 0.02, 1.0

# Learning rates of some parameters over that of the others, for activations without a
# penalty: a decoder row sees the few rows of data it is part of, the bias all of them.
# Measured on MNIST layers; under L1 a decoder with a higher rate did worse.
_SHARES = {"decoder": 2.0, "bias": 0.3}


class SAETrainer:
    """Trains the weights of a sparse autoencoder, epoch by epoch.

    Parameters
    ----------
    settings : SAESettings
    standardizer : Standardizer
    """

    transcodes = False  # whether the rows decoded are others than those encoded
    targets: np.ndarray | None = None  # these other rows

    def __init__(self, settings: SAESettings, standardizer: Standardizer):
        self.settings = settings
        self.standardizer = standardizer
        self.generator = make_generator(settings.seed)
        self.dtype = DTYPES[settings.precision]
        self.team = Team()
        self.shards = Shards(settings.distribute)
        self.features = self.shards.features(settings.n_components)
        self.n_steps = 0
        self.n_steps_planned: int | None = None
        # Of the last epoch; and whether all batches begun have ended.
        self.position: Position | None = None
        self.is_whole = True
        n_features = self.n_decoded
        self.penalty = PenaltyWeight(settings, n_features)
        self.threshold = RunningThreshold()
        self._set_params(self._initial_weights())
        n_mine = len(self.params["encoder_bias"])
        self.dead = DeadFeatures(settings, n_features, n_mine, self.shards)
        self._rows = BatchRows(
            self.dtype, settings.device, self.team if self.runs_compiled else None
        )

    @property
    def runs_compiled(self) -> bool:
        """Whether loops are compiled."""
        return runs_compiled(self.settings.device, self.settings.work)

    @property
    def n_decoded(self) -> int:
        """Columns of the rows that codes decode."""
        return len(self.standardizer.mean)

    def _initial_weights(self) -> dict[str, torch.Tensor]:
        return initial_weights(self.settings, self.n_decoded, self.generator)

    def _set_params(self, params: dict[str, torch.Tensor]) -> None:
        """Set the weights of this process's features from those of all."""
        settings = self.settings
        self.params = {
            key: self._mine(key, value).to(settings.device, self.dtype).contiguous()
            for key, value in params.items()
        }
        self._select(settings.activation.k)
        # A tied decoder is the encoder as well: its rows have a gradient in each row of
        # data that they rank.
        even = settings.activation.penalised or settings.tied
        self.optimizer = Adam(
            self.params,
            settings.learning_rate,
            self.team if self.runs_compiled else None,
            shares=None if even else _SHARES,
        )

    def _select(self, k: float) -> None:
        """Select `k` active features a row from now on, where their number is given."""
        settings, self.k = self.settings, k
        activation = copy(settings.activation)
        activation.k = k
        kernel = KernelSettings(
            activation,
            settings.prefixes,
            settings.precision,
            self.shards,
            self.features.start,
            self.transcodes,
            settings.work,
        )
        self.kernel = make_kernel(self.params, kernel, self.team)

    def _narrow(self) -> None:
        """Select ever fewer features in the first half of a planned run, if wanted."""
        activation, k_start = self.settings.activation, self.settings.k_start
        k = activation.k
        if k_start is not None and self.n_steps_planned is not None:
            k = active_at(k_start, k, self.n_steps / self.n_steps_planned)
            if activation.selects == "by row":
                k = round(k)
        if k != self.k:
            self._select(k)
            # The bound of more features is too low for fewer.
            self.threshold = RunningThreshold()

    def _mine(self, name: str, values):
        """Return the part of a parameter, or of its moments, that is kept here."""
        return values if name in SHARED else values[self.features]

    def _whole(self, name: str, values: torch.Tensor) -> torch.Tensor:
        """Return all features' values, of which `_mine` returned a part."""
        if name in SHARED:
            return values
        return self.shards.all_features(values, self.settings.n_components)

    def plan(self, n_rows: int, n_epochs: int) -> None:
        """Plan a whole run: the learning rate warms up and decays over it."""
        self.n_steps_planned = n_epochs * n_batches(n_rows, self.settings.batch_size)

    @without_autocast()
    def epoch(
        self,
        X: np.ndarray,
        sample_weight: np.ndarray,
        rows: np.ndarray | None = None,
        *,
        number: int | None = None,
        after_batch: Callable[[], None] | None = None,
    ) -> float:
        """Train on every row (of `rows`) once, in shuffled batches.

        Parameters
        ----------
        X : ndarray of shape (n, d)
        sample_weight : ndarray of shape (n,)
        rows : ndarray of int, optional
            Indices of the rows to train on; None: all.
        number : int, optional
            Number of the epoch. If it was interrupted, it continues at its next batch.
        after_batch : callable, optional
            Called after each batch. Ctrl-C then waits for the batch to end.

        Returns
        -------
        float
            The mean loss.
        """
        at, generator = self.position, self.generator
        if number is None or at is None or at.epoch != number:
            at = Position(number, to_numpy(generator.get_state()))
        else:
            # The rows are shuffled as before, by a generator of their own: the
            # trainer's may have been drawn from since.
            generator = generator_from(at.generator)
            if at.n_batches == 0:
                self.generator = generator
        self.position = at
        n_rows = len(X) if rows is None else len(rows)
        size = self.settings.batch_size
        wait = InterruptsWait()
        alone = torch_alone() if is_small(self.settings.work) else nullcontext()
        installed = nullcontext() if after_batch is None else wait.installed()
        with self.team, alone, installed:
            for batch in batches_of_rows(X, size, generator, rows, at.n_batches):
                with wait:
                    self.is_whole = False
                    at = self.position = self._batch(batch, sample_weight, n_rows, at)
                    self.is_whole = True
                if after_batch is not None:
                    after_batch()
                tick("batch", at.n_batches, n_batches(n_rows, size))
        return at.total / at.weight

    def _batch(self, batch: Batch, sample_weight, n_rows: int, at: Position):
        weights = sample_weight[batch.ids]
        if not weights.all():
            # Zero-weight rows must not count as rows in which a feature fires.
            batch, weights = batch.take(weights > 0), weights[weights > 0]
        weight = float(weights.sum())
        # A batch of zero-weight rows is no step.
        loss = self._step(batch, weights / weight, n_rows) if weight > 0 else 0.0
        return at.after(weight, loss)

    @torch.no_grad()
    @without_autocast()
    def held_out_loss(self, X: np.ndarray, sample_weight: np.ndarray, rows) -> float:
        """Return the mean loss of some rows, with the penalty as it is now."""
        total = 0.0
        for part in np.array_split(rows, -(-len(rows) // 1024)):
            x, targets = self._held_out(X, part)
            weights = torch.from_numpy(sample_weight[part]).to(x)
            if self.shards.by == "features":
                # The next batch overwrites these gradients.
                batch = x if targets is None else Pairs(x, targets)
                result = self.kernel.gradients(batch, weights, self.penalty.value)
                total += float(result.loss)
                continue
            total += float(
                loss_reference(
                    self.params,
                    x,
                    weights,
                    self.settings.activation,
                    self.penalty.value,
                    self.settings.prefixes,
                    targets,
                )
            )
        return total / float(sample_weight[rows].sum())

    def _held_out(self, X, part) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return some rows as they are trained on, and what codes of them decode."""
        x = torch.from_numpy(self.standardizer.apply(rows_at(X, part)))
        return x.to(self.settings.device, self.dtype), None

    def _read(self, batch: Batch) -> KernelBatch:
        """Gather the rows of a batch as they are trained on."""
        return self._rows.gather(batch.source, batch.local, self.standardizer)

    def _step(self, batch: Batch, weights: np.ndarray, n_rows: int) -> float:
        settings = self.settings
        self._narrow()
        ids, local = self.shards.rows(batch.ids), self.shards.rows(batch.local)
        mine = Batch(ids, batch.source, local)
        x: KernelBatch | None = None
        if self.kernel.takes_rows:
            x = self._rows.in_place(mine.source, mine.local, self.standardizer)
        if x is None:
            x = self._read(mine)
        shares = torch.from_numpy(self.shards.rows(weights))
        shares = shares.to(settings.device, self.dtype)
        result = self.kernel.gradients(
            x, shares, self.penalty.value, self.dead.to_revive(n_rows)
        )
        result = self.shards.combine(result, self.params)
        loss, n_active = result.loss, result.n_active
        self.dead.count(result.fired, len(batch.ids))
        l0 = float(n_active) / len(batch.ids)
        if settings.activation.selects == "by batch" and l0 > 0:
            self.threshold.add(float(result.lowest))
        self.penalty.follow(l0)

        self.n_steps += 1
        progress = None
        if self.n_steps_planned is not None:
            # The cycle ends one update after the last, which would have no effect.
            progress = self.n_steps / (self.n_steps_planned + 1)
            factor = one_cycle(progress, _WARM_UP, _DECAY)
            self.optimizer.learning_rate = settings.learning_rate * factor
        self.optimizer.step()
        silent = self.dead.silent(n_rows, progress)
        if not silent.any():
            return float(loss)
        if self.dead.nudges(loss):
            self.dead.nudge(self.params["encoder_bias"], silent)
        elif self.dead.resamples(self.n_steps, self.n_steps_planned):
            # Rows of the whole batch, so that all processes draw the same.
            x = self._read(batch)
            dead = silent.nonzero().squeeze(1)
            self.dead.resample(self.params, self.optimizer, x, dead, self.generator)
        return float(loss)

    def n_dead(self, n_rows: int) -> int:
        """Count the features that fired for none of the last `n_rows` rows."""
        return self.dead.n_dead(n_rows)

    def fitted_activation(self, exported: dict[str, np.ndarray]) -> Activation:
        """Return the activation that goes with weights that `export` returned."""
        return self.settings.activation.fitted(exported.get("threshold_"))

    def export(self) -> dict[str, np.ndarray]:
        """Return the weights that act on raw rows, as float64 arrays.

        Raises
        ------
        ValueError
            If training has left weights that are not finite.
        """
        activation = self.settings.activation
        encoder, encoder_bias = activation.encoder(self.params)
        mine = {
            "components_": self.params["decoder"],
            "encoder_coef_": encoder,
            "encoder_intercept_": encoder_bias,
        }
        threshold = activation.threshold(self.params)
        if activation.selects == "by batch":
            threshold = torch.full_like(encoder_bias, self.threshold.value)
        if threshold is not None:
            mine["threshold_"] = threshold
        weights = {key: self._whole(key, value) for key, value in mine.items()}
        weights["intercept_"] = self.params["bias"]
        return self._fold(weights)

    def _fold(self, weights: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
        """Return the weights that act on raw rows."""
        return fold_standardizer(weights, self.standardizer)

    def state(self) -> dict:
        """Return all that training needs to continue, as numpy arrays."""
        names = list(self.params)
        return {
            "params": {
                key: to_numpy(self._whole(key, p)) for key, p in self.params.items()
            },
            "moments": self.optimizer.optimizer.moments(
                lambda i, value: self._whole(names[i], value)
            ),
            "rows_since_fired": to_numpy(
                self._whole("rows_since_fired", self.dead.rows_since_fired)
            ),
            "generator": to_numpy(self.generator.get_state()),
            "standardizer": self.standardizer,
            "tied": self.settings.tied,
            "activation": self.settings.activation.name,
            "penalty_weight": self.penalty.value,
            "bound": (self.threshold.total, self.threshold.share),
        }

    @classmethod
    def from_state(cls, settings: SAESettings, state: dict) -> Self:
        """Rebuild a trainer from `state`, on the device of `settings`."""
        trainer = cls._untrained(settings, state)
        trainer._set_params(
            {k: torch.tensor(v, device="cpu") for k, v in state["params"].items()}
        )
        trainer.generator = generator_from(state["generator"])
        silence = torch.tensor(state["rows_since_fired"], device="cpu")
        trainer.dead.rows_since_fired.copy_(trainer._mine("rows_since_fired", silence))
        names = list(trainer.params)
        trainer.optimizer.optimizer.load_moments(
            state["moments"], lambda i, value: trainer._mine(names[i], value)
        )
        trainer.threshold.total, trainer.threshold.share = state["bound"]
        if settings.l0 is not None:
            trainer.penalty.value = state["penalty_weight"]
        return trainer

    @classmethod
    def _untrained(cls, settings: SAESettings, state: dict) -> Self:
        return cls(settings, state["standardizer"])

    def progress(self) -> dict:
        """Return what a resumed run needs beside `state` to reproduce it to the bit."""
        return {
            "n_steps": self.n_steps,
            "k": self.k,
            "memory": list(self.kernel.memory),
            "position": self.position and asdict(self.position),
        }

    def go_on(self, progress: dict) -> None:
        """Continue a run from what `progress` returned."""
        self.n_steps = progress["n_steps"]
        self._select(progress["k"])
        self.kernel.memory = tuple(progress["memory"])
        position = progress["position"]
        self.position = position and Position(**position)
