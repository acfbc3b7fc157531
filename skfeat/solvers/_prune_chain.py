"""Pruning of the linear layers and convolutions of a network, trained on outputs.

All weights move together so that the network gives those outputs, no labels needed, and
those that cost least are dropped on the way: the control that a sparse network of
features has to stand beside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from skfeat.chain import JOINS, Step
from skfeat.chain._kinds import JOINS as JOIN_KINDS
from skfeat.chain._steps import run_numpy, torch_step, walk
from skfeat.solvers._loop import History, Messages, run_epochs
from skfeat.solvers._mismatch import kl_divergence, squared_error
from skfeat.solvers._prune import (
    CurvaturePruning,
    Pruner,
    is_time,
    rate_at,
    stopping,
    updates_between,
)
from skfeat.solvers._trained_steps import (
    TrainedConvolution,
    TrainedLayer,
    TrainedStep,
)
from skfeat.solvers.joint._units import unit_of_outputs
from skfeat.utils import _distributed as distributed
from skfeat.utils._adam import Adam
from skfeat.utils._rows import Batch, batches_of_held, mixed_batches
from skfeat.utils._torch import (
    PLAIN,
    as_like,
    make_generator,
    n_batches,
    with_gradients,
)

# Largest learning rate of Adam; all weights are trained in units in which it suits.
_RATE = 5e-3
# Rows that units are measured on, from all over the data.
_ROWS = 8192


@dataclass(frozen=True)
class PruneSettings:
    """How a network is pruned and trained.

    Parameters
    ----------
    budgets : list of (list of int, int)
        Numbers of linear layers and convolutions, in the order of the steps, those of
        branches too; and how many weights these keep together. Layers in no list stay
        dense.
    frozen : list of int
        Numbers of the linear layers that stay as they are.
    from_scratch : bool
        Start from random weights.
    classify : bool
        Match output distributions (KL divergence) rather than output values.
    n_epochs : int
        At most.
    tol : float
        Once pruning has ended, a tenth of the epochs must lower the loss by this share.
    batch_size : int
    device : torch.device
    seed : int
    mixup : float
        Share of the rows of each batch that is mixed with others.
    """

    budgets: list[tuple[list[int], int]]
    frozen: list[int]
    from_scratch: bool
    classify: bool
    n_epochs: int
    tol: float
    batch_size: int
    device: torch.device
    seed: int
    mixup: float


@with_gradients()
def prune_chain(
    steps: Sequence[Step],
    X: np.ndarray,
    compute: Callable[[np.ndarray], np.ndarray],
    settings: PruneSettings,
) -> tuple[tuple[Step, ...], History]:
    """Prune the linear layers of a chain's steps, and train them on outputs.

    Parameters
    ----------
    steps : sequence of Step
    X : ndarray of shape (n, n_features)
    compute : callable
        Maps rows of X, or mixtures of them, to the outputs (n, n_outputs) that are to
        be given: logits, or values.
    settings : PruneSettings

    Returns
    -------
    steps : tuple of Step
        With other weights, in the dtypes of those given; what is frozen as it was.
    history : History
    """
    planned = settings.n_epochs * n_batches(len(X), settings.batch_size)
    learner = _Learner(steps, X, compute, settings)

    def run_epoch():
        total = 0.0
        batches = batches_of_held(X, settings.batch_size, learner.generator)
        for batch in mixed_batches(batches, settings.mixup, learner.generator):
            total += len(batch.ids) * learner.step(batch, planned)
        return total / len(X)

    remedy = "set mixup=0 or " * (settings.mixup > 0) + "rescale X"
    history = run_epochs(
        run_epoch,
        stopping(settings.n_epochs, settings.tol),
        Messages("The pruned network", remedy),
        state=learner.steps_now,
    )
    return learner.finish(), history


class _Learner:
    """All weights in training, and the pruning of those of linear layers."""

    def __init__(self, steps, X, compute, settings):
        self.settings, self.given = settings, _copied(steps)
        self.X, self.compute = X, compute
        outputs = compute(X)
        self.generator = make_generator(settings.seed)
        self.n_steps = 0
        each = not settings.classify
        shares = np.full(len(outputs), 1 / len(outputs))
        self.output_unit = unit_of_outputs(outputs, shares, each=each)
        self.parts: dict[int, TrainedLayer | TrainedStep] = {}
        self._begin()
        self.layers = [p for p in self._in_order() if isinstance(p, TrainedLayer)]
        others = [p for p in self._in_order() if isinstance(p, TrainedStep)]
        for index, layer in enumerate(self.layers):
            layer.to_device(settings.device, trained=index not in settings.frozen)
        for other in others:
            other.to_device(settings.device)
        self.groups = [
            _pruning([self.layers[index].coef for index in group], budget)
            for group, budget in settings.budgets
        ]
        self.parameters = [
            t
            for layer in self.layers
            for t in (layer.coef, layer.intercept)
            if t.requires_grad
        ] + [t for other in others for t in other.tensors.values()]
        self.optimizer = Adam(self.parameters, _RATE)

    def _in_order(self) -> Iterator[TrainedLayer | TrainedStep]:
        return (self.parts[id(s)] for s in walk(self.given) if id(s) in self.parts)

    def _begin(self) -> None:
        """Measure units on some rows, and set the weights to begin with."""
        n = len(self.X)
        rows = np.linspace(0, n - 1, min(n, _ROWS)).astype(np.int64)
        last = max(i for i, step in enumerate(self.given) if step.is_weighted)
        self.at_outputs = {id(step) for step in walk(self.given[last:])}
        self._run_start(self.given, self.X[rows], at_inputs=True)
        first = self.parts.get(id(self.given[0]))
        self.centre = None
        if self.given[0].kind == "affine" and self.X.dtype == np.float64:
            assert isinstance(first, TrainedLayer)
            # In float32 little might be left of inputs that are far from zero.
            first.is_centred, self.centre = True, first.mean

    def _run_start(self, steps, values, at_inputs: bool) -> np.ndarray:
        for step in steps:
            if step.kind in JOINS:
                results = [
                    self._run_start(branch, values, at_inputs)
                    for branch in step.branches
                ]
                values = JOIN_KINDS[step.kind].join(results, np.concatenate)
            elif step.kind == "affine":
                read = self.X if step is self.given[0] else values
                layer = TrainedLayer(step, read, of_inputs=at_inputs)
                self.parts[id(step)] = layer
                values = self._start_layer(layer, values)
            elif step.kind == "conv":
                layer = TrainedConvolution(step, values)
                self.parts[id(step)] = layer
                values = self._start_layer(layer, values)
            else:
                if step.arrays:
                    self.parts[id(step)] = TrainedStep(step)
                values = run_numpy([step], values)
            at_inputs = at_inputs and step.kind == "slice"
        return values

    def _start_layer(self, layer: TrainedLayer, values: np.ndarray) -> np.ndarray:
        step = layer.step
        coef, intercept = step.arrays["coef"], step.arrays["intercept"]
        if self.settings.from_scratch:
            coef, intercept = self._draw(layer, values)
        computed = layer.compute(values, coef, intercept)
        out = np.sqrt(np.square(computed - computed.mean(axis=0)).mean())
        layer.start(coef, intercept, float(out) or 1.0)
        return computed.astype(values.dtype)

    def _draw(self, layer: TrainedLayer, values) -> tuple[np.ndarray, np.ndarray]:
        """Draw uniform weights that make outputs of a deviation near their unit."""
        power = layer.power(values) or 1.0
        shape = layer.step.arrays["coef"].shape
        draws = torch.rand(shape, generator=self.generator, **PLAIN).numpy()
        out = 1.0
        if id(layer.step) in self.at_outputs:
            out = float(np.mean(self.output_unit.scale))
        coef = out * np.sqrt(3 / power) * (2.0 * draws - 1.0) / layer.into
        return coef, -layer.on_average(coef)

    def _run(self, steps, x: torch.Tensor) -> torch.Tensor:
        for step in steps:
            part = self.parts.get(id(step))
            if part is not None:
                x = part.forward(x)
            elif step.kind in JOINS:
                results = [self._run(branch, x) for branch in step.branches]
                x = JOIN_KINDS[step.kind].join(results, torch.cat)
            else:
                x = torch_step(step.kind)(x, {}, step.settings)
        return x

    def step(self, batch: Batch, planned: int) -> float:
        """Make one update on a batch of rows; return its loss."""
        settings = self.settings
        n = len(batch.ids)
        inputs = batch.take(distributed.shard(np.arange(n))).rows()
        outputs = self.compute(inputs)
        if self.centre is not None:
            inputs = inputs - self.centre
        x, targets = (
            torch.from_numpy(array).to(settings.device, torch.float32)
            for array in (inputs, outputs)
        )
        weights = x.new_full((len(x),), 1 / n)
        found = self._run(self.given, x)
        if settings.classify:
            loss = kl_divergence(found, targets, weights)
        else:
            scale = as_like(self.output_unit.scale, found)
            loss = squared_error(found / scale, targets / scale, weights)
        value = distributed.backward(loss, self.parameters)
        self.n_steps += 1
        progress = self.n_steps / planned
        self.optimizer.param_groups[0]["lr"] = _RATE * rate_at(progress)
        for pruning in self.groups:
            pruning.take_gradients()
        self.optimizer.step()
        for pruning in self.groups:
            pruning.hold()
        if is_time(self.n_steps, progress, updates_between(planned)):
            self._prune(progress)
        return value

    def _prune(self, progress: float) -> None:
        for pruning in self.groups:
            pruning.prune(progress)

    def steps_now(self) -> tuple[Step, ...]:
        """Return the steps with copies of the weights as they are."""
        return self._with_arrays(self.given)

    def _with_arrays(self, steps) -> tuple[Step, ...]:
        return tuple(
            replace(
                step,
                arrays=self.parts[id(step)].arrays()
                if id(step) in self.parts
                else step.arrays,
                branches=tuple(self._with_arrays(b) for b in step.branches),
            )
            for step in steps
        )

    def finish(self) -> tuple[Step, ...]:
        """Prune to the budgets, if that is still to be done; return the steps."""
        self._prune(1.0)
        return self.steps_now()


def _copied(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Copy steps: each has weights of its own, also where one was used twice."""
    return tuple(
        replace(step, branches=tuple(_copied(branch) for branch in step.branches))
        for step in steps
    )


def _pruning(coefs: list[torch.Tensor], budget: int) -> CurvaturePruning:
    """Return what prunes layers that share a budget."""
    pruners = [
        Pruner.fixed(coef.detach(), torch.ones_like(coef, dtype=torch.bool))
        for coef in coefs
    ]
    for pruner in pruners:
        pruner.budget = 0
    # What they share is the sum.
    pruners[0].budget = min(budget, sum(coef.numel() for coef in coefs))
    return CurvaturePruning(coefs, pruners, shared=True)
