"""Finding the sequence and the position that each row of a module belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from skfeat.capture._config import (
    is_encoder_decoder,
    is_transformers_model,
    reserved_tokens_of,
)
from skfeat.capture._layouts import Index, Order, layouts_of
from skfeat.capture._probe import (
    Change,
    Reorderings,
    Verdict,
    changes_of,
    edit_of,
    judge,
    rows_changed,
    unchanged,
)
from skfeat.capture._streams import Stream
from skfeat.capture._tokens import Edit, Tokens
from skfeat.utils._checks import listed

# Modules of torch that take the positions first, by default, or a single sequence.
_SEQUENTIAL = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)


class Seen(NamedTuple):
    """What a hook saw: a tensor, and the PackedSequence that holds it or None.

    Of maps, the tensor has the shape (n_samples, n_positions, n_channels), and
    `map_shape` the sizes of a map.
    """

    tensor: torch.Tensor
    packed: PackedSequence | None
    map_shape: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the rows."""
        return tuple(self.tensor.shape[:-1])


# Runs a batch with changed arguments, and returns what the modules' hooks see.
Rerun = Callable[[Edit], dict[str, Seen]]


@dataclass(frozen=True, eq=False)
class Located:
    """The places of the rows of some modules.

    Attributes
    ----------
    stream : Stream
        The argument whose sequences the rows belong to.
    shape : tuple of int
        (n_sequences, length), or (n_sequences,) where each row is a sequence.
    ids : ndarray of int of this shape, or None
        The token at each place.
    index : dict of str to ndarray of int of this shape, or None
        For each module the number of the row at each place, -1 where it has none.
        ``None`` means 0, 1, 2 and so on.
    """

    stream: Stream
    shape: tuple[int, ...]
    ids: np.ndarray | None
    index: dict[str, Index]

    def present(self) -> np.ndarray:
        """Return where every module has a row."""
        present = np.ones(self.shape, dtype=bool)
        for index in self.index.values():
            if index is not None:
                present &= index >= 0
        return present

    def numbers(self, name: str, keep: np.ndarray) -> np.ndarray:
        """Return the numbers of the rows of a module at the places to keep."""
        index = self.index[name]
        return np.flatnonzero(keep) if index is None else index[keep]


class Locator:
    """Finds the places of rows, and remembers how it read those of each module.

    Where the shape of a module's rows, or the arguments of the model, allow several
    readings, some tokens of the batch are changed and the model runs again: the rows
    that change are those of the changed sequence. `docs/language_models.md` says more.
    """

    def __init__(self, model: nn.Module):
        self.model = model
        # By module: the argument, the order and the shape that a batch has shown.
        self.known: dict[str, tuple[Any, str, tuple[int, ...]]] = {}
        self.reorders = False

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Note whether the first run of a model puts anything in another order."""
        if self.known or self.reorders or is_transformers_model(self.model):
            yield
            return
        with Reorderings() as reorderings:
            yield
        self.reorders = reorderings.found

    def locate(self, seen: dict[str, Seen], tokens: Tokens, rerun: Rerun) -> Located:
        """Return the places of the rows that hooks saw.

        Raises
        ------
        ValueError
            If they do not belong to positions of sequences of the batch, or the places
            cannot be told.
        """
        orders = {}
        probe = _Probe(self.model, seen, tokens, rerun)
        for name, one in seen.items():
            self._check_decoder_tokens(name, tokens)
            possible = _possible_orders(one, tokens)
            if not possible:
                raise ValueError(_message_of_shape(name, one, tokens))
            known = [order for order in possible if self._is_known(name, order)]
            if known:
                orders[name] = known[0]
                continue
            order = (
                possible[0]
                if self._is_plain(one, possible)
                else probe.choose(name, possible)
            )
            orders[name] = order
            self.known[name] = (order.stream.name, order.kind, order.shape)
        return _joined(orders, seen, tokens)

    def _is_known(self, name: str, order: Order) -> bool:
        """Whether rows of this module were in this order in an earlier batch.

        A batch of one sequence, or of sequences of one token, leaves open which axis
        counts which: what it shows holds for batches of this kind only.
        """
        stream, kind, shape = self.known.get(name, (None, "", ()))
        return (stream, kind) == (order.stream.name, order.kind) and all(
            was > 1 or now == was for was, now in zip(shape, order.shape, strict=True)
        )

    def _is_plain(self, seen: Seen, possible: list[Order]) -> bool:
        """Whether the shape alone tells the places of the rows."""
        order = possible[0]
        if len(possible) > 1 or not seen.tensor.numel():
            return len(possible) == 1
        if order.kind == "sequences first":
            return True
        if order.kind not in ("batch first", "one row each"):
            return False
        if not is_transformers_model(self.model):
            # Rows of numbers may come with the positions first, as `nn.LSTM` wants.
            is_open = order.ids is None or self.reorders
            modules = self.model.modules()
            is_sequential = any(isinstance(module, _SEQUENTIAL) for module in modules)
            if is_sequential or (is_open and order.kind == "batch first"):
                return False
        # Any axis as long as the sequences may be that of the positions.
        n, *length = order.shape
        axes = {seen.tensor.shape[-1], *([n] if n > 1 else [])}
        return length == [1] or not axes & set(length)

    def _check_decoder_tokens(self, name: str, tokens: Tokens) -> None:
        if not is_encoder_decoder(self.model):
            return
        if any(stream.is_decoded for stream in tokens.streams):
            return
        try:
            encoder = set(self.model.get_encoder().modules())  # type: ignore[operator]
        except (AttributeError, NotImplementedError):
            return
        if self.model.get_submodule(name) not in encoder:
            raise ValueError(
                f"module {name!r} holds rows of the decoder, whose tokens batch "
                f"{tokens.number} does not name: pass decoder_input_ids."
            )


class _Probe:
    """Changes sequences of a batch, and reads from the rows whose they are."""

    def __init__(
        self, model: nn.Module, seen: dict[str, Seen], tokens: Tokens, rerun: Rerun
    ):
        self.model, self.seen, self.tokens, self.rerun = model, seen, tokens, rerun
        self.reserved = reserved_tokens_of(model)
        # By the name of a stream: its changes, and what the modules gave then.
        self.runs: dict[Any, list[tuple[Change, dict[str, Seen]]]] = {}

    def choose(self, name: str, possible: list[Order]) -> Order:
        """Return the one order that agrees with what changes."""
        # A decoder depends on what the encoder reads, but its rows are its own tokens'.
        decoded = [order for order in possible if order.stream.is_decoded]
        verdicts = [(order, self._verdict(name, order)) for order in decoded]
        if any(verdict.depends for _, verdict in verdicts):
            possible = decoded
        else:
            others = [order for order in possible if order not in decoded]
            verdicts += [(order, self._verdict(name, order)) for order in others]
        if not any(verdict.depends for _, verdict in verdicts):
            return self._only(name, possible, "it does not depend on the batch")
        agreeing = [(order, v) for order, v in verdicts if v.depends and v.agrees]
        if not agreeing:
            return self._mixed(name, [o for o, v in verdicts if v.depends], possible)
        order, verdict = self._best(name, agreeing)
        if not verdict.is_local and not self._follows_length(name, order):
            raise ValueError(
                f"module {name!r} gives rows of shape {self.seen[name].shape} that are "
                f"not those of the positions of batch {self.tokens.number}: with one "
                "position less their number stays the same."
            )
        return order

    def _verdict(self, name: str, order: Order) -> Verdict:
        before, found = self.seen[name], []
        has_positions = order.shape == order.stream.shape
        for change, after in self._runs_of(order.stream):
            if not has_positions:
                change = Change(change.sequence, None)
            if after[name].shape == before.shape:
                moved = rows_changed(before.tensor, after[name].tensor)
                verdict = judge(change, moved, order.shape, order.index)
                found += [verdict] if verdict.depends else []
        return Verdict(
            bool(found),
            all(verdict.agrees for verdict in found),
            any(verdict.is_local for verdict in found),
        )

    def _runs_of(self, stream: Stream) -> list[tuple[Change, dict[str, Seen]]]:
        if stream.name not in self.runs:
            runs = self.runs[stream.name] = []
            for change in changes_of(stream, self.reserved):
                found = self._run(edit_of(stream, change, self.reserved))
                runs += [] if found is None else [(change, found)]
        return self.runs[stream.name]

    def _run(self, edit: Edit) -> dict[str, Seen] | None:
        """Run the model with changed arguments, None if it does not take them."""
        try:
            with unchanged(self.model):
                return self.rerun(edit)
        except ValueError:
            return None

    def _best(
        self, name: str, agreeing: list[tuple[Order, Verdict]]
    ) -> tuple[Order, Verdict]:
        """Return the order to take of those that agree."""
        first = agreeing[0][0]
        if all(first.same_rows(order) for order, _ in agreeing):
            return agreeing[0]
        if len({order.stream.name for order, _ in agreeing}) == 1:
            raise ValueError(_message_of_order(name, self.seen[name], self.tokens))
        # Images and sound affect the rows of tokens, too. What an encoder reads affects
        # all rows of a decoder, its own tokens only some.
        exact = [p for p in agreeing if p[0].shape == p[0].stream.shape]
        for preferred in (
            exact,
            [p for p in exact if p[1].is_local],
        ):
            if preferred and all(preferred[0][0].same_rows(o) for o, _ in preferred):
                return preferred[0]
        streams = listed(sorted({str(o.stream) for o, _ in agreeing}))
        raise ValueError(
            f"the rows of module {name!r} depend on {streams} of batch "
            f"{self.tokens.number} alike, and are as many as either has positions: pad "
            "one of them to another length, so that the shape tells whose they are."
        )

    def _only(self, name: str, possible: list[Order], reason: str) -> Order:
        """Return the one order that the shape allows."""
        if any(not possible[0].same_rows(order) for order in possible):
            raise ValueError(
                _message_of_order(name, self.seen[name], self.tokens, reason)
            )
        return possible[0]

    def _mixed(self, name: str, depending: list[Order], possible: list[Order]) -> Order:
        """Refuse rows that change with another sequence, unless they always change."""
        again = self._run(lambda value, tokens: value)
        before = self.seen[name]
        after = before if again is None else again[name]
        if (
            after.shape == before.shape
            and rows_changed(before.tensor, after.tensor).any()
        ):
            return self._only(name, possible, "it gives other values in each run")
        if len({order.kind for order in possible}) > 1:
            raise ValueError(_message_of_order(name, before, self.tokens))
        raise ValueError(
            f"module {name!r} gives rows that do not belong to one sequence of batch "
            f"{self.tokens.number} each, in order of positions: the first axis of "
            f"{depending[0].stream} must count the sequences; wrap a model that takes "
            "(length, n_sequences, ...) in one that transposes."
        )

    def _follows_length(self, name: str, order: Order) -> bool:
        """Whether a module has fewer rows of a shorter batch, where this can be run."""
        stream = order.stream
        if len(stream.shape) == 1 or order.shape != stream.shape or stream.shape[1] < 2:
            return True

        def shorten(value, tokens):
            is_long = isinstance(value, torch.Tensor) and value.ndim > 1
            fits = is_long and tuple(value.shape[:2]) == stream.shape
            return value[:, :-1] if fits else value

        found = self._run(shorten)
        if found is None or found[name].packed is not None:
            return True
        n, length = stream.shape
        expected = {
            "batch first": (n, length - 1),
            "time first": (length - 1, n),
            "listed": (n * (length - 1),),
            "listed time first": (n * (length - 1),),
        }
        return found[name].shape == expected.get(order.kind, found[name].shape)


def _possible_orders(seen: Seen, tokens: Tokens) -> list[Order]:
    return [
        Order(stream, kind, *places)
        for stream in tokens.streams
        for kind, places in layouts_of(stream, seen.shape, seen.packed).items()
    ]


def _joined(orders: dict[str, Order], seen: dict[str, Seen], tokens: Tokens) -> Located:
    first_name, first = next(iter(orders.items()))
    for name, order in orders.items():
        if order.stream.name != first.stream.name:
            raise ValueError(
                f"modules {first_name!r} and {name!r} hold rows of {first.stream} and "
                f"of {order.stream} of batch {tokens.number}: capture them in separate "
                "calls."
            )
        if order.shape != first.shape:
            raise ValueError(_message_of_shape(name, seen[name], tokens, first.shape))
    index = {name: order.index for name, order in orders.items()}
    return Located(first.stream, first.shape, first.ids, index)


def _message_of_shape(
    name: str, seen: Seen, tokens: Tokens, shape: tuple[int, ...] | None = None
) -> str:
    wanted = "(n,) or (n_sequences, length)"
    shapes = [stream.shape for stream in tokens.streams if len(stream.shape) == 2]
    if shape is not None or len(set(shapes)) == 1:
        wanted += f" = {shape or shapes[0]}"
    elif shapes:
        wanted += " = " + listed(map(str, dict.fromkeys(shapes)), "or")
    return (
        f"module {name!r} gives rows of shape {seen.shape} for batch {tokens.number}, "
        f"which must be {wanted}."
    )


def _message_of_order(name: str, seen: Seen, tokens: Tokens, reason: str = "") -> str:
    return (
        f"module {name!r} gives rows of shape {seen.shape} for batch {tokens.number}, "
        "and the order of their sequences and positions cannot be told"
        + (f", as {reason}" if reason else "")
        + ": pass batches whose number of sequences is not their length, or capture a "
        "module that gives (n_sequences, length, d)."
    )
