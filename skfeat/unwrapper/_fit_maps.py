"""The fit of an unwrapper whose layers are maps.

Autoencoders are fitted to sampled positions of their layers, connectors to sampled
patches; then all of them are trained together, batch by batch, the weights shared by
positions.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from skfeat._fitting import fit_part, with_decoder
from skfeat.autoencoder._joint import coder_of
from skfeat.connector._joint import connection_of
from skfeat.solvers.joint._problem import Connection
from skfeat.solvers.joint._start import dense_start
from skfeat.solvers.maps._problem import MapLayers, MapProblem
from skfeat.solvers.maps._start import patch_rows
from skfeat.solvers.maps._train import train_maps
from skfeat.unwrapper._fit_autoencoders import fit_autoencoders
from skfeat.unwrapper._fit_jointly import (
    note_pruning,
    parts_with,
    remedy_of,
    settings_of,
)
from skfeat.unwrapper._maps_plan import MapUnwrapping
from skfeat.utils._mixtures import share_that_suits
from skfeat.utils._torch import to_numpy
from skfeat.utils._warnings import told_once

# Rows of each layer that its autoencoder is fitted to, if there are so many; of a layer
# of rows, all.
_MOST_ROWS = 2**16
# Mixtures of maps that are looked at before rows are mixed.
_PROBED = 512


def run_maps(job: MapUnwrapping, X: np.ndarray, context: Any, data: dict) -> dict:
    """Fit all parts on the rows X, and return the attributes of the fitted unwrapper.

    Parameters
    ----------
    job : MapUnwrapping
    X : ndarray of shape (n, n_features)
        Maps, channel by channel, in the dtype of the chain.
    context : sklearn.callback.CallbackContext
    data : dict
        ``X``, ``y`` and ``metadata`` as the callbacks shall see them.
    """
    job.context, job.data = context, data
    layers = _layers(job, X)
    generator = np.random.default_rng(job.seed)
    rows, job.means = layers.sampled(max(_MOST_ROWS, len(X)), generator)
    fit_autoencoders(job, rows)
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


def _mixup_of(job: MapUnwrapping, layers: MapLayers) -> float:
    """Return the share of rows that are mixed, zero if the model suits no mixtures."""

    def compute(rows: np.ndarray) -> list[np.ndarray]:
        _, hidden, outputs = layers.run_rows(rows)
        return [to_numpy(values) for values in (*hidden, outputs)]

    return share_that_suits(
        float(job.params.mixup),
        job.batch_size(len(layers.X)),
        layers.X,
        compute,
        job.names_of_values,
        n_probed=_PROBED,
    )


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
    mixup = _mixup_of(job, layers) if joint else 0.0
    settings = settings_of(job, len(layers.X), mixup)

    def solve(hooks):
        return train_maps(
            problem,
            rows,
            settings,
            remedy=remedy_of(settings, "distill=False"),
            hooks=hooks,
            verbose=params.verbose,
        )

    def moved(learnt, n_epochs):
        coders, linked = parts_with(job, learnt, rows, n_epochs)
        if learnt.decoder is not None:
            parts = job.autoencoders._replace(estimators=coders)
            coders = with_decoder(parts, learnt.decoder)
        return coders, linked

    job.train("train", "training together", settings.n_epochs, solve, moved)
    note_pruning(job, settings)
