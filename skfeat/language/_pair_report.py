"""The report of a layer pair: each output feature, and the pair as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skfeat.language._pair_codes import (
    as_float_rows,
    count_events,
    predict_codes,
    sparse_codes,
)
from skfeat.metrics._noise import noise_of_sums
from skfeat.metrics._reconstruction import r2_of_sums
from skfeat.utils._names import WRITTEN_PREFIX
from skfeat.utils._rows import row_blocks
from skfeat.utils._shown import Part
from skfeat.utils._table import Table, titled_columns

# Rows whose features are dense at a time.
_BLOCK_ROWS = 1024

# Riggs et al. call a feature linear if a network lowers its mean squared error by at
# most 0.001, after scaling codes to the mean norm of their smallest layer, 4.25.
_LINEAR_GAP, _ARTICLE_NORM = 1e-3, 4.25

# Codes that differ by fewer roundings of their encoder than this count as equal.
_ROUNDINGS = 8

_SHOWN = 20
_TITLES = {
    "feature": ("feature", ""),
    "firing_rate": ("fires", "share of the rows in which it is active"),
    "n_weights": ("weights", "its nonzero weights in the sparse map"),
    "r2_sparse": ("R2 sparse", "of the sparse map"),
    "r2_dense": ("R2 dense", "of the dense linear map"),
    "r2_nonlinear": ("R2 MLP", "of the nonlinear map"),
    "linear_gap": (
        "gap",
        "squared error that the nonlinear map saves; at most 0.001 counts as linear",
    ),
}


class PairReport(Table):
    """Columns of a report with one value for each live output feature.

    ``report.to_frame()`` turns it into a data frame. Printing it, or ending a notebook
    cell with it, shows `totals`, the figures of the whole pair, and a table of the
    features that fire most.

    Parameters
    ----------
    totals : Bunch
        Figures of the whole pair.
    columns : dict of str to ndarray
        The columns.

    Attributes
    ----------
    feature : ndarray of int
        Number of the feature in the output autoencoder.
    firing_rate : ndarray of float
        Share of the rows in which it fires.
    n_weights : ndarray of int
        Its nonzero weights in the sparse map.
    r2_sparse, r2_dense, r2_nonlinear : ndarray of float
        R2 of each map; nan if the pair has no such map, and for a feature that does
        not vary on these rows beyond rounding. Means leave out nan.
    variance : ndarray of float
        Mean squared deviation from its mean, which R2 is divided by.
    variance_noise : ndarray of float
        Half the width of the 95 % confidence interval of the variance over the rows;
        see :func:`skfeat.metrics.paired_noise`.
    is_within_noise : ndarray of bool
        Whether the variance is no larger than its noise, as where fewer than four rows
        make up nearly all of it. R2 is then noise and may be far below zero; the
        printed table has "noise" in its place, and a line with the means without it.
    linear_gap : ndarray of float
        By how much the nonlinear map lowers the mean squared error of the dense linear
        one, after scaling the codes to a mean norm of 4.25 a row. nan without a
        nonlinear map.
    is_linear : ndarray of bool
        Whether the gap is at most 0.001, the criterion of Riggs et al., who scale all
        layers to the norm 4.25 of one of them.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat import SparseAutoencoder
    >>> from skfeat.datasets import make_sparse_features
    >>> from skfeat.language import LayerPair
    >>> X, codes, _ = make_sparse_features(2000, 12, 24, random_state=0)
    >>> Y = codes[:, :8].toarray() + codes[:, 8:16].toarray()
    >>> parts = [SparseAutoencoder(m, k=3, max_iter=50) for m in (24, 8)]
    >>> pair = LayerPair(*parts, n_nonzero_coefs=4, random_state=0)
    >>> pair = pair.fit(X[:1500], Y[:1500])
    >>> report = pair.report(X[1500:], Y[1500:])
    >>> len(report.feature) == report.totals.n_live_outputs
    True
    >>> bool(report.totals.weights_per_output <= 4)
    True
    """

    totals: Bunch

    def __init__(self, totals: Bunch, columns: dict[str, np.ndarray]):
        super().__init__({"totals": totals}, columns)

    def _parts(self) -> list[Part]:
        order = np.argsort(-self["firing_rate"], kind="stable")[:_SHOWN]
        titles = {
            name: title
            for name, title in _TITLES.items()
            if not _is_nan(self[name]).all()
        }
        columns = titled_columns(titles, lambda name: self._cells(name, order))
        n_hidden = len(self["feature"]) - len(order)
        more = [f"... and {n_hidden:,} more, that fire less"] if n_hidden else []
        return [*self._lines_of_totals(), columns, *more]

    def _cells(self, name: str, order: np.ndarray) -> list[str]:
        if name == "feature":
            return [f"{WRITTEN_PREFIX}{i}" for i in self[name][order].tolist()]
        cells = [_text(value) for value in self[name][order]]
        if not name.startswith("r2_"):
            return cells
        is_noise = self["is_within_noise"][order]
        return [
            "noise" if cell and noise else cell
            for cell, noise in zip(cells, is_noise, strict=True)
        ]

    def _lines_of_totals(self) -> list[str]:
        totals = self.totals
        text = {name: _text(value) or "nan" for name, value in totals.items()}
        lines = [
            f"{side}: {text[f'n_live_{side}s']} live features, "
            f"{text[f'n_dropped_{side}s']} dropped, L0 {text[f'l0_{side}s']}, dead on "
            f"these rows {text[f'dead_{side}s']}, variance explained "
            f"{text[f'explained_variance_{side}s']}"
            for side in ("input", "output")
        ]
        names = [
            name for name in ("sparse", "dense", "nonlinear") if f"r2_{name}" in text
        ]
        lines += [
            f"{name}: R2 {text[f'r2_{name}']} of all features together, of one "
            f"{text[f'mean_r2_{name}']} on average, of the decoded rows "
            f"{text[f'r2_rows_{name}']}"
            for name in names
        ]
        is_noise = self["is_within_noise"] & (self["variance"] > 0)
        if is_noise.any():
            others = [
                f"{name} {_text(_mean(self[f'r2_{name}'][~is_noise])) or 'nan'}"
                for name in names
            ]
            lines.append(
                f"R2 within noise: {_text(is_noise.sum())} features, which vary in too "
                f"few rows; without them R2 of one on average: {', '.join(others)}"
            )
        linear = text.get("linear_share")
        share = f", share of linear features {linear}" if linear else ""
        lines.append(f"{text['weights_per_output']} weights an output feature{share}")
        return lines


def make_report(pair, X: np.ndarray, y: np.ndarray) -> PairReport:
    """Measure a fitted pair on validated rows.

    Parameters
    ----------
    pair : LayerPair
    X : ndarray of shape (n, d)
    y : ndarray of shape (n, d_out)

    Returns
    -------
    PairReport
    """
    sums = _Sums(pair, y)
    for block, rows in row_blocks(X, _BLOCK_ROWS):
        sums.add(rows, y[block])
    sums.drop_rounding(y)
    columns = sums.columns()
    totals = Bunch(n_rows=len(X))
    for side, rows in (("input", X), ("output", y)):
        autoencoder = getattr(pair, f"{side}_autoencoder_")
        n_live, events = len(getattr(pair, f"live_{side}s_")), sums.events[side]
        totals[f"n_live_{side}s"] = n_live
        totals[f"n_dropped_{side}s"] = len(events) - n_live
        totals[f"l0_{side}s"] = float(events.sum() / len(X))
        totals[f"dead_{side}s"] = float((events == 0).mean())
        score = autoencoder.score(rows) if _varies(rows) else np.nan
        totals[f"explained_variance_{side}s"] = score
    totals["weights_per_output"] = float(columns["n_weights"].mean())
    for name, (of_features, of_rows) in sums.errors.items():
        totals[f"r2_{name}"] = float(r2_of_sums(of_features.sum(), sums.spread.sum()))
        totals[f"mean_r2_{name}"] = _mean(columns[f"r2_{name}"])
        r2_rows = r2_of_sums(of_rows.sum(), sums.spread_of_rows.sum())
        totals[f"r2_rows_{name}"] = float(r2_rows)
    if "nonlinear" in sums.errors:
        totals["linear_share"] = float(columns["is_linear"].mean())
    return PairReport(totals, columns)


class _Sums:
    """Sums over rows, in float64: events, squared errors and squared deviations."""

    def __init__(self, pair, y: np.ndarray):
        self.pair, self.n_rows = pair, len(y)
        self.connectors = pair.connectors()
        self.events = {
            "input": np.zeros_like(pair.input_events_),
            "output": np.zeros_like(pair.output_events_),
        }
        sizes = len(pair.live_outputs_), y.shape[1]
        # Deviations are taken from the means of these rows, so a first pass computes
        # the means. It sums differences from the first row: those of equal rows are
        # exactly zero, where plain sums would accumulate rounding.
        first_row = y[0].astype(np.float64)
        first = self._encode("output", y[:1])[1][0]
        self.means, self.mean_row = first.copy(), first_row.copy()
        for _, rows in row_blocks(y, _BLOCK_ROWS):
            codes = self._encode("output", rows)[1]
            self.means += (codes - first).sum(axis=0) / len(y)
            self.mean_row += (rows - first_row).sum(axis=0) / len(y)
        self.spread, self.spread_of_rows = np.zeros(sizes[0]), np.zeros(sizes[1])
        self.fourth_powers = np.zeros(sizes[0])
        # Squared sizes of the terms that a code adds up, over the rows where it fires.
        self.sizes = np.zeros(sizes[0])
        self.errors = {name: [*map(np.zeros, sizes)] for name in self.connectors}
        self.norm = 0.0

    def _encode(self, side: str, rows: np.ndarray) -> tuple[Any, Any]:
        """Return the codes of all features in CSR, and those of the live features.

        Live output codes are dense and float64.
        """
        codes = sparse_codes(getattr(self.pair, f"{side}_autoencoder_"), rows)
        live = codes[:, getattr(self.pair, f"live_{side}s_")]
        return codes, live.toarray().astype(np.float64) if side == "output" else live

    def add(self, rows: np.ndarray, y: np.ndarray) -> None:
        """Add rows of X and of y to the sums."""
        codes, inputs = self._encode("input", rows)
        self.events["input"] += count_events(codes)
        codes, true = self._encode("output", y)
        self.events["output"] += count_events(codes)
        y = y.astype(np.float64)
        self.norm += np.linalg.norm(true, axis=1).sum() / self.n_rows
        squares = np.square(true - self.means)
        self.spread += squares.sum(axis=0)
        self.fourth_powers += np.square(squares).sum(axis=0)
        self.spread_of_rows += np.square(y - self.mean_row).sum(axis=0)
        self.sizes += np.square(y).sum(axis=1) @ (true != 0)
        for name, connector in self.connectors.items():
            predicted = predict_codes(connector, inputs)
            self.errors[name][0] += np.square(predicted - true).sum(axis=0)
            decoded = self.pair.decode_features(predicted)
            self.errors[name][1] += np.square(decoded - y).sum(axis=0)

    def drop_rounding(self, y: np.ndarray) -> None:
        """Set to zero the spread that is no larger than rounding.

        Blocks of different length are encoded by matrix products that round
        differently, so that the codes of equal rows may differ in the last digits.
        """
        live, part = self.pair.live_outputs_, self.pair.output_autoencoder_
        n_firings = self.events["output"][live]
        norms = np.square(part.encoder_coef_[live], dtype=np.float64).sum(axis=1)
        sizes = self.sizes + n_firings * np.square(part.intercept_).sum()
        sizes = sizes * norms + n_firings * np.square(part.encoder_intercept_[live])
        eps = float(np.finfo(as_float_rows(y[:1]).dtype).eps)
        self.spread[self.spread <= (_ROUNDINGS * eps) ** 2 * sizes] = 0
        if not _varies(y):
            self.spread_of_rows[:] = 0

    def columns(self) -> dict[str, np.ndarray]:
        """Return the columns of the report."""
        live = self.pair.live_outputs_
        columns = {
            "feature": live.copy(),
            "firing_rate": self.events["output"][live] / self.n_rows,
            "n_weights": np.diff(self.pair.connector_.coef_.indptr),
        }
        noise = noise_of_sums(self.spread, self.fourth_powers, self.n_rows)
        columns["variance"] = self.spread / self.n_rows
        columns["variance_noise"] = noise
        columns["is_within_noise"] = columns["variance"] <= noise
        unknown = np.full(len(live), np.nan)
        errors = {name: of_features for name, (of_features, _) in self.errors.items()}
        for name in ("sparse", "dense", "nonlinear"):
            columns[f"r2_{name}"] = r2_of_sums(errors.get(name, unknown), self.spread)
        gap = (errors["dense"] - errors.get("nonlinear", unknown)) / self.n_rows
        unit = _ARTICLE_NORM / self.norm if self.norm else np.nan
        columns["linear_gap"] = gap * unit**2
        columns["is_linear"] = columns["linear_gap"] <= _LINEAR_GAP
        return columns


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else np.nan


def _varies(X: np.ndarray) -> bool:
    """Tell whether any row differs from the first one."""
    return any((rows != X[0]).any() for _, rows in row_blocks(X))


def _is_nan(values: np.ndarray) -> np.ndarray:
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), bool)


def _text(value) -> str:
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.4g}"
    return f"{value:,}"
