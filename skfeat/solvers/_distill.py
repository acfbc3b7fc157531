"""Distillation of a model into a network of features, under a budget of weights.

Connectors that were fitted layer by layer add up their errors, and count every feature
alike. Here all of them move together so that the network's outputs match the model's
on the same rows; no labels are needed. Weights are pruned while they train.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from skfeat.solvers._loop import EpochHooks, History, Stopping, one_cycle, run_epochs
from skfeat.solvers._prune import Pruner
from skfeat.utils import _distributed as distributed
from skfeat.utils._torch import make_generator, n_batches, shuffled_batches, to_numpy

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Student:
    """The network that learns: features, connectors, and the fixed way to the outputs.

    Parameters
    ----------
    features : list of ndarray, (n, m_l) each
        The autoencoders' codes, first to last layer. The first are the inputs, the
        others what `faithfulness` holds on to.
    coefs : list of ndarray, (m_{l+1}, m_l) each
    intercepts : list of ndarray, (m_{l+1},) each
    links : list of {"relu", "identity"}
    decode : callable
        Maps a tensor of last-layer features to the model's outputs, differentiably.
    """

    features: list[np.ndarray]
    coefs: list[np.ndarray]
    intercepts: list[np.ndarray]
    links: list[str]
    decode: Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class DistillSettings:
    """How a student learns.

    Parameters
    ----------
    budgets : list of int or None
        Nonzero weights of each connector; ``None`` keeps its support.
    classify : bool
        Match output distributions (KL divergence) rather than output values.
    faithfulness : float
        Weight of the features' own squared error, as a share of their variance.
    n_epochs : int
    learning_rate : float
    batch_size : int
    device : torch.device
    seed : int
    """

    budgets: list[int | None]
    classify: bool
    faithfulness: float
    n_epochs: int
    learning_rate: float
    batch_size: int
    device: torch.device
    seed: int


def distill(
    student: Student,
    outputs: np.ndarray,
    sample_weight: np.ndarray,
    settings: DistillSettings,
    *,
    hooks: EpochHooks | None = None,
    verbose: int = 0,
) -> tuple[list[np.ndarray], list[np.ndarray], History]:
    """Move a student's weights so that it computes the model's outputs.

    Parameters
    ----------
    student : Student
    outputs : ndarray of shape (n, n_outputs)
        The model's logits, or its values.
    sample_weight : ndarray of shape (n,)
    settings : DistillSettings
    hooks : EpochHooks, optional
    verbose : int, default=0

    Returns
    -------
    coefs, intercepts : lists of ndarray
    history : History
    """
    learner = _Learner(student, outputs, sample_weight, settings)
    planned = settings.n_epochs * n_batches(len(outputs), settings.batch_size)

    def run_epoch():
        total = 0.0
        for rows in shuffled_batches(
            len(outputs), settings.batch_size, learner.generator
        ):
            weight = float(sample_weight[rows].sum())
            if weight > 0:
                mine = distributed.shard(rows)
                total += weight * learner.step(
                    mine, sample_weight[mine] / weight, planned
                )
        return total / float(sample_weight.sum())

    history = run_epochs(
        run_epoch,
        # Pruning raises the loss on the way: no early end.
        Stopping(settings.n_epochs, 0.0, settings.n_epochs + 1),
        name="FeatureUnwrapper",
        state=learner.weights,
        hooks=hooks,
        verbose=verbose,
        remedy="set distill=False, or rescale the activations of the model",
    )
    coefs, intercepts = learner.finish()
    return coefs, intercepts, history


class _Learner:
    """The student's weights as tensors, on features of unit mean square."""

    def __init__(self, student, outputs, sample_weight, settings):
        self.student, self.settings = student, settings
        self.generator = make_generator(settings.seed)
        self.n_steps = 0
        self.outputs = outputs
        # Of rows that weigh nothing, nothing may be felt: not even in the units.
        weights = sample_weight / sample_weight.sum()
        deviations = outputs - (weights @ outputs).mean()
        self.output_scale = max(_moments(deviations, weights)[0], 1e-12)
        moments = [_moments(features, weights) for features in student.features]
        self.scales = [rms for rms, _ in moments]
        # Squared errors are counted as shares of the features' variance.
        self.variances = [max(variance, 1e-12) for _, variance in moments]
        into, out = self.scales[:-1], self.scales[1:]
        self.coefs = [
            self._parameter(coef * (a / b))
            for coef, a, b in zip(student.coefs, into, out, strict=True)
        ]
        self.intercepts = [
            self._parameter(intercept / b)
            for intercept, b in zip(student.intercepts, out, strict=True)
        ]
        self.pruners = [
            Pruner.fixed(coef.detach(), coef.detach() != 0) for coef in self.coefs
        ]
        for pruner, budget in zip(self.pruners, settings.budgets, strict=True):
            if budget is not None:
                pruner.first, pruner.budget = max(pruner.budget, budget), budget
        # Mean square of the features that each connector reads, over recent batches.
        self.squares = [torch.zeros(coef.shape[1]) for coef in self.coefs]
        self.squares = [square.to(settings.device) for square in self.squares]
        self.optimizer = torch.optim.Adam(
            [*self.coefs, *self.intercepts], lr=settings.learning_rate, fused=True
        )

    def _parameter(self, array):
        return torch.tensor(
            array, dtype=torch.float32, device=self.settings.device, requires_grad=True
        )

    def _rows(self, array, rows):
        tensor = torch.from_numpy(np.ascontiguousarray(array[rows]))
        return tensor.to(self.settings.device, torch.float32)

    def step(self, rows, weights, planned) -> float:
        """Make one update on a batch and return its loss."""
        settings = self.settings
        weights = self._rows(weights, slice(None))
        loss = self._loss(rows, weights)
        self.optimizer.zero_grad()
        loss.backward()
        value = loss.detach()
        distributed.all_reduce(
            value, *(p.grad for p in [*self.coefs, *self.intercepts])
        )
        self.n_steps += 1
        progress = self.n_steps / planned
        rate = settings.learning_rate * one_cycle(progress, warm_up=0.1, decay=0.5)
        self.optimizer.param_groups[0]["lr"] = rate
        for coef, pruner in zip(self.coefs, self.pruners, strict=True):
            coef.grad *= pruner.mask
        self.optimizer.step()
        for pruner, square in zip(self.pruners, self.squares, strict=True):
            pruner.step(self.n_steps, progress, square.sqrt())
        return float(value)

    def _loss(self, rows, weights):
        student, settings = self.student, self.settings
        features = self._rows(student.features[0], rows) / self.scales[0]
        loss = features.new_zeros(())
        for layer, (coef, intercept) in enumerate(
            zip(self.coefs, self.intercepts, strict=True)
        ):
            square = weights @ features.detach().square()
            distributed.all_reduce(square)
            self.squares[layer].lerp_(square, 0.05 if self.n_steps else 1.0)
            features = torch.addmm(intercept, features, coef.T)
            if student.links[layer] == "relu":
                features = features.relu()
            if settings.faithfulness > 0:
                target = self._rows(student.features[layer + 1], rows)
                error = features * self.scales[layer + 1] - target
                share = (weights @ error.square()).sum() / self.variances[layer + 1]
                loss = loss + settings.faithfulness * share
        outputs = student.decode(features * self.scales[-1])
        return loss + self._mismatch(outputs, self._rows(self.outputs, rows), weights)

    def _mismatch(self, outputs, targets, weights):
        if not self.settings.classify:
            error = (outputs - targets) / self.output_scale
            return weights @ error.square().mean(dim=1)
        if outputs.shape[1] == 1:
            # One logit stands for two classes.
            outputs, targets = (
                torch.cat([torch.zeros_like(part), part], dim=1)
                for part in (outputs, targets)
            )
        log_q, log_p = outputs.log_softmax(dim=1), targets.log_softmax(dim=1)
        return weights @ (log_p.exp() * (log_p - log_q)).sum(dim=1)

    def weights(self):
        """Return copies of the weights and intercepts, in raw units."""
        into, out = self.scales[:-1], self.scales[1:]
        coefs = [
            to_numpy(coef, np.float64) * (b / a)
            for coef, a, b in zip(self.coefs, into, out, strict=True)
        ]
        intercepts = [
            to_numpy(intercept, np.float64) * b
            for intercept, b in zip(self.intercepts, out, strict=True)
        ]
        return coefs, intercepts

    def finish(self):
        """Prune to the budgets, if that is still to be done, and return the weights."""
        for pruner, square in zip(self.pruners, self.squares, strict=True):
            pruner.prune(1.0, square.sqrt())
        return self.weights()


def _moments(rows, weights) -> tuple[float, float]:
    """Root mean square (1 if zero) and summed variance of weighted rows."""
    mean = weights @ rows
    square = weights @ np.square(rows, dtype=np.float64)
    variance = float(np.maximum(square - mean**2, 0).sum())
    return float(np.sqrt(square.mean())) or 1.0, variance
