"""What raw outputs mean: labels and probabilities of a classifier, or values."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from types import MethodType
from typing import Any

import numpy as np

from skfeat.utils._checks import is_int
from skfeat.utils._decision import DecisionRule


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


def as_rule(rule: Any, n_classes: int) -> DecisionRule | None:
    """Check a rule, which only decides between two classes; None is no rule."""
    if rule is None:
        return None
    is_rule = isinstance(rule, tuple | list) and len(rule) == 3
    threshold: Any
    threshold, column, inclusive = rule if is_rule else (None, None, None)
    is_number = isinstance(threshold, Real) and not isinstance(threshold, bool)
    if (
        n_classes != 2
        or not is_number
        or not 0 <= float(threshold) <= 1
        or not (is_int(column) and column in (0, 1))
        or not isinstance(inclusive, bool | np.bool_)
    ):
        raise ValueError(
            f"decision_rule must be None or, for two classes, a DecisionRule of a "
            f"threshold from 0 to 1, a column 0 or 1 and a bool, got {rule!r} for "
            f"{n_classes} classes."
        )
    return DecisionRule(float(threshold), int(column), bool(inclusive))


def hard_predictions(logits: np.ndarray, rule: DecisionRule | None) -> np.ndarray:
    """Return the index of each row's class: the most likely, or by the rule.

    Parameters
    ----------
    logits : ndarray of shape (n, n_classes) or (n, 1)
        One column is the logit of the second of two classes.
    rule : DecisionRule or None

    Returns
    -------
    ndarray of int, shape (n,)
    """
    if rule is not None:
        return rule.decide(probabilities(logits))
    if logits.shape[1] == 1:
        return (logits[:, 0] > 0).astype(int)
    return logits.argmax(axis=1)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Return the probability of each class, of logits as `hard_predictions` takes."""
    if logits.shape[1] == 1:
        logits = np.hstack([np.zeros_like(logits), logits])
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def decide(
    outputs: np.ndarray, classes: np.ndarray | None, rule: DecisionRule | None
) -> np.ndarray:
    """Return the labels of a classifier, else the values, of one output as a vector."""
    if classes is not None:
        return classes[hard_predictions(outputs, rule)]
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
