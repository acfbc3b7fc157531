"""Bring the graph of a forward into a form in which each node is read on its own."""

from typing import Any

import torch.fx
from torch import nn

from skfeat.adapters._torch_branches import Node
from skfeat.adapters._torch_ops import known


def tidy(graph: torch.fx.Graph, modules: dict[str, nn.Module]) -> None:
    """Follow operations in place, merge repeated ones and erase unused ones.

    Parameters
    ----------
    graph : Graph
        Written.
    modules : dict of str to Module
        The modules that its nodes call, by path.
    """
    inplace = {node for node in graph.nodes if _is_inplace(node, modules)}
    _follow(graph, inplace)
    _merge_repeats(graph, inplace)
    for node in list(reversed(graph.nodes)):
        if _is_unused(node):
            graph.erase_node(node)


def _follow(graph: torch.fx.Graph, inplace: set[Node]) -> None:
    """Let what comes after an operation in place read its result."""
    order = {node: i for i, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        source = node.args[0] if node.args else None
        if isinstance(source, Node) and node in inplace:
            for user in list(source.users):
                if order[user] > order[node]:
                    user.replace_input_with(source, node)


def _merge_repeats(graph: torch.fx.Graph, inplace: set[Node]) -> None:
    """Compute once what a forward spells twice: where(f(x) > 0, f(x), 0)."""
    first: dict[Any, Node] = {}
    for node in graph.nodes:
        if not node.op.startswith("call_") or node in inplace:
            continue
        key = (node.op, node.target, repr(node.args), repr(node.kwargs))
        if (same := first.setdefault(key, node)) is not node:
            node.replace_all_uses_with(same)


def _is_inplace(node: Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        module = modules[str(node.target)]
        return bool(known(module) and getattr(module, "inplace", False))
    return node.op != "output" and _writes(node)


def _writes(node: Node) -> bool:
    """Whether a call changes its argument in place: relu_, or relu(x, inplace=True)."""
    name = getattr(node.target, "__name__", str(node.target))
    ends = name.endswith("_") and not name.endswith("__")
    # By identity: the 1 of a dimension equals True.
    is_told = any(argument is True for argument in node.args[1:])
    return ends or is_told or bool(node.kwargs.get("inplace"))


def _is_unused(node: Node) -> bool:
    """Whether nothing would change without the node: a size that nobody used."""
    is_call = node.op in ("call_function", "call_method")
    return is_call and not node.users
