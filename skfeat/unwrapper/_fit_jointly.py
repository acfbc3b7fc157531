"""The joint fit: autoencoders and connectors are trained together on the outputs."""

from __future__ import annotations

import torch

from skfeat._fitting import fit_part
from skfeat.autoencoder._joint import coder_of, drop_training_state, with_coder
from skfeat.connector._joint import connection_of, with_weights
from skfeat.solvers._prune import pruned_epochs
from skfeat.solvers.joint._problem import JointSettings, Problem
from skfeat.solvers.joint._train import train_jointly
from skfeat.unwrapper._computed import mixup_of, some_rows, stages_of_held
from skfeat.unwrapper._parts import dense_codes
from skfeat.unwrapper._plan import Rows, Unwrapping
from skfeat.utils._warnings import told_once


def fit_jointly(job: Unwrapping, rows: Rows) -> None:
    """Train fitted autoencoders on, together with the connectors between them."""
    params, ends = job.params, job.ends
    with told_once(len(job.connectors.estimators), "connectors"):
        _start_connectors(job, rows)
    for autoencoder, is_kept in zip(*job.autoencoders, strict=True):
        if not is_kept:
            drop_training_state(autoencoder)
    frozen = job.connectors.frozen
    stages = rows.stages or stages_of_held(job, rows.X)
    problem = Problem(
        hidden=rows.activations,
        coders=[
            coder_of(autoencoder, frozen=is_kept)
            for autoencoder, is_kept in zip(*job.autoencoders, strict=True)
        ],
        connections=[
            connection_of(connector, shape, budget, frozen=is_kept)
            for connector, shape, budget, is_kept in zip(
                job.connectors.estimators,
                _shapes(job, rows),
                job.budgets,
                frozen,
                strict=True,
            )
        ],
        inputs=rows.X if ends.input else None,
        outputs=rows.outputs,
        back=None
        if ends.output
        else job.chain.torch_function(
            job.start, job.stop, dtype=torch.float32, device=job.device
        ),
        stages=stages,
    )
    settings = settings_of(job, len(rows.X), mixup_of(job, stages))

    def solve(hooks):
        return train_jointly(
            problem,
            settings,
            name="FeatureUnwrapper",
            remedy=remedy_of(settings, "joint=False"),
            hooks=hooks,
            verbose=params.verbose,
            file=job.kept,
        )

    def moved(learnt, n_epochs):
        return parts_with(job, learnt, rows.activations, n_epochs)

    job.train("train", "training together", settings.n_epochs, solve, moved)
    note_pruning(job, settings)


def _shapes(job: Unwrapping, rows: Rows) -> list[tuple[int, int]]:
    """Return the shape (n_outputs, n_inputs) of each connector."""
    widths = job.widths
    if job.ends.input:
        widths.insert(0, rows.X.shape[1])
    if job.ends.output:
        widths.append(rows.outputs.shape[1])
    return list(zip(widths[1:], widths[:-1], strict=True))


def _start_connectors(job: Unwrapping, rows: Rows) -> None:
    """Set the budgets; fit the connectors that have none, whose alpha decides.

    They are fitted to the encoded features of both layers.
    """
    _, names = job.names()
    held: list[Rows] = []

    def features(position: int):
        own = held[0]
        layer = position - job.ends.input
        if layer < 0:
            return own.X
        if layer == len(job.layers):
            return own.outputs
        return dense_codes(job.autoencoders.estimators[layer], own.activations[layer])

    for index, (n_outputs, _) in enumerate(_shapes(job, rows)):
        context = job.open("connector")
        job.budgets[index] = job.budget_of(index, n_outputs)
        if job.budgets[index] is None and not job.connectors.frozen[index]:
            connector = job.connectors.estimators[index]
            if not job.kept.find_connector(index, connector):
                held = held or [some_rows(rows, job.widths)]
                y = features(index + 1)
                name, share = names[index], job.share
                fit_part(connector, features(index), context, y, name=name, share=share)
                job.kept.keep_connector(index, connector)
            job.say(names[index], f"{connector.coef_.nnz} nonzero weights")
        job.close(context)


def parts_with(job, learnt, rows: list, n_epochs: int | None) -> tuple[list, list]:
    """Return the parts with what they have learnt in so many epochs.

    Autoencoders are measured on the rows of each layer, unless that is on the way: if
    the number of epochs is None.
    """
    measured = [None] * len(rows) if n_epochs is None else rows
    dtype = job.chain.dtype
    return (
        [
            with_coder(part, coder, hidden)
            for part, coder, hidden in zip(
                job.autoencoders.estimators, learnt.coders, measured, strict=True
            )
        ],
        [
            part
            if is_kept
            else with_weights(part, coef, intercept, dtype, n_epochs=n_epochs or 0)
            for part, is_kept, coef, intercept in zip(
                *job.connectors, learnt.coefs, learnt.intercepts, strict=True
            )
        ],
    )


def note_pruning(job, settings: JointSettings) -> None:
    """Note in which epochs weights were pruned, if any were."""
    if any(budget is not None for budget in job.budgets):
        job.pruning_epochs = pruned_epochs(settings.n_epochs)


def remedy_of(settings: JointSettings, other: str) -> str:
    """Return what is advised if training together diverges."""
    ways = ["mixup=0"] * (settings.mixup > 0) + [other]
    return f"set {' or '.join(ways)}, or rescale the activations of the model"


def settings_of(job, n_rows: int, mixup: float) -> JointSettings:
    """Return how the parts of an unwrapper's network are trained on so many rows."""
    params = job.params
    return JointSettings(
        share_budgets=bool(params.shared_budget),
        classify=job.classes is not None,
        faithfulness=float(params.faithfulness),
        train_encoder=bool(params.train_encoder),
        n_epochs=job.n_epochs(n_rows),
        tol=float(params.tol),
        batch_size=job.batch_size(n_rows),
        device=job.device,
        seed=job.seed,
        mixup=mixup,
    )
