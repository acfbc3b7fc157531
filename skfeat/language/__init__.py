"""Language models: features read in the words that they fire on."""

from skfeat.language._ablation import AblationEffect, ablation_effect
from skfeat.language._contexts import Contexts, activating_contexts

__all__ = [
    "AblationEffect",
    "Contexts",
    "ablation_effect",
    "activating_contexts",
]
