"""Changing sequences of a batch and comparing what modules compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from skfeat.adapters._torch_restore import kept_attributes, kept_tensors
from skfeat.capture._layouts import Index
from skfeat.capture._streams import Stream
from skfeat.capture._tokens import Edit, Tokens
from skfeat.utils._torch import PLAIN

# A module depends on a change if a row changes by more than this many times the
# precision of its dtype.
_PRECISIONS = 8
# Operations after which positions may be in another order.
_REORDERING = {"flip", "gather", "index", "index_select", "roll", "sort", "take"}
# The part of all change that must be within the changed sequence.
OWN_SHARE = 0.9


class Change(NamedTuple):
    """Positions of one sequence at which its content is changed; None means all."""

    sequence: int
    positions: np.ndarray | None


class Verdict(NamedTuple):
    """Whether a change and the order of a module's rows agree.

    Attributes
    ----------
    depends : bool
        Whether any row changed.
    agrees : bool
        Whether the rows that changed are those of the changed sequence, and some of
        those at the changed positions are among them.
    is_local : bool
        Whether some rows of the changed sequence did not change.
    """

    depends: bool
    agrees: bool
    is_local: bool


def _places(stream: Stream, reserved: list[int]) -> list[np.ndarray]:
    """Return where content can be changed, the safest places first.

    A model may compute lengths from the padding token, or put images at another one.
    By custom token 0 is such a token, too.
    """
    everywhere = np.ones(stream.shape, bool)
    mask = stream.mask
    real = everywhere if mask is None or mask.shape != stream.shape else mask
    if stream.ids is None:
        return [real, everywhere]
    known = [~np.isin(stream.ids, special) for special in ([0, *reserved], reserved)]
    return [*(real & places for places in known), real, everywhere]


def changes_of(stream: Stream, reserved: list[int]) -> list[Change]:
    """Return two changes that tell one order of rows from another.

    One is in the second half of a sequence, the other, where possible of another
    sequence, at its beginning: if the order of positions were reversed, the rows that
    change would be elsewhere. The position is never the number of the sequence, so
    that no change looks the same with the axes exchanged.
    """
    if len(stream.shape) == 1:
        return [Change(i, None) for i in sorted({0, stream.n_sequences - 1})]
    choices = _places(stream, reserved)
    n, length = stream.shape
    apart = np.arange(n)[:, None] != np.arange(length)
    places = next(
        (choice & apart for choice in choices if (choice & apart).any()), choices[-1]
    )
    counts = places.sum(axis=1)
    first = int(counts.argmax())
    others = [i for i in np.flatnonzero(counts) if i != first]
    second = int(others[-1]) if others else first
    inside = np.flatnonzero(places[first])
    late = inside[(len(inside) + 1) // 2 :]
    return [
        Change(first, late if len(late) else inside[-1:]),
        Change(second, np.flatnonzero(places[second])[:1]),
    ]


def _changed(stream: Stream, change: Change, reserved: list[int]) -> torch.Tensor:
    """Return the values of a stream with other ones at the places of a change."""
    values = stream.values.clone()
    at = slice(None) if change.positions is None else change.positions
    if stream.ids is not None:
        ids = stream.ids[change.sequence, at]
        safe = next(places for places in _places(stream, reserved) if places.any())
        known = np.unique(stream.ids[safe])
        if len(known) == 1:
            # Every table of embeddings has the tokens below one that is used.
            other = known[0] - 1 if known[0] else 1
            known = np.sort([other, known[0]])
        new = known[(np.searchsorted(known, ids) + 1) % len(known)]
        values[change.sequence, at] = torch.from_numpy(new).to(values)
    elif values.is_floating_point():
        generator = torch.Generator().manual_seed(0)
        old = values[change.sequence, at]
        noise = torch.randn(old.shape, generator=generator, **PLAIN).to(values)
        size = values.float().nan_to_num().std().nan_to_num().to(values) + 0.1
        values[change.sequence, at] = -old + size * noise
    else:
        values[change.sequence] = values.max() - values[change.sequence]
    return values


def edit_of(stream: Stream, change: Change, reserved: list[int]) -> Edit:
    """Return what changes the argument of a stream, and leaves the others."""

    def edit(value: Any, tokens: Tokens) -> Any:
        own = tokens.stream(stream.name)
        return _changed(own, change, reserved) if value is own.values else value

    return edit


def rows_changed(before: torch.Tensor, after: torch.Tensor) -> np.ndarray:
    """Return by how much each row changed, relative to its largest value."""
    old, new = (
        tensor.reshape(-1, tensor.shape[-1]).double().nan_to_num()
        for tensor in (before, after)
    )
    size = torch.maximum(old.abs(), new.abs()).amax(dim=1)
    apart = (new - old).abs().amax(dim=1)
    precise = torch.finfo(before.dtype).eps * _PRECISIONS
    tiny = torch.finfo(torch.float64).tiny
    moved = (apart / size.clamp(min=tiny)).cpu().numpy()
    return moved if moved.max(initial=0) > precise else np.zeros_like(moved)


def judge(
    change: Change, moved: np.ndarray, shape: tuple[int, ...], index: Index
) -> Verdict:
    """Compare the rows that changed with those that one order of rows names.

    Parameters
    ----------
    change : Change
    moved : ndarray of shape (n_rows,)
        By how much each row changed.
    shape : tuple of int
        Shape (n_sequences, length) or (n_sequences,) of the rows in this order.
    index : ndarray of int or None
        Number of the row at each place; None: in order.
    """
    grid = moved_at(moved, shape, index)
    own = grid[change.sequence]
    total = moved.sum()
    if not total:
        return Verdict(False, False, False)
    agrees = own.sum() >= OWN_SHARE * total
    has_row = np.ones(own.shape, bool)
    if index is not None:
        has_row = index[change.sequence].reshape(own.shape) >= 0
    if change.positions is not None and has_row[change.positions].any():
        agrees &= (own[change.positions] > 1e-3 * own.max()).any()
    own = own[has_row]
    return Verdict(True, bool(agrees), bool((own <= noise_of(grid, change)).any()))


def moved_at(moved: np.ndarray, shape: tuple[int, ...], index: Index) -> np.ndarray:
    """Return the changes of rows, at the place of each, (n_sequences, length)."""
    grid = moved if index is None else np.where(index >= 0, moved[index], 0.0)
    return grid.reshape(shape[0], -1)


def noise_of(grid: np.ndarray, change: Change) -> float:
    """Return the change below which a row did not change.

    What one sequence holds does not affect another, except for rounding.
    """
    others = np.delete(grid, change.sequence, axis=0)
    return max(4 * others.max(initial=0.0), 1e-5 * grid[change.sequence].max())


class Reorderings(TorchDispatchMode):
    """Notes whether a run of a model puts anything in another order."""

    def __init__(self):
        super().__init__()
        self.found = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run an operation of torch."""
        self.found |= func.overloadpacket.__name__ in _REORDERING
        return func(*args, **(kwargs or {}))


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Undo what runs of a model change: attributes, buffers and random numbers."""
    devices = {w.device for w in model.parameters() if w.device.type == "cuda"}
    with (
        kept_attributes(model),
        kept_tensors(model),
        torch.random.fork_rng(devices=sorted(devices, key=str)),
    ):
        yield
