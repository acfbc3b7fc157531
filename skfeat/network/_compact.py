"""Leave out the features of a SparseFeatureNetwork that change no output."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from skfeat.activations import TopK
from skfeat.chain import Chain
from skfeat.network._arrays import LINKS, NetworkArrays, names_and_classes


def compacted(network: NetworkArrays) -> dict[str, Any]:
    """Return the constructor's parameters of the compact network."""
    coefs = [coef.copy() for coef in network.coefs_]
    intercepts = [intercept.copy() for intercept in network.intercepts_]
    decoder_coef = network.decoder_coef_.copy()
    decoder_intercept = network.decoder_intercept_.copy()

    # First layer first: a feature that only constants fed is a constant in its turn.
    for i, (coef, intercept) in enumerate(zip(coefs, intercepts, strict=True)):
        constant, values = _constants(network, i, coefs, intercepts)
        intercept += coef @ (constant * values)
        coef.data[constant[coef.indices]] = 0
        coef.eliminate_zeros()
    constant, values = _constants(network, len(coefs), coefs, intercepts)
    decoder_intercept += (constant * values) @ decoder_coef
    if not isinstance(decoder_coef, np.ndarray):
        decoder_coef.data[np.repeat(constant, np.diff(decoder_coef.indptr))] = 0
        decoder_coef.eliminate_zeros()
    else:
        decoder_coef[constant] = 0

    decoder_coef, decoder_intercept, back = _merged(
        decoder_coef, decoder_intercept, network.back
    )

    # Last layer first: what only dropped features read is not read.
    kept = [_or_first(np.flatnonzero(_nonzero_rows(decoder_coef)))]
    for coef in reversed(coefs):
        kept.insert(0, _or_first(np.unique(coef[kept[0]].indices)))
    if _competes(network):
        kept[0] = np.arange(network.n_components_[0])

    return {
        "front": network.front,
        "encoder_coef": network.encoder_coef_[kept[0]],
        "encoder_intercept": network.encoder_intercept_[kept[0]],
        "encoder_bias": network.encoder_bias_,
        "activation": network.activation.take(kept[0]),
        "coefs": [
            coef[rows][:, columns]
            for coef, rows, columns in zip(coefs, kept[1:], kept[:-1], strict=True)
        ],
        "intercepts": [b[rows] for b, rows in zip(intercepts, kept[1:], strict=True)],
        "links": network.links,
        "decoder_coef": decoder_coef[kept[-1]],
        "decoder_intercept": decoder_intercept,
        "back": back,
        "layer_names": network.layer_names_,
        "feature_names": [
            [names[j] for j in rows]
            for names, rows in zip(network.feature_names_, kept, strict=True)
        ],
        **names_and_classes(network),
    }


def _merged(
    coef: np.ndarray | sparse.csr_array, intercept: np.ndarray, back: Chain
) -> tuple[np.ndarray | sparse.csr_array, np.ndarray, Chain]:
    """Take the affines that follow a dense decoder into it where that costs less."""
    steps = list(back.steps)
    while steps and steps[0].kind == "affine" and not sparse.issparse(coef):
        after = steps[0].arrays["coef"]
        n_read = np.count_nonzero(_nonzero_rows(coef))
        if n_read * len(after) >= n_read * len(intercept) + after.size:
            break
        exact = after.T.astype(np.float64)
        dtype = np.result_type(coef, after)
        intercept = intercept @ exact + steps.pop(0).arrays["intercept"]
        coef, intercept = (coef @ exact).astype(dtype), intercept.astype(dtype)
    return coef, intercept, Chain.from_steps(steps, len(intercept))


def n_decoder_multiply_adds(network: NetworkArrays) -> int:
    """Count the decoder's weights for features that are not zero for every row."""
    coefs, intercepts = network.coefs_, network.intercepts_
    constant, values = _constants(network, len(coefs), coefs, intercepts)
    active = ~constant | (values != 0)
    decoder_coef = network.decoder_coef_
    if not isinstance(decoder_coef, np.ndarray):
        return int(np.diff(decoder_coef.indptr)[active].sum())
    return int(np.count_nonzero(active)) * decoder_coef.shape[1]


def _constants(
    network: NetworkArrays, layer: int, coefs: list, intercepts: list
) -> tuple[np.ndarray, np.ndarray]:
    """Tell which features of a layer are the same for every row, and their values.

    The values of the others mean nothing.
    """
    if layer:
        constant = np.diff(coefs[layer - 1].indptr) == 0
        return constant, LINKS[network.links[layer - 1]](intercepts[layer - 1])
    reads = _nonzero_rows(network.encoder_coef_)
    active = _can_be_positive(network) if _competes(network) else reads
    values = network.encoder_intercept_
    if not isinstance(network.activation, TopK):
        return np.logical_not(active), network.activation.encode(values[None])[0]
    return np.logical_not(active), np.maximum(values, 0)


def _competes(network: NetworkArrays) -> bool:
    """Tell whether a feature of the first layer can take another's place."""
    n_places = getattr(network.activation, "k", np.inf)
    return bool(n_places < np.count_nonzero(_can_be_positive(network)))


def _can_be_positive(network: NetworkArrays) -> np.ndarray:
    # What is never positive takes no place from what is.
    return _nonzero_rows(network.encoder_coef_) | (network.encoder_intercept_ > 0)


def _nonzero_rows(coef: np.ndarray | sparse.csr_array) -> np.ndarray:
    if isinstance(coef, np.ndarray):
        return np.asarray(coef.any(axis=1))
    return np.diff(coef.indptr) > 0  # it stores no zeros


def _or_first(kept: np.ndarray) -> np.ndarray:
    """Keep one feature of a layer that nothing reads: no layer may be empty."""
    return kept if kept.size else np.array([0])
