"""Controls with features: of autoencoders nobody trained, and of shuffled codes."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skfeat.activations import ReLU, TopK
from skfeat.autoencoder._joint import with_coder
from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder
from skfeat.kernels.inference._encode import EncoderWeights
from skfeat.maps._reads import Reads, positions_of
from skfeat.network import SparseFeatureNetwork, SparseMapNetwork
from skfeat.network._arrays import names_and_classes
from skfeat.solvers.joint._problem import Coder
from skfeat.solvers.joint._start import dense_start, start_rows
from skfeat.solvers.maps._start import n_patches
from skfeat.utils._checks import type_error
from skfeat.utils._frozen import is_frozen, unnamed
from skfeat.utils._ignored import ignored_are_told

# Maps whose features are shuffled, at most: of their many positions some are read.
_MOST_MAPS = 4096


def untrained_control(
    unwrapper: Any, X: Any, *, random_state: Any = None
) -> SparseFeatureNetwork:
    """Fit the network of an unwrapper over autoencoders that nobody trained.

    Encoders have random directions, as many and with as many active features a row as
    those of the unwrapper; decoders are the ridge regression of the layer on their
    codes. Connectors are fitted to these as the unwrapper fits its own, to as many
    weights. What this network keeps, no dictionary was needed for.

    Parameters
    ----------
    unwrapper : FeatureUnwrapper
        A fitted one.
    X : array-like of shape (n, n_features)
        Inputs of the model to fit on.
    random_state : int, RandomState instance or None, default=None
        Seeds the encoders; all else is seeded as in the unwrapper.

    Returns
    -------
    network : SparseFeatureNetwork

    Raises
    ------
    TypeError
        If `unwrapper` is none.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skfeat import FeatureUnwrapper, SparseAutoencoder
    >>> from skfeat.controls import untrained_control
    >>> X, y = load_iris(return_X_y=True)
    >>> X = (X - X.mean(axis=0)) / X.std(axis=0)
    >>> mlp = MLPClassifier((8, 8), "tanh", solver="lbfgs", alpha=1.0, random_state=0)
    >>> mlp = mlp.fit(X, y)
    >>> part = SparseAutoencoder(8, k=4, max_iter=40, random_state=0)
    >>> unwrapper = FeatureUnwrapper(mlp, autoencoder=part, random_state=0).fit(X)
    >>> network = untrained_control(unwrapper, X, random_state=0)
    >>> network.n_weights_ == unwrapper.network().n_weights_
    True
    """
    check_unwrapper(unwrapper)
    rng = check_random_state(random_state)
    rows = unwrapper.network_inputs(X)
    layers = _activations(unwrapper, rows)
    parts = [
        FrozenEstimator(_untrained(part, hidden, rng))
        for part, hidden in zip(unwrapper.autoencoders_, layers, strict=True)
    ]
    control = clone(unwrapper).set_params(autoencoder=parts)
    given = control.connector
    each = given if isinstance(given, list | tuple) else [given]
    if any(is_frozen(part) for part in each):
        control.set_params(connector=None)  # they connect other features
    connectors = connectors_of(unwrapper)
    if connectors:
        budgets = [connector.coef_.nnz for connector in connectors]
        control.set_params(n_nonzero_coefs=budgets)
    # Any labels with every class will do: they are only names.
    classes = getattr(unwrapper, "classes_", None)
    y = None if classes is None else np.resize(classes, len(rows))
    with ignored_are_told():
        return control.fit(X, y).network()


def shuffled_control(
    unwrapper: Any, X: Any, *, random_state: Any = None
) -> SparseFeatureNetwork:
    """Fit the connectors of an unwrapper to shuffled features: what chance keeps.

    Each feature's values are given to other rows, at random, before the connectors that
    read them are fitted, to as many weights. How often each feature is active and how
    strongly stays as it is; which rows it is active on does not. Autoencoders are those
    of the unwrapper.

    Parameters
    ----------
    unwrapper : FeatureUnwrapper
        A fitted one, with connectors.
    X : array-like of shape (n, n_features)
        Inputs of the model to fit on.
    random_state : int, RandomState instance or None, default=None
        Seeds the shuffles and the connectors.

    Returns
    -------
    network : SparseFeatureNetwork

    Raises
    ------
    TypeError
        If `unwrapper` is none.
    ValueError
        If it has no connectors.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skfeat import FeatureUnwrapper, SparseAutoencoder
    >>> from skfeat.controls import shuffled_control
    >>> X, y = load_iris(return_X_y=True)
    >>> X = (X - X.mean(axis=0)) / X.std(axis=0)
    >>> mlp = MLPClassifier((8, 8), "tanh", solver="lbfgs", alpha=1.0, random_state=0)
    >>> mlp = mlp.fit(X, y)
    >>> part = SparseAutoencoder(8, k=4, max_iter=40, random_state=0)
    >>> unwrapper = FeatureUnwrapper(mlp, autoencoder=part, random_state=0).fit(X)
    >>> network = shuffled_control(unwrapper, X, random_state=0)
    >>> bool((network.predict(X) == y).mean() < unwrapper.score(X, y))
    True
    """
    check_unwrapper(unwrapper)
    rng = check_random_state(random_state)
    own = unwrapper.network()
    connectors = connectors_of(unwrapper)
    if not connectors:
        raise ValueError(
            "unwrapper must have connectors, between two layers or at an end, for a "
            "control that shuffles what they read. Got one with a single layer instead."
        )
    rows = unwrapper.network_inputs(X)
    reads = _reads_of(own, len(connectors))
    if isinstance(own, SparseMapNetwork) and len(rows) > _MOST_MAPS:
        rows = rows[np.linspace(0, len(rows) - 1, _MOST_MAPS).astype(np.int64)]
    features = _features_and_ends(unwrapper, rows, reads)
    fitted = [
        _fitted_to(
            connector, *_read(_permuted(before, rng), after, own_reads, rng), rng
        )
        for connector, before, after, own_reads in zip(
            connectors, features[:-1], features[1:], reads, strict=True
        )
    ]
    return _network_with(
        own,
        [tuple(part.astype(rows.dtype) for part in weights) for weights in fitted],
        reads_inputs=hasattr(unwrapper, "input_connector_"),
        gives_outputs=hasattr(unwrapper, "output_connector_"),
    )


def check_unwrapper(unwrapper: Any) -> None:
    """Raise an error for what is no fitted unwrapper."""
    if not hasattr(unwrapper, "network_inputs"):
        raise type_error("unwrapper", "a fitted FeatureUnwrapper", unwrapper)
    check_is_fitted(unwrapper)


def _features_and_ends(
    unwrapper: Any, rows: np.ndarray, reads: list[Reads | None]
) -> list[np.ndarray]:
    """Return what the connectors join: features, and inputs or outputs at the ends."""
    layers = _activations(unwrapper, rows)
    features = [
        EncoderWeights.from_autoencoder(part).encode(hidden)
        for part, hidden in zip(unwrapper.autoencoders_, layers, strict=True)
    ]
    if hasattr(unwrapper, "input_connector_"):
        n_positions = 1 if reads[0] is None else reads[0].n_positions_in
        features.insert(0, positions_of(rows, n_positions))
    if hasattr(unwrapper, "output_connector_"):
        features.append(unwrapper._model_values(rows))
    return features


def _network_with(
    own: Any, fitted: list[tuple], *, reads_inputs: bool, gives_outputs: bool
) -> SparseFeatureNetwork:
    """Return a network like another, with weights and intercepts of new connectors."""
    between = fitted[reads_inputs : len(fitted) - gives_outputs]
    encoder, decoder = _ends_of(own)
    if reads_inputs:
        encoder = list(fitted[0])
    if gives_outputs:
        coef, intercept = fitted[-1]
        decoder = [coef.T, intercept]
    made: dict[str, Any] = {
        "front": own.front,
        "encoder_coef": encoder[0],
        "encoder_intercept": encoder[1],
        "encoder_bias": own.encoder_bias_,
        "activation": own.activation,
        "coefs": [coef for coef, _ in between],
        "intercepts": [intercept for _, intercept in between],
        "links": own.links,
        "decoder_coef": decoder[0],
        "decoder_intercept": decoder[1],
        "back": own.back,
        "layer_names": own.layer_names_,
        "feature_names": own.feature_names_,
        **names_and_classes(own),
    }
    if not isinstance(own, SparseMapNetwork):
        return SparseFeatureNetwork(**made)
    made["encoder_bias"] = own.shared_encoder_bias_
    made["activation"] = own.shared_activation
    kept = "map_shapes", "reads", "reads_in", "reads_out", "input_shape"
    return SparseMapNetwork(**made, **{name: getattr(own, name) for name in kept})


def _ends_of(network: Any) -> tuple[list, list]:
    """Return weights and intercepts of a network's encoder and decoder."""
    shared = "shared_" if isinstance(network, SparseMapNetwork) else ""
    encoder, decoder = (
        [getattr(network, f"{shared}{end}_{part}_") for part in ("coef", "intercept")]
        for end in ("encoder", "decoder")
    )
    return encoder, decoder


def _reads_of(network: Any, n_connectors: int) -> list[Reads | None]:
    """Return what each connector reads of maps, those of the ends too; None of rows."""
    if not isinstance(network, SparseMapNetwork):
        return [None] * n_connectors
    every = [network.reads_in, *network.reads, network.reads_out]
    return [reads for reads in every if reads is not None]


def _read(
    before: np.ndarray,
    after: np.ndarray,
    reads: Reads | None,
    rng: np.random.RandomState,
) -> tuple[np.ndarray, np.ndarray]:
    """Return what a connector reads, and computes, as rows: of maps some patches."""
    if reads is None:
        return before, after
    width = before.shape[1] * reads.n_places
    n = n_patches(width, len(after))
    drawn = rng.choice(len(after), n, replace=False)
    return reads.rows(before, *divmod(drawn, reads.n_positions_out)), after[drawn]


def connectors_of(unwrapper: Any) -> list:
    """Return all connectors, those of the ends first and last."""
    first, last = (
        getattr(unwrapper, f"{end}_connector_", None) for end in ("input", "output")
    )
    return [c for c in (first, *unwrapper.connectors_, last) if c is not None]


def _activations(unwrapper: Any, rows: np.ndarray) -> list[np.ndarray]:
    """Return the activations of the unwrapped layers, of maps position by position."""
    chain, found, position = unwrapper._chain, [], 0
    for layer in chain.hidden:
        if layer.name in unwrapper.layer_names_:
            rows = chain.forward(rows, position, layer.stop)
            position = layer.stop
            shape = layer.map_shape
            n_positions = 1 if shape is None else shape.n_positions
            found.append(positions_of(rows, n_positions))
    return found


def _untrained(
    part: SparseAutoencoder, hidden: np.ndarray, rng: np.random.RandomState
) -> SparseAutoencoder:
    """Return an autoencoder of random directions, of the shape of another."""
    m, d = part.components_.shape
    encoder = rng.standard_normal((m, d))
    encoder /= np.linalg.norm(encoder, axis=1, keepdims=True)
    rows = hidden[start_rows(len(hidden), m)].astype(np.float64)
    pre = (rows - rows.mean(axis=0)) @ encoder.T
    activation = part.make_activation()
    bias = np.zeros(m)
    if not isinstance(activation, TopK):
        # As many active features a row, as those that were trained have.
        codes = EncoderWeights.from_autoencoder(part).encode(rows)
        share = np.count_nonzero(codes) / codes.size
        bias = -np.quantile(pre, 1 - share, axis=0)
        activation = ReLU()
    codes = activation.encode(pre + bias)
    weights = np.full(len(rows), 1 / len(rows))
    coef, intercept = dense_start(codes, rows, weights, m * d, fit_intercept=True)
    shell = copy(part)
    shell.set_params(tied=False)
    if isinstance(activation, ReLU):
        shell.set_params(activation="relu")
        shell._code = ("relu", 0)
        shell.__dict__.pop("threshold_", None)
    bias = bias + encoder @ (intercept - rows.mean(axis=0))
    coder = Coder(encoder, bias, np.ascontiguousarray(coef.T), intercept, activation)
    return with_coder(shell, coder, hidden)


def _permuted(rows: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Return a copy in which each column has its values in an order of its own."""
    return np.stack([rng.permutation(column) for column in rows.T], axis=1)


def _fitted_to(
    connector: Any, X: np.ndarray, y: np.ndarray, rng: np.random.RandomState
) -> tuple:
    """Fit a connector like another, to as many weights; return its weights."""
    own = clone(unnamed(connector))
    own.set_params(
        n_nonzero_coefs=int(connector.coef_.nnz),
        random_state=rng.randint(np.iinfo(np.int32).max),
    )
    with ignored_are_told():
        own.fit(X, y)
    return own.coef_, own.intercept_
