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
    chain, network = unwrapper._chain, unwrapper.network()
    classifies = hasattr(unwrapper, "classes_")
    stop = logits_end(chain, classifies)
    layers = [layer for layer in chain.hidden if layer.name in unwrapper.layer_names_]
    activations = layer_activations(chain, layers, X)
    # Of maps, what an autoencoder reads and what a connector reads are rows of
    # positions and of patches.
    maps = MapRows.of(network)
    own_features = network.features(X)
    metric = accuracy_score if classifies else r2
    model_decides = unwrapper._decide(model_logits)

    def score_of(logits, against=labels):
        return float(metric(against, unwrapper._decide(logits)))

    def fidelity_of(logits):
        fidelity = {"agreement": score_of(logits, model_decides)}
        if classifies:
            fidelity["kl"] = metrics.kl_divergence(model_logits, logits)
        return fidelity

    rows, before = [], None
    distilled = unwrapper.autoencoders_
    for index, (layer, autoencoder) in enumerate(
        zip(layers, unwrapper._undistilled or distilled, strict=True)
    ):
        hidden = maps.by_position(activations[index], index)
        codes = dense_codes(autoencoder, hidden)
        decoded = maps.by_channel(autoencoder.inverse_transform(codes), index)
        logits = chain.forward(decoded, layer.stop, stop)
        own = own_features[index].reshape(codes.shape)
        own_decoded = maps.by_channel(distilled[index].inverse_transform(own), index)
        row = {
            "layer": layer.name,
            "n_features": codes.shape[1],
            "l0": metrics.l0(codes),
            "n_dead": metrics.n_dead(codes),
            "fvu": metrics.fvu(activations[index], decoded),
            "decoder": "fitted",
            "score": score_of(logits),
            "score_up_to": score_of(chain.forward(own_decoded, layer.stop, stop)),
            **fidelity_of(logits),
        }
        connector = None
        if index:
            connector = unwrapper.connectors_[index - 1]
        elif hasattr(unwrapper, "input_connector_"):
            connector, before = unwrapper.input_connector_, X
        if connector is not None:
            predicted = maps.predict(connector, before, index).reshape(codes.shape)
            row["r2_true"] = 1 - metrics.fvu(codes, predicted)
            row["r2_network"] = 1 - metrics.fvu(codes, own)
            row["n_weights"] = connector.coef_.nnz
        rows.append(row)
        before = codes

    logits = network.raw_from_features(own_features[-1], layer=-1)
    mean = np.broadcast_to(unwrapper._means[-1], activations[-1].shape)
    floor_logits = chain.forward(mean, layers[-1].stop, stop)
    score_noise = metrics.paired_noise(
        _score_differences(
            labels, model_decides, unwrapper._decide(floor_logits), classifies
        )
    )
    by_position = [
        features.reshape(-1, m)
        for features, m in zip(own_features, maps.n_components, strict=True)
    ]
    rows.append(
        {
            "layer": "network",
            "n_features": sum(maps.n_components),
            "l0": sum(metrics.l0(features) for features in by_position),
            "n_dead": sum(metrics.n_dead(features) for features in by_position),
            "fvu": metrics.fvu(activations[-1], own_decoded),
            "decoder": "distilled" if _moved(unwrapper) else "fitted",
            "n_weights": sum(network.n_weights_)
            + (network.n_weights_in_ or 0)
            + (network.n_weights_out_ or 0),
            "n_weights_all": network.n_weights_all_,
            "n_weights_model": chain.n_weights(0, stop),
            "score": score_of(logits),
            "score_model": score_of(model_logits),
            "score_floor": score_of(floor_logits),
            **fidelity_of(logits),
            "multiply_adds": network.n_multiply_adds(compact=True),
            "multiply_adds_model": chain.n_multiply_adds(0, stop),
        }
    )
    table = None
    if controls is not None:

        def measured(logits):
            return {"score": score_of(logits), **fidelity_of(logits)}

        whole = rows[-1]
        of_model = {
            "n_weights_all": whole["n_weights_model"],
            "multiply_adds": whole["multiply_adds_model"],
            **measured(model_logits),
        }
        table = control_report(network, X, of_model, measured, controls)
    return Report(
        score_noise,
        table,
        **{name: [row.get(name, float("nan")) for row in rows] for name in _COLUMNS},
    )


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
