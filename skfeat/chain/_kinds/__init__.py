"""The table of step kinds: the one place that defines what a step of a chain is.

To add an activation, add one :class:`StepKind` to ``_activations.py``: how numpy and
torch compute it, its slope where it is piecewise linear, its ONNX operators, and how
torch spells it; a function of mathematics stands in ``_functions.py``. To add a layer,
add one to ``_layers.py``; of maps, to ``_maps.py``. Nothing else needs a change:
chains, networks, attributions, files, ONNX and the readers of models look it up here.
Importing the table imports neither torch nor onnx.
"""

from skfeat.chain._kinds._activations import ACTIVATIONS
from skfeat.chain._kinds._joins import JOINS
from skfeat.chain._kinds._kind import JoinKind, StepKind, TorchForm
from skfeat.chain._kinds._layers import LAYERS, add_affine
from skfeat.chain._kinds._maps import MAPS, Window
from skfeat.chain._kinds._onnx_graph import OnnxGraph

KINDS: dict[str, StepKind] = LAYERS | MAPS | ACTIVATIONS
"""Every kind of step without branches."""

__all__ = [
    "ACTIVATIONS",
    "JOINS",
    "KINDS",
    "MAPS",
    "JoinKind",
    "OnnxGraph",
    "StepKind",
    "TorchForm",
    "Window",
    "add_affine",
]
