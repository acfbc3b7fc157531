"""The plan of one fit of an unwrapper, and what its ways of fitting share."""

from __future__ import annotations

from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from skfeat._base import CallbackEpochs
from skfeat._fitting import (
    Ends,
    clone_per_layer,
    default_budget,
    one_budget_each,
    pick_layers,
    refuse_lost_checkpoints,
)
from skfeat.adapters import head_slices, logits_end
from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder
from skfeat.connector._base import BaseConnector
from skfeat.connector._feature_connector import FeatureConnector
from skfeat.network import SparseFeatureNetwork
from skfeat.solvers.joint._train import (
    BATCH_SIZE,
    planned_batch_size,
    planned_epochs,
)
from skfeat.unwrapper._parts import network_arguments
from skfeat.utils._distributed import agreed
from skfeat.utils._names import (
    INPUT_PREFIX,
    Names,
    feature_prefix,
    named,
    output_names,
)
from skfeat.utils._progress import Share, progress_of, say, share_of
from skfeat.utils._stages import Stages
from skfeat.utils._torch import draw_seeds, resolve_device


class Rows(NamedTuple):
    """What a fit sees of the model: inputs, activations of its layers, outputs.

    Of a mapped file they are computed, by `stages`, when they are read.
    """

    X: Any
    activations: list[Any]
    outputs: Any
    stages: Stages | None = None


class Unwrapping:
    """One fit of an unwrapper: its parts, and how far it has come.

    Parameters
    ----------
    params : FeatureUnwrapper
        Its parameters are read, nothing is written.
    chain : Chain
    classes : ndarray or None
        Labels of a classifier.
    """

    def __init__(self, params, chain, classes):
        self.params = params
        self.chain = chain
        self.classes = classes
        lists = [
            name
            for name in ("autoencoder", "connector", "n_nonzero_coefs")
            if isinstance(getattr(params, name), list | tuple | np.ndarray)
        ]
        self.layers = pick_layers(chain, params.layers, lists)
        self.ends = Ends(bool(params.connect_input), bool(params.connect_output))
        n_layers = len(self.layers)
        n_connectors = n_layers - 1 + sum(self.ends)
        n_seeds = n_layers + n_connectors + 1
        seeds = agreed(draw_seeds(params.random_state, n_seeds))
        self.seed = seeds[-1]
        refuse_lost_checkpoints(params.random_state, params.autoencoder)
        if params.checkpoint is not None and params.random_state is None:
            raise ValueError(
                f"random_state=None is not possible with checkpoint="
                f"{params.checkpoint!r}: each call draws other seeds, so that none "
                f"goes on where the last one was stopped. Set random_state to an int."
            )
        self.autoencoders = clone_per_layer(
            self._autoencoders() if params.autoencoder is None else params.autoencoder,
            seeds[:n_layers],
            "autoencoder",
            SparseAutoencoder,
        )
        self.connectors = clone_per_layer(
            FeatureConnector() if params.connector is None else params.connector,
            seeds[n_layers:-1],
            "connector",
            FeatureConnector,
            BaseConnector,
        )
        self.budgets = one_budget_each(params.n_nonzero_coefs, n_connectors)
        self.device = resolve_device(params.device)
        self.start = self.layers[-1].stop
        self.stop = logits_end(chain, classes is not None)
        # What the fit finds on its way.
        self.context: Any = None
        self.data: dict[str, Any] = {}
        self.means: list[np.ndarray] = []
        self.losses: list[float] = []
        self.pruning_epochs: tuple[float, float] | None = None
        self.undistilled: list[SparseAutoencoder] | None = None
        # Where the fit is kept on its way, and which autoencoders have no other place.
        self.kept: Any = None
        self.kept_in_folder: list[int] = []

    def n_read(self, widths: list[int]) -> list[int]:
        """Return how many columns each connector reads, by the features of each end."""
        return widths[:-1]

    @property
    def n_inputs(self) -> int:
        """Columns of the inputs; of maps, channels."""
        return self.chain.n_features_in

    def end_widths(self, widths: list[int]) -> list[int]:
        """Return the widths of inputs, layers and outputs, as they are connected.

        Those of maps are of a position.
        """
        return [
            *([self.n_inputs] * self.ends.input),
            *widths,
            *([self.chain.n_outputs] * self.ends.output),
        ]

    def take_autoencoders(self, fitted: list[SparseAutoencoder]) -> None:
        """Take fitted autoencoders in place of those that were to be fitted."""
        for index in self.kept_in_folder:
            fitted[index].checkpoint = None  # as it was given
        self.autoencoders = self.autoencoders._replace(estimators=fitted)

    @property
    def widths(self) -> list[int]:
        """Features of each layer, once autoencoders are fitted."""
        return [len(part.components_) for part in self.autoencoders.estimators]

    @property
    def n_tasks(self) -> int:
        """Tasks that callbacks see: each part, and distillation."""
        return len(self.layers) + len(self.budgets) + 1

    @property
    def trains_jointly(self) -> bool:
        """Whether autoencoders and connectors are trained together."""
        return bool(self.params.joint and self.params.distill) and self.can_move

    @property
    def can_move(self) -> bool:
        """Whether the training of the whole network finds weights to train."""
        if not self.connectors.estimators:
            return False
        coders = self.autoencoders.frozen
        if not self.params.joint:
            # Of autoencoders distillation trains the last decoder alone.
            coders = [self.ends.output or coders[-1]]
        return not (all(coders) and all(self.connectors.frozen))

    def fitted(self) -> dict:
        """Return the attributes of the fitted unwrapper."""
        parts = self.autoencoders.estimators, self.connectors.estimators
        attributes = self.fitted_with(*parts, self.losses)
        if self.pruning_epochs is not None:
            attributes["pruning_epochs_"] = self.pruning_epochs
        return attributes

    def fitted_with(self, autoencoders, connectors, losses) -> dict:
        """Return the attributes of an unwrapper that has these parts."""
        chain, ends, classes = self.chain, self.ends, self.classes
        heads = head_slices(chain)
        arguments = network_arguments(
            chain,
            self.layers,
            autoencoders,
            connectors,
            self.stop,
            ends,
            self.n_inputs,
        )
        network = self.make_network(
            **arguments,
            input_names=getattr(self.params, "input_names_", None),
            output_names=output_names(chain.n_outputs, classes, heads),
            classes=classes,
            decision_rule=None if classes is None else self.params._rule,
        )
        prefixes = self.feature_prefixes
        computed: list[Names] = prefixes[1 - ends.input :]
        if ends.output:
            computed.append(network.output_names_)
        connectors = [
            named(part, input_names=before, output_names=after)
            for part, before, after in zip(
                connectors, self.names_read(network), computed, strict=True
            )
        ]
        return {
            "autoencoders_": [
                named(part, feature_names=prefix)
                for part, prefix in zip(autoencoders, prefixes, strict=True)
            ],
            "connectors_": ends.between(connectors),
            **({"input_connector_": connectors[0]} if ends.input else {}),
            **({"output_connector_": connectors[-1]} if ends.output else {}),
            "layer_names_": [layer.name for layer in self.layers],
            **({} if classes is None else {"classes_": classes}),
            **({"heads_": heads} if heads else {}),
            "n_iter_": len(losses),
            "loss_curve_": losses,
            "_chain": self.chain,
            "_means": self.means,
            "_undistilled": self.undistilled,
            "_network": network,
        }

    def make_network(self, **arguments) -> SparseFeatureNetwork:
        """Make the network that the fitted parts are."""
        return SparseFeatureNetwork(**arguments)

    @property
    def feature_prefixes(self) -> list[Names]:
        """How the names of each layer's features begin."""
        return [feature_prefix(i) for i in range(len(self.layers))]

    def names_read(self, network) -> list[Names]:
        """Return the names of what each connector reads."""
        given = hasattr(network, "feature_names_in_")
        inputs = network.input_names_ if given else INPUT_PREFIX
        names = [*([inputs] * self.ends.input), *self.feature_prefixes]
        return names[: len(self.budgets)]

    def _autoencoders(self) -> list:
        return [
            SparseAutoencoder(k=max(1, min(32, layer.n_units // 2)))
            for layer in self.layers
        ]

    def say(self, name, text) -> None:
        """Print a line about a part, if that is wanted."""
        if self.params.verbose:
            say("FeatureUnwrapper", text, name)

    @property
    def share(self) -> Share:
        """What each part may print of how far it is: half the lines are for parts."""
        n_parts = len(self.layers) + len(self.budgets)
        return share_of("FeatureUnwrapper", self.params.verbose, 2 * n_parts)

    def training(self, name: str) -> AbstractContextManager[None]:
        """Print of the training of the whole network the other half of the lines."""
        share = share_of("FeatureUnwrapper", self.params.verbose, 2)
        return progress_of(share, name)

    def train(self, task: str, title: str, n_epochs: int, solve, moved) -> None:
        """Train the whole network, and take over what it has learnt.

        Parameters
        ----------
        task, title : str
            What callbacks see, and what lines of progress begin with.
        n_epochs : int
            Planned at most.
        solve : callable
            Given hooks, trains; returns what is learnt and the history.
        moved : callable
            Given what is learnt, and the epochs that were run or, on the way, None,
            returns autoencoders and connectors that have it.
        """
        context = self.open(task, max_subtasks=n_epochs)

        def so_far(learnt) -> dict:
            autoencoders, connectors = moved(learnt, None)
            return self.fitted_with(autoencoders, connectors, losses=[])

        hooks = CallbackEpochs(self.params, context, self.data, so_far)
        with self.training(title):
            learnt, history = solve(hooks)
        self.close(context)
        autoencoders, connectors = moved(learnt, history.n_epochs)
        self.autoencoders = self.autoencoders._replace(estimators=autoencoders)
        self.connectors = self.connectors._replace(estimators=connectors)
        self.losses = history.losses

    def names(self) -> tuple[list[str], list[str]]:
        """Return what to call each autoencoder, and each connector."""
        layers = [layer.name for layer in self.layers]
        ends = ["the inputs"] * self.ends.input, ["the outputs"] * self.ends.output
        between = pairwise([*ends[0], *map(repr, layers), *ends[1]])
        return (
            [f"autoencoder of {name!r}" for name in layers],
            [f"connector from {before} to {after}" for before, after in between],
        )

    @property
    def names_of_values(self) -> list[str]:
        """What to call the activations of each layer, and the outputs."""
        of_layers = (f"Activations of layer {layer.name!r}" for layer in self.layers)
        return [*of_layers, "The outputs of the model"]

    def open(self, name, **kwargs):
        """Open a task that callbacks see."""
        context = self.context.subcontext(task_name=name, **kwargs)
        context.call_on_fit_task_begin(estimator=self.params, **self.data)
        return context

    def close(self, context) -> None:
        """Close the task of a context."""
        context.call_on_fit_task_end(estimator=self.params, **self.data)

    def budget_of(self, index: int, n_outputs: int) -> int | None:
        """Return the weights that a connector may have; None: alpha decides."""
        connectors, given = self.connectors, self.budgets[index]
        if connectors.frozen[index]:
            return None  # it has the weights that it has
        if given is None:
            given = connectors.estimators[index].n_nonzero_coefs
        if given is None and self.params.connector is None:
            at_end = self.ends.mark(len(self.budgets))[index]
            given = default_budget(n_outputs, at_end)
        return given

    def n_epochs(self, n_rows: int) -> int:
        """Return how many epochs the training of the whole network plans."""
        if self.params.max_iter != "auto":
            return int(self.params.max_iter)
        return planned_epochs(n_rows, self.batch_size(n_rows))

    def batch_size(self, n_rows: int) -> int:
        """Return how many rows a minibatch of that training has."""
        if self.params.batch_size != "auto":
            return int(self.params.batch_size)
        return planned_batch_size(n_rows) if self.params.joint else BATCH_SIZE
