"""Synthetic activations whose features are known."""

from skfeat.datasets._feature_network import make_feature_network
from skfeat.datasets._feature_network_model import make_feature_network_model
from skfeat.datasets._sparse_features import make_sparse_features

__all__ = [
    "make_feature_network",
    "make_feature_network_model",
    "make_sparse_features",
]
