"""The fit of an unwrapper whose layers are maps.

Autoencoders are fitted to sampled positions of their layers, connectors to sampled
patches; then all of them are trained together, batch by batch, the weights shared by
positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from skfeat._base import CallbackEpochs
from skfeat._fitting import fit_autoencoders, fit_part, with_decoder
from skfeat.autoencoder._joint import coder_of, with_coder
from skfeat.connector._joint import connection_of, with_weights
from skfeat.solvers._prune import pruned_epochs
from skfeat.solvers.joint._problem import Connection
from skfeat.solvers.joint._start import dense_start
from skfeat.solvers.maps._problem import MapLayers, MapProblem
from skfeat.solvers.maps._start import patch_rows
from skfeat.solvers.maps._train import train_maps
from skfeat.unwrapper._fit_jointly import settings_of
from skfeat.unwrapper._maps_plan import MapUnwrapping
from skfeat.utils._frozen import unnamed
from skfeat.utils._warnings import told_once

# Rows of each layer that its autoencoder is fitted to, if there are so many; of a layer
# of rows, all.
_MOST_ROWS = 2**16


def run_maps(
    job: MapUnwrapping,
    X: np.ndarray,
    context: Any,
    data: dict,
    shorten: Callable[[MapUnwrapping, list[int]], None],
) -> dict:
    """Fit all parts on the rows X, and return the attributes of the fitted unwrapper.

    Parameters
    ----------
    job : MapUnwrapping
    X : ndarray of shape (n, n_features)
        Maps, channel by channel, in the dtype of the chain.
    context : sklearn.callback.CallbackContext
    data : dict
        ``X``, ``y`` and ``metadata`` as the callbacks shall see them.
    shorten : callable
        Sets how long autoencoders are fitted, given the rows of each layer.
    """
    job.context, job.data = context, data
    layers = _layers(job, X)
    generator = np.random.default_rng(job.seed)
    rows, job.means = layers.sampled(max(_MOST_ROWS, len(X)), generator)
    shorten(job, [len(own) for own in rows])
    _fit_autoencoders(job, rows)
    with told_once(len(job.connectors.estimators), "connectors"):
        connections = _start_connectors(job, layers, generator)
    if job.params.distill and job.can_move:
        _train(job, layers, rows, connections)
    return job.fitted()


def _layers(job: MapUnwrapping, X: np.ndarray) -> MapLayers:
    stops = [0, *(layer.stop for layer in job.layers), job.stop]
    is_double = job.chain.dtype == np.float64
    dtype = torch.float64 if is_double else torch.float32
    functions = [
        job.chain.torch_function(begin, end, dtype=dtype, device=job.device)
        for begin, end in pairwise(stops)
    ]
    shape = job.input_map
    return MapLayers(
        X,
        functions,
        job.n_positions,
        job.device,
        dtype,
        1 if shape is None else shape.n_positions,
    )


def _fit_autoencoders(job: MapUnwrapping, rows: list[np.ndarray]) -> None:
    names, _ = job.names()
    contexts = [job.open("autoencoder") for _ in job.layers]
    fitted = fit_autoencoders(
        job.autoencoders, rows, contexts, job.params.n_jobs, names, job.share
    )
    job.take_autoencoders(fitted)
    for name, part, own, context in zip(names, fitted, rows, contexts, strict=True):
        job.close(context)
        if job.params.verbose:
            job.say(name, f"R2 {unnamed(part).score(own):.6g}")


def _start_connectors(
    job: MapUnwrapping, layers: MapLayers, generator: np.random.Generator
) -> list[Connection]:
    """Set the budgets, and fit connectors to sampled patches.

    Those with a budget start dense where training together prunes them; without that,
    and without a budget, their own solver fits them.
    """
    _, names = job.names()
    coders = [coder_of(part, frozen=True) for part in job.autoencoders.estimators]
    widths = job.end_widths([len(coder.encoder) for coder in coders])
    connections = []
    for index, n_read in enumerate(job.n_read(widths)):
        context = job.open("connector")
        connector = job.connectors.estimators[index]
        is_kept = job.connectors.frozen[index]
        n_outputs = widths[index + 1]
        job.budgets[index] = budget = job.budget_of(index, n_outputs)
        if is_kept:
            connection = connection_of(
                connector, (n_outputs, n_read), None, frozen=True
            )
            connections.append(connection)
            job.close(context)
            continue
        computed = index + 1 - job.ends.input
        X, Y = patch_rows(layers, coders, computed, job.reads[index], generator)
        if budget is not None and job.params.distill:
            connections.append(_dense_start(connector, X, Y, budget))
        else:
            if budget is not None:
                connector.set_params(n_nonzero_coefs=budget)
            name, share = names[index], job.share
            fit_part(connector, X, context, Y, name=name, share=share)
            job.say(names[index], f"{connector.coef_.nnz} nonzero weights")
            connections.append(connection_of(connector, (n_outputs, n_read), None))
        job.close(context)
    return connections


def _dense_start(connector, X, Y, budget: int) -> Connection:
    shape = Y.shape[1], X.shape[1]
    connection = connection_of(connector, shape, budget)
    if connection.start is not None:
        return connection
    weights = np.full(len(X), 1 / len(X))
    fits_intercept = connection.fit_intercept
    start = dense_start(X, Y, weights, budget, fit_intercept=fits_intercept)
    return replace(connection, start=start)


def _train(
    job: MapUnwrapping,
    layers: MapLayers,
    rows: list[np.ndarray],
    connections: list[Connection],
) -> None:
    """Train autoencoders, if `joint`, and connectors together."""
    params, ends = job.params, job.ends
    kept = job.autoencoders.frozen
    joint = bool(params.joint)
    if not joint:
        job.undistilled = job.autoencoders.estimators
    problem = MapProblem(
        layers,
        [
            coder_of(part, frozen=is_kept or not joint)
            for part, is_kept in zip(*job.autoencoders, strict=True)
        ],
        connections,
        job.reads,
        ends.input,
        None
        if ends.output
        else job.chain.torch_function(
            job.start, job.stop, dtype=torch.float32, device=job.device
        ),
        trains_decoder=not (joint or ends.output or kept[-1]),
    )
    settings = settings_of(job, len(layers.X))
    context = job.open("train", max_subtasks=settings.n_epochs)

    def state(learnt):
        return job.fitted_with(*_moved(job, learnt), losses=[])

    hooks = CallbackEpochs(params, context, job.data, state)
    with job.training("training together"):
        learnt, history = train_maps(
            problem,
            rows,
            settings,
            remedy="set distill=False, or rescale the activations of the model",
            hooks=hooks,
            verbose=params.verbose,
        )
    job.close(context)
    coders, linked = _moved(job, learnt, rows, history.n_epochs)
    job.autoencoders = job.autoencoders._replace(estimators=coders)
    job.connectors = job.connectors._replace(estimators=linked)
    job.losses = history.losses
    if any(budget is not None for budget in job.budgets):
        job.pruning_epochs = pruned_epochs(settings.n_epochs)


def _moved(
    job: MapUnwrapping, learnt: Any, rows: list | None = None, n_epochs: int = 0
) -> tuple[list, list]:
    """Return the parts with what they have learnt, measured on rows if given."""
    measured = [None] * len(learnt.coders) if rows is None else rows
    coders = [
        with_coder(part, coder, own)
        for part, coder, own in zip(
            job.autoencoders.estimators, learnt.coders, measured, strict=True
        )
    ]
    if learnt.decoder is not None:
        parts = job.autoencoders._replace(estimators=coders)
        coders = with_decoder(parts, learnt.decoder)
    dtype = job.chain.dtype
    connectors = [
        part
        if is_kept
        else with_weights(part, coef, intercept, dtype, n_epochs=n_epochs)
        for part, is_kept, coef, intercept in zip(
            *job.connectors, learnt.coefs, learnt.intercepts, strict=True
        )
    ]
    return coders, connectors
