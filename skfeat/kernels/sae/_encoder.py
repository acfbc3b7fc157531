"""Encoding a batch: pre-activations, and which of them are active, by tiles of rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from skfeat.kernels._memory import Buffers
from skfeat.kernels._threads import PRODUCT_ROWS, Team, one_thread
from skfeat.kernels.sae import _loops_sparse as loops
from skfeat.kernels.sae._activations import TrainingActivation
from skfeat.kernels.sae._active import ActiveCodeFinder
from skfeat.kernels.sae._approximation import Approximate, Step
from skfeat.kernels.sae._arrays import ActiveCodes, Encoding
from skfeat.kernels.sae._kernel import n_auxiliary
from skfeat.kernels.sae._parameters import Parameters
from skfeat.kernels.selection import _loops_row as selection


class Encoded(NamedTuple):
    """What is active in a batch.

    Attributes
    ----------
    centred : ndarray of shape (n, d)
        Rows without the bias.
    target : ndarray of shape (n, d_out)
        What codes are to decode.
    codes : ActiveCodes or None
        None if they are too many for loops to pay.
    dead : ActiveCodes or None
        Those of dead features that are to be revived; see `n_auxiliary`.
    """

    centred: np.ndarray
    target: np.ndarray
    codes: ActiveCodes | None
    dead: ActiveCodes | None


class Encoder:
    """Encodes the batches of an autoencoder, in memory that is used again.

    Parameters
    ----------
    parameters : Parameters
    activation : TrainingActivation
    team : Team
    buffers : Buffers
    approximate : callable or None
        See `_approximation`: the values of the codes that it selects are computed
        again in full precision.

    Attributes
    ----------
    finder : ActiveCodeFinder
    k : int
        Codes that each row keeps; 0 where rows keep no fixed number.
    """

    def __init__(
        self,
        parameters: Parameters,
        activation: TrainingActivation,
        team: Team,
        buffers: Buffers,
        approximate: Approximate | None,
    ):
        self._parameters, self._weights = parameters, parameters.weights
        self._activation = activation
        self._team, self._buffers, self._approximate = team, buffers, approximate
        self.finder = ActiveCodeFinder(activation, parameters.tensors, team, buffers)
        m = parameters.n_components
        self.k = min(int(activation.k), m) if activation.selects == "by row" else 0

    def encode(
        self,
        rows: np.ndarray,
        dead: np.ndarray,
        target: np.ndarray | None = None,
    ) -> Encoded:
        """Encode rows (n, d).

        Parameters
        ----------
        rows : ndarray of shape (n, d)
        dead : ndarray of int64
            Features to revive.
        target : ndarray of shape (n, d_out), optional
            What codes are to decode; None: the centred rows.
        """
        (n, d), m = rows.shape, self._parameters.n_components
        centred = self._buffers.matrix("centred", n, d, rows.dtype)
        target = centred if target is None else target
        codes, revived, tile = None, None, PRODUCT_ROWS
        if self.k:
            codes = self.finder.places_for_topk(n, self.k, rows.dtype, "active")
        bias, slack = self._weights.encoder_bias, 0.0
        refine: Callable[[ActiveCodes], None] | None = None
        steps: list[Step]
        if self._approximate is None:
            pre = self._buffers.matrix("pre", n, m, rows.dtype)
            batch, weights = Encoding(rows, centred, pre), self._weights
            steps = [lambda first, last: loops.encode(first, last, batch, weights)]
        else:
            np.subtract(rows, self._weights.bias, out=centred)
            pre, bias, multiply, tile, slack = self._approximate(
                centred, self._weights.encoder, bias, self._buffers, self._team
            )
            steps = [multiply]
            refine = partial(self._compute_again, centred)
        if codes is not None:
            steps.append(_selecting(pre, bias, self.k, codes))
        k = n_auxiliary(len(dead), self._activation.k)
        if k:
            revived = self.finder.places_for_topk(n, k, rows.dtype, "dead")
            steps.append(self._dead_step(pre, dead, k, revived))
        run = _in_turn(steps, tile)
        if refine is not None:
            run = one_thread(run)  # torch may multiply, in threads of ours
        work = n * m * (4 + d // 16)
        self._team.run(run, n, n_elements=work, multiple=tile)
        if codes is None:
            codes = self.finder.find(pre, bias, refine, slack)
        elif refine is not None:
            refine(codes)
        if revived is not None and refine is not None:
            self._compute_again(centred, revived, dead)
        return Encoded(centred, target, codes, revived)

    def _dead_step(self, pre, dead, k, codes) -> Step:
        bias = self._weights.encoder_bias[dead]
        u = self._buffers.matrix("dead", len(pre), len(dead), bias.dtype)
        return lambda first, last: loops.select_dead(
            first, last, pre, dead, bias, k, u, codes
        )

    def _compute_again(self, centred, codes: ActiveCodes, dead=None) -> None:
        """Write the exact values of codes that an approximation selected.

        The indices of codes of `dead` features are places among these.
        """
        encoder, bias = self._weights.encoder, self._weights.encoder_bias
        # A code that rounding has let in just below its bound counts as just at it.
        if dead is None:
            floor = self._activation.bound(self._parameters.tensors).numpy()
        else:
            encoder, bias = encoder[dead], bias[dead]
            floor = np.zeros_like(bias)
        self._team.run(
            lambda first, last: loops.multiply(
                first, last, codes, centred, encoder, bias
            ),
            len(centred),
            n_elements=centred.shape[1] * len(codes.values),
        )
        np.maximum(codes.values, floor[codes.indices], out=codes.values)


def _selecting(pre, bias, k, codes) -> Step:
    """Return the step that keeps the `k` largest codes of each row."""
    return lambda first, last: selection.select_topk(first, last, pre, bias, k, codes)


def _in_turn(steps: list[Step], tile: int) -> Step:
    """Return the function that takes tiles of rows through all steps, one by one."""

    def run(first, last):
        for start in range(first, last, tile):
            for step in steps:
                step(start, min(last, start + tile))

    return run
