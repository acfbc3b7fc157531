"""The unwrapped network as plain arrays; nothing here needs torch to predict."""

from skfeat.network._network import SparseFeatureNetwork

__all__ = ["SparseFeatureNetwork"]
