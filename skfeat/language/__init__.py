"""Language models: features read in the words that they fire on."""

from skfeat.language._contexts import Contexts, activating_contexts

__all__ = [
    "Contexts",
    "activating_contexts",
]
