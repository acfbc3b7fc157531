"""Read a user's trained model as a :class:`~skfeat.chain.Chain`, and run it as it is.

Other kinds of model join by a method ``__skfeat_chain__(n_features)`` that returns a
chain (see :meth:`skfeat.chain.Chain.from_steps`); `n_features` may be None.
"""

import copy
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from sklearn.base import is_classifier, is_regressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skfeat.adapters._torch_modules import module_chain, read_operations
from skfeat.adapters._torch_ops import Op, unwrapped
from skfeat.adapters._torch_restore import kept_random_state, kept_tensors
from skfeat.adapters._torch_trace import calls_what_eval_passes_by
from skfeat.adapters._torch_unregistered import evaluating_unregistered
from skfeat.adapters._wrappers import FORGOTTEN, remedy, without_wrappers
from skfeat.chain import WHY_NOT_INNER, Chain, Step
from skfeat.chain._shapes import MapShape
from skfeat.utils._torch import dtypes_are_told, without_autocast

_EXPECTED = (
    "model must be a torch.nn.Module instance, a skorch net, a scikit-learn "
    "MLPClassifier or MLPRegressor, or a fitted Pipeline that ends in one, got"
)

# torch.fx patches nn.Module.__call__ for the whole process while it traces, and running
# a model in eval mode changes flags that every user of the model sees: one at a time.
_LOCK = threading.RLock()

# Rows on which a chain is compared with its model.
N_COMPARED = 256


def read_chain(
    model: Any,
    n_features: int | None = None,
    input_shape: tuple[int, ...] | None = None,
) -> Chain:
    """Read a fitted model as a chain of steps; the model is left as it was.

    Parameters
    ----------
    model : torch.nn.Module, skorch net, MLPClassifier or MLPRegressor
        Or any object with a method ``__skfeat_chain__(n_features)``. Of a Pipeline,
        a search or a classifier with a threshold, the network inside is read.
    n_features : int, default=None
        Width of the data the network will be given, to be checked.
    input_shape : tuple of int, default=None
        Of a convolutional model: the shape (channels, height, width) or (channels,
        time) of what it takes. The chain takes that in rows, channel by channel.

    Returns
    -------
    chain : Chain
        float64 if the model has float64 weights, else float32. Its arrays are copies.

    Raises
    ------
    TypeError
        If the model is not of a known kind or is not a chain of supported layers.
    ValueError
        If the model is not fitted, has no hidden layer, or takes another width.
    """
    if isinstance(model, type):
        raise TypeError(f"{_EXPECTED} the class {model.__name__}; pass an instance.")
    model = without_wrappers(model).network
    if hasattr(model, "__skfeat_chain__"):
        chain = model.__skfeat_chain__(n_features)
        if not isinstance(chain, Chain):
            raise TypeError(f"__skfeat_chain__ must return a Chain, got {chain!r}.")
    elif isinstance(model, MLPClassifier | MLPRegressor):
        chain = Chain.from_steps(_mlp_steps(model))
    else:
        with frozen_model(module_of(model)) as module, torch.no_grad():
            shape = None if input_shape is None else MapShape.of(input_shape)
            operations = read_operations(module, input_shape)
            chain = module_chain(module, n_features, operations, shape)
    if not chain.hidden:
        raise ValueError(
            f"{type(model).__name__} has no hidden layer to unwrap; it needs at least "
            "one: a Linear or a convolution followed by an activation, or a residual "
            "block, before the last of these (hidden_layer_sizes=(n,) of a "
            "scikit-learn MLP)"
            f"{f'; {WHY_NOT_INNER}' if chain.inner_names else ''}."
        )
    if n_features not in (None, chain.n_features_in):
        raise ValueError(
            f"model expects {chain.n_features_in} input features, X has {n_features}."
        )
    return chain


@contextmanager
def frozen_model(model: nn.Module) -> Iterator[nn.Module]:
    """Hold a module in eval mode, for this thread alone, and restore every flag.

    The flags are set one by one: a user's own ``train`` may do anything.
    """
    with _LOCK:
        flags = [(module, module.training) for module in model.modules()]
        try:
            for module, _ in flags:
                module.training = False
            yield model
        finally:
            for module, training in flags:
                module.training = training


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Run a module in eval mode and leave no trace of that, whatever it makes.

    Raises
    ------
    ValueError
        If it does not run and has weights of several dtypes.
    """
    with (
        dtypes_are_told(module),
        frozen_model(module),
        kept_tensors(module),
        kept_random_state(),
        evaluating_unregistered(module)
        if calls_what_eval_passes_by(module)
        else nullcontext(),
    ):
        yield


def model_outputs(
    model: Any,
    X: np.ndarray,
    batch_size: int = 4096,
    input_shape: tuple[int, ...] | None = None,
) -> np.ndarray:
    """Run the user's own model, in eval mode and with its hooks, on the rows of X.

    Parameters
    ----------
    model : torch.nn.Module, skorch net, MLPClassifier or MLPRegressor
        Or any object with a method ``__skfeat_chain__(n_features)``.
    X : ndarray of shape (n_samples, n_features)
        What the network takes, after the steps of a Pipeline before it; cast to the
        dtype and device of a torch model.
    batch_size : int, default=4096
        Rows a forward pass of a torch model.
    input_shape : tuple of int, default=None
        As of :func:`read_chain`.

    Returns
    -------
    outputs : ndarray of shape (n_samples, n_outputs)
        What the chain of the model computes: the tensor that a module returns, or
        several side by side; the probabilities of a MLPClassifier (of the second class
        alone if there are two).

    Raises
    ------
    TypeError
        If a module does not return tensors with a row a sample.
    """
    model = without_wrappers(model).network
    if isinstance(model, MLPClassifier | MLPRegressor):
        return _mlp_outputs(model, X)
    if hasattr(model, "__skfeat_chain__") and not isinstance(model, nn.Module):
        return read_chain(model).forward(X)
    module = module_of(model)
    with evaluating(module), torch.no_grad(), without_autocast():
        weights = (p for p in module.parameters() if p.is_floating_point())
        like = next(weights, torch.empty(0))
        outputs = []
        for start in range(0, len(X) or 1, batch_size):
            # A copy: torch warns about read-only arrays and a model may write on it.
            rows = np.array(X[start : start + batch_size], order="C")
            if input_shape is not None:
                rows = rows.reshape(len(rows), *input_shape)
            output = module(torch.from_numpy(rows).to(like.device, like.dtype))
            of_shape = "" if input_shape is None else f" of input_shape={input_shape}"
            parts = [as_rows(part, len(rows), of_shape) for part in parts_of(output)]
            outputs.append(np.concatenate(parts, axis=1))
    return np.concatenate(outputs)


def parts_of(output: Any) -> Iterator[Any]:
    """Yield the tensors that a module returns, in the order of its chain's heads."""
    if isinstance(output, dict):
        output = list(output.values())
    if not isinstance(output, list | tuple):
        yield output
        return
    for part in output:
        if part is not None:
            yield from parts_of(part)


def as_rows(output: Any, n_rows: int, of_shape: str = "") -> np.ndarray:
    if not isinstance(output, torch.Tensor) or not output.is_floating_point():
        raise TypeError(
            "the model must return 2-D tensors of real numbers, it returned a "
            f"{getattr(output, 'dtype', type(output).__name__)}."
        )
    if output.ndim < 2 and output.numel() == n_rows:
        output = output.reshape(n_rows, 1)
    if output.ndim != 2 or len(output) != n_rows:
        raise TypeError(
            "the model must return 2-D tensors with a row a sample, it returned "
            f"the shape {tuple(output.shape)} for {n_rows} rows{of_shape}."
        )
    dtype = torch.float64 if output.dtype == torch.float64 else torch.float32
    return output.detach().to("cpu", dtype).numpy()


def _mlp_outputs(model: MLPClassifier | MLPRegressor, X: np.ndarray) -> np.ndarray:
    check_is_fitted(model)
    # Without its feature names the model takes an array with no warning.
    nameless = copy.copy(model)
    vars(nameless).pop("feature_names_in_", None)
    if isinstance(model, MLPRegressor):
        return nameless.predict(X).reshape(len(X), -1)
    outputs = nameless.predict_proba(X)
    return outputs[:, 1:] if model.n_outputs_ == 1 else outputs


def check_chain(
    chain: Chain,
    model: Any,
    X: np.ndarray,
    input_shape: tuple[int, ...] | None = None,
) -> None:
    """Raise ValueError unless the chain computes the model's outputs on X.

    Up to `N_COMPARED` rows are compared; what may differ is rounding, relative to the
    largest output: 1e-6 of a float64 model, 1e-3 of a float32 and 2e-2 of a half one.
    """
    X = X[:N_COMPARED]
    with np.errstate(over="ignore", invalid="ignore"):
        outputs = model_outputs(model, X, input_shape=input_shape)
        found = chain.forward(X)
    check_outputs(chain, model, outputs, found)


def check_outputs(
    chain: Chain, model: Any, expected: np.ndarray, found: np.ndarray
) -> None:
    """Raise ValueError unless what a chain has found is what its model computes."""
    if not np.isfinite(found).all():
        raise ValueError(
            "the model's outputs on X are not finite; X may be too large for it."
        )
    difference = np.inf
    if expected.shape == found.shape:
        difference = np.abs(expected - found).max(initial=0.0)
    scale = np.abs(expected).max(initial=np.finfo(np.float32).tiny)
    # Not ">": a NaN must be refused too.
    if not difference <= _tolerance(chain, model) * scale:
        raise ValueError(
            "the model's forward does not equal the chain of its layers (largest "
            f"difference {difference:.3g}): a forward hook, an overridden method or an "
            "operation in place changes it."
        )


def _tolerance(chain: Chain, model: Any) -> float:
    module = getattr(model, "module_", model)
    if isinstance(module, nn.Module):
        dtypes = {p.dtype for p in module.parameters()}
        if dtypes & {torch.float16, torch.bfloat16}:
            return 2e-2
    return 1e-6 if chain.dtype == np.float64 else 1e-3


def infer_task(model: Any, chain: Chain | None = None) -> str | None:
    """Tell "classification" from "regression", or return None; never raises.

    The tags of scikit-learn and skorch models decide. Any other model
    classifies if it ends in a softmax or sigmoid, or has a single head with more than
    one output; what it ends in is that of its chain, where it is given.
    """
    try:
        model = without_wrappers(model).network
        if hasattr(model, "__sklearn_tags__"):
            if is_classifier(model):
                return "classification"
            if is_regressor(model):
                return "regression"
        kinds, n_outputs, n_heads = _output(model) if chain is None else _ends(chain)
    except Exception:  # whatever is wrong with the model, reading it will say
        return None
    probabilities = {"softmax", "log_softmax", "sigmoid"} & set(kinds)
    classifies = probabilities or (n_outputs > 1 and n_heads < 2)
    return "classification" if classifies else "regression"


def _output(model: Any) -> tuple[set[str], int, int]:
    """Kinds of step after the last weights, the number of outputs, and of heads."""
    if hasattr(model, "__skfeat_chain__"):
        return _ends(read_chain(model))
    with frozen_model(module_of(model)) as module, torch.no_grad():
        ops, head_names, _ = read_operations(module)
        return *_end(ops), len(head_names)


def _ends(chain: Chain) -> tuple[set[str], int, int]:
    kinds, _ = _end(chain.steps)
    return kinds, chain.n_outputs, len(chain.heads)


def _end(operations: Sequence[Step | Op]) -> tuple[set[str], int]:
    """Kinds of operation after the last weights, and how many outputs these have.

    A concatenation has the kinds of each of its branches.
    """
    last = max(i for i, op in enumerate(operations) if op.is_weighted)
    kinds = {op.kind for op in operations[last + 1 :]}
    end = operations[last]
    if not end.branches:
        arrays = end.tensors() if isinstance(end, Op) else end.arrays
        return kinds, len(arrays["coef" if isinstance(end, Step) else "weight"])
    ends = [
        _end(branch) for branch in end.branches if any(o.is_weighted for o in branch)
    ]
    if end.kind != "concatenate":
        return kinds, ends[0][1]
    n_unweighted = len(end.branches) - len(ends)
    return kinds.union(*(inner for inner, _ in ends)), n_unweighted + sum(
        n for _, n in ends
    )


def model_classes(model: Any) -> np.ndarray | None:
    """Return the ``classes_`` of a scikit-learn or skorch model, None without any."""
    return getattr(without_wrappers(model).network, "classes_", None)


def module_of(model: Any) -> nn.Module:
    if not isinstance(model, nn.Module):
        module = getattr(model, "module_", None)
        if module is None and hasattr(model, "module") and hasattr(model, "initialize"):
            raise ValueError(
                f"this {type(model).__name__} has no module yet; fit it first. "
                f"{FORGOTTEN}"
            )
        if not isinstance(module, nn.Module):
            kind = type(model).__name__
            if instead := remedy(model):
                raise TypeError(f"{_EXPECTED} a {kind}{instead}.")
            raise TypeError(f"{_EXPECTED} {model!r} of type {kind}.")
        model = module
    model = unwrapped(model)
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError(
            "FeatureUnwrapper cannot unwrap a TorchScript module; pass the "
            "torch.nn.Module it was made of."
        )
    if isinstance(model, torch.fx.GraphModule) and _is_exported(model):
        raise TypeError(
            "FeatureUnwrapper cannot unwrap a module of torch.export; pass the "
            "torch.nn.Module it was made of."
        )
    return model


def _is_exported(model: torch.fx.GraphModule) -> bool:
    """Tell whether its layers have become operations on weights, as of torch.export."""
    return any(
        isinstance(node.target, torch._ops.OpOverload) for node in model.graph.nodes
    )


def _mlp_steps(model: MLPClassifier | MLPRegressor) -> list[Step]:
    check_is_fitted(model, msg=f"This %(name)s is not fitted. {FORGOTTEN}")
    kinds = {"logistic": "sigmoid"}
    n_hidden = len(model.coefs_) - 1
    steps = []
    for i, (coef, intercept) in enumerate(
        zip(model.coefs_, model.intercepts_, strict=True)
    ):
        hidden = i < n_hidden
        arrays = {"coef": coef.T.copy(), "intercept": intercept.copy()}
        steps.append(Step("affine", f"hidden_{i}" if hidden else "output", arrays))
        activation = model.activation if hidden else model.out_activation_
        if hidden or activation != "identity":
            steps.append(Step(kinds.get(activation, activation)))
    return steps
