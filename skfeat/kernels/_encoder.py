"""Encoding a batch: pre-activations, and which of them count, by tiles of rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from skfeat.kernels import _rounded
from skfeat.kernels._activations import TrainingActivation
from skfeat.kernels._entries import MAX_DENSITY, Entries, EntryFinder
from skfeat.kernels._loops import load
from skfeat.kernels._memory import Workspace
from skfeat.kernels._rounded import Rounded
from skfeat.kernels._sae import n_auxiliary
from skfeat.kernels._threads import TILE, Team, one_thread

# What is done to rows `first` to `last`.
Step = Callable[[int, int], None]


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
    exact : bool
        Multiply float32 or float64. Else bfloat16: what is found by it is computed
        again in full precision.

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
        *,
        exact: bool,
    ):
        self._params, self._arrays, self._activation = params, arrays, activation
        self._team, self._space, self._exact = team, space, exact
        self._loops: Any = load("_compiled")
        self._select: Any = load("_compiled_select")
        self.finder = EntryFinder(activation, params, team, space)
        m = len(params["decoder"])
        self.k = min(activation.k, m) if activation.selects == "by row" else 0
        self.decodes = exact and self.k > 0

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
        if self._exact:
            pre, steps = self._exact_steps(rows, centred, entries, to_decode)
            tile = TILE
        else:
            pre, steps = self._rounded_steps(rows, centred, entries)
            tile = _rounded.TILE
        k = n_auxiliary(len(dead), self._activation.k)
        if k:
            asked = self.finder.room_for_topk(n, k, rows.dtype, "dead")
            steps.append(self._dead_step(pre, dead, k, asked))
        run = _in_turn(steps, tile)
        if not self._exact:
            run = one_thread(run)  # torch's products, in threads of ours
        work = n * m * (4 + d // 16)
        self._team.run(run, n, n_elements=work, multiple=tile)
        refine = None if self._exact else partial(self._compute_again, centred)
        if entries is None:
            entries = self.finder.find(pre, self._arrays["encoder_bias"], refine)
        elif refine is not None:
            refine(entries)
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

    def _rounded_steps(self, rows, centred, entries):
        """Return the same; pre-activations as bits of bfloat16."""
        space, team, encoder = self._space, self._team, self._encoder
        np.subtract(rows, self._arrays["bias"], out=centred)
        left = Rounded.of(centred, space, "centred", team).tensor
        right = Rounded.of(encoder, space, "encoder", team).tensor.T
        out = Rounded.room(space, "pre", len(rows), len(encoder))

        def multiply(first, last):
            part = slice(first, last)
            torch.mm(left[part], right, out=out.tensor[part])

        steps: list[Step] = [multiply]
        if entries is not None:
            args = out.bits, self._arrays["encoder_bias"], self.k, *entries
            steps.append(lambda *span: self._select.select_topk(*span, *args))
        return out.bits, steps

    def _dead_step(self, pre, dead, k, asked) -> Step:
        bias = self._arrays["encoder_bias"][dead]
        room = self._space.room("dead", len(pre), len(dead), bias.dtype)
        args = pre, dead, bias, k, room, *asked
        return lambda *span: self._loops.select_dead(*span, *args)

    def _compute_again(self, centred, entries):
        """Write what a rounded product was good enough to find in full precision."""
        self._team.run(
            self._loops.multiply,
            len(centred),
            *(*entries[:3], centred, self._encoder, self._arrays["encoder_bias"]),
            entries.u,
            n_elements=centred.shape[1] * len(entries.u),
        )
        # What rounding has let in just below its bound counts as just at it.
        floor = self._activation.bound(self._params).numpy()
        np.maximum(entries.u, floor[entries.indices], out=entries.u)


def _in_turn(steps: list[Step], tile: int) -> Step:
    """Return the function that takes tiles of rows through all steps, one by one."""

    def run(first, last):
        for start in range(first, last, tile):
            for step in steps:
                step(start, min(last, start + tile))

    return run
