"""The joint fit: autoencoders and connectors are trained together on the outputs."""

from __future__ import annotations

import torch

from skfeat._base import CallbackEpochs
from skfeat._fitting import fit_part
from skfeat.autoencoder._joint import coder_of, drop_training_state, with_coder
from skfeat.connector._joint import connection_of, with_weights
from skfeat.solvers._prune import pruned_epochs
from skfeat.solvers.joint._problem import JointSettings, Learnt, Problem
from skfeat.solvers.joint._train import train_jointly
from skfeat.unwrapper._computed import some_rows
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
        stages=rows.stages,
    )
    settings = settings_of(job, len(rows.X))
    context = job.open("train", max_subtasks=settings.n_epochs)
    hooks = CallbackEpochs(
        params,
        context,
        job.data,
        lambda learnt: job.fitted_with(*_moved(job, learnt), losses=[]),
    )
    with job.training("training together"):
        learnt, history = train_jointly(
            problem,
            settings,
            name="FeatureUnwrapper",
            remedy="set joint=False, or rescale the activations of the model",
            hooks=hooks,
            verbose=params.verbose,
            file=job.kept,
        )
    job.close(context)
    coders, linked = _moved(job, learnt, rows, history.n_epochs)
    job.autoencoders = job.autoencoders._replace(estimators=coders)
    job.connectors = job.connectors._replace(estimators=linked)
    job.losses = history.losses
    if any(budget is not None for budget in job.budgets):
        job.pruning_epochs = pruned_epochs(settings.n_epochs)


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


def _moved(
    job: Unwrapping, learnt: Learnt, rows: Rows | None = None, n_epochs: int = 0
) -> tuple[list, list]:
    """Return the parts with what they have learnt, measured on rows if given."""
    measured = [None] * len(learnt.coders) if rows is None else rows.activations
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
            else with_weights(part, coef, intercept, dtype, n_epochs=n_epochs)
            for part, is_kept, coef, intercept in zip(
                *job.connectors, learnt.coefs, learnt.intercepts, strict=True
            )
        ],
    )


def settings_of(job, n_rows: int) -> JointSettings:
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
    )
