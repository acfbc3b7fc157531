"""Why measured changes differ from those that a prompt's graph predicts.

A prediction holds attention patterns, the scales of normalisations and the choice of
active features. Here features are set to zero with the first, or the first two, held at
what they are with all features in place.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

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


class Checked(nn.Module):
    """A replaced MLP that adds what it misses, one of whose features can be left out.

    Parameters
    ----------
    features : torch.nn.Module
        That of a fitted ModelUnwrapper.
    rows, output : Tensor of shape (1, length, d)
        What the MLP reads and computes of a prompt.
    """

    def __init__(self, features, rows, output):
        super().__init__()
        self.features, self.error = features, output - features(rows)
        self.left_out = None  # "read" or "write", position and feature

    def forward(self, rows):
        """Compute the MLP's output of a prompt."""
        features, rows = self.features, rows[0]
        codes = features.activate(features.pre_activations(rows))
        computed = features.computed(self._without("read", codes))
        return features.decode(self._without("write", computed), rows) + self.error

    def _without(self, kind, codes):
        if self.left_out is not None and self.left_out[0] == kind:
            codes = codes.clone()
            codes[self.left_out[1:]] = 0
        return codes


def checked_model(unwrapper, ids):
    """Return a model that computes of a prompt what the one itself does, by features.

    With it, the modules in place of the MLPs.
    """
    modules = {}

    def note(name):
        def hook(module, args, output):
            modules[name] = Checked(replaced.get_submodule(name), *args, output)

        return hook

    own, replaced = unwrapper.to_torch([]), unwrapper.to_torch()
    for name in unwrapper.module_names_:
        own.get_submodule(name).register_forward_hook(note(name))
    own(ids[None])
    for name, module in modules.items():
        parent, _, last = name.rpartition(".")
        setattr(replaced.get_submodule(parent), last, module)
    return replaced, [modules[name] for name in unwrapper.module_names_]


@torch.no_grad()
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
    model, modules = checked_model(unwrapper, ids)

    def value():
        logits = model(ids[None]).logits[0, -1]
        return float(logits[token] - logits.mean())

    checked = np.flatnonzero(np.isfinite(graph.change))
    predicted = -np.asarray(graph.contribution)[checked]
    found = {}
    for name, held in HELD.items():
        with Replay(held) as first:
            before = value()
        changes = []
        for i in checked:
            module = modules[graph.layer[i] - 1]
            module.left_out = graph.kind[i], graph.position[i], graph.feature[i]
            with Replay(held, first.noted):
                changes.append(value() - before)
            module.left_out = None
        found[name] = float(np.corrcoef(predicted, changes)[0, 1])
    return found
