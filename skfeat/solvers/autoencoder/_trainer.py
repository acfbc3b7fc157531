"""Minibatch training of a sparse autoencoder.

The solver works on centred rows of unit mean square, and exports weights that act on
raw rows. Codes are exported in the units of the raw rows, ``scale`` times the codes
of the scaled ones: the decoder rows keep their unit norm and a tied encoder stays
equal to its decoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from skfeat.activations import Activation
from skfeat.kernels._memory import Workspace
from skfeat.kernels._threads import Team
from skfeat.kernels.sae._activations import TopK, TrainingActivation
from skfeat.kernels.sae._dense import BatchResult, DenseKernel, product_in
from skfeat.kernels.sae._narrow import Rows
from skfeat.kernels.sae._reference import loss_reference
from skfeat.kernels.sae._shards import Shards
from skfeat.kernels.sae._sparse import SparseKernel, compiled
from skfeat.solvers._loop import one_cycle
from skfeat.solvers.autoencoder._adam import Adam
from skfeat.utils._interrupts import InterruptsWait
from skfeat.utils._rows import Batch, batches_of_rows, row_blocks, rows_at
from skfeat.utils._torch import (
    generator_from,
    load_optimizer_state,
    make_generator,
    n_batches,
    optimizer_state,
    to_numpy,
)

# Weights are kept in one dtype, matrices may be multiplied in another.
DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.float32,
    "int8": torch.float32,
}

# Batch top-k averages its bound over about this many batches.
_BOUND_MEMORY = 100

# The auxiliary loss helps features that are silent for as many rows as see a feature
# of average frequency fire so many times.
_PATIENCE = 200

# The bias of a feature that has long been silent grows by this much an update, times
# the learning rate and the length of a row, until the feature fires again: one whose
# pre-activations are all negative is out of reach of every gradient. Measured on
# hidden layers of MLPs: without it a third of the features of a late layer stay dead,
# and more of it makes the others worse. A penalty pushes features down and needs more.
_NUDGE, _NUDGE_PENALISED = 0.1, 0.15

# That silence is an epoch at first, when the auxiliary loss still turns the feature to
# where it is needed, and ever less down to this share of an epoch: a late feature has
# few chances left. Short from the start, it made features of a known dictionary wrong.
_SHORTEST_SILENCE = 1 / 8

# Shares of a planned run in which the learning rate warms up and decays: after the
# warm-up it falls all the way, from a rate that would be too large to stay at.
_WARM_UP, _DECAY = 0.02, 1.0

# Learning rates of some parameters over that of the others, for activations without a
# penalty: a decoder row learns from the few rows of data it is part of, the bias from
# all. Measured on MNIST layers; under L1 a decoder that learns faster did worse.
_SHARES = {"decoder": 2.0, "bias": 0.3}

# Below this loss, on rows of unit mean square, there is nothing left to explain.
NOTHING_LEFT = 1e-12

# Shares of a planned run after which silent features are given new directions, and the
# length of their encoder rows over that of the others where all positive codes count.
_RESAMPLED_AT = (1 / 8, 2 / 8, 3 / 8, 4 / 8)
_RESAMPLED_LENGTH = 0.2

# How fast the penalty follows when a number of active features is asked for.
_PENALTY_RATE = 0.01


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
        mean = np.zeros(X.shape[1])
        if center:
            for block, rows in row_blocks(X):
                mean += weights[block] @ rows.astype(np.float64, copy=False)
        scale = 1.0
        if rms:
            # In units of the largest deviation, squares of tiny or huge rows stay
            # within range. Constant data has no scale: leave it as it is.
            largest = max(_largest_deviation(rows, mean) for _, rows in row_blocks(X))
            unit = largest or 1.0
            total = sum(
                weights[block] @ np.square((rows - mean) / unit).sum(axis=1)
                for block, rows in row_blocks(X)
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


def _largest_deviation(rows: np.ndarray, mean: np.ndarray) -> float:
    # Of the extremes of each column: fewer numbers are made float64 than there are.
    above, below = rows.max(axis=0) - mean, mean - rows.min(axis=0)
    return float(np.maximum(above, below).max())


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
        self.team, self._space = Team(), Workspace()
        self.shards = Shards(settings.distribute)
        self.features = self.shards.features(settings.n_components)
        self.n_steps = 0
        self.n_steps_planned: int | None = None
        # Of the last epoch; and whether no batch is half done.
        self.position: Position | None = None
        self.is_whole = True
        n_features = len(standardizer.mean)
        self.penalty_weight = settings.activation.penalty_weight(
            settings.alpha, n_features
        )
        nudge = _NUDGE_PENALISED if settings.activation.penalised else _NUDGE
        self._nudge = nudge * settings.learning_rate * math.sqrt(n_features)
        # What batch top-k last cut at, averaged; the share of batches in it comes next.
        self.bound, self.bound_share = 0.0, 0.0
        self._initialise(n_features)

    def _initialise(self, n_features: int) -> None:
        settings = self.settings
        m = settings.n_components
        decoder = torch.randn(m, n_features, generator=self.generator).to(self.dtype)
        decoder /= decoder.norm(dim=1, keepdim=True).clamp_min(1e-12)
        # An encoder that starts as its decoder's transpose keeps features alive.
        params = {
            "decoder": decoder,
            "encoder_bias": torch.zeros(m),
            "bias": torch.zeros(n_features),
            **settings.activation.extra_params(m, n_features),
        }
        if not settings.tied:
            params["encoder"] = decoder.clone()
        self._set_params(params)
        n_mine = len(self.params["encoder_bias"])
        self.rows_since_fired = torch.zeros(
            n_mine, dtype=torch.int64, device=settings.device
        )

    def _set_params(self, params: dict[str, torch.Tensor]) -> None:
        """Take the weights of this process's features, given those of all."""
        settings = self.settings
        self.params = {
            key: self._mine(key, value).to(settings.device, self.dtype).contiguous()
            for key, value in params.items()
        }
        shared = self.params, settings.activation, settings.prefixes
        on_cpu = settings.device.type == "cpu"
        self.loops = compiled() if on_cpu else None
        self.kernel: DenseKernel | SparseKernel
        team = None if self.loops is None else self.team
        # What processes choose together they choose from matrices.
        together = self.shards.by == "features" or (
            self.shards.by == "rows" and settings.activation.selects == "by batch"
        )
        if team is None or together:
            first = self.features.start
            matmul = product_in(settings.precision)
            self.kernel = DenseKernel(*shared, matmul, shards=self.shards, first=first)
        else:
            self.kernel = SparseKernel(
                *shared, settings.precision, team=team, shards=self.shards
            )
        # A tied decoder is the encoder as well: its rows learn from all they rank.
        even = settings.activation.penalised or settings.tied
        self.optimizer = Adam(
            self.params, settings.learning_rate, team, shares=None if even else _SHARES
        )

    def _mine(self, name: str, values):
        """Return the part of a parameter, or of its moments, that is kept here."""
        return values if name == "bias" else values[self.features]

    def _whole(self, name: str, values: torch.Tensor) -> torch.Tensor:
        """Return what `_mine` took a part of."""
        if name == "bias":
            return values
        return self.shards.all_features(values, self.settings.n_components)

    def plan(self, n_rows: int, n_epochs: int) -> None:
        """Announce a whole run, so that the learning rate can warm up and decay."""
        self.n_steps_planned = n_epochs * n_batches(n_rows, self.settings.batch_size)

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
            The rows that take part; None: all.
        number : int, optional
            Number of the epoch: one that was left in the middle goes on from there.
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
            # The rows are shuffled as they were, by a generator of their own: others
            # may have drawn from the trainer's since.
            generator = generator_from(at.generator)
            if at.n_batches == 0:
                self.generator = generator
        self.position = at
        n_rows = len(X) if rows is None else len(rows)
        size = self.settings.batch_size
        wait = InterruptsWait()
        with self.team, nullcontext() if after_batch is None else wait.installed():
            for batch in batches_of_rows(X, size, generator, rows, at.n_batches):
                with wait:
                    self.is_whole = False
                    at = self.position = self._batch(batch, sample_weight, n_rows, at)
                    self.is_whole = True
                if after_batch is not None:
                    after_batch()
        return at.total / at.weight

    def _batch(self, batch: Batch, sample_weight, n_rows: int, at: Position):
        weights = sample_weight[batch.ids]
        if not weights.all():
            # What weighs nothing wakes no feature either.
            batch, weights = batch.take(weights > 0), weights[weights > 0]
        weight = float(weights.sum())
        # Rows of a batch that all weigh nothing have nothing to say.
        loss = self._step(batch, weights / weight, n_rows) if weight > 0 else 0.0
        return at.after(weight, loss)

    @torch.no_grad()
    def held_out_loss(self, X: np.ndarray, sample_weight: np.ndarray, rows) -> float:
        """Return the mean loss of some rows, with the penalty as it is now."""
        total = 0.0
        for part in np.array_split(rows, -(-len(rows) // 1024)):
            x = torch.from_numpy(self.standardizer.apply(rows_at(X, part)))
            x = x.to(self.settings.device, self.dtype)
            weights = torch.from_numpy(sample_weight[part]).to(x)
            if self.shards.by == "features":
                # Gradients that nobody asked for; the next batch overwrites them.
                result = self.kernel.gradients(x, weights, self.penalty_weight)
                total += float(result.loss)
                continue
            total += float(
                loss_reference(
                    self.params,
                    x,
                    weights,
                    self.settings.activation,
                    self.penalty_weight,
                    self.settings.prefixes,
                )
            )
        return total / float(sample_weight[rows].sum())

    def _step(self, batch: Batch, weights: np.ndarray, n_rows: int) -> float:
        settings = self.settings
        local = self.shards.rows(batch.local)
        x: Any = self._rows_at(batch.source, local)
        if x is None:
            x = self._rows(batch.source, local)
        shares = torch.from_numpy(self.shards.rows(weights))
        shares = shares.to(settings.device, self.dtype)
        result = self.kernel.gradients(
            x, shares, self.penalty_weight, self._silent(n_rows)
        )
        result = self.shards.combine(result, self.params)
        loss, n_active = result.loss, result.n_active
        self.rows_since_fired += len(batch.ids)
        self.rows_since_fired.masked_fill_(result.fired, 0)
        self._adapt(result, float(n_active) / len(batch.ids))

        self.n_steps += 1
        silence: float = n_rows
        if self.n_steps_planned is not None:
            # The cycle ends one update after the last, which would have no effect.
            progress = self.n_steps / (self.n_steps_planned + 1)
            factor = one_cycle(progress, _WARM_UP, _DECAY)
            self.optimizer.learning_rate = settings.learning_rate * factor
            if settings.dead_features == "auxk":
                silence *= max(_SHORTEST_SILENCE, 1 - progress)
        self.optimizer.step()
        dead = self.rows_since_fired >= silence
        if not dead.any():
            return float(loss)
        # Where nothing is left to explain silence is right.
        if settings.dead_features == "auxk" and loss > NOTHING_LEFT:
            self.params["encoder_bias"].add_(dead.to(self.dtype), alpha=self._nudge)
        elif self._time_to_resample():
            # Of the whole batch, so that all processes draw the same.
            x = self._rows(batch.source, batch.local)
            self._resample(x, dead.nonzero().squeeze(1))
        return float(loss)

    def _rows_at(self, source: np.ndarray, local: np.ndarray) -> Rows | None:
        """Return the rows of a batch where they lie, for a kernel that gathers them.

        Such a kernel is compiled for rows of its own dtype alone.
        """
        plain = source.flags.c_contiguous and source.flags.writeable
        own = source.dtype == self.params["bias"].numpy().dtype
        if not (self.kernel.gathers and plain and own):
            return None
        mean, scale = self.standardizer.mean, self.standardizer.scale
        return Rows(source, np.ascontiguousarray(local), mean, 1 / scale)

    def _rows(self, source: np.ndarray, local: np.ndarray) -> torch.Tensor:
        """Gather, centre and scale the rows of a batch."""
        simple = source.dtype in (np.float32, np.float64) and source.flags.c_contiguous
        if self.loops is None or not simple:
            x = torch.from_numpy(self.standardizer.apply(source[local]))
            # Loops are compiled for rows that lie one after the other.
            return x.to(self.settings.device, self.dtype).contiguous()
        n, d = len(local), source.shape[1]
        rows = self._space.room("rows", n, d, self.params["bias"].numpy().dtype)
        self.team.run(
            self.loops.gather,
            n,
            *(source, local, self.standardizer.mean, 1 / self.standardizer.scale, rows),
            n_elements=rows.size,
        )
        return torch.from_numpy(rows)

    def _adapt(self, result: BatchResult, l0: float) -> None:
        """Let the bound of batch top-k and a penalty with a target follow the batch."""
        if self.settings.activation.selects == "by batch" and l0 > 0:
            decay = 1 - 1 / _BOUND_MEMORY
            self.bound = decay * self.bound + (1 - decay) * float(result.lowest)
            self.bound_share = decay * self.bound_share + (1 - decay)
        if self.settings.l0 is not None:
            surplus = min(l0 / self.settings.l0 - 1, 1.0)
            self.penalty_weight *= math.exp(_PENALTY_RATE * surplus)

    def _silent(self, n_rows: int) -> torch.Tensor | None:
        """Return the features that the auxiliary loss is to help.

        They have not fired for as many rows as would have seen them fire hundreds of
        times, were they as frequent as the others.
        """
        activation = self.settings.activation
        if self.settings.dead_features != "auxk" or not isinstance(activation, TopK):
            return None
        patience = _PATIENCE * self.settings.n_components / activation.k
        return torch.where(self.rows_since_fired >= min(n_rows, patience))[0]

    def _time_to_resample(self) -> bool:
        if self.settings.dead_features != "resample" or not self.n_steps_planned:
            return False
        times = [int(share * self.n_steps_planned) for share in _RESAMPLED_AT]
        return self.n_steps in times

    def _resample(self, x: torch.Tensor, dead: torch.Tensor) -> None:
        """Give dead features the directions of badly reconstructed rows of a batch.

        After Bricken et al., "Towards Monosemanticity" (2023): rows are drawn with a
        probability that grows like the square of their squared error.
        """
        params, activation = self.params, self.settings.activation
        encoder = params.get("encoder", params["decoder"])
        centred = x - params["bias"]
        u = centred @ encoder.T + params["encoder_bias"]
        codes, _ = activation.reference(u, params)
        errors = (centred - codes @ params["decoder"]).square().sum(1)
        odds = (errors / errors.max().clamp_min(1e-30)).square().cpu() + 1e-12
        drawn = torch.multinomial(odds, len(dead), True, generator=self.generator)
        rows = centred[drawn.to(x.device)]
        rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
        params["decoder"][dead] = rows
        if "encoder" in params:
            share = _RESAMPLED_LENGTH if activation.penalised else 1.0
            params["encoder"][dead] = share * encoder.norm(dim=1).mean() * rows
        params["encoder_bias"][dead] = 0
        first = activation.extra_params(len(encoder), x.shape[1])
        for name, value in first.items():
            params[name][dead] = value.to(params[name])[dead]
        self.optimizer.forget(dead)
        self.rows_since_fired[dead] = 0

    def n_dead(self, n_rows: int) -> int:
        """Count the features that fired for none of the last `n_rows` rows."""
        return int(self.shards.sum_features((self.rows_since_fired >= n_rows).sum()))

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
        activation, scale = self.settings.activation, self.standardizer.scale
        encoder, encoder_bias = activation.encoder(self.params)
        weights = {
            "components_": self.params["decoder"],
            "intercept_": self.params["bias"],
            "encoder_coef_": encoder,
            "encoder_intercept_": encoder_bias,
        }
        threshold = activation.threshold(self.params)
        if activation.selects == "by batch":
            bound = self.bound / max(self.bound_share, 1e-12)
            threshold = torch.full_like(encoder_bias, bound)
        if threshold is not None:
            weights["threshold_"] = threshold
        bias = weights.pop("intercept_")
        weights = {key: self._whole(key, p) for key, p in weights.items()}
        weights["intercept_"] = bias
        exported = {key: to_numpy(p, np.float64) for key, p in weights.items()}
        if not all(np.isfinite(value).all() for value in exported.values()):
            raise ValueError(
                "SparseAutoencoder diverged: the weights are non-finite; lower "
                "'learning_rate_init' or rescale X."
            )
        for key in {"intercept_", "encoder_intercept_", "threshold_"} & set(exported):
            exported[key] *= scale
        exported["intercept_"] += self.standardizer.mean
        return exported

    def state(self) -> dict:
        """Return all that is needed to go on training, as numpy arrays."""
        names = list(self.params)
        return {
            "params": {
                key: to_numpy(self._whole(key, p)) for key, p in self.params.items()
            },
            "moments": optimizer_state(
                self.optimizer.optimizer, lambda i, value: self._whole(names[i], value)
            ),
            "rows_since_fired": to_numpy(
                self._whole("rows_since_fired", self.rows_since_fired)
            ),
            "generator": to_numpy(self.generator.get_state()),
            "standardizer": self.standardizer,
            "tied": self.settings.tied,
            "activation": self.settings.activation.name,
            "penalty_weight": self.penalty_weight,
            "bound": (self.bound, self.bound_share),
        }

    @classmethod
    def from_state(cls, settings: SAESettings, state: dict) -> SAETrainer:
        """Rebuild a trainer from `state`, on the device of `settings`."""
        trainer = cls(settings, state["standardizer"])
        trainer._set_params(
            {key: torch.tensor(value) for key, value in state["params"].items()}
        )
        trainer.generator = generator_from(state["generator"])
        silence = torch.tensor(state["rows_since_fired"])
        trainer.rows_since_fired.copy_(trainer._mine("rows_since_fired", silence))
        names = list(trainer.params)
        load_optimizer_state(
            trainer.optimizer.optimizer,
            state["moments"],
            lambda i, value: trainer._mine(names[i], value),
        )
        trainer.bound, trainer.bound_share = state["bound"]
        if settings.l0 is not None:
            trainer.penalty_weight = state["penalty_weight"]
        return trainer

    def progress(self) -> dict:
        """Return what `state` lacks for a run to end as if it had never stopped."""
        return {
            "n_steps": self.n_steps,
            "memory": list(self.kernel.memory),
            "position": self.position and asdict(self.position),
        }

    def go_on(self, progress: dict) -> None:
        """Take up a run where `progress` was asked for."""
        self.n_steps = progress["n_steps"]
        self.kernel.memory = tuple(progress["memory"])
        position = progress["position"]
        self.position = position and Position(**position)
