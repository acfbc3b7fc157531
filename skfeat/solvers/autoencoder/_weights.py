"""The weights that training starts from, and those that act on raw rows."""

from __future__ import annotations

import numpy as np
import torch

from skfeat.solvers.autoencoder._settings import DTYPES, SAESettings
from skfeat.solvers.autoencoder._standardizer import Standardizer
from skfeat.utils._torch import PLAIN, to_numpy


def initial_weights(
    settings: SAESettings, n_features: int, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """Return decoder rows of norm one in random directions, and what goes with them.

    An encoder that starts as its decoder's transpose keeps features alive.
    """
    m = settings.n_components
    decoder = torch.randn(m, n_features, generator=generator, **PLAIN)
    decoder = unit_rows(decoder.to(DTYPES[settings.precision]))
    weights = {
        "decoder": decoder,
        "encoder_bias": torch.zeros(m, **PLAIN),
        "bias": torch.zeros(n_features, **PLAIN),
        **settings.activation.extra_params(m, n_features),
    }
    if not settings.tied:
        weights["encoder"] = decoder.clone()
    return weights


def unit_rows(rows: torch.Tensor) -> torch.Tensor:
    """Return rows scaled to norm one; one of zeros stays."""
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)


def fold_standardizer(
    weights: dict[str, torch.Tensor], standardizer: Standardizer
) -> dict[str, np.ndarray]:
    """Return weights that act on raw rows, as float64 arrays.

    Codes are in the units of the raw rows, ``scale`` times those of the scaled ones:
    decoder rows keep their unit norm, and a tied encoder stays equal to its decoder.

    Parameters
    ----------
    weights : dict of str to Tensor
        By the names of fitted attributes.
    standardizer : Standardizer

    Raises
    ------
    ValueError
        If training has left weights that are not finite.
    """
    folded = finite_arrays(weights, "SparseAutoencoder")
    for key in {"intercept_", "encoder_intercept_", "threshold_"} & set(folded):
        folded[key] *= standardizer.scale
    folded["intercept_"] += standardizer.mean
    return folded


def finite_arrays(weights: dict[str, torch.Tensor], kind: str) -> dict[str, np.ndarray]:
    """Return weights of an estimator of this kind as float64 arrays.

    Raises
    ------
    ValueError
        If training has left weights that are not finite.
    """
    arrays = {key: to_numpy(value, np.float64) for key, value in weights.items()}
    if not all(np.isfinite(value).all() for value in arrays.values()):
        raise ValueError(
            f"{kind} diverged: the weights are non-finite; lower "
            f"'learning_rate_init' (or 'alpha'), or rescale X."
        )
    return arrays
