"""One fold of a cross-validation of connectors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from skfeat.connector._setup import fit_options
from skfeat.solvers.connector._fit import fit_candidates
from skfeat.solvers.connector._fit_parts import Rows
from skfeat.utils._progress import Share, progress_of, say
from skfeat.utils._warnings import Waiting, gathered


class Fold(NamedTuple):
    """The rows of a fold, and what is told of it: a name, lines and a task."""

    train: np.ndarray
    test: np.ndarray
    label: str
    share: Share
    context: Any

    @contextmanager
    def told(self, owner) -> Iterator[list[Waiting]]:
        """Show the work within to callbacks, print its lines, gather its warnings."""
        self.context.call_on_fit_task_begin(estimator=owner)
        with gathered() as waiting, progress_of(self.share, self.label):
            yield waiting
        self.context.call_on_fit_task_end(estimator=owner)


def errors_of_fold(
    owner, connector, rows, name, candidates, fold: Fold
) -> tuple[list[float], list[Waiting]]:
    """Fit every candidate to the rows of a fold.

    Parameters
    ----------
    owner : FeatureConnectorCV
        As callbacks shall see it.
    connector : FeatureConnector
        With the parameters that all candidates share.
    rows : Rows
        Of all folds.
    name : str
        The parameter to choose.
    candidates : list
        Its values.
    fold : Fold

    Returns
    -------
    errors : list of float
        On the other rows.
    waiting : list of Waiting
        The warnings of the fits.
    """
    fitted, held_out = (
        Rows(rows.X[part], rows.Y[part], rows.sample_weight[part])
        for part in (fold.train, fold.test)
    )
    options = fit_options(connector, fitted)
    key = "budget" if name == "n_nonzero_coefs" else "alpha"
    most = rows.X.shape[1] * rows.Y.shape[1]
    several = [
        replace(options, **{key: min(value, most) if key == "budget" else value})
        for value in candidates
    ]
    linear = connector.link == "identity"
    weights = held_out.sample_weight / held_out.sample_weight.sum()
    measured = _dense(held_out.Y)
    errors = []
    with fold.told(owner) as waiting:
        for fit in fit_candidates(fitted, options, several, linear=linear):
            predicted = held_out.X @ sparse.csr_array(fit.coef).T
            predicted = _dense(predicted) + fit.intercept
            if not linear:
                np.maximum(predicted, 0, out=predicted)
            squares = np.square(predicted - measured).mean(axis=1)
            errors.append(float(weights @ squares))
    if fold.share.n_lines:
        found = f"{len(candidates)} candidates, least error {min(errors):.6g}"
        say(fold.share.owner, found, fold.label)
    return errors, waiting


def _dense(array):
    return array.toarray() if sparse.issparse(array) else array
