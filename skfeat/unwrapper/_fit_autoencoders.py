"""The fit of the autoencoders of all layers, of rows and of positions of maps."""

from __future__ import annotations

from skfeat._fitting import fit_autoencoders as fit_parts
from skfeat.autoencoder._setup import GOES_ON, epochs_of
from skfeat.unwrapper._plan import Unwrapping
from skfeat.utils._checks import is_int
from skfeat.utils._frozen import unnamed
from skfeat.utils._rows import ComputedRows

# Epochs that an autoencoder makes at most before all parts are trained together. Of 300
# to 5,000 rows up to 350 made networks no nearer to the model and features no better
# computed, as training goes on; autoencoders then left 0.1 to 0.5 points less of their
# layer's variance. Of many rows all planned updates are made, which take fewer epochs.
_MOST_EPOCHS = 100
# Rows of a mapped file on which the lines of progress say how good an autoencoder is.
_SCORED_ROWS = 8192


def fit_autoencoders(job: Unwrapping, activations) -> None:
    """Fit the autoencoder of each layer to its rows."""
    _shorten(job, [len(rows) for rows in activations])
    names, _ = job.names()
    contexts = [job.open("autoencoder") for _ in job.layers]
    # Workers get the activations of their layer and nothing of the model.
    fitted = fit_parts(
        job.autoencoders, activations, contexts, job.params.n_jobs, names, job.share
    )
    for part in fitted:
        vars(part).pop(GOES_ON, None)
    job.take_autoencoders(fitted)
    for name, autoencoder, rows, context in zip(
        names, fitted, activations, contexts, strict=True
    ):
        job.close(context)
        if job.params.verbose:
            if isinstance(rows, ComputedRows):
                rows = rows[:: -(-len(rows) // _SCORED_ROWS)]
            job.say(name, f"R2 {unnamed(autoencoder).score(rows):.6g}")


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
            setattr(part, GOES_ON, True)
