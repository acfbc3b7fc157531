"""What happens in `FeatureUnwrapper.fit`: a plan, then autoencoders, then the rest."""

from __future__ import annotations

from skfeat._fitting import check_shared_budget, fit_autoencoders, give_product_starts
from skfeat.autoencoder._setup import epochs_of
from skfeat.unwrapper._checkpoint import keep
from skfeat.unwrapper._computed import computed_rows, stages_of
from skfeat.unwrapper._fit_apart import fit_apart
from skfeat.unwrapper._fit_checks import check_kept, ignored_by_unwrapper
from skfeat.unwrapper._fit_jointly import fit_jointly
from skfeat.unwrapper._fit_maps import run_maps
from skfeat.unwrapper._maps_plan import MapUnwrapping
from skfeat.unwrapper._parts import finite_forward, layer_activations
from skfeat.unwrapper._plan import Rows, Unwrapping
from skfeat.utils._checks import is_int
from skfeat.utils._frozen import unnamed, warn_of_refits
from skfeat.utils._ignored import warn_of_ignored
from skfeat.utils._rows import ComputedRows, assert_finite_rows, mapped_file
from skfeat.utils._stages import NotFiniteError
from skfeat.utils._torch import with_gradients

# Epochs that an autoencoder makes at most before all parts are trained together. Of 300
# to 5,000 rows up to 350 made networks no nearer to the model and features no better
# computed, as training goes on; autoencoders then left 0.1 to 0.5 points less of their
# layer's variance. Of many rows all planned updates are made, which take fewer epochs.
_MOST_EPOCHS = 100
# Rows of a mapped file on which the lines of progress say how good an autoencoder is.
_SCORED_ROWS = 8192


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
            return run_maps(job, X, context, data, _shorten)
        return _run(job, X, context, data)


def _run(job: Unwrapping, X, context, data) -> dict:
    job.context, job.data = context, data
    rows = _rows_of(job, X)
    _fit_autoencoders(job, rows.activations)
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


def _shorten(job: Unwrapping, n_rows: list[int]) -> None:
    """Let autoencoders make fewer epochs where all parts are trained together."""
    if not job.trains_jointly:
        return
    for part, is_kept, n in zip(*job.autoencoders, n_rows, strict=True):
        # A batch size that is no number of rows is refused by the part's own fit.
        plans = not is_kept and part.max_iter == "auto" and is_int(part.batch_size)
        if not plans or part.batch_size < 1:
            continue
        if epochs_of(part, n) > _MOST_EPOCHS:
            part.set_params(max_iter=_MOST_EPOCHS)


def _fit_autoencoders(job: Unwrapping, activations) -> None:
    _shorten(job, [len(rows) for rows in activations])
    names, _ = job.names()
    contexts = [job.open("autoencoder") for _ in job.layers]
    # Workers get the activations of their layer and nothing of the model.
    fitted = fit_autoencoders(
        job.autoencoders, activations, contexts, job.params.n_jobs, names, job.share
    )
    job.take_autoencoders(fitted)
    for name, autoencoder, rows, context in zip(
        names, fitted, activations, contexts, strict=True
    ):
        job.close(context)
        if job.params.verbose:
            if isinstance(rows, ComputedRows):
                rows = rows[:: -(-len(rows) // _SCORED_ROWS)]
            job.say(name, f"R2 {unnamed(autoencoder).score(rows):.6g}")
