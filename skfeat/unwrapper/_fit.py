"""What happens in `FeatureUnwrapper.fit`: a plan, then autoencoders, then the rest."""

from __future__ import annotations

from skfeat._fitting import check_shared_budget, give_product_starts
from skfeat.unwrapper._checkpoint import keep
from skfeat.unwrapper._computed import computed_rows, stages_of
from skfeat.unwrapper._fit_apart import fit_apart
from skfeat.unwrapper._fit_autoencoders import fit_autoencoders
from skfeat.unwrapper._fit_checks import check_kept, ignored_by_unwrapper
from skfeat.unwrapper._fit_jointly import fit_jointly
from skfeat.unwrapper._fit_maps import run_maps
from skfeat.unwrapper._maps_plan import MapUnwrapping
from skfeat.unwrapper._parts import finite_forward, layer_activations
from skfeat.unwrapper._plan import Rows, Unwrapping
from skfeat.utils._frozen import warn_of_refits
from skfeat.utils._ignored import warn_of_ignored
from skfeat.utils._rows import assert_finite_rows, mapped_file
from skfeat.utils._stages import NotFiniteError
from skfeat.utils._torch import with_gradients


def prepare(params, chain, classes) -> Unwrapping:
    """Plan a fit, or say what is wrong with its parameters.

    Parameters
    ----------
    params : FeatureUnwrapper
        Its parameters are read, nothing is written.
    chain : Chain
    classes : ndarray or None
        Labels of a classifier.
    """
    kind = MapUnwrapping if chain.has_maps else Unwrapping
    job = kind(params, chain, classes)
    check_kept(job)
    job.ends.prepare(*job.connectors)
    check_shared_budget(params)
    warn_of_refits(params, ["autoencoder"] + ["connector"] * (len(job.budgets) > 0))
    warn_of_ignored(params, ignored_by_unwrapper(job))
    return job


@with_gradients()
def run(job: Unwrapping, X, context, data) -> dict:
    """Fit all parts on the rows X, and return the attributes of the fitted unwrapper.

    Parameters
    ----------
    job : Unwrapping
    X : ndarray of shape (n, n_features)
        In the dtype of the chain.
    context : sklearn.callback.CallbackContext
    data : dict
        ``X``, ``y`` and ``metadata`` as the callbacks shall see them.
    """
    with keep(job, X) as job.kept:
        if isinstance(job, MapUnwrapping):
            return run_maps(job, X, context, data)
        return _run(job, X, context, data)


def _run(job: Unwrapping, X, context, data) -> dict:
    job.context, job.data = context, data
    rows = _rows_of(job, X)
    fit_autoencoders(job, rows.activations)
    give_product_starts(
        job.ends.between(job.connectors.estimators),
        job.ends.between(job.connectors.frozen),
        job.autoencoders.estimators,
        job.chain,
        job.layers,
    )
    way = fit_jointly if job.trains_jointly else fit_apart
    way(job, rows)
    return job.fitted()


def _rows_of(job: Unwrapping, X) -> Rows:
    """Return what the model computes, and note the means of its layers."""
    if mapped_file(X) is None:
        activations = layer_activations(job.chain, job.layers, X)
        outputs = finite_forward(
            job.chain, activations[-1], job.start, job.stop, "The outputs of the model"
        )
        job.means = [rows.mean(axis=0) for rows in activations]
        return Rows(X, activations, outputs)
    stages = stages_of(job, X, job.params._steps)
    try:
        job.kept.measure(stages)
    except NotFiniteError:
        if not job.params._steps.steps:
            assert_finite_rows(X, job.params)  # says it as scikit-learn does
        raise
    rows = computed_rows(stages)
    job.means = [part.moments.mean.astype(part.dtype) for part in rows.activations]
    return rows
