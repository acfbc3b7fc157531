"""The separate fit: connectors one after the other, then distillation.

Autoencoders are held still, but for the last decoder.
"""

from __future__ import annotations

import numpy as np
import torch

from skfeat._fitting import fit_part, with_decoder, with_weights
from skfeat.metrics import fvu
from skfeat.solvers._distill import DistillSettings, Student, distill
from skfeat.unwrapper._computed import some_rows
from skfeat.unwrapper._parts import dense_codes
from skfeat.unwrapper._plan import Rows, Unwrapping
from skfeat.utils._frozen import unnamed
from skfeat.utils._warnings import told_once

# Distillation starts from this many times the budget, and prunes down to it. At the
# ends, where budgets are larger, a wider start takes long and gains nothing.
_WIDER, _WIDER_AT_ENDS = 8, 2
_DISTILL_RATE = 1e-2


def fit_apart(job: Unwrapping, rows: Rows) -> None:
    """Fit the connectors to fitted autoencoders, and distil if that is wanted."""
    rows = some_rows(rows, job.widths)
    autoencoders, ends = job.autoencoders, job.ends
    codes = [
        dense_codes(autoencoder, hidden)
        for autoencoder, hidden in zip(
            autoencoders.estimators, rows.activations, strict=True
        )
    ]
    features = [*([rows.X] * ends.input), *codes, *([rows.outputs] * ends.output)]
    with told_once(len(job.connectors.estimators), "connectors"):
        _fit_connectors(job, features)
    job.undistilled = autoencoders.estimators
    if job.params.distill and job.can_move:
        _distill(job, features, rows)
        if not autoencoders.frozen[-1]:
            last = job.autoencoders.estimators[-1]
            decoded = last.inverse_transform(codes[-1])
            last.explained_variance_ = 1 - fvu(rows.activations[-1], decoded)


def _fit_connectors(job: Unwrapping, features) -> None:
    """Fit each connector on the features that the ones before it compute.

    A connector can then correct the errors of those before it. Where distillation
    follows, default connectors start from the linear problem, which takes little
    time. Budgets that connectors set themselves are added to `budgets`.
    """
    params, budgets = job.params, job.budgets
    starts = params.connector is None and params.distill
    _, names = job.names()
    inputs = features[0]
    ends = job.ends.mark(len(budgets))
    for index, (connector, targets, at_end) in enumerate(
        zip(job.connectors.estimators, features[1:], ends, strict=True)
    ):
        context = job.open("connector")
        budgets[index] = budget = job.budget_of(index, targets.shape[1])
        if not job.connectors.frozen[index]:
            if budget is not None:
                times = _WIDER_AT_ENDS if at_end else _WIDER
                wider = np.multiply(times if params.distill else 1, budget)
                connector.set_params(n_nonzero_coefs=wider)
            link = connector.link
            if starts:
                connector.set_params(link="identity")
            name, share = names[index], job.share
            if not job.kept.find_connector(index, connector):
                fit_part(connector, inputs, context, targets, name=name, share=share)
                job.kept.keep_connector(index, connector)
            # A start is fitted as a linear map, and runs with the link that was wanted.
            connector.set_params(link=link)
            connector._link = link
        job.close(context)
        inputs = unnamed(connector).predict(inputs).reshape(len(inputs), -1)
        if params.verbose:
            score = 1 - fvu(targets, inputs)
            weights = f"{connector.coef_.nnz} nonzero weights"
            job.say(names[index], f"{weights}, R2 {score:.6g}")


def _distill(job: Unwrapping, features, rows: Rows) -> None:
    """Train the connectors together, and with them the last decoder."""
    params, ends, outputs = job.params, job.ends, rows.outputs
    autoencoders, connectors = job.autoencoders, job.connectors
    last = autoencoders.estimators[-1]
    student = Student(
        features=features,
        coefs=[connector.coef_.toarray() for connector in connectors.estimators],
        intercepts=[connector.intercept_ for connector in connectors.estimators],
        links=[connector._fitted_link for connector in connectors.estimators],
        decoder=None if ends.output else (last.components_, last.intercept_),
        frozen=connectors.frozen,
        frozen_decoder=autoencoders.frozen[-1],
        back=job.chain.torch_function(
            job.start, job.stop, dtype=torch.float32, device=job.device
        ),
        hidden=None if ends.output else rows.activations[-1],
    )
    settings = DistillSettings(
        budgets=job.budgets,
        share_budgets=bool(params.shared_budget),
        classify=job.classes is not None,
        faithfulness=float(params.faithfulness),
        n_epochs=job.n_epochs(len(outputs)),
        tol=float(params.tol),
        learning_rate=_DISTILL_RATE,
        batch_size=job.batch_size(len(outputs)),
        device=job.device,
        seed=job.seed,
    )

    def solve(hooks):
        weights = np.ones(len(outputs))
        return distill(
            student, outputs, weights, settings, hooks=hooks, verbose=params.verbose
        )

    def moved(learnt, n_epochs) -> tuple[list, list]:
        return (
            with_decoder(autoencoders, learnt.decoder),
            with_weights(connectors, settings, learnt),
        )

    job.train("distill", "distillation", settings.n_epochs, solve, moved)
