"""What a fit of `FeatureConnector` needs of its parameters and of the rows."""

from __future__ import annotations

from copy import copy

import numpy as np
import torch
from scipy import sparse
from sklearn.utils.validation import validate_data

from skfeat.kernels.connector._sparsity import to_csr
from skfeat.solvers.connector._choose import choose_solver
from skfeat.solvers.connector._fit_parts import FitOptions, Rows
from skfeat.solvers.connector._path import Solution, check_budget
from skfeat.solvers.connector._rectified_minibatch import ConnectorSettings
from skfeat.utils._agreement import refuse_different_fits
from skfeat.utils._arrays import accept_tensor, check_magnitude
from skfeat.utils._checks import described
from skfeat.utils._ignored import ignored_params
from skfeat.utils._names import distinct_names, keep_names
from skfeat.utils._sklearn import _align_api_if_sparse, _check_sample_weight
from skfeat.utils._torch import resolve_device


def validated_rows(connector, X, y, sample_weight, *, reset: bool) -> Rows:
    """Check rows and targets, and write what scikit-learn keeps of them."""
    output_names = distinct_names(y, X)
    resolve_device(connector.device)  # checked whichever solver runs
    if sparse.issparse(y) and connector.link == "relu":
        y = y.toarray()
    X, y = validate_data(
        connector,
        accept_tensor(X),
        accept_tensor(y, "y"),
        accept_sparse=("csr",),
        dtype=[np.float64, np.float32],
        multi_output=True,
        y_numeric=True,
        reset=reset,
    )
    if reset:
        connector._y_is_1d = y.ndim == 1
        keep_names(connector, output_names)
    sample_weight = _check_sample_weight(
        accept_tensor(sample_weight, "sample_weight"),
        X,
        dtype=np.float64,
        ensure_non_negative=True,
    )
    y = y if sparse.issparse(y) else y.reshape(len(y), -1)
    with np.errstate(over="ignore"):
        y = y.astype(X.dtype, copy=False)
    check_magnitude("X", X)
    check_magnitude("y", y)
    return Rows(X, y, sample_weight)


def allows_wide(connector, *, warm: bool) -> bool:
    """Tell whether weights may stay sparse while a wide connector is fitted."""
    each = (
        connector.n_nonzero_coefs is not None and np.ndim(connector.n_nonzero_coefs) > 0
    )
    plain = connector.alpha > 0 or connector.n_nonzero_coefs is not None
    return plain and not each and not warm and isinstance(connector.init, str)


def solver_of(connector, rows: Rows) -> str:
    """Return the solver that fits these rows."""
    budget_by_alpha = connector.n_nonzero_coefs is not None and not connector.refit
    return choose_solver(
        connector.solver,
        connector.link,
        rows.X,
        rows.Y,
        budget_by_alpha=budget_by_alpha,
    )


def ignored_by_connector(
    connector, solver: str | None, *, in_fit: bool = True, wide: bool = False
) -> dict[str, str]:
    """Return parameters that change nothing.

    Parameters
    ----------
    connector : FeatureConnector
    solver : str or None
        The one that runs; None if it is not known yet.
    in_fit : bool, default=True
        Of `fit`; else of `partial_fit`.
    wide : bool, default=False
        Whether the second moments are not held.
    """
    rectified = connector.link == "relu"
    free = connector.n_nonzero_coefs is None or (rectified and bool(connector.refit))
    return ignored_params(
        connector,
        solver=solver,
        planned=in_fit or None,
        start=free and (in_fit or rectified),
        moments=not wide,
    )


def ignored_in_part(connector, given, budget, owner: str) -> dict[str, str]:
    """Return parameters of a part that change nothing, before it is fitted.

    Parameters
    ----------
    connector : FeatureConnector
        The clone that is to be fitted.
    given : FeatureConnector
        The one that the user gave; parts at an end do not take all of it.
    budget : int or None
        The budget that the owner of the part sets.
    owner : str
        Class of the owner.
    """
    fitted = copy(connector)
    if budget is not None:
        fitted.n_nonzero_coefs = budget
    solver = None if fitted.solver == "auto" else fitted.solver
    if fitted.link == "identity":
        solver = "gram"
    found = ignored_by_connector(fitted, solver)
    if budget is not None and given.n_nonzero_coefs is not None:
        found["n_nonzero_coefs"] = f"n_nonzero_coefs=None of {owner}"
    for name in ("init", "solver"):
        value = getattr(given, name)
        if isinstance(value, str) and value != getattr(connector, name):
            found[name] = "a connector between features"
    return found


def check_same_fit(connector, rows: Rows, *, warm: bool) -> None:
    """Refuse fits that differ between the processes of a group."""
    data = {"X": rows.X, "y": rows.Y, "sample_weight": rows.sample_weight}
    refuse_different_fits(connector, "coef_" if warm else None, **data)


def fit_options(connector, rows: Rows) -> FitOptions:
    """Return what the weights are to be, by the parameters."""
    budget = check_budget(connector.n_nonzero_coefs, rows.Y.shape[1], rows.X.shape[1])
    each = isinstance(budget, np.ndarray)
    if each and connector.link == "relu" and not connector.refit:
        raise ValueError(
            "n_nonzero_coefs of each output needs refit=True with link='relu', got "
            "refit=False."
        )
    return FitOptions(
        alpha=float(connector.alpha),
        budget=budget,
        refit=bool(connector.refit),
        fit_intercept=bool(connector.fit_intercept),
        tol=float(connector.tol),
        max_iter=None if connector.max_iter is None else int(connector.max_iter),
        candidates=float(connector.candidates),
    )


def minibatch_settings(
    connector, rows: Rows, options: FitOptions, seed: int
) -> ConnectorSettings:
    """Return the settings of training in batches."""
    return ConnectorSettings(
        alpha=options.alpha if options.budget is None else 0.0,
        budget=options.budget,
        fit_intercept=options.fit_intercept,
        learning_rate=float(connector.learning_rate_init),
        batch_size=int(connector.batch_size),
        device=resolve_device(connector.device),
        dtype=torch.float32 if rows.X.dtype == np.float32 else torch.float64,
        seed=seed,
    )


def start_of(connector, rows: Rows) -> Solution | None:
    """Return the weights that a fit starts from, by `init` and `warm_start`.

    None is a random start.
    """
    shape = (rows.Y.shape[1], rows.X.shape[1])
    if connector.warm_start and connector.__sklearn_is_fitted__():
        if connector.coef_.shape != shape:
            raise ValueError(
                f"warm_start=True goes on from weights of shape "
                f"{connector.coef_.shape}, but X and y ask for {shape}; set "
                f"warm_start=False."
            )
        intercept = connector.intercept_ * connector.fit_intercept
        return Solution(connector.coef_.toarray(), intercept, 0, 0.0)
    if isinstance(connector.init, str):
        if connector.init == "product":
            raise ValueError(
                "init='product' is computed by a FeatureUnwrapper from two "
                "autoencoders and the layer between them; on its own a "
                "FeatureConnector takes the pair of arrays that "
                "skfeat.initialization.product_init returns."
            )
        if solver_of(connector, rows) == "minibatch":
            return None
        # One optimum for every start: the nearest to most weights is zero.
        return Solution(np.zeros(shape), np.zeros(shape[0]), 0, 0.0)
    coef, intercept = given_start(connector, shape)
    return Solution(coef, intercept, 0, 0.0)


def given_start(connector, shape) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights and intercepts of `init`, a pair of arrays.

    Raises
    ------
    ValueError
        If it is no such pair for a connector of this shape.
    """
    try:
        coef, intercept = (np.array(part, dtype=np.float64) for part in connector.init)
        shapes = (coef.shape, intercept.shape)
        finite = bool(np.isfinite(coef).all() and np.isfinite(intercept).all())
    except (TypeError, ValueError):
        shapes, finite = ((), ()), False
    if shapes != (shape, shape[:1]) or not finite:
        raise ValueError(
            f"init must be 'random', 'product' or a pair of finite arrays of "
            f"shapes {shape} and {shape[:1]}, to match X and y. Got "
            f"{described(connector.init)} instead."
        )
    return coef, intercept * connector.fit_intercept


def weight_attributes(coef, intercept, dtype) -> dict:
    """Return the fitted attributes of weights and an intercept.

    Raises
    ------
    ValueError
        If they are too small or too large for the dtype.
    """
    if not sparse.issparse(coef):
        coef = to_csr(np.asarray(coef))
    limits, largest = np.finfo(dtype), float(np.abs(coef.data).max(initial=0.0))
    low, high = float(limits.tiny), float(limits.max)
    within = low <= largest <= high or largest == 0
    if not (within and np.abs(intercept).max(initial=0.0) <= high):
        raise ValueError(
            f"The weights are up to {largest:.3g}, and they or the intercepts are out "
            f"of the range of {limits.dtype}: pass X as float64, or rescale X or y."
        )
    coef = sparse.csr_array(coef, dtype=dtype)
    return {
        "coef_": _align_api_if_sparse(coef),
        "intercept_": np.array(intercept, dtype=dtype),
    }
