"""Synthetic activations whose features are known."""

from skfeat.datasets._feature_network import make_feature_network
from skfeat.datasets._feature_network_model import make_feature_network_model
from skfeat.datasets._feature_world import FeatureWorld, make_feature_world
from skfeat.datasets._sparse_features import make_sparse_features

__all__ = [
    "FeatureWorld",
    "make_feature_network",
    "make_feature_network_model",
    "make_feature_world",
    "make_sparse_features",
]
