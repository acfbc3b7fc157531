"""Training of all replacements together, on what the model itself gives.

An update takes one batch of tokens. Its loss is ::

      KL divergence of the replaced model's next-token distribution from the model's,
      or, of an encoder, the error of its last states
    + faithfulness * mean over layers of the error of the MLP's computed output
      and of the autoencoders' reconstructions

with errors as shares of a variance, and a penalty where no activation holds the number
of active features. In turn, each replaced MLP is fed what the replaced
model computes, and what the model itself does: trained on the first alone, layers may
agree on codes of their own which are right only together; trained on the second alone,
the errors of one layer are new to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from skfeat.language.whole._one_cycle_adam import OneCycleAdam
from skfeat.language.whole._slots import SlottedModel
from skfeat.language.whole._trained import Trained
from skfeat.solvers._loop import (
    EpochHooks,
    History,
    Messages,
    Stopping,
    run_epochs,
)
from skfeat.solvers._prune import CurvaturePruning, is_time, updates_between
from skfeat.utils._torch import make_generator

# Weights are pruned so many times as fast as elsewhere, by 0.4 of the updates: what is
# left then has more of them to recover.
_PRUNES_FASTER = 1.75


@dataclass(frozen=True)
class Settings:
    """How replacements are trained together.

    Parameters
    ----------
    faithfulness : float
    n_epochs : int
    learning_rate : float
        The largest, of weights between features.
    share_budgets : bool
        Keep to the sum of the layers' budgets alone.
    seed : int
    """

    faithfulness: float
    n_epochs: int
    learning_rate: float
    share_budgets: bool
    seed: int


class Together:
    """The replacements of all MLPs in training.

    Parameters
    ----------
    slotted : SlottedModel
    trained : dict of str to TrainedPair or TrainedTranscoder
        By the names of the MLPs.
    batches : list
    settings : Settings
    """

    def __init__(
        self,
        slotted: SlottedModel,
        trained: Mapping[str, Trained],
        batches: list[Any],
        settings: Settings,
    ):
        self.slotted, self.trained = slotted, trained
        self.batches, self.settings = batches, settings
        self.generator = make_generator(settings.seed)
        planned = settings.n_epochs * len(batches)
        self.updates = OneCycleAdam(trained.values(), settings.learning_rate, planned)
        pairs = [part for part in trained.values() if part.pruner is not None]
        self.pairs = [part for part in pairs if part.coef.requires_grad]
        self.pruning = CurvaturePruning(
            [part.coef for part in self.pairs],
            [part.pruner for part in self.pairs],
            shared=settings.share_budgets,
        )

    def epoch(self) -> float:
        """Go through all batches once; return the mean loss of a token."""
        order = torch.randperm(
            len(self.batches), generator=self.generator, device="cpu"
        ).tolist()
        total, n_tokens = 0.0, 0
        for number in order:
            loss, n = self.step(self.batches[number], number)
            total, n_tokens = total + loss * n, n_tokens + n
        return total / max(n_tokens, 1)

    def step(self, raw: Any, number: int) -> tuple[float, int]:
        """Make one update; return its loss and the number of its tokens."""
        batch = self.slotted.batch(raw, number)
        with torch.no_grad(), self.slotted.using({}, records=True) as uses:
            targets = batch.rows(batch.outputs())
            seen = {name: use.seen for name, use in uses.items()}
            made = {name: batch.rows(use.made).float() for name, use in uses.items()}
        if not len(targets):
            return 0.0, 0
        goal = self.slotted.goal
        assert goal is not None
        targets = goal.targets(targets)
        # Of two updates in a row, one sees the replaced model's own activations.
        is_given = self.updates.n_steps % 2 == 1
        given = seen if is_given else None
        with self.slotted.using(self.trained, given, records=True) as uses:
            loss = goal.loss(batch.rows(batch.outputs()), targets)
            computed = {name: batch.rows(use.made) for name, use in uses.items()}
        for part in self.trained.values():
            loss = loss + part.sparsity.loss()
        if self.settings.faithfulness:
            error = loss.new_zeros(())
            for name, part in self.trained.items():
                error = error + part.output_error(computed[name], made[name])
                if is_given:
                    rows = batch.rows(seen[name]).float()
                    error = error + part.reconstruction_error(rows, made[name])
            share = self.settings.faithfulness / len(self.trained)
            loss = loss + share * error
        self._update(loss)
        return float(loss.detach()), len(targets)

    def _update(self, loss: torch.Tensor) -> None:
        updates = self.updates
        updates.take_gradients(loss)
        self.pruning.take_gradients()
        updates.make()
        self.pruning.hold()
        progress = min(1.0, updates.progress * _PRUNES_FASTER)
        every = updates_between(int(updates.planned / _PRUNES_FASTER))
        if is_time(updates.n_steps, progress, every):
            self._prune(progress)

    def _prune(self, progress: float) -> None:
        self.pruning.prune(progress)
        for part in self.pairs:
            part.choose_product()

    def finish(self) -> None:
        """Prune to the budgets, also after a run that was stopped early."""
        if self.updates.n_steps:
            self._prune(1.0)

    def state(self) -> dict[str, Any]:
        """Return the layers as they are."""
        return {name: part.layer() for name, part in self.trained.items()}


def train_together(
    slotted: SlottedModel,
    trained: Mapping[str, Trained],
    batches: list[Any],
    settings: Settings,
    *,
    name: str,
    hooks: EpochHooks | None = None,
    verbose: int = 0,
) -> History:
    """Train all replacements in place, and prune on the way.

    Parameters
    ----------
    slotted : SlottedModel
    trained : dict of str to TrainedPair or TrainedTranscoder
    batches : list
        Of tokens; an update takes one.
    settings : Settings
    name : str
        Of the estimator, for messages.
    hooks : EpochHooks, optional
    verbose : int, default=0

    Returns
    -------
    History
    """
    together = Together(slotted, trained, batches, settings)
    if not together.updates.parameters:
        return History()
    n_tokens = float(np.prod(slotted.batch(batches[0], 0).ids.shape))
    for part in together.pairs:
        part.n_products = n_tokens * together.updates.planned
        part.choose_product()
    history = run_epochs(
        together.epoch,
        # The length is planned: the rate comes down to zero by its end.
        Stopping(settings.n_epochs, 0.0, settings.n_epochs, may_end_falling=True),
        Messages(name, "lower 'learning_rate_init'", verbose),
        state=together.state,
        hooks=hooks,
    )
    together.finish()
    return history
