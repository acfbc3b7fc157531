"""A network of features and its controls, side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from skfeat.utils._checks import type_error, value_error
from skfeat.utils._shown import Part
from skfeat.utils._table import Table, is_nan, titled_columns

_TITLES = {
    "network": ("network", ""),
    "n_features": ("features", "or neurons, of all layers"),
    "n_weights": ("weights", "nonzero ones between features, and of sparse ends"),
    "n_weights_all": ("in all", "nonzero weights of everything that runs"),
    "multiply_adds": ("multiply-adds", "for one row"),
    "score": ("score", "accuracy or R2"),
    "agreement": ("agree", "share of the model's labels kept, or R2 to its values"),
    "kl": ("KL", "mean divergence from the model's distribution, in nats"),
}


class ControlReport(Table):
    """Columns with an entry for the model, the network of features and each control.

    Entries that mean nothing in a row are nan. ``report.to_frame()`` makes it a data
    frame; printing it, or ending a notebook cell with it, shows a table.

    Parameters
    ----------
    **columns : list
        The columns.

    Attributes
    ----------
    network : list of str
        "model", "features" and the names of the controls.
    n_features : list of int
        Features, or neurons, of all layers.
    n_weights : list of int
        Nonzero weights between features, and of sparse ends.
    n_weights_all : list of int
        Nonzero weights of everything that runs, dense or sparse.
    multiply_adds : list of int
        For one row, of the compacted network.
    score : list of float
        Accuracy or R2.
    agreement : list of float
        Share of rows where a classifier's label is the model's; R2 against the model's
        values for a regressor.
    kl : list of float
        Mean divergence from the model's distribution, in nats; of classifiers only.

    Examples
    --------
    >>> from skfeat.unwrapper import ControlReport
    >>> print(ControlReport(network=["model", "features"], score=[0.98, 0.97]))
    network    score
    model     0.9800
    features  0.9700
    score: accuracy or R2
    """

    def __init__(self, **columns: list):
        super().__init__({}, columns)

    def _parts(self) -> list[Part]:
        titles = {
            name: title
            for name, title in _TITLES.items()
            if name in self and not all(map(is_nan, self[name]))
        }
        return [titled_columns(titles, lambda name: [*map(_text, self[name])])]


def control_report(
    network: Any,
    rows: np.ndarray,
    of_model: dict[str, Any],
    measured: Callable[[np.ndarray], dict[str, float]],
    controls: dict[str, Any],
) -> ControlReport:
    """Measure controls on validated rows, beside the model and its network.

    Parameters
    ----------
    network : SparseFeatureNetwork
    rows : ndarray of shape (n, n_features)
    of_model : dict
        The entries of the model.
    measured : callable
        Maps raw outputs to score, agreement and divergence.
    controls : dict of str to network

    Raises
    ------
    TypeError
        If `controls` are no networks by name.
    ValueError
        If one has the name of the model or of its own network.
    """
    wrong = not isinstance(controls, dict) or any(
        not hasattr(one, "predict_raw") for one in controls.values()
    )
    if wrong:
        raise type_error(
            "controls",
            "a bool or a dict of names and networks, as fit_controls returns",
            controls,
        )
    taken = {"model", "features"} & set(controls)
    if taken:
        raise value_error(
            "controls", "names other than 'model' and 'features'", sorted(taken)
        )
    found = [{"network": "model", **of_model}]
    for name, one in {"features": network, **controls}.items():
        row = {
            "network": name,
            "n_weights_all": one.n_weights_all_,
            "multiply_adds": one.n_multiply_adds(compact=True),
            **measured(one.predict_raw(rows)),
        }
        if hasattr(one, "n_weights_"):
            ends = one.n_weights_in_, one.n_weights_out_
            row["n_weights"] = sum(one.n_weights_) + sum(n or 0 for n in ends)
            # Of maps those of a position, as weights are counted once.
            widths = getattr(one, "n_shared_components_", one.n_components_)
            row["n_features"] = sum(widths)
        found.append(row)
    return ControlReport(
        **{name: [row.get(name, float("nan")) for row in found] for name in _TITLES}
    )


def _text(value: Any) -> str:
    if is_nan(value):
        return ""
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
