"""What happens in `FeatureUnwrapper.fit`: autoencoders, connectors, distillation."""

from __future__ import annotations

from itertools import pairwise
from math import ceil

import numpy as np
import torch

from skfeat._base import CallbackEpochs
from skfeat._fitting import (
    Ends,
    Parts,
    check_ends,
    check_shared_budget,
    check_width,
    clone_per_layer,
    default_budget,
    fit_autoencoders,
    fit_part,
    give_product_starts,
    ignored_in_parts,
    one_budget_each,
    pick_layers,
    refuse_lost_checkpoints,
    with_decoder,
    with_weights,
)
from skfeat.autoencoder._setup import ignored_by_autoencoder
from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder
from skfeat.connector._base import BaseConnector
from skfeat.connector._feature_connector import FeatureConnector
from skfeat.connector._setup import ignored_in_part
from skfeat.metrics import fvu
from skfeat.solvers._distill import DistillSettings, Student, distill
from skfeat.unwrapper._parts import (
    dense_codes,
    head_slices,
    layer_activations,
    logits_end,
    make_network,
    named_parts,
)
from skfeat.utils._distributed import agreed
from skfeat.utils._frozen import unnamed, warn_of_refits
from skfeat.utils._ignored import ignored_params, warn_of_ignored
from skfeat.utils._names import output_names
from skfeat.utils._torch import draw_seeds, n_batches, resolve_device

# Distillation starts from this many times the budget, and prunes down to it. At the
# ends, where budgets are larger, a wider start takes long and gains nothing.
_WIDER, _WIDER_AT_ENDS = 8, 2
# Updates that distillation plans, in no more than so many epochs.
_DISTILL_UPDATES, _MOST_EPOCHS = 1500, 200
_DISTILL_RATE = 1e-2


class Unwrapping:
    """One fit of an unwrapper: `prepare`, then `run`, then `fitted`.

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
        self.autoencoders, self.kept_autoencoders = clone_per_layer(
            self._autoencoders() if params.autoencoder is None else params.autoencoder,
            seeds[:n_layers],
            "autoencoder",
            SparseAutoencoder,
        )
        self.connectors, self.kept_connectors = clone_per_layer(
            FeatureConnector() if params.connector is None else params.connector,
            seeds[n_layers:-1],
            "connector",
            FeatureConnector,
            BaseConnector,
        )
        self._check_kept()
        self.ends.prepare(self.connectors, self.kept_connectors)
        self.budgets = one_budget_each(params.n_nonzero_coefs, n_connectors)
        check_shared_budget(params)
        parts = ["autoencoder"] + ["connector"] * (n_connectors > 0)
        warn_of_refits(params, parts)
        warn_of_ignored(params, self._ignored())
        self.device = resolve_device(params.device)
        self.losses: list[float] = []

    @property
    def n_tasks(self) -> int:
        """Tasks that callbacks see: each part, and distillation."""
        return len(self.autoencoders) + len(self.connectors) + 1

    def run(self, X, context, data) -> None:
        """Fit all parts on the rows X, in the dtype of the chain.

        Parameters
        ----------
        X : ndarray of shape (n, n_features)
        context : sklearn.callback.CallbackContext
        data : dict
            ``X``, ``y`` and ``metadata`` as the callbacks shall see them.
        """
        self.context, self.data = context, data
        chain, ends = self.chain, self.ends
        activations = layer_activations(chain, self.layers, X)
        self.start = self.layers[-1].stop
        self.stop = logits_end(chain, self.classes is not None)
        outputs = chain.forward(activations[-1], self.start, self.stop)
        self.means = [rows.mean(axis=0) for rows in activations]
        self._fit_autoencoders(activations)
        codes = [
            dense_codes(autoencoder, rows)
            for autoencoder, rows in zip(self.autoencoders, activations, strict=True)
        ]
        give_product_starts(
            ends.between(self.connectors),
            ends.between(self.kept_connectors),
            self.autoencoders,
            chain,
            self.layers,
        )
        features = [*([X] * ends.input), *codes, *([outputs] * ends.output)]
        self._fit_connectors(features)
        self.undistilled = self.autoencoders
        if self.params.distill and self._can_move:
            self._distill(features, activations[-1], outputs)
            last = self.autoencoders[-1]
            if not self.kept_autoencoders[-1]:
                decoded = last.inverse_transform(codes[-1])
                last.explained_variance_ = 1 - fvu(activations[-1], decoded)

    @property
    def _can_move(self) -> bool:
        """Whether distillation finds weights that it may train."""
        decoder = not (self.ends.output or self.kept_autoencoders[-1])
        return bool(self.connectors) and (decoder or not all(self.kept_connectors))

    def _ignored(self) -> dict[str, str]:
        """Return the parameters, nested ones too, that change nothing in this fit."""
        params, connectors = self.params, self.connectors
        own = [
            None if is_kept else connector.n_nonzero_coefs if given is None else given
            for connector, is_kept, given in zip(
                connectors, self.kept_connectors, self.budgets, strict=True
            )
        ]
        # Default connectors have a budget each.
        by_default = params.connector is None
        n_budgets = sum(budget is not None or by_default for budget in own)
        distills = bool(params.distill) and self._can_move
        found = ignored_params(
            params,
            connectors=bool(connectors),
            budgets=not connectors or not all(self.kept_connectors),
            shares=not connectors or n_budgets > 1,
            distills=distills,
            held=not self.ends.output or len(connectors) != 1,
        )
        found |= ignored_in_parts(
            params.autoencoder,
            "autoencoder",
            Parts(self.autoencoders, self.kept_autoencoders),
            lambda index: ignored_by_autoencoder(self.autoencoders[index]),
        )
        if not connectors:
            return found
        given = params.connector

        def ignored_of(index):
            part = given[index] if isinstance(given, list | tuple) else given
            owner = type(params).__name__
            return ignored_in_part(connectors[index], part, self.budgets[index], owner)

        parts = Parts(connectors, self.kept_connectors)
        return found | ignored_in_parts(given, "connector", parts, ignored_of)

    def _check_kept(self) -> None:
        """Refuse frozen parts of other layers than those they are to stand for."""
        is_list = isinstance(self.params.autoencoder, list | tuple)
        for index, (part, is_kept, layer) in enumerate(
            zip(self.autoencoders, self.kept_autoencoders, self.layers, strict=True)
        ):
            if is_kept:
                label = f"autoencoder[{index}]" if is_list else "autoencoder"
                check_width(part, label, layer.n_units, f"layer {layer.name!r} has")
        widths = [
            len(part.components_) if is_kept else part._width(layer.n_units)
            for part, is_kept, layer in zip(
                self.autoencoders, self.kept_autoencoders, self.layers, strict=True
            )
        ]
        chain, ends = self.chain, self.ends
        widths = [
            *([chain.n_features_in] * ends.input),
            *widths,
            *([chain.n_outputs] * ends.output),
        ]
        is_list = isinstance(self.params.connector, list | tuple)
        for index, (part, is_kept) in enumerate(
            zip(self.connectors, self.kept_connectors, strict=True)
        ):
            if is_kept:
                label = f"connector[{index}]" if is_list else "connector"
                check_ends(part, label, *widths[index : index + 2])

    def fitted(self) -> dict:
        """Return the attributes of the fitted unwrapper."""
        return self._fitted(self.autoencoders, self.connectors, self.losses)

    def _fitted(self, autoencoders, connectors, losses) -> dict:
        chain, ends, classes = self.chain, self.ends, self.classes
        heads = head_slices(chain)
        network = make_network(
            chain,
            self.layers,
            autoencoders,
            connectors,
            self.stop,
            ends,
            input_names=getattr(self.params, "input_names_", None),
            output_names=output_names(chain.n_outputs, classes, heads),
            classes=classes,
            decision_rule=None if classes is None else self.params._rule,
        )
        autoencoders, connectors = named_parts(network, autoencoders, connectors, ends)
        return {
            "autoencoders_": autoencoders,
            "connectors_": ends.between(connectors),
            **({"input_connector_": connectors[0]} if ends.input else {}),
            **({"output_connector_": connectors[-1]} if ends.output else {}),
            "layer_names_": [layer.name for layer in self.layers],
            **({} if classes is None else {"classes_": classes}),
            **({"heads_": heads} if heads else {}),
            "n_iter_": len(losses),
            "loss_curve_": losses,
            "_chain": chain,
            "_means": self.means,
            "_undistilled": self.undistilled,
            "_network": network,
        }

    def _autoencoders(self) -> list:
        return [
            SparseAutoencoder(k=max(1, min(32, layer.n_units // 2)))
            for layer in self.layers
        ]

    def _say(self, name, text) -> None:
        if self.params.verbose:
            print(f"[FeatureUnwrapper] {name}: {text}")

    def _names(self) -> tuple[list[str], list[str]]:
        """Return what to call each autoencoder, and each connector."""
        layers = [layer.name for layer in self.layers]
        ends = ["the inputs"] * self.ends.input, ["the outputs"] * self.ends.output
        between = pairwise([*ends[0], *map(repr, layers), *ends[1]])
        return (
            [f"autoencoder of {name!r}" for name in layers],
            [f"connector from {before} to {after}" for before, after in between],
        )

    def _open(self, name, **kwargs):
        """Open a task that callbacks see."""
        context = self.context.subcontext(task_name=name, **kwargs)
        context.call_on_fit_task_begin(estimator=self.params, **self.data)
        return context

    def _close(self, context) -> None:
        context.call_on_fit_task_end(estimator=self.params, **self.data)

    def _fit_autoencoders(self, activations) -> None:
        names, _ = self._names()
        contexts = [self._open("autoencoder") for _ in self.autoencoders]
        # Workers get the activations of their layer and nothing of the model.
        parts = Parts(self.autoencoders, self.kept_autoencoders)
        self.autoencoders = fit_autoencoders(
            parts, activations, contexts, self.params.n_jobs, names
        )
        for index, context in enumerate(contexts):
            self._close(context)
            if self.params.verbose:
                score = unnamed(self.autoencoders[index]).score(activations[index])
                self._say(names[index], f"R2 {score:.6g}")

    def _fit_connectors(self, features) -> None:
        """Fit each connector on the features that the ones before it compute.

        A connector can then correct the errors of those before it. Where distillation
        follows, default connectors start from the linear problem, which takes little
        time. Budgets that connectors set themselves are added to `budgets`.
        """
        params, budgets = self.params, self.budgets
        starts = params.connector is None and params.distill
        _, names = self._names()
        inputs = features[0]
        ends = self.ends.mark(len(self.connectors))
        for index, (connector, targets, at_end) in enumerate(
            zip(self.connectors, features[1:], ends, strict=True)
        ):
            context = self._open("connector")
            if self.kept_connectors[index]:
                budgets[index] = None  # it has the weights that it has
            else:
                budget = budgets[index]
                if budget is None:
                    budget = connector.n_nonzero_coefs
                if budget is None and params.connector is None:
                    budget = default_budget(targets.shape[1], at_end)
                if budget is not None:
                    times = _WIDER_AT_ENDS if at_end else _WIDER
                    wider = np.multiply(times if params.distill else 1, budget)
                    connector.set_params(n_nonzero_coefs=wider)
                budgets[index] = budget
                link = connector.link
                if starts:
                    connector.set_params(link="identity")
                fit_part(connector, inputs, context, targets, name=names[index])
                connector.set_params(link=link)
            self._close(context)
            inputs = unnamed(connector).predict(inputs).reshape(len(inputs), -1)
            if params.verbose:
                score = 1 - fvu(targets, inputs)
                weights = f"{connector.coef_.nnz} nonzero weights"
                self._say(names[index], f"{weights}, R2 {score:.6g}")

    def _n_epochs(self, n_rows: int) -> int:
        """Return how many epochs distillation plans."""
        if self.params.max_iter != "auto":
            return int(self.params.max_iter)
        updates_an_epoch = n_batches(n_rows, self.params.batch_size)
        return min(_MOST_EPOCHS, max(3, ceil(_DISTILL_UPDATES / updates_an_epoch)))

    def _distill(self, features, hidden, outputs) -> None:
        """Train the connectors together, and with them the last decoder."""
        params, chain, ends = self.params, self.chain, self.ends
        last = self.autoencoders[-1]
        student = Student(
            features=features,
            coefs=[connector.coef_.toarray() for connector in self.connectors],
            intercepts=[connector.intercept_ for connector in self.connectors],
            links=[connector.link for connector in self.connectors],
            decoder=None if ends.output else (last.components_, last.intercept_),
            frozen=self.kept_connectors,
            frozen_decoder=self.kept_autoencoders[-1],
            back=chain.torch_function(
                self.start, self.stop, dtype=torch.float32, device=self.device
            ),
            hidden=None if ends.output else hidden,
        )
        settings = DistillSettings(
            budgets=self.budgets,
            share_budgets=bool(params.shared_budget),
            classify=self.classes is not None,
            faithfulness=float(params.faithfulness),
            n_epochs=self._n_epochs(len(outputs)),
            tol=float(params.tol),
            learning_rate=_DISTILL_RATE,
            batch_size=int(params.batch_size),
            device=self.device,
            seed=self.seed,
        )
        autoencoders = Parts(self.autoencoders, self.kept_autoencoders)
        connectors = Parts(self.connectors, self.kept_connectors)

        def moved(learnt) -> tuple[list, list]:
            return (
                with_decoder(autoencoders, learnt.decoder),
                with_weights(connectors, settings, learnt),
            )

        context = self._open("distill", max_subtasks=settings.n_epochs)
        learnt, history = distill(
            student,
            outputs,
            np.ones(len(outputs)),
            settings,
            hooks=CallbackEpochs(
                params,
                context,
                self.data,
                lambda learnt: self._fitted(*moved(learnt), losses=[]),
            ),
            verbose=params.verbose,
        )
        self._close(context)
        self.autoencoders, self.connectors = moved(learnt)
        self.losses = history.losses
