"""What it costs a language model to run on features, as a table with noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from skfeat.language.whole._feature_mlp import FeatureMLP, Layer
from skfeat.language.whole._goal import LastStates, NextTokens
from skfeat.language.whole._measure import Replacement, activity_of, measure
from skfeat.language.whole._slots import SlottedModel
from skfeat.utils._shown import Column, Part
from skfeat.utils._table import Table, titled_columns

_TITLES = {
    "replaced": ("replaced", "which MLPs: all, one alone, or those up to one"),
    "by": ("by", "what stands in for them"),
    "own": (
        "lost (own)",
        (
            "what the loss rises by, in the unit above, each replaced MLP fed what the "
            "replaced model computes"
        ),
    ),
    "own_noise": ("±", "95 % noise of it, over sequences"),
    "true": (
        "lost (true)",
        "the same, each replaced MLP fed what the model itself computes",
    ),
    "true_noise": ("± (true)", "95 % noise of it"),
}
_FLOORS = ("mean", "zero")


class ModelReport(Table):
    """Columns with one value for each way of replacing MLPs of a language model.

    :meth:`ModelUnwrapper.report` returns it. ``report.to_frame()`` turns it into a data
    frame; printing it, or ending a notebook cell with it, shows tables.

    Parameters
    ----------
    beside : dict of str to object
        The attributes that are no columns.
    **columns : list
        The columns.

    Attributes
    ----------
    replaced : list of str
        Which MLPs are replaced: "all"; "L2 alone", the second; "up to L2", the first
        two.
    by : list of str
        "features": the unwrapper that reports. Other names are those given for others.
        "mean": the mean of each MLP's output. "zero": zero.
    own, true : list of float
        What the loss rises by, in `unit`. "own": replaced MLPs are fed what the
        replaced model computes. "true": what the model itself computes. They are one
        where a single MLP is replaced, or by a constant.
    own_noise, true_noise : list of float
        Half the width of the 95 % confidence interval, taken sequence by sequence; see
        :func:`skfeat.metrics.paired_noise`.
    loss : float
        Mean cross-entropy of the next token in the model itself, in nats; zero of an
        encoder.
    unit : str
        Of what is lost: "nats a token", or of an encoder "share of the variance of last
        states", the squared error of `last_hidden_state` over its variance.
    n_predictions : int
        Number of predicted tokens, or of states.
    layers : dict of str to list
        One value for each layer and way of replacing it: "layer", its "module", "by",
        "n_weights" between features, "inputs" and "outputs" active a token,
        "connections": weights between features that multiply an active one, a token,
        and "touched": these and the weights of active encoder and decoder rows.

    Examples
    --------
    >>> from skfeat.language import ModelReport
    >>> report = ModelReport(
    ...     {"loss": 2.0, "n_predictions": 99, "layers": {}},
    ...     replaced=["all"], by=["mean"], own=[1.0], own_noise=[0.1], true=[1.0],
    ...     true_noise=[0.1],
    ... )
    >>> print(report)
    2.0000 nats a token in the model itself, over 99 predictions
    replaced  by    lost (own)       ±  lost (true)  ± (true)
    all       mean     +1.0000  0.1000      +1.0000    0.1000
    ...
    """

    loss: float
    unit: str = NextTokens.unit
    n_predictions: int
    layers: dict[str, list]

    def __init__(self, beside: dict[str, Any], **columns: list):
        super().__init__(beside, columns)

    def lost(self, replaced: str = "all", by: str = "features") -> tuple[float, float]:
        """Return the loss of one row in both protocols, "own" and "true".

        Parameters
        ----------
        replaced, by : str
            As in the columns.

        Returns
        -------
        tuple of float

        Raises
        ------
        ValueError
            If there is no such row.
        """
        rows = list(zip(self["replaced"], self["by"], strict=True))
        if (replaced, by) not in rows:
            raise ValueError(
                f"replaced and by must be one of {rows}. Got {(replaced, by)} instead."
            )
        index = rows.index((replaced, by))
        return self["own"][index], self["true"][index]

    def _parts(self) -> list[Part]:
        def cells(name: str) -> list[str]:
            signed = name in ("own", "true")
            return [
                value
                if isinstance(value, str)
                else f"{value:+.4f}"
                if signed
                else f"{value:.4f}"
                for value in self[name]
            ]

        heading = (
            f"{self.loss:.4f} {self.unit} in the model itself, over "
            f"{self.n_predictions:,} predictions"
        )
        if self.unit == LastStates.unit:
            heading = f"Lost: {self.unit}, over {self.n_predictions:,} tokens"
        parts: list[Part] = [heading, titled_columns(_TITLES, cells)]
        if self.layers:
            parts.append(_columns_of_layers(self.layers))
        return parts


_LAYER_TITLES = {
    "layer": ("layer", ""),
    "by": ("by", ""),
    "n_weights": ("weights", "between features"),
    "inputs": ("active in", "encoded features active a token"),
    "outputs": ("active out", "decoded features active a token"),
    "connections": (
        "connections",
        "weights between features that multiply an active one, a token",
    ),
    "touched": (
        "touched",
        "these and the weights of active encoder and decoder rows, a token",
    ),
}


def _columns_of_layers(layers: dict[str, list]) -> list[Column]:
    def cell(value: Any) -> str:
        return value if isinstance(value, str) else f"{value:,.4g}"

    return [
        Column(title, [cell(v) for v in layers[name]], meaning, is_text=name == "by")
        for name, (title, meaning) in _LAYER_TITLES.items()
    ]


def make_report(
    slotted: SlottedModel,
    batches: list[Any],
    layers: dict[str, list[Layer]],
    means: list[np.ndarray],
) -> ModelReport:
    """Measure each way of replacing the MLPs.

    Parameters
    ----------
    slotted : SlottedModel
    batches : list
    layers : dict of str to list of Layer
        What replaces the MLPs, in the order of `slotted.names`, by the names of the
        ways.
    means : list of ndarray
        Mean outputs of the MLPs.
    """
    names = slotted.names
    device = next(iter(slotted.model.parameters())).device
    modules = {
        by: {
            name: FeatureMLP(layer).to(device)
            for name, layer in zip(names, of_way, strict=True)
        }
        for by, of_way in layers.items()
    }
    ways: dict[str, dict[str, Any]] = {**modules, **_floors(names, means, device)}
    replacements = []
    for by, functions in ways.items():
        for replaced, chosen in _choices(names).items():
            key = (by, replaced)
            own = {name: functions[name] for name in chosen}
            replacements.append(Replacement(key, own))
            if by not in _FLOORS and len(chosen) > 1:
                replacements.append(Replacement(key, own, is_given=True))
    losses = measure(slotted, batches, replacements)
    means_of = losses.means()
    rows: dict[str, list] = {name: [] for name in _TITLES}
    for one in replacements:
        if one.is_given:
            continue
        by, replaced = one.key
        true = Replacement(one.key, one.functions, is_given=True).name
        true = true if true in means_of else one.name
        rows["replaced"].append(replaced)
        rows["by"].append(by)
        for column, name in (("own", one.name), ("true", true)):
            rows[column].append(means_of[name] - means_of["original"])
            rows[f"{column}_noise"].append(losses.noise(name))
    order = sorted(
        range(len(rows["by"])),
        key=lambda i: list(_choices(names)).index(rows["replaced"][i]),
    )
    beside = {
        "loss": means_of["original"],
        "unit": slotted.goal.unit if slotted.goal else NextTokens.unit,
        "n_predictions": losses.n_predictions,
        "layers": _layer_rows(slotted, batches, modules),
    }
    return ModelReport(
        beside, **{name: [values[i] for i in order] for name, values in rows.items()}
    )


def _choices(names: list[str]) -> dict[str, list[str]]:
    """Return which MLPs are replaced at once, by the name of the choice."""
    found = {"all": names}
    if len(names) > 1:
        found |= {f"L{i + 1} alone": [name] for i, name in enumerate(names)}
        found |= {f"up to L{i}": names[:i] for i in range(2, len(names))}
    return found


def _floors(names, means, device) -> dict[str, dict[str, Any]]:
    def constant(mean):
        row = torch.tensor(mean, dtype=torch.float32, device=device)
        return lambda rows: row.expand(len(rows), -1)

    return {
        "mean": {n: constant(mean) for n, mean in zip(names, means, strict=True)},
        "zero": {n: constant(0 * mean) for n, mean in zip(names, means, strict=True)},
    }


def _layer_rows(slotted, batches, modules) -> dict[str, list]:
    rows: dict[str, list] = {name: [] for name in [*_LAYER_TITLES, "module"]}
    for by, functions in modules.items():
        activities = activity_of(slotted, batches, functions)
        for i, (name, one) in enumerate(zip(slotted.names, activities, strict=True)):
            module = functions[name]
            n = max(one.n, 1)
            inputs, outputs = one.inputs / n, one.outputs / n
            ends = inputs * module.encoder.shape[1] + outputs * module.decoder.shape[1]
            coef = module.layer.coef
            values = {
                "layer": f"L{i + 1}",
                "by": by,
                "module": name,
                "n_weights": 0 if coef is None else int(coef.nnz),
                "inputs": inputs,
                "outputs": outputs,
                "connections": one.connections / n,
                "touched": one.connections / n + ends,
            }
            for column, value in values.items():
                rows[column].append(value)
    return rows
