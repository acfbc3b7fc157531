"""What is trained together of a network of features of maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from skfeat.maps._reads import Reads
from skfeat.solvers.joint._problem import Coder, Connection
from skfeat.utils._torch import to_numpy

# Samples whose layers are computed at a time, outside of training.
_BLOCK = 256


@dataclass(frozen=True)
class MapLayers:
    """A model as functions from each unwrapped layer to the next.

    Parameters
    ----------
    X : ndarray of shape (n, n_features_in)
        Rows that the model takes.
    functions : list of callable
        Of tensors: from the inputs to the first layer, from there to the second, and
        so on, and last to the outputs.
    n_positions : list of int
        Of each layer.
    device : torch.device
    dtype : torch.dtype
        Of what the functions take.
    n_positions_in : int, default=1
        Of the inputs.
    """

    X: np.ndarray
    functions: list[Callable[[torch.Tensor], torch.Tensor]]
    n_positions: list[int]
    device: torch.device
    dtype: torch.dtype = torch.float32
    n_positions_in: int = 1

    def run(
        self, samples: Any
    ) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
        """Run the model on some samples, given by their numbers; see `run_rows`."""
        return self.run_rows(self.X[samples])

    @torch.no_grad()
    def run_rows(
        self, rows: np.ndarray
    ) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
        """Run the model on rows that it takes.

        Returns
        -------
        inputs : Tensor of shape (n * n_positions_in, n_channels)
        hidden : list of Tensor, (n * n_positions, n_channels) each
            A row for each position of each sample.
        outputs : Tensor of shape (n, n_outputs)
        """
        values = torch.from_numpy(np.ascontiguousarray(rows)).to(
            self.device, self.dtype
        )
        inputs, hidden = by_position(values, self.n_positions_in), []
        *between, last = self.functions
        for function, n_positions in zip(between, self.n_positions, strict=True):
            values = function(values)
            hidden.append(by_position(values, n_positions))
        return inputs, hidden, last(values)

    def sampled(
        self, n_rows: int, generator: np.random.Generator
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Draw rows of each layer from all samples, as many of each sample.

        Parameters
        ----------
        n_rows : int
            Of each layer, about.
        generator : Generator

        Returns
        -------
        rows : list of ndarray, (n_rows_l, n_channels_l) each
        means : list of ndarray, (n_positions_l * n_channels_l,) each
            Of each value of the layer, channel by channel.
        """
        n = len(self.X)
        found: list[list[np.ndarray]] = [[] for _ in self.n_positions]
        sums: list[Any] = [0.0] * len(self.n_positions)
        for start in range(0, n, _BLOCK):
            samples = slice(start, min(start + _BLOCK, n))
            _, hidden, _ = self.run(samples)
            for layer, values in enumerate(hidden):
                n_positions = self.n_positions[layer]
                own = to_numpy(values).reshape(-1, n_positions, values.shape[1])
                sums[layer] += own.sum(axis=0, dtype=np.float64)
                k = min(n_positions, max(1, round(n_rows / n)))
                if k < n_positions:
                    drawn = generator.random(own.shape[:2]).argsort(axis=1)[:, :k]
                    own = np.take_along_axis(own, drawn[:, :, None], axis=1)
                found[layer].append(own.reshape(-1, own.shape[2]))
        means = [(total.T / n).ravel() for total in sums]
        return [np.concatenate(parts) for parts in found], means


@dataclass(frozen=True)
class MapProblem:
    """A network of features of maps, and the model that it is to compute.

    Parameters
    ----------
    layers : MapLayers
    coders : list of Coder
        One a layer.
    connections : list of Connection
        Each with a start: from the inputs, if `reads_inputs`, to each layer after the
        first, and last to the outputs, if there is no `back`.
    reads : list of Reads
        What each of these reads.
    reads_inputs : bool
    back : callable or None
        From the last layer to the outputs; None: the last connector gives these.
    trains_decoder : bool, default=False
        Whether the last decoder is trained though its autoencoder is frozen.
    """

    layers: MapLayers
    coders: list[Coder]
    connections: list[Connection]
    reads: list[Reads]
    reads_inputs: bool
    back: Callable[[torch.Tensor], torch.Tensor] | None
    trains_decoder: bool = False

    @property
    def first_target(self) -> int:
        """The layer that the first connector computes."""
        return 0 if self.reads_inputs else 1


class MapLearnt(NamedTuple):
    """What has been trained, acting on raw rows.

    `decoder` is the last one, with its bias, where it alone of its autoencoder is
    trained.
    """

    coders: list[Coder]
    coefs: list[np.ndarray]
    intercepts: list[np.ndarray]
    decoder: tuple[np.ndarray, np.ndarray] | None


def by_position(values: torch.Tensor, n_positions: int) -> torch.Tensor:
    """Return rows of channels, a row for each position of each sample."""
    n = len(values)
    return (
        values.reshape(n, -1, n_positions).transpose(1, 2).reshape(n * n_positions, -1)
    )


def by_channel(rows: torch.Tensor, n_positions: int) -> torch.Tensor:
    """Undo `by_position`."""
    n, channels = len(rows) // n_positions, rows.shape[1]
    return rows.reshape(n, n_positions, channels).transpose(1, 2).reshape(n, -1)
