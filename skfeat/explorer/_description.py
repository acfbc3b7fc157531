"""What a page of the explorer shows, as plain arrays and texts.

Fields are the keys that the programs of the page read (`page/data.js`): what is renamed
here is renamed there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from scipy import sparse

from skfeat.explorer._statistics import Statistics
from skfeat.utils._formula import write_formula
from skfeat.utils._names import Numbered

# Weights between two layers that a page holds at most: those of the strongest flow.
MOST_EDGES = 200_000
# Terms of a formula that are written, the strongest.
_MOST_TERMS = 20


@dataclass
class Layer:
    """One column of the graph: inputs, features or outputs."""

    title: str
    kind: str
    """"inputs", "features" or "outputs"."""
    names: Sequence[str]
    strength: np.ndarray
    """(m,) what nodes are ranked by; `Explorer.strength_name` says what it is."""
    statistics: Statistics | None = None
    labels: list[str] | None = None
    """A short text beside each name, such as the tokens that a feature fires on."""
    formulas: list[str] | None = None
    logics: list[str] | None = None
    effect: np.ndarray | None = None
    """(m,) what leaving the feature out changes; `Explorer.effect_name` says how."""
    flips: np.ndarray | None = None
    """(m,) share of the rows whose prediction that changes."""
    r2: np.ndarray | None = None
    """(m,) of the formulas, against measured activations."""
    effects: np.ndarray | None = None
    """(m, n_outputs) the mean change of each output."""


@dataclass
class Gap:
    """Edges between two columns, in the order of where they lead to."""

    indptr: np.ndarray
    indices: np.ndarray
    strength: np.ndarray
    """Of each edge, never negative."""
    weights: np.ndarray | None
    """Of each edge; None where what flows is no weight times a value."""
    n_edges: int
    """Of all, of which the page may hold the strongest."""

    @classmethod
    def of(cls, flows: Any, weights: Any = None, most: int = MOST_EDGES) -> Gap:
        """Make a gap of sparse arrays (n_to, n_from).

        Parameters
        ----------
        flows : sparse array
            Strengths; what it lacks is zero.
        weights : sparse array, default=None
            The edges; None: they are those of `flows`, and have no weights.
        most : int
            Edges that are kept.
        """
        edges = sparse.csr_array(flows if weights is None else weights, copy=True)
        edges.sum_duplicates()
        edges.eliminate_zeros()
        strength = np.abs(edges.data)
        if weights is not None:
            strength = np.abs(at_edges(flows, edges))
        keep = np.ones(len(strength), bool)
        if len(strength) > most:
            keep[np.argsort(-strength, kind="stable")[most:]] = False
        rows = edge_rows(edges)[keep]
        return cls(
            indptr=np.searchsorted(rows, np.arange(edges.shape[0] + 1)),
            indices=edges.indices[keep],
            strength=strength[keep],
            weights=None if weights is None else edges.data[keep],
            n_edges=len(strength),
        )


@dataclass
class ShownRow:
    """One row in the graph: the value of each node, and what it brings."""

    example: int
    """Its place among the examples."""
    values: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
    """Of each column: nodes, their values and their parts of the output."""
    edges: list[tuple[np.ndarray, np.ndarray, np.ndarray] | None]
    """Of each gap: from, to and flow; None where weights, values and parts tell."""
    facts: list[tuple[str, str]]
    """Pairs of what and how much, such as ("the network", "4.21")."""


@dataclass
class Explorer:
    """All that one page shows."""

    title: str
    layers: list[Layer]
    gaps: list[Gap]
    rows: list[ShownRow]
    examples: dict[str, Any]
    """``kind`` ("image", "table", "tokens" or "none"), and what that kind has."""
    flow: str
    """"contribution": parts of an output; "product": weight times activation."""
    strength_name: str
    part_name: str
    """What the parts of a row are."""
    effect_name: str = ""
    notes: list[str] = field(default_factory=list)

    def to_plain(self) -> dict[str, Any]:
        """Return dicts, lists, texts, numbers and arrays."""
        return _plain(self)


def _plain(value: Any) -> Any:
    if isinstance(value, Numbered):
        return {"prefix": value.prefix, "n": len(value)}
    if isinstance(value, Layer | Gap | ShownRow | Explorer | Statistics):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def edge_rows(edges: sparse.csr_array) -> np.ndarray:
    """Return the row of each stored value."""
    return np.repeat(np.arange(edges.shape[0]), np.diff(edges.indptr))


def at_edges(values: Any, edges: sparse.csr_array) -> np.ndarray:
    """Return the values of one sparse array where another one has values."""
    found = sparse.csr_array(values)[edge_rows(edges), edges.indices]
    return found.toarray().ravel() if sparse.issparse(found) else np.ravel(found)


def strongest_by_row(values: Any, most: int) -> sparse.csr_array:
    """Keep the `most` largest magnitudes of each row of a sparse array."""
    values = sparse.csr_array(values)
    order = np.lexsort((-np.abs(values.data), edge_rows(values)))
    starts = np.repeat(values.indptr[:-1], np.diff(values.indptr))
    kept = np.zeros(len(order), bool)
    kept[order] = np.arange(len(order)) - starts < most
    rows = edge_rows(values)[kept]
    triple = values.data[kept], (rows, values.indices[kept])
    return sparse.csr_array(triple, shape=values.shape)


def formulas_of(coef: Any, inputs: Sequence[str], outputs: Sequence[str]) -> list[str]:
    """Write each row of weights as a sum of its strongest terms."""
    found = []
    for j, n in enumerate(np.diff(coef.indptr).tolist()):
        text = write_formula(coef, j, _MOST_TERMS, inputs, outputs) if n else ""
        found.append(text + f" … {n - _MOST_TERMS} more" * (n > _MOST_TERMS))
    return found
