"""What features, tokens and errors add to one logit of a prompt, and their edges.

The run is the model's own: in place of each MLP its replacement computes, and what it
misses of the MLP's output at each token is added as a constant, an error node. One
backward pass gives what every node adds to the logit; one for each feature that is kept
gives the edges that lead to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from skfeat.language.whole._feature_mlp import FeatureMLP
from skfeat.language.whole._held import Held
from skfeat.language.whole._slots import Batch, SlottedModel

TOKEN, READ, WRITE, ERROR, OUTPUT = "token", "read", "write", "error", "output"


@dataclass
class LayerRun:
    """What one layer computes of a prompt, as tensors of which gradients are wanted."""

    rows: torch.Tensor
    pre: torch.Tensor
    codes: torch.Tensor
    features: torch.Tensor
    error: torch.Tensor


@dataclass
class Flows:
    """Nodes and edges before they are pruned and named.

    Attributes
    ----------
    nodes : list of tuple
        (kind, layer, position, feature); layers count from 0, tokens have -1.
    activations, contributions : ndarray of shape (n_nodes,)
    sources, targets : ndarray of int, shape (n_edges,)
    flows : ndarray of shape (n_edges,)
    value : float
        The logit minus the mean of all logits.
    probability : float
        The probability of the token in the model itself.
    kept : float
        The share of all magnitudes of contributions that the nodes have.
    changes : ndarray of shape (n_nodes,)
        What the value changes by without each node, measured; nan where it was not.
    """

    nodes: list[tuple[str, int, int, int]]
    activations: np.ndarray
    contributions: np.ndarray
    sources: np.ndarray
    targets: np.ndarray
    flows: np.ndarray
    value: float
    probability: float
    kept: float
    changes: np.ndarray = field(default_factory=lambda: np.zeros(0))


class PromptRun:
    """Runs a prompt through the model with replacements and errors.

    Parameters
    ----------
    slotted : SlottedModel
    batch : Batch
        Of one sequence.
    modules : list of FeatureMLP
        In the order of `slotted.names`.
    position, token : int
        The logit of which token at which position.
    """

    def __init__(
        self,
        slotted: SlottedModel,
        batch: Batch,
        modules: list[FeatureMLP],
        position: int,
        token: int | None,
    ):
        self.slotted, self.batch = slotted, batch
        self.modules = dict(zip(slotted.names, modules, strict=True))
        with torch.no_grad(), slotted.using({}, records=True) as uses:
            logits = batch.outputs()[0, position]
            self.errors = {
                name: use.made[0].float()
                - self.modules[name](use.seen[0].float()).float()
                for name, use in uses.items()
            }
        self.position = position
        self.token = int(logits.argmax()) if token is None else token
        self.probability = float(logits.softmax(dim=0)[self.token])

    def _value(self) -> torch.Tensor:
        logits = self.batch.outputs()[0, self.position]
        return logits[self.token] - logits.mean()

    def held(self, *, direct: bool) -> tuple[torch.Tensor, torch.Tensor, list, list]:
        """Run with patterns and scales held.

        Parameters
        ----------
        direct : bool
            Whether what each MLP gives is a leaf, so that gradients are those of direct
            effects; else they go through all features in between.

        Returns
        -------
        value : Tensor, scalar
        embedding : Tensor of shape (length, d)
        layers : list of LayerRun
        leaves : list of Tensor of shape (length, d_out)
            With `direct`.
        """
        layers: dict[str, LayerRun] = {}
        leaves: dict[str, torch.Tensor] = {}

        def function_of(name: str):
            module = self.modules[name]

            def compute(rows: torch.Tensor) -> torch.Tensor:
                pre = module.pre_activations(rows)
                codes = module.activate(pre)
                features = module.computed(codes)
                error = self.errors[name].clone().requires_grad_()
                layers[name] = LayerRun(rows, pre, codes, features, error)
                decoded = torch.addmm(module.bias, features, module.decoder) + error
                if direct:
                    decoded = leaves[name] = decoded.detach().requires_grad_()
                return (
                    decoded if module.skip is None else decoded + rows @ module.skip.T
                )

            return compute

        held = Held(torch.from_numpy(self.batch.ids).to(self._device()))
        functions = {name: function_of(name) for name in self.slotted.names}
        with self.slotted.using(functions), held:
            value = self._value()
        if held.embedding is None:
            raise ValueError(
                "model must embed its tokens by torch.nn.Embedding, where a prompt's "
                "graph starts."
            )
        names = self.slotted.names
        return (
            value,
            held.embedding,
            [layers[name] for name in names],
            [leaves[name] for name in names if direct],
        )

    def _device(self) -> torch.device:
        return next(iter(self.modules.values())).encoder.device

    @torch.no_grad()
    def without(self, kind: str, layer: int, position: int, feature: int) -> float:
        """Return the value with one feature set to zero, all else free to change."""

        def function_of(index: int, name: str):
            module = self.modules[name]

            def compute(rows: torch.Tensor) -> torch.Tensor:
                codes = module.activate(module.pre_activations(rows))
                if index == layer and kind == READ:
                    codes[position, feature] = 0
                features = module.computed(codes)
                if index == layer and kind == WRITE:
                    features = features.clone()
                    features[position, feature] = 0
                return module.decode(features, rows) + self.errors[name]

            return compute

        functions = {
            name: function_of(index, name)
            for index, name in enumerate(self.slotted.names)
        }
        with self.slotted.using(functions):
            return float(self._value())


def flows_of(run: PromptRun, share: float, max_nodes: int, *, checks: bool) -> Flows:
    """Return the pruned nodes and the edges between them.

    Parameters
    ----------
    run : PromptRun
    share : float
        Of the magnitudes of contributions of each kind in each layer, that are kept.
    max_nodes : int
        Kept at most, beside the output.
    checks : bool
        Whether each kept feature is set to zero to measure what changes.
    """
    value, embedding, layers, _ = run.held(direct=False)
    wanted = [embedding]
    for layer in layers:
        wanted += [layer.codes, layer.features, layer.error]
    gradients = torch.autograd.grad(value, wanted, allow_unused=True)
    filled = [
        torch.zeros_like(one) if gradient is None else gradient
        for one, gradient in zip(wanted, gradients, strict=True)
    ]
    columns = _columns(run, embedding, layers, filled)
    nodes, activations, contributions, kept = _pruned(columns, share, max_nodes)
    logit = float(value.detach())
    sources, targets, flows = _edges(run, nodes, filled)
    found = Flows(
        [*nodes, (OUTPUT, len(layers), run.position, run.token)],
        np.append(activations, logit),
        np.append(contributions, logit),
        sources,
        targets,
        flows,
        logit,
        run.probability,
        kept,
    )
    found.changes = np.full(len(found.nodes), np.nan)
    if checks:
        before = run.without("", -1, 0, 0)
        for i, (kind, layer, position, feature) in enumerate(nodes):
            if kind in (READ, WRITE):
                after = run.without(kind, layer, position, feature)
                found.changes[i] = after - before
    return found


def _columns(run, embedding, layers, gradients) -> list[tuple]:
    """Return (kind, layer, values, contributions) of each kind of node of each layer.

    Contributions have the shape (length, m), or (length, 1) of tokens and errors.
    """

    def whole(tensor, gradient):
        return (tensor * gradient).sum(dim=-1, keepdim=True).detach()

    first, *others = gradients
    found = [(TOKEN, -1, torch.ones(embedding.shape[1], 1), whole(embedding, first)[0])]
    for number, layer in enumerate(layers):
        of_codes, of_features, of_error = others[3 * number : 3 * number + 3]
        codes, features = layer.codes.detach(), layer.features.detach()
        found.append((READ, number, codes, codes * of_codes))
        if run.modules[run.slotted.names[number]].coef is not None:
            found.append((WRITE, number, features, features * of_features))
        norms = layer.error.detach().norm(dim=-1, keepdim=True)
        found.append((ERROR, number, norms, whole(layer.error, of_error)))
    return found


def _pruned(columns, share: float, max_nodes: int):
    """Keep the strongest nodes of each column, then the strongest of all."""
    nodes, values, brings, total = [], [], [], 0.0
    for kind, layer, activations, contributions in columns:
        flat = contributions.double().cpu().numpy().ravel()
        strength = np.abs(flat)
        total += strength.sum()
        order = np.argsort(-strength, kind="stable")
        reached = np.cumsum(strength[order])
        n = int(np.searchsorted(reached, share * reached[-1] * (1 - 1e-12))) + 1
        chosen = order[:n][strength[order[:n]] > 0]
        width = contributions.shape[1]
        nodes += [(kind, layer, int(i // width), int(i % width)) for i in chosen]
        values.append(activations.double().cpu().numpy().ravel()[chosen])
        brings.append(flat[chosen])
    activations, contributions = np.concatenate(values), np.concatenate(brings)
    strongest = np.sort(np.argsort(-np.abs(contributions), kind="stable")[:max_nodes])
    kept = float(np.abs(contributions[strongest]).sum() / (total or 1.0))
    return (
        [nodes[i] for i in strongest],
        activations[strongest],
        contributions[strongest],
        kept,
    )


def _edges(run: PromptRun, nodes, gradients):
    """Return sources, targets and flows between the nodes, the output the last one."""
    value, embedding, layers, leaves = run.held(direct=True)
    by_kind: dict[tuple[str, int], list[int]] = {}
    for i, (kind, layer, *_) in enumerate(nodes):
        by_kind.setdefault((kind, layer), []).append(i)
    edges: list[tuple[int, int, float]] = []

    def lead_to(target: int, scalar: torch.Tensor, before: int, times: float) -> None:
        """Add what leads to a target from all that is computed before a layer."""
        wanted = [embedding, *leaves[:before]]
        found = torch.autograd.grad(
            scalar, wanted, retain_graph=True, allow_unused=True
        )
        for number, gradient in enumerate(found, start=-1):
            if gradient is None:
                continue
            gradient = gradient[0] if gradient.ndim == 3 else gradient
            for source, flow in _from_layer(
                run, layers, embedding, nodes, by_kind, number, gradient
            ):
                edges.append((source, target, flow * times))

    lead_to(len(nodes), value, len(layers), 1.0)
    for number, layer in enumerate(layers):
        of_codes, of_features, _ = gradients[1 + 3 * number : 4 + 3 * number]
        module = run.modules[run.slotted.names[number]]
        for target in by_kind.get((READ, number), []):
            _, _, position, feature = nodes[target]
            times = float(of_codes[position, feature])
            lead_to(target, layer.pre[position, feature], number, times)
            if module.coef is None:
                continue
            for end in by_kind.get((WRITE, number), []):
                if nodes[end][2] == position:
                    weight = module.coef[nodes[end][3], feature]
                    flow = weight * layer.codes[position, feature].detach()
                    gradient = of_features[position, nodes[end][3]]
                    edges.append((target, end, float(flow * gradient)))
    edges = [edge for edge in edges if edge[2]]
    sources, targets, flows = zip(*edges, strict=True) if edges else ((), (), ())
    return (
        np.array(sources, dtype=np.int64),
        np.array(targets, dtype=np.int64),
        np.array(flows, dtype=np.float64),
    )


def _from_layer(run, layers, embedding, nodes, by_kind, number, gradient):
    """Yield the sources in a layer, -1 for the tokens, and what flows from each.

    `gradient` (length, d) is that of a target by what the layer adds to the stream.
    """
    if number < 0:
        for source in by_kind.get((TOKEN, -1), []):
            position = nodes[source][2]
            yield source, float(embedding[0, position].detach() @ gradient[position])
        return
    module, layer = run.modules[run.slotted.names[number]], layers[number]
    kind = READ if module.coef is None else WRITE
    for source in by_kind.get((kind, number), []):
        _, _, position, feature = nodes[source]
        along = module.decoder[feature] @ gradient[position]
        yield source, float(layer.features[position, feature].detach() * along)
    for source in by_kind.get((ERROR, number), []):
        position = nodes[source][2]
        yield source, float(layer.error[position].detach() @ gradient[position])
