"""What an unwrapper does with chains, codes and outputs, free of any estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.special import logit
from sklearn.utils import check_array, column_or_1d

from skfeat.activations import ReLU
from skfeat.kernels.inference._encode import EncoderWeights
from skfeat.network._columns import check_same_names
from skfeat.utils._arrays import accept_tensor
from skfeat.utils._finite import all_finite
from skfeat.utils._stages import NotFiniteError


def as_numpy(X, name="X"):
    """Make a torch tensor a numpy array, with array API dispatch too."""
    X = accept_tensor(X, name)
    return X.cpu().numpy() if isinstance(X, torch.Tensor) else X


def check_model_columns(models, found) -> None:
    """Refuse columns of other names than those that models were fitted to.

    Parameters
    ----------
    models : sequence of estimator
        The model and what is inside it; those without ``feature_names_in_`` refuse
        nothing.
    found : list of str or None
        None: rows without names.

    Raises
    ------
    ValueError
        In the words of scikit-learn.
    """
    for model in models:
        fitted = getattr(model, "feature_names_in_", None)
        if fitted is not None:
            check_same_names(fitted, found)


def dense_codes(autoencoder, X) -> np.ndarray:
    """Encode rows into a dense array, whatever output the autoencoder is set to."""
    return EncoderWeights.from_autoencoder(autoencoder).encode(X)


def layer_activations(chain, layers, X) -> list[np.ndarray]:
    """Run the chain from layer to layer, and return each one's activations.

    Raises
    ------
    ValueError
        If they are not finite.
    """
    activations, position = [], 0
    for layer in layers:
        what = f"Activations of layer {layer.name!r}"
        X = finite_forward(chain, X, position, layer.stop, what)
        position = layer.stop
        activations.append(X)
    return activations


def finite_forward(chain, X, start: int, stop: int, what: str) -> np.ndarray:
    """Run a part of a chain on finite rows; raise ValueError if it leaves its range."""
    with np.errstate(over="ignore", invalid="ignore"):
        computed = chain.forward(X, start, stop)
    if not all_finite(computed):
        raise NotFiniteError.of(what)
    return computed


def to_logits(outputs, chain) -> np.ndarray:
    """Turn what a classifier returns into logits, undoing its last nonlinearity."""
    match chain.steps[-1].kind:
        case "softmax":
            return np.log(np.maximum(outputs, np.finfo(outputs.dtype).tiny))
        case "sigmoid":
            eps = np.finfo(outputs.dtype).eps
            return logit(np.clip(outputs, eps, 1 - eps))
    return outputs


def check_values(y, chain) -> None:
    """Raise ValueError unless y, if given, can be what a regressor predicts."""
    if y is not None:
        y = as_numpy(y, "y")
        y = check_array(y, dtype="numeric", ensure_2d=False, input_name="y")
        if chain.n_outputs == 1:
            column_or_1d(y, warn=True)
        elif y.shape[1:] != (chain.n_outputs,):
            raise ValueError(
                f"y must have a column for each of the model's {chain.n_outputs} "
                f"outputs, whose values are unwrapped as in regression. Got an array "
                f"of shape {y.shape} instead; for labels of classes, set "
                f"task='classification'."
            )


def network_arguments(
    chain, layers, autoencoders, connectors, stop, ends, n_inputs
) -> dict[str, Any]:
    """Return what a network of features is made of, up to step `stop` of the chain.

    `n_inputs` is how many inputs a first connector reads at a position.
    """
    first, last = autoencoders[0], autoencoders[-1]
    between = ends.between(connectors)

    def own(array):
        """Cast what may come from a frozen part of another precision."""
        return array.astype(chain.dtype, copy=False)

    if ends.input:
        reads = connectors[0]
        begin = {
            "front": chain.slice(0, 0),
            "encoder_coef": own(reads.coef_),
            "encoder_intercept": own(reads.intercept_),
            "encoder_bias": np.zeros(n_inputs, chain.dtype),
            "activation": ReLU(),
        }
    else:
        begin = {
            "front": chain.slice(0, layers[0].stop),
            "encoder_coef": own(first.encoder_coef_),
            "encoder_intercept": own(first.encoder_intercept_),
            "encoder_bias": own(first.intercept_),
            "activation": first.make_activation(),
        }
    if ends.output:
        end = {
            "decoder_coef": own(connectors[-1].coef_).T,
            "decoder_intercept": own(connectors[-1].intercept_),
            "back": chain.slice(stop, stop),
        }
    else:
        end = {
            "decoder_coef": own(last.components_),
            "decoder_intercept": own(last.intercept_),
            "back": chain.slice(layers[-1].stop, stop),
        }
    return {
        **begin,
        "coefs": [own(connector.coef_) for connector in between],
        "intercepts": [own(connector.intercept_) for connector in between],
        "links": [connector._fitted_link for connector in between],
        **end,
        "layer_names": [layer.name for layer in layers],
    }
