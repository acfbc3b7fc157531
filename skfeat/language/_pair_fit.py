"""How the parts of a layer pair are fitted: autoencoders, then the maps between them.

The functions read the parameters of a :class:`LayerPair` and return what they fit; the
estimator keeps it.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.base import clone

from skfeat._base import CallbackEpochs
from skfeat._fitting import (
    Parts,
    check_ends,
    check_width,
    clone_per_layer,
    fit_autoencoders,
    fit_part,
)
from skfeat.autoencoder._joint import coder_of, with_coder
from skfeat.autoencoder._setup import ignored_by_autoencoder
from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder
from skfeat.connector._base import BaseConnector
from skfeat.connector._feature_connector import FeatureConnector
from skfeat.connector._joint import with_weights
from skfeat.connector._setup import ignored_in_part
from skfeat.language._dense_map import fit_dense
from skfeat.solvers.joint._problem import Connection, JointSettings, Problem
from skfeat.solvers.joint._train import planned_epochs, train_jointly
from skfeat.utils._frozen import is_frozen, thawed, unnamed
from skfeat.utils._ignored import ignored_params
from skfeat.utils._progress import Share, progress_of, say, share_of
from skfeat.utils._torch import with_gradients
from skfeat.utils._warnings import warnings_of

_NAMES = ("input_autoencoder", "output_autoencoder")

# How both autoencoders are trained together.
_BATCH_SIZE, _TOL = 512, 1e-3


def prepare_autoencoders(pair, rows, seeds) -> Parts:
    """Return the autoencoder of each side: a clone to fit, or a frozen fitted one.

    Raises
    ------
    ValueError
        If a frozen estimator is not an autoencoder, or was fitted to rows of another
        width.
    """
    sides = [
        _prepare(getattr(pair, name), seed, name, X.shape[1])
        for name, seed, X in zip(_NAMES, seeds, rows, strict=True)
    ]
    return Parts(
        [part for side in sides for part in side.estimators],
        [is_kept for side in sides for is_kept in side.frozen],
    )


def ignored_by_pair(pair, parts: Parts) -> dict[str, str]:
    """Return the parameters, nested ones too, that change nothing in a fit."""
    given = pair.connector
    found = ignored_params(
        pair, budgets=not is_frozen(given), trains=not all(parts.frozen)
    )
    for name, part, is_kept in zip(_NAMES, *parts, strict=True):
        if getattr(pair, name) is not None and not is_kept:
            ignored = ignored_by_autoencoder(part)
            found |= {f"{name}__{key}": text for key, text in ignored.items()}
    if given is not None and not is_frozen(given):
        owner = type(pair).__name__
        ignored = ignored_in_part(given, given, pair.n_nonzero_coefs, owner)
        found |= {f"connector__{key}": text for key, text in ignored.items()}
    return found


def _prepare(part, seed: int, name: str, width: int) -> Parts:
    part = _default_autoencoder(width) if part is None else part
    parts = clone_per_layer(part, [seed], name, SparseAutoencoder)
    if parts.frozen[0]:
        check_width(parts.estimators[0], name, width, "its rows here have")
    return parts


def _default_autoencoder(width: int) -> SparseAutoencoder:
    return SparseAutoencoder(8 * width, k=min(6, max(1, width // 2)))


def _default_connector() -> FeatureConnector:
    return FeatureConnector(link="identity", fit_intercept=False, candidates=6)


def fit_both_autoencoders(pair, parts, rows, context, data) -> list[SparseAutoencoder]:
    """Fit the autoencoders that are not frozen, each to its rows."""
    contexts = [context.subcontext(task_name=name) for name in _NAMES]
    for subcontext in contexts:
        subcontext.call_on_fit_task_begin(estimator=pair, **data)
    share = pair_share(pair)
    parts = fit_autoencoders(parts, rows, contexts, pair.n_jobs, _NAMES, share)
    for name, part, X, subcontext in zip(_NAMES, parts, rows, contexts, strict=True):
        subcontext.call_on_fit_task_end(estimator=pair, **data)
        if pair.verbose:
            say(share.owner, f"R2 {unnamed(part).score(X):.6g}", name)
    return parts


@with_gradients()
def train_both_together(
    pair, parts: Parts, rows, seed: int, context, data
) -> list[SparseAutoencoder]:
    """Train fitted autoencoders on, together with a sparse map between them."""
    given = pair.connector
    connector = thawed(_default_connector() if given is None else given)
    widths = [len(part.components_) for part in parts.estimators]
    budget, link = connector.n_nonzero_coefs, connector.link
    if is_frozen(given):
        budget, link = connector.coef_.nnz, connector._fitted_link
    elif pair.n_nonzero_coefs is not None:
        budget = round(float(pair.n_nonzero_coefs) * widths[1])
    problem = Problem(
        hidden=list(rows),
        coders=[
            coder_of(part, frozen=is_kept) for part, is_kept in zip(*parts, strict=True)
        ],
        connections=[
            Connection(link, budget, fit_intercept=bool(connector.fit_intercept))
        ],
    )
    settings = JointSettings(
        share_budgets=False,
        classify=False,
        faithfulness=float(pair.faithfulness),
        train_encoder=True,
        n_epochs=planned_epochs(len(rows[0]), _BATCH_SIZE),
        tol=_TOL,
        batch_size=_BATCH_SIZE,
        device=torch.device("cpu"),
        seed=seed,
    )
    subcontext = context.subcontext(task_name="train", max_subtasks=settings.n_epochs)
    subcontext.call_on_fit_task_begin(estimator=pair, **data)

    def moved(learnt, measured=(None, None)):
        return [
            with_coder(part, coder, X)
            for part, coder, X in zip(
                parts.estimators, learnt.coders, measured, strict=True
            )
        ]

    with progress_of(pair_share(pair), "training together"):
        learnt, _ = train_jointly(
            problem,
            settings,
            name="LayerPair",
            remedy="set joint=False, or rescale X and y",
            hooks=CallbackEpochs(
                pair,
                subcontext,
                data,
                lambda learnt: {
                    f"{name}_": part
                    for name, part in zip(_NAMES, moved(learnt), strict=True)
                },
            ),
            verbose=pair.verbose,
        )
    subcontext.call_on_fit_task_end(estimator=pair, **data)
    return moved(learnt, rows)


def n_parts(pair) -> int:
    """Return how many parts a pair fits: both sides, together if wanted, and maps."""
    return 3 + bool(pair.joint) + (pair.nonlinear_connector is not None)


def pair_share(pair) -> Share:
    """Return what each part of a pair may print."""
    return share_of(type(pair).__name__, pair.verbose, n_parts(pair))


def fit_maps(
    pair,
    codes_in: sparse.csr_array,
    codes_out: sparse.csr_array,
    seed: int,
    context,
    data,
) -> dict[str, Any]:
    """Fit the maps between live features.

    Returns
    -------
    dict of str to regressor
        "sparse", "dense" and, if the pair has a `nonlinear_connector`, "nonlinear".
    """
    connector = _default_connector() if pair.connector is None else pair.connector
    (connector,), (is_kept,) = clone_per_layer(
        connector, [seed], "connector", FeatureConnector, BaseConnector
    )
    n_outputs = codes_out.shape[1]
    if is_kept:
        connector = _between_live(connector, pair)
        check_ends(connector, "connector", codes_in.shape[1], n_outputs)
    elif pair.n_nonzero_coefs is not None:
        budget = round(float(pair.n_nonzero_coefs) * n_outputs)
        connector.set_params(n_nonzero_coefs=budget)
    share = pair_share(pair)
    subcontext = context.subcontext(task_name="connector")
    subcontext.call_on_fit_task_begin(estimator=pair, **data)
    if not is_kept:
        connector = fit_part(
            connector, codes_in, subcontext, codes_out, name="connector", share=share
        )
    if pair.verbose:
        n_weights = connector.coef_.nnz
        an_output = f"{n_weights / n_outputs:.3g} an output"
        say(share.owner, f"{n_weights} weights, {an_output}", "connector")
    maps = {
        "sparse": connector,
        "dense": fit_dense(
            codes_in,
            codes_out,
            fit_intercept=connector.fit_intercept,
            ridge=float(pair.ridge),
        ),
    }
    subcontext.call_on_fit_task_end(estimator=pair, **data)
    if pair.nonlinear_connector is not None:
        codes = codes_in, codes_out
        maps["nonlinear"] = _fit_nonlinear(pair, codes, seed, context, data)
    return maps


def _between_live(connector, pair):
    """Return the part between live features of a connector between all features."""
    live = pair.live_outputs_, pair.live_inputs_
    n_all = len(pair.output_events_), len(pair.input_events_)
    if connector.coef_.shape != n_all or n_all == tuple(map(len, live)):
        return connector
    outputs, inputs = live
    coef = sparse.csr_array(connector.coef_)[outputs][:, inputs]
    intercept = np.asarray(connector.intercept_)[outputs]
    own = FeatureConnector(link=connector._fitted_link, n_nonzero_coefs=int(coef.nnz))
    return with_weights(own, coef, intercept, coef.dtype, n_epochs=0)


def _fit_nonlinear(pair, codes, seed: int, context, data):
    name = "nonlinear_connector"
    nonlinear = clone(pair.nonlinear_connector)
    if nonlinear.get_params().get("random_state", seed) is None:
        nonlinear.set_params(random_state=seed)
    subcontext = context.subcontext(task_name=name)
    subcontext.call_on_fit_task_begin(estimator=pair, **data)
    with ExitStack() as within:
        within.enter_context(warnings_of(name))
        within.enter_context(progress_of(pair_share(pair), name))
        if hasattr(nonlinear, "set_callbacks"):
            within.enter_context(subcontext.propagate_callback_context(nonlinear))
        nonlinear.fit(*codes)
    subcontext.call_on_fit_task_end(estimator=pair, **data)
    if pair.verbose:
        say(type(pair).__name__, "fitted", name)
    return nonlinear


def live_features(
    events: np.ndarray, min_events: int, n_rows: int, side: str
) -> np.ndarray:
    """Return the features of a side that fire in at least `min_events` rows.

    Raises
    ------
    ValueError
        If no feature does.
    """
    live = np.flatnonzero(events >= min_events)
    if not len(live):
        raise ValueError(
            f"min_events={min_events} leaves no {side} feature: the most frequent one "
            f"fires in {events.max(initial=0)} of n_samples={n_rows} rows; lower it or "
            f"give more rows."
        )
    return live


def spread_weights(coef, live, shape) -> sparse.csr_array:
    """Return weights between live features as weights between all features.

    Parameters
    ----------
    coef : sparse array of shape (n_live_outputs, n_live_inputs)
    live : tuple of two ndarrays of int
        The live outputs and the live inputs.
    shape : tuple of int (n_outputs, n_inputs)
    """
    coef = sparse.coo_array(coef)
    indices = [numbers[at] for numbers, at in zip(live, coef.coords, strict=True)]
    return sparse.csr_array((coef.data, tuple(indices)), shape=shape)
