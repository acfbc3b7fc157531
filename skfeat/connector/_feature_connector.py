"""The estimator of sparse weights between features: its parameters and methods."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Self

import numpy as np
from scipy import sparse

from skfeat._base import CallbackEpochs
from skfeat.connector._base import BaseConnector
from skfeat.connector._setup import (
    allows_wide,
    check_same_fit,
    fit_options,
    ignored_by_connector,
    minibatch_settings,
    solver_of,
    start_of,
    validated_rows,
    weight_attributes,
)
from skfeat.solvers.connector._choose import is_wide
from skfeat.solvers.connector._fit import solution_path
from skfeat.solvers.connector._fit_linear import fit_linear, fit_wide
from skfeat.solvers.connector._fit_minibatch import fit_minibatch, update_minibatch
from skfeat.solvers.connector._fit_parts import Fit
from skfeat.solvers.connector._fit_rectified import fit_rectified
from skfeat.solvers.connector._path import Solution
from skfeat.solvers.connector._reduce import Reduction
from skfeat.solvers.connector._statistics import GramStatistics
from skfeat.utils._bases import fit_context
from skfeat.utils._checks import check_flag, check_int
from skfeat.utils._distributed import agreed
from skfeat.utils._ignored import warn_of_ignored
from skfeat.utils._progress import own_progress
from skfeat.utils._sklearn import Interval, StrOptions
from skfeat.utils._torch import draw_seed
from skfeat.utils._warnings import warn


class FeatureConnector(BaseConnector):
    """Connect the features of one layer to those of the next by few weights.

    All outputs are regressed on all inputs at once under an L1 penalty,
    ``y = max(0, W x + b)`` or ``y = W x + b``, minimising ::

        1 / (2 n) * ||Y - f(X W^T + b)||^2 + alpha * ||W||_1

    the scale of scikit-learn's Lasso. The surviving weights are then refitted without
    the penalty, which would otherwise shrink them. Of inputs that are exact copies
    `fit` gives weights to the first alone: how copies share them changes neither error
    nor penalty, but would use up a budget. An output that is constant gets none.

    Parameters
    ----------
    alpha : float, default=0.01
        Weight of the L1 penalty. Ignored when `n_nonzero_coefs` is given.

    link : {"relu", "identity"}, default="relu"
        What is applied to ``W x + b``.

    n_nonzero_coefs : int or array-like of int of shape (n_outputs,), default=None
        Budget of nonzero weights in the whole matrix, or of each output. From an L1
        solution with more, the weights that matter least are removed in stages, the
        others refitted after each; with ``refit=False``, or the identity link, the
        budget is met by the L1 penalty of its own alpha, but see `candidates`.

    candidates : float, default=1.0
        With the identity link, a budget and ``refit=True``: number of weights that the
        L1 penalty leaves, as a multiple of the budget. Those beyond it are eliminated
        one by one, always the one that least squares misses least [1]_, and a budget
        for the whole matrix is shared where weights are worth most. 6 takes a few
        times as long as 1, the penalty alone, and fits better where inputs are
        correlated. Ignored where layers are so wide (n_inputs times all features
        beyond 2 ** 28) that their second moments are not held.

    refit : bool, default=True
        Refit the surviving weights without the penalty.

    fit_intercept : bool, default=True
        Fit b; otherwise it is zero.

    init : {"random", "product"} or pair of arrays, default="random"
        Start of the weights: small random numbers, or ``(W, b)`` of shapes
        (n_outputs, n_inputs) and (n_outputs,). "product" stands for the product of an
        encoder, a layer and a decoder, which a :class:`FeatureUnwrapper` computes; on
        its own the connector takes it as the pair of arrays that
        :func:`skfeat.initialization.product_init` returns. The identity link has one
        optimum, and the "full_batch" solver first goes to that of a convex majorant,
        so there a start costs or saves only time.

    solver : {"auto", "gram", "full_batch", "minibatch"}, default="auto"
        "gram" (identity link): coordinate descent on the second moments to a duality
        gap. "full_batch" (ReLU link), deterministic: coordinate descent where at most
        a tenth of X is nonzero and numba is installed, else accelerated proximal
        gradient. "minibatch" (ReLU link): proximal Adam. "auto" takes "gram" for the
        identity link; for ReLU "full_batch" while n * p * q is at most 5e8 (for
        coordinate descent, while q times the nonzero numbers of X is at most 1e11) or
        a budget is met by alpha (``refit=False``), else "minibatch".

    learning_rate_init : float, default=0.01
        Largest learning rate of "minibatch", for data scaled to unit mean square.

    batch_size : int, default=1024
        Rows of a minibatch.

    max_iter : int, default=None
        Largest number of sweeps ("gram"; ``None``: 1000), of iterations of a stage
        ("full_batch"; ``None``: 2000) or of epochs ("minibatch"; ``None``: as many as
        make 800 updates, and at least 5).

    tol : float, default=1e-8
        "gram": duality gap relative to the mean square of an output. "full_batch":
        relative decrease of the objective over ten iterations, or for coordinate
        descent the decrease that one more step of every weight promises, relative to
        half the mean square of the output.

    warm_start : bool, default=False
        Start from the weights of the last `fit`.

    device : str, torch.device or None, default=None
        Where "minibatch" trains. ``None`` means the CPU.

    random_state : int, RandomState instance or None, default=None
        Seeds the initial weights and the shuffling of "minibatch".

    verbose : int, default=0
        1: print about thirty lines of "minibatch", with the loss and the time left, and
        how far the other solvers are where they take more than some seconds. Above: a
        line an epoch.

    Attributes
    ----------
    coef_ : CSR matrix of shape (n_outputs, n_inputs)
        The weights W, in the dtype of X.

    intercept_ : ndarray of shape (n_outputs,)
        The intercepts b.

    alpha_ : float
        Weight of the penalty that gave the support, or with `candidates` what it was
        chosen from. With a budget met by pruning, the smallest at which no removed
        weight would enter again.

    n_iter_ : int
        Sweeps, iterations or epochs.

    dual_gap_ : float
        How far the weights are from the optimum of the penalised objective. "gram":
        the largest duality gap of an output, in the units of the objective, that is of
        y squared (`tol` bounds its ratio to the output's mean square). Other solvers:
        the relative decrease of the objective that the last iterations brought or the
        next would bring, which has no unit.

    loss_curve_ : list of float
        Mean objective of each epoch; empty for the deterministic solvers.

    pruning_epochs_ : tuple of two floats
        Between which epochs weights were pruned, until the budget was met; only of a
        budget with the "minibatch" solver.

    n_features_in_ : int
        Number of inputs.

    feature_names_in_ : ndarray of shape (n_inputs,)
        Names of the inputs, when X has string column names.

    output_names_ : ndarray of shape (n_outputs,)
        Names of the outputs, when y has string column names, which must differ from
        one another and from those of X.

    See Also
    --------
    SparseAutoencoder : Learns the features that are connected here.
    FeatureUnwrapper : Connects the features of a whole network.

    References
    ----------
    .. [1] B. Hassibi and D. Stork, "Second order derivatives for network pruning:
       Optimal Brain Surgeon", NIPS 1992.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat import FeatureConnector
    >>> rng = np.random.RandomState(0)
    >>> X = np.maximum(rng.randn(500, 20) - 1, 0)
    >>> Y = np.maximum(X[:, [3]] - 0.5 * X[:, [7]], 0)
    >>> connector = FeatureConnector(n_nonzero_coefs=2).fit(X, Y)
    >>> connector.formula(0)
    'F2_0 = 1.00*F1_3 - 0.50*F1_7'
    >>> connector.coef_.nnz
    2
    """

    loss_curve_: list[float]

    _parameter_constraints: dict = {  # noqa: RUF012
        "alpha": [Interval(Real, 0, None, closed="left")],
        "link": [StrOptions({"relu", "identity"})],
        "n_nonzero_coefs": [
            Interval(Integral, 0, None, closed="left"),
            "array-like",
            None,
        ],
        "candidates": [Interval(Real, 1, None, closed="left")],
        "refit": ["boolean"],
        "fit_intercept": ["boolean"],
        "init": [StrOptions({"random", "product"}), tuple, list],
        "solver": [StrOptions({"auto", "gram", "full_batch", "minibatch"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "tol": [Interval(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "device": "no_validation",  # resolve_device checks it
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        alpha=0.01,
        *,
        link="relu",
        n_nonzero_coefs=None,
        candidates=1.0,
        refit=True,
        fit_intercept=True,
        init="random",
        solver="auto",
        learning_rate_init=0.01,
        batch_size=1024,
        max_iter=None,
        tol=1e-8,
        warm_start=False,
        device=None,
        random_state=None,
        verbose=0,
    ):
        self.alpha = alpha
        self.link = link
        self.n_nonzero_coefs = n_nonzero_coefs
        self.candidates = candidates
        self.refit = refit
        self.fit_intercept = fit_intercept
        self.init = init
        self.solver = solver
        self.learning_rate_init = learning_rate_init
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None) -> Self:
        """Fit the weights.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_inputs)
            Features of the first layer.
        y : array-like or sparse matrix of shape (n,) or (n, n_outputs)
            Features of the second layer.
        sample_weight : array-like of shape (n,), default=None
            Weight of each row's squared error.

        Returns
        -------
        self : FeatureConnector
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data is not valid, or if training diverges.

        Warns
        -----
        ConvergenceWarning
            If `max_iter` ended the fit.
        UserWarning
            If a parameter was set that changes nothing with the others as they are.
        """
        if not self.warm_start:
            # A fit that fails leaves no attributes of an earlier one.
            self.__dict__.pop("intercept_", None)
        warm = self.__sklearn_is_fitted__()
        rows = validated_rows(self, X, y, sample_weight, reset=not warm)
        check_same_fit(self, rows, warm=warm)
        solver = solver_of(self, rows)
        seed = agreed(draw_seed(self.random_state))
        # The weights of wide layers are never held as a dense matrix.
        wide = solver == "gram" and is_wide(rows.X, rows.Y)
        wide = wide and allows_wide(self, warm=warm)
        start = None if wide else start_of(self, rows)
        warn_of_ignored(self, ignored_by_connector(self, solver, wide=wide))
        options = fit_options(self, rows)
        part = Reduction.of(
            rows,
            fit_intercept=options.fit_intercept,
            random_start=solver == "minibatch",
        )
        options, start = part.options(options), part.start(start)
        # A refit makes iterations beyond max_iter: their number is not known.
        context = self._init_callback_context(max_subtasks=None)
        data = {"X": X, "y": y, "metadata": {"sample_weight": sample_weight}}
        context.call_on_fit_task_begin(estimator=self, **data)
        hooks = CallbackEpochs(
            self,
            context,
            data,
            lambda state: weight_attributes(
                *part.weights(state[0], state[1]), dtype=rows.X.dtype
            ),
        )
        with own_progress("FeatureConnector", self.verbose):
            if part.is_solved:
                fit = part.nothing(options)
            elif solver == "minibatch":
                settings = minibatch_settings(self, part.rows, options, seed)
                fit = fit_minibatch(
                    part.rows,
                    options,
                    start,
                    settings,
                    hooks=hooks,
                    verbose=self.verbose,
                )
            elif start is None:
                fit = fit_wide(part.rows, options, hooks)
            elif solver == "gram":
                fit = fit_linear(
                    part.rows.problem(options.fit_intercept), options, start.coef, hooks
                )
            else:
                fit = fit_rectified(part.rows, options, start, hooks)
        self._store(part.whole(fit), rows.X.dtype)
        context.call_on_fit_task_end(estimator=self, **data)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None) -> Self:
        """Take a batch of rows into account, keeping what was learnt before.

        With the identity link the batch is added to the second moments, and the
        weights are those of `fit` on all rows so far; a `fit` keeps no second
        moments, so after one they start from this batch. With the ReLU link it is one
        pass of proximal Adam over the batch, with no refit.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_inputs)
            Features of the first layer.
        y : array-like or sparse matrix of shape (n,) or (n, n_outputs)
            Features of the second layer.
        sample_weight : array-like of shape (n,), default=None
            Weight of each row's squared error.

        Returns
        -------
        self : FeatureConnector
            The fitted estimator.

        Warns
        -----
        UserWarning
            If what `fit` learnt before is given up, see above.
        """
        first = not self.__sklearn_is_fitted__()
        rows = validated_rows(self, X, y, sample_weight, reset=first)
        check_same_fit(self, rows, warm=not first)
        n_outputs = rows.Y.shape[1]
        if not first and n_outputs != self.coef_.shape[0]:
            raise ValueError(
                f"y has {n_outputs} outputs, but this FeatureConnector was fitted with "
                f"{self.coef_.shape[0]}."
            )
        options = fit_options(self, rows)
        if first:
            solver = "gram" if self.link == "identity" else "minibatch"
            warn_of_ignored(self, ignored_by_connector(self, solver, in_fit=False))
        if self.link == "identity":
            before = None if first else self._state
            if isinstance(before, GramStatistics):
                statistics = before.copy()
            else:
                statistics = GramStatistics.zeros(rows.X.shape[1], n_outputs)
                if not first:
                    warn(
                        "partial_fit starts from this batch alone: with "
                        "link='identity' fit keeps no second moments to add it to. "
                        "Give every batch to partial_fit.",
                    )
            statistics.update(rows.X, rows.Y, rows.sample_weight)
            zero = np.zeros((n_outputs, rows.X.shape[1]))
            fit = fit_linear(statistics.problem(options.fit_intercept), options, zero)
            fit.state = statistics
        else:
            seed = agreed(draw_seed(self.random_state))
            settings = minibatch_settings(self, rows, options, seed)
            state, start = None, start_of(self, rows)
            if not first:
                start = Solution(self.coef_.toarray(), self.intercept_, 0, 0.0)
                state = self._state if isinstance(self._state, dict) else None
            fit = update_minibatch(rows, start, settings, state)
        fit.n_iter += 0 if first else self.n_iter_
        fit.loss_curve = ([] if first else self.loss_curve_) + fit.loss_curve
        self._store(fit, rows.X.dtype)
        return self

    def connector_path(
        self,
        X,
        y,
        *,
        alphas=None,
        n_alphas=100,
        eps=1e-3,
        sample_weight=None,
        sparse_output=False,
    ) -> tuple[np.ndarray, np.ndarray | list[sparse.csr_array], np.ndarray]:
        """Compute the penalised weights along decreasing alphas, warm-started.

        The estimator's `link`, `fit_intercept`, `tol` and `max_iter` apply; there is
        no refit, and the estimator itself is not changed.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_inputs)
            Features of the first layer.
        y : array-like or sparse matrix of shape (n,) or (n, n_outputs)
            Features of the second layer.
        alphas : array-like, default=None
            Weights of the penalty, taken in decreasing order. ``None`` means
            `n_alphas` of them, evenly spaced in their logarithm, from the smallest at
            which all weights are zero.
        n_alphas : int, default=100
            Number of alphas.
        eps : float, default=1e-3
            Ratio of the smallest alpha to the largest.
        sample_weight : array-like of shape (n,), default=None
            Weight of each row's squared error.
        sparse_output : bool, default=False
            Return the weights as sparse matrices: of wide layers they take a small
            share of the memory, and of the time to fill it.

        Returns
        -------
        alphas : ndarray of shape (n_alphas,)
        coefs : ndarray of shape (n_outputs, n_inputs, n_alphas) or list of csr_array
            For a one-dimensional y of shape (n_inputs, n_alphas), as `lasso_path`.
            With `sparse_output` a list of n_alphas matrices (n_outputs, n_inputs).
        dual_gaps : ndarray of shape (n_alphas,)
            Stopping value of the solver at each alpha, see `dual_gap_`.
        """
        if alphas is not None and np.ndim(alphas) != 1:
            raise ValueError(
                f"alphas must be one or more numbers in one dimension, or None. Got "
                f"{alphas!r} instead."
            )
        n_alphas = check_int("n_alphas", n_alphas, 1)
        if not isinstance(eps, Real) or not 0 < float(eps) < 1:
            raise ValueError(f"eps must lie between 0 and 1. Got {eps!r} instead.")
        check_flag("sparse_output", sparse_output)
        other = type(self)(**self.get_params(deep=False))
        other._validate_params()
        rows = validated_rows(other, X, y, sample_weight, reset=True)
        alphas, solutions = solution_path(
            rows,
            fit_options(other, rows),
            alphas,
            n_alphas,
            float(eps),
            linear=self.link == "identity",
            sparse_output=bool(sparse_output),
        )
        matrices = [solution.coef for solution in solutions]
        gaps = np.array([solution.stopping_value for solution in solutions])
        if sparse_output:
            return alphas, matrices, gaps
        # Written one after the other, as they are in memory.
        coefs = np.moveaxis(np.stack(matrices), 0, -1)
        return alphas, coefs[0] if other._y_is_1d else coefs, gaps

    def _store(self, fit: Fit, dtype):
        """Write every fitted attribute, the one that means "fitted" last."""
        self.alpha_ = float(fit.alpha)
        self.n_iter_ = int(fit.n_iter)
        self.dual_gap_ = float(fit.stopping_value)
        self.loss_curve_ = fit.loss_curve
        vars(self).pop("pruning_epochs_", None)
        if fit.pruning_epochs is not None:
            self.pruning_epochs_ = fit.pruning_epochs
        self._state, self._link = fit.state, self.link
        self._interrupted = fit.interrupted
        for name, value in weight_attributes(fit.coef, fit.intercept, dtype).items():
            setattr(self, name, value)
