"""The loss of a language model with some of its MLPs replaced, in both protocols."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from skfeat.language._replacement_table import Losses
from skfeat.language.whole._feature_mlp import FeatureMLP
from skfeat.language.whole._slots import SlottedModel


@dataclass(frozen=True)
class Replacement:
    """Which MLPs are replaced, by what.

    Parameters
    ----------
    key : tuple of str
        What replaces, and which layers: the row of the table.
    functions : dict of str to callable
        By the names of MLPs; each maps rows (n, d) to rows (n, d_out).
    is_given : bool
        Whether functions see what the model itself computes, or else what the model
        with these replacements does.
    """

    key: tuple[str, str]
    functions: Mapping[str, Callable]
    is_given: bool = False

    @property
    def name(self) -> str:
        """A name that differs for each replacement and protocol."""
        return "|".join([*self.key, "true" if self.is_given else "own"])


@torch.no_grad()
def original_means(slotted: SlottedModel, batches, numbers) -> list[np.ndarray]:
    """Return the mean output of each MLP in the model as it is."""
    totals: dict[str, Any] = {}
    n = 0
    for number in numbers:
        batch = slotted.batch(batches[number], number)
        with slotted.using({}, records=True) as uses:
            batch.outputs()
            for name, use in uses.items():
                rows = batch.rows(use.made).double().sum(dim=0).cpu().numpy()
                totals[name] = totals.get(name, 0.0) + rows
        n += int(batch.present.sum())
    return [totals[name] / max(n, 1) for name in slotted.names]


@torch.no_grad()
def measure(
    slotted: SlottedModel, batches: list[Any], replacements: list[Replacement]
) -> Losses:
    """Measure the loss of each replacement, under its name, and of the "original".

    Raises
    ------
    ValueError
        If the batches hold nothing to predict.
    """
    losses = Losses(["original", *(one.name for one in replacements)])
    for number, raw in enumerate(batches):
        batch = slotted.batch(raw, number)
        with slotted.using({}, records=True) as uses:
            outputs = batch.outputs()
            seen = {name: use.seen for name, use in uses.items()}
        goal = slotted.goal
        assert goal is not None
        counted = goal.counted(batch, outputs)
        if not len(counted.sequences):
            continue
        of_batch = {"original": goal.losses(outputs, counted)}
        for one in replacements:
            with slotted.using(one.functions, seen if one.is_given else None):
                of_batch[one.name] = goal.losses(batch.outputs(), counted)
        losses.add(counted.sequences, of_batch)
    if not losses.n_predictions:
        raise ValueError(
            "batches hold nothing to predict: no real token follows another one."
        )
    return losses


@dataclass
class Activity:
    """What one layer has active a token, on average, in the replaced model."""

    inputs: float = 0.0
    outputs: float = 0.0
    connections: float = 0.0
    n: int = 0

    def add(self, module: FeatureMLP, rows: torch.Tensor) -> None:
        """Count the active features and weights of rows (n, d)."""
        codes = module.activate(module.pre_activations(rows))
        active = codes.ne(0)
        self.n += len(rows)
        self.inputs += float(active.sum())
        if module.coef is None:
            self.outputs += float(active.sum())
            return
        self.outputs += float((module.computed(codes) != 0).sum())
        weights = (module.coef != 0).sum(dim=0)
        self.connections += float((active * weights).sum())


@torch.no_grad()
def activity_of(
    slotted: SlottedModel, batches: list[Any], functions: Mapping[str, FeatureMLP]
) -> list[Activity]:
    """Count what is active in each layer of the replaced model, padding apart."""
    found = {name: Activity() for name in slotted.names}
    for number, raw in enumerate(batches):
        batch = slotted.batch(raw, number)
        with slotted.using(functions, records=True) as uses:
            batch.outputs()
            for name, activity in found.items():
                rows = batch.rows(uses[name].seen).float()
                activity.add(functions[name], rows)
    return list(found.values())
