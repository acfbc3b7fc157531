"""Gradients of a sparse autoencoder over its active entries alone, on the CPU.

Only the encoder's product is dense. Decoding, pulling the error back and both weights'
gradients run over the entries that may be nonzero, which at the usual sparsity is a
small share of the work. `DenseKernel` computes the same and takes over where a batch
has too many entries for that to pay.

It needs numba, which stays optional: `compiled` returns None where it is missing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from skfeat.kernels._memory import Workspace, zeros
from skfeat.kernels._optional import load
from skfeat.kernels._threads import Team
from skfeat.kernels.sae._activations import TrainingActivation
from skfeat.kernels.sae._active import MAX_DENSITY
from skfeat.kernels.sae._dense import (
    BatchResult,
    DenseKernel,
    auxiliary_scale,
    product_in,
)
from skfeat.kernels.sae._encoder import Encoder
from skfeat.kernels.sae._low_precision import approximate_in
from skfeat.kernels.sae._narrow import Rows, suits_tiles
from skfeat.kernels.sae._narrow_topk import TiledTopK
from skfeat.kernels.sae._relu import DenseReLUKernel
from skfeat.kernels.sae._relu_bfloat16 import RoundedReLUKernel
from skfeat.kernels.sae._shards import Shards

# Bytes of rows that gradients are summed over at a time, and how many entries a feature
# should have in them.
_CACHE, _WORTH_A_TILE = 2**18, 4


def compiled():
    """Return the module of compiled loops, or None where numba is not installed."""
    return load("sae._loops_sparse")


class SparseKernel:
    """Gradients of `loss_reference` and of the auxiliary loss, entry by entry.

    Parameters
    ----------
    params : dict of str to Tensor
        On the CPU; gradients are written to each tensor's ``grad``.
    activation : TrainingActivation
    prefixes : tuple of int, optional
        Matryoshka prefixes, increasing, the last one m.
    precision : {"float32", "float64", "bfloat16", "int8"}, default="float32"
        Of the matrix products of wide autoencoders; the first two are that of the
        parameters. What the others select is computed again in full precision.
    team : Team
    shards : Shards, optional
        Rows of the batch that other processes have; they hold all features.
    """

    def __init__(
        self,
        params: dict[str, torch.Tensor],
        activation: TrainingActivation,
        prefixes: tuple[int, ...] | None = None,
        precision: str = "float32",
        *,
        team: Team,
        shards: Shards | None = None,
    ):
        if suits_tiles(params["decoder"]):
            precision = "float32"  # which takes less time than rounding
        approximate = approximate_in(precision, params["decoder"].shape[1])
        product = product_in(precision)
        self._dense = DenseKernel(params, activation, prefixes, product, shards)
        self._params = params
        self._activation = activation
        self._team = team
        self._loops: Any = compiled()
        prefixes = self._dense.prefixes
        features = np.arange(len(params["decoder"]))
        # The group of a feature is the first prefix that holds it.
        self._group = np.searchsorted(prefixes, features, side="right")
        self._features = features
        # Views of the parameters' memory and of the gradients', made once.
        self._arrays = {name: param.numpy() for name, param in params.items()}
        self._grads = {n: zeros(a.shape, a.dtype) for n, a in self._arrays.items()}
        self._grad_tensors = {n: torch.from_numpy(a) for n, a in self._grads.items()}
        self._space = Workspace()
        shared = params, self._arrays, activation, team, self._space
        self._encoder = Encoder(*shared, approximate)
        self._dense_relu: DenseReLUKernel | RoundedReLUKernel | None = None
        if activation.name == "relu":
            kind = RoundedReLUKernel if precision == "bfloat16" else DenseReLUKernel
            self._dense_relu = kind(self._arrays, self._grads, team, self._space)
        self._tiled = None
        one_prefix = self._dense.n_prefixes == 1
        k = self._encoder.k if approximate is None and one_prefix else 0
        if 0 < k <= MAX_DENSITY * len(features) and suits_tiles(params["decoder"]):
            places = self._arrays, self._grads
            self._tiled = TiledTopK(*places, k, team, self._dense.shards)
        self._density = 0.0
        # Where to divide the features among threads; no sum depends on it.
        self._work: np.ndarray | None = None

    @property
    def memory(self) -> tuple[float, ...]:
        """What the last batch says about how to compute the next.

        Different ways round differently: training that goes on needs it to end up the
        same to the bit.
        """
        return self._density, self._encoder.finder.guess

    @memory.setter
    def memory(self, values: tuple[float, ...]):
        self._density, self._encoder.finder.guess = values or (0.0, 0.0)

    @property
    def gathers(self) -> bool:
        """Whether batches may come as `Rows`."""
        return self._tiled is not None

    def gradients(
        self,
        x: torch.Tensor | Rows,
        weights: torch.Tensor,
        penalty_weight: float = 0.0,
        dead: torch.Tensor | None = None,
    ) -> BatchResult:
        """Write the gradients of one batch; see `DenseKernel.gradients`."""
        for name, param in self._params.items():
            param.grad = self._grad_tensors[name]
        if self._tiled is not None and len(weights):
            rows = x if isinstance(x, Rows) else Rows.of(x.numpy())
            return self._tiled.gradients(rows, weights, dead)
        assert isinstance(x, torch.Tensor)
        arrays, grads, d = self._arrays, self._grads, x.shape[1]
        n, factor = len(x), (2 / d * weights).numpy()
        silent = np.empty(0, np.int64) if dead is None else dead.numpy()
        entries, decoded, to_decode = None, None, ()
        if self._density <= MAX_DENSITY:
            if self._encoder.decodes:
                n_codes = n * self._encoder.k
                options, decoded = self._decoding(
                    "code", n, d, n_codes, factor, self._group
                )
                to_decode = *options, *decoded
            encoded = self._encoder.encode(x.numpy(), silent, to_decode)
            centred, entries, asked = encoded
        if entries is None:
            return self._dense_gradients(x, weights, penalty_weight, dead)
        self._density = len(entries.u) / max(1, n * len(self._features))

        decoder, encoder = arrays["decoder"], arrays.get("encoder", arrays["decoder"])
        codes = self._codes(entries)
        residual, square, slopes = decoded or self._decode(
            "code", entries, codes, decoder, centred, factor, self._group
        )
        loss = float(square @ factor) / 2
        grad_u, extra, penalty = self._pull_back(
            entries, codes, slopes, weights, penalty_weight
        )
        loss += penalty
        if self._activation.two_decodes:
            whole = np.zeros_like(self._group)
            _, square, slopes = self._decode(
                "second", entries, entries.u, decoder, centred, factor, whole
            )
            loss += float(square @ factor) / 2
            grad_u = grad_u + slopes

        n_active = self._accumulate(
            entries, codes, grad_u, residual, self._group, centred, self._features
        )
        if asked is not None:
            pull = np.ascontiguousarray(residual[:, -1])
            self._auxiliary(silent, asked, pull, square, centred, factor)
        ones = np.ones(len(residual), dtype=residual.dtype)
        grads["bias"][:] = ones @ residual[:, 0] - grads["encoder_bias"] @ encoder
        for name, value in extra.items():
            grads[name][:] = self._sum_by_feature(entries, value.numpy())
        lowest = np.inf
        if self._activation.selects == "by batch":
            lowest = codes.min(initial=np.inf)
        fired = torch.from_numpy(n_active > 0)
        return BatchResult(loss, fired, int(n_active.sum()), float(lowest))

    def _dense_gradients(self, x, weights, penalty_weight, dead):
        if self._dense_relu is not None:
            result = self._dense_relu.gradients(x, weights, penalty_weight)
        else:
            result = self._dense.gradients(x, weights, penalty_weight, dead)
        size = max(1, len(x) * len(self._features))
        self._density = float(result.n_active) / size
        return result

    def _at(self, entries):
        index = torch.from_numpy(entries.indices)
        return lambda name: self._params[name][index]

    def _codes(self, entries):
        if not self._activation.penalised:
            return entries.u
        codes = self._activation.codes(torch.from_numpy(entries.u), self._at(entries))
        return codes.numpy()

    def _pull_back(self, entries, codes, slopes, weights, penalty_weight):
        """Return the derivatives by u and by extra parameters, and the penalty."""
        if not self._activation.penalised:
            return slopes, {}, 0.0
        u, z, slopes = map(torch.from_numpy, (entries.u, codes, slopes))
        counts = torch.from_numpy(entries.counts)
        weight = penalty_weight * weights.repeat_interleave(counts)
        grad_u, extra = self._activation.backward(
            u, z, slopes, weight, self._at(entries)
        )
        # Numpy's sum is the same in any number of threads.
        penalty = float(weight.numpy() @ self._activation.penalty(u, z).numpy())
        return grad_u.numpy(), extra, penalty

    def _decode(self, name, entries, codes, decoder, target, factor, group, sign=None):
        """Return what each prefix's error pulls at, its square, and codes' slopes."""
        n, d = target.shape
        options, decoded = self._decoding(name, n, d, len(codes), factor, group, sign)
        self._team.run(
            self._loops.decode,
            n,
            *(*entries[:3], codes, decoder, target, *options, *decoded),
            n_elements=2 * d * len(codes),
        )
        return decoded

    def _decoding(self, name, n, d, n_codes, factor, group, sign=None):
        """Return what `decode` is told beside the codes, and what it writes."""
        dtype, space = factor.dtype, self._space
        n_prefixes = self._dense.n_prefixes if group is self._group else 1
        sign = np.full(n, -1, dtype=dtype) if sign is None else sign
        residual = space.room(f"{name} residual", n, n_prefixes * d, dtype)
        residual = residual.reshape(n, n_prefixes, d)
        slopes = space.line(f"{name} slopes", n_codes, dtype)
        slopes[:] = 0
        square = np.empty(n, dtype=dtype)
        options = sign, factor / dtype.type(n_prefixes), group
        return options, (residual, square, slopes)

    def _accumulate(
        self, entries, codes, grad_u, residual, group, x, features, *, fresh=True
    ):
        """Sum the gradients of these features; return how often each is active."""
        n_entries, (n, d), m = len(codes), x.shape, len(features)
        n_active = np.zeros(m, dtype=np.int64)
        # Rows that an L2 cache holds, unless a feature has next to none in so many.
        tile = max(1, _CACHE // (residual[:1].nbytes + x[:1].nbytes))
        if n_entries * tile < _WORTH_A_TILE * m * n:
            tile = max(1, n)
        space, dtype, grads = self._space, codes.dtype, self._grads
        self._team.run(
            self._loops.accumulate,
            m,
            *(tile, *entries[:3], codes, grad_u, residual, group, x, features, fresh),
            space.line("rows of entries", n_entries, np.int32),
            space.line("codes of entries", n_entries, dtype),
            space.line("pulls of entries", n_entries, dtype),
            *(grads["decoder"], grads.get("encoder", grads["decoder"])),
            *(grads["encoder_bias"], n_active),
            n_elements=2 * d * n_entries,
            cumulative=self._work if fresh else None,
        )
        if fresh:
            # The next batch is much like this one.
            self._work = np.concatenate([[0], np.cumsum(n_active + 1)])
        return n_active

    def _sum_by_feature(self, entries, values):
        return np.bincount(entries.indices, values, minlength=len(self._features))

    def _auxiliary(self, dead, asked, pull, square, centred, factor):
        """Add the gradients of the dead features' loss; see `DenseKernel`.

        `pull` (n, d) is the error of the whole reconstruction times what the loss
        multiplies it by, which is taken back here; `square` (n,) is the squared error,
        averaged over prefixes.
        """
        d, dtype = centred.shape[1], centred.dtype
        with np.errstate(divide="ignore"):
            back = np.where(factor > 0, self._dense.n_prefixes / factor, 0)
        back = back.astype(dtype, copy=False)
        if self._dense.n_prefixes > 1:
            square = np.einsum("ij,ij->i", pull, pull) * back**2
        total = float(square @ factor)
        factor = factor * dtype.type(auxiliary_scale(total, d, self._dense.shards))
        group = np.zeros(len(dead), dtype=np.int64)
        residual, _, slopes = self._decode(
            *("dead", asked, asked.u, self._arrays["decoder"][dead]),
            *(pull, factor, group, back),
        )
        self._accumulate(
            *(asked, asked.u, slopes, residual, group, centred, dead), fresh=False
        )
