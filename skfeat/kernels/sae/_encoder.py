"""Encoding a batch: pre-activations, and which of them count, by tiles of rows."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from skfeat.kernels._memory import Workspace
from skfeat.kernels._optional import load
from skfeat.kernels._threads import TILE, Team, one_thread
from skfeat.kernels.sae._activations import TrainingActivation
from skfeat.kernels.sae._active import MAX_DENSITY, Entries, EntryFinder
from skfeat.kernels.sae._dense import n_auxiliary
from skfeat.kernels.sae._low_precision import Approximate, Step


class Encoded(NamedTuple):
    """What is active in a batch.

    Attributes
    ----------
    centred : ndarray of shape (n, d)
        Rows without the shift.
    entries : Entries or None
        None if they are too many.
    asked : Entries or None
        Those of dead features, if any is asked; see `n_auxiliary`.
    """

    centred: np.ndarray
    entries: Entries | None
    asked: Entries | None


class Encoder:
    """Encodes the batches of an autoencoder, in memory that is used again.

    Parameters
    ----------
    params : dict of str to Tensor
    arrays : dict of str to ndarray
        The same memory.
    activation : TrainingActivation
    team : Team
    space : Workspace
    approximate : callable or None
        See `_low_precision`: what is found by it is computed again in full precision.

    Attributes
    ----------
    finder : EntryFinder
    k : int
        Codes that each row keeps; 0 where rows are not told to keep a number.
    decodes : bool
        Whether a batch is decoded on the way.
    """

    def __init__(
        self,
        params: dict[str, torch.Tensor],
        arrays: dict[str, np.ndarray],
        activation: TrainingActivation,
        team: Team,
        space: Workspace,
        approximate: Approximate | None,
    ):
        self._params, self._arrays, self._activation = params, arrays, activation
        self._team, self._space, self._approximate = team, space, approximate
        self._loops: Any = load("sae._loops_sparse")
        self._select: Any = load("selection._loops_row")
        self.finder = EntryFinder(activation, params, team, space)
        m = len(params["decoder"])
        self.k = min(activation.k, m) if activation.selects == "by row" else 0
        self.decodes = approximate is None and self.k > 0

    def encode(self, rows: np.ndarray, dead: np.ndarray, to_decode: tuple) -> Encoded:
        """Encode rows (n, d).

        Parameters
        ----------
        rows : ndarray of shape (n, d)
        dead : ndarray of int64
            Features that are asked for help.
        to_decode : tuple
            Arguments of the compiled `decode` after its target, where the batch is
            decoded on the way.
        """
        (n, d), m, space = rows.shape, len(self._arrays["decoder"]), self._space
        centred = space.room("centred", n, d, rows.dtype)
        if self.k > MAX_DENSITY * m:
            return Encoded(centred, None, None)
        entries, asked = None, None
        if self.k:
            entries = self.finder.room_for_topk(n, self.k, rows.dtype, "entry")
        bias, tile, slack, refine = self._arrays["encoder_bias"], TILE, 0.0, None
        if self._approximate is None:
            pre, steps = self._exact_steps(rows, centred, entries, to_decode)
        else:
            np.subtract(rows, self._arrays["bias"], out=centred)
            pre, bias, multiply, tile, slack = self._approximate(
                centred, self._encoder, bias, space, self._team
            )
            steps = [multiply]
            if entries is not None:
                args = pre, bias, self.k, *entries
                steps.append(lambda *span: self._select.select_topk(*span, *args))
            refine = partial(self._compute_again, centred)
        k = n_auxiliary(len(dead), self._activation.k)
        if k:
            asked = self.finder.room_for_topk(n, k, rows.dtype, "dead")
            steps.append(self._dead_step(pre, dead, k, asked))
        run = _in_turn(steps, tile)
        if refine is not None:
            run = one_thread(run)  # torch may multiply, in threads of ours
        work = n * m * (4 + d // 16)
        self._team.run(run, n, n_elements=work, multiple=tile)
        if entries is None:
            entries = self.finder.find(pre, bias, refine, slack)
        elif refine is not None:
            refine(entries)
        if asked is not None and refine is not None:
            refine(asked, dead)
        return Encoded(centred, entries, asked)

    @property
    def _encoder(self):
        return self._arrays.get("encoder", self._arrays["decoder"])

    def _exact_steps(self, rows, centred, entries, to_decode):
        """Return pre-activations, and the steps that write them and what is kept."""
        arrays, loops, encoder = self._arrays, self._loops, self._encoder
        pre = self._space.room("pre", len(rows), len(encoder), rows.dtype)
        args = rows, arrays["bias"], encoder
        if entries is None:
            return pre, [lambda *span: loops.encode(*span, *args, centred, pre)]
        keep = arrays["encoder_bias"], self.k, pre, *entries
        decode = arrays["decoder"], centred, *to_decode
        return pre, [lambda *span: loops.code_topk(*span, *args, *keep, *decode)]

    def _dead_step(self, pre, dead, k, asked) -> Step:
        bias = self._arrays["encoder_bias"][dead]
        room = self._space.room("dead", len(pre), len(dead), bias.dtype)
        args = pre, dead, bias, k, room, *asked
        return lambda *span: self._loops.select_dead(*span, *args)

    def _compute_again(self, centred, entries, dead=None):
        """Write what an approximation was good enough to find in full precision.

        Of entries that are asked for help, `dead` are the features they are numbered
        among.
        """
        encoder, bias = self._encoder, self._arrays["encoder_bias"]
        # What rounding has let in just below its bound counts as just at it.
        if dead is None:
            floor = self._activation.bound(self._params).numpy()
        else:
            encoder, bias = encoder[dead], bias[dead]
            floor = np.zeros_like(bias)
        self._team.run(
            self._loops.multiply,
            len(centred),
            *(*entries[:3], centred, encoder, bias, entries.u),
            n_elements=centred.shape[1] * len(entries.u),
        )
        np.maximum(entries.u, floor[entries.indices], out=entries.u)


def _in_turn(steps: list[Step], tile: int) -> Step:
    """Return the function that takes tiles of rows through all steps, one by one."""

    def run(first, last):
        for start in range(first, last, tile):
            for step in steps:
                step(start, min(last, start + tile))

    return run
