"""Rules that say when a parameter matters, in words that a page and a warning share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from skfeat.utils._checks import listed


@dataclass(frozen=True)
class Is:
    """The value must be one of these."""

    values: tuple

    def holds(self, value: Any) -> bool:
        """Tell whether a value is one of them."""
        return any(same(value, allowed) for allowed in self.values)

    def text(self, name: str) -> str:
        """Write the rule down, for a parameter of this name."""
        return f"{name}={listed(map(repr, self.values), 'or')}"


@dataclass(frozen=True)
class IsSet:
    """The value must not be None."""

    def holds(self, value: Any) -> bool:
        """Tell whether there is a value."""
        return value is not None

    def text(self, name: str) -> str:
        """Write the rule down, for a parameter of this name."""
        return f"{name} other than None"


@dataclass(frozen=True)
class IsNumber:
    """The value must be an int, not a list."""

    def holds(self, value: Any) -> bool:
        """Tell whether a value is an int."""
        return isinstance(value, Integral)

    def text(self, name: str) -> str:
        """Write the rule down, for a parameter of this name."""
        return f"{name} given as an int"


@dataclass(frozen=True)
class Fact:
    """Something that only the fit knows must be true; the words say what."""

    words: str

    def holds(self, value: Any) -> bool:
        """Tell whether it is true."""
        return bool(value)

    def text(self, name: str) -> str:
        """Write the rule down."""
        return self.words


Rule = Is | IsSet | IsNumber | Fact


@dataclass(frozen=True)
class Matters:
    """When a parameter matters: if all rules hold, each of a parameter or a fact.

    Parameters
    ----------
    rules : dict of str to rule
        None of them: always.
    plain : tuple
        Values besides the default that ask for nothing.
    told : bool
        Whether a fit says that the parameter changes nothing. Not of those that are
        set everywhere out of habit.
    refused : bool
        Whether the combination is an error instead.
    note : str
        What a page adds.
    """

    rules: Mapping[str, Rule]
    plain: tuple = ()
    told: bool = True
    refused: bool = False
    note: str = ""

    def text(self) -> str:
        """Write down when the parameter matters."""
        rules = [rule.text(name) for name, rule in self.rules.items()]
        return ", and ".join(rules) or "always"


def when(
    *, plain: tuple = (), told: bool = True, refused=False, note="", **rules: Rule
) -> Matters:
    """Write a row of the table: the rules by name, and what else there is to say."""
    return Matters(rules, plain, told, refused, note)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


def same(value: Any, other: Any) -> bool:
    """Tell whether two values of a parameter are equal; arrays are equal to nothing."""
    if value is other:
        return True
    if isinstance(value, np.ndarray) or _is_bool(value) != _is_bool(other):
        return False
    try:
        return bool(value == other)
    except (TypeError, ValueError):
        return False
