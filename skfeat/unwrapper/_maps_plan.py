"""The plan of a fit whose layers are maps: what each connector reads of them."""

from __future__ import annotations

from itertools import pairwise

from skfeat.chain._kinds import Window
from skfeat.chain._shapes import MapShape
from skfeat.maps._reads import reads_between
from skfeat.network import SparseMapNetwork
from skfeat.unwrapper._plan import Unwrapping
from skfeat.utils._names import INPUT_PREFIX, Names


class MapUnwrapping(Unwrapping):
    """One fit of an unwrapper of a model whose layers are maps.

    Parameters
    ----------
    params : FeatureUnwrapper
    chain : Chain
    classes : ndarray or None
    """

    def __init__(self, params, chain, classes):
        super().__init__(params, chain, classes)
        self.shapes = [layer.map_shape for layer in self.layers]
        self.input_map = _map_of_inputs(chain)
        shapes: list[MapShape | None] = [*self.shapes]
        stops = [layer.stop for layer in self.layers]
        if self.ends.input:
            shapes.insert(0, self.input_map)
            stops.insert(0, 0)
        if self.ends.output:
            shapes.append(None)
            stops.append(self.stop)
        self.reads = [
            reads_between(chain.steps[begin:end], *of_both)
            for (begin, end), of_both in zip(
                pairwise(stops), pairwise(shapes), strict=True
            )
        ]

    @property
    def n_positions(self) -> list[int]:
        """Positions of each layer."""
        return [1 if shape is None else shape.n_positions for shape in self.shapes]

    def n_read(self, widths: list[int]) -> list[int]:
        """Return how many columns each connector reads, by the features of each end."""
        return [
            reads.n_places * width
            for reads, width in zip(self.reads, widths[:-1], strict=True)
        ]

    @property
    def n_inputs(self) -> int:
        """Columns of the inputs; of maps, channels."""
        if self.input_map is None:
            return self.chain.n_features_in
        return self.input_map.channels

    def make_network(self, **arguments) -> SparseMapNetwork:
        """Make the network that the fitted parts are."""
        return SparseMapNetwork(
            **arguments,
            map_shapes=[
                (1, 1) if shape is None else (shape.height, shape.width)
                for shape in self.shapes
            ],
            reads=self.ends.between(self.reads),
            reads_in=self.reads[0] if self.ends.input else None,
            reads_out=self.reads[-1] if self.ends.output else None,
            input_shape=self.params._input_shape,
        )

    def names_read(self, network) -> list[Names]:
        """Return the names of what each connector reads, place by place."""
        prefixes = [*([INPUT_PREFIX] * self.ends.input), *self.feature_prefixes]
        widths = self.end_widths(network.n_shared_components_)
        return [
            prefix
            if reads.n_places == 1 and not reads.is_mean
            else reads.names([f"{prefix}{j}" for j in range(width)])
            for prefix, width, reads in zip(prefixes, widths, self.reads, strict=False)
        ]


def _map_of_inputs(chain) -> MapShape | None:
    """Return the shape of the maps that a chain takes, by its first step on maps."""
    for step in chain.steps:
        if "kernel_width" in step.settings:
            window = Window.of(step.settings)
            return MapShape(window.channels, *window.size)
        if step.branches:
            for branch in step.branches:
                found = _map_of_inputs(chain.from_steps(branch, chain.n_features_in))
                if found is not None:
                    return found
        if step.kind == "affine":
            break
    return None
