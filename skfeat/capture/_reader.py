"""Running a model on one batch and reading the rows of some of its modules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from skfeat.adapters._torch_ops import unwrapped
from skfeat.capture._hooks import find_tensor, run_hooked
from skfeat.capture._locate import Located, Locator, Seen
from skfeat.capture._maps import (
    check_drawn,
    check_layout,
    drawn_positions,
    located_maps,
    rows_of_maps,
)
from skfeat.capture._options import (
    DTYPES,
    check_dtype,
    check_modules,
    check_special_tokens,
)
from skfeat.capture._streams import Stream, with_decoder_tokens
from skfeat.capture._tokens import WEIGHTS_NOT_IN_MEMORY, Edit, Tokens
from skfeat.utils._checks import check_flag, is_int

# Errors that modules raise for arguments that they do not accept. Any other error of a
# forward pass, such as an interruption or lack of memory, is not about the batch.
_ERRORS_OF_ARGUMENTS = {
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
}


class CapturedBatch(NamedTuple):
    """The kept rows of one batch.

    Attributes
    ----------
    activations : dict of str to ndarray of shape (n, d)
    token_ids : ndarray of shape (n,) or None
    sequence, position : ndarray of shape (n,)
        Sequences are counted within the batch.
    n_sequences : int
        Number of sequences in the batch, including those without a kept row.
    map_shape : tuple of int or None
        Sizes of a map, without its channels; None for rows of anything else.
    """

    activations: dict[str, np.ndarray]
    token_ids: np.ndarray | None
    sequence: np.ndarray
    position: np.ndarray
    n_sequences: int
    map_shape: tuple[int, ...] | None = None


class ActivationReader:
    """Runs a model on batches; see `skfeat.capture.capture` for the parameters."""

    def __init__(
        self,
        model: nn.Module,
        modules: str | Iterable[str],
        *,
        what: str,
        index: int | None,
        dtype: Any,
        keep_padding: bool,
        special_tokens: Any,
        layout: str = "auto",
        n_positions: int | None = None,
        random_state: int = 0,
    ):
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"model must be a torch.nn.Module instance. Got {model!r} instead."
            )
        self.model = unwrapped(model)
        self.modules = check_modules(self.model, modules)
        if what not in ("input", "output"):
            raise ValueError(f"what must be 'input' or 'output'. Got {what!r} instead.")
        self.what = what
        if index is not None and not (is_int(index) and index >= 0):
            raise ValueError(
                f"index must be None or an int of at least 0. Got {index!r} instead."
            )
        self.index = None if index is None else int(index)
        self.dtype = check_dtype(dtype)
        self.keep_padding = check_flag("keep_padding", keep_padding)
        self.special_tokens = check_special_tokens(self.model, special_tokens)
        self.layout = check_layout(layout)
        self.n_positions, self.seed = check_drawn(n_positions, random_state)
        self._check_states()
        self._locator = Locator(self.model)
        # Tokens that the user lists can be left out only where batches have tokens.
        self.must_have_tokens = bool(self.special_tokens) and not isinstance(
            special_tokens, str
        )

    def _check_states(self) -> None:
        """Refuse the last states of a recurrent layer, which are no rows of tokens."""
        for name in self.modules:
            is_recurrent = isinstance(self.model.get_submodule(name), nn.RNNBase)
            if is_recurrent and self.what == "output" and self.index:
                raise ValueError(
                    f"index must be None or 0 for {name!r}, whose other outputs are "
                    f"its last states. Got {self.index} instead."
                )

    def settings(self) -> dict[str, Any]:
        """Return the settings that one capture of a model must keep throughout."""
        return {
            "modules": self.modules,
            "what": self.what,
            "index": self.index,
            "dtype": self.dtype,
            "keep_padding": self.keep_padding,
            "special_tokens": self.special_tokens,
            "layout": self.layout,
            "n_positions": self.n_positions,
            "random_state": self.seed,
        }

    def tolerance(self) -> float:
        """Return how far rows may differ, relatively, when they are computed again.

        Rounding depends on the device and the number of threads; some devices round to
        10 bits.
        """
        dtypes = {weight.dtype for weight in self.model.parameters()}
        floating = {DTYPES[self.dtype], *(d for d in dtypes if d.is_floating_point)}
        return max(1e-3, max(torch.finfo(dtype).eps for dtype in floating) ** 0.5)

    def read(self, batch: Any, number: int) -> CapturedBatch:
        """Run the model on a batch, the `number`-th, and return the rows to keep."""
        args, kwargs, tokens = self.prepare(batch, number)
        seen = self._seen(args, kwargs, tokens)
        located = self.locate(seen, tokens, batch)
        keep = self.kept(located, number)
        sequence, *positions = np.nonzero(keep)
        position = positions[0] if positions else np.zeros_like(sequence)
        ids = located.ids
        return CapturedBatch(
            activations={
                name: self.rows_of(
                    name, one.tensor, located.numbers(name, keep), number
                )
                for name, one in seen.items()
            },
            token_ids=None if ids is None else ids[keep].astype(np.int32),
            sequence=sequence.astype(np.int64),
            position=position.astype(np.int32),
            n_sequences=located.shape[0],
            map_shape=next(iter(seen.values())).map_shape,
        )

    def prepare(self, batch: Any, number: int) -> tuple[tuple, dict, Tokens]:
        """Return the arguments of the model for a batch, and the batch's tokens."""
        args, kwargs = self._arguments(batch, number)
        kwargs = with_decoder_tokens(self.model, args, kwargs)
        tokens = Tokens(self.model, args, kwargs, number)
        if self.must_have_tokens and tokens.ids is None:
            raise ValueError(
                f"special_tokens lists tokens, but batch {number} has no token ids: "
                "an integer tensor called input_ids or passed first."
            )
        return args, kwargs, tokens

    def locate(self, seen: dict[str, Seen], tokens: Tokens, batch: Any) -> Located:
        """Return the sequence and position of each row that hooks saw for a batch."""
        if any(one.map_shape is not None for one in seen.values()):
            return located_maps(seen, tokens)

        def rerun(edit: Edit) -> dict[str, Seen]:
            found, hooks = self._hooks()
            self.rerun(batch, tokens.number, edit, hooks)
            return {name: self.only(name, one) for name, one in found.items()}

        return self._locator.locate(seen, tokens, rerun)

    def kept(self, located: Located, number: int) -> np.ndarray:
        """Return a mask of the rows to keep, without padding and special tokens."""
        keep, mask = located.present(), located.stream.mask
        if mask is not None and not self.keep_padding and len(located.shape) == 2:
            if mask.shape == keep.shape:
                keep &= mask
            elif not mask.all():
                raise ValueError(
                    f"the attention mask of batch {number} must have the shape of the "
                    f"rows, {keep.shape}, to tell those of padding. Got {mask.shape} "
                    "instead; keep_padding=True keeps all rows."
                )
        if located.ids is not None:
            keep &= ~np.isin(located.ids, self.special_tokens)
        if self.n_positions is not None and keep.ndim == 2:
            keep = drawn_positions(keep, self.n_positions, self.seed, number)
        return keep

    def kept_tokens(self, stream: Stream) -> np.ndarray:
        """Return where the tokens of a stream are neither padding nor special."""
        assert stream.ids is not None
        keep = ~np.isin(stream.ids, self.special_tokens)
        return keep if stream.mask is None else keep & stream.mask

    def rerun(self, batch: Any, number: int, edit: Edit, hooks: Any) -> Any:
        """Run the model on a batch with changed arguments, and return its output."""
        # From a new copy: the model may have written to its arguments.
        args, kwargs, copied = self.prepare(batch, number)
        args = tuple(edit(value, copied) for value in args)
        kwargs = {name: edit(value, copied) for name, value in kwargs.items()}
        return self.run(hooks, args, kwargs, copied)

    def _arguments(self, batch: Any, number: int) -> tuple[tuple, dict]:
        """Copy a batch to the model's device; the model may write to the copy."""
        # Weights that were moved out of memory have the device "meta".
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
                if value.is_meta:
                    raise ValueError(
                        "batches must hold tensors with values. Batch "
                        f"{number} has one on the device 'meta'."
                    )
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

    def _seen(self, args: tuple, kwargs: dict, tokens: Tokens) -> dict[str, Seen]:
        """Run the model and return what the hook of each module saw."""
        found, hooks = self._hooks()
        self.run(hooks, args, kwargs, tokens)
        seen = {name: self.only(name, one) for name, one in found.items()}
        has_tokens = tokens.ids is not None
        return {
            name: rows_of_maps(f"{self.what} of {name!r}", one, self.layout, has_tokens)
            for name, one in seen.items()
        }

    def _hooks(self) -> tuple[dict[str, list], list[tuple[str, str, Callable]]]:
        """Return lists by module, and the hooks that fill them."""
        found: dict[str, list] = {name: [] for name in self.modules}
        hooks = [
            (name, self.what, self.hook(seen.append)) for name, seen in found.items()
        ]
        return found, hooks

    def run(
        self,
        hooks: Iterable[tuple[str, str, Callable]],
        args: tuple,
        kwargs: dict,
        tokens: Tokens,
    ) -> Any:
        """Run the model with hooks.

        Raises
        ------
        ValueError
            If the model does not accept the batch; the message names the batch.
        """
        try:
            with self._locator.watch():
                return run_hooked(self.model, hooks, args, kwargs)
        except Exception as error:
            if type(error) not in _ERRORS_OF_ARGUMENTS:
                raise
            message = tokens.message_of_failed_run(self.model, error)
            raise ValueError(message) from error

    def hook(self, take: Callable[[Seen | None], Any]) -> Callable:
        """Return a hook that calls `take` with a copy of a module's tensor."""

        def read(module, args, kwargs, output=None):
            value = output if self.what == "output" else (*args, *kwargs.values())
            tensor, packed = find_tensor(value, self.index)
            # A copy, as a later module may work in place.
            take(None if tensor is None else Seen(tensor.detach().clone(), packed))

        return read

    def only(self, name: str, seen: list[Seen | None]) -> Seen:
        """Return the one tensor that the hook of a module has seen.

        Raises
        ------
        ValueError
            If there is not exactly one, or it does not hold rows of real numbers.
        """
        if len(seen) != 1:
            times = f"{len(seen)} times" if seen else "not at all"
            raise ValueError(
                f"modules must each run once in a forward pass; {name!r} runs {times}."
            )
        if seen[0] is None:
            entry = "" if self.index is None else f" at index {self.index}"
            raise ValueError(f"the {self.what} of {name!r} holds no tensor{entry}.")
        tensor = seen[0].tensor
        if tensor.is_nested:
            raise ValueError(
                f"the {self.what} of {name!r} is a nested tensor, whose rows have no "
                "common length: make the model with enable_nested_tensor=False."
            )
        if not tensor.is_floating_point() or tensor.ndim < 2:
            raise ValueError(
                f"the {self.what} of {name!r} must be a tensor of real numbers of two "
                f"or three dimensions. Got {tensor.dtype} of shape "
                f"{tuple(tensor.shape)} instead."
            )
        if tensor.is_meta:
            raise ValueError(WEIGHTS_NOT_IN_MEMORY)
        return seen[0]

    def rows_of(
        self,
        name: str,
        tensor: torch.Tensor,
        numbers: np.ndarray,
        number: int,
        dtype: str | None = None,
    ) -> np.ndarray:
        """Return some rows of a module's tensor.

        Parameters
        ----------
        name : str
            Name of the module, for messages.
        tensor : Tensor of shape (..., d)
        numbers : ndarray of int
            The numbers of the rows to return.
        number : int
            Number of the batch, for messages.
        dtype : str, default=None
            The dtype of the result; None takes that of the reader.
        """
        dtype = self.dtype if dtype is None else dtype
        rows = tensor.reshape(-1, tensor.shape[-1])
        if not np.array_equal(numbers, np.arange(len(rows))):
            rows = rows[torch.from_numpy(numbers).to(rows.device)]
        array = rows.to(DTYPES[dtype]).cpu().numpy()
        if not np.isfinite(array).all():
            raise ValueError(
                f"the {self.what} of {name!r} for batch {number} has values that are "
                f"not finite in dtype={dtype!r}."
            )
        return array


def fingerprint(model: nn.Module) -> str:
    """Return a digest of the class, the parameters and the buffers of a model."""
    digest = blake2b(type(model).__qualname__.encode(), digest_size=16)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        if not tensor.is_meta and tensor.layout == torch.strided:
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()
