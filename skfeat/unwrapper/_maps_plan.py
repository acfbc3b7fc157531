"""The plan of a fit whose layers are maps: what each connector reads of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from scipy import sparse

from skfeat.activations import ReLU
from skfeat.adapters import head_slices
from skfeat.chain._kinds import Window
from skfeat.chain._shapes import MapShape
from skfeat.maps._reads import reads_between
from skfeat.network import SparseMapNetwork
from skfeat.unwrapper._plan import Unwrapping
from skfeat.utils._names import INPUT_PREFIX, feature_prefix, named, output_names


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

    def end_widths(self, widths: list[int]) -> list[int]:
        """Return features a position of inputs, layers and outputs, as connected."""
        n_channels = self.chain.n_features_in
        if self.input_map is not None:
            n_channels = self.input_map.channels
        ends = [n_channels] * self.ends.input, [self.chain.n_outputs] * self.ends.output
        return [*ends[0], *widths, *ends[1]]

    def fitted_with(self, autoencoders, connectors, losses) -> dict:
        """Return the attributes of an unwrapper that has these parts."""
        chain, classes = self.chain, self.classes
        heads = head_slices(chain)
        network = self._network(
            autoencoders,
            connectors,
            input_names=getattr(self.params, "input_names_", None),
            output_names=output_names(chain.n_outputs, classes, heads),
            classes=classes,
            decision_rule=None if classes is None else self.params._rule,
            input_shape=self.params._input_shape,
        )
        parts = self._named(network, autoencoders, connectors)
        return self.attributes(network, *parts, losses, heads)

    def _network(self, autoencoders, connectors, **names) -> SparseMapNetwork:
        chain, ends = self.chain, self.ends
        first, last = autoencoders[0], autoencoders[-1]

        def own(array):
            """Cast what may come from a frozen part of another precision."""
            return array.astype(chain.dtype, copy=False)

        begin: dict[str, Any] = {
            "front": chain.slice(0, self.layers[0].stop),
            "encoder_coef": own(first.encoder_coef_),
            "encoder_intercept": own(first.encoder_intercept_),
            "encoder_bias": own(first.intercept_),
            "activation": first.make_activation(),
        }
        if ends.input:
            n_channels = self.end_widths([])[0]
            begin = {
                "front": chain.slice(0, 0),
                "encoder_coef": sparse.csr_array(own(connectors[0].coef_)),
                "encoder_intercept": own(connectors[0].intercept_),
                "encoder_bias": np.zeros(n_channels, chain.dtype),
                "activation": ReLU(),
                "reads_in": self.reads[0],
            }
        end: dict[str, Any] = {
            "decoder_coef": own(last.components_),
            "decoder_intercept": own(last.intercept_),
            "back": chain.slice(self.layers[-1].stop, self.stop),
        }
        if ends.output:
            end = {
                "decoder_coef": sparse.csr_array(own(connectors[-1].coef_).T),
                "decoder_intercept": own(connectors[-1].intercept_),
                "back": chain.slice(self.stop, self.stop),
                "reads_out": self.reads[-1],
            }
        between = ends.between(connectors)
        return SparseMapNetwork(
            **begin,
            coefs=[own(connector.coef_) for connector in between],
            intercepts=[own(connector.intercept_) for connector in between],
            links=[connector._fitted_link for connector in between],
            **end,
            layer_names=[layer.name for layer in self.layers],
            map_shapes=[
                (1, 1) if shape is None else (shape.height, shape.width)
                for shape in self.shapes
            ],
            reads=ends.between(self.reads),
            **names,
        )

    def _named(self, network, autoencoders, connectors) -> tuple[list, list]:
        """Copy the parts, telling them what the network calls their features."""
        prefixes = [feature_prefix(i) for i in range(len(autoencoders))]
        widths = self.end_widths(network.n_shared_components_)
        names: list[Any] = [*prefixes]
        if self.ends.input:
            names.insert(0, INPUT_PREFIX)
        if self.ends.output:
            names.append(network.output_names_)
        named_connectors = []
        for part, reads, (before, after), width in zip(
            connectors, self.reads, pairwise(names), widths[:-1], strict=True
        ):
            read: Any = [f"{before}{j}" for j in range(width)]
            read = (
                before
                if reads.n_places == 1 and not reads.is_mean
                else (reads.names(read))
            )
            named_connectors.append(named(part, input_names=read, output_names=after))
        coders = [
            named(part, feature_names=prefix)
            for part, prefix in zip(autoencoders, prefixes, strict=True)
        ]
        return coders, named_connectors


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
