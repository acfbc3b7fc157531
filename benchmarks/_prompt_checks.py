"""Why measured changes differ from those that a prompt's graph predicts.

A prediction holds attention patterns, the scales of normalisations and the choice of
active features. Here features are set to zero with the first, or the first two, held at
what they are with all features in place.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from skfeat.language.whole._feature_mlp import FeatureMLP
from skfeat.language.whole._prompt_flows import PromptRun

HELD = {
    "attention": {"attention"},
    "attention and normalisation": {"attention", "normalisation"},
}


class Replay(TorchFunctionMode):
    """Note queries and keys, and scales, in a first run; use them in later ones.

    Parameters
    ----------
    held : set of str
    noted : list of tuple, default=None
        Those of the first run; None: this is the first run.
    """

    def __init__(self, held, noted=None):
        super().__init__()
        self.held, self.noted = held, [] if noted is None else noted
        self.left = None if noted is None else iter(noted)

    def _same(self, own):
        """Return what the first run had in this place."""
        if self.left is None:
            self.noted.append(own)
            return own
        return next(self.left)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Call a function of torch with what is held."""
        kwargs = kwargs or {}
        attends = func is functional.scaled_dot_product_attention
        if attends and "attention" in self.held:
            return func(*self._same(args[:2]), *args[2:], **kwargs)
        if func is functional.layer_norm and "normalisation" in self.held:
            return self._layer_norm(*args, **kwargs)
        return func(*args, **kwargs)

    def _layer_norm(self, rows, shape, weight, bias, eps=1e-5):
        centred = rows - rows.mean(-1, keepdim=True)
        own = (centred.square().mean(-1, keepdim=True) + eps).rsqrt()
        return centred * self._same(own) * weight + bias


def correlations(unwrapper, ids, graph, token):
    """Return the correlation of predicted and measured changes, by what is held.

    Parameters
    ----------
    unwrapper : ModelUnwrapper
        Of a model with layer norm and torch's own attention.
    ids : Tensor of shape (length,)
    graph : PromptGraph
        Of the last token's successor, with checks.
    token : int
        The one that is explained.
    """
    slotted = unwrapper._slotted(unwrapper.module_names_)
    modules = [FeatureMLP(layer) for layer in unwrapper.layers()]
    batch = slotted.batch(ids[None], 0)
    run = PromptRun(slotted, batch, modules, len(ids) - 1, token)
    checked = np.flatnonzero(np.isfinite(graph.change))
    predicted = -np.asarray(graph.contribution)[checked]
    found = {}
    for name, held in HELD.items():
        with torch.no_grad(), Replay(held) as first:
            before = run.without("", -1, 0, 0)
        changes = []
        for i in checked:
            place = graph.kind[i], graph.layer[i] - 1, graph.position[i]
            with torch.no_grad(), Replay(held, first.noted):
                changes.append(run.without(*place, graph.feature[i]) - before)
        found[name] = float(np.corrcoef(predicted, changes)[0, 1])
    return found
