"""Minibatch training of a transcoder, which decodes other rows than it encodes."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch

from skfeat.kernels.sae._kernel import Pairs
from skfeat.solvers.autoencoder._batch_rows import BatchRows
from skfeat.solvers.autoencoder._linear_map import fit_linear_map
from skfeat.solvers.autoencoder._settings import DTYPES, SAESettings
from skfeat.solvers.autoencoder._standardizer import Standardizer
from skfeat.solvers.autoencoder._trainer import SAETrainer
from skfeat.solvers.autoencoder._weights import finite_arrays, unit_rows
from skfeat.utils._rows import Batch, rows_at
from skfeat.utils._torch import PLAIN, to_numpy


class TranscoderTrainer(SAETrainer):
    """Trains the weights of a transcoder, epoch by epoch.

    Parameters
    ----------
    settings : SAESettings
    standardizer : Standardizer
        Of the rows that are encoded.
    target_standardizer : Standardizer
        Of the rows that are decoded.

    Attributes
    ----------
    targets : ndarray of shape (n, d_out) or None
        The rows to decode, of those that `epoch` is given.
    """

    transcodes = True

    def __init__(
        self,
        settings: SAESettings,
        standardizer: Standardizer,
        target_standardizer: Standardizer,
    ):
        self.target_standardizer = target_standardizer
        # `standardizer` is needed for the first weights.
        self.standardizer = standardizer
        super().__init__(settings, standardizer)
        self._target_rows = BatchRows(self.dtype, settings.device, self.team)

    @property
    def n_decoded(self) -> int:
        """Columns of the rows that codes decode."""
        return len(self.target_standardizer.mean)

    def _initial_weights(self) -> dict[str, torch.Tensor]:
        # All directions at random: none that was measured, such as an encoder that
        # finds where the linear map predicts a decoder row, or a decoder regressed on
        # the first codes, did better on both of two MLP blocks.
        settings, m = self.settings, self.settings.n_components
        d_in, d = len(self.standardizer.mean), self.n_decoded

        def directions(n_columns):
            rows = torch.randn(m, n_columns, generator=self.generator, **PLAIN)
            return unit_rows(rows)

        weights = {
            "decoder": directions(d),
            "encoder_bias": torch.zeros(m, **PLAIN),
            "bias": torch.zeros(d, **PLAIN),
            **settings.activation.extra_params(m, d),
            "encoder": unit_rows(
                torch.randn(m, d_in, generator=self.generator, **PLAIN)
            ),
        }
        if settings.skip:
            weights["skip"] = torch.zeros(d, d_in, **PLAIN)
        dtype = DTYPES[settings.precision]
        return {name: value.to(dtype) for name, value in weights.items()}

    def start_from(self, X: np.ndarray, sample_weight: np.ndarray) -> None:
        """Set the skip, if there is one, to the linear map from rows to targets."""
        assert self.targets is not None
        if "skip" not in self.params:
            return
        linear = fit_linear_map(
            (X, self.standardizer),
            (self.targets, self.target_standardizer),
            sample_weight,
        )
        self.params["skip"].copy_(torch.from_numpy(linear))

    def _held_out(self, X, part) -> tuple[torch.Tensor, torch.Tensor | None]:
        x, _ = super()._held_out(X, part)
        assert self.targets is not None
        y = self.target_standardizer.apply(rows_at(self.targets, part))
        return x, torch.from_numpy(y).to(x)

    def _read(self, batch: Batch) -> Pairs:
        assert self.targets is not None
        x = self._rows.gather(batch.source, batch.local, self.standardizer)
        y = self._target_rows.gather(self.targets, batch.ids, self.target_standardizer)
        return Pairs(x, y)

    def _fold(self, weights: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
        """Return the weights that act on raw rows.

        Codes are in the units of the rows decoded: decoder rows keep their unit norm.
        """
        folded = finite_arrays(weights, "Transcoder")
        own, targets = self.standardizer, self.target_standardizer
        # Divided by the one before it is multiplied by the other, to stay in range.
        folded["encoder_coef_"] = folded["encoder_coef_"] / own.scale
        shift = folded["encoder_coef_"] @ own.mean
        folded["encoder_intercept_"] = targets.scale * (
            folded["encoder_intercept_"] - shift
        )
        folded["encoder_coef_"] *= targets.scale
        if "threshold_" in folded:
            folded["threshold_"] *= targets.scale
        intercept = folded["intercept_"] * targets.scale + targets.mean
        if "skip" in self.params:
            skip = to_numpy(self.params["skip"], np.float64) / own.scale
            folded["skip_coef_"] = skip * targets.scale
            intercept -= folded["skip_coef_"] @ own.mean
        folded["intercept_"] = intercept
        return folded

    def state(self) -> dict:
        """Return all that training needs to continue, as numpy arrays."""
        return {**super().state(), "target_standardizer": self.target_standardizer}

    @classmethod
    def _untrained(cls, settings: SAESettings, state: dict) -> Self:
        return cls(settings, state["standardizer"], state["target_standardizer"])
