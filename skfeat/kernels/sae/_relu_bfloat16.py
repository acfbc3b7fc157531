"""Gradients of a wide ReLU autoencoder from products of bfloat16, on the CPU.

As `_relu` does it, but matrices as large as the codes are kept as the bfloat16 that
they are multiplied as: half the memory to go through, and nothing to convert. Matrices
as small as the rows or the weights are float32, and so are all sums.
"""

from __future__ import annotations

import numpy as np
import torch

from skfeat.kernels._memory import Buffers
from skfeat.kernels._threads import Team, one_thread
from skfeat.kernels.sae import _loops_bfloat16 as loops
from skfeat.kernels.sae._bfloat16 import BFLOAT16_ROWS, BFloat16Matrix
from skfeat.kernels.sae._kernel import Batch
from skfeat.kernels.sae._loops_relu import rectify
from skfeat.kernels.sae._parameters import Parameters
from skfeat.kernels.sae._result import BatchResult

# Features that a thread takes at a time, which reads all errors for them.
_FEATURES = 512


class BFloat16ReLUKernel:
    """The `Kernel` of dense ReLU codes in bfloat16; see `DenseReLUKernel`."""

    takes_rows = False

    def __init__(self, parameters: Parameters, team: Team, buffers: Buffers):
        self._parameters, self._team, self._buffers = parameters, team, buffers
        self.memory: tuple[float, ...] = ()

    def gradients(
        self,
        x: Batch,
        weights: torch.Tensor,
        penalty_weight: float = 0.0,
        dead: torch.Tensor | None = None,
    ) -> BatchResult:
        """Write the gradients of one batch; see `DenseReLUKernel.gradients`."""
        assert isinstance(x, torch.Tensor)
        parameters, team, buffers = self._parameters, self._team, self._buffers
        parameters.attach_gradients()
        own, gradients = parameters.weights, parameters.gradients
        rows, (n, d), m = x.numpy(), x.shape, parameters.n_components
        real = rows.dtype.type
        factor = weights.numpy() * real(2 / d)
        weight = weights.numpy() * real(penalty_weight)

        centred, decoded, residual = (
            BFloat16Matrix.empty(buffers, name, n, d)
            for name in ("centred", "decoded", "residual")
        )
        codes, grad_codes = (
            BFloat16Matrix.empty(buffers, name, n, m) for name in ("codes", "gradients")
        )
        encoder = BFloat16Matrix.of(own.encoder, buffers, "encoder", team)
        decoder = encoder
        if not parameters.tied:
            decoder = BFloat16Matrix.of(own.decoder, buffers, "decoder", team)
        square, total, count = np.empty((3, n), real)
        exact = buffers.matrix("residual", n, d, real)
        nothing = np.zeros(d, real)
        starts = range(0, n, BFLOAT16_ROWS)
        sums = buffers.matrix("sums", len(starts), m, real)
        fired = buffers.matrix("fired", len(starts), m, np.uint16)

        def pass_rows(first, last):
            for start in range(first, last, BFLOAT16_ROWS):
                end = min(last, start + BFLOAT16_ROWS)
                tile, of_tile = slice(start, end), start // BFLOAT16_ROWS
                loops.round_rows(start, end, rows, own.bias, centred.bits)
                torch.mm(centred.tensor[tile], encoder.tensor.T, out=codes.tensor[tile])
                rectify(start, end, codes.bits, own.encoder_bias, total, count)
                torch.mm(codes.tensor[tile], decoder.tensor, out=decoded.tensor[tile])
                loops.subtract_and_scale(
                    start, end, decoded.bits, rows, own.bias, factor, exact, square
                )
                loops.round_rows(start, end, exact, nothing, residual.bits)
                torch.mm(
                    residual.tensor[tile], decoder.tensor.T, out=grad_codes.tensor[tile]
                )
                loops.mask_and_sum(
                    start,
                    end,
                    grad_codes.bits,
                    codes.bits,
                    weight,
                    sums[of_tile],
                    fired[of_tile],
                )

        product = BFloat16Matrix.empty(buffers, "product", m, d)
        grad_encoder = gradients.get("encoder")
        if grad_encoder is None:
            grad_encoder = buffers.matrix("encoder", m, d, real)

        def pass_features(first, last):
            for start in range(first, last, _FEATURES):
                end = min(last, start + _FEATURES)
                part = slice(start, end)
                for values, other, grad in (
                    (codes, residual, gradients["decoder"]),
                    (grad_codes, centred, grad_encoder),
                ):
                    torch.mm(
                        values.tensor[:, part].T,
                        other.tensor,
                        out=product.tensor[part],
                    )
                    loops.widen_rows(start, end, product.bits, grad)

        work = n * m * (4 + d // 8)
        team.run(one_thread(pass_rows), n, n_elements=work, multiple=BFLOAT16_ROWS)
        team.run(one_thread(pass_features), m, n_elements=work, multiple=_FEATURES)
        if parameters.tied:
            gradients["decoder"] += grad_encoder
        gradients["encoder_bias"][:] = sums.sum(axis=0)
        parameters.write_bias_gradient(np.ones(n, real) @ exact)
        loss = float(square @ factor) / 2 + float(weight @ total)
        has_fired = torch.from_numpy(fired.any(axis=0))
        return BatchResult(loss, has_fired, int(count.sum()), np.inf)
