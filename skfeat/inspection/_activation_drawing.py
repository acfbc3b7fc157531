"""Three plots of feature activations; each function returns the artists and a title."""

from __future__ import annotations

from typing import Any

import numpy as np

from skfeat.inspection._axes import (
    draw_stems,
    draw_threshold,
    integer_ticks,
    legend_above,
)
from skfeat.inspection._inputs import Matrix, take_rows
from skfeat.inspection._style import BLUE, ORANGE, color_limit, style

COLORS = (BLUE, ORANGE, "tab:green", "tab:red")
FEW_ROWS = len(COLORS)  # more sets of bars in one axes hide one another
MAX_ROWS = 200  # more rows of a heatmap would be thinner than a pixel


def count_active(codes: Matrix, threshold: float | None) -> np.ndarray:
    """Return the number of rows in which each feature is active."""
    return np.asarray((abs(codes) > (threshold or 0)).sum(axis=0)).ravel()


def draw_bars(
    ax: Any, codes: Matrix, threshold: float | None, kw: dict[str, Any] | None
) -> tuple[list[Any], str]:
    """Draw one set of bars for each row."""
    rows = take_rows(codes, slice(None))
    is_single, bars = len(rows) == 1, []
    for i, row in enumerate(rows):
        label = None if is_single else f"row {i}"
        alpha = 1 if is_single else 0.7
        defaults = {"color": COLORS[i], "label": label, "alpha": alpha}
        bars.append(draw_stems(ax, row, style(defaults, kw)))
    draw_threshold(ax, rows, threshold)
    if not is_single:
        legend_above(ax, len(rows))
    ax.set(xlabel="feature", ylabel="activation")
    count = count_active(codes, threshold).sum() / len(rows)
    number = f"{count:.0f}" if is_single else f"mean of {count:.1f}"
    state = "active" if threshold is None else f"above {threshold:g}"
    return bars, f"{number} of {rows.shape[1]:,} {state}"


def draw_heatmap(
    ax: Any,
    codes: Matrix,
    threshold: float | None,
    max_features: int,
    cmap: Any,
    vmax: float | None,
    kw: dict[str, Any] | None,
) -> tuple[Any, str]:
    """Draw rows by features, the most frequently active features first."""
    n_rows, n_features = codes.shape
    counts = count_active(codes, threshold)
    order = np.argsort(-counts, kind="stable")[:max_features]
    rows = np.linspace(0, n_rows - 1, min(n_rows, MAX_ROWS)).round().astype(int)
    shown = take_rows(codes[:, order], rows)
    is_signed, limit = bool((shown < 0).any()), color_limit(shown, vmax)
    defaults = {
        "cmap": cmap or ("RdBu_r" if is_signed else "magma"),
        "vmin": -limit if is_signed else 0,
        "vmax": limit,
        "aspect": "auto",
        "interpolation": "nearest",
        "extent": (-0.5, len(order) - 0.5, n_rows - 0.5, -0.5),
    }
    im = ax.imshow(shown, **style(defaults, kw))
    integer_ticks(ax.xaxis, ax.yaxis)
    ylabel = "row"
    if len(rows) < n_rows:
        ylabel += f" ({len(rows)} of {n_rows:,} shown)"
    xlabel = "feature, most frequent first"
    if len(order) < n_features:
        xlabel += f" ({len(order):,} of {n_features:,} shown)"
    ax.set(xlabel=xlabel, ylabel=ylabel)
    mean = counts.sum() / n_rows
    return im, f"mean of {mean:.1f} of {n_features:,} active"


def draw_frequency(
    ax: Any, codes: Matrix, threshold: float | None, kw: dict[str, Any] | None
) -> tuple[Any, str]:
    """Draw the fraction of rows in which each feature is active, sorted."""
    n_rows, n_features = codes.shape
    rates = np.sort(count_active(codes, threshold))[::-1] / n_rows
    alive = rates[rates > 0]
    defaults = {"color": BLUE, "linewidth": 1.8, "drawstyle": "steps-mid"}
    (line,) = ax.plot(alive, **style(defaults, kw))
    n_dead = n_features - alive.size
    if n_dead:  # a log axis cannot show a rate of zero
        end = n_features - 0.5
        dead = ax.axvspan(alive.size - 0.5, end, color="0.9", linewidth=0)
        ax.legend([dead], [f"{n_dead:,} dead"], loc="lower left", frameon=False)
    ax.set(
        yscale="log",
        xlabel="feature, most frequent first",
        ylabel="fraction of rows active",
        xlim=(-0.5, n_features - 0.5),
        ylim=(0.7 / n_rows, 1.4),
    )
    return line, f"{n_dead:,} of {n_features:,} features dead in {n_rows:,} rows"
