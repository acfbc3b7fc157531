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
from skfeat.maps._reads import positions_of
from skfeat.network import SparseFeatureNetwork, SparseMapNetwork
from skfeat.network._arrays import names_and_classes
from skfeat.solvers.joint._problem import Coder
from skfeat.solvers.joint._start import regress, start_rows
from skfeat.utils._frozen import is_frozen, unnamed
from skfeat.utils._ignored import ignored_are_told


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
    check_is_fitted(unwrapper)
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
    ValueError
        If the unwrapper has no connectors.

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
    check_is_fitted(unwrapper)
    rng = check_random_state(random_state)
    own = unwrapper.network()
    refuse_maps(own, "shuffled_control")
    connectors = connectors_of(unwrapper)
    if not connectors:
        raise ValueError(
            "unwrapper must have connectors, between two layers or at an end, for a "
            "control that shuffles what they read. Got one with a single layer instead."
        )
    rows = unwrapper.network_inputs(X)
    layers = _activations(unwrapper, rows)
    features = [
        EncoderWeights.from_autoencoder(part).encode(hidden)
        for part, hidden in zip(unwrapper.autoencoders_, layers, strict=True)
    ]
    reads_inputs = hasattr(unwrapper, "input_connector_")
    gives_outputs = hasattr(unwrapper, "output_connector_")
    if reads_inputs:
        features.insert(0, rows)
    if gives_outputs:
        features.append(unwrapper._model_values(rows))
    fitted = [
        _fitted_to(connector, _permuted(before, rng), after, rng)
        for connector, before, after in zip(
            connectors, features[:-1], features[1:], strict=True
        )
    ]
    between = fitted[reads_inputs : len(fitted) - gives_outputs]
    dtype = rows.dtype
    return SparseFeatureNetwork(
        front=own.front,
        encoder_coef=fitted[0][0].astype(dtype) if reads_inputs else own.encoder_coef_,
        encoder_intercept=fitted[0][1].astype(dtype)
        if reads_inputs
        else own.encoder_intercept_,
        encoder_bias=own.encoder_bias_,
        activation=own.activation,
        coefs=[coef.astype(dtype) for coef, _ in between],
        intercepts=[intercept.astype(dtype) for _, intercept in between],
        links=own.links,
        decoder_coef=fitted[-1][0].astype(dtype).T
        if gives_outputs
        else own.decoder_coef_,
        decoder_intercept=fitted[-1][1].astype(dtype)
        if gives_outputs
        else own.decoder_intercept_,
        back=own.back,
        layer_names=own.layer_names_,
        feature_names=own.feature_names_,
        **names_and_classes(own),
    )


def refuse_maps(network: Any, what: str) -> None:
    """Raise ValueError if a network is of maps, whose weights positions share."""
    if isinstance(network, SparseMapNetwork):
        raise ValueError(
            f"{what} is not possible with a convolutional model; "
            "untrained_control(unwrapper, X) is."
        )


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
    coef, intercept = regress(codes, rows, weights, m * d, fit_intercept=True)
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
