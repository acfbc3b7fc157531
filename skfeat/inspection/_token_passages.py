"""The passages of a token display, checked, and the limits of their colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skfeat.inspection._inputs import check_labels
from skfeat.inspection._style import color_limit
from skfeat.utils._checks import check_level, value_error


@dataclass
class Passage:
    """The tokens of one passage with a value for each, and the label beside them."""

    tokens: list[str | bytes]
    activations: np.ndarray
    effects: np.ndarray | None
    label: str


def check_passages(
    tokens: Sequence[Any], activations: Any, effects: Any, labels: Any
) -> list[Passage]:
    """Check the parameters of a display and return its passages.

    Raises
    ------
    ValueError
        If tokens are not texts, or if there is not one finite activation for each, one
        effect, which may be nan, for each, or one label for each passage.
    """
    texts = [list(passage) for passage in tokens]
    if any(isinstance(passage, str | bytes) for passage in tokens) or not all(
        isinstance(text, str | bytes) for passage in texts for text in passage
    ):
        allowed = "a sequence of sequences of str or bytes"
        raise value_error("tokens", allowed, tokens)
    lengths = [len(passage) for passage in texts]
    values = _check_values("activations", activations, lengths)
    all_effects: Sequence[np.ndarray | None] = [None] * len(texts)
    if effects is not None:
        all_effects = _check_values("effects", effects, lengths, allow_nan=True)
    names = check_labels("labels", labels, len(texts)) or [""] * len(texts)
    parts = zip(texts, values, all_effects, names, strict=True)
    return [Passage(*part) for part in parts]


def _check_values(
    name: str, values: Any, lengths: list[int], *, allow_nan: bool = False
) -> list[np.ndarray]:
    arrays = [np.asarray(passage) for passage in values]
    if [array.shape for array in arrays] != [(length,) for length in lengths]:
        raise ValueError(
            f"{name} must be one number for each token of each passage. Got arrays of "
            f"shapes {[array.shape for array in arrays]} for passages of {lengths} "
            "tokens instead."
        )
    for array in arrays:
        is_numeric = array.dtype.kind in "biuf"
        if (
            not is_numeric
            or not (np.isfinite(array) | allow_nan & np.isnan(array)).all()
        ):
            raise value_error(name, "finite numbers", array.tolist())
    return [array.astype(float) for array in arrays]


def color_limits(
    passages: list[Passage], vmax: float | None, effect_vmax: float | None
) -> tuple[float, float]:
    """Return the values of the strongest colours of activations and of effects."""
    vmax = check_level("vmax", vmax, positive=True)
    effect_vmax = check_level("effect_vmax", effect_vmax, positive=True)
    if vmax is None:
        peaks = [passage.activations.max(initial=0) for passage in passages]
        vmax = max(peaks, default=0) or 1.0
    effects = known_values(passage.effects for passage in passages)
    return float(vmax), color_limit(effects, effect_vmax)


def known_values(values: Any) -> np.ndarray:
    """Join arrays without nan, after a zero; None stands for an empty array."""
    joined = np.concatenate([[0.0], *(array for array in values if array is not None)])
    return joined[~np.isnan(joined)]
