"""What a kernel of an autoencoder is: the gradients of one batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from typing import NamedTuple, Protocol

import torch

from skfeat.kernels.sae._activations import TrainingActivation
from skfeat.kernels.sae._arrays import Rows
from skfeat.kernels.sae._result import BatchResult
from skfeat.kernels.sae._shards import Shards

# Weight of the auxiliary loss of Gao et al., "Scaling and evaluating sparse
# autoencoders" (2024): dead features reconstruct what the live ones miss.
AUX_WEIGHT = 1 / 32


# Parameters that are not one row a feature.
SHARED = ("bias", "skip")


class Pairs(NamedTuple):
    """The batch of a transcoder: rows to encode, and those that their codes decode.

    Attributes
    ----------
    rows : Tensor of shape (n, d_in)
    targets : Tensor of shape (n, d_out)
    """

    rows: torch.Tensor
    targets: torch.Tensor


Batch = torch.Tensor | Rows | Pairs


def rows_and_targets(
    params: dict[str, torch.Tensor],
    x: Batch,
    product: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = torch.matmul,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows that are encoded, and what their codes alone are to decode.

    An autoencoder encodes what it decodes, and the two are one tensor.
    """
    assert not isinstance(x, Rows)
    bias, skip = params["bias"], params.get("skip")
    if not isinstance(x, Pairs):
        centred = x - bias
        return centred, centred
    target = x.targets - bias
    if skip is not None:
        target -= product(x.rows, skip.T)
    return x.rows, target


@dataclass(frozen=True)
class KernelSettings:
    """What gradients depend on beside parameters and rows.

    Parameters
    ----------
    activation : TrainingActivation
    prefixes : tuple of int, optional
        Matryoshka prefixes, increasing, the last one m.
    precision : {"float32", "float64", "bfloat16", "int8"}, default="float32"
        Of the matrix products of wide autoencoders; the first two are that of the
        parameters. Codes that the others select are computed again in float32.
    shards : Shards
        What other processes do for the batch.
    first : int, default=0
        Number of this process's first feature.
    transcodes : bool, default=False
        Whether batches are `Pairs`.
    work : float, default=inf
        Multiply-adds of one product over all planned updates; see
        `Limits.compiled_training`.
    """

    activation: TrainingActivation
    prefixes: tuple[int, ...] | None = None
    precision: str = "float32"
    shards: Shards = field(default_factory=Shards)
    first: int = 0
    transcodes: bool = False
    work: float = math.inf

    @property
    def n_prefixes(self) -> int:
        """Number of reconstructions that the loss is the mean over."""
        return len(self.prefixes or (1,))


class Kernel(Protocol):
    """Computes the gradients of `loss_reference` and of the auxiliary loss.

    Attributes
    ----------
    takes_rows : bool
        Whether batches may come as `Rows`, which the kernel gathers itself.
    memory : tuple of float
        What the next batch's way of computing depends on. Ways round differently, so
        training that resumes restores it, to give the same weights to the bit.
    """

    takes_rows: bool
    memory: tuple[float, ...]

    def gradients(
        self,
        x: Batch,
        weights: torch.Tensor,
        penalty_weight: float = 0.0,
        dead: torch.Tensor | None = None,
    ) -> BatchResult:
        """Write the gradients of one batch to each parameter's ``grad``.

        Parameters
        ----------
        x : Tensor of shape (n, d), Rows or Pairs
        weights : Tensor of shape (n,)
            Weight of each row divided by the weight of the whole batch.
        penalty_weight : float
        dead : Tensor of int64, optional
            Indices of the features to revive.
        """
        ...


def n_auxiliary(n_dead: int, k: float) -> int:
    """Return how many dead features a row revives.

    Half as many as it has live ones: as many cost more and gained nothing on MNIST
    layers and known dictionaries, nor did half the number of columns, which the paper
    advises; a quarter missed some of the known directions, and so did as many in a
    quarter of the rows or in every fourth batch.
    """
    return min(n_dead, (ceil(k) + 1) // 2)


def auxiliary_scale(total: float, n_features: int, shards: Shards) -> float:
    """Return what `factor` is multiplied by in the dead features' loss.

    `total` is the sum of the rows' squared errors times their weight in the derivative
    of the loss; the rows of other processes are added.
    """
    mean_square = total * n_features / 2
    if shards.by == "rows":
        total_of_ranks = torch.tensor(mean_square, dtype=torch.float64, device="cpu")
        mean_square = float(shards.sum_rows(total_of_ranks))
    return n_features * AUX_WEIGHT / max(mean_square, 1e-12)
