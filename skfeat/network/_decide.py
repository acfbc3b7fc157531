"""What raw outputs mean: labels and probabilities of a classifier, or values."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from types import MethodType
from typing import Any

import numpy as np


def as_classes(classes: Any, n_outputs: int) -> np.ndarray:
    """Copy the labels of a classifier, one for each output or two for one logit."""
    labels = np.array(classes)
    n_classes = max(2, n_outputs)
    if labels.shape != (n_classes,) or len(set(labels.tolist())) != n_classes:
        raise ValueError(
            f"classes must be {n_classes} different labels for the {n_outputs} "
            f"outputs, got {classes!r}."
        )
    return labels


def as_threshold(threshold: Any) -> float:
    """Return the probability above which the second of two classes is predicted."""
    is_number = isinstance(threshold, Real) and not isinstance(threshold, bool)
    if not is_number or not 0 <= float(threshold) <= 1:
        raise ValueError(
            f"decision_threshold must be a number from 0 to 1, got {threshold!r}."
        )
    return float(threshold)


def hard_predictions(logits: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Return the index of each row's class.

    Parameters
    ----------
    logits : ndarray of shape (n, n_classes) or (n, 1)
        One column is the logit of the second of two classes.
    threshold : float, default=0.5
        The probability above which that is the class.

    Returns
    -------
    ndarray of int, shape (n,)
    """
    if logits.shape[1] == 1:
        with np.errstate(divide="ignore"):
            least = np.log(threshold) - np.log1p(-threshold)
        return (logits[:, 0] > least).astype(int)
    return logits.argmax(axis=1)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Return the probability of each class, of logits as `hard_predictions` takes."""
    if logits.shape[1] == 1:
        logits = np.hstack([np.zeros_like(logits), logits])
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def decide(
    outputs: np.ndarray, classes: np.ndarray | None, threshold: float
) -> np.ndarray:
    """Return the labels of a classifier, else the values, of one output as a vector."""
    if classes is not None:
        return classes[hard_predictions(outputs, threshold)]
    return outputs.ravel() if outputs.shape[1] == 1 else outputs


class OfClassifiers:
    """A method that only networks with `classes_` have.

    It does what ``sklearn.utils.metaestimators.available_if`` does, of which nothing is
    imported here.

    Parameters
    ----------
    method : callable
    """

    def __init__(self, method: Callable[..., Any]):
        self.method = method

    def __get__(self, network: Any, owner: type) -> Any:
        if network is None:
            return self.method
        if not hasattr(network, "classes_"):
            raise AttributeError(
                f"This {owner.__name__} has no {self.method.__name__!r}: it has no "
                f"classes_, so its outputs are values."
            )
        return MethodType(self.method, network)
