"""Gradients of a sparse autoencoder over its active codes alone, on the CPU.

Only the encoder's product is dense. Decoding, differentiating and both weights'
gradients run over the active codes, which at the usual sparsity is a small share of
the work. `DenseKernel` computes the same.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from skfeat.kernels._memory import Buffers
from skfeat.kernels._threads import PRODUCT_ROWS, Team
from skfeat.kernels.sae import _loops_sparse as loops
from skfeat.kernels.sae._approximation import Approximate
from skfeat.kernels.sae._arrays import (
    ActiveCodes,
    Backward,
    Decoded,
    ErrorScale,
    SortBuffers,
)
from skfeat.kernels.sae._encoder import Encoded, Encoder
from skfeat.kernels.sae._kernel import (
    Batch,
    KernelSettings,
    Pairs,
    auxiliary_scale,
)
from skfeat.kernels.sae._parameters import Parameters
from skfeat.kernels.sae._result import BatchResult

# Bytes of rows that gradients are summed over at a time, which an L2 cache holds; and
# how many active codes a feature should have in them.
_CACHE, _WORTH_A_TILE = 2**18, 4


class _Step(NamedTuple):
    """Derivatives of a batch by its active codes."""

    grad_pre: np.ndarray
    extra: dict[str, torch.Tensor]
    penalty: float


class SparseKernel:
    """The `Kernel` of loops over active codes.

    Parameters
    ----------
    parameters : Parameters
    settings : KernelSettings
        Other processes have rows of the batch; this one holds all features.
    team : Team
    buffers : Buffers
    approximate : callable, optional
        See `Encoder`.

    Attributes
    ----------
    density : float
        Share of codes that were active in the last batch.
    """

    takes_rows = False

    def __init__(
        self,
        parameters: Parameters,
        settings: KernelSettings,
        team: Team,
        buffers: Buffers,
        approximate: Approximate | None = None,
    ):
        m = parameters.n_components
        self._parameters = parameters
        self._activation, self._shards = settings.activation, settings.shards
        self._n_prefixes = settings.n_prefixes
        self._team, self._buffers = team, buffers
        self._encoder = Encoder(
            parameters,
            settings.activation,
            team,
            buffers,
            approximate,
        )
        self._features = np.arange(m)
        # The group of a feature is the first prefix that holds it.
        prefixes = settings.prefixes or (m,)
        self._group = np.searchsorted(prefixes, self._features, side="right")
        self.density = 0.0
        # Where to divide the features among threads; no sum depends on it.
        self._work: np.ndarray | None = None

    @property
    def memory(self) -> tuple[float, ...]:
        """See `Kernel`; here where batch top-k looks first."""
        return (self._encoder.finder.guess,)

    @memory.setter
    def memory(self, values: tuple[float, ...]):
        (self._encoder.finder.guess,) = values or (0.0,)

    def gradients(
        self,
        x: Batch,
        weights: torch.Tensor,
        penalty_weight: float = 0.0,
        dead: torch.Tensor | None = None,
    ) -> BatchResult:
        """Write the gradients of one batch; see `Kernel.gradients`."""
        result = self.try_gradients(x, weights, penalty_weight, dead)
        assert result is not None, "chosen for batches with too many active codes"
        return result

    def try_gradients(
        self,
        x: Batch,
        weights: torch.Tensor,
        penalty_weight: float,
        dead: torch.Tensor | None,
    ) -> BatchResult | None:
        """Write the gradients of one batch, or return None if too much is active."""
        target = None
        if isinstance(x, Pairs):
            target, x = self._targets(x), x.rows
        assert isinstance(x, torch.Tensor)
        n, d = len(x), self._parameters.weights.decoder.shape[1]
        factor = (2 / d * weights).numpy()
        revived = np.empty(0, np.int64) if dead is None else dead.numpy()
        encoded = self._encoder.encode(x.numpy(), revived, target)
        active = encoded.codes
        if active is None:
            return None
        self.density = len(active.values) / max(1, n * len(self._features))
        self._parameters.attach_gradients()

        codes = active._replace(values=self._codes(active))
        decoder, scale = self._parameters.weights.decoder, self._scale(factor)
        decoded = self._decode("code", codes, decoder, encoded.target, scale)
        loss = float(decoded.square @ factor) / 2
        step = self._differentiate(active, codes, decoded, weights, penalty_weight)
        loss += step.penalty
        grad_pre = step.grad_pre
        if self._activation.two_decodes:
            whole = ErrorScale(scale.sign, factor, np.zeros_like(self._group))
            gate = self._decode("second", active, decoder, encoded.target, whole)
            loss += float(gate.square @ factor) / 2
            grad_pre = grad_pre + gate.grad_codes

        residual = decoded.weighted_residual
        backward = Backward(codes, grad_pre, residual, self._group, encoded.centred)
        n_active = self._accumulate(backward, self._features, fresh=True)
        if encoded.dead is not None:
            self._revive(revived, encoded, decoded, factor)
        ones = np.ones(n, dtype=residual.dtype)
        self._parameters.write_bias_gradient(ones @ residual[:, 0])
        self._write_skip_gradient(encoded.centred, residual)
        for name, value in step.extra.items():
            self._parameters.gradients[name][:] = np.bincount(
                active.indices, value.numpy(), minlength=len(self._features)
            )
        lowest = np.inf
        if self._activation.selects == "by batch":
            lowest = codes.values.min(initial=np.inf)
        fired = torch.from_numpy(n_active > 0)
        return BatchResult(loss, fired, int(n_active.sum()), float(lowest))

    def _targets(self, pairs: Pairs) -> np.ndarray:
        """Return what the codes of a transcoder are to decode."""
        rows, targets = pairs.rows.numpy(), pairs.targets.numpy()
        bias = self._parameters.tensors["bias"].numpy()
        skip = self._parameters.tensors.get("skip")
        (n, d), d_in = targets.shape, rows.shape[1]
        out = self._buffers.matrix("target", n, d, targets.dtype)
        skipped = self._buffers.matrix("skip", 0 if skip is None else n, d, out.dtype)

        def subtract(first, last):
            for start in range(first, last, PRODUCT_ROWS):
                part = slice(start, min(last, start + PRODUCT_ROWS))
                np.subtract(targets[part], bias, out=out[part])
                if skip is not None:
                    np.matmul(rows[part], skip.numpy().T, out=skipped[part])
                    out[part] -= skipped[part]

        work = 4 * n * d if skip is None else n * d * (4 + d_in // 16)
        self._team.run(subtract, n, n_elements=work, multiple=PRODUCT_ROWS)
        return out

    def _write_skip_gradient(self, rows: np.ndarray, residual: np.ndarray) -> None:
        """Write the gradient of a transcoder's skip, if it has one."""
        gradient = self._parameters.gradients.get("skip")
        if gradient is None:
            return
        # The skip is part of all prefixes' reconstructions.
        errors = residual[:, 0]

        def multiply(first, last):
            for start in range(first, last, PRODUCT_ROWS):
                part = slice(start, min(last, start + PRODUCT_ROWS))
                np.matmul(errors[:, part].T, rows, out=gradient[part])

        n, d = errors.shape
        work = n * d * (1 + rows.shape[1] // 16)
        self._team.run(multiply, d, n_elements=work, multiple=PRODUCT_ROWS)

    def _of_feature(self, codes: ActiveCodes):
        """Return the function that aligns a parameter with active codes."""
        index = torch.from_numpy(codes.indices)
        return lambda name: self._parameters.tensors[name][index]

    def _codes(self, active: ActiveCodes) -> np.ndarray:
        if not self._activation.penalised:
            return active.values
        u = torch.from_numpy(active.values)
        return self._activation.codes(u, self._of_feature(active)).numpy()

    def _differentiate(self, active, codes, decoded, weights, penalty_weight) -> _Step:
        """Differentiate the loss by pre-activations and extra parameters."""
        if not self._activation.penalised:
            return _Step(decoded.grad_codes, {}, 0.0)
        u, z, grad_codes = map(
            torch.from_numpy, (active.values, codes.values, decoded.grad_codes)
        )
        repeated = np.repeat(weights.numpy(), active.counts)
        weight = penalty_weight * torch.from_numpy(repeated)
        grad_u, extra = self._activation.backward(
            u, z, grad_codes, weight, self._of_feature(active)
        )
        # Numpy's sum is the same in any number of threads.
        penalty = float(weight.numpy() @ self._activation.penalty(u, z).numpy())
        return _Step(grad_u.numpy(), extra, penalty)

    def _scale(self, factor: np.ndarray) -> ErrorScale:
        """Return how the errors of all prefixes enter the loss."""
        sign = np.full(len(factor), -1, dtype=factor.dtype)
        share = factor / factor.dtype.type(self._n_prefixes)
        return ErrorScale(sign, share, self._group)

    def _decode(self, name, codes: ActiveCodes, decoder, target, scale) -> Decoded:
        """Decode active codes, and differentiate the error by them."""
        (n, d), n_codes, dtype = target.shape, len(codes.values), scale.factor.dtype
        n_prefixes = self._n_prefixes if scale.group is self._group else 1
        residual = self._buffers.matrix(f"{name} residual", n, n_prefixes * d, dtype)
        grad_codes = self._buffers.vector(f"{name} gradients", n_codes, dtype)
        grad_codes[:] = 0
        decoded = Decoded(
            residual.reshape(n, n_prefixes, d), np.empty(n, dtype=dtype), grad_codes
        )
        self._team.run(
            lambda first, last: loops.decode(
                first, last, codes, decoder, target, scale, decoded
            ),
            n,
            n_elements=2 * d * n_codes,
        )
        return decoded

    def _accumulate(self, backward: Backward, target, *, fresh: bool) -> np.ndarray:
        """Sum the gradients of these features; return how often each is active."""
        (n, d_in), m = backward.rows.shape, len(target)
        d = backward.weighted_residual.shape[2]
        n_codes, dtype = len(backward.grad_pre), backward.grad_pre.dtype
        gradients = self._parameters.sums(np.zeros(m, dtype=np.int64))
        residual, rows = backward.weighted_residual, backward.rows
        # Rows that a cache holds, unless a feature is next to never active in so many.
        tile = max(1, _CACHE // (residual[:1].nbytes + rows[:1].nbytes))
        if n_codes * tile < _WORTH_A_TILE * m * n:
            tile = max(1, n)
        by_feature = SortBuffers(
            self._buffers.vector("sorted rows", n_codes, np.int32),
            self._buffers.vector("sorted values", n_codes, dtype),
            self._buffers.vector("sorted gradients", n_codes, dtype),
        )
        self._team.run(
            lambda first, last: loops.accumulate(
                first, last, tile, backward, target, fresh, by_feature, gradients
            ),
            m,
            n_elements=(d + d_in) * n_codes,
            cumulative=self._work if fresh else None,
        )
        n_active = gradients.n_active
        if fresh:
            # The next batch is much like this one.
            self._work = np.concatenate([[0], np.cumsum(n_active + 1)])
        return n_active

    def _revive(self, dead, encoded: Encoded, decoded: Decoded, factor) -> None:
        """Add the gradients of the dead features' loss; see `DenseKernel`.

        Their target is the error of the whole reconstruction, of which `decoded` holds
        the multiple that enters the loss.
        """
        assert encoded.dead is not None
        residual = np.ascontiguousarray(decoded.weighted_residual[:, -1])
        d, dtype = residual.shape[1], residual.dtype
        with np.errstate(divide="ignore"):
            back = np.where(factor > 0, self._n_prefixes / factor, 0)
        back = back.astype(dtype, copy=False)
        square = decoded.square  # the mean over prefixes
        if self._n_prefixes > 1:
            square = np.einsum("ij,ij->i", residual, residual) * back**2
        total = float(square @ factor)
        factor = factor * dtype.type(auxiliary_scale(total, d, self._shards))
        group = np.zeros(len(dead), dtype=np.int64)
        decoder = self._parameters.weights.decoder[dead]
        own = self._decode(
            "dead", encoded.dead, decoder, residual, ErrorScale(back, factor, group)
        )
        backward = Backward(
            encoded.dead,
            own.grad_codes,
            own.weighted_residual,
            group,
            encoded.centred,
        )
        self._accumulate(backward, dead, fresh=False)
