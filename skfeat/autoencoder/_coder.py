"""What estimators of sparse codes share: parameters, training and encoding.

`SparseAutoencoder` decodes the rows that it encodes, `Transcoder` others.
"""

from __future__ import annotations

import os
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.utils.validation import check_is_fitted

from skfeat._base import CallbackEpochs, SkfeatEstimator
from skfeat.activations import Activation, JumpReLU, ReLU, TopK
from skfeat.autoencoder._checkpoint import keep
from skfeat.autoencoder._quality import (
    ENCODER,
    diagnose,
    held_out_score,
    warn_if_poor_fit,
)
from skfeat.autoencoder._setup import (
    NoTrainingState,
    epochs_of,
    ignored_by_autoencoder,
    messages_of,
    resume_training,
    settings_of,
    split_rows,
    start_training,
    stopping_of,
)
from skfeat.autoencoder._validation import rows_of_fitted, validated_codes
from skfeat.kernels.inference._encode import EncoderWeights
from skfeat.solvers._loop import HeldOut, Stopping, run_epochs
from skfeat.solvers.autoencoder._trainer import SAETrainer
from skfeat.utils._agreement import refuse_different_fits
from skfeat.utils._arrays import ArrayHome
from skfeat.utils._bases import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from skfeat.utils._finite import check_finite_result
from skfeat.utils._ignored import warn_of_ignored
from skfeat.utils._names import forget_names, spelled
from skfeat.utils._progress import own_progress
from skfeat.utils._sklearn import (
    Interval,
    RealNotInt,
    StrOptions,
    _align_api_if_sparse,
    _get_output_config,
)

_ACTIVATIONS = ("relu", "topk", "batch_topk", "jumprelu", "gated")

# The last one written marks the estimator as fitted.
WEIGHTS = (*ENCODER, "threshold_", "skip_coef_", "components_")

_FITTED = (
    *WEIGHTS,
    "n_iter_",
    "n_steps_",
    "n_dead_",
    "loss_curve_",
    "validation_scores_",
    "feature_density_",
    "l0_",
    "explained_variance_",
)


class SparseCoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, SkfeatEstimator):
    """An estimator that encodes rows sparsely, and learns to decode rows from codes."""

    _kind: str  # the name for messages, of derived classes too

    components_: np.ndarray
    intercept_: np.ndarray
    encoder_coef_: np.ndarray
    encoder_intercept_: np.ndarray
    threshold_: np.ndarray
    feature_density_: np.ndarray
    n_iter_: int
    n_steps_: int
    n_dead_: int
    l0_: float
    explained_variance_: float
    loss_curve_: list[float]
    validation_scores_: list[float]
    metadata_: dict
    n_components: int | None
    l0: float | None
    tol: float
    early_stopping: bool
    warm_start: bool
    sparse_output: bool
    checkpoint: str | os.PathLike | None
    verbose: int

    _parameter_constraints: dict = {  # noqa: RUF012
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "activation": [StrOptions(set(_ACTIVATIONS))],
        "k": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, None, closed="neither"),
        ],
        "k_start": [Interval(Integral, 1, None, closed="left"), None],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "l0": [Interval(Real, 0, None, closed="neither"), None],
        "prefixes": ["array-like", None],
        "dead_features": [StrOptions({"auxk", "resample", "ignore"})],
        "center": ["boolean"],
        "scale": ["boolean"],
        "learning_rate_init": [
            Interval(Real, 0, None, closed="neither"),
            StrOptions({"auto"}),
        ],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "warm_start": ["boolean"],
        "sparse_output": ["boolean"],
        "precision": [StrOptions({"float32", "float64", "bfloat16", "int8"})],
        "device": "no_validation",  # resolve_device checks it
        "random_state": ["random_state"],
        "distribute": [StrOptions({"rows", "features"})],
        "checkpoint": [str, os.PathLike, None],
        "verbose": ["verbose"],
    }

    def _rows(
        self, X, y, sample_weight, *, reset: bool
    ) -> tuple[ArrayHome, np.ndarray, np.ndarray | None, np.ndarray]:
        """Validate rows to encode, rows to decode if they are others, and weights."""
        raise NotImplementedError

    def _subtracted(self) -> Any:
        """Return what is subtracted from rows before they are encoded."""
        raise NotImplementedError

    def _encoder(self, home: ArrayHome) -> EncoderWeights:
        return EncoderWeights(
            home.to_numpy(self.encoder_coef_),
            home.to_numpy(self.encoder_intercept_),
            home.to_numpy(self._subtracted()),
            self.make_activation(),
        )

    def _fit(self, X, y, sample_weight) -> Self:
        """Train on validated parameters; see the estimators' ``fit``."""
        warm = self.warm_start and self.__sklearn_is_fitted__()
        if not warm:
            self._forget()
        # Callbacks get the caller's own X: it has the column names that a scoring
        # callback needs, and the library of the fitted attributes.
        data = {"X": X, "y": y, "metadata": {"sample_weight": sample_weight}}
        home, X, Y, sample_weight = self._rows(X, y, sample_weight, reset=not warm)
        self._agree(X, Y, sample_weight, warm)
        settings = settings_of(self, X.shape[1], len(X), n_decoded=_width_of(Y))
        with (
            own_progress(self._kind, self.verbose),
            keep(self, settings, X, sample_weight, warm=warm, Y=Y) as kept,
        ):
            settings = kept.settings
            trainer = kept.trainer or self._trainer(settings, warm, X, sample_weight, Y)
            trainer.targets = Y
            train, held_out = split_rows(self, sample_weight, settings.seed)
            max_iter = epochs_of(self, len(train))
            warn_of_ignored(self, ignored_by_autoencoder(self))
            kept.begin(trainer, len(train), max_iter)

            left = max_iter - kept.history.n_epochs
            context = self._init_callback_context(max_subtasks=left)
            context.call_on_fit_task_begin(estimator=self, **data)
            history = run_epochs(
                lambda: trainer.epoch(
                    X,
                    sample_weight,
                    train if self.early_stopping else None,
                    number=kept.history.n_epochs,
                    after_batch=kept.after_batch,
                ),
                stopping_of(self, settings, len(train), max_iter),
                messages_of(self),
                state=trainer.export,
                held_out=HeldOut(
                    lambda: held_out_score(trainer, X, sample_weight, held_out, Y),
                    kept.keep_best,
                )
                if self.early_stopping
                else None,
                hooks=CallbackEpochs(
                    self,
                    context,
                    data,
                    lambda weights: {
                        "_code": _code_of(trainer.fitted_activation(weights)),
                        **_brought_home(weights, home, X.dtype),
                    },
                ),
                history=kept.history,
            )
            self._store(
                trainer, history, home, (X, Y, sample_weight), len(train), **kept.best
            )
            # Last, so that a failing write does not lose the fit.
            kept.save()
        context.call_on_fit_task_end(estimator=self, **data)
        warn_if_poor_fit(self)
        return self

    def _trainer(self, settings, warm: bool, X, sample_weight, Y) -> SAETrainer:
        """Return the trainer of a new fit, or of the fit before."""
        if warm:
            return resume_training(self, settings, Y)
        return start_training(self, settings, X, sample_weight, Y)

    def _partial_fit(self, X, y, sample_weight) -> Self:
        """Train for one pass; see the estimators' ``partial_fit``."""
        if self.checkpoint is not None:
            raise ValueError(
                f"checkpoint={self.checkpoint!r} is for fit alone: partial_fit does "
                f"not know the rows to come. Set checkpoint=None and pickle the "
                f"estimator between batches."
            )
        first = not self.__sklearn_is_fitted__()
        home, X, Y, sample_weight = self._rows(X, y, sample_weight, reset=first)
        self._agree(X, Y, sample_weight, not first)
        settings = settings_of(self, X.shape[1], None, n_decoded=_width_of(Y))
        if first:
            warn_of_ignored(self, ignored_by_autoencoder(self, in_fit=False))
        trainer = self._trainer(settings, not first, X, sample_weight, Y)
        history = run_epochs(
            lambda: trainer.epoch(X, sample_weight),
            # One pass shows no convergence: without patience it cannot warn.
            Stopping(max_iter=1, tol=0.0, n_iter_no_change=0),
            messages_of(self),
            state=trainer.export,
        )
        self._store(trainer, history, home, (X, Y, sample_weight), len(X))
        return self

    def transform(self, X) -> np.ndarray | sparse.csr_array:
        """Encode rows into sparse codes.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Activations.

        Returns
        -------
        ndarray or CSR of shape (n, m)
            Non-negative codes in the units of the rows that they decode; CSR with
            ``sparse_output=True``.

        Raises
        ------
        ValueError
            If X is not valid, or so large that codes are beyond the range of its dtype.
        """
        check_is_fitted(self)
        if self.sparse_output and _get_output_config("transform", self)["dense"] in (
            "pandas",
            "polars",
        ):
            raise ValueError(
                f"{self._kind} cannot return CSR in a dataframe; set "
                f"sparse_output=False or set_output(transform='default')."
            )
        home, X = rows_of_fitted(self, X, "transform")
        encoder = self._encoder(home)
        with np.errstate(over="ignore", invalid="ignore"):
            codes = encoder.encode(X, sparse_output=self.sparse_output)
        check_finite_result("The codes", codes, X)
        return _align_api_if_sparse(codes) if self.sparse_output else home.bring(codes)

    def _decoded(self, X) -> tuple[ArrayHome, np.ndarray]:
        """Validate codes, and return the rows that they decode with their home."""
        check_is_fitted(self)
        home, codes = validated_codes(self, X)
        with np.errstate(over="ignore", invalid="ignore"):
            rows = self._decode(home, codes)
        check_finite_result("The rows", rows, codes)
        return home, rows

    def _decode(self, home: ArrayHome, codes) -> np.ndarray:
        rows = codes @ self._array(home, "components_", codes.dtype)
        rows += self._array(home, "intercept_", codes.dtype)
        return rows

    def _array(self, home: ArrayHome, name: str, dtype) -> np.ndarray:
        return home.to_numpy(getattr(self, name)).astype(dtype, copy=False)

    def get_feature_names_out(self, input_features=None) -> np.ndarray:
        """Return the names of the features, which are the columns of `transform`.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Only checked against `feature_names_in_`.

        Returns
        -------
        ndarray of str
            The name of the class in lower case, and a number: ``"sparseautoencoder0",
            "sparseautoencoder1", ...``; where a larger estimator has fitted it, as a
            FeatureUnwrapper, what that calls them.
        """
        names = super().get_feature_names_out(input_features)
        own = vars(self).get("_feature_names")
        return (
            names if own is None else np.array(spelled(own, len(names)), dtype=object)
        )

    @property
    def _n_features_out(self):
        return self.components_.shape[0]

    def __sklearn_is_fitted__(self):
        return hasattr(self, "components_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _agree(self, X, Y, sample_weight, warm):
        data = {"X": X, "sample_weight": sample_weight}
        if Y is not None:
            data["y"] = Y
        refuse_different_fits(self, "components_" if warm else None, **data)

    def _width(self, n_features):
        """Return the number of features of a fit to rows of that length."""
        return 4 * n_features if self.n_components is None else self.n_components

    def _planned_epochs(self, n_rows: int) -> int:
        """Return how many epochs a fit to so many rows plans."""
        return epochs_of(self, n_rows)

    def make_activation(self) -> Activation:
        """Return the activation of the fitted weights.

        Returns
        -------
        ReLU, TopK or JumpReLU
            Of ``skfeat.activations``.
        """
        check_is_fitted(self)
        name, k = self._code
        if name == "jumprelu":
            home = ArrayHome.of(self.threshold_)
            return JumpReLU(home.to_numpy(self.threshold_))
        return TopK(k) if name == "topk" else ReLU()

    def _take_over(
        self, arrays: dict[str, np.ndarray], code: tuple[str, int], why: str
    ) -> None:
        """Become fitted by arrays from elsewhere, from which training cannot go on."""
        self._code, self._interrupted = code, False
        self._state = NoTrainingState(why, self._kind)
        # components_ comes last, as it marks the estimator as fitted.
        for name in sorted(arrays, key="components_".__eq__):
            setattr(self, name, arrays[name])

    def _forget(self):
        """Drop the last fit, so that a failing fit leaves no attributes of it."""
        for name in [*_FITTED, "_state"]:
            self.__dict__.pop(name, None)
        forget_names(self)

    def _store(
        self,
        trainer,
        history,
        home,
        rows,
        n_rows,
        weights=None,
        state=None,
    ):
        """Write all fitted attributes, last the one that marks it as fitted.

        `weights` and `state` are those of the best epoch, with early stopping.
        """
        X, Y, sample_weight = rows
        weights = weights or trainer.export()
        self.n_iter_ = getattr(self, "n_iter_", 0) + history.n_epochs
        self._interrupted = history.interrupted
        activation = trainer.fitted_activation(weights)
        self._code = _code_of(activation)
        self.n_steps_ = getattr(self, "n_steps_", 0) + trainer.n_steps
        self.loss_curve_ = [*getattr(self, "loss_curve_", []), *history.losses]
        if history.validation_scores:
            self.validation_scores_ = history.validation_scores
        self.n_dead_ = trainer.n_dead(n_rows)
        found = diagnose(X, sample_weight, weights, activation, Y)
        dtype = np.float32 if X.dtype == np.float32 else np.float64
        self.feature_density_ = home.bring(found["feature_density_"].astype(dtype))
        self.l0_ = found["l0_"]
        self.explained_variance_ = found["explained_variance_"]
        self._state = state or trainer.state()
        for name, value in _brought_home(weights, home, X.dtype).items():
            setattr(self, name, value)


def _code_of(activation) -> tuple[str, int]:
    """Name what transform computes, whatever parameters are set after the fit."""
    return activation.name, getattr(activation, "k", 0)


def _brought_home(weights, home: ArrayHome, dtype) -> dict:
    """Bring exported weights to the dtype and the array library of the data."""
    if dtype not in (np.float32, np.float64):
        dtype = np.dtype(np.float64)
    return {
        name: home.bring(weights[name].astype(dtype, copy=False))
        for name in WEIGHTS
        if name in weights
    }


def _width_of(Y) -> int | None:
    return None if Y is None else Y.shape[1]
