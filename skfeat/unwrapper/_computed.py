"""The layers of a model on a mapped file, computed when they are read.

Nothing of all rows is held: memory does not depend on their number. What the model
computes of a batch is computed anew whenever the batch is read, which takes a small
part of the time of training on it.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from skfeat.adapters import N_COMPARED, Steps
from skfeat.chain import Chain
from skfeat.unwrapper._plan import Rows, Unwrapping
from skfeat.utils._checkpoint import digest_of
from skfeat.utils._mixtures import share_that_suits
from skfeat.utils._stages import Stage, Stages, StagesOfBatch

# Memory that rows held for connectors may take: those without a budget, and all without
# training together, are fitted to so many rows from all over the file.
_HELD_BYTES = 2**28


class InputRows:
    """What a network takes of the rows of X: in its dtype, after steps before it."""

    def __init__(self, steps: Steps, dtype: np.dtype):
        self.steps, self.dtype = steps, dtype

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Return rows of inputs."""
        if self.steps.steps:
            rows, _ = self.steps.transform(rows)
        return np.asarray(rows).astype(self.dtype, copy=False)


class ChainRows:
    """A part of a chain as a function that can be sent to workers."""

    def __init__(self, chain: Chain, dtype: np.dtype):
        self.chain, self.dtype = chain, dtype

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Run the part."""
        return self.chain.forward(rows).astype(self.dtype, copy=False)


def digest_of_chain(chain: Chain) -> str:
    """Digest all that decides what a chain computes."""
    arrays, spec = chain.to_arrays()
    return digest_of({"arrays": arrays, "spec": repr(spec)})


def stages_of(job: Unwrapping, X: np.ndarray, steps: Steps) -> Stages:
    """Return inputs, layers and outputs as they are computed from mapped rows."""
    stages = _stages(job, steps)
    # Of the steps before the network, what they make of some rows tells.
    first = stages[0].function(X[:N_COMPARED])
    stops = [layer.stop for layer in job.layers]
    key = digest_of([digest_of_chain(job.chain), first, [0, *stops, job.stop]])
    return Stages(X, stages, job.chain.dtype, key)


def stages_of_held(job: Unwrapping, X: np.ndarray) -> Stages:
    """Return inputs, layers and outputs as they are computed from the network's inputs.

    They are of mixed rows: those of X itself are held.
    """
    return Stages(X, _stages(job, Steps()), job.chain.dtype)


def mixup_of(job: Unwrapping, stages: Stages) -> float:
    """Return the share of rows that are mixed, zero if the model suits no mixtures."""

    def compute(rows: np.ndarray) -> list[np.ndarray]:
        computed = StagesOfBatch(rows, stages.stages)
        return [computed[index] for index in range(1, len(stages.stages))]

    return share_that_suits(
        float(job.params.mixup),
        job.batch_size(len(stages.X)),
        stages.X,
        compute,
        job.names_of_values,
        stages.stages[0].function,
    )


def _stages(job: Unwrapping, steps: Steps) -> list[Stage]:
    chain, dtype = job.chain, job.chain.dtype
    stages = [
        Stage(
            InputRows(steps, dtype),
            chain.n_features_in,
            chain.n_features_in * dtype.itemsize,
            "The inputs of the network",
        )
    ]
    stops = [0, *(layer.stop for layer in job.layers), job.stop]
    for (start, stop), name in zip(pairwise(stops), job.names_of_values, strict=True):
        widths = [chain.width_at(position) for position in range(start, stop + 1)]
        part = ChainRows(chain.slice(start, stop), dtype)
        stages.append(Stage(part, widths[-1], max(widths) * dtype.itemsize, name))
    return stages


def computed_rows(stages: Stages) -> Rows:
    """Return the rows of a fit, none of which is held."""
    last = len(stages.stages) - 1
    layers = [stages.rows(index) for index in range(1, last)]
    return Rows(stages.rows(0), layers, stages.rows(last), stages)


def some_rows(rows: Rows, widths: list[int]) -> Rows:
    """Return rows from all over the file, as many as may be held with their codes.

    Parameters
    ----------
    rows : Rows
        Rows that are held already are returned as they are.
    widths : list of int
        Features of each layer.
    """
    stages = rows.stages
    if stages is None:
        return rows
    numbers = sum(widths) + sum(stage.width for stage in stages.stages)
    n = max(max(widths), _HELD_BYTES // (numbers * stages.dtype.itemsize))
    ids = np.linspace(0, len(stages.X) - 1, min(n, len(stages.X))).astype(np.int64)
    read = [stages.rows(index)[ids] for index in range(len(stages.stages))]
    return Rows(read[0], read[1:-1], read[-1])
