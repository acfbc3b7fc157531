"""Features that no longer fire: how long they are silent, and what revives them."""

from __future__ import annotations

import math

import torch

from skfeat.kernels.sae._activations import TopK
from skfeat.kernels.sae._kernel import Batch, rows_and_targets
from skfeat.kernels.sae._shards import Shards
from skfeat.solvers.autoencoder._adam import Adam
from skfeat.solvers.autoencoder._settings import NOTHING_LEFT, SAESettings
from skfeat.solvers.autoencoder._weights import unit_rows

# The auxiliary loss revives features that are silent for as many rows as see a feature
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

# Shares of a planned run after which silent features get new directions, and the
# length of their encoder rows over that of the others where all positive codes count.
_RESAMPLED_AT = (1 / 8, 2 / 8, 3 / 8, 4 / 8)
_RESAMPLED_LENGTH = 0.2


class DeadFeatures:
    """Counts for how many rows each feature has been silent, and revives the silent.

    Parameters
    ----------
    settings : SAESettings
    n_features : int
        Columns of the rows.
    n_mine : int
        Features of this process.
    shards : Shards

    Attributes
    ----------
    rows_since_fired : Tensor of int64, shape (n_mine,)
    """

    def __init__(
        self, settings: SAESettings, n_features: int, n_mine: int, shards: Shards
    ):
        self._settings, self._shards = settings, shards
        nudge = _NUDGE_PENALISED if settings.activation.penalised else _NUDGE
        self._nudge = nudge * settings.learning_rate * math.sqrt(n_features)
        self.rows_since_fired = torch.zeros(
            n_mine, dtype=torch.int64, device=settings.device
        )

    def count(self, fired: torch.Tensor, n_rows: int) -> None:
        """Count the rows of a batch, in which some features fired."""
        self.rows_since_fired += n_rows
        self.rows_since_fired.masked_fill_(fired, 0)

    def n_dead(self, n_rows: int) -> int:
        """Count the features that fired for none of the last `n_rows` rows."""
        return int(self._shards.sum_features((self.rows_since_fired >= n_rows).sum()))

    def to_revive(self, n_rows: int) -> torch.Tensor | None:
        """Return the features that the auxiliary loss revives.

        They have not fired for as many rows as would have seen them fire hundreds of
        times, were they as frequent as the others.
        """
        activation = self._settings.activation
        if self._settings.dead_features != "auxk" or not isinstance(activation, TopK):
            return None
        patience = _PATIENCE * self._settings.n_components / activation.k
        return torch.where(self.rows_since_fired >= min(n_rows, patience))[0]

    def silent(self, n_rows: int, progress: float | None) -> torch.Tensor:
        """Tell which features have been silent too long, an epoch or less.

        `progress` is the share of a planned run that is over; None: there is no plan.
        """
        silence: float = n_rows
        if progress is not None and self._settings.dead_features == "auxk":
            silence *= max(_SHORTEST_SILENCE, 1 - progress)
        return self.rows_since_fired >= silence

    def nudges(self, loss: float | torch.Tensor) -> bool:
        """Tell whether biases of silent features grow.

        Where nothing is left to explain silence is right.
        """
        return self._settings.dead_features == "auxk" and bool(loss > NOTHING_LEFT)

    def nudge(self, encoder_bias: torch.Tensor, silent: torch.Tensor) -> None:
        """Raise the biases of silent features."""
        encoder_bias.add_(silent.to(encoder_bias.dtype), alpha=self._nudge)

    def resamples(self, n_steps: int, n_steps_planned: int | None) -> bool:
        """Tell whether silent features get new directions after this step."""
        if self._settings.dead_features != "resample" or not n_steps_planned:
            return False
        times = [int(share * n_steps_planned) for share in _RESAMPLED_AT]
        return n_steps in times

    def resample(
        self,
        params: dict[str, torch.Tensor],
        optimizer: Adam,
        x: Batch,
        dead: torch.Tensor,
        generator: torch.Generator,
    ) -> None:
        """Give dead features the directions of badly reconstructed rows of a batch.

        After Bricken et al., "Towards Monosemanticity" (2023): rows are drawn with a
        probability that grows like the square of their squared error. In a transcoder
        the decoder gets the direction of the error.
        """
        activation = self._settings.activation
        encoder = params.get("encoder", params["decoder"])
        read, target = rows_and_targets(params, x)
        u = read @ encoder.T + params["encoder_bias"]
        codes, _ = activation.reference(u, params)
        missing = target - codes @ params["decoder"]
        errors = missing.square().sum(1)
        odds = (errors / errors.max().clamp_min(1e-30)).square().cpu() + 1e-12
        drawn = torch.multinomial(odds, len(dead), True, generator=generator)
        drawn = drawn.to(errors.device)
        rows = unit_rows(read[drawn])
        params["decoder"][dead] = rows if target is read else unit_rows(missing[drawn])
        if "encoder" in params:
            share = _RESAMPLED_LENGTH if activation.penalised else 1.0
            params["encoder"][dead] = share * encoder.norm(dim=1).mean() * rows
        params["encoder_bias"][dead] = 0
        first = activation.extra_params(len(encoder), target.shape[1])
        for name, value in first.items():
            params[name][dead] = value.to(params[name])[dead]
        optimizer.forget(dead)
        self.rows_since_fired[dead] = 0
