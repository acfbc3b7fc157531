"""What features, inputs and outputs are called: all that shows a name asks here.

Feature j of the i-th unwrapped layer is "Fi_j", layers counted from one. An input goes
by the name of its column, or as "x26"; an output by its class, its head, or as
"output 0". The features of a language model's MLP are "IF_j", which it reads, and
"OF_j", which it writes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, TypeAlias, TypeVar

import numpy as np

from skfeat.utils._checks import is_int, value_error

# Names that a message lists, if there are no more.
_SHOWN = 12
INPUT_PREFIX, OUTPUT_PREFIX = "x", "output "
READ_PREFIX, WRITTEN_PREFIX = "IF_", "OF_"

# How an estimator keeps names: as the beginning of all, or one by one.
Names: TypeAlias = str | Sequence[str]
_Part = TypeVar("_Part")


class Numbered(Sequence[str]):
    """Names that differ in their number alone, each made when it is read.

    Parameters
    ----------
    prefix : str
    n : int
    """

    def __init__(self, prefix: str, n: int):
        self.prefix, self.n = prefix, n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: Any) -> Any:
        number = range(self.n)[index]
        if isinstance(number, range):
            return [f"{self.prefix}{i}" for i in number]
        return f"{self.prefix}{number}"


def feature_prefix(layer: int) -> str:
    """Return how the names of a layer's features begin; the first layer is 0."""
    return f"F{layer + 1}_"


def spelled(names: Names, n: int) -> Sequence[str]:
    """Return `n` names, which may be kept as their common beginning."""
    return Numbered(names, n) if isinstance(names, str) else names


def output_names(n: int, classes: Any = None, heads: Any = None) -> list[str]:
    """Name the outputs of a network.

    Parameters
    ----------
    n : int
    classes : sequence, default=None
        Labels of a classifier, whose single output is that of the second one.
    heads : mapping of str to slice, default=None
        The columns of each head of a model with several.

    Returns
    -------
    list of str
    """
    if classes is not None:
        return [str(label) for label in classes[-n:]]
    if heads:
        return _head_names(heads)
    return list(Numbered(OUTPUT_PREFIX, n))


def _head_names(heads: Mapping[str, slice]) -> list[str]:
    names: list[str] = []
    for name, head in heads.items():
        # Heads of a tuple are named "0", "1", which alone would not be clear.
        name = f"head {name}" if name.isdigit() else name
        n_columns = head.stop - head.start
        several = [f"{name}[{column}]" for column in range(n_columns)]
        names += [name] if n_columns == 1 else several
    return names


def number_of(
    parameter: str,
    value: Any,
    names: Sequence[str],
    *,
    or_none: bool = False,
    note: str = "",
) -> int:
    """Return the number of what is given by its number or by its name.

    Parameters
    ----------
    parameter : str
        What the value was given for.
    value : int or str
    names : sequence of str
    or_none : bool, default=False
        Whether the message is to say that None is allowed; it is the caller's to see.
    note : str, default=""
        What the message adds to what is allowed.

    Raises
    ------
    ValueError
        If there is no such number or name.
    """
    if isinstance(value, str) and value in names:
        return list(names).index(value)
    if is_int(value) and 0 <= value < len(names):
        return int(value)
    shown = f"one of {list(names)}" if len(names) > 1 else repr(names[0])
    if len(names) > _SHOWN:
        shown = f"a name such as {names[0]!r}"
    numbers = f"an int from 0 to {len(names) - 1}" if len(names) > 1 else "0"
    allowed = f"{'None, ' * or_none}{numbers} or {shown}{note}"
    raise value_error(parameter, allowed, value)


def column_names(table: Any) -> list[Any] | None:
    """Return the names of a data frame's columns, if any of them is a string.

    The name of a series is that of its one column.
    """
    columns = getattr(table, "column_names", None)  # of pyarrow
    if columns is None:
        columns = getattr(table, "columns", None)
    if columns is None and hasattr(table, "to_frame"):
        columns = [table.name]  # a series
    if columns is None or callable(columns):
        return None
    names = list(columns)
    return names if any(isinstance(name, str) for name in names) else None


def string_names(table: Any) -> list[str] | None:
    """Return the names of a table's columns, if all are strings."""
    names = column_names(table)
    are_strings = names and all(isinstance(name, str) for name in names)
    return names if are_strings else None


def distinct_names(outputs: Any, inputs: Any) -> list[str] | None:
    """Return the names of a table's columns that tell them apart, or None.

    Parameters
    ----------
    outputs : table or array
        The targets of a fit.
    inputs : table or array
        The rows of the same fit.

    Returns
    -------
    list of str or None
        None unless all columns of `outputs` have names, other than one another's and
        than those of `inputs`: no two features may go by one name.
    """
    names, others = string_names(outputs), column_names(inputs) or []
    if names is None:
        return None
    differ = len({*names, *others}) == len(names) + len(set(others))
    return [str(name) for name in names] if differ else None


def connector_names(
    inputs: Names | None, outputs: Names | None, shape: tuple[int, int]
) -> tuple[Sequence[str], Sequence[str]]:
    """Name what a connector of `shape` (n_outputs, n_inputs) reads and computes.

    Names that are None are those of the features of a layer and of the one after it.
    """
    inputs = feature_prefix(0) if inputs is None else inputs
    outputs = _prefix_after(inputs) if outputs is None else outputs
    return spelled(inputs, shape[1]), spelled(outputs, shape[0])


def _prefix_after(inputs: Names) -> str:
    """Return the prefix of the layer after one whose features have these names."""
    first = inputs if isinstance(inputs, str) else str(inputs[0])
    layer = re.match(r"F(\d+)_", first)
    return feature_prefix(int(layer[1]) if layer else 1)


def named(part: _Part, **names: Names) -> _Part:
    """Copy a fitted part of an estimator, and tell the copy the names of its features.

    Parameters
    ----------
    part : estimator
        Its arrays are shared, and itself is not changed.
    **names : Names
        ``feature_names`` of an autoencoder, ``input_names`` and ``output_names`` of a
        connector.

    Returns
    -------
    estimator
        The part itself if it uses these names already.
    """
    told = {f"_{key}": value for key, value in names.items()}
    if told == {key: vars(part).get(key) for key in told}:
        return part
    part = copy(part)
    vars(part).update(told)
    return part


def forget_names(part: Any) -> None:
    """Drop what :func:`named` has told: a part that is fitted anew is its own."""
    for key in ("_feature_names", "_input_names", "_output_names"):
        vars(part).pop(key, None)


def keep_names(connector: Any, output_names: list[str] | None) -> None:
    """Write the names of the outputs that a connector is fitted to, if there are."""
    forget_names(connector)
    vars(connector).pop("output_names_", None)
    if output_names is not None:
        connector.output_names_ = np.array(output_names, dtype=object)
