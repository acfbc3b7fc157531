"""The unwrapped network as plain arrays; nothing here needs torch to predict."""

from skfeat.network._attribution import Attribution
from skfeat.network._explanation import Explanation
from skfeat.network._map_network import SparseMapNetwork
from skfeat.network._network import SparseFeatureNetwork
from skfeat.utils._decision import DecisionRule

__all__ = [
    "Attribution",
    "DecisionRule",
    "Explanation",
    "SparseFeatureNetwork",
    "SparseMapNetwork",
]
