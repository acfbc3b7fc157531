"""What a learner starts from: units, statistics of codes, and the first weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import sparse

from skfeat.kernels._threads import Team
from skfeat.kernels.connector._masked_product import product
from skfeat.kernels.connector._support import Support
from skfeat.solvers._prune import Pruner
from skfeat.solvers.joint._problem import BatchRows, Connection, Problem
from skfeat.solvers.joint._removal import RemovalPruning
from skfeat.solvers.joint._start import Rows, compact_rows, regress, start_rows
from skfeat.solvers.joint._trained_coder import TrainedCoder
from skfeat.solvers.joint._units import (
    Unit,
    unit_of_hidden,
    unit_of_inputs,
    unit_of_outputs,
)
from skfeat.solvers.joint._updates import Updates
from skfeat.utils._progress import stage, tick
from skfeat.utils._torch import to_numpy

# Codes that are computed at a time.
_CODES_AT_ONCE = 2**24


class Started(Updates):
    """Mixin of what learns: where it starts, and units to and from those of the data.

    Attributes
    ----------
    supports : list of Support
        Where the weights of each connector are held.
    coefs, intercepts : list of Tensor
        The weights that are held, and intercepts at the means of what is read.
    read_means : list of Tensor
    pruners : list of Pruner
        What holds or prunes those weights.
    products : list of callable
        What multiplies by those that are left.
    trained : list of int
        Which connectors are trained.
    """

    problem: Problem
    team: Team
    generator: torch.Generator
    pruning: RemovalPruning
    sample_weight: np.ndarray
    units: list[Unit]
    input_unit: Unit
    output_unit: Unit
    supports: list[Support]
    coefs: list[torch.Tensor]
    intercepts: list[torch.Tensor]
    read_means: list[torch.Tensor]
    pruners: list[Pruner]
    products: list[Callable]
    trained: list[int]

    def _set_units(self) -> None:
        """Set the units of layers and ends."""
        problem = self.problem
        self.units = [
            unit_of_hidden(rows, self.sample_weight) for rows in problem.hidden
        ]
        if problem.inputs is not None:
            unit = unit_of_inputs(problem.inputs, self.sample_weight)
            self.input_unit = _centred(unit, problem.connections[0])
        if problem.outputs is not None:
            # Squared errors count in units of each output's own spread; the last
            # connector, like every one, computes what shares a unit.
            each = not self.settings.classify
            unit = unit_of_outputs(problem.outputs, self.sample_weight, each=each)
            if problem.back is None:
                unit = _centred(unit, problem.connections[-1])
            self.output_unit = unit

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
        self.supports, self.coefs, self.intercepts = [], [], []
        for index, connection in enumerate(problem.connections):
            stage("start of connector", index + 1, len(problem.connections))
            coef, intercept = self._first(index, features, weights)
            intercept = intercept + coef @ to_numpy(self.read_means[index], np.float64)
            support, values = self._held(coef, connection)
            trained = not connection.frozen
            self.supports.append(support)
            self.coefs.append(self._tensor(values, trained=trained))
            self.intercepts.append(
                self._tensor(intercept, trained=trained and connection.fit_intercept)
            )

    def _first(
        self, index: int, features: list[Rows], weights: np.ndarray
    ) -> tuple[Rows, np.ndarray]:
        """Return the weights and intercepts that a connector starts with."""
        connection = self.problem.connections[index]
        if connection.start is not None:
            return self._to_units(index, *connection.start)
        return regress(
            features[index],
            features[index + 1],
            weights,
            connection.budget or 0,
            fit_intercept=connection.fit_intercept,
        )

    def _held(self, coef: Rows, connection: Connection) -> tuple[Support, np.ndarray]:
        """Return where the weights of a connector are held, and those weights.

        What may become nonzero is held.
        """
        if connection.budget is None or connection.frozen:
            coef = sparse.csr_array(coef)
        if isinstance(coef, np.ndarray):
            return Support(coef.shape), coef
        if coef.nnz == coef.shape[0] * coef.shape[1]:
            return Support(coef.shape), coef.toarray()
        return Support.of(coef), np.asarray(coef.data)

    def _choose_products(self) -> None:
        """Choose how to multiply by the weights that are left."""
        n_rows = self.problem.n_rows * self.settings.n_epochs
        self.products = [
            product(pruner.mask, n_rows, self.team, support)
            for pruner, support in zip(self.pruners, self.supports, strict=True)
        ]

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

    def _from_units(self, index) -> tuple[Rows, np.ndarray]:
        """Bring the weights of a connector back to the units of the data."""
        read, computed = self._ends(index)
        coef = self.supports[index].array(to_numpy(self.coefs[index], np.float64))
        intercept = to_numpy(self.intercepts[index], np.float64)
        intercept = intercept - coef @ to_numpy(self.read_means[index], np.float64)
        out = np.broadcast_to(computed.scale, len(intercept))
        if sparse.issparse(coef):
            coef.eliminate_zeros()  # those that are pruned
            inner = 1 / np.broadcast_to(read.scale, coef.shape[1])
            coef = coef.multiply(inner).multiply(out[:, None]).tocsr()
        else:
            coef = coef / read.scale * out[:, None]
        return coef, intercept * out - coef @ read.mean + computed.mean

    def _hidden(self, rows: BatchRows, layer: int) -> torch.Tensor:
        """Return the rows of a layer, in its unit."""
        return self._in_unit(rows.hidden(layer), self.units[layer])

    def _in_unit(self, rows: np.ndarray, unit: Unit) -> torch.Tensor:
        return torch.from_numpy(unit.apply(rows)).to(self.settings.device)


def _centred(unit: Unit, connection: Connection) -> Unit:
    """Return a unit that leaves zero where it is, if there shall be no intercept."""
    return Unit(unit.mean * connection.fit_intercept, unit.scale)
