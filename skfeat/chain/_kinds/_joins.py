"""The kinds of step that give their input to several branches and join the results."""

from __future__ import annotations

import operator
from functools import reduce
from itertools import accumulate, pairwise

import numpy as np

from skfeat.chain._kinds._kind import JoinKind
from skfeat.chain._kinds._onnx_graph import OnnxGraph


def _shares_of_sum(grad: np.ndarray, widths: list[int]) -> list[np.ndarray]:
    # A single column was added to every column.
    total = grad.sum(axis=1, keepdims=True)
    return [total if width == 1 else grad for width in widths]


def _shares_of_concatenation(grad: np.ndarray, widths: list[int]) -> list[np.ndarray]:
    ends = pairwise(accumulate(widths, initial=0))
    return [grad[:, start:stop] for start, stop in ends]


def _add_one_by_one(graph: OnnxGraph, name: str, results: list[str]) -> None:
    graph.last = results[0]
    for result in results[1:]:
        graph.add(name, result)


JOINS = {
    "add": JoinKind(
        join=lambda results, concatenate: reduce(operator.add, results),
        shares=_shares_of_sum,
        onnx=lambda graph, results: _add_one_by_one(graph, "Add", results),
        n_out=max,
        broadcasts=True,
    ),
    "multiply": JoinKind(
        join=lambda results, concatenate: reduce(operator.mul, results),
        shares="the slope in one branch is the value of the others",
        onnx=lambda graph, results: _add_one_by_one(graph, "Mul", results),
        n_out=max,
        broadcasts=True,
    ),
    "concatenate": JoinKind(
        join=lambda results, concatenate: concatenate(results, -1),
        shares=_shares_of_concatenation,
        onnx=lambda graph, results: graph.add_on("Concat", *results, axis=-1),
        n_out=sum,
        broadcasts=False,
    ),
}
