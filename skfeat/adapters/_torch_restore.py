"""Undo what running or following a forward leaves on a user's modules."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import torch
from torch import nn

from skfeat.utils._torch import PLAIN

_BLOCKS = count()


@contextmanager
def kept_attributes(root: nn.Module) -> Iterator[None]:
    """Restore what a forward stores on its modules: ``self.last = x`` keeps a proxy."""
    saved = [(vars(module), dict(vars(module))) for module in root.modules()]
    containers: list[tuple[Any, Any]] = [
        (value, value.copy())
        for _, attributes in saved
        for value in attributes.values()
        if isinstance(value, dict | list | set)
    ]
    try:
        yield
    finally:
        for attributes, before in saved:
            for name in attributes.keys() - before.keys():
                del attributes[name]
            attributes.update(before)
        for container, copied in containers:
            if not _same(container, copied):
                container.clear()
                is_list = isinstance(container, list)
                (container.extend if is_list else container.update)(copied)


def _same(container: Any, before: Any) -> bool:
    """Whether a dict, list or set holds the very objects that its copy does."""
    if isinstance(container, dict):
        container, before = container.items(), before.items()
        flat = [[x for pair in part for x in pair] for part in (container, before)]
        container, before = flat
    return list(map(id, container)) == list(map(id, before))


@contextmanager
def kept_tensors(root: nn.Module) -> Iterator[None]:
    """Restore what a forward writes even in eval mode, as to a counter.

    That are the values of buffers and of tensors that are plain attributes, and which
    tensors the buffers are. Tensors on the device 'meta' have no values.
    """
    buffers = [(module._buffers, dict(module._buffers)) for module in root.modules()]
    saved = [
        (tensor, tensor.detach().clone(), _version(tensor))
        for module in root.modules()
        for tensor in (*vars(module).values(), *module._buffers.values())
        if isinstance(tensor, torch.Tensor)
        and not (nn.parameter.is_lazy(tensor) or tensor.is_meta)
    ]
    try:
        yield
    finally:
        for own, before in buffers:
            for name, buffer in before.items():  # a ScriptModule has no `update`
                own[name] = buffer
        # Tensors that were made in inference mode can be written to there alone.
        with torch.inference_mode():
            for tensor, values, version in saved:
                if _is_written(tensor, values, version):
                    tensor.copy_(values)


def _is_written(
    tensor: torch.Tensor, values: torch.Tensor, version: int | None
) -> bool:
    """Whether a tensor may hold other values than before.

    Writes through numpy or ``tensor.data`` do not count as versions; sparse tensors
    cannot be compared.
    """
    if version != _version(tensor):
        return True
    return tensor.layout == torch.strided and not torch.equal(tensor, values)


def _version(tensor: torch.Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Restore torch's global generator, from which a forward may draw.

    Each block draws other numbers, as each call of the model does: what is random in a
    forward must differ from one to the next.
    """
    with torch.random.fork_rng(devices=[]):
        torch.rand(1 + next(_BLOCKS) % 64, **PLAIN)
        yield
