"""Gradients of a wide ReLU autoencoder from products of bfloat16, on the CPU.

As `skfeat.kernels.sae._relu` does it, but matrices as large as the codes are kept as
the bfloat16 that they are multiplied as: half the memory to go through, and nothing to
convert. What is as small as the rows or the weights is float32, and so are all sums.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from skfeat.kernels._memory import Workspace
from skfeat.kernels._optional import load
from skfeat.kernels._threads import Team, one_thread
from skfeat.kernels.sae._bfloat16 import TILE, Rounded
from skfeat.kernels.sae._dense import BatchResult

# Features that a thread takes at a time, which reads all errors for them.
_FEATURES = 512


class RoundedReLUKernel:
    """Gradients of `loss_reference` for "relu"; see `DenseReLUKernel`."""

    def __init__(
        self,
        arrays: dict[str, np.ndarray],
        grads: dict[str, np.ndarray],
        team: Team,
        space: Workspace,
    ):
        self._arrays, self._grads = arrays, grads
        self._team, self._space = team, space
        self._loops: Any = load("sae._loops_bfloat16")

    def gradients(
        self, x: torch.Tensor, weights: torch.Tensor, penalty_weight: float
    ) -> BatchResult:
        """Write the gradients of one batch; see `DenseKernel.gradients`."""
        arrays, grads, loops, team = self._arrays, self._grads, self._loops, self._team
        rows, shift, bias = x.numpy(), arrays["bias"], arrays["encoder_bias"]
        decoder = arrays["decoder"]
        encoder = arrays.get("encoder", decoder)
        (n, d), m, real = rows.shape, len(decoder), rows.dtype.type
        factor = weights.numpy() * real(2 / d)
        weight = weights.numpy() * real(penalty_weight)

        space = self._space
        centred, decoded, pull = (
            Rounded.room(space, name, n, d) for name in ("centred", "decoded", "pull")
        )
        codes, slopes = (
            Rounded.room(space, name, n, m) for name in ("codes", "slopes")
        )
        left = Rounded.of(encoder, space, "encoder", team)
        right = left
        if encoder is not decoder:
            right = Rounded.of(decoder, space, "decoder", team)
        error = space.room("error", n, d, real)
        square, total, count = np.empty((3, n), real)
        starts = range(0, n, TILE)
        sums = space.room("sums", len(starts), m, real)
        fired = space.room("fired", len(starts), m, np.uint16)

        def pass_rows(first, last):
            for start in range(first, last, TILE):
                end = min(last, start + TILE)
                tile, of_tile = slice(start, end), start // TILE
                loops.round_rows(start, end, rows, shift, centred.bits)
                torch.mm(centred.tensor[tile], left.tensor.T, out=codes.tensor[tile])
                loops.rectify(start, end, codes.bits, bias, total, count)
                torch.mm(codes.tensor[tile], right.tensor, out=decoded.tensor[tile])
                loops.subtract_and_scale(
                    *(start, end, decoded.bits, rows, shift, factor),
                    *(error, pull.bits, square),
                )
                torch.mm(pull.tensor[tile], right.tensor.T, out=slopes.tensor[tile])
                loops.mask(
                    *(start, end, slopes.bits, codes.bits, weight),
                    *(sums[of_tile], fired[of_tile]),
                )

        product = Rounded.room(space, "product", m, d)
        grad_encoder = grads.get("encoder")
        if grad_encoder is None:
            grad_encoder = space.room("grad", m, d, real)

        def pass_features(first, last):
            for start in range(first, last, _FEATURES):
                end = min(last, start + _FEATURES)
                part = slice(start, end)
                for values, other, grad in (
                    (codes, pull, grads["decoder"]),
                    (slopes, centred, grad_encoder),
                ):
                    torch.mm(
                        values.tensor[:, part].T,
                        other.tensor,
                        out=product.tensor[part],
                    )
                    loops.widen_rows(start, end, product.bits, grad)

        work = n * m * (4 + d // 8)
        team.run(one_thread(pass_rows), n, n_elements=work, multiple=TILE)
        team.run(one_thread(pass_features), m, n_elements=work, multiple=_FEATURES)
        if "encoder" not in grads:
            grads["decoder"] += grad_encoder
        grads["encoder_bias"][:] = sums.sum(axis=0)
        ones = np.ones(n, real)
        grads["bias"][:] = ones @ error - grads["encoder_bias"] @ encoder
        loss = float(square @ factor) / 2 + float(weight @ total)
        has_fired = torch.from_numpy(fired.any(axis=0))
        return BatchResult(loss, has_fired, int(count.sum()), np.inf)
