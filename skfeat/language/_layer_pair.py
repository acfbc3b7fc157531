"""LayerPair: unwrap what an MLP reads and writes, and connect the features sparsely."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from skfeat._base import SkfeatEstimator
from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder
from skfeat.connector._feature_connector import FeatureConnector
from skfeat.language._pair_codes import count_events, mean_row, sparse_codes
from skfeat.language._pair_explore import ExploredPair
from skfeat.language._pair_features import MAP_ATTRIBUTES, PairFeaturesMixin
from skfeat.language._pair_fit import (
    fit_both_autoencoders,
    fit_maps,
    ignored_by_pair,
    live_features,
    n_parts,
    prepare_autoencoders,
    spread_weights,
    train_both_together,
)
from skfeat.language._pair_report import PairReport, make_report
from skfeat.metrics._reconstruction import fvu_in_blocks
from skfeat.utils._arrays import check_weights
from skfeat.utils._bases import MultiOutputMixin, RegressorMixin, fit_context
from skfeat.utils._checks import is_int, value_error
from skfeat.utils._frozen import remember_fits, warn_of_refits
from skfeat.utils._ignored import warn_of_ignored
from skfeat.utils._sklearn import (
    HasMethods,
    Interval,
    _align_api_if_sparse,
    _clone_parametrized,
)
from skfeat.utils._torch import draw_seeds
from skfeat.utils._workers import N_JOBS

# Parameters that are estimators.
_PARTS = (
    "input_autoencoder",
    "output_autoencoder",
    "connector",
    "nonlinear_connector",
)


class LayerPair(
    ExploredPair, PairFeaturesMixin, MultiOutputMixin, RegressorMixin, SkfeatEstimator
):
    """Connect the features of the residual stream to those that an MLP writes.

    One :class:`SparseAutoencoder` unwraps the rows that enter a block of a language
    model into sparse features, another one the rows that its MLP adds to the residual
    stream. A sparse linear map then computes each output feature from the input
    features by a few weights [1]_. The map replaces everything between the two: the
    normalisation, the MLP with its nonlinearity, and any attention before the MLP.

    Parameters
    ----------
    input_autoencoder : SparseAutoencoder, FrozenEstimator or None, default=None
        Cloned and fitted to the rows of X. A fitted autoencoder, of skfeat or read
        from another library (see :mod:`skfeat.interop`), is used as it is if it is
        wrapped in a ``sklearn.frozen.FrozenEstimator``. ``None`` means
        ``SparseAutoencoder(8 * d, k=min(6, d / 2))`` for rows of d columns: the fewer
        features are active at a time, the fewer weights predict each output.

    output_autoencoder : SparseAutoencoder, FrozenEstimator or None, default=None
        The same for the rows of y.

    connector : FeatureConnector, FrozenEstimator or None, default=None
        Cloned and fitted to the codes of the live features. ``None`` means
        ``FeatureConnector(link="identity", fit_intercept=False, candidates=6)``. A
        fitted one in a ``FrozenEstimator`` is used as it is, on as many live features
        of each side as it was fitted to; or, if it was fitted to all features of both
        sides, its part between the live ones.

    nonlinear_connector : regressor or None, default=None
        Cloned and fitted to the same codes in CSR, without a budget, unless it is in a
        ``FrozenEstimator``.
        :meth:`report` compares it with the linear maps to measure how linear each
        output feature is.

    n_nonzero_coefs : float or None, default=10
        Average number of weights of a live output feature. The budget of the
        connector is this number times the number of live output features; it goes
        where it lowers the squared error most, so that some outputs have more weights
        and some fewer. ``None`` leaves the budget to the connector.

    joint : bool, default=False
        Train the autoencoders on, together with a map of as many weights between all
        their features, before the maps are fitted: of the many dictionaries that
        reconstruct the rows equally well this finds two of which one is computed from
        the other by few weights. What is in a ``FrozenEstimator`` stays as it is.

    faithfulness : float, default=1.0
        With ``joint=True``, the weight of the error of the computed features (a share
        of the variance of the encoded ones) beside those of both reconstructions.

    min_events : int, default=100
        A feature is live if it fires in at least this many of the fitted rows. All
        other features of either side are left out; such output features are predicted
        as zero.

    ridge : float, default=1e-6
        Ridge of the dense map, for inputs of unit mean square; it keeps the Gram
        matrix from being singular.

    n_jobs : int or None, default=None
        Number of parallel jobs that fit the autoencoders.

    random_state : int, RandomState instance or None, default=None
        Seeds the parts whose own `random_state` is None.

    verbose : int, default=0
        1: print how far each part is, with the time left, and a line for each fitted
        part: about thirty lines in all.

    Attributes
    ----------
    input_autoencoder_, output_autoencoder_ : SparseAutoencoder
        Fitted.

    input_events_, output_events_ : ndarray of shape (m,)
        Number of the rows in which each feature fired.

    live_inputs_, live_outputs_ : ndarray of int
        The live features in increasing order: columns of the codes, rows of
        ``components_``.

    connector_ : FeatureConnector
        From the live input features to the live output features, in their order.

    dense_connector_ : LinearRegression
        The least-squares map between the same features, without a budget.

    nonlinear_connector_ : regressor
        Set only if `nonlinear_connector` is.

    coef_ : CSR matrix of shape (m_out, m_in)
        The weights of `connector_`, indexed by the features of the autoencoders.

    output_mean_ : ndarray of shape (d_out,)
        Mean of the rows of y.

    n_features_in_ : int
        Number of columns d of X.

    feature_names_in_ : ndarray of shape (d,)
        Names of the columns, when X has string column names.

    See Also
    --------
    skfeat.capture.capture : Records the rows.
    skfeat.language.replacement_loss : The model's loss when it runs on the features.

    References
    ----------
    .. [1] L. Riggs et al., "Finding Sparse Linear Connections between Features in
       LLMs", 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat import SparseAutoencoder
    >>> from skfeat.datasets import make_sparse_features
    >>> from skfeat.language import LayerPair
    >>> X, codes, _ = make_sparse_features(2000, 12, 24, random_state=0)
    >>> Y = np.maximum(codes[:, :8].toarray() - codes[:, 8:16].toarray(), 0)
    >>> parts = [SparseAutoencoder(m, k=3, max_iter=50) for m in (24, 8)]
    >>> pair = LayerPair(*parts, n_nonzero_coefs=4, random_state=0).fit(X, Y)
    >>> pair.connector_.coef_.nnz <= 4 * len(pair.live_outputs_)
    True
    >>> pair.predict(X).shape
    (2000, 8)
    """

    _parameter_constraints: dict = {  # noqa: RUF012
        "input_autoencoder": [SparseAutoencoder, FrozenEstimator, None],
        "output_autoencoder": [SparseAutoencoder, FrozenEstimator, None],
        "connector": [FeatureConnector, FrozenEstimator, None],
        "nonlinear_connector": [HasMethods(["fit", "predict"]), None],
        "n_nonzero_coefs": [Interval(Real, 0, None, closed="left"), None],
        "joint": ["boolean"],
        "faithfulness": [Interval(Real, 0, None, closed="left")],
        "min_events": [Interval(Integral, 1, None, closed="left")],
        "ridge": [Interval(Real, 0, None, closed="left")],
        "n_jobs": N_JOBS,
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        input_autoencoder=None,
        output_autoencoder=None,
        *,
        connector=None,
        nonlinear_connector=None,
        n_nonzero_coefs=10,
        joint=False,
        faithfulness=1.0,
        min_events=100,
        ridge=1e-6,
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.input_autoencoder = input_autoencoder
        self.output_autoencoder = output_autoencoder
        self.connector = connector
        self.nonlinear_connector = nonlinear_connector
        self.n_nonzero_coefs = n_nonzero_coefs
        self.joint = joint
        self.faithfulness = faithfulness
        self.min_events = min_events
        self.ridge = ridge
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any) -> Self:
        """Fit the autoencoders, then the maps between their features.

        The codes of all rows are held in CSR, about 16 bytes for each active code. The
        rows themselves may be read-only memory maps and are never copied as a whole.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows of the residual stream before the MLP, one for each token.
        y : array-like of shape (n, d_out) or (n,)
            Rows of the MLP's output for the same tokens.

        Returns
        -------
        self : LayerPair
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data is not valid, or if no feature is live.

        Warns
        -----
        UserWarning
            If a part is fitted already and not in a ``FrozenEstimator``: it is fitted
            anew.
        """
        data = {"X": X, "y": y, "metadata": None}
        X = self._check_inputs(X, reset=True)
        if y is None:
            raise ValueError(
                "LayerPair requires y to be passed, but the target y is None: the rows "
                "of the MLP's output."
            )
        y = self._check_outputs(y, reset=True)
        check_consistent_length(X, y)
        for name in ("coef_", "nonlinear_connector_"):
            self.__dict__.pop(name, None)
        seeds = draw_seeds(self.random_state, 4)
        parts = prepare_autoencoders(self, (X, y), seeds[:2])
        warn_of_refits(self, _PARTS)
        warn_of_ignored(self, ignored_by_pair(self, parts))
        context = self._init_callback_context(max_subtasks=n_parts(self))
        context.call_on_fit_task_begin(estimator=self, **data)
        fitted = fit_both_autoencoders(self, parts, (X, y), context, data)
        if self.joint and not all(parts.frozen):
            parts = parts._replace(estimators=fitted)
            fitted = train_both_together(self, parts, (X, y), seeds[3], context, data)
        self.input_autoencoder_, self.output_autoencoder_ = fitted
        codes_in = sparse_codes(self.input_autoencoder_, X)
        codes_out = sparse_codes(self.output_autoencoder_, y)
        self.input_events_ = count_events(codes_in)
        self.output_events_ = count_events(codes_out)
        n_rows = len(X)
        self.live_inputs_ = live_features(
            self.input_events_, self.min_events, n_rows, "input"
        )
        self.live_outputs_ = live_features(
            self.output_events_, self.min_events, n_rows, "output"
        )
        codes_in = codes_in[:, self.live_inputs_]
        codes_out = codes_out[:, self.live_outputs_]
        self.output_mean_ = mean_row(y)
        maps = fit_maps(self, codes_in, codes_out, seeds[2], context, data)
        for key, model in maps.items():
            setattr(self, MAP_ATTRIBUTES[key], model)
        self._tell_names()
        shape = (len(self.output_events_), len(self.input_events_))
        live = (self.live_outputs_, self.live_inputs_)
        coef = spread_weights(maps["sparse"].coef_, live, shape)
        self.coef_ = _align_api_if_sparse(coef)
        context.call_on_fit_task_end(estimator=self, **data)
        return self

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the R2 of the predictions, over all rows and columns together.

        It is one minus the squared error over the squared deviation from the column
        means, as the score of an autoencoder is.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows of the residual stream before the MLP.
        y : array-like of shape (n, d_out) or (n,)
            Rows of the MLP's output.
        sample_weight : array-like of shape (n,), default=None
            Weight of each row.

        Returns
        -------
        float
            At most 1; 0 is what the mean alone reaches. nan if y does not vary.
        """
        predicted = self.predict(X)
        y = self._check_outputs(y, reset=False)
        check_consistent_length(predicted, y, sample_weight)
        predicted = predicted.reshape(y.shape)
        weights = check_weights(sample_weight, y)
        return 1.0 - fvu_in_blocks(y.__getitem__, predicted.__getitem__, weights)

    def report(self, X: Any, y: Any) -> PairReport:
        """Measure the features and the maps between them, best on held-out rows.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows of the residual stream before the MLP.
        y : array-like of shape (n, d_out) or (n,)
            Rows of the MLP's output.

        Returns
        -------
        PairReport
            Columns with one value for each live output feature, and `totals`.
        """
        check_is_fitted(self)
        X = self._check_inputs(X, reset=False)
        y = self._check_outputs(y, reset=False)
        check_consistent_length(X, y)
        return make_report(self, X, y)

    def formula(
        self,
        feature: int,
        *,
        max_terms: int | None = None,
        feature_names: Any = None,
        output_names: Any = None,
    ) -> str:
        """Write an output feature as a weighted sum of input features.

        Parameters
        ----------
        feature : int
            Number of a live output feature, one of `live_outputs_`.
        max_terms : int, default=None
            Number of inputs written, strongest first; ``None`` means all.
        feature_names, output_names : sequence of str, default=None
            Names of the live input features and of the live output features, in the
            order of `live_inputs_` and `live_outputs_`; ``None`` means "IF_2797" and
            "OF_30" by their numbers.

        Returns
        -------
        str
            For example ``"OF_30 = 0.26*IF_2797 + 0.23*IF_259 + 0.10*IF_946"``.

        Raises
        ------
        ValueError
            If the feature is not live, or the names are too few.
        """
        check_is_fitted(self)
        # Of anything but an int, numpy would make a comparison of arrays.
        row = np.flatnonzero(is_int(feature) and self.live_outputs_ == feature)
        if not len(row):
            n_live = len(self.live_outputs_)
            allowed = f"one of the {n_live} live output features, see live_outputs_"
            raise value_error("feature", allowed, feature)
        return self.connector_.formula(
            int(row[0]),
            max_terms=max_terms,
            feature_names=feature_names,
            output_names=output_names,
        )

    def __sklearn_clone__(self):
        return remember_fits(_clone_parametrized(self), self, _PARTS)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "coef_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # Sparse codes describe random y too coarsely for the score that checks require.
        tags.regressor_tags.poor_score = True
        return tags
