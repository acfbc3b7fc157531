"""The layers of a network as rows: of samples, or of the positions of their maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from skfeat.maps._reads import Reads, positions_of


@dataclass(frozen=True)
class MapRows:
    """How the values of each layer become the rows that its autoencoder reads.

    Parameters
    ----------
    n_positions : list of int
        Of each layer; one of rows.
    n_components : list of int
        Features of each layer at a position.
    reads : list of Reads or None
        What the connector into each layer reads; None of rows, and of no connector.
    """

    n_positions: list[int]
    n_components: list[int]
    reads: list[Reads | None]

    @classmethod
    def of(cls, network: Any) -> MapRows:
        """Return that of a network, which may have no maps."""
        shapes = getattr(network, "map_shapes", None)
        if shapes is None:
            n = len(network.n_components_)
            return cls([1] * n, list(network.n_components_), [None] * n)
        return cls(
            [height * width for height, width in shapes],
            list(network.n_shared_components_),
            [network.reads_in, *network.reads],
        )

    def by_position(self, values: np.ndarray, layer: int) -> np.ndarray:
        """Return rows of channels, a row for each position of each sample."""
        return positions_of(values, self.n_positions[layer])

    def by_channel(self, rows: np.ndarray, layer: int) -> np.ndarray:
        """Undo `by_position`."""
        n_positions = self.n_positions[layer]
        maps = np.asarray(rows).reshape(-1, n_positions, rows.shape[1])
        return np.ascontiguousarray(maps.transpose(0, 2, 1)).reshape(len(maps), -1)

    def predict(self, connector: Any, before: Any, layer: int) -> np.ndarray:
        """Compute the features of a layer from those before, or from the inputs.

        Parameters
        ----------
        connector : FeatureConnector
        before : ndarray of shape (n * n_positions, m)
            Of the layer before; of inputs that are maps, (n, n_features_in).
        layer : int
        """
        reads = self.reads[layer]
        if reads is None:
            return connector.predict(before)
        if layer == 0:
            before = positions_of(before, reads.n_positions_in)
        if reads.is_mean:
            return connector.predict(reads.rows(before))
        found = reads.patches.convolve(before, connector.coef_, connector.intercept_)
        return np.maximum(found, 0) if connector._fitted_link == "relu" else found
