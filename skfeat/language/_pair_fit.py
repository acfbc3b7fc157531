"""How the parts of a layer pair are fitted: autoencoders, then the maps between them.

The functions read the parameters of a :class:`LayerPair` and return what they fit; the
estimator keeps it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from skfeat._fitting import clone_per_layer, fit_autoencoders, fit_part
from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder
from skfeat.connector._feature_connector import FeatureConnector
from skfeat.language._dense_map import fit_dense

_NAMES = ("input_autoencoder", "output_autoencoder")


def prepare_autoencoders(pair, rows, seeds) -> list[SparseAutoencoder]:
    """Return the autoencoder of each side: a clone to fit, or a frozen fitted one.

    Raises
    ------
    ValueError
        If a frozen estimator is not an autoencoder, or was fitted to rows of another
        width.
    """
    return [
        _prepare(getattr(pair, name), seed, name, X.shape[1])
        for name, seed, X in zip(_NAMES, seeds, rows, strict=True)
    ]


def _prepare(part, seed: int, name: str, width: int) -> SparseAutoencoder:
    if not isinstance(part, FrozenEstimator):
        part = _default_autoencoder(width) if part is None else part
        return clone_per_layer([part], [seed], name, SparseAutoencoder)[0]
    fitted = part.estimator
    if not isinstance(fitted, SparseAutoencoder):
        raise ValueError(
            f"The {name!r} parameter must be a SparseAutoencoder, or a fitted one in a "
            f"FrozenEstimator. Got {part!r} instead."
        )
    check_is_fitted(fitted)
    if fitted.n_features_in_ != width:
        raise ValueError(
            f"The {name!r} parameter was fitted to rows of {fitted.n_features_in_} "
            f"columns, but its rows here have {width}."
        )
    return fitted


def _default_autoencoder(width: int) -> SparseAutoencoder:
    return SparseAutoencoder(8 * width, k=min(6, max(1, width // 2)))


def _default_connector() -> FeatureConnector:
    return FeatureConnector(link="identity", fit_intercept=False, candidates=6)


def fit_both_autoencoders(pair, parts, rows, context, data) -> list[SparseAutoencoder]:
    """Fit the autoencoders that are not frozen, each to its rows."""
    frozen = [isinstance(getattr(pair, name), FrozenEstimator) for name in _NAMES]
    contexts = [context.subcontext(task_name=name) for name in _NAMES]
    for subcontext in contexts:
        subcontext.call_on_fit_task_begin(estimator=pair, **data)
    to_fit = [i for i, is_frozen in enumerate(frozen) if not is_frozen]
    fitted = iter(
        fit_autoencoders(
            [parts[i] for i in to_fit],
            [rows[i] for i in to_fit],
            [contexts[i] for i in to_fit],
            pair.n_jobs,
        )
    )
    parts = [
        part if is_frozen else next(fitted)
        for part, is_frozen in zip(parts, frozen, strict=True)
    ]
    for name, part, X, subcontext in zip(_NAMES, parts, rows, contexts, strict=True):
        subcontext.call_on_fit_task_end(estimator=pair, **data)
        if pair.verbose:
            print(f"[LayerPair] {name}: R2 {part.score(X):.6g}")
    return parts


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
    connector = clone_per_layer([connector], [seed], "connector", FeatureConnector)[0]
    n_outputs = codes_out.shape[1]
    if pair.n_nonzero_coefs is not None:
        budget = round(float(pair.n_nonzero_coefs) * n_outputs)
        connector.set_params(n_nonzero_coefs=budget)
    subcontext = context.subcontext(task_name="connector")
    subcontext.call_on_fit_task_begin(estimator=pair, **data)
    connector = fit_part(connector, codes_in, subcontext, codes_out)
    maps = {
        "sparse": connector,
        "dense": fit_dense(
            codes_in,
            codes_out,
            fit_intercept=connector.fit_intercept,
            ridge=float(pair.ridge),
        ),
    }
    if pair.nonlinear_connector is not None:
        nonlinear = clone(pair.nonlinear_connector)
        if nonlinear.get_params().get("random_state", seed) is None:
            nonlinear.set_params(random_state=seed)
        maps["nonlinear"] = nonlinear.fit(codes_in, codes_out)
    subcontext.call_on_fit_task_end(estimator=pair, **data)
    if pair.verbose:
        print(
            f"[LayerPair] connector: {connector.coef_.nnz} weights, "
            f"{connector.coef_.nnz / n_outputs:.3g} an output"
        )
    return maps


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
