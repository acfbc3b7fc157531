"""Distillation of a model into a network of features, under a budget of weights.

Connectors that were fitted layer by layer add up their errors, and count every feature
alike. Here all of them move together so that the network's outputs match the model's
on the same rows; no labels are needed. Weights are pruned while they train.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from skfeat.kernels._threads import Team
from skfeat.kernels.connector._masked_product import product
from skfeat.solvers._loop import EpochHooks, History, Messages, run_epochs
from skfeat.solvers._mismatch import kl_divergence, squared_error
from skfeat.solvers._prune import (
    CurvaturePruning,
    Pruner,
    is_time,
    rate_at,
    stopping,
)
from skfeat.utils import _distributed as distributed
from skfeat.utils._adam import Adam
from skfeat.utils._torch import (
    make_generator,
    n_batches,
    shuffled_batches,
    to_float32,
    to_numpy,
)

if TYPE_CHECKING:
    from collections.abc import Callable


# A spread below this share of the root mean square is rounding.
_CONSTANT = 1e-6

# Rows whose squares are summed at a time: few enough for the cache.
_ROWS = 1024


@dataclass(frozen=True)
class Student:
    """The network that is trained: features, connectors, and the way to the outputs.

    Parameters
    ----------
    features : list of ndarray, (n, m_l) each
        What the first connector reads, then what each is to compute: the codes of the
        autoencoders, from which `faithfulness` penalises departures, and last the
        outputs where there is no decoder.
    coefs : list of ndarray, (m_{l+1}, m_l) each
    intercepts : list of ndarray, (m_{l+1},) each
    links : list of {"relu", "identity"}
    decoder : tuple of ndarrays (m_last, d) and (d,), or None
        Trained too. ``None``: the last connector computes the outputs themselves.
    back : callable
        Maps a tensor of decoded activations (n, d) to the model's outputs,
        differentiably.
    hidden : ndarray of shape (n, d), or None
        What the decoder is to give, which `faithfulness` weighs as well. Unused where
        there is no decoder.
    frozen : list of bool, or None
        The connectors that stay as they are; None: all are trained.
    frozen_decoder : bool, default=False
        Whether the decoder stays as it is.
    """

    features: list[np.ndarray]
    coefs: list[np.ndarray]
    intercepts: list[np.ndarray]
    links: list[str]
    decoder: tuple[np.ndarray, np.ndarray] | None
    back: Callable[[torch.Tensor], torch.Tensor]
    hidden: np.ndarray | None = None
    frozen: list[bool] | None = None
    frozen_decoder: bool = False


class Learnt(NamedTuple):
    """The weights of a trained student, in the units of the features.

    Those of frozen parts are rounded: the parts themselves have them exactly.
    """

    coefs: list[np.ndarray]
    intercepts: list[np.ndarray]
    decoder: tuple[np.ndarray, np.ndarray] | None


@dataclass(frozen=True)
class DistillSettings:
    """How a student is trained.

    Parameters
    ----------
    budgets : list of int or None
        Nonzero weights of each connector; ``None`` keeps its support.
    share_budgets : bool
        Keep to their sum alone.
    classify : bool
        Match output distributions (KL divergence) rather than output values.
    faithfulness : float
        Weight of the squared errors of the features and of what is decoded, each as a
        share of its variance.
    n_epochs : int
        At most.
    tol : float
        Once pruning has ended, a tenth of the epochs must lower the loss by this share.
    learning_rate : float
    batch_size : int
    device : torch.device
    seed : int
    """

    budgets: list[int | None]
    share_budgets: bool
    classify: bool
    faithfulness: float
    n_epochs: int
    tol: float
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
) -> tuple[Learnt, History]:
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
    learnt : Learnt
    history : History
    """
    planned = settings.n_epochs * n_batches(len(outputs), settings.batch_size)
    team = Team()
    learner = _Learner(student, outputs, sample_weight, settings, team)

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

    with team:
        history = run_epochs(
            run_epoch,
            stopping(settings.n_epochs, settings.tol),
            Messages(
                "FeatureUnwrapper",
                "lower 'faithfulness' if it is above 1, set distill=False, or rescale "
                "the activations of the model",
                verbose,
            ),
            state=learner.weights,
            hooks=hooks,
        )
    return learner.finish(), history


class _Learner:
    """The student's weights as tensors.

    Features, and the activations that are decoded, have unit mean square: one rate of
    Adam suits weights of one unit only.
    """

    def __init__(self, student, outputs, sample_weight, settings, team):
        self.student, self.settings, self.team = student, settings, team
        self.generator = make_generator(settings.seed)
        self.n_steps = 0
        self.outputs = outputs
        # Of rows that weigh nothing, nothing may be felt: not even in the units.
        weights = sample_weight / sample_weight.sum()
        self.output_scale = _output_scale(outputs, weights)
        moments = [_moments(features, weights) for features in student.features]
        self.scales = [rms for rms, _ in moments]
        # Squared errors are counted as shares of the features' variance.
        self.variances = [variance for _, variance in moments]
        into, out = self.scales[:-1], self.scales[1:]
        frozen = student.frozen or [False] * len(student.coefs)
        trained = [index for index, kept in enumerate(frozen) if not kept]
        self.coefs = [
            self._parameter(coef * (a / b), frozen=kept)
            for coef, a, b, kept in zip(student.coefs, into, out, frozen, strict=True)
        ]
        self.intercepts = [
            self._parameter(intercept / b, frozen=kept)
            for intercept, b, kept in zip(student.intercepts, out, frozen, strict=True)
        ]
        self.pruners = [
            Pruner.fixed(coef.detach(), coef.detach() != 0) for coef in self.coefs
        ]
        for pruner, budget in zip(self.pruners, settings.budgets, strict=True):
            if budget is not None:
                pruner.first, pruner.budget = max(pruner.budget, budget), budget
        self.pruning = CurvaturePruning(
            [self.coefs[index] for index in trained],
            [self.pruners[index] for index in trained],
            shared=settings.share_budgets,
        )
        self._choose_products()
        self.hidden_scale = self.hidden_variance = 1.0
        if student.hidden is not None:
            self.hidden_scale, self.hidden_variance = _moments(student.hidden, weights)
        self.decoder = [
            self._parameter(part, frozen=student.frozen_decoder)
            for part in self._decoder_units()
        ]
        parameters = [*self.coefs, *self.intercepts, *self.decoder]
        self.parameters = [part for part in parameters if part.requires_grad]
        self.optimizer = Adam(self.parameters, settings.learning_rate)

    def _decoder_units(self):
        if self.student.decoder is None:
            return []
        components, bias = self.student.decoder
        scale = self.hidden_scale
        return components * (self.scales[-1] / scale), bias / scale

    def _parameter(self, array, *, frozen):
        return to_float32(array, self.settings.device, trained=not frozen)

    def _rows(self, array, rows, unit=None):
        tensor = torch.from_numpy(np.ascontiguousarray(array[rows].T))
        tensor = tensor.to(self.settings.device)
        return (tensor if unit is None else tensor / unit).to(torch.float32)

    def _choose_products(self):
        n_rows = len(self.outputs) * self.settings.n_epochs
        self.products = [product(p.mask, n_rows, self.team) for p in self.pruners]

    def step(self, rows, weights, planned) -> float:
        """Make one update on a batch and return its loss."""
        settings = self.settings
        weights = torch.as_tensor(weights, dtype=torch.float32, device=settings.device)
        loss = self._loss(rows, weights)
        value = distributed.backward(loss, self.parameters)
        self.n_steps += 1
        progress = self.n_steps / planned
        rate = settings.learning_rate * rate_at(progress)
        self.optimizer.param_groups[0]["lr"] = rate
        self.pruning.take_gradients()
        self.optimizer.step()
        self.pruning.hold()
        if is_time(self.n_steps, progress):
            self._prune(progress)
        return value

    def _prune(self, progress):
        self.pruning.prune(progress)
        self._choose_products()

    def _loss(self, rows, weights):
        student, settings = self.student, self.settings
        features = self._rows(student.features[0], rows, self.scales[0])
        loss = features.new_zeros(())
        n_held = len(self.coefs) - (student.decoder is None)
        for layer, (coef, intercept) in enumerate(
            zip(self.coefs, self.intercepts, strict=True)
        ):
            features = self.products[layer](coef, features) + intercept[:, None]
            if student.links[layer] == "relu":
                features = features.relu()
            if settings.faithfulness > 0 and layer < n_held:
                target = student.features[layer + 1]
                error = features - self._rows(target, rows, self.scales[layer + 1])
                error = (error.square() @ weights).sum() / self.variances[layer + 1]
                loss = loss + settings.faithfulness * error
        if self.decoder:
            components, bias = self.decoder
            hidden = torch.addmm(bias, features.T, components)
            if settings.faithfulness > 0 and student.hidden is not None:
                error = hidden - self._rows(student.hidden, rows, self.hidden_scale).T
                error = (weights @ error.square()).sum() / self.hidden_variance
                loss = loss + settings.faithfulness * error
            outputs = student.back(hidden * self.hidden_scale)
        else:
            outputs = features.T * self.scales[-1]
        targets = self._rows(self.outputs, rows).T
        if settings.classify:
            return loss + kl_divergence(outputs, targets, weights)
        unit = self.output_scale
        return loss + squared_error(outputs / unit, targets / unit, weights)

    def weights(self) -> Learnt:
        """Return copies of what is learnt, in raw units."""
        into, out = self.scales[:-1], self.scales[1:]
        coefs = [
            to_numpy(coef, np.float64) * (b / a)
            for coef, a, b in zip(self.coefs, into, out, strict=True)
        ]
        intercepts = [
            to_numpy(intercept, np.float64) * b
            for intercept, b in zip(self.intercepts, out, strict=True)
        ]
        if not self.decoder:
            return Learnt(coefs, intercepts, None)
        components, bias = (to_numpy(part, np.float64) for part in self.decoder)
        scale = self.hidden_scale
        decoder = components * (scale / self.scales[-1]), bias * scale
        return Learnt(coefs, intercepts, decoder)

    def finish(self) -> Learnt:
        """Prune to the budgets, if that is still to be done; return what is learnt."""
        self._prune(1.0)
        return self.weights()


def _output_scale(outputs, weights) -> float:
    """Root mean square deviation from the mean of all outputs; 1 if they are zero."""
    rms, _ = _moments(outputs, weights)
    deviation, _ = _moments(outputs - (weights @ outputs).mean(), weights)
    return max(deviation, _CONSTANT * rms)


def _moments(rows, weights) -> tuple[float, float]:
    """Root mean square of weighted rows, and their summed variance in its square.

    The first is 1 for rows of zeros. What a variance counts for has a floor, for
    columns that do not vary.
    """
    mean, square = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    for start in range(0, len(rows), _ROWS):
        block, shares = rows[start : start + _ROWS], weights[start : start + _ROWS]
        block = block.astype(np.float64)
        mean += shares @ block
        square += shares @ np.square(block, out=block)
    rms = float(np.sqrt(square.mean())) or 1.0
    variance = float(np.maximum(square - mean**2, 0).sum()) / rms**2
    return rms, max(variance, _CONSTANT**2)
