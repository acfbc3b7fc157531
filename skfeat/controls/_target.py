"""What a control is fitted to: the outputs of a model, on rows that it takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.utils import check_array

from skfeat.adapters import (
    check_chain,
    check_rule,
    class_labels,
    head_slices,
    infer_task,
    logits_end,
    model_classes,
    read_chain,
    without_wrappers,
)
from skfeat.chain import Step
from skfeat.utils._arrays import accept_tensor
from skfeat.utils._checks import check_option
from skfeat.utils._names import output_names


@dataclass(frozen=True)
class Target:
    """A model read for a control.

    Parameters
    ----------
    steps : tuple of Step
        Up to the logits of a classifier, scales taken into linear layers.
    X : ndarray of shape (n, n_features)
        What the network takes, after the steps of a Pipeline.
    outputs : ndarray of shape (n, n_outputs)
        Logits, or values.
    names : dict
        What `SparseFeatureNetwork` calls inputs and outputs, and has of a classifier.
    """

    steps: tuple[Step, ...]
    X: np.ndarray
    outputs: np.ndarray
    names: dict[str, Any]

    @property
    def classifies(self) -> bool:
        """Whether outputs are logits."""
        return self.names["classes"] is not None


def read_target(model: Any, X: Any, task: str) -> Target:
    """Read a model, and run it on rows.

    Parameters
    ----------
    model : torch.nn.Module, skorch net, MLPClassifier, MLPRegressor or Pipeline
    X : array-like of shape (n, n_features)
        What the model takes.
    task : {"auto", "classification", "regression"}
    """
    check_option("task", task, ("auto", "classification", "regression"))
    network, before, rule = without_wrappers(model)
    rows, input_names = before.transform(accept_tensor(X))
    rows = check_array(rows, dtype=[np.float64, np.float32], input_name="X")
    chain = read_chain(network, rows.shape[1])
    rows = rows.astype(chain.dtype, copy=False)
    check_chain(chain, network, rows)
    if task == "auto":
        task = infer_task(model) or "regression"
    classes = None
    if task == "classification":
        check_rule(network, chain.steps[-1].kind == "sigmoid")
        classes = class_labels(None, chain, model_classes(model))
    stop = logits_end(chain, classes is not None)
    return Target(
        folded(chain.steps[:stop]),
        rows,
        chain.forward(rows, 0, stop),
        {
            "input_names": input_names,
            "output_names": output_names(chain.n_outputs, classes, head_slices(chain)),
            "classes": classes,
            "decision_rule": None if classes is None else rule,
        },
    )


def folded(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Take scales, as of batch normalisation, into the linear layers beside them."""
    found: list[Step] = []
    for step in steps:
        last = found[-1] if found else None
        if step.kind == "identity":
            continue
        if last is not None and (last.kind, step.kind) == ("affine", "scale"):
            coef, intercept = _wide(last, "coef", "intercept")
            weight, bias = _wide(step, "weight", "bias")
            found[-1] = _affine(last, coef * weight[:, None], intercept * weight + bias)
        elif last is not None and (last.kind, step.kind) == ("scale", "affine"):
            weight, bias = _wide(last, "weight", "bias")
            coef, intercept = _wide(step, "coef", "intercept")
            found[-1] = _affine(step, coef * weight, intercept + coef @ bias)
        else:
            found.append(step)
    return tuple(found)


def _wide(step: Step, *names: str) -> list[np.ndarray]:
    return [step.arrays[name].astype(np.float64) for name in names]


def _affine(like: Step, coef: np.ndarray, intercept: np.ndarray) -> Step:
    dtype = like.arrays["coef"].dtype
    arrays = {"coef": coef.astype(dtype), "intercept": intercept.astype(dtype)}
    return replace(like, arrays=arrays)
