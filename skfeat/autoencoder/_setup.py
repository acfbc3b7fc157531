"""What a fit of `SparseAutoencoder` needs of its parameters and of the fit before."""

from __future__ import annotations

import math
from inspect import signature
from itertools import pairwise
from math import ceil, log
from numbers import Integral

import numpy as np
from sklearn.model_selection import train_test_split

from skfeat.autoencoder._quality import warn_if_mean_dominates
from skfeat.kernels.sae._activations import make_training_activation
from skfeat.solvers._loop import Messages, Stopping
from skfeat.solvers.autoencoder._adaptive import WIDE_SHARE
from skfeat.solvers.autoencoder._settings import DTYPES, SAESettings
from skfeat.solvers.autoencoder._standardizer import Standardizer
from skfeat.solvers.autoencoder._trainer import SAETrainer
from skfeat.solvers.autoencoder._transcoder import TranscoderTrainer
from skfeat.utils._distributed import agreed, is_active
from skfeat.utils._ignored import ignored_params
from skfeat.utils._torch import (
    check_memory,
    draw_seed,
    epochs_of_updates,
    n_batches,
    resolve_device,
)
from skfeat.utils._warnings import warn

# Updates of the weights that a default fit plans; measured on hidden layers of MLPs.
_AUTO_UPDATES = 2000
# In fits of fewer updates than the first number the usual rate of top-k is raised by
# the root of their ratio, at most so many times: that of a transcoder, whose encoder
# and decoder start at random, and that of an autoencoder, which at twice the rate
# leaves features of pixels dead. Measured on layers of language models, on hidden
# layers, pixels and known features.
_RISE_OF_TRANSCODERS, _RISE = (_AUTO_UPDATES, 4.0), (600, 1.5)
# Updates that each time of the rise takes at least: weights that a large rate throws
# far need some to come back.
_UPDATES_A_RISE = 25
# Largest weight of a penalty on data of unit mean square, where one of 10 leaves hardly
# a code, and on others, where the squares of larger ones leave the range of float32.
_LARGEST_ALPHA, _LARGEST_ALPHA_UNSCALED = 1e6, 1e15
# Updates without progress that end a fit at the earliest.
_PATIENT_UPDATES = 60
# How many times their first value trained thresholds may have to become: that is three
# times the length of a row.
_THRESHOLD_CLIMB = 30
# Attribute of an autoencoder whose training goes on after its own fit, for as long as
# that runs: its loss may still fall at the end.
GOES_ON = "_goes_on"


def check_parameter_combinations(sae) -> None:
    """Raise ValueError for parameters that are valid alone but not together."""
    top_k = sae.activation in ("topk", "batch_topk")
    if getattr(sae, "tied", False) and sae.activation == "gated":
        raise ValueError(
            "tied=True is not possible with activation='gated', whose encoder has "
            "magnitudes of its own; use tied=False or another activation."
        )
    if sae.l0 is not None and sae.early_stopping:
        raise ValueError(
            f"early_stopping=True is not possible with l0={sae.l0}, which is reached "
            f"at the end of training only; use one of the two."
        )
    largest = _LARGEST_ALPHA if sae.scale else _LARGEST_ALPHA_UNSCALED
    if not top_k and sae.alpha > largest:
        raise ValueError(
            f"alpha must be at most {largest:g} with scale={sae.scale}, where on data "
            f"of unit mean square 10 leaves hardly a code. Got {sae.alpha!r} instead."
        )
    if sae.l0 is not None and top_k:
        raise ValueError(
            f"l0={sae.l0} is not possible with activation={sae.activation!r}, "
            f"which keeps k features; set k, or use 'relu', 'jumprelu' or 'gated'."
        )
    if sae.activation == "topk" and not isinstance(sae.k, Integral):
        raise ValueError(
            f"k must be an int with activation='topk', which keeps as many of every "
            f"row. Got {sae.k!r} instead; 'batch_topk' keeps them on average."
        )
    if sae.k_start is not None and not top_k:
        raise ValueError(
            f"k_start={sae.k_start} is not possible with activation="
            f"{sae.activation!r}; use 'topk' or 'batch_topk'."
        )
    if sae.k_start is not None and sae.k_start < sae.k:
        raise ValueError(
            f"k_start must be at least k={sae.k}, to which it falls. Got "
            f"{sae.k_start} instead."
        )
    if sae.prefixes is not None and not top_k:
        raise ValueError(
            f"prefixes are not possible with activation={sae.activation!r}; use "
            f"'topk' or 'batch_topk'."
        )
    if sae.precision == "int8" and not top_k:
        raise ValueError(
            f"precision='int8' is not possible with activation={sae.activation!r}: "
            f"integers select the largest codes, for 'topk' and 'batch_topk'; "
            f"use 'float32', 'float64' or 'bfloat16'."
        )
    if sae.distribute == "features" and sae.dead_features == "resample":
        raise ValueError(
            "dead_features='resample' is not possible with distribute='features', "
            "where no process has the errors of the rows; use 'auxk' or 'ignore'."
        )


def ignored_by_autoencoder(sae, *, in_fit: bool = True) -> dict[str, str]:
    """Return parameters that change nothing in `fit`, or in `partial_fit`."""
    return ignored_params(sae, in_fit=in_fit, planned=in_fit or None, group=is_active())


def check_l0(sae, m) -> float | None:
    """Return the target L0 of an autoencoder of m features."""
    if sae.l0 is not None and sae.l0 > m:
        raise ValueError(
            f"l0={sae.l0} is larger than n_components={m}: no row can have so many "
            f"active features."
        )
    return None if sae.l0 is None else float(sae.l0)


def prefixes_of(sae, m) -> tuple[int, ...] | None:
    """Return the Matryoshka prefixes of an autoencoder of m features."""
    if sae.prefixes is None:
        return None
    widths = list(sae.prefixes)
    whole = all(isinstance(width, Integral) for width in widths)
    if not (widths and whole and all(a < b for a, b in pairwise([0, *widths, m + 1]))):
        raise ValueError(
            f"prefixes must be increasing ints from 1 to n_components={m}. Got "
            f"{sae.prefixes!r} instead."
        )
    return tuple(dict.fromkeys([*map(int, widths), m]))


def settings_of(
    sae, n_features: int, n_rows: int | None, *, n_decoded: int | None = None
) -> SAESettings:
    """Return the settings of training on rows of `n_features` columns.

    `n_rows`: of a fit, whose length is known, so that the learning rate decays; else
    None.
    `n_decoded`: columns of the rows that codes decode, where these are others.
    """
    m = int(sae._width(n_features))
    check_parameter_combinations(sae)
    rate = sae.learning_rate_init
    if rate == "auto":
        rate = _automatic_rate(sae, m, n_rows, transcodes=n_decoded is not None)
    return SAESettings(
        n_components=m,
        activation=make_training_activation(
            sae.activation, min(_number(sae.k), m), n_decoded or n_features
        ),
        alpha=float(sae.alpha),
        l0=check_l0(sae, m),
        prefixes=prefixes_of(sae, m),
        dead_features=sae.dead_features,
        tied=bool(getattr(sae, "tied", False)),
        learning_rate=float(rate),
        batch_size=int(sae.batch_size),
        precision=sae.precision,
        device=resolve_device(sae.device),
        seed=agreed(draw_seed(sae.random_state)),
        distribute=sae.distribute,
        k_start=None if sae.k_start is None else min(int(sae.k_start), m),
        skip=bool(getattr(sae, "skip", False)),
        work=math.inf
        if n_rows is None
        else float(epochs_of(sae, n_rows)) * n_rows * m * n_features,
    )


def _automatic_rate(sae, m: int, n_rows: int | None, *, transcodes: bool) -> float:
    """Return the largest learning rate of m features; `n_rows` as above."""
    top_k = sae.activation in ("topk", "batch_topk")
    # Penalised activations need smaller steps: L1 moves all weights.
    rate = (1e-2 if top_k else 4e-3) * min(1.0, np.sqrt(256 / m))
    if n_rows is None:
        # A rate that does not decay stays at the mean of one that does.
        return rate / 2
    if not top_k:
        return rate
    # In a short run each update must take weights further.
    updates = epochs_of(sae, n_rows) * n_batches(n_rows, sae.batch_size)
    few, most = _RISE_OF_TRANSCODERS if transcodes else _RISE
    rise = min(np.sqrt(few / updates), updates / _UPDATES_A_RISE, most)
    return rate * max(1.0, rise)


def _number(k) -> float:
    return int(k) if isinstance(k, Integral) else float(k)


def epochs_of(sae, n_rows: int) -> int:
    """Return how many epochs a fit plans."""
    if sae.max_iter == "auto":
        return epochs_of_updates(_AUTO_UPDATES, n_rows, sae.batch_size)
    return int(sae.max_iter)


def messages_of(sae) -> Messages:
    """Return what the epochs of a fit say."""
    remedy = "lower 'learning_rate_init' or 'alpha', or rescale X"
    if sae.activation in ("topk", "batch_topk"):
        remedy = "lower 'learning_rate_init' or rescale X"
    return Messages(sae._kind, remedy, sae.verbose)


def stopping_of(sae, settings: SAESettings, n_rows: int, max_iter: int) -> Stopping:
    """Return when a fit to so many rows ends."""
    # While a penalty approaches its target L0 the loss moves both ways.
    patience = max_iter if sae.l0 is not None else _patience_of(sae, n_rows)
    unjudged = _unjudged_epochs(settings, n_rows, max_iter)
    goes_on = hasattr(sae, GOES_ON)
    return Stopping(max_iter, sae.tol, patience, unjudged, may_end_falling=goes_on)


def _patience_of(sae, n_rows: int) -> int:
    """Return how many epochs without progress end a fit."""
    # Momentum overshoots now and then: a few updates show no trend.
    n_updates = n_batches(n_rows, sae.batch_size)
    return max(int(sae.n_iter_no_change), ceil(_PATIENT_UPDATES / n_updates))


def _unjudged_epochs(settings: SAESettings, n_rows: int, max_iter: int) -> int:
    """Return how many first epochs count neither as progress nor as none.

    Thresholds climb by the learning rate an update at most. Until they arrive, a large
    penalty only sees codes grow, and its objective may stand still or rise. So does a
    loss while fewer and fewer features are active.
    """
    if settings.k_start is not None:
        return ceil(WIDE_SHARE * max_iter)
    if settings.activation.name != "jumprelu":
        return 0
    updates = log(_THRESHOLD_CLIMB) / settings.learning_rate
    n_epochs = updates / n_batches(n_rows, settings.batch_size)
    return int(min(n_epochs, max_iter / 2))


def split_rows(sae, sample_weight: np.ndarray, seed: int):
    """Return the rows to train on, and those to validate with or None."""
    if not sae.early_stopping:
        return np.arange(len(sample_weight)), None
    # Zero-weight rows neither train nor validate.
    weighty = np.flatnonzero(sample_weight)
    try:
        return train_test_split(
            weighty, test_size=sae.validation_fraction, random_state=seed
        )
    except ValueError:
        raise ValueError(
            f"early_stopping=True with validation_fraction="
            f"{sae.validation_fraction} leaves no row to train on or to validate "
            f"with: X has {len(weighty)} rows of positive weight."
        ) from None


def start_training(
    sae,
    settings: SAESettings,
    X: np.ndarray,
    sample_weight: np.ndarray,
    Y: np.ndarray | None = None,
) -> SAETrainer:
    """Return the trainer of a new fit, of a transcoder if there are targets `Y`."""
    top_k = sae.activation in ("topk", "batch_topk")
    if top_k and sae.k > settings.n_components:
        default_k = signature(type(sae)).parameters["k"].default
        if sae.k != default_k:
            warn(
                f"k={sae.k} is larger than n_components={settings.n_components} "
                f"and is clipped to it: every feature may be active at once.",
            )
    # The weights, and but where processes share them the two moments of Adam.
    width = (X if Y is None else Y).shape[1]
    n_numbers = settings.n_components * (width + (not settings.tied) * X.shape[1])
    n_numbers += settings.skip * width * X.shape[1]
    n_numbers *= 1 if settings.distribute == "features" else 3
    size = DTYPES[settings.precision].itemsize
    check_memory(
        "n_components", settings.n_components, n_numbers * size, settings.device
    )
    if not sae.center:
        warn_if_mean_dominates(X, sample_weight)
    how = {"center": sae.center, "rms": sae.scale}
    own = Standardizer.from_rows(X, sample_weight, **how)
    if Y is None:
        return SAETrainer(settings, own)
    targets = Standardizer.from_rows(Y, sample_weight, **how, name="y")
    trainer = TranscoderTrainer(settings, own, targets)
    trainer.targets = Y
    trainer.start_from(X, sample_weight)
    return trainer


class NoTrainingState(dict):
    """Stands for the training state of an autoencoder that has none.

    Parameters
    ----------
    why : str
        What it is, for the message: "was read from a file ...".
    kind : str
        Name of its class.
    """

    def __init__(self, why: str, kind: str = "SparseAutoencoder"):
        super().__init__()
        self.why, self.kind = why, kind

    def __reduce__(self) -> tuple:
        return type(self), (self.why, self.kind)

    def __missing__(self, key: str):
        raise ValueError(
            f"This {self.kind} {self.why}, so training cannot go on; fit it "
            f"with warm_start=False, or a clone of it, from scratch."
        )


def resume_training(
    sae, settings: SAESettings, Y: np.ndarray | None = None
) -> SAETrainer:
    """Return the trainer of the fit before, to train on."""
    if settings.n_components != sae._n_features_out:
        raise ValueError(
            f"n_components={settings.n_components} differs from the "
            f"{sae._n_features_out} components that were fitted before; training "
            f"can go on only with the same number (set warm_start=False or use a "
            f"fresh estimator to change it)."
        )
    if settings.tied != sae._state["tied"]:
        raise ValueError(
            f"tied={settings.tied} differs from tied={sae._state['tied']} of the "
            f"fit before; training can go on only with the same value."
        )
    if sae.activation != sae._state["activation"]:
        raise ValueError(
            f"activation={sae.activation!r} differs from "
            f"{sae._state['activation']!r} of the fit before; training can go on "
            f"only with the same activation."
        )
    if Y is None:
        return SAETrainer.from_state(settings, sae._state)
    if settings.skip != ("skip" in sae._state["params"]):
        raise ValueError(
            f"skip={settings.skip} differs from skip={not settings.skip} of the fit "
            f"before; training can go on only with the same value."
        )
    if Y.shape[1] != len(sae._state["target_standardizer"].mean):
        raise ValueError(
            f"y has {Y.shape[1]} targets, but this Transcoder was fitted with "
            f"{len(sae._state['target_standardizer'].mean)}."
        )
    trainer = TranscoderTrainer.from_state(settings, sae._state)
    trainer.targets = Y
    return trainer
