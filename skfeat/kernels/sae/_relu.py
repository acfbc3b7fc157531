"""Gradients of a ReLU autoencoder while its codes are still dense, on the CPU.

The same five matrix products as in `DenseKernel`, with everything between them in
compiled passes. A thread takes its rows through the first three products, then its
features through the last two, so that threads meet twice a batch.
"""

from __future__ import annotations

import numpy as np
import torch

from skfeat.kernels._memory import Buffers
from skfeat.kernels._threads import PRODUCT_ROWS, Team
from skfeat.kernels.sae import _loops_relu as loops
from skfeat.kernels.sae._kernel import Batch
from skfeat.kernels.sae._parameters import Parameters
from skfeat.kernels.sae._result import BatchResult

# Features that a thread takes at a time: few, so that there are some for each thread.
_FEATURES = PRODUCT_ROWS // 4


class DenseReLUKernel:
    """The `Kernel` of dense ReLU codes.

    Parameters
    ----------
    parameters : Parameters
    team : Team
    buffers : Buffers
    """

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
        """Write the gradients of one batch; see `Kernel.gradients`.

        ReLU has no dead features' loss: `dead` is not used.
        """
        assert isinstance(x, torch.Tensor)
        self._parameters.attach_gradients()
        rows, (n, d), team = x.numpy(), x.shape, self._team
        m, real = self._parameters.n_components, rows.dtype.type
        own, gradients = self._parameters.weights, self._parameters.gradients
        batch = loops.ReLUBatch(
            rows=rows,
            factor=(2 / d * weights).numpy(),
            weight=weights.numpy() * real(penalty_weight),
        )
        square, total, count = np.empty((3, n), dtype=real)
        matrix = self._buffers.matrix
        out = loops.ReLUBuffers(
            centred=matrix("centred", n, d, real),
            weighted_residual=matrix("residual", n, d, real),
            codes=matrix("pre", n, m, real),
            grad_pre=matrix("gradients", n, m, real),
            square=square,
            total=total,
            n_positive=count,
        )
        fired, ones = np.empty(m, dtype=bool), np.ones(n, dtype=real)
        tied = self._parameters.tied
        grad_encoder = np.empty_like(own.decoder) if tied else gradients["encoder"]

        def pass_features(first, last):
            for start in range(first, last, _FEATURES):
                part = slice(start, min(last, start + _FEATURES))
                codes, grad_pre = out.codes[:, part], out.grad_pre[:, part]
                decoder_part = gradients["decoder"][part]
                np.matmul(codes.T, out.weighted_residual, out=decoder_part)
                np.matmul(grad_pre.T, out.centred, out=grad_encoder[part])
                np.matmul(ones, grad_pre, out=gradients["encoder_bias"][part])
                fired[part] = ones @ codes > 0

        work = n * m * (4 + d // 8)
        team.run(
            lambda first, last: loops.code_relu(
                first, last, PRODUCT_ROWS, batch, own, out
            ),
            n,
            n_elements=work,
            multiple=PRODUCT_ROWS,
        )
        team.run(pass_features, m, n_elements=work, multiple=_FEATURES)
        if tied:
            gradients["decoder"] += grad_encoder
        self._parameters.write_bias_gradient(ones @ out.weighted_residual)
        loss = float(square @ batch.factor) / 2 + float(batch.weight @ total)
        return BatchResult(loss, torch.from_numpy(fired), int(count.sum()), np.inf)
