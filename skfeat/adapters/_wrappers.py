"""What may stand around a network: a pipeline, a search, a decision threshold.

A fitted wrapper is taken apart: the steps before the network are applied to X, and the
network is read with the rule by which the wrapper chooses between two classes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from scipy.special import expit
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.pipeline import Pipeline

from skfeat.utils._decision import DecisionRule
from skfeat.utils._names import string_names
from skfeat.utils._sklearn import BaseSearchCV, curve_pos_label

FORGOTTEN = (
    "FeatureUnwrapper needs a trained model. scikit-learn's clone, which a search over "
    "models calls, forgets the fit of an estimator; FrozenEstimator(model) of "
    "sklearn.frozen keeps it."
)


class Steps(NamedTuple):
    """The fitted steps of pipelines that stand before a network, in order."""

    steps: tuple[tuple[str, Any], ...] = ()

    def transform(self, X: Any) -> tuple[np.ndarray, list[str] | None]:
        """Apply the steps.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            What the pipeline takes.

        Returns
        -------
        X : ndarray of shape (n, n_columns)
            What the network takes.
        names : list of str or None
            Names of its columns; None if a step does not tell.
        """
        names = string_names(X)
        for name, step in self.steps:
            try:
                X = step.transform(X)
            except NotFittedError as error:
                raise NotFittedError(
                    f"Step {name!r} of the Pipeline is not fitted; call pipe.fit(X, y) "
                    f"first. {FORGOTTEN}"
                ) from error
            names = string_names(X) or _names_out(step, names)
        return X.toarray() if sparse.issparse(X) else X, names


class Unwrapped(NamedTuple):
    """A network, and what stood around it."""

    network: Any
    steps: Steps
    rule: DecisionRule | None
    """None: the most likely class."""


def without_wrappers(model: Any) -> Unwrapped:
    """Take a model apart into the steps before its network, and the network.

    Raises
    ------
    TypeError
        If the last step of a pipeline is no network.
    ValueError
        If a search has kept no model, or a threshold is not one of probabilities.
    """
    steps: list[tuple[str, Any]] = []
    rule = None
    last = None
    while True:
        match model:
            case FrozenEstimator():
                model = model.estimator
            case Pipeline():
                steps += [
                    (name, step)
                    for name, step in model.steps[:-1]
                    # A sampler of imbalanced-learn works in fit alone.
                    if step not in (None, "passthrough")
                    and not hasattr(step, "fit_resample")
                ]
                last, model = model.steps[-1]
            case BaseSearchCV():
                model = _best(model)
            case FixedThresholdClassifier() | TunedThresholdClassifierCV():
                rule = rule or _rule_of_threshold(model)
                model = getattr(model, "estimator_", model.estimator)
            case _:
                break
    if last is not None and not _may_be_network(model):
        raise TypeError(
            f"the last step {last!r} of the Pipeline must be the network, a skorch net "
            f"or a scikit-learn MLPClassifier or MLPRegressor, got "
            f"{type(model).__name__}{remedy(model)}."
        )
    if rule is None and _is_binary_skorch(model):
        rule = DecisionRule(float(model.threshold))
    return Unwrapped(model, Steps(tuple(steps)), rule)


def check_rule(network: Any, ends_in_sigmoid: bool) -> None:
    """Raise ValueError if a skorch net makes other probabilities of its outputs."""
    find = getattr(network, "_get_predict_nonlinearity", None)
    if not _is_binary_skorch(network) or find is None:
        return
    import torch

    outputs = np.linspace(0.05, 0.95, 7) if ends_in_sigmoid else np.linspace(-3, 3, 7)
    expected = outputs if ends_in_sigmoid else expit(outputs)
    found = find()(torch.from_numpy(outputs))
    found = found[:, 1].numpy() if found.ndim == 2 and found.shape[1] == 2 else np.nan
    if not np.allclose(found, expected, atol=1e-6):
        returned = "probabilities" if ends_in_sigmoid else "logits"
        criterion = "BCELoss" if ends_in_sigmoid else "BCEWithLogitsLoss"
        raise ValueError(
            f"the module of this {type(network).__name__} returns {returned}, but its "
            f"criterion or predict_nonlinearity takes them for something else, so that "
            f"its threshold is not one of their probability; set "
            f"criterion=torch.nn.{criterion} and predict_nonlinearity='auto'."
        )


def remedy(model: Any) -> str:
    """Return what to pass in place of a wrapper that cannot be taken apart, or ''."""
    if hasattr(model, "calibrated_classifiers_"):
        return (
            ", whose calibration comes after the network; pass "
            "model.calibrated_classifiers_[0].estimator"
        )
    if hasattr(model, "regressor_"):
        return (
            ", which transforms what the network returns; pass model.regressor_, in "
            "transformed units"
        )
    if hasattr(model, "estimators_"):
        return ", which joins several models; pass one of model.estimators_"
    if hasattr(model, "estimator_"):
        return "; pass model.estimator_"
    return ""


def _best(search: Any) -> Any:
    best = getattr(search, "best_estimator_", None)
    if best is None:
        raise ValueError(
            f"this {type(search).__name__} has no best_estimator_; fit it with "
            f"refit=True. {FORGOTTEN}"
        )
    return best


def _rule_of_threshold(model: Any) -> DecisionRule:
    if model.response_method == "decision_function":
        raise ValueError(
            f"response_method of this {type(model).__name__} must be 'auto' or "
            f"'predict_proba', as networks have no decision_function, got "
            f"'decision_function'."
        )
    if isinstance(model, TunedThresholdClassifierCV):
        threshold = getattr(model, "best_threshold_", None)
        if threshold is None:
            raise NotFittedError(
                f"This {type(model).__name__} is not fitted. {FORGOTTEN}"
            )
        pos_label = curve_pos_label(model)
    else:
        threshold = 0.5 if model.threshold == "auto" else model.threshold
        pos_label = model.pos_label
    column = 1
    if pos_label is not None:
        classes = getattr(model, "estimator_", model.estimator).classes_
        column = int(np.flatnonzero(np.asarray(classes) == pos_label)[0])
    return DecisionRule(float(threshold), column, inclusive=True)


def _is_binary_skorch(model: Any) -> bool:
    # By name, so that skorch need not be installed.
    return any(
        cls.__name__ == "NeuralNetBinaryClassifier"
        and cls.__module__.partition(".")[0] == "skorch"
        for cls in type(model).__mro__
    )


def _may_be_network(model: Any) -> bool:
    has = ("__skfeat_chain__", "module", "module_", "coefs_", "hidden_layer_sizes")
    return any(hasattr(model, name) for name in has)


def _names_out(step: Any, names: list[str] | None) -> list[str] | None:
    try:
        return [str(name) for name in step.get_feature_names_out(names)]
    # A transformer of the user's own may tell none, or raise anything.
    except Exception:
        return None
