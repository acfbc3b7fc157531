"""What SparseAutoencoder does with parameters, rows and weights beside training."""

from __future__ import annotations

from itertools import pairwise
from numbers import Integral

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skfeat.kernels.inference._encode import EncoderWeights
from skfeat.solvers.autoencoder._settings import NOTHING_LEFT
from skfeat.solvers.autoencoder._standardizer import Standardizer
from skfeat.utils._arrays import ArrayHome, accept_tensor
from skfeat.utils._rows import row_blocks, rows_at
from skfeat.utils._sklearn import _check_sample_weight
from skfeat.utils._warnings import warn

ENCODER = ("encoder_coef_", "encoder_intercept_", "intercept_")
# The last one written is the one that says "fitted".
WEIGHTS = (*ENCODER, "threshold_", "components_")

# Rows that are scored at once, and training rows that the diagnostics look at.
_SCORED_ROWS = 1024
_DIAGNOSED_ROWS = 4096


def refuse_what_does_not_go_together(sae) -> None:
    """Raise ValueError for parameters that are valid each but not together."""
    top_k = sae.activation in ("topk", "batch_topk")
    if sae.tied and sae.activation == "gated":
        raise ValueError(
            "tied=True is not possible with activation='gated', whose encoder has "
            "magnitudes of its own; use tied=False or another activation."
        )
    if sae.l0 is not None and sae.early_stopping:
        raise ValueError(
            f"early_stopping=True is not possible with l0={sae.l0}, which is reached "
            f"at the end of training only; use one of the two."
        )
    if sae.l0 is not None and top_k:
        raise ValueError(
            f"l0={sae.l0} is not possible with activation={sae.activation!r}, "
            f"which keeps k features; set k, or use 'relu', 'jumprelu' or 'gated'."
        )
    if sae.prefixes is not None and not top_k:
        raise ValueError(
            f"prefixes are not possible with activation={sae.activation!r}; use "
            f"'topk' or 'batch_topk'."
        )
    if sae.precision == "int8" and not top_k:
        raise ValueError(
            f"precision='int8' is not possible with activation={sae.activation!r}: "
            f"integers tell which codes are the largest, for 'topk' and 'batch_topk'; "
            f"use 'float32', 'float64' or 'bfloat16'."
        )
    if sae.distribute == "features" and sae.dead_features == "resample":
        raise ValueError(
            "dead_features='resample' is not possible with distribute='features', "
            "where no process knows the errors of the rows; use 'auxk' or 'ignore'."
        )


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


def warn_of_a_poor_fit(sae) -> None:
    """Warn of what a fit has left behind that its user did not ask for."""
    m = sae.feature_density_.shape[0]
    if sae.n_dead_ > 0.1 * m and sae.loss_curve_[-1] > NOTHING_LEFT:
        warn(
            f"{sae.n_dead_} of {m} features are dead: they fired for no row of the "
            f"last epoch. Fewer n_components, a larger k, more epochs (max_iter) or a "
            f"lower learning_rate_init leave fewer.",
        )
    if sae.l0 is not None and abs(sae.l0_ / sae.l0 - 1) > 0.2:
        warn(
            f"{sae.l0_:.3g} features are active a row, not l0={sae.l0:g}; more epochs "
            f"(max_iter) or another alpha to start from come nearer.",
            ConvergenceWarning,
        )


def warn_of_a_long_mean(X, sample_weight) -> None:
    """Warn where the mean of X dominates its spread."""
    unit = Standardizer.from_rows(X, sample_weight, center=True, rms=True)
    ratio = np.linalg.norm(unit.mean) / (unit.scale * np.sqrt(X.shape[1]))
    if ratio > 1:
        warn(
            f"The mean of X is {ratio:.1f} times as long as rows deviate from it; "
            f"without centring most features will end up dead. Set center=True.",
        )


def check_weights(sample_weight, X):
    """Return the weights of the rows of a numpy X, of whatever library they come."""
    if sample_weight is not None:
        sample_weight = accept_tensor(sample_weight)
        sample_weight = ArrayHome.of(sample_weight).to_numpy(sample_weight)
    checked = _check_sample_weight(
        sample_weight, X, dtype=np.float64, ensure_non_negative=True
    )
    if not np.isfinite(checked).all():
        raise ValueError(
            f"sample_weight must be finite. Got {sample_weight!r} instead."
        )
    return checked


def finish(weights, home, dtype):
    """Bring exported weights to the dtype and the array library of the data."""
    if dtype not in (np.float32, np.float64):
        dtype = np.dtype(np.float64)
    return {
        name: home.bring(weights[name].astype(dtype, copy=False))
        for name in WEIGHTS
        if name in weights
    }


def diagnose(X, sample_weight, weights, activation) -> dict:
    """Measure the fitted codes on rows from all over the training data."""
    weighty = np.flatnonzero(sample_weight)
    n_rows = min(len(weighty), _DIAGNOSED_ROWS)
    chosen = weighty[np.linspace(0, len(weighty) - 1, n_rows).astype(np.int64)]
    rows, row_weights = rows_at(X, chosen), sample_weight[chosen]
    if rows.dtype not in (np.float32, np.float64):
        rows = rows.astype(np.float64)
    coef, intercept, bias = (weights[name] for name in ENCODER)
    codes = EncoderWeights(coef, intercept, bias, activation).encode(rows)
    density = np.average(codes != 0, axis=0, weights=row_weights)
    return {
        "feature_density_": density,
        "l0_": float(density.sum()),
        "explained_variance_": r2(rows, row_weights, weights, activation),
    }


def r2(X, sample_weight, weights, activation) -> float:
    """R2 of the reconstruction, summed over rows and features in float64.

    It goes through the rows in blocks: codes are wide, and a float64 copy of X may not
    fit in memory next to X.
    """
    unit = Standardizer.from_rows(X, sample_weight, center=True, rms=True)
    mean, scale = unit.mean, unit.scale
    coef, intercept, bias = (weights[name] for name in ENCODER)
    encoder = EncoderWeights(coef, intercept, bias, activation)
    components = weights["components_"]
    total = squared = 0.0
    for block, rows in row_blocks(X, _SCORED_ROWS):
        rows = rows.astype(np.float64, copy=False)
        codes = encoder.encode(rows)
        error = rows - bias - codes @ components
        deviation = (rows - mean) / scale
        total += float(sample_weight[block] @ np.square(deviation).sum(axis=1))
        squared += float(sample_weight[block] @ np.square(error / scale).sum(axis=1))
    if not np.isfinite(total + squared):
        raise ValueError("The squared errors on X are non-finite; rescale X.")
    # Deviations of constant rows from their mean are rounding errors, not variance.
    rounding = 64**2 * float(sample_weight.sum() * np.square(mean / scale).sum())
    if total <= rounding * np.finfo(np.float64).eps ** 2:
        # Constant rows have nothing to explain: as scikit-learn's r2_score.
        eps = float(np.finfo(components.dtype).eps)
        return 1.0 if squared <= rounding * eps**2 else 0.0
    return 1.0 - squared / total
