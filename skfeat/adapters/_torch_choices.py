"""Read comparisons and what is chosen by them: many ways to write a ReLU by hand.

``x * (x > 0)``, ``torch.where(x > 0, x, 0)``, ``torch.maximum(x, torch.zeros(1))``,
``x.clamp(max=1)`` and the like become the kind of step that computes the same.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from skfeat.adapters._torch_branches import Node, Value
from skfeat.adapters._torch_ops import Op, refusal, scale, sequence

_COMPARISONS = {
    # By function: whether it tells what lies above, and whether what is equal counts.
    "gt": (True, False),
    "greater": (True, False),
    "ge": (True, True),
    "greater_equal": (True, True),
    "lt": (False, False),
    "less": (False, False),
    "le": (False, True),
    "less_equal": (False, True),
}
_MAXIMA, _MINIMA = ("maximum", "max", "fmax"), ("minimum", "min", "fmin")
_CLAMPS = ("clamp", "clip", "clamp_min", "clamp_max")
_NOT = ("invert", "logical_not", "bitwise_not")
_SAME = ("float", "double", "half", "bfloat16", "to", "type", "type_as")
# What they fill a tensor with; None: with their last argument.
_FILLED = {
    "zeros_like": 0.0,
    "new_zeros": 0.0,
    "ones_like": 1.0,
    "new_ones": 1.0,
    "full_like": None,
    "new_full": None,
    "new_tensor": None,
}
_NEGATED = scale(-1.0, 0.0)
# What is not chosen may be infinite, and zero times that would be NaN.
_FINITE = Op("hardtanh", settings={"min_val": -3e38, "max_val": 3e38})

Constant = float | torch.Tensor


class _Mask(NamedTuple):
    """Where a value lies above a threshold, or where it does not."""

    of: Node
    threshold: float
    at: bool
    """Whether it is true where the value equals the threshold."""
    above: bool

    def inverted(self) -> "_Mask":
        return self._replace(at=not self.at, above=not self.above)

    def gate(self) -> Op:
        """Make the operation that is one where this is true, else zero."""
        if not self.above:
            return sequence(self.inverted().gate(), scale(-1.0, 1.0))
        settings = {"threshold": self.threshold, "at": float(self.at)}
        return Op("heaviside", settings=settings)


class Choices:
    """Reads comparisons, and the values that are chosen by them.

    Parameters
    ----------
    values : dict of Node to Value
        Those read so far; what is read is added.
    constant : callable
        Returns the number or tensor that an operand holds, None of any other.
    """

    def __init__(
        self,
        values: dict[Node, Value],
        constant: Callable[[Any], Constant | None],
    ) -> None:
        self.values = values
        self.constant = constant
        self.masks: dict[Any, _Mask] = {}
        self.numbers: dict[Any, float] = {}
        """By node of a tensor that holds a single number, whatever its shape."""

    def take(self, node: Node, what: str, function: str, rest: dict) -> bool:
        """Read a node, or return False if it is nothing of that kind."""
        first: Any = node.args[0] if node.args else rest.get("input")
        if function in _FILLED:
            self._take_filled(node, what, function)
        elif function in _COMPARISONS:
            self._compare(node, what, function, rest)
        elif first in self.masks and function in (*_NOT, *_SAME):
            mask = self.masks[first]
            self._note(node, mask.inverted() if function in _NOT else mask)
        elif function in ("where", "masked_fill"):
            self._choose(node, what, function)
        elif function in (*_MAXIMA, *_MINIMA):
            other = (*node.args[1:], rest.get("other"))[0]
            # A number would be a dimension.
            if not isinstance(other, Node) or len(node.args) > 2:
                raise refusal(f"{what} of anything but two values")
            self._bound(node, what, first, other, function in _MAXIMA)
        elif function in _CLAMPS:
            return self._clamp(node, what, first, rest)
        else:
            return False
        return True

    def take_product(self, node: Node, left: Node, right: Node) -> bool:
        """Read a value times where it is above zero; False of any other product."""
        for value, other in ((left, right), (right, left)):
            mask = self.masks.get(other)
            if mask is None or self._original(value) is not mask.of:
                continue
            at_zero = mask.threshold == 0
            if mask.above and (at_zero or not mask.at):
                op = _above(mask.threshold, 0.0)
            elif at_zero and not mask.above:
                op = sequence(_NEGATED, Op("relu"), _NEGATED)
            else:
                continue
            self.values[node] = Value([mask.of], op)
            return True
        return False

    def _take_filled(self, node: Node, what: str, function: str) -> None:
        number: Any = _FILLED[function]
        if number is None:
            number = node.kwargs.get("fill_value", node.args[-1])
        if not isinstance(number, int | float):
            raise refusal(what)
        self.numbers[node] = float(number)

    def _compare(self, node: Node, what: str, function: str, rest: dict) -> None:
        left, right = (*node.args, rest.get("other"))[:2]
        above, at = _COMPARISONS[function]
        if left not in self.values:
            left, right, above = right, left, not above
        of, threshold = self._against(node, what, left, right)
        self._note(node, _Mask(of, threshold, at, above))

    def _against(
        self, node: Node, what: str, left: Any, right: Any
    ) -> tuple[Node, float]:
        """Return the value, and the number, that a comparison compares."""
        if not isinstance(left, Node) or left not in self.values:
            raise refusal(f"{what} of anything but values and constants")
        of = self._original(left)
        constant = self._number(right)
        if isinstance(constant, float):
            return of, constant
        if isinstance(constant, torch.Tensor):
            return self._add(node, "shifted", [of], scale(1.0, -constant)), 0.0
        if right not in self.values:
            raise refusal(f"{what} of anything but values and constants")
        return self._difference(node, of, right), 0.0

    def _note(self, node: Node, mask: _Mask) -> None:
        self.masks[node] = mask
        self.values[node] = Value([mask.of], mask.gate())

    def _choose(self, node: Node, what: str, function: str) -> None:
        operands = [*node.args, *node.kwargs.values()]
        if len(operands) != 3:
            raise refusal(f"{what} with {len(operands)} arguments")
        condition: Any
        above: Any
        below: Any
        condition, above, below = operands
        if function == "masked_fill":
            below, condition, above = operands
        elif node.op == "call_method":
            above, condition, below = operands
        mask = self.masks.get(condition)
        if mask is None:
            raise refusal(f"{what} by anything but a comparison of values")
        if not mask.above:
            mask, above, below = mask.inverted(), below, above
        op = self._plain_choice(mask, above, below)
        if op is not None:
            self.values[node] = Value([mask.of], op)
            return
        parts = []
        sides = (
            ("above", mask.gate(), above),
            ("below", mask.inverted().gate(), below),
        )
        for name, gate, part in sides:
            number = self._number(part)
            if number is not None:
                op = sequence(gate, scale(number, 0.0))
                parts.append(self._add(node, name, [mask.of], op))
            elif part in self.values:
                key = self._add(
                    node, name, [mask.of, part], Op("multiply"), [(gate,), (_FINITE,)]
                )
                parts.append(key)
            else:
                raise refusal(f"{what} of anything but values and constants")
        self.values[node] = Value(parts, Op("add"), [(), ()])

    def _plain_choice(self, mask: _Mask, above: Any, below: Any) -> Op | None:
        """Return the activation that a choice by one value is, if it is one."""
        threshold = mask.threshold
        constants = self._number(above), self._number(below)
        slopes = self._slope(mask.of, above), self._slope(mask.of, below)
        match constants:
            case float() as high, float() as low:
                return sequence(mask.gate(), scale(high - low, low))
            case None, float() as low if slopes[0] == 1:
                if not mask.at or low == threshold:
                    return _above(threshold, low)
            case float() as high, None if slopes[1] == 1 and high == threshold:
                return _at_most(high)
        if slopes[0] == 1 and slopes[1] is not None and threshold == 0:
            return Op("leaky_relu", settings={"negative_slope": slopes[1]})
        return None

    def _slope(self, of: Node, operand: Any) -> float | None:
        """Return by which number an operand multiplies a value, if it does no more."""
        if not isinstance(operand, Node) or operand not in self.values:
            return None
        operand = self._original(operand)
        if operand is of:
            return 1.0
        inputs, op, _ = self.values[operand]
        is_scaled = op.kind == "scale" and not op.tensors() and not op.settings["bias"]
        return op.settings["weight"] if is_scaled and inputs == [of] else None

    def _clamp(self, node: Node, what: str, first: Any, rest: dict) -> bool:
        bounds = [rest.get("min"), rest.get("max")]
        if not any(isinstance(b, Node) for b in bounds) and None not in bounds:
            return False  # two numbers are a hardtanh
        is_first = True
        for bound, is_lower in zip(bounds, (True, False), strict=True):
            if bound is not None:
                if not is_first:  # it bounds what the lower bound has made
                    first = self._add(node, "bounded", *self.values.pop(node))
                self._bound(node, what, first, bound, is_lower)
                is_first = False
        if is_first:
            raise refusal(f"{what} without bounds")
        return True

    def _bound(
        self, node: Node, what: str, value: Any, other: Any, is_lower: bool
    ) -> None:
        """Read the greater of two values, or the smaller."""
        if value not in self.values:
            value, other = other, value
        if value not in self.values:
            raise refusal(f"{what} of anything but values and constants")
        constant = self._number(other)
        if isinstance(constant, float):
            op = _above(constant, constant) if is_lower else _at_most(constant)
            self.values[node] = Value([value], op)
        elif isinstance(constant, torch.Tensor):
            sign = 1.0 if is_lower else -1.0
            shift = scale(sign, -sign * constant)
            op = sequence(shift, Op("relu"), scale(sign, constant))
            self.values[node] = Value([value], op)
        elif other in self.values:
            # The greater is b + relu(a - b), the smaller a - relu(a - b).
            difference = self._difference(node, value, other)
            rest = self._add(node, "rest", [difference], Op("relu"))
            base, after = (other, ()) if is_lower else (value, (_NEGATED,))
            self.values[node] = Value([base, rest], Op("add"), [(), after])
        else:
            raise refusal(f"{what} of anything but values and constants")

    def _number(self, operand: Any) -> Constant | None:
        """Return a constant, a tensor only if its entries differ."""
        constant = self.constant(operand)
        if isinstance(constant, torch.Tensor) and bool((constant == constant[0]).all()):
            return float(constant[0])
        return constant

    def _original(self, node: Node) -> Node:
        """Return the value that a node is a mere copy of."""
        inputs, op, _ = self.values[node]
        return self._original(inputs[0]) if inputs and op == Op("") else node

    def _difference(self, node: Node, left: Node, right: Node) -> Node:
        op = Op("add")
        return self._add(node, "difference", [left, right], op, [(), (_NEGATED,)])

    def _add(
        self, node: Node, name: str, inputs: list[Node], op: Op, after: Any = None
    ) -> Node:
        """Note a value that a node computes on its way."""
        key: Any = (node, name)
        self.values[key] = Value(inputs, op, after)
        return key


def _above(threshold: float, value: float) -> Op:
    """Make x where x is above the threshold, else the value."""
    if threshold == value == 0:
        return Op("relu")
    return Op("threshold", settings={"threshold": threshold, "value": value})


def _at_most(bound: float) -> Op:
    return sequence(_NEGATED, _above(-bound, -bound), _NEGATED)
