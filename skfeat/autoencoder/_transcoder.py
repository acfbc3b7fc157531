"""The transcoder as an estimator: sparse codes of rows that predict other rows."""

from __future__ import annotations

from typing import Self

import numpy as np
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skfeat.autoencoder._coder import SparseCoder
from skfeat.autoencoder._validation import (
    rows_of_fitted,
    rows_to_fit,
    targets_to_fit,
)
from skfeat.metrics._reconstruction import r2_of_predictions
from skfeat.utils._bases import MultiOutputMixin, RegressorMixin, fit_context
from skfeat.utils._finite import check_finite_result


def _decodes_codes_alone(transcoder: Transcoder) -> bool:
    if transcoder.skip or hasattr(transcoder, "skip_coef_"):
        raise AttributeError(
            "inverse_transform is not possible with skip=True, where predictions "
            "depend on the rows too; use predict, or codes @ components_ + intercept_ "
            "for the part of the codes."
        )
    return True


class Transcoder(MultiOutputMixin, RegressorMixin, SparseCoder):
    """Learns sparse, interpretable features of rows that predict other rows.

    A row x of d_in values, the input of a part of a network, predicts the row y of
    d_out values that the part makes of it, by a sparse non-negative combination of m
    learnt directions [1]_ ::

        z = activation(x @ encoder_coef_.T + encoder_intercept_)
        y' = z @ components_ + intercept_ (+ x @ skip_coef_.T)

    The weights minimise the mean squared error between y and y', with sparsity as in
    :class:`skfeat.SparseAutoencoder`. A feature tells when it fires by a direction of
    x and what it does by one of y, so that it describes what the part computes. A skip
    leaves the linear part of that to a matrix, and the codes to the rest [2]_.

    Parameters
    ----------
    n_components : int, default=None
        Number of features m. ``None`` means four for each input feature.

    activation : {"topk", "batch_topk", "relu", "jumprelu", "gated"}, default="topk"
        What makes codes sparse; see :class:`skfeat.SparseAutoencoder`.

    k : int or float, default=32
        Active features a row, for "topk" and, on average, for "batch_topk", where it
        need not be whole; clipped to `n_components`.

    k_start : int, default=None
        Active features a row at the beginning of `fit`, for "topk" and "batch_topk",
        which fall to `k` in the first half of the planned updates. ``None`` means `k`.

    alpha : float, default=0.1
        Weight of the sparsity penalty, for "relu", "jumprelu" and "gated". The
        objective of a row is ``|y - y'|^2 / d_out + alpha / sqrt(d_out) * sum(z)`` on
        targets centred and scaled to unit mean square; see
        :class:`skfeat.SparseAutoencoder`.

    l0 : float, default=None
        Number of active features a row that "relu", "jumprelu" and "gated" should
        have: the weight of the penalty starts from `alpha` and follows. Training then
        runs through all epochs of `max_iter`. ``None`` keeps `alpha`.

    prefixes : array-like of int, default=None
        Makes a Matryoshka transcoder of "topk" or "batch_topk" [3]_: the first p
        features must predict the targets too, for each p in `prefixes` (increasing;
        `n_components` itself is always one of them). The loss is the mean over
        prefixes. General features come first then.

    dead_features : {"auxk", "resample", "ignore"}, default="auxk"
        What happens to features that have long been silent. "auxk" has them
        predict what the others miss of the targets, for "topk" and "batch_topk" (the
        others then train as with "ignore"). "resample" gives them the direction of
        badly predicted rows and of their errors, at several times in the first half of
        training.

    skip : bool, default=False
        Add a linear map of x to the prediction. It starts as the ridge regression of y
        on x, its ridge chosen by generalised cross-validation, and is trained on with
        the codes [2]_.

    center : bool, default=True
        Centre x and y. The means are folded into the fitted weights.

    scale : bool, default=True
        Divide x and y by one scalar each, the root mean square of their deviations.
        The scales are folded into the fitted weights.

    learning_rate_init : float or "auto", default="auto"
        Largest learning rate of Adam; see :class:`skfeat.SparseAutoencoder`. In `fit`,
        "auto" for "topk" and "batch_topk" is larger by ``sqrt(2000 / updates)``, at
        most by 4 and by ``updates / 25``, where fewer updates than 2,000 are planned.

    batch_size : int, default=512
        Rows of a minibatch; clipped to the number of rows.

    max_iter : int or "auto", default="auto"
        Number of epochs at most. "auto" plans as many epochs as make 2,000 updates,
        and at least 5.

    tol : float, default=1e-4
        Training ends when `n_iter_no_change` epochs together lower the loss (the
        held-out error with `early_stopping`) by less than this share.

    n_iter_no_change : int, default=20
        Number of epochs that must, together, make progress; more where they have fewer
        than 60 updates.

    early_stopping : bool, default=False
        Hold out `validation_fraction` of the rows, stop when their prediction (with a
        penalty, the objective on them) stops improving, and keep the best weights.
        Not possible with `l0`.

    validation_fraction : float, default=0.1
        Share of the rows held out when `early_stopping` is set.

    warm_start : bool, default=False
        Go on from the weights of the last `fit` instead of starting afresh.

    sparse_output : bool, default=False
        Return the codes as CSR instead of a dense array.

    precision : {"float32", "float64", "bfloat16", "int8"}, default="float32"
        Arithmetic of training, whatever the dtype of X; codes are computed in the
        dtype of X. With "bfloat16" matrices are rounded before they are multiplied,
        while weights, sums and all else stay float32. It pays where the processor has
        instructions for it (most GPUs, x86 with AMX, or AVX-512 with them), for top-k
        and ReLU on wide layers, and costs much where not. On the CPU, weights that a
        cache holds are multiplied as float32, which is faster there.

        With "int8", for top-k and batch top-k, integers of eight bits tell which codes
        of a row are the largest, each row and each feature with a scale of its own;
        those codes, and all else, are computed in float32. It is the fastest on wide
        layers where the processor has AVX-512 VNNI and no AMX, and numba is
        installed. Elsewhere, and on weights that a cache holds, it is "float32".

    device : str, torch.device or None, default=None
        Where training runs. ``None`` means the CPU.

    random_state : int, RandomState instance or None, default=None
        Seeds initial weights, shuffling and the held-out rows.

    distribute : {"rows", "features"}, default="rows"
        What the processes of a process group of torch, if there is one, divide among
        themselves; each is given the same rows and ends up with the same fitted
        weights. "rows": the rows of every batch. "features": the features, for more of
        them than one device has room for; not possible with
        ``dead_features="resample"``.

    checkpoint : str or path, default=None
        A ``.safetensors`` file from which `fit` goes on where it was stopped, in
        whatever way: the result is that of a fit that was not, on the CPU to the bit.
        It is written about every minute, at the end and at Ctrl-C, and takes the place
        of the one before once it is whole. The file of a finished fit gives the same
        estimator again without training. A fit of other rows or other parameters does
        not touch it (those that may differ are `device`, `distribute`,
        `sparse_output` and `verbose`). In an existing folder every fit gets a file of
        its own, as a search or `FeatureUnwrapper` needs it. Not possible with
        `partial_fit` or in a process group. Needs the extra ``interop``.

    verbose : int, default=0
        1: print about thirty lines, with the loss and the time left. Above: a line an
        epoch.

    Attributes
    ----------
    components_ : ndarray of shape (m, d_out)
        Decoder rows, the directions that features add to y; each has norm one.

    intercept_ : ndarray of shape (d_out,)
        Decoder bias.

    encoder_coef_ : ndarray of shape (m, d_in)
        Encoder rows, the directions of x that features respond to.

    encoder_intercept_ : ndarray of shape (m,)
        Encoder bias.

    skip_coef_ : ndarray of shape (d_out, d_in)
        The linear map; only with ``skip=True``.

    n_iter_ : int
        Number of epochs.

    n_steps_ : int
        Number of updates of the weights.

    loss_curve_ : list of float
        Mean training loss of each epoch, on centred targets of unit mean square.

    validation_scores_ : list of float
        Held-out R2 after each epoch, or one minus the held-out objective where there
        is a penalty; only with `early_stopping`.

    n_dead_ : int
        Features that fired for no row of the last epoch.

    feature_density_ : ndarray of shape (m,)
        Share of rows on which each feature is active. This and the next two are
        measured after training, on up to 4,096 of the rows it was given.

    l0_ : float
        Mean number of active features a row.

    explained_variance_ : float
        R2 of the prediction: one minus the squared error over the squared deviation,
        both summed over all targets.

    threshold_ : ndarray of shape (m,)
        What pre-activations must exceed to be codes; only with "batch_topk" (where
        all are equal), "jumprelu" and "gated".

    n_features_in_ : int
        Number of input features d_in.

    n_targets_ : int
        Number of targets d_out.

    feature_names_in_ : ndarray of shape (d_in,)
        Names of the input features, when X has string column names.

    See Also
    --------
    SparseAutoencoder : Decodes the rows that it encodes.
    FeatureConnector : Sparse weights between features of two layers.

    References
    ----------
    .. [1] J. Dunefsky, P. Chlenski and N. Nanda, "Transcoders Find Interpretable LLM
       Feature Circuits", NeurIPS 2024.
    .. [2] G. Paulo, S. Shabalin and N. Belrose, "Transcoders Beat Sparse Autoencoders
       for Interpretability", 2025.
    .. [3] B. Bussmann et al., "Learning Multi-Level Features with Matryoshka Sparse
       Autoencoders", 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat import Transcoder
    >>> rng = np.random.RandomState(0)
    >>> X = rng.randn(2000, 16)
    >>> Y = np.maximum(X @ rng.randn(16, 32) - 1, 0) @ rng.randn(32, 8)
    >>> transcoder = Transcoder(64, k=8, random_state=0).fit(X, Y)
    >>> transcoder.predict(X).shape
    (2000, 8)
    >>> int((transcoder.transform(X) != 0).sum(axis=1).max())
    8
    >>> bool(transcoder.score(X, Y) > 0.7)
    True
    """

    skip_coef_: np.ndarray
    n_targets_: int
    _y_is_1d: bool

    _kind = "Transcoder"

    _parameter_constraints: dict = {  # noqa: RUF012
        **SparseCoder._parameter_constraints,
        "skip": ["boolean"],
    }

    def __init__(
        self,
        n_components=None,
        *,
        activation="topk",
        k=32,
        k_start=None,
        alpha=0.1,
        l0=None,
        prefixes=None,
        dead_features="auxk",
        skip=False,
        center=True,
        scale=True,
        learning_rate_init="auto",
        batch_size=512,
        max_iter="auto",
        tol=1e-4,
        n_iter_no_change=20,
        early_stopping=False,
        validation_fraction=0.1,
        warm_start=False,
        sparse_output=False,
        precision="float32",
        device=None,
        random_state=None,
        distribute="rows",
        checkpoint=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.activation = activation
        self.k = k
        self.k_start = k_start
        self.alpha = alpha
        self.l0 = l0
        self.prefixes = prefixes
        self.dead_features = dead_features
        self.skip = skip
        self.center = center
        self.scale = scale
        self.learning_rate_init = learning_rate_init
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.sparse_output = sparse_output
        self.precision = precision
        self.device = device
        self.random_state = random_state
        self.distribute = distribute
        self.checkpoint = checkpoint
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None) -> Self:
        """Learn the features of rows that predict others.

        Parameters
        ----------
        X : array-like of shape (n, d_in)
            Rows to encode, such as the inputs of a layer.
        y : array-like of shape (n,) or (n, d_out)
            Rows to predict, such as the outputs of the layer.
        sample_weight : array-like of shape (n,), default=None
            Weight of each row's squared error.

        Returns
        -------
        self : Transcoder
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter, X or y is not valid, if training diverges, or if the file
            `checkpoint` is damaged or that of another fit; it is never overwritten.
        OSError
            If `checkpoint` cannot be written or is in use by another fit.
        ImportError
            If `checkpoint` is set and safetensors is not installed.

        Warns
        -----
        ConvergenceWarning
            If the loss was still falling by more than a twentieth an epoch when the
            epochs were used up, or if `l0` is missed by more than a fifth.
        UserWarning
            As `SparseAutoencoder.fit`.
        """
        return self._fit(X, y, sample_weight)

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None) -> Self:
        """Train for one pass over a batch of rows, keeping what was learnt before.

        The first batch sets the centring, the scales and the start of the weights, so
        let it be a fair sample.

        Parameters
        ----------
        X : array-like of shape (n, d_in)
            Rows to encode.
        y : array-like of shape (n,) or (n, d_out)
            Rows to predict.
        sample_weight : array-like of shape (n,), default=None
            Weight of each row's squared error.

        Returns
        -------
        self : Transcoder
            The fitted estimator.
        """
        return self._partial_fit(X, y, sample_weight)

    def predict(self, X) -> np.ndarray:
        """Predict rows from the sparse codes of others.

        Parameters
        ----------
        X : array-like of shape (n, d_in)
            Rows to encode.

        Returns
        -------
        ndarray of shape (n,) or (n, d_out)
            What the codes decode, and the skip if there is one, in the shape of the y
            that was fitted.

        Raises
        ------
        ValueError
            If X is not valid, or so large that predictions are beyond the range of its
            dtype.
        """
        check_is_fitted(self)
        home, X = rows_of_fitted(self, X, "predict")
        with np.errstate(over="ignore", invalid="ignore"):
            codes = self._encoder(home).encode(X, sparse_output=True)
            predicted = self._decode(home, codes)
            if hasattr(self, "skip_coef_"):
                predicted += X @ self._array(home, "skip_coef_", X.dtype).T
        check_finite_result("The predictions", predicted, X)
        return home.bring(predicted.ravel() if self._y_is_1d else predicted)

    def score(self, X, y, sample_weight=None) -> float:
        """Return the R2 of the predictions, averaged over the outputs.

        Parameters
        ----------
        X : array-like of shape (n, d_in)
            Rows to encode.
        y : array-like of shape (n,) or (n, d_out)
            Rows to predict.
        sample_weight : array-like of shape (n,), default=None
            Weight of each row.

        Returns
        -------
        float
        """
        return r2_of_predictions(self, X, y, sample_weight)

    @available_if(_decodes_codes_alone)
    def inverse_transform(self, X) -> np.ndarray:
        """Decode codes into predicted rows; only without a skip.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, m)
            Codes.

        Returns
        -------
        ndarray of shape (n,) or (n, d_out)
            The predictions, as `predict` makes them of the rows with these codes.

        Raises
        ------
        ValueError
            If X does not have `n_components` columns, or if it is so large that rows
            are beyond the range of its dtype.
        AttributeError
            With ``skip=True``, where predictions depend on the encoded rows too.
        """
        home, rows = self._decoded(X)
        return home.bring(rows.ravel() if self._y_is_1d else rows)

    def _rows(self, X, y, sample_weight, *, reset):
        home, X, sample_weight = rows_to_fit(self, X, sample_weight, reset=reset)
        Y, y_is_1d = targets_to_fit(self, y, len(X))
        if reset:
            self._y_is_1d, self.n_targets_ = y_is_1d, Y.shape[1]
        return home, X, Y, sample_weight

    def _subtracted(self):
        return np.zeros(self.encoder_coef_.shape[1])
