"""FeatureConnectorCV: the penalty or the budget of a connector by cross-validation."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.model_selection import check_cv
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    get_routing_for_object,
    process_routing,
)
from sklearn.utils.parallel import Parallel, delayed

from skfeat.connector._base import BaseConnector
from skfeat.connector._feature_connector import FeatureConnector
from skfeat.connector._folds import Fold, errors_of_fold
from skfeat.connector._setup import fit_options, validated_rows
from skfeat.solvers.connector._fit import largest_alpha
from skfeat.solvers.connector._path import geometric_alphas
from skfeat.utils._bases import fit_context
from skfeat.utils._distributed import n_workers
from skfeat.utils._folds import are_folds, check_folds
from skfeat.utils._ignored import ignored_params, warn_of_ignored
from skfeat.utils._progress import progress_of, share_of
from skfeat.utils._sklearn import (
    Interval,
    InvalidParameterError,
    StrOptions,
    _raise_for_params,
    _routing_enabled,
)
from skfeat.utils._warnings import told_once, warn
from skfeat.utils._workers import N_JOBS


class FeatureConnectorCV(BaseConnector):
    """A `FeatureConnector` whose penalty or budget is chosen by cross-validation.

    The candidates of a fold share its second moments and start one another. The one
    with the smallest mean squared error on held-out rows, averaged over folds, is
    fitted to all rows.

    Parameters
    ----------
    alphas : int or array-like, default=30
        Penalties to choose from, or how many of them between the smallest at which
        all weights are zero and `eps` times that, evenly spaced in their logarithm.

    eps : float, default=1e-3
        Ratio of the smallest penalty to the largest.

    n_nonzero_coefs : array-like of int, default=None
        Budgets of nonzero weights in the whole matrix to choose from, in place of
        `alphas`.

    link : {"relu", "identity"}, default="relu"
        What is applied to ``W x + b``.

    refit : bool, default=True
        Refit the surviving weights without the penalty, of every candidate too.

    fit_intercept : bool, default=True
        Fit b; otherwise it is zero.

    cv : int, cross-validation generator or iterable, default=None
        Folds; ``None`` means 5 of them, in the order of the rows. A splitter that
        keeps groups of rows together, such as ``GroupKFold``, is given the `groups` of
        `fit`: rows of one text or one image are then never on both sides of a fold.

    max_iter : int, default=None
        See :class:`FeatureConnector`.

    tol : float, default=1e-8
        See :class:`FeatureConnector`.

    n_jobs : int, default=None
        Folds at a time; ``None`` means one, or what a joblib context sets.

    verbose : int, default=0
        1: print a line for each fold, and how far it is where it takes more than some
        seconds.

    Attributes
    ----------
    alpha_ : float
        Penalty of the weights; see :class:`FeatureConnector`.

    n_nonzero_coefs_ : int
        Budget that was chosen; only where `n_nonzero_coefs` was given.

    alphas_ : ndarray of shape (n_alphas,)
        Penalties tried, decreasing; only where `n_nonzero_coefs` was not given.

    mse_path_ : ndarray of shape (n_candidates, n_folds)
        Mean squared error on held-out rows, averaged over the outputs, in the order of
        `alphas_` or of `n_nonzero_coefs`.

    coef_ : CSR matrix of shape (n_outputs, n_inputs)
        The weights W, in the dtype of X.

    intercept_ : ndarray of shape (n_outputs,)
        The intercepts b.

    dual_gap_ : float
        See :class:`FeatureConnector`.

    n_iter_ : int
        Sweeps or iterations of the last fit.

    n_features_in_ : int
        Number of inputs.

    feature_names_in_ : ndarray of shape (n_inputs,)
        Names of the inputs, when X has string column names.

    output_names_ : ndarray of shape (n_outputs,)
        Names of the outputs, when y has string column names, which must differ from
        one another and from those of X.

    See Also
    --------
    FeatureConnector : The connector at one penalty or budget.
    sklearn.linear_model.MultiTaskLassoCV : Shares one support among all outputs.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat import FeatureConnectorCV
    >>> rng = np.random.RandomState(0)
    >>> X = np.maximum(rng.randn(300, 8) - 1, 0)
    >>> Y = np.maximum(X[:, [3]] - 0.5 * X[:, [7]] + 0.05 * rng.randn(300, 1), 0)
    >>> FeatureConnectorCV(n_nonzero_coefs=[1, 2]).fit(X, Y).n_nonzero_coefs_
    2
    """

    alphas_: np.ndarray
    n_nonzero_coefs_: int
    mse_path_: np.ndarray

    # Of the splitter, to which they are routed. Not of this estimator, unless a call
    # of set_fit_request says so.
    __metadata_request__fit: ClassVar[dict] = {"groups": False}

    _parameter_constraints: dict = {  # noqa: RUF012
        "alphas": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "eps": [Interval(Real, 0, 1, closed="neither")],
        "n_nonzero_coefs": ["array-like", None],
        "link": [StrOptions({"relu", "identity"})],
        "refit": ["boolean"],
        "fit_intercept": ["boolean"],
        "cv": ["cv_object"],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_jobs": N_JOBS,
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        alphas=30,
        eps=1e-3,
        n_nonzero_coefs=None,
        link="relu",
        refit=True,
        fit_intercept=True,
        cv=None,
        max_iter=None,
        tol=1e-8,
        n_jobs=None,
        verbose=0,
    ):
        self.alphas = alphas
        self.eps = eps
        self.n_nonzero_coefs = n_nonzero_coefs
        self.link = link
        self.refit = refit
        self.fit_intercept = fit_intercept
        self.cv = cv
        self.max_iter = max_iter
        self.tol = tol
        self.n_jobs = n_jobs
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, groups=None, **params) -> Self:
        """Choose a candidate and fit it to all rows.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_inputs)
            Features of the first layer.
        y : array-like or sparse matrix of shape (n,) or (n, n_outputs)
            Features of the second layer.
        sample_weight : array-like of shape (n,), default=None
            Weight of each row's squared error, held-out rows' too.
        groups : array-like of shape (n,), default=None
            Group of each row, for a `cv` that keeps groups together.
        **params : dict
            Other metadata of the splitter, with
            ``sklearn.set_config(enable_metadata_routing=True)`` only.

        Returns
        -------
        self : FeatureConnectorCV
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data is not valid, if `cv` needs groups and there are
            none, or if all rows of one side of a fold weigh nothing.
        """
        _raise_for_params(params, self, "fit")
        data = {"X": X, "y": y, "metadata": {"sample_weight": sample_weight}}
        self.__dict__.pop("intercept_", None)
        shared = {
            name: getattr(self, name)
            for name in ("link", "refit", "fit_intercept", "max_iter", "tol")
        }
        final = FeatureConnector(
            solver="gram" if self.link == "identity" else "full_batch", **shared
        )
        rows = validated_rows(final, X, y, sample_weight, reset=True)
        name, candidates = self._candidates(final, rows)
        warn_of_ignored(self, ignored_params(self))
        if groups is not None:
            params["groups"] = groups
        folds = self._folds(rows, sample_weight, params)
        context = self._init_callback_context(max_subtasks=len(folds) + 1)
        context.call_on_fit_task_begin(estimator=self, **data)
        share = share_of(type(self).__name__, self.verbose, len(folds) + 1)
        told = [
            Fold(
                train,
                test,
                f"fold {number} of {len(folds)}",
                share,
                context.subcontext(task_name="fold"),
            )
            for number, (train, test) in enumerate(folds, 1)
        ]
        results = Parallel(n_jobs=n_workers(self.n_jobs))(
            delayed(errors_of_fold)(self, final, rows, name, candidates, fold)
            for fold in told
        )
        self.mse_path_ = np.array([errors for errors, _ in results]).T
        best = candidates[int(self.mse_path_.mean(axis=1).argmin())]
        last = context.subcontext(task_name="refit")
        last.call_on_fit_task_begin(estimator=self, **data)
        with (
            told_once(len(folds) * len(candidates) + 1) as waiting,
            last.propagate_callback_context(final),
            progress_of(share, "refit"),
        ):
            waiting += [warning for _, of_fold in results for warning in of_fold]
            final.set_params(**{name: best}).fit(X, y, sample_weight)
        last.call_on_fit_task_end(estimator=self, **data)
        if name == "alpha":
            self.__dict__.pop("n_nonzero_coefs_", None)
            self.alphas_ = np.array(candidates)
        else:
            self.__dict__.pop("alphas_", None)
            self.n_nonzero_coefs_ = best
        for key in ("feature_names_in_", "output_names_"):
            self.__dict__.pop(key, None)
        for key, value in vars(final).items():
            if key in _TAKEN:
                setattr(self, key, value)
        context.call_on_fit_task_end(estimator=self, **data)
        return self

    def get_metadata_routing(self) -> MetadataRouter:
        """Return which metadata `fit` takes, and which of it goes to the splitter.

        Returns
        -------
        MetadataRouter
            `sample_weight` is of this estimator, `groups` of its `cv`.
        """
        return (
            MetadataRouter(owner=self)
            .add_self_request(self)
            .add(
                # To read folds here would use up an iterator.
                splitter=check_cv(None if are_folds(self.cv) else self.cv),
                method_mapping=MethodMapping().add(caller="fit", callee="split"),
            )
        )

    def _folds(self, rows, sample_weight, params: dict[str, Any]) -> list:
        """Return the rows of each fold, to fit and to measure."""
        splitter = check_cv(self.cv)
        if _routing_enabled():
            routed = process_routing(self, "fit", sample_weight=sample_weight, **params)
            params = routed.splitter.split
        requests = getattr(get_routing_for_object(splitter), "split", None)
        needs = requests is not None and requests.requests.get("groups") is True
        if needs and params.get("groups") is None:
            raise ValueError(
                f"cv={self.cv!r} keeps groups together and needs them: pass the group "
                f"of each row, as in fit(X, y, groups=groups)."
            )
        if "groups" in params and are_folds(self.cv):
            warn(
                "groups changes nothing here: the folds are given by cv. Leave groups "
                "out, or set cv to a splitter such as GroupKFold.",
            )
        given = splitter.cv if are_folds(self.cv) else None
        if given is None:
            given = list(splitter.split(rows.X, rows.Y, **params))
        cv = "The 'cv' parameter of FeatureConnectorCV"
        folds = check_folds(cv, given, rows.X.shape[0])
        for number, fold in enumerate(folds):
            for name, part in zip(("train", "hold out"), fold, strict=True):
                if not rows.sample_weight[part].any():
                    raise ValueError(
                        f"cv={self.cv!r} leaves fold {number} no row of positive "
                        f"sample_weight to {name}; use fewer folds or other weights."
                    )
        return folds

    def _candidates(self, final, rows) -> tuple[str, list]:
        if self.n_nonzero_coefs is not None:
            budgets = np.asarray(self.n_nonzero_coefs)
            whole = budgets.ndim == 1 and budgets.size and budgets.dtype.kind in "iu"
            if not whole or (budgets < 0).any():
                raise InvalidParameterError(
                    f"The 'n_nonzero_coefs' parameter of FeatureConnectorCV must be "
                    f"one or more ints of at least 0. Got {self.n_nonzero_coefs!r} "
                    f"instead."
                )
            return "n_nonzero_coefs", [int(budget) for budget in budgets]
        if isinstance(self.alphas, Integral):
            linear = self.link == "identity"
            largest = largest_alpha(rows, fit_options(final, rows), linear=linear)
            alphas = geometric_alphas(largest, int(self.alphas), float(self.eps))
        else:
            try:
                alphas = np.asarray(self.alphas, dtype=np.float64)
            except (TypeError, ValueError):
                alphas = np.empty(0)
            in_range = (alphas >= 0) & (alphas < np.inf)
            if alphas.ndim != 1 or not alphas.size or not in_range.all():
                raise InvalidParameterError(
                    f"The 'alphas' parameter of FeatureConnectorCV must be an int of "
                    f"at least 1 or one or more finite numbers of at least 0. Got "
                    f"{self.alphas!r} instead."
                )
        return "alpha", np.sort(alphas)[::-1].tolist()


# What a fitted connector hands over.
_TAKEN = {
    "coef_",
    "intercept_",
    "alpha_",
    "n_iter_",
    "dual_gap_",
    "_y_is_1d",
    "_link",
    "n_features_in_",
    "feature_names_in_",
    "output_names_",
}
