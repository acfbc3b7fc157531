"""PromptGraph: what makes one logit of a prompt, as nodes and edges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from skfeat.inspection import FeatureGraphDisplay
from skfeat.language.whole._prompt_flows import (
    ERROR,
    OUTPUT,
    READ,
    TOKEN,
    WRITE,
    Flows,
)
from skfeat.language.whole._prompt_page import prompt_page
from skfeat.utils._files import check_writable
from skfeat.utils._shown import Part
from skfeat.utils._table import Table, titled_columns

_TITLES = {
    "name": ("node", "IF: a feature of what an MLP reads, OF: of what it computes"),
    "at": ("token", "where it is"),
    "activation": ("activation", "of an error, its length"),
    "contribution": ("adds", "what it adds to the logit"),
    "change": ("without it", "how the logit changes if the feature is zero, measured"),
}
_SHOWN = 20


class PromptGraph(Table):
    """Columns with one value for each node of the graph of a predicted token.

    :meth:`ModelUnwrapper.prompt_graph` returns it. Contributions and flows are exact
    where attention patterns, normalisation and the choice of active features are held:
    what enters a feature and its constants add up to what it adds to the logit.

    Parameters
    ----------
    beside : dict of str to object
        The attributes that are no columns.
    **columns : list
        The columns.

    Attributes
    ----------
    name : list of str
        "IF2_7": feature 7 of what the second replaced MLP reads; "OF2_9": feature 9 of
        what it computes; "TF2_7": of its transcoder; "E2": what the replacement misses
        of its output; or a token of the prompt. The last node is the output.
    kind : list of str
        "token", "read", "write", "error" or "output".
    layer : list of int
        Counted from one; 0 of tokens.
    position, feature : list of int
        The token's position, and the feature's number.
    at : list of str
        The token there.
    activation, contribution : list of float
        The value of a feature and what it adds to the logit.
    change : list of float
        What the logit changes by where this feature alone is set to zero and all else
        is free to follow, attention and normalisation too; nan of other nodes.
    sources, targets : ndarray of int, shape (n_edges,)
        Nodes that an edge leads from and to.
    flows : ndarray of float, shape (n_edges,)
        What the source adds to the logit through the target.
    value : float
        The logit minus the mean over the vocabulary.
    probability : float
        Of the token, in the model itself.
    token : str
        The token whose logit it is.
    tokens : list of str
        Those of the prompt.
    kept : float
        The share of all magnitudes of contributions that the nodes have.
    correlation : float
        Between predicted changes, minus the contributions, and measured ones; nan for
        fewer than three features.

    Examples
    --------
    >>> import torch
    >>> from skfeat import SparseAutoencoder
    >>> from skfeat.language import ModelUnwrapper
    >>> class Block(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.mlp = torch.nn.Sequential(
    ...             torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 8)
    ...         )
    ...
    ...     def forward(self, x):
    ...         return x + self.mlp(x)
    >>> _ = torch.manual_seed(0)
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Embedding(50, 8), Block(), torch.nn.Linear(8, 50)
    ... )
    >>> part = SparseAutoencoder(12, k=4)
    >>> unwrapper = ModelUnwrapper(
    ...     model,
    ...     input_autoencoder=part,
    ...     output_autoencoder=part,
    ...     n_nonzero_coefs=4,
    ...     max_iter=5,
    ...     random_state=0,
    ... ).fit([torch.randint(50, (8, 16)) for _ in range(8)])
    >>> graph = unwrapper.prompt_graph(torch.tensor([3, 1, 4]), token=7)
    >>> graph.token, graph.tokens
    ('7', ['3', '1', '4'])
    >>> sorted(set(graph.kind))
    ['error', 'output', 'read', 'token', 'write']
    """

    sources: np.ndarray
    targets: np.ndarray
    flows: np.ndarray
    value: float
    probability: float
    token: str
    tokens: list[str]
    kept: float
    correlation: float

    def __init__(self, beside: dict[str, Any], **columns: list):
        super().__init__(beside, columns)

    @classmethod
    def of_flows(
        cls, found: Flows, tokens: list[str], token: str, is_pair: list[bool]
    ) -> PromptGraph:
        """Name the nodes.

        Parameters
        ----------
        found : Flows
        tokens : list of str
            Texts of the prompt.
        token : str
            Text of the predicted token.
        is_pair : list of bool
            Of each layer, whether it is no transcoder.

        Returns
        -------
        PromptGraph
        """
        kinds, layers, positions, features = map(list, zip(*found.nodes, strict=True))
        names = []
        for kind, layer, position, feature in found.nodes:
            number = layer + 1
            names.append(
                {
                    TOKEN: tokens[position],
                    READ: f"{'IF' if is_pair[min(layer, len(is_pair) - 1)] else 'TF'}"
                    f"{number}_{feature}",
                    WRITE: f"OF{number}_{feature}",
                    ERROR: f"E{number}",
                    OUTPUT: token,
                }[kind]
            )
        measured = np.isfinite(found.changes)
        pairs = -found.contributions[measured], found.changes[measured]
        correlation = np.nan
        if len(pairs[0]) > 2 and all(np.ptp(part) > 0 for part in pairs):
            correlation = float(np.corrcoef(*pairs)[0, 1])
        beside = {
            **{name: getattr(found, name) for name in ("sources", "targets", "flows")},
            **{name: getattr(found, name) for name in ("value", "probability", "kept")},
            "token": token,
            "tokens": tokens,
            "correlation": correlation,
        }
        return cls(
            beside,
            name=names,
            kind=kinds,
            layer=[layer + 1 for layer in layers],
            position=positions,
            feature=features,
            at=[tokens[position] for position in positions],
            activation=found.activations.tolist(),
            contribution=found.contributions.tolist(),
            change=found.changes.tolist(),
        )

    def to_display(self) -> FeatureGraphDisplay:
        """Return the graph as columns of nodes, layer by layer.

        What passes layers by, as the residual stream lets it, goes through nodes of
        these layers, one for each source, whose name is that of the source in brackets,
        without its token.

        Returns
        -------
        FeatureGraphDisplay
            Draw it with its method `plot`.
        """
        columns, titles = self._columns()
        members: list[list[int]] = [[] for _ in titles]
        names: list[list[str]] = [[] for _ in titles]
        values: list[list[float]] = [[] for _ in titles]
        place: dict[Any, int] = {}

        def add(column: int, key: Any, name: str, value: float) -> None:
            place[key] = len(names[column])
            members[column].append(column)
            names[column].append(name)
            values[column].append(value)

        for node, column in enumerate(columns):
            at = (
                "" if self["kind"][node] in (TOKEN, OUTPUT) else f" @{self['at'][node]}"
            )
            number = f" {self['position'][node]}" if not at else ""
            number = "" if self["kind"][node] == OUTPUT else number
            name = f"{self['name'][node]}{at}{number}"
            add(column, node, name, self["contribution"][node])
        edges: list[dict[tuple[int, int], float]] = [{} for _ in titles[1:]]
        for source, target, flow in zip(
            self.sources.tolist(), self.targets.tolist(), self.flows, strict=True
        ):
            first, last = columns[source], columns[target]
            before: Any = source
            for column in range(first + 1, last + 1):
                key: Any = target if column == last else (source, column)
                if key not in place:
                    add(column, key, f"({self['name'][source]})", 0.0)
                if column < last:
                    values[column][place[key]] += float(flow)
                ends = place[key], place[before]
                gap = edges[column - 1]
                gap[ends] = gap.get(ends, 0.0) + float(flow)
                before = key
        matrices = [
            sparse.csr_array(
                (
                    np.array(list(gap.values()), dtype=float),
                    tuple(np.array(list(gap), dtype=int).reshape(-1, 2).T),
                ),
                shape=(len(names[i + 1]), len(names[i])),
            )
            for i, gap in enumerate(edges)
        ]
        return FeatureGraphDisplay(
            edges=matrices,
            node_values=values,
            node_names=names,
            layer_names=titles,
            heading=self._heading(),
            value_name=f"contribution to the logit of {self.token!r}",
        )

    def save(self, path: Any) -> Path:
        """Write the graph as one HTML file that loads nothing.

        Tokens go from the left to the right and layers upwards; a node that the mouse
        is over shows what leads to it and on from it. Tables of the strongest nodes
        stand below.

        Parameters
        ----------
        path : str or path
            A file in a folder that exists; one of that name is replaced.

        Returns
        -------
        Path

        Raises
        ------
        OSError
            If `path` is no such file.
        """
        file = check_writable(path)
        file.write_text(prompt_page(self), encoding="utf-8")
        return file

    def _heading(self) -> str:
        return (
            f"{self.token!r} after {''.join(self.tokens)[-40:]!r}: logit "
            f"{self.value:.2f} above the mean, probability {self.probability:.2f}"
        )

    def _columns(self) -> tuple[list[int], list[str]]:
        """Return the column of each node, and the titles of the columns."""
        kinds, layers = self["kind"], self["layer"]
        titles = ["tokens"]
        first: dict[tuple[str, int], int] = {}
        for layer in range(1, max(layers)):
            own = {kind for kind, at in zip(kinds, layers, strict=True) if at == layer}
            for kind in (READ, WRITE):
                if kind in own:
                    first[kind, layer] = len(titles)
                    titles.append(f"MLP {layer} {kind}s")
            if ERROR in own and not own & {READ, WRITE}:
                titles.append(f"MLP {layer}")
            # What an MLP misses is added where its last features are.
            first[ERROR, layer] = len(titles) - 1
        columns = []
        for kind, layer in zip(kinds, layers, strict=True):
            if kind == TOKEN:
                columns.append(0)
            elif kind == OUTPUT:
                columns.append(len(titles))
            else:
                columns.append(first[kind, layer])
        return columns, [*titles, "output"]

    def _parts(self) -> list[Part]:
        strength = np.abs(np.asarray(self["contribution"][:-1]))
        order = np.argsort(-strength, kind="stable")[:_SHOWN].tolist()

        def cells(name: str) -> list[str]:
            found = [self[name][i] for i in order]
            return [
                value
                if isinstance(value, str)
                else ""
                if np.isnan(value)
                else f"{value:+.3f}"
                if name in ("contribution", "change")
                else f"{value:.3g}"
                for value in found
            ]

        nodes = len(self["name"]) - 1
        heading = (
            f"{self._heading()}; {nodes} nodes have {self.kept:.0%} of all magnitudes, "
            f"the strongest {len(order)} are shown"
        )
        parts: list[Part] = [heading, titled_columns(_TITLES, cells)]
        if not np.isnan(self.correlation):
            parts.append(
                f"correlation of predicted and measured changes: {self.correlation:.3f}"
            )
        return parts
