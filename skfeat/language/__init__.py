"""Sparse connections between the features of a language model, measured in the model.

A :class:`LayerPair` unwraps the residual stream before an MLP and the output of the MLP
into features and connects them by few weights; `replacement_loss` says what the model
loses when it runs on them.
"""

from skfeat.language._layer_pair import LayerPair
from skfeat.language._mlp_connector import MLPConnector
from skfeat.language._pair_report import PairReport
from skfeat.language._replacement import ReplacementLoss, replacement_loss

__all__ = [
    "LayerPair",
    "MLPConnector",
    "PairReport",
    "ReplacementLoss",
    "replacement_loss",
]
