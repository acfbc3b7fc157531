"""What a model card says of each class, from its fitted attributes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skfeat.chain._slopes import PIECEWISE_LINEAR
from skfeat.chain._steps import walk
from skfeat.sharing._state import ARRAYS, plain_params

_TAGS = ("skfeat", "interpretability")
_GUESS = (
    "Nothing here says what a feature stands for: a name that one gives it, from the "
    "rows that excite it most, is a guess until an intervention has tested it."
)


@dataclass
class Facts:
    """What a card says of one estimator.

    Attributes
    ----------
    title, what : str
        Its heading, and a sentence on what it computes.
    rows : list of tuple
        Names and values of the table of figures.
    variable : str
        What the example calls it.
    use : list of str
        Lines of the example that use it.
    tags : tuple of str
    note : str
        On what the figures were measured.
    limits : str
    file : str
        The file of its arrays.
    params : dict
        Parameters that differ from their defaults.
    """

    title: str
    what: str
    rows: list[tuple[str, Any]]
    variable: str
    use: list[str]
    tags: tuple[str, ...] = _TAGS
    note: str = ""
    limits: str = _GUESS
    file: str = ARRAYS
    params: dict[str, Any] = field(default_factory=dict)


# What an autoencoder and a transcoder make of the codes.
_RESULTS = {"autoencoder": "reconstruction", "transcoder": "prediction"}


def facts_of(kind: str, thing: Any) -> Facts:
    """Return what a card says of a fitted estimator."""
    return _FACTS[kind](thing)


def _autoencoder(sae: Any) -> Facts:
    m, d = map(int, sae.components_.shape)
    return _coder(
        sae,
        f"Sparse autoencoder: {m:,} features of {d:,} inputs",
        f"A fitted `SparseAutoencoder`. It writes a row of {d:,} numbers, as they are, "
        f"neither centred nor scaled, as few active features out of {m:,}, and back.",
        "autoencoder",
        [
            f"codes = autoencoder.transform(X)  # X has {d} columns",
            "X_again = autoencoder.inverse_transform(codes)",
        ],
    )


def _transcoder(transcoder: Any) -> Facts:
    m, d_out = map(int, transcoder.components_.shape)
    d = transcoder.encoder_coef_.shape[1]
    skip = ", beside a linear map of the row" if transcoder.skip else ""
    return _coder(
        transcoder,
        f"Transcoder: {m:,} features of {d:,} inputs that predict {d_out:,} outputs",
        f"A fitted `Transcoder`. It writes a row of {d:,} numbers, as they are, "
        f"neither centred nor scaled, as few active features out of {m:,}, and "
        f"predicts {d_out:,} other numbers from them{skip}.",
        "transcoder",
        [
            f"codes = transcoder.transform(X)  # X has {d} columns",
            "Y = transcoder.predict(X)",
        ],
    )


def _coder(sae: Any, title: str, what: str, variable: str, use: list[str]) -> Facts:
    m, d = map(int, sae.encoder_coef_.shape)
    name, k = sae._code
    rule = {
        "topk": f"the {k} largest of a row that are above zero",
        "relu": "all that are above zero",
        "jumprelu": "those above a threshold of each feature's own",
    }[name]
    rows: list[tuple[str, Any]] = [
        ("inputs", d),
        ("features", m),
        ("activation", sae.activation),
        ("active features", rule),
        ("precision of the weights", str(sae.components_.dtype)),
    ]
    measured = [
        ("active features a row (L0)", "l0_"),
        (f"R2 of the {_RESULTS[variable]}", "explained_variance_"),
        ("features active in no row of the last epoch", "n_dead_"),
        ("epochs", "n_iter_"),
        ("updates", "n_steps_"),
    ]
    rows += [(label, getattr(sae, key)) for label, key in measured if hasattr(sae, key)]
    note = (
        "L0 and R2 were measured after the fit on rows that it was fitted to, at most "
        "4,096 of them: on other rows R2 is lower as a rule."
        if hasattr(sae, "explained_variance_")
        else ""
    )
    return Facts(
        title,
        what,
        rows,
        variable,
        use,
        (*_TAGS, "sparse-autoencoder" if variable == "autoencoder" else variable),
        note,
        params=_changed(sae),
    )


def _ensemble(ensemble: Any) -> Facts:
    m, d = map(int, ensemble.components_.shape)
    n_fits = len(ensemble.autoencoders_)
    pairs = ensemble.matched_cosines_[~np.eye(n_fits, dtype=bool)]
    return Facts(
        f"Features that recur: {m:,} of {d:,} inputs, in {n_fits} fits",
        f"A fitted `FeatureEnsemble`: {n_fits} sparse autoencoders of the same rows "
        "from different seeds, and the features of one of them that are found again in "
        "the others.",
        [
            ("inputs", d),
            ("features that recur", m),
            ("features of each fit", len(ensemble.autoencoders_[0].components_)),
            ("fits", n_fits),
            ("mean cosine of paired features of two fits", float(pairs.mean())),
            ("fits in which a feature is found, on average", ensemble.support_.mean()),
        ],
        "ensemble",
        [
            f"codes = ensemble.transform(X)  # X has {d} columns",
            "X_again = ensemble.inverse_transform(codes)",
        ],
        (*_TAGS, "sparse-autoencoder"),
        params=_changed(ensemble),
    )


def _connector(connector: Any) -> Facts:
    q, p = map(int, connector.coef_.shape)
    n_weights = int(connector.coef_.nnz)
    end = "max(0, W x + b)" if connector._fitted_link == "relu" else "W x + b"
    return Facts(
        f"Sparse connector from {p:,} features to {q:,}",
        f"A fitted `{type(connector).__name__}`. It computes {q:,} features of a layer "
        f"from {p:,} of the layer before as `{end}`, with few weights W.",
        [
            ("inputs", p),
            ("outputs", q),
            ("nonzero weights", n_weights),
            ("share of all weights", n_weights / max(p * q, 1)),
            ("penalty (alpha)", connector.alpha_),
            ("iterations", connector.n_iter_),
            ("precision of the weights", str(connector.coef_.dtype)),
        ],
        "connector",
        [
            f"Y = connector.predict(X)  # X has {p} columns",
            "print(connector.formula(0, max_terms=5))",
        ],
        params=_changed(connector),
    )


def _mlp_connector(connector: Any) -> Facts:
    q, p = map(int, connector.coef_.shape)
    first, *_ = scores = connector.validation_scores_
    return Facts(
        f"Nonlinear connector from {p:,} features to {q:,}",
        f"A fitted `MLPConnector`. It computes {q:,} features of a layer from {p:,} of "
        "the layer before by a linear map and a hidden layer of ReLUs, with all their "
        "weights: it is there to show what sparse and linear maps miss.",
        [
            ("inputs", p),
            ("outputs", q),
            ("hidden units", len(connector.hidden_coef_)),
            ("R2 of the linear map alone", first),
            ("R2", max(scores)),
            ("epochs", connector.n_iter_),
            ("precision of the weights", str(connector.coef_.dtype)),
        ],
        "connector",
        [f"Y = connector.predict(X)  # X has {p} columns"],
        note="R2 was measured during the fit on rows that were held out.",
        params=_changed(connector),
    )


def _pair(pair: Any) -> Facts:
    read, written = len(pair.live_inputs_), len(pair.live_outputs_)
    d, d_out = pair.n_features_in_, len(pair.output_mean_)
    rows = [
        ("columns of X, the residual stream", d),
        ("columns of y, what the MLP writes", d_out),
        ("features read, those that fire", read),
        ("features read, all", len(pair.input_events_)),
        ("features written, those that fire", written),
        ("features written, all", len(pair.output_events_)),
        ("nonzero weights between them", int(pair.connector_.coef_.nnz)),
    ]
    for side in ("input", "output"):
        part = getattr(pair, f"{side}_autoencoder_")
        if hasattr(part, "explained_variance_"):
            label = f"R2 of the {side} autoencoder, on rows it was fitted to"
            rows.append((label, part.explained_variance_))
    return Facts(
        f"Sparse connections across an MLP: {read:,} features to {written:,}",
        "A fitted `LayerPair` of `skfeat.language`: an autoencoder of the residual "
        "stream before an MLP, one of what the MLP writes, and a sparse map between "
        "their features.",
        rows,
        "pair",
        [
            f"Y = pair.predict(X)  # X has {d} columns",
            "print(pair.formula(pair.live_outputs_[0], max_terms=5))",
        ],
        (*_TAGS, "sparse-autoencoder", "language-model"),
        params=_changed(pair),
    )


def _unwrapped_model(unwrapper: Any) -> Facts:
    layers = unwrapper.layers()
    rows: list[tuple[str, Any]] = [("replaced MLPs", len(layers))]
    for name, layer in zip(unwrapper.module_names_, layers, strict=True):
        sizes = f"{len(layer.encoder):,}"
        if layer.coef is not None:
            sizes += f" to {len(layer.decoder):,} by {layer.coef.nnz:,} weights"
        rows.append((f"features of {name}", sizes))
    return Facts(
        f"Sparse connections in place of {len(layers)} MLPs of a language model",
        "A fitted `ModelUnwrapper` of `skfeat.language`: in place of each MLP, sparse "
        "features of what it reads and few weights to those of its output, or a "
        "transcoder. The language model itself is not in the files.",
        rows,
        "unwrapper",
        [
            "unwrapper.set_params(model=language_model)  # the one it was fitted to",
            "on_features = unwrapper.to_torch()",
        ],
        (*_TAGS, "transcoder", "language-model"),
        params=_changed(unwrapper),
    )


def _network(network: Any) -> Facts:
    sizes = [f"{m:,}" for m in network.n_components_]
    layers = zip(network.layer_names_, sizes, strict=True)
    rows: list[tuple[str, Any]] = [
        ("inputs", network.n_features_in_),
        *((f"features of layer {name}", m) for name, m in layers),
        ("outputs", network.n_outputs_),
        ("nonzero weights between features", sum(network.n_weights_)),
        ("nonzero weights from the inputs", network.n_weights_in_),
        ("nonzero weights to the outputs", network.n_weights_out_),
        ("nonzero weights of all that runs", network.n_weights_all_),
        ("multiply-adds a row", network.n_multiply_adds()),
    ]
    classes = getattr(network, "classes_", None)
    if classes is not None:
        shown = ", ".join(map(str, classes[:12].tolist()))
        more = f" and {len(classes) - 12} more" if len(classes) > 12 else ""
        rows.insert(1, ("classes", shown + more))
    use = [f"y = network.predict(X)  # X has {network.n_features_in_} columns"]
    if classes is not None:
        use.append("probabilities = network.predict_proba(X)")
    if all(step.kind in PIECEWISE_LINEAR for step in walk(network.back.steps)):
        use.append("print(network.explain(X[:1]))")
    return Facts(
        f"Sparse network of {' + '.join(sizes)} features",
        "A `SparseFeatureNetwork`: a trained neural network rewritten as layers of "
        "features with few weights between them. It predicts with numpy and scipy "
        "alone.",
        [(name, value) for name, value in rows if value is not None],
        "network",
        use,
        limits=(
            "It stands in for the network that it was made of, and need not agree with "
            f"it on every row. {_GUESS}"
        ),
        file="network.npz",
    )


def _changed(estimator: Any) -> dict[str, Any]:
    """Return the parameters that a file keeps and that differ from their defaults."""
    kept = plain_params(estimator)
    defaults = plain_params(type(estimator)())
    missing = object()
    return {k: v for k, v in kept.items() if defaults.get(k, missing) != v}


_FACTS: dict[str, Callable[[Any], Facts]] = {
    "SparseAutoencoder": _autoencoder,
    "Transcoder": _transcoder,
    "FeatureEnsemble": _ensemble,
    "FeatureConnector": _connector,
    "FeatureConnectorCV": _connector,
    "LayerPair": _pair,
    "MLPConnector": _mlp_connector,
    "ModelUnwrapper": _unwrapped_model,
    "SparseFeatureNetwork": _network,
}
