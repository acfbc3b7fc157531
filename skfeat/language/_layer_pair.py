"""LayerPair: unwrap what an MLP reads and writes, and connect the features sparsely."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from sklearn.base import MultiOutputMixin, RegressorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import check_is_fitted, validate_data

from skfeat._base import SkfeatEstimator
from skfeat._fitting import fit_autoencoders, fit_part, one_each
from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder
from skfeat.connector._feature_connector import FeatureConnector
from skfeat.language._pair_parts import (
    check_rows,
    count_events,
    default_connector,
    fit_dense,
    floating,
    live_features,
    mean_row,
    one_autoencoder,
    predict_codes,
    sparse_codes,
    whole_weights,
)
from skfeat.language._pair_report import make_report
from skfeat.metrics._reconstruction import check_weights, fvu_in_blocks
from skfeat.utils._arrays import accept_tensor
from skfeat.utils._checks import is_int
from skfeat.utils._rows import row_blocks
from skfeat.utils._sklearn import (
    HasMethods,
    Interval,
    _align_api_if_sparse,
    _fit_context,
)
from skfeat.utils._torch import draw_seeds
from skfeat.utils._workers import N_JOBS

_CONNECTORS = {
    "sparse": "connector_",
    "dense": "dense_connector_",
    "nonlinear": "nonlinear_connector_",
}
# Rows that are predicted at a time: their features are a dense array.
_ROWS = 1024


class LayerPair(MultiOutputMixin, RegressorMixin, SkfeatEstimator):
    """Connect the features of the residual stream to those that an MLP writes.

    The rows that go into a block of a language model, and those that its MLP adds to
    the residual stream, are unwrapped into sparse features by one
    :class:`SparseAutoencoder` each. A sparse linear map then computes the output
    features from the input features by a few weights each [1]_. What lies between,
    a normalisation and an MLP with its nonlinearity, is not looked at; attention that
    comes before the MLP in its block is not either.

    Parameters
    ----------
    input_autoencoder : SparseAutoencoder, FrozenEstimator or None, default=None
        Cloned and fitted to the rows of X. One that is fitted already, here or by
        another library (see :mod:`skfeat.interop`), is used as it is if it comes in a
        ``sklearn.frozen.FrozenEstimator``. ``None`` means
        ``SparseAutoencoder(8 * d, k=min(6, d / 2))`` for rows of d columns: the fewer
        features are active at a time, the fewer weights explain another.

    output_autoencoder : SparseAutoencoder, FrozenEstimator or None, default=None
        The same for the rows of y.

    connector : FeatureConnector or None, default=None
        Cloned and fitted to the codes of the live features. ``None`` means
        ``FeatureConnector(link="identity", fit_intercept=False, candidates=6)``.

    nonlinear_connector : regressor or None, default=None
        A second one, without a budget, to tell by :meth:`report` how linear the output
        features are; cloned and fitted to the same codes in CSR.

    n_nonzero_coefs : float or None, default=10
        Weights that an output feature has on average over the live ones: the budget of
        the connector is this times their number, shared where it lowers the squared
        error most, so that some outputs have more and some fewer. ``None`` leaves the
        budget to the connector.

    min_events : int, default=100
        A feature is live if it fires in at least so many of the rows that are fitted.
        The others, of both sides, are left out; the predictions of such output
        features are zero.

    ridge : float, default=1e-6
        Ridge of the dense map, for inputs of unit mean square, against a singular Gram
        matrix.

    n_jobs : int or None, default=None
        Number of jobs that fit the autoencoders.

    random_state : int, RandomState instance or None, default=None
        Seeds the parts that have no seed of their own.

    verbose : int, default=0
        Print a line a part.

    Attributes
    ----------
    input_autoencoder_, output_autoencoder_ : SparseAutoencoder
        Fitted.

    input_events_, output_events_ : ndarray of shape (m,)
        Number of the rows in which each feature fired.

    live_inputs_, live_outputs_ : ndarray of int
        The live features, increasing: columns of the codes, rows of ``components_``.

    connector_ : FeatureConnector
        From the live input features to the live output features, in their order.

    dense_connector_ : LinearRegression
        The least-squares map between the same features, without a budget.

    nonlinear_connector_ : regressor
        Only with `nonlinear_connector`.

    coef_ : CSR matrix of shape (m_out, m_in)
        The weights of `connector_` by the numbers of the autoencoders' features.

    output_mean_ : ndarray of shape (d_out,)
        Mean of the rows of y.

    n_features_in_ : int
        Number of columns d of X.

    feature_names_in_ : ndarray of shape (d,)
        Names of the columns, when X has string column names.

    See Also
    --------
    skfeat.capture.capture : Records the rows.
    skfeat.language.replacement_loss : What the model loses if it runs on the features.

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
        "connector": [FeatureConnector, None],
        "nonlinear_connector": [HasMethods(["fit", "predict"]), None],
        "n_nonzero_coefs": [Interval(Real, 0, None, closed="left"), None],
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
        self.min_events = min_events
        self.ridge = ridge
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y):
        """Fit the autoencoders, then the maps between their features.

        The codes of all rows are held in CSR, some 16 bytes for an active feature of
        each side; the rows themselves may be read-only memory maps and are never
        copied as a whole.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows of the residual stream before the MLP, one a token.
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
        seeds = draw_seeds(self.random_state, 3)
        parts = [
            one_autoencoder(getattr(self, name), seed, name, rows.shape[1])
            for name, seed, rows in zip(
                ("input_autoencoder", "output_autoencoder"), seeds, (X, y), strict=False
            )
        ]
        context = self._init_callback_context(max_subtasks=3)
        context.call_on_fit_task_begin(estimator=self, **data)
        autoencoders = self._fit_autoencoders(parts, (X, y), context, data)
        self.input_autoencoder_, self.output_autoencoder_ = autoencoders
        codes_in, codes_out = map(sparse_codes, autoencoders, (X, y))
        self.input_events_ = count_events(codes_in)
        self.output_events_ = count_events(codes_out)
        self.live_inputs_, self.live_outputs_ = (
            live_features(events, self.min_events, len(X), name)
            for events, name in (
                (self.input_events_, "input"),
                (self.output_events_, "output"),
            )
        )
        codes_in = codes_in[:, self.live_inputs_]
        codes_out = codes_out[:, self.live_outputs_]
        self.output_mean_ = mean_row(y)
        self._fit_connectors(codes_in, codes_out, seeds[2], context, data)
        context.call_on_fit_task_end(estimator=self, **data)
        return self

    def predict(self, X, connector="sparse"):
        """Predict the MLP's output through input features, weights and the decoder.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows of the residual stream before the MLP.
        connector : {"sparse", "dense", "nonlinear"}, default="sparse"
            Which of the fitted maps to take.

        Returns
        -------
        ndarray of shape (n, d_out) or (n,)
            In the dtype of X.

        Raises
        ------
        ValueError
            If there is no such map.
        """
        model = self._connector(connector)
        X = self._check_inputs(X, reset=False)
        shape = (len(X), len(self.output_mean_))
        predicted = np.empty(shape, floating(X[:1]).dtype)
        for block, rows in row_blocks(X, _ROWS):
            codes = sparse_codes(self.input_autoencoder_, rows, self.live_inputs_)
            predicted[block] = self.decode_features(predict_codes(model, codes))
        return predicted.ravel() if self._y_is_1d else predicted

    def predict_features(self, X, connector="sparse"):
        """Predict the live output features from the input features.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows of the residual stream before the MLP.
        connector : {"sparse", "dense", "nonlinear"}, default="sparse"
            Which of the fitted maps to take.

        Returns
        -------
        ndarray of shape (n, n_live_outputs)
            One column for each of `live_outputs_`.

        Raises
        ------
        ValueError
            If there is no such map.
        """
        model = self._connector(connector)
        return predict_codes(model, self.input_features(X))

    def input_features(self, X):
        """Encode rows of the residual stream into the live input features.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows of the residual stream before the MLP.

        Returns
        -------
        CSR matrix of shape (n, n_live_inputs)
            One column for each of `live_inputs_`.
        """
        check_is_fitted(self)
        X = self._check_inputs(X, reset=False)
        codes = sparse_codes(self.input_autoencoder_, X, self.live_inputs_)
        return _align_api_if_sparse(codes)

    def output_features(self, y):
        """Encode rows of the MLP's output into the live output features.

        Parameters
        ----------
        y : array-like of shape (n, d_out) or (n,)
            Rows of the MLP's output.

        Returns
        -------
        CSR matrix of shape (n, n_live_outputs)
            One column for each of `live_outputs_`.
        """
        check_is_fitted(self)
        y = self._check_outputs(y, reset=False)
        codes = sparse_codes(self.output_autoencoder_, y, self.live_outputs_)
        return _align_api_if_sparse(codes)

    def decode_features(self, features):
        """Decode live output features into rows of the MLP's output.

        Parameters
        ----------
        features : array-like or CSR matrix of shape (n, n_live_outputs)
            One column for each of `live_outputs_`; the other features are zero.

        Returns
        -------
        ndarray of shape (n, d_out)

        Raises
        ------
        ValueError
            If they are not finite or not so many.
        """
        check_is_fitted(self)
        features = check_array(
            accept_tensor(features, "features"),
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            ensure_min_samples=0,
            input_name="features",
        )
        n_live = len(self.live_outputs_)
        if features.shape[1] != n_live:
            raise ValueError(
                f"features must have {n_live} columns, one for each of live_outputs_. "
                f"Got {features.shape[1]} instead."
            )
        decoder = self.output_autoencoder_
        return features @ decoder.components_[self.live_outputs_] + decoder.intercept_

    def reconstruct(self, y):
        """Reconstruct rows of the MLP's output from their own features, live or not.

        Parameters
        ----------
        y : array-like of shape (n, d_out) or (n,)
            Rows of the MLP's output.

        Returns
        -------
        ndarray of shape (n, d_out) or (n,)
            What an exact map to the output features would lead to.
        """
        check_is_fitted(self)
        y = self._check_outputs(y, reset=False)
        decoder = self.output_autoencoder_
        parts = [
            decoder.inverse_transform(sparse_codes(decoder, rows))
            for _, rows in row_blocks(y, _ROWS)
        ]
        rows = np.concatenate(parts)
        return rows.ravel() if self._y_is_1d else rows

    def score(self, X, y, sample_weight=None):
        """Return the R2 of the predictions, over all rows and columns together.

        It is one minus the squared error over the squared deviation from the column
        means, as of an autoencoder's score.

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

    def report(self, X, y):
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
            Columns with an entry for each live output feature, and `totals`.
        """
        check_is_fitted(self)
        X = self._check_inputs(X, reset=False)
        y = self._check_outputs(y, reset=False)
        check_consistent_length(X, y)
        return make_report(self, X, y)

    def formula(self, feature, *, max_terms=None):
        """Write an output feature as a weighted sum of input features.

        Parameters
        ----------
        feature : int
            Number of a live output feature, one of `live_outputs_`.
        max_terms : int, default=None
            Number of inputs written, strongest first; ``None`` means all.

        Returns
        -------
        str
            For example ``"OF_30 = 0.26*IF_2797 + 0.23*IF_259 + 0.10*IF_946"``.

        Raises
        ------
        ValueError
            If the feature is not live.
        """
        check_is_fitted(self)
        row = np.flatnonzero(self.live_outputs_ == feature)
        if not is_int(feature) or not len(row):
            raise ValueError(
                f"feature must be one of the {len(self.live_outputs_)} live output "
                f"features, see live_outputs_. Got {feature!r} instead."
            )
        names = [f"IF_{i}" for i in self.live_inputs_]
        formula = self.connector_.formula(
            int(row[0]), max_terms=max_terms, feature_names=names
        )
        return f"OF_{feature}{formula[formula.index(' = ') :]}"

    def connectors(self):
        """Return the fitted maps between the live features.

        Returns
        -------
        dict of str to regressor
            "sparse", "dense" and, if there is one, "nonlinear".
        """
        check_is_fitted(self)
        return {
            key: getattr(self, attribute)
            for key, attribute in _CONNECTORS.items()
            if hasattr(self, attribute)
        }

    def _connector(self, name):
        held = self.connectors()
        if not isinstance(name, str) or name not in held:
            hint = "; nonlinear_connector is None" if name == "nonlinear" else ""
            raise ValueError(
                f"connector must be one of {', '.join(map(repr, held))}. Got {name!r} "
                f"instead{hint}."
            )
        return held[name]

    def _check_inputs(self, X, *, reset):
        # Names and the number of columns are told from what the caller gave.
        if not reset:
            check_is_fitted(self)
        checked = check_rows(X, "X", self)
        validate_data(self, X, skip_check_array=True, reset=reset)
        return checked

    def _check_outputs(self, y, *, reset):
        y = check_rows(y, "y", self, ensure_2d=False)
        one_column = y.ndim == 1
        y = y.reshape(-1, 1) if one_column else y
        if reset:
            self._y_is_1d = one_column
        elif y.shape[1] != len(self.output_mean_):
            raise ValueError(
                f"y has {y.shape[1]} columns, but this LayerPair was fitted with "
                f"{len(self.output_mean_)}."
            )
        return y

    def _fit_autoencoders(self, parts, rows, context, data):
        names = ("input_autoencoder", "output_autoencoder")
        frozen = [isinstance(getattr(self, name), FrozenEstimator) for name in names]
        contexts = [context.subcontext(task_name=name) for name in names]
        for subcontext in contexts:
            subcontext.call_on_fit_task_begin(estimator=self, **data)
        left = [i for i, kept in enumerate(frozen) if not kept]
        tasks = [[those[i] for i in left] for those in (parts, rows, contexts)]
        fitted = iter(fit_autoencoders(tasks[0], tasks[1], tasks[2], self.n_jobs))
        parts = [
            part if kept else next(fitted)
            for part, kept in zip(parts, frozen, strict=True)
        ]
        for name, part, own, subcontext in zip(
            names, parts, rows, contexts, strict=True
        ):
            subcontext.call_on_fit_task_end(estimator=self, **data)
            if self.verbose:
                print(f"[LayerPair] {name}: R2 {part.score(own):.6g}")
        return parts

    def _fit_connectors(self, codes_in, codes_out, seed, context, data):
        connector = default_connector() if self.connector is None else self.connector
        connector = one_each([connector], [seed], "connector", FeatureConnector)[0]
        n_outputs = codes_out.shape[1]
        if self.n_nonzero_coefs is not None:
            budget = round(float(self.n_nonzero_coefs) * n_outputs)
            connector.set_params(n_nonzero_coefs=budget)
        subcontext = context.subcontext(task_name="connector")
        subcontext.call_on_fit_task_begin(estimator=self, **data)
        connector = fit_part(connector, codes_in, subcontext, codes_out)
        self.dense_connector_ = fit_dense(
            codes_in,
            codes_out,
            fit_intercept=connector.fit_intercept,
            ridge=float(self.ridge),
        )
        if self.nonlinear_connector is not None:
            other = clone(self.nonlinear_connector)
            if other.get_params().get("random_state", seed) is None:
                other.set_params(random_state=seed)
            self.nonlinear_connector_ = other.fit(codes_in, codes_out)
        subcontext.call_on_fit_task_end(estimator=self, **data)
        if self.verbose:
            print(
                f"[LayerPair] connector: {connector.coef_.nnz} weights, "
                f"{connector.coef_.nnz / n_outputs:.3g} an output"
            )
        self.connector_ = connector
        shape = (len(self.output_events_), len(self.input_events_))
        live = (self.live_outputs_, self.live_inputs_)
        self.coef_ = _align_api_if_sparse(whole_weights(connector.coef_, live, shape))

    def __sklearn_is_fitted__(self):
        return hasattr(self, "coef_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # Codes keep what is common in y, which need not be what a check asks for.
        tags.regressor_tags.poor_score = True
        return tags
