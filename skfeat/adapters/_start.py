"""Read the part of a torch model that follows a module, and run what is before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from skfeat.adapters._read import (
    as_rows,
    check_outputs,
    evaluating,
    frozen_model,
    module_of,
    parts_of,
)
from skfeat.adapters._torch_graph import read_graph
from skfeat.adapters._torch_modules import Operations, module_chain
from skfeat.adapters._torch_ops import unwrapped
from skfeat.adapters._torch_trace import trace_from
from skfeat.adapters._wrappers import without_wrappers
from skfeat.chain import Chain
from skfeat.utils._checks import listed
from skfeat.utils._torch import without_autocast

# Images take far more memory than rows: the maps of each layer.
_BATCH_SIZE = 256
# Rows of the model's input from which its part is read: a second run of others shows
# what else depends on the input.
_EXAMPLES = (slice(0, 2), slice(2, 5))


class Fed(NamedTuple):
    """What a model computes for some inputs.

    Attributes
    ----------
    rows : ndarray of shape (n, d)
        What the module is fed where the part starts.
    outputs : ndarray of shape (n, n_outputs)
        What the model returns.
    """

    rows: np.ndarray
    outputs: np.ndarray


def run_from(model: Any, start: str, X: Any) -> Fed:
    """Run a model as it is, and note what one of its modules is fed.

    Parameters
    ----------
    model : torch.nn.Module or skorch net
        Also inside a Pipeline, a search or a classifier with a threshold.
    start : str
        Name of the module, as in ``model.named_modules()``.
    X : ndarray of shape (n, ...) or dict of str to such arrays
        The argument of the model, or several by name. Floats are cast to the dtype of
        the model; integers too, unless it has an embedding.

    Raises
    ------
    TypeError
        If the model is none of torch, or does not return a row for each sample.
    ValueError
        If there is no such module, it does not run exactly once, or is not fed rows.
    """
    root, module = _found(model, start)
    rows, outputs = [], []
    seen: list[Any] = []

    def note(_, args, kwargs):
        # A copy, as later modules may work in place.
        seen.append(first_tensor((*args, *kwargs.values())).detach().clone())

    with evaluating(root), torch.no_grad(), without_autocast():
        for n, args, kwargs in _batches(root, X):
            seen.clear()
            handle = module.register_forward_pre_hook(note, with_kwargs=True)
            try:
                output = root(*args, **kwargs)
            finally:
                handle.remove()
            rows.append(_rows_fed(root, start, seen, n))
            parts = [as_rows(part, n) for part in parts_of(output)]
            outputs.append(np.concatenate(parts, axis=1))
    return Fed(np.concatenate(rows), np.concatenate(outputs))


def read_chain_from(model: Any, start: str, X: Any, fed: Fed) -> Chain:
    """Read what follows a module as a chain, and compare it with the model.

    What is before the module runs as it is, on some rows, and is not read.

    Parameters
    ----------
    model, start, X
        As :func:`run_from` takes them.
    fed : Fed
        What it returned for X.

    Raises
    ------
    TypeError
        If what follows is not a chain of supported layers, or also depends on the input
        in another way than through what the module is fed.
    ValueError
        If the chain does not compute what the model does.
    """
    root, module = _found(model, start)
    with frozen_model(root), torch.no_grad():
        examples = [_first_batch(root, X, part) for part in _EXAMPLES]
        traced = trace_from(root, module, start, [one for one in examples if one])
        operations = Operations(*read_graph(root, traced), traced.random)
        chain = module_chain(root, fed.rows.shape[1], operations)
    if not chain.hidden:
        raise ValueError(
            f"start={start!r} leaves no hidden layer to unwrap; what follows needs at "
            "least one: a Linear followed by an activation, before the last Linear."
        )
    if chain.n_features_in != fed.rows.shape[1]:
        raise ValueError(
            f"what follows start={start!r} takes {chain.n_features_in} inputs, but the "
            f"module is fed {fed.rows.shape[1]}."
        )
    rows = fed.rows[:256].astype(chain.dtype, copy=False)
    check_outputs(chain, root, fed.outputs[:256], chain.forward(rows))
    return chain


def last_linear(model: Any) -> int:
    """Return the outputs of the last linear module, 0 if there is none."""
    modules = module_of(without_wrappers(model).network).modules()
    found = [module for module in modules if isinstance(module, nn.Linear)]
    return found[-1].out_features if found else 0


def first_tensor(values: Any) -> torch.Tensor:
    """Return the first tensor of the arguments of a module."""
    found = (value for value in values if isinstance(value, torch.Tensor))
    return next(found, torch.empty(0))


def _found(model: Any, start: str) -> tuple[nn.Module, nn.Module]:
    model = without_wrappers(model).network
    if not isinstance(model, nn.Module) and not hasattr(model, "module"):
        raise TypeError(
            f"start={start!r} names a module of a torch model; a "
            f"{type(model).__name__} has none."
        )
    root = module_of(model)
    named = dict(root.named_modules())
    if not start or start not in named:
        near = get_close_matches(start, named, n=3, cutoff=0.5)
        near = near or [n for n, m in named.items() if isinstance(m, nn.Linear)][:3]
        raise ValueError(
            f"start must be the name of a module of {type(root).__name__}. Got "
            f"{start!r} instead"
            + (f"; did you mean {listed(map(repr, near), 'or')}?" if near else ".")
        )
    return root, unwrapped(named[start])


def _rows_fed(root: nn.Module, start: str, seen: list, n: int) -> np.ndarray:
    if len(seen) != 1:
        times = f"{len(seen)} times" if seen else "not at all"
        raise ValueError(
            f"start={start!r} must run once in a forward, it runs {times}."
        )
    tensor = seen[0]
    if tensor.ndim != 2 or len(tensor) != n or not tensor.is_floating_point():
        linear = [k for k, m in root.named_modules() if isinstance(m, nn.Linear)]
        raise ValueError(
            f"start={start!r} must be fed a row of numbers for each of {n} samples; it "
            f"is fed {tensor.dtype} of shape {tuple(tensor.shape)}"
            + (
                f" (linear modules: {listed(map(repr, linear[:6]))})."
                if linear
                else "."
            )
        )
    dtype = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    return tensor.to("cpu", dtype).numpy()


def _batches(root: nn.Module, X: Any) -> Iterator[tuple[int, tuple, dict]]:
    """Yield the number of samples of each batch, and the arguments of the model."""
    n, arguments = _n_samples(X), _arguments_of(root)
    for begin in range(0, n or 1, _BATCH_SIZE):
        part = slice(begin, begin + _BATCH_SIZE)
        yield min(n - begin, _BATCH_SIZE), *arguments(X, part)


def _first_batch(root: nn.Module, X: Any, part: slice) -> tuple[tuple, dict] | None:
    """Return the arguments for a few samples; None where there are none."""
    return _arguments_of(root)(X, part) if _n_samples(X) > part.start else None


def _n_samples(X: Any) -> int:
    return len(next(iter(X.values()))) if isinstance(X, Mapping) else len(X)


def _arguments_of(root: nn.Module) -> Callable[[Any, slice], tuple[tuple, dict]]:
    """Return what makes the arguments of a model for some samples."""
    floats = (p for p in root.parameters() if p.is_floating_point())
    like = next(floats, torch.empty(0))
    embeds = any(
        isinstance(module, nn.Embedding | nn.EmbeddingBag) for module in root.modules()
    )

    def argument(rows):
        # A copy: torch warns about read-only arrays and a model may write on it.
        tensor = torch.from_numpy(np.array(rows, order="C"))
        is_number = tensor.is_floating_point() or not embeds
        return tensor.to(like.device, like.dtype if is_number else tensor.dtype)

    def arguments(X, part):
        if isinstance(X, Mapping):
            return (), {str(name): argument(array[part]) for name, array in X.items()}
        return (argument(X[part]),), {}

    return arguments
