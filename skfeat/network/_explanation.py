"""One row explained: an output, split into inputs and features, in a small table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skfeat.chain._slopes import PIECEWISE_LINEAR
from skfeat.chain._steps import walk
from skfeat.network._arrays import NetworkArrays, as_inputs
from skfeat.network._attribution import Attribution, attribute
from skfeat.network._attribution_shown import CONSTANTS, levels
from skfeat.network._decide import decide, hard_predictions
from skfeat.network._predict import checked_features
from skfeat.utils._names import number_of
from skfeat.utils._shown import Column, Part, Shown, data_frame

if TYPE_CHECKING:
    import pandas as pd

# Parts of each layer, where there are few layers; a table has at most 40 rows.
_SHOWN, _MAX_ROWS = 5, 38
_VALUE = "of the input, as the network is fed it, or of the feature"


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(Shown):
    """What the inputs and features of one row bring to one output of a network.

    ``FeatureUnwrapper.explain`` and ``SparseFeatureNetwork.explain`` return it.
    Printing it, or ending a notebook cell with it, shows the strongest parts of each
    layer; `to_frame` has all. At each layer they add up to `value` exactly, but for
    rounding. ``FeatureGraphDisplay.from_explanation`` draws it.

    Parameters
    ----------
    attribution : Attribution
        The attribution of the row, with edges, which this is a table of.
    values : list of ndarray
        What the parts are on this row: the inputs, if they are among them, and then
        (m_i,) the features of each layer.
    prediction : object
        The network's label, or None without classes.
    model_value : float or None, default=None
        The output of the model itself; None where there is the network alone.
    model_prediction : object, default=None
        The label that the model itself predicts, or None.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skfeat import FeatureUnwrapper, SparseAutoencoder
    >>> X, y = load_iris(return_X_y=True)
    >>> X = (X - X.mean(axis=0)) / X.std(axis=0)
    >>> mlp = MLPClassifier((8, 8), solver="lbfgs", tol=0.01, random_state=0)
    >>> part = SparseAutoencoder(8, k=4, max_iter=200, random_state=0)
    >>> unwrapper = FeatureUnwrapper(mlp.fit(X, y), autoencoder=part, random_state=0)
    >>> explanation = unwrapper.fit(X).explain(X[0])
    >>> frame = explanation.to_frame()
    >>> bool(abs(frame.groupby("layer").contribution.sum() - explanation.value).max()
    ...      < 1e-6)
    True
    """

    attribution: Attribution
    values: list[np.ndarray]
    prediction: Any
    model_value: float | None = None
    model_prediction: Any = None

    @property
    def output_name(self) -> str:
        """Name of the output that is explained."""
        return self.attribution.output_names[self.attribution.output[0]]

    @property
    def value(self) -> float:
        """The output of the network, which the parts of each layer add up to."""
        return float(self.attribution.value[0])

    @property
    def gap(self) -> float | None:
        """What the network's output is above the model's; None without a model."""
        return None if self.model_value is None else self.value - self.model_value

    def to_frame(self) -> pd.DataFrame:
        """Make a data frame with a row for each part, the strongest of a layer first.

        Returns
        -------
        pandas.DataFrame
            Columns ``layer``, ``name``, ``value`` (of the input, as the network is fed
            it, or of the feature; nan for the constants, which are the last of each
            layer) and ``contribution``. Those of a layer add up to the output.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        columns: dict[str, list] = {}
        for layer, names, values, parts, constant in self._levels():
            found = {
                "layer": [layer] * (len(names) + 1),
                "name": [*names, CONSTANTS],
                "value": [*values.tolist(), np.nan],
                "contribution": [*parts.tolist(), constant],
            }
            for key, entries in found.items():
                columns.setdefault(key, []).extend(entries)
        return data_frame(columns)

    def _levels(self) -> Iterator[tuple]:
        """Yield each layer, the strongest of its parts first."""
        for (layer, names, parts, constants), values in zip(
            levels(self.attribution), self.values, strict=True
        ):
            order = np.argsort(-np.abs(parts[0]), kind="stable")
            sorted_names = [names[i] for i in order.tolist()]
            # No part is -0.0 in a file.
            own = parts[0][order] + 0.0
            yield layer, sorted_names, values[order], own, constants[0]

    def _parts(self) -> list[Part]:
        rows: list[tuple[str, str, str, float]] = []
        bars: list[float] = []
        most = max(1, min(_SHOWN, _MAX_ROWS // len(self.values) - 3))
        for layer, names, values, parts, constant in self._levels():
            n_shown = min(most, int(np.count_nonzero(parts)))
            shown = list(zip(names, values, parts, strict=True))[:n_shown]
            own = [(name, _text(value), part) for name, value, part in shown]
            rest, n_rest = parts[n_shown:].sum(), np.count_nonzero(parts[n_shown:])
            if n_rest:
                own.append((f"{n_rest:,} more", "", rest))
            own += [(CONSTANTS, "", constant), ("sum", "", parts.sum() + constant)]
            starts = [layer, *[""] * (len(own) - 1)]
            rows += [(start, *one) for start, one in zip(starts, own, strict=True)]
            bars += [*(part for _, _, part in own[:-1]), 0.0]
        longest = max(map(abs, bars), default=0.0) or 1.0
        table = [
            Column("layer", [row[0] for row in rows], is_text=True),
            Column("name", [row[1] for row in rows], is_text=True),
            Column("value", [row[2] for row in rows], _VALUE),
            Column(
                "contribution",
                [f"{row[3]:+.3f}" for row in rows],
                f"to {self._what()}; those of each layer add up to it, with the "
                "constants, which are what biases bring",
            ),
            Column("", [""] * len(rows), bars=[bar / longest for bar in bars]),
        ]
        return [*self._headings(), table]

    def _what(self) -> str:
        if self.prediction is None:
            return self.output_name
        return f"the logit of class {self.output_name}"

    def _headings(self) -> list[str]:
        first = f"{self._what()}: {self.value:.3f} by the network"
        if self.model_value is not None:
            first += (
                f", {self.model_value:.3f} by the model itself, gap {self.gap:+.3f}"
            )
        lines = [first]
        if self.prediction is not None:
            second = f"the network predicts {self.prediction}"
            if self.model_prediction is not None:
                if self.prediction == self.model_prediction:
                    second += ", as the model does"
                else:
                    second += (
                        f", but the model {self.model_prediction}: what is explained "
                        f"is not what the model does on this row"
                    )
            lines.append(second)
        if self.attribution.inputs is None:
            lines.append(
                "inputs are left out: the layers before the first features are curved, "
                "so no split among inputs is exact"
            )
        return lines


def explain(network: Any, x: Any, output: Any) -> Explanation:
    """Return what :meth:`SparseFeatureNetwork.explain` describes."""
    X = as_inputs(network, one_row(x, network.input_shape), "x")
    classes = getattr(network, "classes_", None)
    prediction = None
    features = checked_features(network, X)
    if classes is not None:
        outputs = network.predict_raw(X)
        prediction = decide(outputs, classes, network.decision_rule)[0]
        if output is None and network.n_outputs_ > 1:
            output = int(hard_predictions(outputs, network.decision_rule)[0])
    output = output_index(network, output)
    inputs = all(step.kind in PIECEWISE_LINEAR for step in walk(network.front.steps))
    values = [part[0] for part in features]
    return Explanation(
        attribute(network, X, output, inputs),
        [X[0], *values] if inputs else values,
        prediction,
    )


def output_index(network: NetworkArrays, output: Any) -> int | None:
    """Return the number of one output, given by its number or its name, or None.

    Raises
    ------
    ValueError
        If there is no such output.
    """
    if output is None:
        return None
    names, classes = network.output_names_, getattr(network, "classes_", ())
    one_logit = len(names) == 1 and len(classes) == 2
    note = f" (both classes share one logit, that of {names[0]!r})" * one_logit
    return number_of("output", output, names, or_none=True, note=note)


def one_row(x: Any, shape: tuple[int, ...] | None = None) -> Any:
    """Return rows that are one: a vector as a row, a Series with its names.

    It may also be one sample of maps of the given shape, which become a row.
    """
    if isinstance(x, Mapping):
        raise TypeError(
            f"x must be one row of numbers. Got a {type(x).__name__} instead."
        )
    if shape is not None and np.shape(x) in (shape, (1, *shape)):
        return np.reshape(x, (1, -1))
    if np.ndim(x) == 1:
        if hasattr(x, "to_frame") and hasattr(x, "T"):
            return x.to_frame().T.infer_objects()
        return np.reshape(x, (1, -1))
    found = np.shape(x)
    if len(found) != 2 or found[0] != 1:
        of_maps = "" if shape is None else f", or one sample of shape {shape}"
        raise ValueError(
            f"x must be one row, of shape (n_features,) or (1, n_features){of_maps}. "
            f"Got shape {found} instead."
        )
    return x


def _text(value: float) -> str:
    return f"{value:.4g}"
