"""The report of an unwrapped network: what each layer and the whole have kept."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import accuracy_score

from skfeat import metrics
from skfeat.adapters import logits_end
from skfeat.metrics._reconstruction import r2
from skfeat.unwrapper._control_report import ControlReport, control_report
from skfeat.unwrapper._map_rows import MapRows
from skfeat.unwrapper._parts import dense_codes, layer_activations
from skfeat.utils._shown import Part
from skfeat.utils._table import Table, is_nan, titled_columns

# What the shown table has, under which title, and what it is; the lines below it say
# the rest.
_TITLES = {
    "layer": ("layer", ""),
    "n_features": ("features", ""),
    "l0": ("L0", "mean active features a row, in the row of a map's layer a position"),
    "n_dead": ("dead", "features active in no row"),
    "fvu": (
        "FVU",
        "share of the activations' variance that features leave unexplained",
    ),
    "r2_true": ("R2 true", "R2 of the connector, fed with the true features before it"),
    "r2_network": (
        "R2 net",
        "R2 of the connector, fed with the network's own features",
    ),
    "n_weights": (
        "weights",
        "nonzero ones that lead to the features; of the network, to its outputs too",
    ),
    "score": ("score", "accuracy or R2 with this layer alone replaced; of the network"),
    "score_up_to": ("up to", "score with this layer and all before it replaced"),
    "agreement": ("agree", "share of the model's labels kept, or R2 to its values"),
    "kl": ("KL", "mean divergence from the model's distribution, in nats"),
}
_COLUMNS = [*_TITLES, "decoder", "score_model", "score_floor"]
_COLUMNS += ["n_weights_all", "n_weights_model"]
_COLUMNS += ["multiply_adds", "multiply_adds_model"]


class Report(Table):
    """Columns of a report: lists with an entry a layer, and a last, "network".

    Entries that mean nothing in a row are nan. ``report.to_frame()`` makes it a data
    frame; printing it, or ending a notebook cell with it, shows a table.

    Parameters
    ----------
    score_noise : float, default=0.0
        As the attribute.
    controls : ControlReport or None, default=None
        As the attribute.
    **columns : list
        The columns.

    Attributes
    ----------
    layer : list of str
        Name of the layer; "network" for the whole.
    n_features : list of int
        Features of the layer; of all layers for the whole.
    l0 : list of float
        Mean active features a row, of a map's layer a position, of the autoencoder;
        for the whole, of all layers and positions as the network computes them.
    n_dead : list of int
        Features that are active for none of the rows.
    fvu : list of float
        Fraction of the activations' variance that the autoencoder leaves unexplained,
        as it was fitted; for the whole, of the last layer's as the network decodes
        them, with the decoder that distillation has trained.
    r2_true, r2_network : list of float
        R2 of the connector into this layer, over all features together, fed with the
        true features of the layer before, or with the network's own. It is fitted
        to the network's own: where these are far from the true ones, as they can be
        when few weights of the inputs compute them, `r2_true` may be far below zero.
    n_weights : list of int
        Nonzero weights of the connector into this layer; for the whole, of all
        connectors, those from the inputs and to the outputs too.
    n_weights_all, n_weights_model : list of int
        For the whole: nonzero weights of everything that runs, the model's layers that
        are kept, encoder and decoder included; and those of the model.
    score : list of float
        Accuracy or R2 with only this layer replaced by its reconstruction; for the
        whole, that of the network.
    score_up_to : list of float
        Accuracy or R2 with this layer and all before it run through features: the
        layer is decoded from what the network computes, the model does the rest. In
        the last layer that is the network, unless it has a connector to the outputs.
    agreement : list of float
        With what `score` is of: share of rows where a classifier's label is the
        model's; R2 against the model's values for a regressor.
    kl : list of float
        With what `score` is of: mean divergence from the model's distribution, in
        nats; of classifiers only.
    decoder : list of {"fitted", "distilled"}
        Whose decoder `fvu` and, in the rows of layers, `score`, `agreement` and `kl`
        are of: the one that the autoencoder was fitted with, or the one that
        distillation has made of it, as the network and ``autoencoders_[-1]`` have it.
        The row of the last layer is of the fitted one, which is the
        ``autoencoders_[-1]`` of the same unwrapper with ``distill=False`` and the same
        `random_state`, an int.
    score_model, score_floor : list of float
        Of the model itself, and of the model with its last unwrapped layer replaced by
        its mean over the rows that were fitted (mean ablation).
    score_noise : float
        Noise of the difference between these two on the rows of the report; see
        :func:`skfeat.metrics.paired_noise`. No column of the data frame.
    floor_within_noise : bool
        Whether they differ by no more than this. No score of features then tells
        whether they keep what the layer does, and neither does
        :func:`skfeat.metrics.score_kept`.
    multiply_adds, multiply_adds_model : list of int
        For one row, of the compacted network and of the model.
    controls : ControlReport or None
        The model, the network and its controls side by side, if controls were given. No
        column of the data frame.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skfeat import FeatureUnwrapper, SparseAutoencoder
    >>> X, y = load_iris(return_X_y=True)
    >>> X = (X - X.mean(axis=0)) / X.std(axis=0)
    >>> mlp = MLPClassifier((8, 8), "tanh", solver="lbfgs", alpha=1.0, random_state=0)
    >>> mlp = mlp.fit(X, y)
    >>> part = SparseAutoencoder(8, k=4, max_iter=40, random_state=0)
    >>> unwrapper = FeatureUnwrapper(mlp, autoencoder=part, random_state=0).fit(X)
    >>> report = unwrapper.report(X, y)
    >>> report.layer
    ['hidden_0', 'hidden_1', 'network']
    >>> report.n_features
    [8, 8, 16]
    """

    score_noise: float
    controls: ControlReport | None

    def __init__(
        self,
        score_noise: float = 0.0,
        controls: ControlReport | None = None,
        **columns: list,
    ):
        super().__init__({"score_noise": score_noise, "controls": controls}, columns)

    @property
    def floor_within_noise(self) -> bool:
        """Whether the model and its floor score the same but for noise."""
        span = self["score_model"][-1] - self["score_floor"][-1]
        return bool(abs(span) <= self.score_noise)

    def __str__(self) -> str:
        controls = "" if self.controls is None else f"\n\n{self.controls}"
        return super().__str__() + controls

    def _repr_html_(self) -> str:
        controls = "" if self.controls is None else self.controls._repr_html_()
        return super()._repr_html_() + controls

    def _parts(self) -> list[Part]:
        titles = {
            name: title
            for name, title in _TITLES.items()
            if not all(is_nan(value) for value in self[name])
        }
        columns = titled_columns(
            titles, lambda name: [_text(name, value) for value in self[name]]
        )
        return [columns, *self._lines_below()]

    def _lines_below(self):
        """Say what is of the whole alone, if the report has the whole."""
        whole = {name: column[-1] for name, column in self.items()}
        if is_nan(whole["score_model"]):
            return []
        text = {name: _text(name, value) for name, value in whole.items()}
        scores = (
            f"score of the model {text['score_model']}, with the mean of its last "
            f"unwrapped layer {text['score_floor']}"
        )
        if self.floor_within_noise:
            noise = f"{self.score_noise:.4f}"
            scores += f" (floor within noise: they differ by no more than {noise})"
        weights = (
            f"nonzero weights of all that runs {text['n_weights_all']}, of the model "
            f"{text['n_weights_model']}"
        )
        costs = (
            f"multiply-adds a row {text['multiply_adds']}, of the model "
            f"{text['multiply_adds_model']}"
        )
        if whole["decoder"] == "fitted":
            return [scores, weights, costs]
        layer = self["layer"][-2]
        decoder = (
            f"row {layer}: the autoencoder as fitted; distillation has moved the "
            f"decoder of autoencoders_[-1]"
        )
        return [scores, weights, costs, decoder]


def make_report(unwrapper, X, model_logits, labels, controls=None) -> Report:
    """Measure a fitted unwrapper on validated rows.

    Parameters
    ----------
    unwrapper : FeatureUnwrapper
        Fitted.
    X : ndarray of shape (n, n_features)
    model_logits : ndarray of shape (n, n_outputs)
        The model's logits or values.
    labels : ndarray
        What scores are measured against.
    controls : dict of str to network, default=None

    Returns
    -------
    Report
    """
    scores = _Scores(unwrapper, model_logits, labels)
    parts = _Parts(unwrapper, X, scores)
    rows, before = [], X
    for index in range(len(parts.layers)):
        row, before = parts.layer(index, before)
        rows.append(row)
    floor_logits = parts.floor()
    whole = parts.whole(floor_logits)
    rows.append(whole)
    table = None
    if controls is not None:
        of_model = {
            "n_weights_all": whole["n_weights_model"],
            "multiply_adds": whole["multiply_adds_model"],
            **scores.measured(model_logits),
        }
        table = control_report(parts.network, X, of_model, scores.measured, controls)
    return Report(
        scores.noise(floor_logits),
        table,
        **{name: [row.get(name, float("nan")) for row in rows] for name in _COLUMNS},
    )


class _Scores:
    """Scores of logits, against labels and against what the model decides."""

    def __init__(self, unwrapper, model_logits, labels):
        self.classifies = hasattr(unwrapper, "classes_")
        self.metric = accuracy_score if self.classifies else r2
        self.decide, self.labels = unwrapper._decide, labels
        self.model_logits = model_logits
        self.model_decides = self.decide(model_logits)

    def score(self, logits) -> float:
        return float(self.metric(self.labels, self.decide(logits)))

    def measured(self, logits) -> dict[str, float]:
        """Return the score, and how faithful the logits are to the model's."""
        decided = self.decide(logits)
        found = {
            "score": float(self.metric(self.labels, decided)),
            "agreement": float(self.metric(self.model_decides, decided)),
        }
        if self.classifies:
            found["kl"] = metrics.kl_divergence(self.model_logits, logits)
        return found

    def noise(self, floor_logits) -> float:
        """Return the noise of the model's score minus that of a floor."""
        floor = self.decide(floor_logits)
        return metrics.paired_noise(
            _score_differences(self.labels, self.model_decides, floor, self.classifies)
        )


class _Parts:
    """The layers of a fitted unwrapper and its network, measured on some rows."""

    def __init__(self, unwrapper, X, scores: _Scores):
        self.unwrapper, self.scores = unwrapper, scores
        self.chain, self.network = unwrapper._chain, unwrapper.network()
        self.stop = logits_end(self.chain, scores.classifies)
        self.layers = [
            layer for layer in self.chain.hidden if layer.name in unwrapper.layer_names_
        ]
        self.activations = layer_activations(self.chain, self.layers, X)
        # Of maps, what an autoencoder reads and what a connector reads are rows of
        # positions and of patches.
        self.maps = MapRows.of(self.network)
        self.own_features = self.network.features(X)
        self.by_position = [
            features.reshape(-1, m)
            for features, m in zip(
                self.own_features, self.maps.n_components, strict=True
            )
        ]
        self.own_decoded = [
            self.maps.by_channel(coder.inverse_transform(features), index)
            for index, (coder, features) in enumerate(
                zip(unwrapper.autoencoders_, self.by_position, strict=True)
            )
        ]

    def layer(self, index: int, before: np.ndarray) -> tuple[dict, np.ndarray]:
        """Measure a layer; return its row, and its features (n, m).

        `before` is what its connector reads: the features of the layer before, or X.
        """
        unwrapper, layer, maps = self.unwrapper, self.layers[index], self.maps
        fitted = unwrapper._undistilled or unwrapper.autoencoders_
        codes = dense_codes(
            fitted[index], maps.by_position(self.activations[index], index)
        )
        decoded = maps.by_channel(fitted[index].inverse_transform(codes), index)
        own_logits = self._logits_from(layer, self.own_decoded[index])
        row = {
            "layer": layer.name,
            "n_features": codes.shape[1],
            "l0": metrics.l0(codes),
            "n_dead": metrics.n_dead(codes),
            "fvu": metrics.fvu(self.activations[index], decoded),
            "decoder": "fitted",
            "score_up_to": self.scores.score(own_logits),
            **self.scores.measured(self._logits_from(layer, decoded)),
        }
        if index:
            connector = unwrapper.connectors_[index - 1]
        else:
            connector = getattr(unwrapper, "input_connector_", None)
        if connector is not None:
            predicted = maps.predict(connector, before, index).reshape(codes.shape)
            row["r2_true"] = 1 - metrics.fvu(codes, predicted)
            row["r2_network"] = 1 - metrics.fvu(codes, self.by_position[index])
            row["n_weights"] = connector.coef_.nnz
        return row, codes

    def whole(self, floor_logits: np.ndarray) -> dict:
        """Measure the network."""
        network, scores = self.network, self.scores
        logits = network.raw_from_features(self.own_features[-1], layer=-1)
        return {
            "layer": "network",
            "n_features": sum(self.maps.n_components),
            "l0": sum(metrics.l0(features) for features in self.by_position),
            "n_dead": sum(metrics.n_dead(features) for features in self.by_position),
            "fvu": metrics.fvu(self.activations[-1], self.own_decoded[-1]),
            "decoder": "distilled" if _moved(self.unwrapper) else "fitted",
            "n_weights": sum(network.n_weights_)
            + (network.n_weights_in_ or 0)
            + (network.n_weights_out_ or 0),
            "n_weights_all": network.n_weights_all_,
            "n_weights_model": self.chain.n_weights(0, self.stop),
            "score_model": scores.score(scores.model_logits),
            "score_floor": scores.score(floor_logits),
            **scores.measured(logits),
            "multiply_adds": network.n_multiply_adds(compact=True),
            "multiply_adds_model": self.chain.n_multiply_adds(0, self.stop),
        }

    def floor(self) -> np.ndarray:
        """Return the logits of the last layer's mean."""
        mean = np.broadcast_to(self.unwrapper._means[-1], self.activations[-1].shape)
        return self._logits_from(self.layers[-1], mean)

    def _logits_from(self, layer, activations: np.ndarray) -> np.ndarray:
        return self.chain.forward(activations, layer.stop, self.stop)


def _score_differences(labels, predicted, floor, classifies) -> np.ndarray:
    """Return what each row adds to the score of predictions minus that of a floor.

    The mean over all rows is the difference of the scores, accuracy or R2.
    """
    if classifies:
        return (predicted == labels).astype(float) - (floor == labels)
    values, predicted, floor = (
        np.asarray(part, dtype=np.float64).reshape(len(labels), -1)
        for part in (labels, predicted, floor)
    )
    spread = np.square(values - values.mean(axis=0)).mean(axis=0)
    gain = np.square(values - floor) - np.square(values - predicted)
    # The R2 of an output that does not vary is no ratio.
    return np.divide(gain, spread, out=np.zeros_like(gain), where=spread > 0).mean(
        axis=1
    )


def _moved(unwrapper) -> bool:
    """Tell whether distillation has trained the last decoder."""
    if unwrapper._undistilled is None:
        return False  # trained together, decoders are those of their autoencoders
    fitted, own = unwrapper._undistilled[-1], unwrapper.autoencoders_[-1]
    return own.components_ is not fitted.components_


def _text(name, value) -> str:
    if is_nan(value):
        return ""
    if isinstance(value, float):
        return f"{value:.1f}" if name == "l0" else f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
