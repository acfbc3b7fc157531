"""Several fits of one autoencoder, and the features that recur in them."""

from __future__ import annotations

from itertools import combinations
from numbers import Integral, Real
from typing import Any, NamedTuple, Self

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from skfeat._base import SkfeatEstimator
from skfeat._fitting import Parts, fit_autoencoders
from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder
from skfeat.autoencoder._validation import validated_codes
from skfeat.metrics import explained_variance, match_components
from skfeat.rows._store import spooled
from skfeat.utils._bases import (
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    fit_context,
)
from skfeat.utils._sklearn import Interval
from skfeat.utils._torch import draw_seeds
from skfeat.utils._workers import N_JOBS

# Cosines and shares that are equal may differ by that much.
_ROUNDING = 1e-9

_FITTED = (
    "autoencoders_",
    "matched_cosines_",
    "reference_",
    "features_",
    "support_",
    "mean_cosines_",
    "intercept_",
    "components_",
)


class FeatureEnsemble(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, SkfeatEstimator
):
    """Keep the features of a sparse autoencoder that recur when it is fitted again.

    An autoencoder that is fitted to the same rows from another seed finds other
    features in part [1]_. Several are fitted here, and the features of each pair of
    fits are paired one to one by their directions. The fit that agrees best with the
    others is kept, of it those features that enough of the fits have.

    It costs `n_fits` fits, which may run in parallel, and for each pair of them an
    assignment problem, whose time grows with the cube of the number of features.

    Parameters
    ----------
    autoencoder : SparseAutoencoder, default=None
        What is cloned and fitted, each clone with a seed of its own. ``None`` means
        ``SparseAutoencoder()``.

    n_fits : int, default=5
        Number of fits, at least 2.

    min_support : float, default=0.5
        Share of the fits in which a feature must be found, its own included. 0 keeps
        all features of the fit.

    threshold : float, default=0.7
        Cosine of paired directions from which one counts as found again.

    n_jobs : int, default=None
        Fits that run in parallel; ``None`` means 1 unless in a
        :obj:`joblib.parallel_config` context. Without joblib workers, small
        autoencoders share the threads that torch may use.

    random_state : int, RandomState instance or None, default=None
        Draws the seeds of the fits; that of `autoencoder` is not used.

    Attributes
    ----------
    components_ : ndarray of shape (m, d)
        Directions of the m features kept.

    intercept_ : ndarray of shape (d,)
        Bias of the decoder.

    support_ : ndarray of int of shape (m,)
        In how many of the fits each feature is found, its own included.

    mean_cosines_ : ndarray of shape (m,)
        Mean cosine of each feature with those it is paired with in the other fits.

    features_ : ndarray of int of shape (m,)
        Which features of the fit they are.

    reference_ : int
        Which of the fits is kept.

    matched_cosines_ : ndarray of shape (n_fits, n_fits)
        For each pair of fits the mean cosine of paired directions, see
        :func:`skfeat.metrics.stability`; 1 on the diagonal.

    autoencoders_ : list of SparseAutoencoder
        All fits.

    n_features_in_ : int
        Number of input features d.

    feature_names_in_ : ndarray of shape (d,)
        Names of the input features, when X has string column names.

    See Also
    --------
    SparseAutoencoder : A single fit.
    skfeat.metrics.stability : The agreement of two fits.

    Notes
    -----
    The codes are those of the fit that is kept, without the features that were left
    out: these still compete for being among the k largest. What they explain is
    missing in `inverse_transform`, so that the variance explained tells how much of the
    rows the features that recur stand for. Where rows are not made of features that
    fits agree on, few recur, and another ensemble keeps others.

    References
    ----------
    .. [1] G. Paulo and N. Belrose, "Sparse Autoencoders Trained on the Same Data Learn
       Different Features", 2025.

    Examples
    --------
    Rows made of 16 directions, two a row; of the 20 features that are fitted, those
    that recur are these directions:

    >>> from skfeat import FeatureEnsemble, SparseAutoencoder
    >>> from skfeat.datasets import make_sparse_features
    >>> from skfeat.metrics import recovery_rate
    >>> X, _, known = make_sparse_features(2000, 12, 16, n_active=2, random_state=3)
    >>> part = SparseAutoencoder(20, k=2, max_iter=100, batch_size=128)
    >>> ensemble = FeatureEnsemble(part, n_fits=3, min_support=1.0, random_state=0)
    >>> codes = ensemble.fit_transform(X)
    >>> codes.shape == (2000, len(ensemble.support_))
    True
    >>> recovery_rate(ensemble.components_, known)
    1.0
    """

    _parameter_constraints: dict = {  # noqa: RUF012
        "autoencoder": [SparseAutoencoder, None],
        "n_fits": [Interval(Integral, 2, None, closed="left")],
        "min_support": [Interval(Real, 0, 1, closed="both")],
        "threshold": [Interval(Real, 0, 1, closed="both")],
        "n_jobs": N_JOBS,
        "random_state": ["random_state"],
    }

    autoencoders_: list[SparseAutoencoder]
    matched_cosines_: np.ndarray
    reference_: int
    features_: np.ndarray
    support_: np.ndarray
    mean_cosines_: np.ndarray
    intercept_: Any
    components_: Any

    def __init__(
        self,
        autoencoder=None,
        *,
        n_fits=5,
        min_support=0.5,
        threshold=0.7,
        n_jobs=None,
        random_state=None,
    ):
        self.autoencoder = autoencoder
        self.n_fits = n_fits
        self.min_support = min_support
        self.threshold = threshold
        self.n_jobs = n_jobs
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None) -> Self:
        """Fit all autoencoders, and keep the features that recur.

        Parameters
        ----------
        X : array-like of shape (n, d), or iterator of batches
            Activations; an iterator is written to a temporary file first.
        y : object, default=None
            Ignored, whatever it is.

        Returns
        -------
        FeatureEnsemble
            The fitted ensemble itself.

        Raises
        ------
        ValueError
            If X or a parameter is not valid, or if no feature recurs.
        """
        for name in (*_FITTED, "n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)
        context = self._init_callback_context(max_subtasks=self.n_fits)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y, metadata={})
        fits = self._fits(spooled(X), context)
        found = recurring(fits, self.threshold)
        least = self.min_support * self.n_fits - _ROUNDING
        kept = np.flatnonzero(found.support >= least)
        if not len(kept):
            raise ValueError(
                f"min_support={self.min_support} of n_fits={self.n_fits} leaves no "
                f"feature: none is found in more than {found.support.max()} of the "
                f"fits with a cosine of threshold={self.threshold}. Lower one of the "
                f"two."
            )
        best = fits[found.reference]
        self.n_features_in_ = best.n_features_in_
        if hasattr(best, "feature_names_in_"):
            self.feature_names_in_ = best.feature_names_in_
        self.autoencoders_ = fits
        self.matched_cosines_ = found.cosines
        self.reference_ = found.reference
        self.features_ = kept
        self.support_ = found.support[kept]
        self.mean_cosines_ = found.mean_cosines[kept]
        self.intercept_ = best.intercept_
        # Last, as it marks the ensemble as fitted.
        self.components_ = best.components_[kept]
        context.call_on_fit_task_end(estimator=self, X=X, y=y, metadata={})
        return self

    def _fits(self, X, context) -> list[SparseAutoencoder]:
        """Fit the autoencoders, under the callbacks of the ensemble."""
        part = SparseAutoencoder() if self.autoencoder is None else self.autoencoder
        seeds = draw_seeds(self.random_state, self.n_fits)
        clones = []
        for seed in seeds:
            # Its codes are a part of this estimator's output, which has its own format.
            own = clone(part).set_params(random_state=seed)
            clones.append(own.set_output(transform="default"))
        contexts = [context.subcontext(task_name="autoencoder") for _ in seeds]
        for opened in contexts:
            opened.call_on_fit_task_begin(estimator=self, X=X, y=None, metadata={})
        fits = fit_autoencoders(
            Parts(clones, [False] * self.n_fits),
            [X] * self.n_fits,
            contexts,
            self.n_jobs,
            [f"fit {number} of {self.n_fits}" for number in range(1, self.n_fits + 1)],
        )
        for opened in contexts:
            opened.call_on_fit_task_end(estimator=self, X=X, y=None, metadata={})
        return fits

    def transform(self, X):
        """Encode rows into the codes of the features kept.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Activations.

        Returns
        -------
        ndarray or CSR of shape (n, m)
            Non-negative codes; CSR with ``sparse_output=True`` of the autoencoder.

        Raises
        ------
        ValueError
            If X is not valid.
        """
        check_is_fitted(self)
        codes = self.autoencoders_[self.reference_].transform(X)
        return codes[:, self.features_]

    def inverse_transform(self, X):
        """Decode codes into the part of the rows that the features kept explain.

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
            If X does not have a column for each feature kept.
        """
        check_is_fitted(self)
        home, codes = validated_codes(self, X)
        rows = codes @ home.to_numpy(self.components_).astype(codes.dtype, copy=False)
        rows += home.to_numpy(self.intercept_).astype(codes.dtype, copy=False)
        return home.bring(rows)

    def score(self, X, y=None) -> float:
        """Return the R2 of the reconstruction by the features kept.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Activations.
        y : object, default=None
            Ignored, whatever it is.

        Returns
        -------
        float
            At most 1; 0 is what the mean alone reaches.
        """
        return explained_variance(X, self.inverse_transform(self.transform(X)))

    @property
    def _n_features_out(self):
        return self.components_.shape[0]

    def __sklearn_is_fitted__(self):
        return hasattr(self, "components_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class Recurring(NamedTuple):
    """What recurs in several fits.

    Parameters
    ----------
    cosines : ndarray of shape (n_fits, n_fits)
        Mean cosine of the paired directions of two fits.
    reference : int
        The fit that agrees best with the others.
    support : ndarray of int of shape (m,)
        In how many of the fits each of its features is found.
    mean_cosines : ndarray of shape (m,)
        Mean cosine of each of them with those it is paired with.
    """

    cosines: np.ndarray
    reference: int
    support: np.ndarray
    mean_cosines: np.ndarray


def recurring(fits: list[SparseAutoencoder], threshold: float) -> Recurring:
    """Pair the features of several fits, and count how often each is found again."""
    cosines = np.eye(len(fits))
    for i, j in combinations(range(len(fits)), 2):
        cosines[i, j] = cosines[j, i] = _match(fits[i], fits[j]).mean()
    # The first of those that agree with the others as well.
    reference = int(cosines.sum(axis=1).argmax())
    others = [fit for i, fit in enumerate(fits) if i != reference]
    found = np.array([_match(fits[reference], other) for other in others])
    support = 1 + (found >= threshold - _ROUNDING).sum(axis=0)
    return Recurring(cosines, reference, support, found.mean(axis=0))


def _match(first, second) -> np.ndarray:
    """Return the cosine of each feature of a fit with its pair in another."""
    return match_components(first.components_, second.components_)[1]
