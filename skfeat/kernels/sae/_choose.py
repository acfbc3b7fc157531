"""Which kernel computes the gradients of an autoencoder: the one place that decides.

`skfeat/kernels/README.md` has the decisions as a table.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from skfeat.kernels._limits import LIMITS
from skfeat.kernels._memory import Buffers
from skfeat.kernels._optional import has_numba
from skfeat.kernels._threads import Team
from skfeat.kernels.sae._approximation import Approximate
from skfeat.kernels.sae._dense import DenseKernel
from skfeat.kernels.sae._kernel import Kernel, KernelSettings


def is_small(work: float) -> bool:
    """Tell whether training of so much work is over before compiled loops are ready.

    Its operations end before other threads have begun, too.
    """
    return work <= LIMITS.compiled_training


def runs_compiled(device: torch.device, work: float = math.inf) -> bool:
    """Tell whether compiled loops run on a device, for training of so much work.

    Sizes alone decide: what has been compiled already must not change how a fit rounds.
    """
    return device.type == "cpu" and not is_small(work) and has_numba()


def is_narrow(decoder: torch.Tensor, encoder: torch.Tensor) -> bool:
    """Tell whether a cache holds the gradients of a decoder and its encoder."""
    return decoder.nbytes + encoder.nbytes <= LIMITS.narrow_bytes


def approximate_in(precision: str, n_columns: int = 1) -> Approximate | None:
    """Return how codes are selected, or None where full precision selects them.

    For integers this is None on processors without an instruction for them, and with
    more columns than sums of 32 bits hold. Needs numba.
    """
    if precision == "bfloat16":
        from skfeat.kernels.sae._bfloat16 import by_bfloat16

        return by_bfloat16
    if precision != "int8":
        return None
    from skfeat.kernels.simd._integers import is_supported

    if not is_supported():
        return None
    from skfeat.kernels.sae._int8 import MOST_COLUMNS, by_integers

    return by_integers if n_columns <= MOST_COLUMNS else None


def make_kernel(
    params: dict[str, torch.Tensor], settings: KernelSettings, team: Team
) -> Kernel:
    """Return the fastest kernel for some parameters.

    Parameters
    ----------
    params : dict of str to Tensor
        See `loss_reference`; gradients are written to each tensor's ``grad``.
    settings : KernelSettings
    team : Team
        Threads of compiled kernels.
    """
    activation, shards = settings.activation, settings.shards
    decoder = params["decoder"]
    encoder = params.get("encoder", decoder)
    by_batch = activation.selects == "by batch"
    # Selection across processes needs dense pre-activations.
    chosen_together = shards.by == "features" or (shards.by == "rows" and by_batch)
    if chosen_together or not runs_compiled(decoder.device, settings.work):
        return DenseKernel(params, settings)
    narrow = is_narrow(decoder, encoder)
    if narrow:
        # Products of narrow layers take less time than rounding their factors.
        own = str(decoder.dtype).removeprefix("torch.")
        settings = replace(settings, precision=own)
    if min(activation.k, len(decoder)) > LIMITS.active_density * len(decoder):
        return DenseKernel(params, settings)

    # All that follows needs numba, which these modules import.
    from skfeat.kernels.sae._by_density import ByDensityKernel
    from skfeat.kernels.sae._narrow_topk import NarrowTopKKernel
    from skfeat.kernels.sae._parameters import Parameters
    from skfeat.kernels.sae._relu import DenseReLUKernel
    from skfeat.kernels.sae._relu_bfloat16 import BFloat16ReLUKernel
    from skfeat.kernels.sae._sparse import SparseKernel

    plain = not settings.transcodes
    parameters, buffers = Parameters(params, transcodes=not plain), Buffers()
    tiles = plain and narrow and settings.n_prefixes == 1
    if activation.selects == "by row" and tiles:
        return NarrowTopKKernel(parameters, int(activation.k), team, shards)
    sparse = SparseKernel(
        parameters,
        settings,
        team,
        buffers,
        approximate_in(settings.precision, encoder.shape[1]),
    )
    if activation.selects != "above":
        return sparse
    dense: Kernel
    if activation.name != "relu" or settings.transcodes:
        dense = DenseKernel(params, settings)
    elif settings.precision == "bfloat16":
        dense = BFloat16ReLUKernel(parameters, team, buffers)
    else:
        dense = DenseReLUKernel(parameters, team, buffers)
    return ByDensityKernel(sparse, dense)
