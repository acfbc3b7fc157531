"""Sparse connections between the features of a language model, measured in the model.

A :class:`LayerPair` unwraps the residual stream before an MLP and the output of the MLP
into features and connects them by few weights; `replacement_loss` measures the loss of
the model when it runs on them.
"""

from skfeat.capture._contexts import Contexts, activating_contexts
from skfeat.language._ablation import AblationEffect, ablation_effect
from skfeat.language._connection import Connection, Connections
from skfeat.language._connection_page import ConnectionPage, connection_page
from skfeat.language._connections import find_connections, read_connection
from skfeat.language._feature_tokens import feature_tokens
from skfeat.language._layer_pair import LayerPair
from skfeat.language._mlp_connector import MLPConnector
from skfeat.language._pair_explore import explore_pairs
from skfeat.language._pair_report import PairReport
from skfeat.language._replacement import replacement_loss
from skfeat.language._replacement_table import ReplacementLoss
from skfeat.language.whole._model_report import ModelReport
from skfeat.language.whole._model_unwrapper import ModelUnwrapper
from skfeat.language.whole._prompt_graph import PromptGraph

__all__ = [
    "AblationEffect",
    "Connection",
    "ConnectionPage",
    "Connections",
    "Contexts",
    "LayerPair",
    "MLPConnector",
    "ModelReport",
    "ModelUnwrapper",
    "PairReport",
    "PromptGraph",
    "ReplacementLoss",
    "ablation_effect",
    "activating_contexts",
    "connection_page",
    "explore_pairs",
    "feature_tokens",
    "find_connections",
    "read_connection",
    "replacement_loss",
]
