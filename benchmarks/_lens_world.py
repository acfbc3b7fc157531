"""A `FeatureWorld` in the objects of SAELens, whose sampler and scores then judge."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import torch


def lens_world(world):
    """Return the feature dictionary and the generator of SAELens for a world.

    Parameters
    ----------
    world : FeatureWorld

    Returns
    -------
    FeatureDictionary, ActivationGenerator
        With the same parts. Rows and codes are drawn by SAELens from torch's global
        generator.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        from sae_lens.synthetic import (
            ActivationGenerator,
            FeatureDictionary,
            LowRankCorrelationMatrix,
            hierarchy_modifier,
        )
    m, d = world.dictionary.shape
    directions = FeatureDictionary(m, d, bias=True, initializer=None)
    directions.feature_vectors.data = torch.tensor(world.dictionary)
    directions.bias.data = torch.tensor(world.bias)
    directions.requires_grad_(False)
    factors = _tensor(world.factors)
    shared = LowRankCorrelationMatrix(factors, 1 - factors.square().sum(dim=1))
    generator = ActivationGenerator(
        m,
        _tensor(world.probabilities),
        _tensor(world.deviations),
        _tensor(world.means),
        modify_activations=hierarchy_modifier(_roots(world)),
        correlation_matrix=shared if factors.shape[1] else None,
    )
    return directions, generator


def _roots(world):
    """Return the trees as SAELens' nodes."""
    from sae_lens.synthetic import HierarchyNode

    children = [np.flatnonzero(world.parents == j) for j in range(len(world.parents))]

    def node(j):
        return HierarchyNode(
            int(j),
            [node(child) for child in children[j]],
            mutually_exclusive_children=bool(world.exclusive[j]),
            scale_children_by_parent=bool(world.scaled),
        )

    roots = np.flatnonzero(world.parents < 0)
    return [node(j) for j in roots if len(children[j])]


def _tensor(array):
    return torch.tensor(np.asarray(array, dtype=np.float32))
