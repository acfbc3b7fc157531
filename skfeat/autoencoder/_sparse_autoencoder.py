"""The sparse autoencoder as an estimator: its parameters and methods."""

from __future__ import annotations

from typing import Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skfeat.autoencoder._coder import WEIGHTS, SparseCoder
from skfeat.autoencoder._quality import r2
from skfeat.autoencoder._validation import rows_of_fitted, rows_to_fit
from skfeat.rows._store import spooled
from skfeat.utils._arrays import check_weights
from skfeat.utils._bases import fit_context


class SparseAutoencoder(SparseCoder):
    """Unwrap activations into many sparse, interpretable features.

    A row x of d activations is written as a sparse non-negative combination of m
    learnt directions, the decoder rows ::

        z = activation((x - intercept_) @ encoder_coef_.T + encoder_intercept_)
        x' = z @ components_ + intercept_

    The weights minimise the mean squared error between x and x', with sparsity either
    built into the activation (top-k) or asked for by an L1 penalty (ReLU) [1]_ [2]_.

    Parameters
    ----------
    n_components : int, default=None
        Number of features m. ``None`` means four for each input feature.

    activation : {"topk", "batch_topk", "relu", "jumprelu", "gated"}, default="topk"
        "topk" keeps the `k` largest positive pre-activations of a row [2]_.
        "batch_topk" keeps `k` a row on average: in training the largest of the whole
        batch, afterwards those above a threshold learnt on the way, so that the code
        of a row does not depend on its batch [3]_. "relu" keeps all positive ones and
        penalises their sum [1]_. "jumprelu" keeps those above a threshold of each
        feature's own, and penalises their number [4]_. "gated" computes which
        features are on apart from how strongly, and penalises the former alone [5]_.

    k : int or float, default=32
        Active features a row, for "topk" and, on average, for "batch_topk", where it
        need not be whole; clipped to `n_components`.

    k_start : int, default=None
        Active features a row at the beginning of `fit`, for "topk" and "batch_topk";
        at least `k`, to which their number falls, by equal factors, in the first half
        of the planned updates. ``None`` means `k`. Where few features are active,
        those that fire together are often found as mixtures, or several times; a start
        of eight times `k` separates them. With a dozen active on rows that are seen
        once, it finds no more of a known world. It takes more time, as more features
        are active.

    alpha : float, default=0.1
        Weight of the sparsity penalty, for "relu", "jumprelu" and "gated". The
        objective of a row is ``|x - x'|^2 / d + alpha / sqrt(d) * sum(z)`` on data
        centred and scaled to unit mean square, so that a value means the same for
        layers of any width; from about 3 on hardly a code is left. "gated" sums its
        gates instead; "jumprelu" adds ``alpha ** 2 / 4`` for each active feature,
        which for orthonormal features makes the same ones worth their while.

    l0 : float, default=None
        Number of active features a row that "relu", "jumprelu" and "gated" should
        have: the weight of the penalty starts from `alpha` and follows. Training then
        runs through all epochs of `max_iter`. ``None`` keeps `alpha`.

    prefixes : array-like of int, default=None
        Makes a Matryoshka autoencoder of "topk" or "batch_topk" [6]_: the first p
        features must reconstruct the data too, for each p in `prefixes` (increasing;
        `n_components` itself is always one of them). The loss is the mean over
        prefixes. General features come first then, and in worlds of features in trees
        the others fire less often where theirs does not; a little more of the variance
        is left unexplained.

    dead_features : {"auxk", "resample", "ignore"}, default="auxk"
        What happens to features that have long been silent. "auxk" has them
        reconstruct what the others miss, for "topk" and "batch_topk" [2]_ (the others
        then train as with "ignore"). "resample" gives them the direction of badly
        reconstructed rows, at several times in the first half of training [1]_.

    tied : bool, default=False
        Use the decoder's rows as the encoder's; not possible with "gated".

    center : bool, default=True
        Centre the data. The mean is folded into the fitted weights.

    scale : bool, default=True
        Divide the data by one scalar, the root mean square of its deviations. The
        scale is folded into the fitted weights.

    learning_rate_init : float or "auto", default="auto"
        Largest learning rate of Adam. In `fit` the rate warms up over the first 2 % of
        the planned updates and then decays linearly to zero; "auto" is ``1e-2 *
        min(1, sqrt(256 / m))`` for "topk" and "batch_topk", larger by ``sqrt(600 /
        updates)``, at most by 1.5 and by ``updates / 25``, where fewer than 600 updates
        are planned; 0.4 of it for the others. In `partial_fit` the rate is constant,
        and "auto" half as large.

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
        Hold out `validation_fraction` of the rows, stop when their reconstruction (with
        a penalty, the objective on them) stops improving, and keep the best weights.
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
    components_ : ndarray of shape (m, d)
        Decoder rows, the directions of the features; each has norm one.

    intercept_ : ndarray of shape (d,)
        Decoder bias, subtracted before encoding and added after decoding.

    encoder_coef_ : ndarray of shape (m, d)
        Encoder rows.

    encoder_intercept_ : ndarray of shape (m,)
        Encoder bias.

    n_iter_ : int
        Number of epochs.

    n_steps_ : int
        Number of updates of the weights.

    loss_curve_ : list of float
        Mean training loss of each epoch, on centred rows of unit mean square.

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
        R2 of the reconstruction.

    threshold_ : ndarray of shape (m,)
        What pre-activations must exceed to be codes; only with "batch_topk" (where
        all are equal), "jumprelu" and "gated".

    n_features_in_ : int
        Number of input features d.

    feature_names_in_ : ndarray of shape (d,)
        Names of the input features, when X has string column names.

    See Also
    --------
    FeatureConnector : Sparse weights between the features of two layers.
    FeatureUnwrapper : The whole network, layer by layer.

    References
    ----------
    .. [1] T. Bricken et al., "Towards Monosemanticity: Decomposing Language Models
       With Dictionary Learning", Transformer Circuits Thread, 2023.
    .. [2] L. Gao et al., "Scaling and evaluating sparse autoencoders", 2024.
    .. [3] B. Bussmann et al., "BatchTopK Sparse Autoencoders", 2024.
    .. [4] S. Rajamanoharan et al., "Jumping Ahead: Improving Reconstruction Fidelity
       with JumpReLU Sparse Autoencoders", 2024.
    .. [5] S. Rajamanoharan et al., "Improving Dictionary Learning with Gated Sparse
       Autoencoders", 2024.
    .. [6] B. Bussmann et al., "Learning Multi-Level Features with Matryoshka Sparse
       Autoencoders", 2025.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skfeat import SparseAutoencoder
    >>> X, _ = load_digits(return_X_y=True)
    >>> autoencoder = SparseAutoencoder(128, k=8, random_state=0).fit(X)
    >>> codes = autoencoder.transform(X)
    >>> codes.shape
    (1797, 128)
    >>> int((codes != 0).sum(axis=1).max())
    8
    >>> bool(autoencoder.score(X) > 0.8)
    True
    """

    _kind = "SparseAutoencoder"

    _parameter_constraints: dict = {  # noqa: RUF012
        **SparseCoder._parameter_constraints,
        "tied": ["boolean"],
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
        tied=False,
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
        self.tied = tied
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
    def fit(self, X, y=None, sample_weight=None) -> Self:
        """Learn the features of rows.

        Parameters
        ----------
        X : array-like of shape (n, d), or iterator of batches
            Activations, one row an input. An iterator of batches of rows, such as a
            generator, a DataLoader or what `skfeat.rows.iter_rows` returns (of arrays
            of contexts, too), is written to a temporary file first and fitted as that
            file, mapped; the file has no name and is gone with the fit.
        y : object, default=None
            Ignored, whatever it is; `Transcoder` predicts other rows.
        sample_weight : array-like of shape (n,), default=None
            Weight of each row's squared error, of as many rows as an iterator has.

        Returns
        -------
        self : SparseAutoencoder
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or X is not valid, if training diverges, or if the file
            `checkpoint` is damaged or that of another fit; it is never overwritten.
        OSError
            If `checkpoint` cannot be written or is in use by another fit. What was
            written last is kept, and `fit` goes on from there. At the end of training
            the estimator is fitted nevertheless.
        ImportError
            If `checkpoint` is set and safetensors is not installed.

        Warns
        -----
        ConvergenceWarning
            If the loss was still falling by more than a twentieth an epoch when the
            epochs were used up, or if `l0` is missed by more than a fifth.
        UserWarning
            If more than a tenth of the features are dead at the end, if `alpha` is so
            large that the codes explain nothing of X, if `k` is clipped,
            if a parameter was set that changes nothing with the others as they are,
            or if Ctrl-C ended training: the weights reached so far are then kept.
        """
        return self._fit(spooled(X), y, sample_weight)

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None) -> Self:
        """Train for one pass over a batch of rows, keeping what was learnt before.

        The first batch sets the centring and the scale, so let it be a fair sample.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Activations, one row an input.
        y : object, default=None
            Ignored, whatever it is; `Transcoder` predicts other rows.
        sample_weight : array-like of shape (n,), default=None
            Weight of each row's squared error.

        Returns
        -------
        self : SparseAutoencoder
            The fitted estimator.
        """
        return self._partial_fit(X, y, sample_weight)

    def inverse_transform(self, X) -> np.ndarray:
        """Decode codes into rows of activations.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, m)
            Codes.

        Returns
        -------
        ndarray of shape (n, d)
            The reconstructed activations.

        Raises
        ------
        ValueError
            If X does not have `n_components` columns, or is so large that rows are
            beyond the range of its dtype.
        """
        home, rows = self._decoded(X)
        return home.bring(rows)

    def score(self, X, y=None, sample_weight=None) -> float:
        """Return the R2 of the reconstruction.

        It is one minus the squared error over the squared deviation from the column
        means, both summed over rows and features.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Activations.
        y : object, default=None
            Ignored, whatever it is; `Transcoder` predicts other rows.
        sample_weight : array-like of shape (n,), default=None
            Weight of each row's squared error and squared deviation.

        Returns
        -------
        float
            At most 1; 0 is what the mean alone reaches.
        """
        check_is_fitted(self)
        home, X = rows_of_fitted(self, X, "score")
        sample_weight = check_weights(sample_weight, X)
        weights = {
            name: np.asarray(home.to_numpy(getattr(self, name)))
            for name in WEIGHTS
            if hasattr(self, name)
        }
        return r2(X, sample_weight, weights, self.make_activation())

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        return tags

    def _rows(self, X, y, sample_weight, *, reset):
        home, X, sample_weight = rows_to_fit(self, X, sample_weight, reset=reset)
        return home, X, None, sample_weight

    def _subtracted(self):
        return self.intercept_
