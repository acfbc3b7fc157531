"""Read a graph of values as a sequence of operations with branches.

The graph is cut at each value that everything later depends on the input through.
Between two cuts it runs in branches, which are read in the same way.
"""

from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

import torch.fx

from skfeat.adapters._torch_ops import Op

Node = torch.fx.Node


class Value(NamedTuple):
    """How one value is computed from others."""

    inputs: list[Node]
    op: Op
    after: list[tuple[Op, ...]] | None = None
    """Of a join: what is done to each input before; None if there is one input."""


class Branches:
    """Reads the values between the input and the output of a model.

    Parameters
    ----------
    values : dict of Node to Value
        In the order of the forward; the first is the input.
    sink : Node
        The output.
    """

    def __init__(self, values: dict[Node, Value], sink: Node):
        self.values = values = _without_copies(values, sink)
        self.sink = sink
        self.source = next(iter(values))
        needed = self._region(self.source, [sink])
        self.order = [node for node in values if node in needed]
        # The last value before it that every way from the input leads through.
        self.cut: dict[Node, Node] = {}
        depth = {self.source: 0}
        for node in self.order:
            at, *others = values[node].inputs
            for other in others:
                while at is not other:
                    if depth[at] >= depth[other]:
                        at = self.cut[at]
                    else:
                        other = self.cut[other]
            self.cut[node], depth[node] = at, depth[at] + 1

    def read(self) -> list[Op]:
        """Return the operations from the input to the output."""
        return self._between(self.source, self.sink)

    def _between(self, above: Node, node: Node) -> list[Op]:
        pieces = []
        while node is not above:
            pieces.append(self._piece(node))
            node = self.cut[node]
        return [op for piece in reversed(pieces) for op in piece]

    def _piece(self, node: Node) -> list[Op]:
        """Read what lies between a value and the cut above it."""
        value, above = self.values[node], self.cut[node]
        if value.after is None:
            return [value.op]
        regions = [self._region(above, [before]) for before in value.inputs]
        if sum(map(len, regions)) > len(set().union(*regions)):
            return self._staged(node, set().union(*regions))
        branches: list[tuple[Op, ...]] = []
        for before, after in zip(value.inputs, value.after, strict=True):
            branch = (*self._between(above, before), *after)
            # (a + b) + c is one sum of three.
            same = len(branch) == 1 and branch[0].kind == value.op.kind != "concatenate"
            branches += branch[0].branches if same else [branch]
        op = value.op._replace(branches=tuple(branches))
        return [op if op.name else op._replace(name=_common_path(branches))]

    def _region(self, above: Node, nodes: Sequence[Node]) -> set[Node]:
        """Return the nodes and all they need, down to `above`, which is left out."""
        found, waiting = set(), [node for node in nodes if node is not above]
        while waiting:
            node = waiting.pop()
            if node not in found:
                found.add(node)
                waiting += [n for n in self.values[node].inputs if n is not above]
        return found

    def _staged(self, sink: Node, region: set[Node]) -> list[Op]:
        """Read branches that share values: one operation at a time.

        Each stage hands on, side by side, the values that a later one needs.
        """
        nodes = [node for node in self.order if node in region or node is sink]
        live, ops = [self.cut[sink]], []

        def fetch(node: Node) -> tuple[Op, ...]:
            if len(live) == 1:
                return ()
            return (Op("part", settings={"index": live.index(node)}),)

        for i, node in enumerate(nodes):
            inputs, op, after = self.values[node]
            if after is None:
                own = (*fetch(inputs[0]), op)
            else:
                parts = zip(map(fetch, inputs), after, strict=True)
                own = (op._replace(branches=tuple(a + b for a, b in parts)),)
            later = {n for other in nodes[i + 1 :] for n in self.values[other].inputs}
            kept = [value for value in live if value in later]
            if kept:
                branches = (*map(fetch, kept), own)
                ops.append(Op("concatenate", branches=branches))
            else:
                ops += own
            live = [*kept, node]
        return ops


def _without_copies(values: dict[Node, Value], sink: Node) -> dict[Node, Value]:
    """Leave out the values that only repeat the one before, as a dropout does."""
    original: dict[Node, Node] = {}
    kept = {}
    for node, value in values.items():
        inputs = [original.get(before, before) for before in value.inputs]
        if inputs and node is not sink and value.op == Op(""):
            original[node] = inputs[0]
        else:
            kept[node] = value._replace(inputs=inputs)
    return kept


def _common_path(branches: Sequence[Sequence[Op]]) -> str:
    """Return the path of the module that holds all named ones of a join, if any."""
    names = [name for branch in branches for name in _names(branch)]
    levels = zip(*(name.split(".")[:-1] for name in names), strict=False)
    common = takewhile(lambda level: len(set(level)) == 1, levels)
    return ".".join(level[0] for level in common)


def _names(ops: Sequence[Op]) -> list[str]:
    inner = [name for op in ops for branch in op.branches for name in _names(branch)]
    return [op.name for op in ops if op.name] + inner
