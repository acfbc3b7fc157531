"""Running a model on one batch and picking the rows of some modules out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from skfeat.adapters._torch_ops import unwrapped
from skfeat.capture._hooks import run_hooked, tensor_of
from skfeat.capture._tokens import NOWHERE, Tokens
from skfeat.utils._checks import check_flag, is_int

_DTYPES = {
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
}
_SPECIAL = ("bos", "eos", "pad", "sep", "cls")

# What modules raise when they are given what they do not take; whatever else a forward
# raises, an interruption or want of memory, is not about the batch.
_REFUSALS: tuple[type[Exception], ...] = (
    *(RuntimeError, IndexError, TypeError, ValueError, AttributeError),
    *(NotImplementedError, AssertionError, KeyError),
)


class Rows(NamedTuple):
    """What one batch gives.

    Attributes
    ----------
    activations : dict of str to ndarray of shape (n, d)
    token_ids : ndarray of shape (n,) or None
    sequence, position : ndarray of shape (n,)
        Sequences are counted within the batch.
    n_sequences : int
        Sequences of the batch, those without a row to keep among them.
    """

    activations: dict[str, np.ndarray]
    token_ids: np.ndarray | None
    sequence: np.ndarray
    position: np.ndarray
    n_sequences: int


class ActivationReader:
    """Runs a model on batches; see `skfeat.capture.capture` for the parameters."""

    def __init__(
        self, model, modules, *, what, index, dtype, keep_padding, special_tokens
    ):
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"model must be a torch.nn.Module instance. Got {model!r} instead."
            )
        self.model = unwrapped(model)
        self.modules = _check_modules(self.model, modules)
        if what not in ("input", "output"):
            raise ValueError(f"what must be 'input' or 'output'. Got {what!r} instead.")
        self.what = what
        if index is not None and not (is_int(index) and index >= 0):
            raise ValueError(
                f"index must be None or a non-negative int. Got {index!r} instead."
            )
        self.index = None if index is None else int(index)
        self.dtype = _check_dtype(dtype)
        self.keep_padding = check_flag("keep_padding", keep_padding)
        self.special_tokens = _check_special_tokens(self.model, special_tokens)
        self.must_have_tokens = bool(self.special_tokens) and not isinstance(
            special_tokens, str
        )

    def settings(self) -> dict[str, Any]:
        """Return what makes two captures of one model the same."""
        return {
            "modules": self.modules,
            "what": self.what,
            "index": self.index,
            "dtype": self.dtype,
            "keep_padding": self.keep_padding,
            "special_tokens": self.special_tokens,
        }

    def tolerance(self) -> float:
        """Return by how much rows may differ, relatively, if they are computed again.

        Other devices and numbers of threads round otherwise, some to 10 bits.
        """
        dtypes = {weight.dtype for weight in self.model.parameters()}
        floating = {_DTYPES[self.dtype], *(d for d in dtypes if d.is_floating_point)}
        return max(1e-3, max(torch.finfo(dtype).eps for dtype in floating) ** 0.5)

    def read(self, batch: Any, number: int) -> Rows:
        """Run the model on a batch, the `number`-th, and return the rows to keep."""
        args, kwargs, tokens = self.prepare(batch, number)
        found = self._run(args, kwargs, tokens)
        shape = tokens.shape_of_rows(found)
        keep = self.kept(tokens, shape)
        sequence, *positions = np.nonzero(keep)
        position = positions[0] if positions else np.zeros_like(sequence)
        return Rows(
            {
                name: self.rows_of(name, tensor, keep, number)
                for name, tensor in found.items()
            },
            None if tokens.ids is None else tokens.ids[keep].astype(np.int32),
            sequence.astype(np.int64),
            position.astype(np.int32),
            shape[0],
        )

    def prepare(self, batch: Any, number: int) -> tuple[tuple, dict, Tokens]:
        """Return what the model is called with for a batch, and its tokens."""
        args, kwargs = self._arguments(batch, number)
        tokens = Tokens(self.model, args, kwargs, number)
        if self.must_have_tokens and tokens.ids is None:
            raise ValueError(
                f"special_tokens names tokens, but batch {number} has no token ids: "
                "an integer tensor called input_ids or passed first."
            )
        return args, kwargs, tokens

    def kept(self, tokens: Tokens, shape: tuple[int, ...]) -> np.ndarray:
        """Mark the rows to keep: neither padding nor special tokens."""
        keep = np.ones(shape, dtype=bool)
        if tokens.mask is not None and not self.keep_padding:
            keep &= tokens.mask
        if tokens.ids is not None:
            keep &= ~np.isin(tokens.ids, self.special_tokens)
        return keep

    def _arguments(self, batch: Any, number: int) -> tuple[tuple, dict]:
        """Bring copies of a batch to the model's device: a model may write on them."""
        # Weights that were moved out of memory are nowhere, "meta".
        weights = (
            weight
            for weight in self.model.parameters()
            if weight.is_floating_point() and weight.device.type != "meta"
        )
        like = next(weights, torch.empty(0))

        def argument(value):
            if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
                tensor = torch.from_numpy(np.array(value))
                dtype = like.dtype if tensor.is_floating_point() else tensor.dtype
                return tensor.to(like.device, dtype)
            if isinstance(value, torch.Tensor):
                return value.detach().to(like.device, copy=True)
            return value

        args: tuple = ()
        kwargs: dict = {}
        if isinstance(batch, Mapping):
            kwargs = {name: argument(value) for name, value in batch.items()}
        elif isinstance(batch, tuple | list):
            args = tuple(argument(value) for value in batch)
        else:
            args = (argument(batch),)
        if not any(isinstance(v, torch.Tensor) for v in (*args, *kwargs.values())):
            raise TypeError(
                "batches must yield tensors or arrays, or tuples, lists or dicts that "
                f"hold some. Batch {number} is a {type(batch).__name__} without any."
            )
        return args, kwargs

    def _run(self, args, kwargs, tokens) -> dict[str, torch.Tensor]:
        """Run the model with hooks that last as long as the call."""
        found: dict[str, list] = {name: [] for name in self.modules}
        hooks = [
            (name, self.what, self.hook(tensors.append))
            for name, tensors in found.items()
        ]
        self.run(hooks, args, kwargs, tokens)
        return {name: self.only(name, tensors) for name, tensors in found.items()}

    def run(self, hooks, args: tuple, kwargs: dict, tokens: Tokens) -> Any:
        """Run the model with hooks; of a batch that it refuses, say which it is."""
        try:
            return run_hooked(self.model, hooks, args, kwargs)
        except Exception as error:
            if type(error) not in _REFUSALS:
                raise
            raise ValueError(tokens.refused(self.model, error)) from error

    def hook(self, take: Callable[[torch.Tensor | None], Any]) -> Callable:
        """Return a hook that hands over a copy of the tensor of a module."""

        def read(module, args, kwargs, output=None):
            given = output if self.what == "output" else (*args, *kwargs.values())
            tensor = tensor_of(given, self.index)
            # A later module may work in place.
            take(None if tensor is None else tensor.detach().clone())

        return read

    def only(self, name: str, tensors: list) -> torch.Tensor:
        """Return the one tensor that a module's hook has handed over."""
        if len(tensors) != 1:
            times = f"{len(tensors)} times" if tensors else "not at all"
            raise ValueError(
                f"modules must each run once in a forward pass; {name!r} runs {times}."
            )
        if tensors[0] is None:
            entry = "" if self.index is None else f" at index {self.index}"
            raise ValueError(f"the {self.what} of {name!r} holds no tensor{entry}.")
        if not tensors[0].is_floating_point() or tensors[0].ndim < 2:
            raise ValueError(
                f"the {self.what} of {name!r} must be a tensor of real numbers of two "
                f"or three dimensions. Got {tensors[0].dtype} of shape "
                f"{tuple(tensors[0].shape)}."
            )
        if tensors[0].is_meta:
            raise ValueError(NOWHERE)
        return tensors[0]

    def rows_of(self, name, tensor, keep, number, dtype=None) -> np.ndarray:
        """Return the rows of a tensor to keep, in a dtype or that of the reader."""
        dtype = self.dtype if dtype is None else dtype
        rows = tensor.reshape(-1, tensor.shape[-1])
        if not keep.all():
            rows = rows[torch.from_numpy(keep.ravel()).to(rows.device)]
        array = rows.to(_DTYPES[dtype]).cpu().numpy()
        if not np.isfinite(array).all():
            raise ValueError(
                f"the {self.what} of {name!r} for batch {number} has values that are "
                f"not finite in dtype={dtype!r}."
            )
        return array


def fingerprint(model: nn.Module) -> str:
    """Digest the class, the parameters and the buffers of a model."""
    digest = blake2b(type(model).__qualname__.encode(), digest_size=16)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        if not tensor.is_meta and tensor.layout == torch.strided:
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_batches(batches: Any) -> None:
    """Raise TypeError unless there may be several batches."""
    if isinstance(batches, torch.Tensor | np.ndarray | Mapping | str) or not isinstance(
        batches, Iterable
    ):
        raise TypeError(
            f"batches must be an iterable of batches, such as a list of one. Got a "
            f"{type(batches).__name__} instead."
        )


def _check_modules(model: nn.Module, modules: Any) -> list[str]:
    names = [modules] if isinstance(modules, str) else modules
    names = list(names) if isinstance(names, Iterable) else [names]
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"modules must be the name of a module or names. Got {modules!r} instead."
        )
    known = [name for name, _ in model.named_modules(remove_duplicate=False)]
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=3, cutoff=0.5)
            hint = " or ".join(map(repr, near))
            raise ValueError(
                f"modules names {name!r}, which {type(model).__name__} does not have"
                + (
                    f"; did you mean {hint}?"
                    if near
                    else "; see model.named_modules()."
                )
            )
    if len(set(names)) < len(names):
        raise ValueError(f"modules names a module twice: {names!r}.")
    return names


def _check_dtype(dtype: Any) -> str:
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = ""
    if dtype is None or name not in _DTYPES:
        raise ValueError(
            f"dtype must be one of {', '.join(map(repr, _DTYPES))}. Got {dtype!r} "
            "instead."
        )
    return name


def _check_special_tokens(model: nn.Module, special_tokens: Any) -> list[int]:
    if special_tokens is None:
        return []
    if isinstance(special_tokens, str) and special_tokens == "auto":
        config = getattr(model, "config", None)
        found: list[Any] = []
        for name in _SPECIAL:
            value = getattr(config, f"{name}_token_id", None)
            found += value if isinstance(value, list | tuple) else [value]
        return sorted({int(token) for token in found if isinstance(token, int)})
    is_text = isinstance(special_tokens, str | bytes)
    tokens: list[Any] = (
        list(special_tokens)
        if isinstance(special_tokens, Iterable) and not is_text
        else [None]
    )
    if not all(is_int(token) for token in tokens):
        raise ValueError(
            f"special_tokens must be 'auto', None or a sequence of ints. Got "
            f"{special_tokens!r} instead."
        )
    return sorted({int(token) for token in tokens})
