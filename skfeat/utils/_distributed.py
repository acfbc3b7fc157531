"""Data-parallel training for users who have started torch.distributed themselves.

All ranks hold the same rows and draw the same shuffled batches; each works on its own
share of a batch, and sums are reduced over ranks. One process and many then compute
the same numbers up to rounding. Without an initialised process group no function here
changes anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    import numpy as np


def is_active() -> bool:
    """Tell whether the user has initialised a process group."""
    return dist.is_available() and dist.is_initialized()


def place() -> tuple[int, int]:
    """Return the rank of this process and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if is_active() else (0, 1)


def shard(rows: np.ndarray) -> np.ndarray:
    """Return this rank's share of the rows of one batch."""
    rank, size = place()
    return rows if size == 1 else rows[rank::size]


def run_of(n_rows: int, rank: int | None = None) -> slice:
    """Return the run of so many rows that a rank has, by default this one."""
    mine, size = place()
    rank = mine if rank is None else rank
    return slice(rank * n_rows // size, (rank + 1) * n_rows // size)


def all_reduce(*tensors: torch.Tensor) -> None:
    """Sum tensors over the ranks, in place."""
    _reduce(tensors, "SUM")


def backward(loss: torch.Tensor, parameters: list[torch.Tensor]) -> float:
    """Compute the gradients of a loss of which each rank has its share; return it."""
    for parameter in parameters:
        parameter.grad = None
    loss.backward()
    value = loss.detach()
    all_reduce(value, *(p.grad for p in parameters if p.grad is not None))
    return float(value)


def all_reduce_min(*tensors: torch.Tensor) -> None:
    """Take the least of each entry over the ranks, in place."""
    _reduce(tensors, "MIN")


def _reduce(tensors: tuple[torch.Tensor, ...], name: str) -> None:
    if not is_active():
        return
    for tensor in tensors:
        there = _sendable(tensor)
        dist.all_reduce(there, op=getattr(dist.ReduceOp, name))
        if there is not tensor:
            tensor.copy_(there)


def gather(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return the tensors of all ranks, which are of one shape."""
    if not is_active():
        return [tensor]
    there = _sendable(tensor).contiguous()
    parts = [torch.empty_like(there) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, there)
    return [part.to(tensor.device) for part in parts]


def _sendable(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor on a device that the group's backend can send from."""
    only_gpus = dist.get_backend() == "nccl" and tensor.device.type == "cpu"
    return tensor.cuda() if only_gpus else tensor


def gather_objects(thing) -> list:
    """Return what all ranks have, in their order; of any length."""
    if not is_active():
        return [thing]
    things = [None] * dist.get_world_size()
    dist.all_gather_object(things, thing)
    return things


def agreed(drawn):
    """Return what the first rank has drawn: others may have drawn something else."""
    if not is_active():
        return drawn
    first = [drawn]
    dist.broadcast_object_list(first, src=0)
    return first[0]


def n_workers(n_jobs: int | None) -> int | None:
    """Return how many fits of a group may run at a time.

    Ranks meet in the order of their fits: those of several threads would meet others.
    """
    return 1 if is_active() else n_jobs
