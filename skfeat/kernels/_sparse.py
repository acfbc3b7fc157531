"""Gradients of a sparse autoencoder over its active entries alone, on the CPU.

Only the encoder's product is dense. Decoding, pulling the error back and both weights'
gradients run over the entries that may be nonzero, which at the usual sparsity is a
small share of the work. `DenseKernel` computes the same and takes over where a batch
has too many entries for that to pay.

It needs numba, which stays optional: `compiled` returns None where it is missing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from skfeat.kernels._activations import TrainingActivation
from skfeat.kernels._dense_relu import DenseReLUKernel
from skfeat.kernels._loops import load
from skfeat.kernels._sae import (
    AUX_WEIGHT,
    BatchResult,
    DenseKernel,
    Product,
    n_auxiliary,
)
from skfeat.kernels._sae import product as float_product
from skfeat.kernels._shards import Shards
from skfeat.kernels._threads import TILE, Team, Workspace

# Share of active entries above which dense products are faster.
_MAX_DENSITY = 0.15

# Columns are looked through in groups where there are more than this many.
_UNGROUPED, _N_GROUPS = 1024, 512

# Bytes of rows that gradients are summed over at a time, and how many entries a feature
# should have in them.
_CACHE, _WORTH_A_TILE = 2**18, 4

# How far below the last batch's bound batch top-k looks for entries first.
_MARGIN = 0.8


def compiled():
    """Return the module of compiled loops, or None where numba is not installed."""
    return load("_compiled")


class Entries(NamedTuple):
    """The entries of a batch: row i has ``start[i]`` to ``start[i] + counts[i]``.

    Attributes
    ----------
    start, counts : ndarray of int64, shape (n,)
    indices : ndarray of int32, shape (n_entries,)
        Feature of each entry.
    u : ndarray of shape (n_entries,)
        Pre-activation of each entry.
    """

    start: np.ndarray
    counts: np.ndarray
    indices: np.ndarray
    u: np.ndarray

    def keep(self, mask: np.ndarray) -> Entries:
        """Return the entries of `mask`."""
        before = np.concatenate([[0], np.cumsum(mask)])
        count = before[self.start + self.counts] - before[self.start]
        start = np.cumsum(count) - count
        return Entries(start, count, self.indices[mask], self.u[mask])


def _n_groups(m: int, k: int) -> int:
    """Return in how many groups to look for the k largest of m columns."""
    return m if m <= _UNGROUPED else min(m, max(_N_GROUPS, 4 * k))


class SparseKernel:
    """Gradients of `loss_reference` and of the auxiliary loss, entry by entry.

    Parameters
    ----------
    params : dict of str to Tensor
        On the CPU; gradients are written to each tensor's ``grad``.
    activation : TrainingActivation
    prefixes : tuple of int, optional
        Matryoshka prefixes, increasing, the last one m.
    product : callable, default=float_product
        Multiplies two matrices. What a rounding one selects is computed again in
        full precision.
    team : Team
    shards : Shards, optional
        Rows of the batch that other processes have; they hold all features.
    """

    def __init__(
        self,
        params: dict[str, torch.Tensor],
        activation: TrainingActivation,
        prefixes: tuple[int, ...] | None = None,
        product: Product = float_product,
        *,
        team: Team,
        shards: Shards | None = None,
    ):
        self._dense = DenseKernel(params, activation, prefixes, product, shards)
        self._params = params
        self._activation = activation
        self._team = team
        self._loops: Any = compiled()
        self._selection: Any = load("_compiled_select")
        prefixes = self._dense.prefixes
        features = np.arange(len(params["decoder"]))
        # The group of a feature is the first prefix that holds it.
        self._group = np.searchsorted(prefixes, features, side="right")
        self._features = features
        # Views of the parameters' memory and of the gradients', made once.
        self._arrays = {name: param.numpy() for name, param in params.items()}
        self._grads = {name: np.zeros_like(a) for name, a in self._arrays.items()}
        self._grad_tensors = {n: torch.from_numpy(a) for n, a in self._grads.items()}
        self._space = Workspace()
        self._dense_relu = None
        if activation.name == "relu" and product is float_product:
            self._dense_relu = DenseReLUKernel(
                self._arrays, self._grads, self._loops, team, self._space
            )
        self._density = 0.0
        self._guess = 0.0
        # Where to divide the features among threads; no sum depends on it.
        self._work: np.ndarray | None = None

    @property
    def memory(self) -> tuple[float, ...]:
        """What the last batch says about how to compute the next.

        Different ways round differently: training that goes on needs it to end up the
        same to the bit.
        """
        return self._density, self._guess

    @memory.setter
    def memory(self, values: tuple[float, ...]):
        self._density, self._guess = values or (0.0, 0.0)

    def gradients(
        self,
        x: torch.Tensor,
        weights: torch.Tensor,
        penalty_weight: float = 0.0,
        dead: torch.Tensor | None = None,
    ) -> BatchResult:
        """Write the gradients of one batch; see `DenseKernel.gradients`."""
        arrays, grads, d = self._arrays, self._grads, x.shape[1]
        for name, param in self._params.items():
            param.grad = self._grad_tensors[name]
        factor = (2 / d * weights).numpy()
        entries = None
        if self._density <= _MAX_DENSITY:
            centred, pre, entries, decoded = self._encode(x, factor)
        if entries is None:
            return self._dense_gradients(x, weights, penalty_weight, dead)
        self._density = len(entries.u) / max(1, pre.size)

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
        if dead is not None and len(dead):
            pull = np.ascontiguousarray(residual[:, -1])
            self._auxiliary(dead.numpy(), pre, pull, square, centred, factor)
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

    def _encode(self, x, factor):
        """Return x - b, E (x - b), the entries, and perhaps what `_decode` returns.

        The entries are None if there are too many.
        """
        arrays, (n, d), rows = self._arrays, x.shape, x.numpy()
        encoder, bias = arrays.get("encoder", arrays["decoder"]), arrays["encoder_bias"]
        m, dtype = len(encoder), rows.dtype
        centred = self._space.room("centred", n, d, dtype)
        pre = self._space.room("pre", n, m, dtype)
        exact = self._dense.product is float_product
        k = min(self._activation.k, m) if self._activation.selects == "by row" else 0
        if k > _MAX_DENSITY * m:
            return centred, pre, None, None
        shared = TILE, rows, arrays["bias"], encoder
        work = {"n_elements": n * m * (4 + d // 16), "multiple": TILE}
        if exact and k:
            entries = self._room_for_topk(n, k, dtype, "entry")
            options, decoded = self._decoding("code", n, d, k * n, factor, self._group)
            self._team.run(
                self._loops.code_topk,
                n,
                *(*shared, bias, k, _n_groups(m, k), pre),
                *(*entries, arrays["decoder"], centred, *options, *decoded),
                **work,
            )
            return centred, pre, entries, decoded
        if exact:
            self._team.run(self._loops.encode_tiles, n, *shared, centred, pre, **work)
            return centred, pre, self._select(pre, bias), None
        np.subtract(rows, arrays["bias"], out=centred)
        factors = torch.from_numpy(centred), torch.from_numpy(encoder).T
        pre[:] = self._dense.product(*factors).numpy()
        found = self._topk(pre, bias, k, "entry") if k else self._select(pre, bias)
        if found is not None:
            self._compute_again(found, centred, bias)
        return centred, pre, found, None

    def _compute_again(self, entries, centred, bias):
        """Write what a rounded product was good enough to find in full precision."""
        encoder = self._arrays.get("encoder", self._arrays["decoder"])
        self._team.run(
            self._loops.multiply,
            len(centred),
            *(*entries[:3], centred, encoder, bias, entries.u),
            n_elements=centred.shape[1] * len(entries.u),
        )
        # What rounding has let in just below its bound counts as just at it.
        floor = self._activation.bound(self._params).numpy()
        np.maximum(entries.u, floor[entries.indices], out=entries.u)

    def _select(self, pre, bias) -> Entries | None:
        """Find the entries above a bound, or None if they are too many."""
        activation = self._activation
        if activation.selects == "above":
            return self._above(pre, bias, activation.bound(self._params).numpy())
        n_kept = activation.k * len(pre)
        if n_kept > _MAX_DENSITY * pre.size:
            return None
        entries = self._above_scalar(pre, bias, self._guess)
        if len(entries.u) < n_kept and self._guess > 0:
            entries = self._above_scalar(pre, bias, 0.0)
        surplus = len(entries.u) - n_kept
        if surplus > 0:
            bound = np.partition(entries.u, surplus)[surplus]
            entries = entries.keep(entries.u >= bound)
        self._guess = _MARGIN * float(entries.u.min(initial=np.inf))
        return entries

    def _topk(self, pre, bias, k, name) -> Entries:
        n, m = pre.shape
        entries = self._room_for_topk(n, k, pre.dtype, name)
        self._team.run(
            self._selection.select_topk,
            n,
            *(pre, bias, k, _n_groups(m, k), *entries),
            n_elements=4 * pre.size,
        )
        return entries

    def _room_for_topk(self, n: int, k: int, dtype, name: str) -> Entries:
        """Make room for `k` entries a row, of which some may stay unused."""
        start, count = self._space.room(f"{name} places", 2, n, np.int64)
        start[:], count[:] = np.arange(0, n * k, k), k
        return self._room_for(start, count, n * k, dtype, name)

    def _room_for(self, start, count, n_entries, dtype, name: str) -> Entries:
        """Make room for ``count[i]`` entries of row i, from ``start[i]`` on.

        Places that stay unused are zeros of feature 0, which add nothing to any sum.
        """
        indices = self._space.line(f"{name} indices", n_entries, np.int32)
        u = self._space.line(f"{name} u", n_entries, dtype)
        indices[:], u[:] = 0, 0
        return Entries(start, count, indices, u)

    def _above_scalar(self, pre, bias, bound):
        bounds = np.full(pre.shape[1], bound, dtype=pre.dtype)
        return self._above(pre, bias, bounds, limit=1.0)

    def _above(self, pre, bias, bounds, limit=_MAX_DENSITY) -> Entries | None:
        n, count = len(pre), np.empty(len(pre), dtype=np.int64)
        args = pre, bias, bounds
        self._team.run(
            self._selection.count_above, n, *args, count, n_elements=4 * pre.size
        )
        if count.sum() > limit * pre.size:
            return None
        start, n_entries = np.cumsum(count) - count, int(count.sum())
        entries = self._room_for(start, count, n_entries, pre.dtype, "entry")
        places = entries.start, entries.indices, entries.u
        self._team.run(
            self._selection.select_above, n, *args, *places, n_elements=4 * pre.size
        )
        return entries

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
        penalty = float(weight @ self._activation.penalty(u, z))
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
        n_active = np.empty(m, dtype=np.int64)
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

    def _auxiliary(self, dead, pre, pull, square, centred, factor):
        """Add the gradients of the dead features' loss; see `DenseKernel`.

        `pull` (n, d) is the error of the whole reconstruction times what the loss
        multiplies it by, which is taken back here; `square` (n,) is the squared error,
        averaged over prefixes.
        """
        (n, d), dtype = centred.shape, pre.dtype
        with np.errstate(divide="ignore"):
            back = np.where(factor > 0, self._dense.n_prefixes / factor, 0)
        back = back.astype(dtype, copy=False)
        if self._dense.n_prefixes > 1:
            square = np.einsum("ij,ij->i", pull, pull) * back**2
        mean_square = torch.tensor(float(square @ factor) * d / 2, dtype=torch.float64)
        self._dense.shards.sum_rows(mean_square)
        factor = factor * dtype.type(d * AUX_WEIGHT / max(float(mean_square), 1e-12))
        k, n_dead = n_auxiliary(len(dead), self._activation.k), len(dead)
        entries = self._room_for_topk(n, k, dtype, "dead")
        group = np.zeros(n_dead, dtype=np.int64)
        options, decoded = self._decoding("dead", n, d, n * k, factor, group, back)
        self._team.run(
            self._loops.code_dead,
            n,
            *(TILE, pre, dead, self._arrays["encoder_bias"][dead], k),
            *(_n_groups(n_dead, k), self._space.room("dead", n, n_dead, dtype)),
            *(*entries, self._arrays["decoder"][dead], pull),
            *(*options, *decoded),
            n_elements=4 * n * n_dead + 4 * d * k * n,
        )
        residual, _, slopes = decoded
        self._accumulate(
            entries,
            *(entries.u, slopes, residual, group, centred, dead),
            fresh=False,
        )
