"""Reading torch, skorch and scikit-learn models into a chain of plain steps."""

from skfeat.adapters._outputs import (
    check_labels,
    class_labels,
    head_slices,
    logits_end,
)
from skfeat.adapters._read import (
    N_COMPARED,
    check_chain,
    frozen_model,
    infer_task,
    model_classes,
    model_outputs,
    read_chain,
)
from skfeat.adapters._wrappers import Steps, check_rule, without_wrappers

__all__ = [
    "N_COMPARED",
    "Steps",
    "check_chain",
    "check_labels",
    "check_rule",
    "class_labels",
    "frozen_model",
    "head_slices",
    "infer_task",
    "logits_end",
    "model_classes",
    "model_outputs",
    "read_chain",
    "without_wrappers",
]
