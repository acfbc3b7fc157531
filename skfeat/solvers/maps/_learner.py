"""The loss of all parts of a network of maps, its updates, and the pruning between.

On a batch of samples the loss is ::

      mismatch of the network's outputs with the model's
    + max(0.3, 3 faithfulness) * sum over autoencoders of the squared error of their
      reconstruction
    + faithfulness * sum over computed layers of the squared error of the features that
      the network computes, against those that the layer's autoencoder encodes

each error a mean over samples and positions, as a share of a variance. A connector is
the convolution of its shared weights, by torch; a weight that is dropped stays zero.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from skfeat.kernels._threads import Team
from skfeat.maps._reads import Reads
from skfeat.solvers._mismatch import kl_divergence, squared_error
from skfeat.solvers._prune import Pruner
from skfeat.solvers.joint._problem import JointSettings
from skfeat.solvers.joint._removal import RandomSigns, RemovalPruning
from skfeat.solvers.joint._trained_coder import TrainedCoder
from skfeat.solvers.joint._units import Unit, unit_of_hidden, unit_of_outputs
from skfeat.solvers.joint._updates import Updates, in_raw_units, reconstruction
from skfeat.solvers.maps._problem import MapLearnt, MapProblem, by_channel
from skfeat.utils import _distributed as distributed
from skfeat.utils._rows import Batch
from skfeat.utils._torch import as_like, make_generator, n_batches, to_numpy

# Samples from which units are measured where no sampled rows tell.
_SAMPLES = 1024


class MapLearner(Updates):
    """The weights in training, in units that do not depend on those of the data.

    Parameters
    ----------
    problem : MapProblem
    rows : list of ndarray, (n_rows_l, d_l) each
        Sampled rows of each layer, by which units are measured.
    settings : JointSettings
    team : Team
    """

    pruning: RemovalPruning

    def __init__(
        self,
        problem: MapProblem,
        rows: list[np.ndarray],
        settings: JointSettings,
        team: Team,
    ):
        self.problem, self.settings = problem, settings
        self.generator = make_generator(settings.seed)
        self.n_steps = 0
        device, n_rows = settings.device, len(problem.layers.X) * settings.n_epochs
        self.units = [unit_of_hidden(part, np.ones(len(part))) for part in rows]
        self.coders = [
            TrainedCoder(coder, unit, device, team, n_rows * n_positions)
            for coder, unit, n_positions in zip(
                problem.coders, self.units, problem.layers.n_positions, strict=True
            )
        ]
        self._measure_ends()
        self._measure_codes(rows)
        self._start_connections()
        self.pruners = [
            _pruner(coef.detach(), connection.budget)
            for coef, connection in zip(self.coefs, problem.connections, strict=True)
        ]
        trained = [i for i, coef in enumerate(self.coefs) if coef.requires_grad]
        self.pruning = RemovalPruning(
            [self.coefs[index] for index in trained],
            [self.pruners[index] for index in trained],
            shared=settings.share_budgets,
            n_positions=[problem.reads[index].n_positions_out for index in trained],
        )
        self.trained = trained
        n = len(problem.layers.X)
        planned = settings.n_epochs * n_batches(n, settings.batch_size)
        self.removal_costs = self.pruning.kernels(planned, team)
        connectors = [self.coefs[index] for index in trained]
        connectors += [part for part in self.intercepts if part.requires_grad]
        coders = [part for coder in self.coders for part in coder.parameters]
        coders += self.last_decoder or []
        self._set_optimizer(connectors, coders)

    def _measure_ends(self) -> None:
        """Set the units of inputs and outputs."""
        layers = self.problem.layers
        n = len(layers.X)
        chosen = np.linspace(0, n - 1, min(n, _SAMPLES)).astype(np.int64)
        inputs, _, outputs = layers.run(chosen)
        root = float(inputs.square().mean().sqrt()) or 1.0
        self.input_unit = Unit(np.zeros(inputs.shape[1]), root)
        self.input_mean = (inputs.mean(dim=0) / root).float()
        shares = np.full(len(chosen), 1 / len(chosen))
        self.output_unit = unit_of_outputs(
            to_numpy(outputs), shares, each=not self.settings.classify
        )

    def _measure_codes(self, rows: list[np.ndarray]) -> None:
        """Set what is known of the codes, and how many shall be active."""
        self.code_means, self.code_variances = [], []
        device = self.settings.device
        for coder, unit, part in zip(self.coders, self.units, rows, strict=True):
            chosen = np.linspace(0, len(part) - 1, min(len(part), 2**14))
            hidden = torch.from_numpy(unit.apply(part[chosen.astype(np.int64)]))
            with torch.no_grad():
                own = coder.codes(hidden.to(device))
            self._measure(coder, own, np.full(len(own), 1 / len(own)))
        self.last_decoder = None
        if self.problem.trains_decoder:
            last = self.coders[-1]
            self.last_decoder = [
                part.detach().clone().requires_grad_()
                for part in (last.decoder, last.bias)
            ]

    def _start_connections(self) -> None:
        # What a connector reads counts from its mean: a weight that is dropped leaves
        # what it added on average to the intercept.
        self.read_means = [
            self._mean_of_reads(index) * connection.fit_intercept
            for index, connection in enumerate(self.problem.connections)
        ]
        self.coefs, self.intercepts = [], []
        for index, connection in enumerate(self.problem.connections):
            assert connection.start is not None
            coef, intercept = connection.start
            read, computed = self._ends(index)
            out = np.broadcast_to(computed.scale, len(coef))
            coef = coef * read.scale / out[:, None]
            intercept = (intercept - computed.mean) / out
            intercept += coef @ to_numpy(self.read_means[index], np.float64)
            trained = not connection.frozen
            self.coefs.append(self._tensor(coef, trained=trained))
            self.intercepts.append(
                self._tensor(intercept, trained=trained and connection.fit_intercept)
            )

    def _ends(self, index: int) -> tuple[Unit, Unit]:
        """Return the units of what a connector reads, and of what it computes."""
        units = [Unit(np.zeros(len(c.encoder)), c.unit.scale) for c in self.coders]
        if self.problem.reads_inputs:
            units.insert(0, self.input_unit)
        if self.problem.back is None:
            units.append(self.output_unit)
        return units[index], units[index + 1]

    def _mean_of_reads(self, index: int) -> torch.Tensor:
        """Return the mean, in units in training, of what a connector reads."""
        layer, reads = index - self.problem.reads_inputs, self.problem.reads[index]
        mean = self.input_mean if layer < 0 else self.code_means[layer]
        if reads.is_mean:
            return mean
        # Where a place is padding it reads zero.
        inside = (reads.patches.source >= 0).mean(axis=0)
        return (as_like(inside, mean)[:, None] * mean).ravel()

    def step(self, batch: Batch, planned: int) -> float:
        """Make one update on a batch of samples; return its loss."""
        if self.pruning.is_time(self.n_steps, planned):
            self._estimate_costs(batch)
        n = len(batch.ids)
        mine = batch.take(distributed.shard(np.arange(n)))
        return self.update(self._loss(mine, len(mine.ids) / n), planned)

    def _prune(self, progress: float) -> None:
        self.pruning.prune(progress)

    def _loss(self, batch: Batch, share_of_all: float) -> torch.Tensor:
        problem, settings = self.problem, self.settings
        inputs, hidden, outputs = problem.layers.run_rows(batch.rows())
        loss, codes = torch.zeros((), device=settings.device), []
        weights_of_layers = []
        for layer, coder in enumerate(self.coders):
            rows = self._in_unit(hidden[layer], layer)
            weights = rows.new_full((len(rows),), share_of_all / max(len(rows), 1))
            weights_of_layers.append(weights)
            if not coder.parameters:
                codes.append(coder.codes(rows))
                continue
            own, error = coder.reconstruct(rows, weights)
            codes.append(own)
            if coder.penalty:
                error = error + coder.penalty * (weights @ own.sum(dim=1))
            loss = loss + reconstruction(settings) * error
        self._follow(codes, weights_of_layers)
        if problem.reads_inputs:
            features = self._as_read(inputs)
        else:
            features = codes[0] if settings.train_encoder else codes[0].detach()
        _, computed = self._compute(features)
        if settings.faithfulness > 0:
            for layer, part in enumerate(computed, problem.first_target):
                if layer < len(codes):
                    error = (part - codes[layer]).square().sum(dim=1)
                    error = weights_of_layers[layer] @ error
                    share = settings.faithfulness / self.code_variances[layer]
                    loss = loss + share * error
        found = self._outputs(computed[-1] if computed else features)
        targets = outputs.to(found)
        weights = found.new_full((len(found),), share_of_all / max(len(found), 1))
        if settings.classify:
            return loss + kl_divergence(found, targets, weights)
        scale = as_like(self.output_unit.scale, found)
        return loss + squared_error(found / scale, targets / scale, weights)

    def _as_read(self, inputs: torch.Tensor) -> torch.Tensor:
        return (inputs / float(self.input_unit.scale)).float()

    def _in_unit(self, hidden: torch.Tensor, layer: int) -> torch.Tensor:
        unit = self.units[layer]
        mean = as_like(unit.mean, hidden)
        return ((hidden - mean) / float(unit.scale)).float()

    def _compute(
        self, features: torch.Tensor
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Run the connectors; return what each computes, before and after its link."""
        before, computed = [], []
        for coef, intercept, mean, connection, reads in zip(
            self.coefs,
            self.intercepts,
            self.read_means,
            self.problem.connections,
            self.problem.reads,
            strict=True,
        ):
            before.append(convolved(features, coef, intercept - coef @ mean, reads))
            features = before[-1].relu() if connection.link == "relu" else before[-1]
            computed.append(features)
        return before, computed

    def _estimate_costs(self, batch: Batch) -> None:
        """Estimate from samples of a batch what removing each weight would cost."""
        problem, settings = self.problem, self.settings
        n = min(self.pruning.n_samples(), len(batch.ids))
        mine = distributed.shard(np.arange(n))
        with torch.no_grad():
            inputs, hidden, _ = problem.layers.run_rows(batch.take(mine).rows())
            read = self._as_read(inputs)
            if not problem.reads_inputs:
                read = self.coders[0].codes(self._in_unit(hidden[0], 0))
        signs = RandomSigns(n, mine, self.generator)
        before, computed = self._compute(read)
        combination = read.new_zeros(())
        if settings.faithfulness > 0:
            for layer, part in enumerate(computed, problem.first_target):
                if layer < len(self.coders):
                    n_positions = problem.layers.n_positions[layer]
                    n_rows = n * n_positions
                    share = settings.faithfulness / n_rows / self.code_variances[layer]
                    part = signs.of_features(part.T, share, n_positions)
                    combination = combination + part
        outputs = self._outputs(computed[-1]).T
        share = outputs.new_tensor(1 / n)
        if settings.classify:
            combination = combination + signs.of_logits(outputs, share)
        else:
            scale = self.output_unit.scale
            combination = combination + signs.of_values(outputs, scale, share)
        gradients = torch.autograd.grad(
            combination, [computed[index] for index in self.trained]
        )
        features = [read, *computed]
        with torch.no_grad():
            costs = []
            for index, gradient, costs_of in zip(
                self.trained, gradients, self.removal_costs, strict=True
            ):
                reads = problem.reads[index]
                patches = patches_of(features[index], reads)
                costs.append(
                    costs_of(
                        (patches - self.read_means[index]).T.contiguous(),
                        before[index].T.contiguous(),
                        self.coefs[index],
                        self.pruners[index].mask,
                        gradient.T.contiguous(),
                        rectified=problem.connections[index].link == "relu",
                        n_positions=reads.n_positions_out,
                    )
                )
        distributed.all_reduce(*costs)
        self.pruning.take_costs(costs)

    def _outputs(self, features: torch.Tensor) -> torch.Tensor:
        """Return the outputs (n, q) of the network, in the units of the data."""
        problem = self.problem
        if problem.back is None:
            return in_raw_units(features, self.output_unit)
        if self.last_decoder is None:
            decoded = self.coders[-1].decode(features)
        else:
            decoder, bias = self.last_decoder
            decoded = torch.addmm(bias, features, decoder)
        decoded = in_raw_units(decoded, self.units[-1])
        n_positions = problem.layers.n_positions[-1]
        return problem.back(by_channel(decoded, n_positions))

    def learnt(self) -> MapLearnt:
        """Return copies of what is learnt, acting on raw rows."""
        coefs, intercepts = [], []
        for index, (coef, intercept) in enumerate(
            zip(self.coefs, self.intercepts, strict=True)
        ):
            read, computed = self._ends(index)
            out = np.broadcast_to(computed.scale, len(coef))
            weights, at_mean, mean = (
                to_numpy(part, np.float64)
                for part in (coef, intercept, self.read_means[index])
            )
            intercepts.append((at_mean - weights @ mean) * out + computed.mean)
            coefs.append(weights / read.scale * out[:, None])
        coders = [coder.export() for coder in self.coders]
        return MapLearnt(coders, coefs, intercepts, self._decoder())

    def _decoder(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the last decoder, if it alone of its autoencoder is trained."""
        if self.last_decoder is None:
            return None
        decoder, bias = (to_numpy(part, np.float64) for part in self.last_decoder)
        unit = self.units[-1]
        return decoder, bias * unit.scale + unit.mean

    def finish(self) -> MapLearnt:
        """Prune to the budgets, if that is still to be done; return what is learnt."""
        self._prune(1.0)
        return self.learnt()


def convolved(
    features: torch.Tensor, coef: torch.Tensor, intercept: torch.Tensor, reads: Reads
) -> torch.Tensor:
    """Apply shared weights at every position, differentiably.

    Parameters
    ----------
    features : Tensor of shape (n * n_positions_in, m)
    coef : Tensor of shape (q, n_places * m)
    intercept : Tensor of shape (q,)
    reads : Reads

    Returns
    -------
    Tensor of shape (n * n_positions_out, q)
    """
    m, patches = features.shape[1], reads.patches
    if reads.is_mean:
        features = features.reshape(-1, reads.n_positions_in, m).mean(dim=1)
        return F.linear(features, coef, intercept)
    if reads.n_positions_out == 1 and reads.n_places == reads.n_positions_in:
        return F.linear(features.reshape(-1, coef.shape[1]), coef, intercept)
    # Features of a position lie side by side: so do torch's channels, if last.
    maps = features.reshape(-1, *patches.map_shape, m).permute(0, 3, 1, 2)
    kernel = coef.reshape(len(coef), *patches.kernel_size, m).permute(0, 3, 1, 2)
    found = F.conv2d(
        maps, kernel, intercept, patches.stride, patches.padding, patches.dilation
    )
    return found.permute(0, 2, 3, 1).reshape(-1, len(coef))


def patches_of(features: torch.Tensor, reads: Reads) -> torch.Tensor:
    """Return what a connector reads at each position it computes.

    Parameters
    ----------
    features : Tensor of shape (n * n_positions_in, m)
    reads : Reads

    Returns
    -------
    Tensor of shape (n * n_positions_out, n_places * m)
        Padding is zero; one place with the means over positions, where these are read.
    """
    maps = features.reshape(-1, reads.n_positions_in, features.shape[1])
    if reads.is_mean:
        return maps.mean(dim=1)
    source = torch.as_tensor(reads.patches.source, device=features.device)
    found = maps[:, source.clamp(min=0)]
    found *= (source >= 0).to(found)[:, :, None]
    return found.reshape(len(maps) * len(source), -1)


def _pruner(coef: torch.Tensor, budget: int | None) -> Pruner:
    """Make what prunes a connector to its budget, or holds the support it has."""
    pruner = Pruner.fixed(coef, coef != 0)
    if budget is not None:
        pruner.first, pruner.budget = max(pruner.budget, budget), budget
    return pruner
