"""An autoencoder whose weights are tensors in training."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch

from skfeat.activations import Activation, JumpReLU, ReLU
from skfeat.kernels._threads import Team
from skfeat.kernels.sae._differentiable import CoderTensors, encode_and_decode
from skfeat.solvers.autoencoder._weights import unit_rows
from skfeat.solvers.joint._problem import Coder
from skfeat.solvers.joint._units import Unit
from skfeat.utils._torch import to_float32, to_numpy

# How fast thresholds, or a penalty's weight, follow the number of active features.
_FOLLOW_RATE = 0.02
# Where the weight begins, of the mean code as a share of the mean code at the start.
FIRST_PENALTY = 1e-3


def times_to_follow(l0: float, target: float) -> float:
    """Return by what to multiply a threshold or penalty where a batch has this L0."""
    return math.exp(_FOLLOW_RATE * max(min(l0 / target - 1, 1.0), -1.0))


class TrainedCoder:
    """An autoencoder in training, of rows in the unit of its layer.

    What it computes is that of the fitted autoencoder. Where the number of active
    features a row is not given by the activation, it is held at that of the start: by
    thresholds that rise and fall together, or where there are none by an L1 penalty
    whose weight does.

    Parameters
    ----------
    coder : Coder
    unit : Unit
    device : torch.device
    team : Team
        Divides the work of loops.
    n_rows : float, default=inf
        Rows of all planned updates together.
    """

    def __init__(
        self,
        coder: Coder,
        unit: Unit,
        device: torch.device,
        team: Team,
        n_rows: float = math.inf,
    ):
        self.coder, self.unit = coder, unit
        scale = unit.scale
        bias = coder.encoder @ (unit.mean - coder.bias) + coder.encoder_bias

        parameter = partial(to_float32, device=device, trained=not coder.frozen)

        self.decoder = parameter(coder.decoder)
        self.encoder = self.decoder if coder.tied else parameter(coder.encoder)
        self.encoder_bias = parameter(bias / scale)
        self.bias = parameter((coder.bias - unit.mean) / scale)
        self.activation = coder.activation
        if isinstance(self.activation, JumpReLU):
            self.activation = JumpReLU(self.activation.threshold / scale)
        self._raised = 1.0
        self._encode_and_decode = encode_and_decode(
            self.activation,
            len(self.encoder_bias),
            device,
            team,
            n_rows * self.encoder.numel(),
        )
        self.penalty = 0.0
        self.l0: float | None = None

    @property
    def parameters(self) -> list[torch.Tensor]:
        """The tensors that are trained."""
        if self.coder.frozen:
            return []
        own = [] if self.coder.tied else [self.encoder]
        return [self.decoder, *own, self.encoder_bias, self.bias]

    def state(self) -> dict:
        """Return what training has changed, as numpy arrays and numbers."""
        return {
            "tensors": [to_numpy(tensor) for tensor in self.parameters],
            "penalty": self.penalty,
            "l0": self.l0,
            "raised": self._raised,
        }

    @torch.no_grad()
    def go_on(self, state: dict) -> None:
        """Take over what `state` has returned."""
        for tensor, array in zip(self.parameters, state["tensors"], strict=True):
            if tensor.shape != array.shape:
                raise ValueError("its weights are not those of such an autoencoder")
            tensor.copy_(torch.from_numpy(array))
        self.penalty, self.l0 = state["penalty"], state["l0"]
        self._raised = state["raised"]
        given = self.coder.activation
        if isinstance(given, JumpReLU) and self._raised != 1.0:
            self._raise_thresholds(given)

    @property
    def holds_l0(self) -> bool:
        """Whether a penalty must hold the number of active features."""
        return not self.coder.frozen and isinstance(self.activation, ReLU | JumpReLU)

    def codes(self, rows: torch.Tensor) -> torch.Tensor:
        """Encode rows (n, d) into codes (n, m)."""
        return self.activation.forward(
            torch.addmm(self.encoder_bias, rows, self.encoder.T)
        )

    def reconstruct(
        self, rows: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode rows (n, d); return codes (n, m), and the error of decoding them.

        The error is the mean of squares, weighted by `weights` (n,): a share of the
        rows' variance, which is one.
        """
        tensors = self.encoder, self.encoder_bias, self.decoder, self.bias
        return self._encode_and_decode(
            rows, weights, CoderTensors(*tensors), self.activation
        )

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Decode codes (n, m) into rows (n, d)."""
        return torch.addmm(self.bias, codes, self.decoder)

    def hold(self, l0: float, mean_code: float) -> None:
        """Hold the number of active features a row at that of the start."""
        self.l0 = l0
        if not self._has_thresholds and mean_code > 0:
            self.penalty = FIRST_PENALTY / mean_code

    @property
    def _has_thresholds(self) -> bool:
        given = self.coder.activation
        return isinstance(given, JumpReLU) and bool((given.threshold > 0).any())

    def follow(self, l0: float) -> None:
        """Raise thresholds, or the penalty, where a batch has more active codes."""
        if not self.l0:
            return
        times = times_to_follow(l0, self.l0)
        self.penalty *= times
        given = self.coder.activation
        if isinstance(given, JumpReLU) and self._has_thresholds:
            self._raised *= times
            self._raise_thresholds(given)

    def _raise_thresholds(self, given: JumpReLU) -> None:
        self.activation = JumpReLU(given.threshold / self.unit.scale * self._raised)

    @torch.no_grad()
    def normalize(self) -> None:
        """Give decoder rows the norm one, as a fit leaves them."""
        if not self.coder.frozen:
            self.decoder.copy_(unit_rows(self.decoder))

    def export(self) -> Coder:
        """Return the weights that act on raw rows."""
        if self.coder.frozen:
            return self.coder
        scale, mean = self.unit.scale, self.unit.mean
        decoder, encoder = to_numpy(self.decoder), to_numpy(self.encoder)
        encoder_bias, bias = (
            to_numpy(part, np.float64) for part in (self.encoder_bias, self.bias)
        )
        bias = bias * scale + mean
        return Coder(
            encoder,
            encoder_bias * scale + encoder @ (bias - mean),
            decoder,
            bias,
            self._raw_activation(),
            self.coder.tied,
        )

    def _raw_activation(self) -> Activation:
        given = self.coder.activation
        if isinstance(given, JumpReLU):
            return JumpReLU(given.threshold * self._raised)
        return given
