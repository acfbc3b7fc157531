"""What is trained together: autoencoders, the connectors between them, the ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse

from skfeat.activations import Activation
from skfeat.utils._rows import (
    Batch,
    ComputedRows,
    batches_of_held,
    batches_of_rows,
    mixed_batches,
)
from skfeat.utils._stages import Stages, StagesOfBatch


@dataclass(frozen=True)
class Coder:
    """A fitted autoencoder of a layer's rows.

    Parameters
    ----------
    encoder : ndarray of shape (m, d)
    encoder_bias : ndarray of shape (m,)
    decoder : ndarray of shape (m, d)
    bias : ndarray of shape (d,)
        Subtracted before encoding, and added after decoding.
    activation : ReLU, TopK or JumpReLU
    tied : bool, default=False
        Whether the encoder is the decoder, and stays it.
    frozen : bool, default=False
        Whether all stays as it is.
    """

    encoder: np.ndarray
    encoder_bias: np.ndarray
    decoder: np.ndarray
    bias: np.ndarray
    activation: Activation
    tied: bool = False
    frozen: bool = False


@dataclass(frozen=True)
class Connection:
    """A connector, fitted or to be started from a regression.

    Parameters
    ----------
    link : {"relu", "identity"}
    budget : int or None
        Nonzero weights in the end; ``None`` keeps the support of `start`.
    start : tuple of ndarrays (q, p) and (q,), or None
        Weights and intercepts. ``None``: those of a ridge regression on the encoded
        features.
    fit_intercept : bool, default=True
    frozen : bool, default=False
        Whether all stays as it is.
    """

    link: str
    budget: int | None
    start: tuple[np.ndarray, np.ndarray] | None = None
    fit_intercept: bool = True
    frozen: bool = False


@dataclass(frozen=True)
class Problem:
    """A network of features, and the rows that it is trained on.

    Parameters
    ----------
    hidden : list of ndarray or ComputedRows, (n, d_l) each
        Rows of each layer, which its autoencoder is to reconstruct.
    coders : list of Coder
        One a layer.
    connections : list of Connection
        From `inputs`, if given, or from the first layer, to each layer after it; and
        last to `outputs`, if these are given and there is no `back`.
    inputs : ndarray or ComputedRows of shape (n, p), or None
        What the first connector reads in place of the first layer's features.
    outputs : ndarray or ComputedRows of shape (n, n_outputs), or None
        The model's logits, or values, which the network is to compute.
    back : callable, or None
        Maps a tensor of decoded activations of the last layer (n, d) to the outputs,
        differentiably.
    sample_weight : ndarray of shape (n,), or None
    stages : Stages, or None
        The inputs, each layer and the outputs, as the model computes them: of mixed
        rows, and of all where none are held.
    """

    hidden: list[np.ndarray] | list[ComputedRows]
    coders: list[Coder]
    connections: list[Connection]
    inputs: np.ndarray | ComputedRows | None = None
    outputs: np.ndarray | ComputedRows | None = None
    back: Callable[[torch.Tensor], torch.Tensor] | None = None
    sample_weight: np.ndarray | None = field(default=None)
    stages: Stages | None = None

    def batches(
        self,
        batch_size: int,
        generator: torch.Generator,
        first: int = 0,
        mixup: float = 0.0,
    ) -> Iterator[Batch]:
        """Yield each row once, in shuffled batches, without the `first` ones.

        A share `mixup` of the rows of each is mixed with others. All that shuffles and
        mixes is drawn from the generator before the first batch comes.
        """
        shuffled = batches_of_held if self.is_held else batches_of_rows
        batches = shuffled(self._source, batch_size, generator, first=first)
        return mixed_batches(batches, mixup, generator, first)

    def batch(self, rows: np.ndarray | Batch) -> Batch:
        """Return some rows, given by their numbers, as a batch."""
        if isinstance(rows, Batch):
            return rows
        return Batch(rows, self._source, rows)

    @property
    def _source(self) -> Any:
        return self.hidden[0] if self.stages is None else self.stages.X

    def read(self, batch: Batch) -> BatchRows:
        """Return the rows of a batch."""
        if self.is_held and batch.shares is None:
            return BatchRows(self, batch.ids)
        assert self.stages is not None
        return ComputedBatchRows(self, self.stages.of_batch(batch))

    @property
    def is_held(self) -> bool:
        """Whether the rows of all layers are in memory."""
        return not isinstance(self.hidden[0], ComputedRows)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.hidden[0])

    @property
    def first_target(self) -> int:
        """The layer that the first connector computes."""
        return 0 if self.inputs is not None else 1

    def end_widths(self, widths: list[int]) -> list[int]:
        """Return how many columns each connector reads, and what the last computes.

        `widths` are those of the layers' features.
        """
        found = list(widths)
        if self.inputs is not None:
            found.insert(0, self.inputs.shape[1])
        if self.outputs is not None and self.back is None:
            found.append(self.outputs.shape[1])
        return found

    def targets(self) -> range:
        """Return the layers whose features are computed by connectors, in order."""
        return range(self.first_target, len(self.coders))


class BatchRows:
    """Rows of one batch, taken from those of a problem when they are asked for."""

    def __init__(self, problem: Problem, ids: np.ndarray):
        self.problem, self.ids = problem, ids

    def inputs(self) -> np.ndarray:
        """Return what the first connector reads."""
        assert self.problem.inputs is not None
        return self.problem.inputs[self.ids]

    def hidden(self, layer: int) -> np.ndarray:
        """Return the rows of a layer."""
        return self.problem.hidden[layer][self.ids]

    def outputs(self) -> np.ndarray:
        """Return what the model gives."""
        assert self.problem.outputs is not None
        return self.problem.outputs[self.ids]


class ComputedBatchRows(BatchRows):
    """Rows of one batch, computed stage by stage."""

    def __init__(self, problem: Problem, computed: StagesOfBatch):
        self.problem, self.computed = problem, computed

    def inputs(self) -> np.ndarray:
        """Return what the first connector reads."""
        return self.computed[0]

    def hidden(self, layer: int) -> np.ndarray:
        """Return the rows of a layer."""
        return self.computed[1 + layer]

    def outputs(self) -> np.ndarray:
        """Return what the model gives."""
        return self.computed[1 + len(self.problem.hidden)]


@dataclass(frozen=True)
class JointSettings:
    """How a problem is trained.

    Parameters
    ----------
    share_budgets : bool
        Keep to the sum of the budgets alone.
    classify : bool
        Match output distributions (KL divergence) rather than output values.
    faithfulness : float
        Weight of the squared error of computed features, as a share of the variance
        of the encoded ones.
    train_encoder : bool
        Whether the errors of what is computed from the first layer's encoded features
        move that encoder, beside its own reconstruction.
    n_epochs : int
        At most.
    tol : float
        Once pruning has ended, a tenth of the epochs must lower the loss by this share.
    batch_size : int
    device : torch.device
    seed : int
    mixup : float, default=0.0
        Share of the rows of each batch that is mixed with others.
    """

    share_budgets: bool
    classify: bool
    faithfulness: float
    train_encoder: bool
    n_epochs: int
    tol: float
    batch_size: int
    device: torch.device
    seed: int
    mixup: float = 0.0


class Learnt(NamedTuple):
    """What has been trained, acting on raw rows.

    `coders` of frozen autoencoders, and weights of frozen connectors, are those given,
    up to rounding. `coefs` are CSR where weights were held at some places alone.
    """

    coders: list[Coder]
    coefs: list[np.ndarray | sparse.csr_array]
    intercepts: list[np.ndarray]
