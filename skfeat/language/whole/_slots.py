"""A copy of a language model in which MLPs can be replaced, and what passes them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from skfeat.capture._options import check_batches
from skfeat.capture._reader import ActivationReader
from skfeat.capture._tokens import WEIGHTS_NOT_IN_MEMORY
from skfeat.language._predictions import Predictions
from skfeat.language.whole._goal import Goal, goal_of

# Last parts of the names that MLPs have in transformers.
_MLP_NAMES = ("mlp", "ffn", "feed_forward")


def find_mlps(model: nn.Module) -> list[str]:
    """Return the names of a model's MLPs, by what transformers calls them.

    Raises
    ------
    ValueError
        If there is none.
    """
    found = [
        name
        for name, _ in model.named_modules()
        if name.rpartition(".")[2].lower() in _MLP_NAMES
    ]
    outermost = [
        name
        for name in found
        if not any(name.startswith(f"{other}.") for other in found)
    ]
    if not outermost:
        raise ValueError(
            f"modules=None needs modules called {', '.join(_MLP_NAMES)}, and "
            f"{type(model).__name__} has none; give the names of its MLPs."
        )
    return outermost


def replace_module(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put a module in the place of another one."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, new)


class Passed(Exception):
    """Ends a run of the model at the slot that it was to reach."""


@dataclass
class Use:
    """How a slot computes, and what has passed it.

    Attributes
    ----------
    function : callable or None
        Maps rows (n, d) to rows (n, d_out); None: the MLP itself computes.
    given : Tensor or None
        What the function sees in place of what the model computes.
    records : bool
        Whether `seen`, what was read, and `made`, what was computed, are kept.
    order : list of str or None
        Gets the names of slots as they run.
    ends : bool
        Whether the run of the model ends here.
    """

    function: Callable | None = None
    given: Any = None
    records: bool = False
    seen: Any = None
    made: Any = None
    order: list[str] | None = None
    ends: bool = False


class Slot(nn.Module):
    """The place of an MLP: computes its output by the MLP or by a function.

    Parameters
    ----------
    original : torch.nn.Module
    name : str
    """

    def __init__(self, original: nn.Module, name: str):
        super().__init__()
        self.original, self.name = original, name
        self.use = Use()

    def forward(self, *args, **kwargs):
        """Compute the output; note what is read and computed where that is wanted."""
        tensors = [
            value for value in (*args, *kwargs.values()) if torch.is_tensor(value)
        ]
        if not tensors:
            raise ValueError(f"module {self.name!r} is called without a tensor.")
        x = tensors[0]
        use = self.use
        if use.order is not None:
            use.order.append(self.name)
        if use.function is None:
            output = self.original(*args, **kwargs)
            if not torch.is_tensor(output) or output.shape[:-1] != x.shape[:-1]:
                raise ValueError(
                    f"module {self.name!r} must return one tensor with a row for each "
                    f"row that it takes, as an MLP does. Got {type(output).__name__}."
                )
        else:
            rows = x if use.given is None else use.given
            made = use.function(rows.reshape(-1, rows.shape[-1]).float())
            output = made.reshape(*x.shape[:-1], made.shape[-1]).to(x.dtype)
        if use.records:
            # Copies, as a later module may work in place.
            use.seen, use.made = x.clone(), output.clone()
        if use.ends:
            raise Passed
        return output


class SlottedModel:
    """A private copy of a model whose MLPs lie in slots; it is never trained.

    Parameters
    ----------
    model : torch.nn.Module
        Copied, and left as it is.
    modules : str or sequence of str
        Names of the MLPs.
    device : torch.device or None
        Where the copy runs; None: where the model is.
    """

    def __init__(self, model: nn.Module, modules: Any, device=None):
        checked = _reader(model, modules)
        self.names = checked.modules
        _check_replaceable(checked.model, self.names)
        own = copy.deepcopy(checked.model)
        for module in own.modules():
            module.training = False
        own.requires_grad_(False)
        self.model = own if device is None else own.to(device)
        self.slots = {name: Slot(own.get_submodule(name), name) for name in self.names}
        for name, slot in self.slots.items():
            replace_module(own, name, slot)
        self.reader = _reader(own, self.names)
        self.predictions = Predictions(self.reader)
        self.goal: Goal | None = None  # known once it has run

    @contextmanager
    def using(
        self,
        functions: Mapping[str, Callable],
        given: Mapping[str, Any] | None = None,
        *,
        records: bool = False,
    ) -> Iterator[dict[str, Use]]:
        """Replace MLPs by functions of rows (n, d) within the context.

        It yields what passes each slot, by its name.

        Parameters
        ----------
        functions : dict of str to callable
        given : dict of str to Tensor, default=None
            Inputs that the functions see in place of those that the model computes.
        records : bool, default=False
            Whether slots keep what they read and compute.
        """
        try:
            for name, slot in self.slots.items():
                rows = None if given is None else given[name]
                slot.use = Use(functions.get(name), rows, records)
            yield {name: slot.use for name, slot in self.slots.items()}
        finally:
            for slot in self.slots.values():
                slot.use = Use()

    def batch(self, batch: Any, number: int) -> Batch:
        """Prepare a batch; the model runs on it later."""
        return Batch(self, batch, number)


def _check_replaceable(model: nn.Module, names: list[str]) -> None:
    """Raise ValueError unless each module can be replaced beside the others."""
    for name in names:
        module = model.get_submodule(name)
        inside = [other for other in names if other.startswith(f"{name}.")]
        if module is model:
            wrong = "is the whole model"
        elif type(module).forward is nn.Module.forward:
            wrong = f"is a {type(module).__name__}, which runs not at all"
        elif inside:
            wrong = f"holds {inside[0]!r}"
        else:
            continue
        raise ValueError(
            f"modules must be MLPs inside the model, none inside another; {name!r} "
            f"{wrong}."
        )


def _reader(model: nn.Module, modules: Any) -> ActivationReader:
    """Return what checks a model and the names of its modules, and reads batches."""
    return ActivationReader(
        model,
        modules,
        what="input",
        index=None,
        dtype="float32",
        keep_padding=False,
        special_tokens="auto",
    )


class Batch:
    """One batch of tokens, on which a slotted model runs.

    Attributes
    ----------
    ids : ndarray of int, shape (n_sequences, length)
    present : bool Tensor of shape (n_sequences, length)
        False at padding.
    """

    def __init__(self, slotted: SlottedModel, batch: Any, number: int):
        self.slotted, self.raw, self.number = slotted, batch, number
        self.args, self.kwargs, self.tokens = slotted.reader.prepare(batch, number)
        texts = [
            stream
            for stream in self.tokens.streams
            if stream.ids is not None and stream.ids.ndim == 2
        ]
        if not texts:
            raise ValueError(
                f"batch {number} has no token ids: an integer tensor of shape "
                "(n_sequences, length) called input_ids or passed first."
            )
        named = [stream for stream in texts if stream.name == "input_ids"]
        self.stream = (named or texts)[0]
        assert self.stream.ids is not None
        self.ids = self.stream.ids
        mask = self.stream.mask
        present = np.ones(self.ids.shape, bool) if mask is None else mask
        self.present = torch.from_numpy(present)

    def check(self) -> None:
        """Run the model; raise ValueError unless it gives what can be kept of it."""
        slotted = self.slotted
        order: list[str] = []
        for slot in slotted.slots.values():
            slot.use.order = order
        try:
            with torch.no_grad():
                output = self._run()
        finally:
            for slot in slotted.slots.values():
                slot.use = Use()
        if sorted(order) != sorted(slotted.names):
            wrong = next(n for n in slotted.names if order.count(n) != 1)
            raise ValueError(
                f"modules must each run once in a forward pass; {wrong!r} runs "
                f"{order.count(wrong)} times."
            )
        slotted.names = order
        goal = goal_of(output)
        goal.check(output, self)
        if self.rows(goal.outputs(output, self)).isnan().any():
            raise ValueError(
                f"model must give numbers. What it gives for batch {self.number} "
                "holds nan."
            )

    def outputs(self) -> torch.Tensor:
        """Return what the model gives, as it is: logits or states.

        Returns
        -------
        Tensor of shape (n_sequences, length, n_tokens or d)
        """
        output = self._run()
        if self.slotted.goal is None:
            self.slotted.goal = goal_of(output)
        outputs = self.slotted.goal.outputs(output, self)
        if outputs.is_meta:
            raise ValueError(WEIGHTS_NOT_IN_MEMORY)
        return outputs

    def _run(self) -> Any:
        # A model may write to its arguments.
        args, kwargs = copy.deepcopy((self.args, self.kwargs))
        try:
            return self.slotted.model(*args, **kwargs)
        except (IndexError, RuntimeError, TypeError) as error:
            message = self.tokens.message_of_failed_run(self.slotted.model, error)
            raise ValueError(message) from error

    def rows(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the rows (n, d) of a tensor that are not those of padding."""
        return tensor[self.present.to(tensor.device)]

    def run_to(self, name: str) -> None:
        """Run the model up to a slot: what follows it is not needed."""
        self.slotted.slots[name].use.ends = True
        with suppress(Passed):
            self._run()

    def kept_tokens(self) -> np.ndarray:
        """Return where a token is neither padding nor a special one."""
        return self.slotted.reader.kept_tokens(self.stream)


def listed_batches(batches: Any) -> list[Any]:
    """Return batches as a list, which can be gone through several times.

    Raises
    ------
    TypeError
        If it is a single batch.
    ValueError
        If there is none.
    """
    check_batches(batches)
    found = list(batches)
    if not found:
        raise ValueError("batches must hold at least one batch. Got none instead.")
    return found
