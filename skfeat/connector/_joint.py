"""A connector's weights, to and from training together with autoencoders."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np

from skfeat.connector._feature_connector import FeatureConnector
from skfeat.connector._setup import given_start
from skfeat.solvers.connector._fit_parts import Fit
from skfeat.solvers.joint._problem import Connection


def connection_of(
    connector: Any,
    shape: tuple[int, int],
    budget: int | None,
    *,
    frozen: bool = False,
) -> Connection:
    """Return what is to be trained of a connector.

    Parameters
    ----------
    connector : FeatureConnector or, if frozen, any fitted connector
        Fitted, if it is frozen or without a budget.
    shape : tuple of int (n_outputs, n_inputs)
    budget : int or None
    frozen : bool, default=False
    """
    start = None
    link = connector.link
    if frozen or budget is None:
        budget, link = None, connector._fitted_link
        start = connector.coef_.toarray(), connector.intercept_.astype(np.float64)
    elif not isinstance(connector.init, str):
        start = given_start(connector, shape)
    return Connection(
        link,
        budget,
        start,
        fit_intercept=bool(getattr(connector, "fit_intercept", True)),
        frozen=frozen,
    )


def with_weights(
    connector: FeatureConnector, coef, intercept, dtype, *, n_epochs: int
) -> FeatureConnector:
    """Copy a connector, with weights that were trained together with other parts.

    No penalty has chosen them: `alpha_` is 0, and `dual_gap_` nan.
    """
    own = copy(connector)
    own.n_features_in_ = coef.shape[1]
    own._y_is_1d = False
    fit = Fit(coef, intercept, 0.0, n_epochs, float("nan"))
    own._store(fit, dtype)
    own.n_nonzero_coefs = int(own.coef_.nnz)
    return own
