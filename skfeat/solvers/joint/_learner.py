"""The loss of all parts together, its updates, and the pruning between them.

On a batch of rows the loss is ::

      mismatch of the network's outputs with the model's
    + max(0.3, faithfulness) * sum over autoencoders of the squared error of their
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
from skfeat.kernels.connector._masked_product import product
from skfeat.solvers._mismatch import kl_divergence, squared_error
from skfeat.solvers._prune import Pruner
from skfeat.solvers.joint._problem import (
    BatchRows,
    Connection,
    JointSettings,
    Learnt,
    Problem,
)
from skfeat.solvers.joint._removal import (
    RandomSigns,
    RemovalPruning,
)
from skfeat.solvers.joint._reselect import (
    is_reselected,
    reselect_unless_worse,
    reselects_after,
)
from skfeat.solvers.joint._start import Rows, compact_rows, dense_start, start_rows
from skfeat.solvers.joint._state import go_on, set_weights
from skfeat.solvers.joint._trained_coder import TrainedCoder
from skfeat.solvers.joint._units import (
    Unit,
    unit_of_hidden,
    unit_of_inputs,
    unit_of_outputs,
)
from skfeat.solvers.joint._updates import Updates, in_raw_units, reconstruction
from skfeat.utils import _distributed as distributed
from skfeat.utils._progress import stage, tick
from skfeat.utils._rows import Batch
from skfeat.utils._torch import as_like, make_generator, n_batches, to_numpy

# Codes that are computed at a time for the start.
_CODES_AT_ONCE = 2**24


class Learner(Updates):
    """The weights in training, in units that do not depend on those of the data.

    Parameters
    ----------
    problem : Problem
    settings : JointSettings
    team : Team
    state : dict, optional
        What `state` has returned of a learner of this problem, to go on from.
    """

    pruning: RemovalPruning

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
        self.units = [
            unit_of_hidden(rows, self.sample_weight) for rows in problem.hidden
        ]
        self.coders = [
            TrainedCoder(coder, unit, settings.device, team, n * settings.n_epochs)
            for coder, unit in zip(problem.coders, self.units, strict=True)
        ]
        if problem.inputs is not None:
            unit = unit_of_inputs(problem.inputs, self.sample_weight)
            self.input_unit = _centred(unit, problem.connections[0])
        if problem.outputs is not None:
            # Squared errors count in units of each output's own spread; the last
            # connector, like every one, computes what shares a unit.
            each = not settings.classify
            unit = unit_of_outputs(problem.outputs, self.sample_weight, each=each)
            if problem.back is None:
                unit = _centred(unit, problem.connections[-1])
            self.output_unit = unit
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
        self.removal_costs = self.pruning.kernels(planned, team)
        self._choose_products()
        connectors = [part for part in self.coefs if part.requires_grad]
        connectors += [part for part in self.intercepts if part.requires_grad]
        coders = [part for coder in self.coders for part in coder.parameters]
        self._set_optimizer(connectors, coders)
        if state is not None:
            go_on(self, state)

    def _start(self) -> None:
        """Set the first weights of connectors, and what is known of the codes."""
        problem = self.problem
        widths = [coder.encoder.shape[0] for coder in problem.coders]
        n_inputs = widths[0] if problem.inputs is None else problem.inputs.shape[1]
        rows = start_rows(problem.n_rows, max(n_inputs, *widths))
        weights = self.sample_weight[rows] / self.sample_weight[rows].sum()
        self.code_means, self.code_variances = [], []
        chosen = problem.read(problem.batch(rows))
        codes = []
        for layer, coder in enumerate(self.coders):
            stage("features of layer", layer + 1, len(self.coders))
            hidden = self._hidden(chosen, layer)
            codes.append(self._codes_at_start(coder, hidden, weights))
        ends = []
        if problem.inputs is not None:
            ends.append(self.input_unit.apply(chosen.inputs()))
        features = [*ends, *codes]
        if problem.outputs is not None and problem.back is None:
            features.append(self.output_unit.apply(chosen.outputs()))
        # What a connector reads counts from its mean: a weight that is dropped leaves
        # what it added on average to the intercept.
        self.read_means = [
            self._tensor(mean * connection.fit_intercept, trained=False)
            for mean, connection in zip(
                self._means_of_reads(), problem.connections, strict=True
            )
        ]
        self.coefs, self.intercepts = [], []
        for index, connection in enumerate(problem.connections):
            stage("start of connector", index + 1, len(problem.connections))
            if connection.start is None:
                coef, intercept = dense_start(
                    features[index],
                    features[index + 1],
                    weights,
                    connection.budget or 0,
                    fit_intercept=connection.fit_intercept,
                )
            else:
                coef, intercept = self._to_units(index, *connection.start)
            intercept = intercept + coef @ to_numpy(self.read_means[index], np.float64)
            trained = not connection.frozen
            self.coefs.append(self._tensor(coef, trained=trained))
            self.intercepts.append(
                self._tensor(intercept, trained=trained and connection.fit_intercept)
            )

    @torch.no_grad()
    def _codes_at_start(
        self, coder: TrainedCoder, hidden: torch.Tensor, weights: np.ndarray
    ) -> Rows:
        """Return the codes of a layer's rows (n, d), and note what is known of them.

        The pre-activations of all rows are never held: of a wide layer they would take
        more memory than all else.
        """
        m, square, active, parts = len(coder.encoder), 0.0, 0.0, []
        mean = torch.zeros(m, dtype=torch.float64, device=hidden.device)
        n_at_once = max(1, _CODES_AT_ONCE // m)
        for rows, shares in zip(
            hidden.split(n_at_once),
            torch.as_tensor(weights, device=hidden.device).split(n_at_once),
            strict=True,
        ):
            own = coder.codes(rows)
            mean += shares @ own.double()
            square += float(shares @ own.double().square().sum(dim=1))
            active += float(shares @ (own > 0).sum(dim=1).to(shares))
            parts.append(to_numpy(own))
            tick("row", sum(map(len, parts)), len(hidden))
        variance = square - float(mean.square().sum())
        self._note(coder, mean.float(), variance, active)
        return compact_rows(parts)

    def _means_of_reads(self) -> list[np.ndarray]:
        """Return the mean, in units in training, of what each connector reads."""
        means = [to_numpy(mean, np.float64) for mean in self.code_means]
        if self.problem.inputs is not None:
            # Inputs are centred already.
            means.insert(0, np.zeros(self.problem.inputs.shape[1]))
        return means[: len(self.problem.connections)]

    def _ends(self, index: int) -> tuple[Unit, Unit]:
        """Return the units of what a connector reads, and of what it computes."""
        units = [
            Unit(np.zeros(len(coder.encoder)), unit.scale)
            for coder, unit in zip(self.problem.coders, self.units, strict=True)
        ]
        if self.problem.inputs is not None:
            units.insert(0, self.input_unit)
        if self.problem.outputs is not None and self.problem.back is None:
            units.append(self.output_unit)
        return units[index], units[index + 1]

    def _to_units(self, index, coef, intercept) -> tuple[np.ndarray, np.ndarray]:
        """Bring weights to the units in training."""
        read, computed = self._ends(index)
        out = np.broadcast_to(computed.scale, len(coef))
        intercept = intercept + coef @ read.mean - computed.mean
        return coef * read.scale / out[:, None], intercept / out

    def _from_units(self, index) -> tuple[np.ndarray, np.ndarray]:
        """Bring the weights of a connector back to the units of the data."""
        read, computed = self._ends(index)
        coef = to_numpy(self.coefs[index], np.float64)
        intercept = to_numpy(self.intercepts[index], np.float64)
        intercept = intercept - coef @ to_numpy(self.read_means[index], np.float64)
        out = np.broadcast_to(computed.scale, len(coef))
        coef = coef / read.scale * out[:, None]
        return coef, intercept * out - coef @ read.mean + computed.mean

    def _hidden(self, rows: BatchRows, layer: int) -> torch.Tensor:
        """Return the rows of a layer, in its unit."""
        return self._in_unit(rows.hidden(layer), self.units[layer])

    def _in_unit(self, rows: np.ndarray, unit: Unit) -> torch.Tensor:
        return torch.from_numpy(unit.apply(rows)).to(self.settings.device)

    def _choose_products(self) -> None:
        n_rows = self.problem.n_rows * self.settings.n_epochs
        self.products = [product(p.mask, n_rows, self.team) for p in self.pruners]

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
        loss = self.update(self._loss(mine, weights), planned)
        if self.n_steps == reselects_after(planned) and is_reselected(
            self.problem, self.settings
        ):
            reselect_unless_worse(self, lambda: self._loss(mine, weights))
        return loss

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
            coef = self.coefs[index]
            at_mean = self.intercepts[index] - coef @ self.read_means[index]
            before.append(self.products[index](coef, features) + at_mean[:, None])
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


def _centred(unit: Unit, connection: Connection) -> Unit:
    """Return a unit that leaves zero where it is, if there shall be no intercept."""
    return Unit(unit.mean * connection.fit_intercept, unit.scale)
