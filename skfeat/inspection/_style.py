"""Colours, colour limits and style options that the displays share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from skfeat.utils._checks import type_error
from skfeat.utils._sklearn import _validate_style_kwargs

BLUE, ORANGE, GREY = "tab:blue", "tab:orange", "0.6"

# Collections accept plural names as well; scikit-learn's helper has the singular alone.
_SINGULAR = {
    f"{name}s": name for name in ("color", "edgecolor", "linestyle", "linewidth")
}


def style(defaults: dict[str, Any], user: dict[str, Any] | None) -> dict[str, Any]:
    """Merge style options; the user's win, under any of matplotlib's aliases."""
    if user is not None and not isinstance(user, Mapping):
        raise type_error("Style options (such as im_kw)", "a dict or None", user)
    user = {_SINGULAR.get(name, name): value for name, value in (user or {}).items()}
    if "norm" in user:  # matplotlib does not accept a norm beside colour limits
        defaults = {k: v for k, v in defaults.items() if k not in ("vmin", "vmax")}
    return _validate_style_kwargs(defaults, user)


def color_limit(values: np.ndarray, vmax: float | None = None) -> float:
    """Return `vmax`, by default the 99.5th percentile of the nonzero magnitudes.

    A percentile, not the maximum, as one huge weight would bleach all others. It is one
    of the magnitudes ("higher"); in a small matrix it is the largest.
    """
    if vmax is not None:
        return float(vmax)
    magnitudes = np.abs(values[values != 0])
    if not magnitudes.size:
        return 1.0
    return float(np.percentile(magnitudes, 99.5, method="higher"))


def extend_of(values: np.ndarray, low: float, high: float) -> str:
    """Return the ends of a colour bar at which values go beyond the colour limits."""
    below, above = bool((values < low).any()), bool((values > high).any())
    if below and above:
        return "both"
    return "min" if below else "max" if above else "neither"
