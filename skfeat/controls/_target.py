"""What a control is fitted to: the outputs of a model, on rows that it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
from skfeat.chain import Step, merge_scales
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
    compute : callable
        Maps rows that the network takes to outputs (n, n_outputs): logits, or values.
    names : dict
        What `SparseFeatureNetwork` calls inputs and outputs, and has of a classifier.
    """

    steps: tuple[Step, ...]
    X: np.ndarray
    compute: Callable[[np.ndarray], np.ndarray]
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
    X : array-like of shape (n, n_features) or (n, channels, ...)
        What the model takes.
    task : {"auto", "classification", "regression"}
    """
    check_option("task", task, ("auto", "classification", "regression"))
    network, before, rule = without_wrappers(model)
    X, shape = accept_tensor(X), None
    if len(getattr(X, "shape", ())) > 2:
        shape = tuple(int(size) for size in X.shape[1:])
        X = np.asarray(X).reshape(len(X), -1)
    rows, input_names = before.transform(X)
    rows = check_array(rows, dtype=[np.float64, np.float32], input_name="X")
    chain = read_chain(network, rows.shape[1], shape)
    rows = rows.astype(chain.dtype, copy=False)
    check_chain(chain, network, rows, shape)
    if task == "auto":
        task = infer_task(model) or "regression"
    classes = None
    if task == "classification":
        check_rule(network, chain.steps[-1].kind == "sigmoid")
        classes = class_labels(None, chain, model_classes(model))
    stop = logits_end(chain, classes is not None)
    steps = chain.steps[:stop]
    return Target(
        # Weights of scales beside linear layers would run, but be in no budget.
        tuple(merge_scales([s for s in steps if s.kind != "identity"])),
        rows,
        chain.slice(0, stop).forward,
        {
            "input_names": input_names,
            "output_names": output_names(chain.n_outputs, classes, head_slices(chain)),
            "classes": classes,
            "decision_rule": None if classes is None else rule,
        },
    )
