"""How good the fitted codes are, and warnings of a poor fit."""

from __future__ import annotations

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skfeat.activations import Activation
from skfeat.kernels.inference._encode import EncoderWeights
from skfeat.metrics._reconstruction import fvu_in_blocks
from skfeat.solvers.autoencoder._settings import NOTHING_LEFT
from skfeat.solvers.autoencoder._standardizer import Standardizer
from skfeat.solvers.autoencoder._trainer import SAETrainer
from skfeat.utils._rows import block_reader, row_blocks, rows_at
from skfeat.utils._warnings import warn

# The fitted arrays that encode rows.
ENCODER = ("encoder_coef_", "encoder_intercept_", "intercept_")

# Training rows that the diagnostics are measured on.
_DIAGNOSED_ROWS = 4096


def warn_if_poor_fit(sae) -> None:
    """Warn of dead features, of a penalty that leaves nothing, of an L0 missed."""
    if not sae.loss_curve_:
        return  # interrupted in the first epoch, which has said so
    m = sae.feature_density_.shape[0]
    top_k = sae.activation in ("topk", "batch_topk")
    something_left = sae.loss_curve_[-1] > NOTHING_LEFT
    by_alpha = not top_k and sae.l0 is None
    # With more codes than that, a poor fit has had too few epochs.
    emptied = sae.explained_variance_ <= 0 and sae.l0_ < 1
    if by_alpha and something_left and emptied:
        warn(
            f"alpha={sae.alpha:g} is too large for activation={sae.activation!r}: the "
            f"codes explain nothing of X (R2 {sae.explained_variance_:.2g}, with "
            f"{sae.l0_:.2g} active features a row). Lower alpha.",
        )
    elif sae.n_dead_ > 0.1 * m and something_left:
        denser = "A larger k" if top_k else "A larger l0"
        denser = "A smaller alpha" if by_alpha else denser
        warn(
            f"{sae.n_dead_} of {m} features are dead: they fired for no row of the "
            f"last epoch. {denser}, fewer n_components, more epochs (max_iter) or a "
            f"lower learning_rate_init leave fewer.",
            severity=sae.n_dead_ / m,
        )
    if sae.l0 is not None and abs(sae.l0_ / sae.l0 - 1) > 0.2:
        warn(
            f"{sae.l0_:.3g} features are active a row, not l0={sae.l0:g}; more epochs "
            f"(max_iter) or another alpha to start from come nearer.",
            ConvergenceWarning,
            severity=abs(sae.l0_ / sae.l0 - 1),
        )


def warn_if_mean_dominates(X, sample_weight) -> None:
    """Warn where the mean of X dominates its spread."""
    unit = Standardizer.from_rows(X, sample_weight, center=True, rms=True)
    ratio = np.linalg.norm(unit.mean) / (unit.scale * np.sqrt(X.shape[1]))
    if ratio > 1:
        warn(
            f"The mean of X is {ratio:.1f} times as long as rows deviate from it; "
            f"without centring most features will end up dead. Set center=True.",
            severity=float(ratio),
        )


def held_out_score(
    trainer: SAETrainer,
    X: np.ndarray,
    sample_weight: np.ndarray,
    held_out: np.ndarray,
    Y: np.ndarray | None = None,
) -> float:
    """Score the weights in training on rows held out, the higher the better."""
    if trainer.settings.activation.penalised:
        return 1 - trainer.held_out_loss(X, sample_weight, held_out)
    weights = trainer.export()
    return r2(
        rows_at(X, held_out),
        sample_weight[held_out],
        weights,
        trainer.fitted_activation(weights),
        None if Y is None else rows_at(Y, held_out),
    )


def diagnose(
    X: np.ndarray,
    sample_weight: np.ndarray,
    weights: dict[str, np.ndarray],
    activation: Activation,
    Y: np.ndarray | None = None,
) -> dict:
    """Measure the fitted codes on rows from all over the training data.

    `Y` are the targets of a transcoder.
    """
    weighty = np.flatnonzero(sample_weight)
    n_rows = min(len(weighty), _DIAGNOSED_ROWS)
    chosen = weighty[np.linspace(0, len(weighty) - 1, n_rows).astype(np.int64)]
    rows, row_weights = rows_at(X, chosen), sample_weight[chosen]
    if rows.dtype not in (np.float32, np.float64):
        rows = rows.astype(np.float64)
    targets = None if Y is None else rows_at(Y, chosen)
    codes = _encoder(weights, activation, Y).encode(rows)
    density = np.average(codes != 0, axis=0, weights=row_weights)
    return {
        "feature_density_": density,
        "l0_": float(density.sum()),
        "explained_variance_": r2(rows, row_weights, weights, activation, targets),
    }


def n_dead_in(
    X: np.ndarray, weights: dict[str, np.ndarray], activation: Activation
) -> int:
    """Count the features that fire for no row."""
    encoder = _encoder(weights, activation, None)
    fires = np.zeros(len(weights["components_"]), dtype=bool)
    for _, rows in row_blocks(X):
        fires |= (encoder.encode(rows) > 0).any(axis=0)
    return int(np.sum(~fires))


def r2(
    X: np.ndarray,
    sample_weight: np.ndarray,
    weights: dict[str, np.ndarray],
    activation: Activation,
    Y: np.ndarray | None = None,
) -> float:
    """Return the R2 of the reconstruction, as `skfeat.metrics.explained_variance`.

    `Y` are the targets of a transcoder, which it reconstructs.
    """
    encoder, read = _encoder(weights, activation, Y), block_reader(X)
    components, bias = weights["components_"], weights["intercept_"]
    skip = weights.get("skip_coef_")

    def reconstruct(block: slice) -> np.ndarray:
        rows = read(block).astype(np.float64, copy=False)
        rebuilt = encoder.encode(rows) @ components + bias
        if skip is not None:
            rebuilt += rows @ skip.T
        return rebuilt

    eps = float(np.finfo(components.dtype).eps)
    with np.errstate(over="ignore", invalid="ignore"):
        read_original = read if Y is None else block_reader(Y)
        unexplained = fvu_in_blocks(read_original, reconstruct, sample_weight, eps)
    if not np.isfinite(unexplained):
        raise ValueError("The squared errors on X are non-finite; rescale X.")
    return 1.0 - unexplained


def _encoder(
    weights: dict[str, np.ndarray], activation: Activation, Y: np.ndarray | None
) -> EncoderWeights:
    coef, intercept, bias = (weights[name] for name in ENCODER)
    if Y is not None:
        bias = np.zeros(coef.shape[1])
    return EncoderWeights(coef, intercept, bias, activation)
