"""What a sparse network of features has to stand beside: controls of equal size.

How few weights keep a model's performance says little by itself. These functions fit,
on the model's own outputs and to as many weights, what a sceptic would put beside a
network of features: the model itself, pruned; a sparse network trained from scratch;
features of autoencoders that nobody trained; connectors fitted to shuffled features.
"""

from skfeat.controls._chain_network import ChainNetwork
from skfeat.controls._features import shuffled_control, untrained_control
from skfeat.controls._matched import fit_controls
from skfeat.controls._neurons import pruned_control, scratch_control

__all__ = [
    "ChainNetwork",
    "fit_controls",
    "pruned_control",
    "scratch_control",
    "shuffled_control",
    "untrained_control",
]
