"""Reading torch, skorch and scikit-learn models into a chain of plain steps."""

from skfeat.adapters._read import (
    check_chain,
    frozen_model,
    infer_task,
    model_classes,
    model_outputs,
    read_chain,
)

__all__ = [
    "check_chain",
    "frozen_model",
    "infer_task",
    "model_classes",
    "model_outputs",
    "read_chain",
]
