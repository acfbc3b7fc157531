"""What the outputs of a model read into a chain stand for: classes, or values."""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from skfeat.utils._arrays import as_numpy

# What may follow the logits; the network of a classifier ends before it.
_OUTPUT_KINDS = ("softmax", "log_softmax", "sigmoid")


def logits_end(chain, classifies) -> int:
    """Return the step where a classifier's logits, or any values, are complete."""
    last = len(chain.steps)
    return last - (classifies and chain.steps[-1].kind in _OUTPUT_KINDS)


def head_slices(chain) -> dict[str, slice]:
    """Return the columns of each head of a chain."""
    return {head.name: slice(head.start, head.stop) for head in chain.heads}


def class_labels(y, chain, model_classes) -> np.ndarray:
    """Return the label of each output of a classifier.

    Parameters
    ----------
    y : array-like of shape (n,) or None
    chain : Chain
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
    n_outputs = chain.n_outputs
    if chain.heads:
        raise ValueError(
            f"model has {len(chain.heads)} heads "
            f"({', '.join(repr(head.name) for head in chain.heads)}), but "
            f"FeatureUnwrapper unwraps classifiers with one head; set "
            f"task='regression' to unwrap what all heads return, side by side, as "
            f"values, or pass a module that returns one of them."
        )
    if n_outputs > 1 and chain.steps[-1].kind == "sigmoid":
        raise ValueError(
            f"model gives a row several labels at once ({n_outputs} outputs, each with "
            f"a sigmoid), but FeatureUnwrapper unwraps classifiers with one label a "
            f"row; set task='regression' to unwrap the probabilities as values."
        )
    n_classes = max(2, n_outputs)
    if y is not None:
        y = _as_labels(y, warn=True)
    if model_classes is not None:
        if len(model_classes) == 1:
            (label,) = np.asarray(model_classes).tolist()
            raise ValueError(
                f"model was fitted on rows of a single class, {label!r}, and tells "
                f"nothing apart; fit it on rows of two classes or more."
            )
        if len(model_classes) != n_classes:
            raise ValueError(
                f"model has classes_ of {len(model_classes)} labels, but {n_outputs} "
                f"outputs for {n_classes} classes."
            )
        unknown = set() if y is None else set(y.tolist()) - set(model_classes.tolist())
        if unknown and _are_numbers_below(n_classes, y):
            # Ensembles and `cross_val_predict` number the classes before they fit.
            return np.arange(n_classes)
        if unknown:
            raise ValueError(
                f"y has the label {min(unknown, key=str)!r}, but the model's classes_ "
                f"are {model_classes.tolist()}; pass labels that the model knows, or "
                f"their numbers from 0 to {n_classes - 1}, or none."
            )
        return np.asarray(model_classes)
    if y is None:
        return np.arange(n_classes)
    labels = np.unique(y)
    if len(labels) == n_classes:
        return labels
    # Rows may lack a class, as in a fold: numbers still say which output is theirs.
    if _are_numbers_below(n_classes, labels):
        return np.arange(n_classes)
    raise ValueError(
        f"y has {len(labels)} classes, but the model has {n_outputs} outputs for "
        f"{n_classes} classes; pass y with every class, or as integers from 0 to "
        f"{n_classes - 1}."
    )


def check_labels(y, classes) -> np.ndarray:
    """Return the labels of rows that a classifier is scored on.

    They may have a label that it does not know, which it never finds.

    Parameters
    ----------
    y : array-like of shape (n,)
    classes : ndarray
        Labels of the classifier.

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    ValueError
        If y has no labels, or words where the classifier has numbers, or the reverse.
    """
    y = _as_labels(y)
    known = classes.tolist()
    other = [one for one in y.tolist() if _is_word(one) != _is_word(known[0])]
    if other:
        raise ValueError(
            f"y must have labels of the kind of classes_, which are {known}. Got "
            f"{other[0]!r} instead; a fit with y takes its labels from there."
        )
    return y


def _as_labels(y, *, warn: bool = False) -> np.ndarray:
    y = check_array(as_numpy(y, "y"), dtype=None, ensure_2d=False, input_name="y")
    y = column_or_1d(y, warn=warn)
    if type_of_target(y).startswith("continuous"):
        raise ValueError(
            "Unknown label type: continuous. The model is taken for a classifier, "
            "having several outputs or probabilities; if it gives values, set "
            "task='regression'."
        )
    check_classification_targets(y)
    return y


def _are_numbers_below(n_classes: int, labels: np.ndarray) -> bool:
    return labels.dtype.kind in "iuf" and bool(
        np.isin(labels, np.arange(n_classes)).all()
    )


def _is_word(label) -> bool:
    return isinstance(label, str)
