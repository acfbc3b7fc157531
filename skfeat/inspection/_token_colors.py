"""Colours of activations and effects, the same in figures and in HTML."""

from __future__ import annotations

import numpy as np

# ColorBrewer's Greens and RdBu, with white at zero.
ACTIVATION_STOPS = ("#ffffff", "#c7e9c0", "#74c476", "#238b45", "#00441b")
EFFECT_STOPS = ("#67001f", "#d6604d", "#ffffff", "#4393c3", "#053061")
UNKNOWN = "#e4e4e4"  # of a token without an effect


def activation_position(values: np.ndarray, limit: float) -> np.ndarray:
    """Return positions on the scale from 0 to 1; values below zero are at 0."""
    return np.clip(np.asarray(values, float) / limit, 0, 1)


def effect_position(values: np.ndarray, limit: float) -> np.ndarray:
    """Return positions on the scale from 0 to 1, with zero in the middle."""
    return np.clip(0.5 + 0.5 * np.asarray(values, float) / limit, 0, 1)


def hex_colors(stops: tuple[str, ...], positions: np.ndarray) -> list[str]:
    """Return the colours at positions from 0 to 1, and grey at nan."""
    rgb = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in stops])
    at = np.linspace(0, 1, len(stops))
    known = np.nan_to_num(positions)
    channels = [np.interp(known, at, channel) for channel in rgb.T]
    colors = np.rint(np.stack(channels, axis=-1)).astype(int)
    return [
        UNKNOWN if np.isnan(position) else "#{:02x}{:02x}{:02x}".format(*color)
        for position, color in zip(positions, colors, strict=True)
    ]


def ink_on(color: str) -> str:
    """Return black or white, whichever contrasts more with a colour.

    At a relative luminance of 0.179, as WCAG 2 defines it, both contrast equally.
    """
    channels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(
        channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
    )
    return "#000000" if linear @ (0.2126, 0.7152, 0.0722) > 0.179 else "#ffffff"
