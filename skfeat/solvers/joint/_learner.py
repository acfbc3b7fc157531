"""The loss of all parts together, its updates, and the pruning between them.

On a batch of rows the loss is ::

      mismatch of the network's outputs with the model's
    + max(0.3, 3 faithfulness) * sum over autoencoders of the squared error of their
      reconstruction
    + faithfulness * sum over computed layers of the squared error of the features that
      the network computes, against those that the layer's autoencoder encodes

with squared errors as shares of a variance, and the mismatch a KL divergence or, for
values, a squared error too. Where there are no outputs, reconstruction counts in full.
Encoders read the model's own activations and decoders reconstruct them throughout:
which of many equally good dictionaries they are is decided by how few weights compute
one's features from those of the layer before.
"""

from __future__ import annotations

import numpy as np
import torch

from skfeat.kernels._threads import Team
from skfeat.solvers._mismatch import kl_divergence, squared_error
from skfeat.solvers._prune import Pruner
from skfeat.solvers.joint._problem import (
    Connection,
    JointSettings,
    Learnt,
    Problem,
)
from skfeat.solvers.joint._removal import (
    RandomSigns,
    RemovalPruning,
)
from skfeat.solvers.joint._started import Started
from skfeat.solvers.joint._state import go_on, set_weights
from skfeat.solvers.joint._trained_coder import TrainedCoder
from skfeat.solvers.joint._updates import in_raw_units, reconstruction
from skfeat.utils import _distributed as distributed
from skfeat.utils._rows import Batch
from skfeat.utils._torch import as_like, make_generator, n_batches


class Learner(Started):
    """The weights in training, in units that do not depend on those of the data.

    Parameters
    ----------
    problem : Problem
    settings : JointSettings
    team : Team
    state : dict, optional
        What `state` has returned of a learner of this problem, to go on from.
    """

    def __init__(
        self,
        problem: Problem,
        settings: JointSettings,
        team: Team,
        state: dict | None = None,
    ):
        self.problem, self.settings, self.team = problem, settings, team
        self.generator = make_generator(settings.seed)
        self.n_steps = 0
        n = problem.n_rows
        given = problem.sample_weight
        self.sample_weight = np.ones(n) if given is None else given
        self._set_units()
        self.coders = [
            TrainedCoder(coder, unit, settings.device, team, n * settings.n_epochs)
            for coder, unit in zip(problem.coders, self.units, strict=True)
        ]
        if state is None:
            self._start()
        else:
            set_weights(self, state)
        self.pruners = [
            _pruner(coef.detach(), connection)
            for coef, connection in zip(self.coefs, problem.connections, strict=True)
        ]
        trained = [i for i, coef in enumerate(self.coefs) if coef.requires_grad]
        self.trained = trained
        self.pruning = RemovalPruning(
            [self.coefs[index] for index in trained],
            [self.pruners[index] for index in trained],
            shared=settings.share_budgets,
        )
        planned = settings.n_epochs * n_batches(n, settings.batch_size)
        supports = [self.supports[index] for index in trained]
        self.removal_costs = self.pruning.kernels(planned, team, supports)
        self._choose_products()
        connectors = [part for part in self.coefs if part.requires_grad]
        connectors += [part for part in self.intercepts if part.requires_grad]
        coders = [part for coder in self.coders for part in coder.parameters]
        self._set_optimizer(connectors, coders)
        if state is not None:
            go_on(self, state)

    def step(self, rows: np.ndarray | Batch, planned: int) -> float:
        """Make one update on a batch of rows, or on their numbers; return its loss."""
        batch = self.problem.batch(rows)
        of_batch = self.sample_weight[batch.ids].sum()
        mine = batch.take(distributed.shard(np.arange(len(batch.ids))))
        weights = torch.as_tensor(
            self.sample_weight[mine.ids] / of_batch,
            dtype=torch.float32,
            device=self.settings.device,
        )
        if self.pruning.is_time(self.n_steps, planned):
            self._estimate_costs(batch)
        return self.update(self._loss(mine, weights), planned)

    def _prune(self, progress: float) -> None:
        self.pruning.prune(progress)
        self._choose_products()

    def _loss(self, batch: np.ndarray | Batch, weights: torch.Tensor) -> torch.Tensor:
        problem, settings = self.problem, self.settings
        rows = problem.read(problem.batch(batch))
        of_coders, codes = weights.new_zeros(()), []
        for layer, coder in enumerate(self.coders):
            hidden = self._hidden(rows, layer)
            if not coder.parameters:
                codes.append(coder.codes(hidden))
                continue
            own, error = coder.reconstruct(hidden, weights)
            codes.append(own)
            of_coders = of_coders + error
        self._follow(codes, [weights] * len(codes))
        for coder, own in zip(self.coders, codes, strict=True):
            if coder.penalty:
                of_coders = of_coders + coder.penalty * (weights @ own.sum(dim=1))
        loss = of_coders * (1 if problem.outputs is None else reconstruction(settings))
        if problem.inputs is not None:
            features = self._in_unit(rows.inputs(), self.input_unit).T
        else:
            features = codes[0] if settings.train_encoder else codes[0].detach()
            features = features.T
        _, computed = self._compute(features)
        if settings.faithfulness > 0:
            for layer, features_of_layer in zip(
                problem.targets(), computed, strict=False
            ):
                error = (features_of_layer - codes[layer].T).square().sum(dim=0)
                loss = loss + settings.faithfulness * (
                    weights @ error / self.code_variances[layer]
                )
        if problem.outputs is None:
            return loss
        outputs = self._outputs(computed[-1])
        targets = torch.from_numpy(np.ascontiguousarray(rows.outputs()))
        targets = targets.to(outputs)
        if settings.classify:
            return loss + kl_divergence(outputs, targets, weights)
        scale = as_like(self.output_unit.scale, outputs)
        return loss + squared_error(outputs / scale, targets / scale, weights)

    def _compute(
        self, features: torch.Tensor
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Run the connectors; return what each computes, before and after its link."""
        before, computed = [], []
        for index, connection in enumerate(self.problem.connections):
            centred = features - self.read_means[index][:, None]
            sums = self.products[index](self.coefs[index], centred)
            before.append(sums + self.intercepts[index][:, None])
            features = before[-1].relu() if connection.link == "relu" else before[-1]
            computed.append(features)
        return before, computed

    def _estimate_costs(self, batch: np.ndarray | Batch) -> None:
        """Estimate from some rows of a batch what removing each weight would cost."""
        some = self.problem.batch(batch)
        n = min(self.pruning.n_samples(), len(some.ids))
        mine = distributed.shard(np.arange(n))
        weights = self.sample_weight[some.ids[:n]]
        weights = weights / weights.sum()
        weights = torch.as_tensor(
            weights[mine], dtype=torch.float32, device=self.settings.device
        )
        problem, settings = self.problem, self.settings
        rows = problem.read(some.take(mine))
        with torch.no_grad():
            if problem.inputs is not None:
                read = self._in_unit(rows.inputs(), self.input_unit).T
            else:
                read = self.coders[0].codes(self._hidden(rows, 0)).T

        signs = RandomSigns(n, mine, self.generator)
        before, computed = self._compute(read)
        combination = weights.new_zeros(())
        if settings.faithfulness > 0:
            for layer, part in zip(problem.targets(), computed, strict=False):
                share = settings.faithfulness * weights / self.code_variances[layer]
                combination = combination + signs.of_features(part, share)
        if problem.outputs is not None:
            outputs = self._outputs(computed[-1]).T
            if settings.classify:
                combination = combination + signs.of_logits(outputs, weights)
            else:
                scale = self.output_unit.scale
                combination = combination + signs.of_values(outputs, scale, weights)
        gradients = torch.autograd.grad(
            combination, [computed[index] for index in self.trained]
        )
        reads = [read, *computed]
        with torch.no_grad():
            costs = [
                costs_of(
                    reads[index] - self.read_means[index][:, None],
                    before[index],
                    self.coefs[index],
                    self.pruners[index].mask,
                    gradient,
                    rectified=problem.connections[index].link == "relu",
                )
                for index, gradient, costs_of in zip(
                    self.trained, gradients, self.removal_costs, strict=True
                )
            ]
        distributed.all_reduce(*costs)
        self.pruning.take_costs(costs)

    def _outputs(self, features: torch.Tensor) -> torch.Tensor:
        """Return the outputs (n, q) of the network, in the units of the data."""
        if self.problem.back is not None:
            decoded = self.coders[-1].decode(features.T)
            return self.problem.back(in_raw_units(decoded, self.units[-1]))
        return in_raw_units(features.T, self.output_unit)

    def weights(self) -> Learnt:
        """Return copies of what is learnt, acting on raw rows."""
        pairs = [self._from_units(index) for index in range(len(self.coefs))]
        return Learnt(
            [coder.export() for coder in self.coders],
            [coef for coef, _ in pairs],
            [intercept for _, intercept in pairs],
        )

    def finish(self) -> Learnt:
        """Prune to the budgets, if that is still to be done; return what is learnt."""
        self._prune(1.0)
        return self.weights()


def _pruner(coef: torch.Tensor, connection: Connection) -> Pruner:
    """Make what prunes a connector to its budget, or holds the support it has."""
    if connection.budget is None or connection.frozen:
        return Pruner.fixed(coef, coef != 0)
    # Zeros of a start that was given may be learnt; those of our own are left out.
    given = connection.start is not None
    pruner = Pruner.fixed(coef, torch.ones_like(coef) > 0 if given else coef != 0)
    pruner.first = max(pruner.budget, connection.budget)
    pruner.budget = connection.budget
    return pruner
