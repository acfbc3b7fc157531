"""Steps of a chain whose arrays are tensors in training, in units of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from skfeat.chain import Step
from skfeat.chain._kinds import Window
from skfeat.chain._steps import run_numpy, torch_step
from skfeat.solvers.joint._units import unit_of_hidden, unit_of_inputs
from skfeat.utils._torch import to_float32, to_numpy


class TrainedLayer:
    """A linear layer in training, in units of what it reads and of what it computes.

    ``y = out * (theta @ ((x - mean) / into) + phi)``. One learning rate suits all
    layers then, and a weight that is dropped leaves what it adds on average to the
    intercept.
    """

    def __init__(self, step: Step, read: np.ndarray, *, of_inputs: bool):
        self.step = step
        # Columns of inputs may each have a unit of their own.
        unit = (unit_of_inputs if of_inputs else unit_of_hidden)(
            read, np.full(len(read), 1 / len(read))
        )
        self.mean = unit.mean.astype(np.float64)
        self.into = np.broadcast_to(unit.scale, self.mean.shape).astype(np.float64)
        self.is_centred = False

    def start(self, coef: np.ndarray, intercept: np.ndarray, out: float) -> None:
        """Set the raw weights to begin with, and the unit of what is computed."""
        self.out = out
        self.theta = coef * self.into / out
        self.phi = (intercept + self.on_average(coef)) / out

    def on_average(self, coef):
        """Return what raw weights (q, p) add to each output on average."""
        return coef @ self.mean

    def power(self, values: np.ndarray) -> float:
        """Return the sum of mean squares, in its unit, of what an output reads."""
        rows = (values - self.mean) / self.into
        return float(np.square(rows).mean(axis=0).sum())

    def compute(self, values: np.ndarray, coef, intercept) -> np.ndarray:
        """Apply raw weights to rows."""
        return values @ coef.T + intercept

    def to_device(self, device: torch.device, *, trained: bool) -> None:
        """Make tensors of the weights and units; centred rows may be read already."""
        mean = np.zeros_like(self.mean) if self.is_centred else self.mean

        self.coef = to_float32(self.theta, device, trained=trained)
        self.intercept = to_float32(self.phi, device, trained=trained)
        self.unit = to_float32(self.out / self.into, device)
        self.centre = to_float32(mean, device)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the layer of rows x."""
        coef = self.coef * self.unit
        return torch.addmm(self.intercept * self.out - coef @ self.centre, x, coef.T)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the raw weights, of a layer that was not trained those given."""
        if not self.coef.requires_grad:
            return self.step.arrays
        coef = to_numpy(self.coef, np.float64) * self.out / self.into
        intercept = to_numpy(self.intercept, np.float64) * self.out
        intercept -= self.on_average(coef)
        given = self.step.arrays
        return {
            "coef": coef.astype(given["coef"].dtype),
            "intercept": intercept.astype(given["intercept"].dtype),
        }


class TrainedConvolution(TrainedLayer):
    """A convolution in training, in the units of all positions of its maps."""

    def __init__(self, step: Step, read: np.ndarray):
        self.step = step
        window, groups = Window.of(step.settings), int(step.settings["groups"])
        maps = read.reshape(len(read), window.channels, -1)
        means = maps.mean(axis=(0, 2), dtype=np.float64)
        spread = np.square(maps - means[:, None]).mean()
        # An output reads the channels of its group, each at all places of a patch.
        means = means.reshape(groups, -1).repeat(np.prod(window.kernel), axis=1)
        self.mean = means.repeat(len(step.arrays["coef"]) // groups, axis=0)
        self.into = np.full(self.mean.shape[1], float(np.sqrt(spread)) or 1.0)
        self.is_centred = False

    def on_average(self, coef):
        """Return what raw weights (q, p) add to each output on average."""
        return (coef * self.mean).sum(axis=1)

    def power(self, values: np.ndarray) -> float:
        """Return the sum of mean squares, in its unit, of what an output reads."""
        return float(len(self.into))

    def compute(self, values: np.ndarray, coef, intercept) -> np.ndarray:
        """Apply raw weights to rows of maps."""
        arrays = {"coef": coef, "intercept": intercept}
        return run_numpy([replace(self.step, arrays=arrays)], values)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the layer of rows x."""
        coef = self.coef * self.unit
        intercept = self.intercept * self.out - (coef * self.centre).sum(dim=1)
        arrays = {"coef": coef, "intercept": intercept}
        return torch_step("conv")(x, arrays, self.step.settings)


class TrainedStep:
    """Any other step with arrays in training, in units of their size."""

    def __init__(self, step: Step):
        self.step = step
        self.units = {
            name: float(np.sqrt(np.square(array, dtype=np.float64).mean())) or 1.0
            for name, array in step.arrays.items()
        }

    def to_device(self, device: torch.device) -> None:
        """Make tensors of the arrays."""
        self.tensors = {
            name: to_float32(array / self.units[name], device, trained=True)
            for name, array in self.step.arrays.items()
        }
        self.function = torch_step(self.step.kind)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the step of rows x."""
        arrays = {name: t * self.units[name] for name, t in self.tensors.items()}
        return self.function(x, arrays, self.step.settings)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the raw arrays."""
        return {
            name: (to_numpy(t, np.float64) * self.units[name]).astype(
                self.step.arrays[name].dtype
            )
            for name, t in self.tensors.items()
        }
