"""What an unwrapper does with chains, codes and outputs, free of any estimator."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import expit, logit, softmax
from sklearn.utils import column_or_1d

from skfeat.network import SparseFeatureNetwork

# What may follow the logits; a network of features ends before it.
_OUTPUT_KINDS = ("softmax", "log_softmax", "sigmoid")


def layer_activations(chain, layers, X) -> list[np.ndarray]:
    """Run the chain from layer to layer, and return each one's activations."""
    activations, position = [], 0
    for layer in layers:
        X = chain.forward(X, position, layer.stop)
        position = layer.stop
        activations.append(X)
    return activations


def logits_end(chain) -> int:
    """Return the step where a chain's logits (or values) are complete."""
    last = len(chain.steps)
    return last - (chain.steps[-1].kind in _OUTPUT_KINDS)


def to_logits(outputs, chain) -> np.ndarray:
    """Turn what a model returns into logits, undoing its last nonlinearity."""
    match chain.steps[-1].kind:
        case "softmax":
            return np.log(np.maximum(outputs, np.finfo(outputs.dtype).tiny))
        case "sigmoid":
            eps = np.finfo(outputs.dtype).eps
            return logit(np.clip(outputs, eps, 1 - eps))
    return outputs


def class_labels(y, n_outputs, model_classes) -> np.ndarray:
    """Return the label of each output of a classifier.

    Parameters
    ----------
    y : array-like of shape (n,) or None
    n_outputs : int
    model_classes : ndarray or None
        The model's own labels, where it has some.

    Returns
    -------
    ndarray of shape (n_classes,)

    Raises
    ------
    ValueError
        If the labels cannot be those of the outputs.
    """
    n_classes = max(2, n_outputs)
    if model_classes is not None:
        return np.asarray(model_classes)
    if y is None:
        return np.arange(n_classes)
    labels = np.unique(column_or_1d(y))
    if len(labels) == n_classes:
        return labels
    # Rows may lack a class, as in a fold: integers still say which output is theirs.
    if np.issubdtype(labels.dtype, np.integer) and (
        labels.min() >= 0 and labels.max() < n_classes
    ):
        return np.arange(n_classes)
    raise ValueError(
        f"y has {len(labels)} classes, but the model has {n_outputs} outputs for "
        f"{n_classes} classes; pass y with every class, or as integers from 0 to "
        f"{n_classes - 1}."
    )


def hard_predictions(logits) -> np.ndarray:
    """Index of the most likely class; one column is the logit of the second of two."""
    if logits.shape[1] == 1:
        return (logits[:, 0] > 0).astype(int)
    return logits.argmax(axis=1)


def probabilities(logits) -> np.ndarray:
    """Probabilities of the classes."""
    if logits.shape[1] == 1:
        second = expit(logits)
        return np.hstack([1 - second, second])
    return softmax(logits, axis=1)


def decoder(chain, autoencoder, device):
    """Return the fixed, differentiable way from last features to outputs."""
    back = chain.torch_function(dtype=torch.float32, device=device)
    components, bias = (
        torch.tensor(array, dtype=torch.float32, device=device)
        for array in (autoencoder.components_, autoencoder.intercept_)
    )
    return lambda features: back(torch.addmm(bias, features, components))


def make_network(chain, layers, autoencoders, connectors) -> SparseFeatureNetwork:
    """Assemble the network of features."""
    first, last = autoencoders[0], autoencoders[-1]
    return SparseFeatureNetwork(
        front=chain.slice(0, layers[0].stop),
        encoder_coef=first.encoder_coef_,
        encoder_intercept=first.encoder_intercept_,
        encoder_bias=first.intercept_,
        activation=first.make_activation(),
        coefs=[connector.coef_ for connector in connectors],
        intercepts=[connector.intercept_ for connector in connectors],
        links=[connector.link for connector in connectors],
        decoder_coef=last.components_,
        decoder_intercept=last.intercept_,
        back=chain.slice(layers[-1].stop, logits_end(chain)),
        layer_names=[layer.name for layer in layers],
    )
