"""What replaces an MLP, its weights tensors in training.

Weights are in units in which what is read and what is computed have root mean square
one, so that one learning rate suits all layers.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from scipy import sparse

from skfeat.activations import JumpReLU, TopK
from skfeat.kernels._threads import Team
from skfeat.kernels.connector._masked_product import product
from skfeat.language.whole._feature_mlp import Layer
from skfeat.solvers._prune import Pruner
from skfeat.solvers.autoencoder._weights import unit_rows
from skfeat.solvers.joint._problem import Coder, Connection
from skfeat.solvers.joint._start import dense_start, most_weights
from skfeat.solvers.joint._trained_coder import (
    FIRST_PENALTY,
    TrainedCoder,
    times_to_follow,
)
from skfeat.solvers.joint._units import Unit, unit_of_hidden
from skfeat.utils._torch import to_float32, to_numpy

# Learning rates of weights between features, of autoencoders, and of transcoders, as
# shares of the largest; each measured on a language model.
RATES = {"connectors": 1.0, "coders": 0.5, "transcoders": 0.25}


def unit_of(rows: np.ndarray) -> Unit:
    """Return the unit of rows (n, d)."""
    return unit_of_hidden(rows, np.ones(len(rows)))


class HeldSparsity:
    """Holds the number of active features a row where no activation does.

    An L1 penalty on the codes follows the number: it grows where a batch has more
    active features than there were at the start, and falls where it has fewer.

    Parameters
    ----------
    activation : ReLU, TopK or JumpReLU
        Top-k needs no penalty.
    codes : ndarray of shape (n, m)
        Those at the start.
    """

    def __init__(self, activation, codes: np.ndarray):
        self.target = float((codes > 0).sum(axis=1).mean())
        mean = float(codes.sum(axis=1).mean())
        is_held = not isinstance(activation, TopK) and mean > 0
        self.penalty = FIRST_PENALTY / mean if is_held else 0.0
        self.codes: torch.Tensor | None = None

    def loss(self) -> torch.Tensor | float:
        """Return the penalty of the latest codes, and let it follow their number."""
        codes, self.codes = self.codes, None
        if not self.penalty or codes is None:
            return 0.0
        active = float((codes.detach() > 0).sum(dim=1).float().mean())
        self.penalty *= times_to_follow(active, self.target)
        return self.penalty * codes.sum(dim=1).mean()


class TrainedPair:
    """Two autoencoders and the sparse weights between their features, in training.

    Parameters
    ----------
    coders : tuple of two Coder
        Of the rows that the MLP reads and of those that it computes.
    connection : Connection
    rows : tuple of two ndarray
        Some such rows.
    device : torch.device
    team : Team
    """

    def __init__(
        self,
        coders: tuple[Coder, Coder],
        connection: Connection,
        rows: tuple[np.ndarray, np.ndarray],
        device: torch.device,
        team: Team,
    ):
        self.connection, self.team, self.device = connection, team, device
        self.units = tuple(unit_of(part) for part in rows)
        self.input, self.output = (
            TrainedCoder(coder, unit, device, team)
            for coder, unit in zip(coders, self.units, strict=True)
        )
        codes = [
            to_numpy(coder.codes(_in_unit(part, unit, device)), np.float32)
            for coder, unit, part in zip(
                (self.input, self.output), self.units, rows, strict=True
            )
        ]
        self.mean_codes = torch.from_numpy(
            codes[0].mean(axis=0) * connection.fit_intercept
        ).to(device)
        self.sparsity = HeldSparsity(self.input.activation, codes[0])
        self._start(codes)
        self.pruner = self._pruner()
        self.n_products = 1.0
        self.choose_product()

    def _start(self, codes: list[np.ndarray]) -> None:
        connection = self.connection
        if connection.start is None:
            n = len(codes[0])
            read, computed = codes
            coef, intercept = dense_start(
                read,
                computed,
                np.full(n, 1 / n),
                connection.budget or 0,
                fit_intercept=connection.fit_intercept,
            )
        else:
            inside, outside = (unit.scale for unit in self.units)
            coef, intercept = connection.start
            coef, intercept = coef * inside / outside, intercept / outside
        intercept = intercept + coef @ to_numpy(self.mean_codes, np.float64)
        trained = not connection.frozen

        self.coef = to_float32(coef, self.device, trained=trained)
        self.intercept = to_float32(
            intercept, self.device, trained=trained and connection.fit_intercept
        )

    def _pruner(self) -> Pruner:
        coef, budget = self.coef.detach(), self.connection.budget
        support = coef != 0
        if self.connection.frozen or budget is None:
            return Pruner.fixed(coef, support)
        budget = min(int(budget), coef.numel())
        return Pruner(coef, budget, most_weights(coef.numel(), budget))

    def choose_product(self) -> None:
        """Choose how to multiply by the weights that are left."""
        self.product = product(self.pruner.mask, self.n_products, self.team)

    @property
    def groups(self) -> dict[str, list[torch.Tensor]]:
        """The tensors that are trained, by their kind."""
        weights = [t for t in (self.coef, self.intercept) if t.requires_grad]
        coders = [*self.input.parameters]
        if self.output.parameters:
            coders += [self.output.decoder, self.output.bias]
            # An encoder of its own is moved by the error of what it encodes alone.
            coders += [self.output.encoder_bias]
            if not self.output.coder.tied:
                coders.append(self.output.encoder)
        return {"connectors": weights, "coders": coders}

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Compute the output (n, d_out) of rows (n, d)."""
        self.sparsity.codes = codes = self.input.codes(_to_unit(rows, self.units[0]))
        at_mean = self.intercept - self.coef @ self.mean_codes
        sums = self.product(self.coef, codes.T) + at_mean[:, None]
        features = sums.relu() if self.connection.link == "relu" else sums
        return _from_unit(self.output.decode(features.T), self.units[1])

    def reconstruction_error(
        self, rows: torch.Tensor, outputs: torch.Tensor
    ) -> torch.Tensor:
        """Return the errors of both autoencoders, each a share of a variance."""
        error = rows.new_zeros(())
        for coder, part, unit in zip(
            (self.input, self.output), (rows, outputs), self.units, strict=True
        ):
            if coder.parameters:
                weights = part.new_full((len(part),), 1 / len(part))
                error = error + coder.reconstruct(_to_unit(part, unit), weights)[1]
        return error

    def output_error(
        self, computed: torch.Tensor, outputs: torch.Tensor
    ) -> torch.Tensor:
        """Return the squared error of what is computed, as a share of the variance."""
        return _share_of_variance(computed, outputs, self.units[1])

    def normalize(self) -> None:
        """Give decoder rows the norm one."""
        self.input.normalize()
        self.output.normalize()

    def export(self) -> tuple[Coder, Coder, np.ndarray, np.ndarray]:
        """Return both coders, the weights and the intercepts, acting on raw rows."""
        read, computed = (unit.scale for unit in self.units)
        coef = to_numpy(self.coef, np.float64)
        intercept = to_numpy(self.intercept, np.float64)
        intercept = intercept - coef @ to_numpy(self.mean_codes, np.float64)
        return (
            self.input.export(),
            self.output.export(),
            coef * computed / read,
            intercept * computed,
        )

    def layer(self) -> Layer:
        """Return the arrays as they are now."""
        read, computed, coef, intercept = self.export()
        return Layer(
            read.encoder,
            read.encoder_bias - read.encoder @ read.bias,
            read.activation,
            computed.decoder,
            computed.bias,
            sparse.csr_array(coef),
            intercept,
            self.connection.link,
        )


class TrainedTranscoder:
    """A transcoder in training.

    Parameters
    ----------
    layer : Layer
        Of the fitted transcoder.
    rows : tuple of two ndarray
        Some rows that it reads, and the MLP's output of them.
    frozen : bool
    device : torch.device
    """

    pruner = None

    def __init__(
        self,
        layer: Layer,
        rows: tuple[np.ndarray, np.ndarray],
        frozen: bool,
        device: torch.device,
    ):
        self.given, self.frozen = layer, frozen
        self.units = tuple(unit_of(part) for part in rows)
        read, computed = self.units

        tensor = partial(to_float32, device=device, trained=not frozen)

        # Codes are in the unit of the output, which decoder rows of norm one ask for.
        ratio = read.scale / computed.scale
        self.encoder = tensor(layer.encoder * ratio)
        bias = layer.encoder_bias + layer.encoder @ read.mean
        self.encoder_bias = tensor(bias / computed.scale)
        self.decoder = tensor(layer.decoder)
        bias = layer.bias - computed.mean
        if layer.skip is not None:
            bias = bias + layer.skip @ read.mean
        self.bias = tensor(bias / computed.scale)
        self.skip = None if layer.skip is None else tensor(layer.skip * ratio)
        self.activation = layer.activation
        if isinstance(self.activation, JumpReLU):
            self.activation = JumpReLU(self.activation.threshold / computed.scale)
        with torch.no_grad():
            codes = self._codes(_in_unit(rows[0], read, device))
        self.sparsity = HeldSparsity(self.activation, to_numpy(codes))

    def _codes(self, rows: torch.Tensor) -> torch.Tensor:
        return self.activation.forward(
            torch.addmm(self.encoder_bias, rows, self.encoder.T)
        )

    @property
    def groups(self) -> dict[str, list[torch.Tensor]]:
        """The tensors that are trained, by their kind."""
        tensors = [self.encoder, self.encoder_bias, self.decoder, self.bias]
        if self.skip is not None:
            tensors.append(self.skip)
        return {"transcoders": [] if self.frozen else tensors}

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Compute the output (n, d_out) of rows (n, d)."""
        rows = _to_unit(rows, self.units[0])
        self.sparsity.codes = codes = self._codes(rows)
        output = torch.addmm(self.bias, codes, self.decoder)
        if self.skip is not None:
            output = output + rows @ self.skip.T
        return _from_unit(output, self.units[1])

    def reconstruction_error(
        self, rows: torch.Tensor, outputs: torch.Tensor
    ) -> torch.Tensor:
        """Return zero: it reconstructs nothing but the output."""
        return rows.new_zeros(())

    def output_error(
        self, computed: torch.Tensor, outputs: torch.Tensor
    ) -> torch.Tensor:
        """Return the squared error of what is computed, as a share of the variance."""
        return _share_of_variance(computed, outputs, self.units[1])

    @torch.no_grad()
    def normalize(self) -> None:
        """Give decoder rows the norm one, as a fit leaves them."""
        if not self.frozen:
            self.decoder.copy_(unit_rows(self.decoder))

    def layer(self) -> Layer:
        """Return the arrays as they are now, acting on raw rows."""
        if self.frozen:
            return self.given
        read, computed = self.units
        ratio = read.scale / computed.scale
        encoder = to_numpy(self.encoder, np.float64) / ratio
        bias = to_numpy(self.bias, np.float64) * computed.scale + computed.mean
        skip = None
        if self.skip is not None:
            skip = to_numpy(self.skip, np.float64) / ratio
            bias = bias - skip @ read.mean
        return Layer(
            encoder,
            to_numpy(self.encoder_bias, np.float64) * computed.scale
            - encoder @ read.mean,
            self.given.activation,
            to_numpy(self.decoder, np.float64),
            bias,
            skip=skip,
        )


Trained = Any  # a TrainedPair or a TrainedTranscoder


def _in_unit(rows: np.ndarray, unit: Unit, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(unit.apply(rows)).to(device)


def _to_unit(rows: torch.Tensor, unit: Unit) -> torch.Tensor:
    return (rows - rows.new_tensor(unit.mean)) / float(unit.scale)


def _from_unit(rows: torch.Tensor, unit: Unit) -> torch.Tensor:
    return rows * float(unit.scale) + rows.new_tensor(unit.mean)


def _share_of_variance(computed, outputs, unit: Unit) -> torch.Tensor:
    return (computed - outputs).square().mean() / float(unit.scale) ** 2
