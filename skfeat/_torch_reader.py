"""Read a torch module as a chain: its layers one by one, a custom forward by torch.fx.

``skfeat.adapters.read_chain`` holds the module in eval mode meanwhile.
"""

import builtins
import operator
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.fx
import torch.nn.functional as F
from torch import nn

from skfeat.chain import Chain, Step, merge_scales

_SUPPORTED = (
    "supported: chains of Linear, ReLU, LeakyReLU, ELU, GELU, SiLU, Tanh, Sigmoid, "
    "Softmax and LogSoftmax (over the last dimension), BatchNorm1d, LayerNorm, "
    "Dropout, Identity and Flatten"
)

# What a module without weights calls, and which of its attributes are the arguments.
_CALLS: dict[type[nn.Module], tuple[str, tuple[str, ...]]] = {
    nn.ReLU: ("relu", ()),
    nn.LeakyReLU: ("leaky_relu", ("negative_slope",)),
    nn.ELU: ("elu", ("alpha",)),
    nn.GELU: ("gelu", ("approximate",)),
    nn.SiLU: ("silu", ()),
    nn.Tanh: ("tanh", ()),
    nn.Sigmoid: ("sigmoid", ()),
    nn.Softmax: ("softmax", ("dim",)),
    nn.LogSoftmax: ("log_softmax", ("dim",)),
    nn.Flatten: ("flatten", ("start_dim", "end_dim")),
    nn.Dropout: ("clone", ()),
    nn.AlphaDropout: ("clone", ()),
    nn.Identity: ("clone", ()),
}
_WEIGHTED: tuple[type[nn.Module], ...] = (nn.Linear, nn.BatchNorm1d, nn.LayerNorm)
_POSITIONAL = {
    "leaky_relu": ("negative_slope",),
    "elu": ("alpha",),
    "softmax": ("dim",),
    "log_softmax": ("dim",),
    "dropout": ("p", "training"),
    "flatten": ("start_dim", "end_dim"),
    "squeeze": ("dim",),
    "linear": ("weight", "bias"),
}


class _Op(NamedTuple):
    """One operation of a torch model; its weights are read only when asked for."""

    kind: str  # a kind of Step, "linear", "batch_norm", or "" for no change
    name: str = ""
    settings: dict[str, float] = {}  # noqa: RUF012
    tensors: Callable[[], dict[str, torch.Tensor]] = dict
    width: int | None = None  # the width that a reshape takes for granted


def _module_chain(ops: list[_Op]) -> Chain:
    steps: list[Step] = []
    dtypes: set[torch.dtype] = set()
    n_features_in = width = None
    for op in ops:
        if op.width is not None:
            if width is None:
                n_features_in = op.width
            elif width != op.width:
                raise _refusal(f"a reshape of {width} values a row to {op.width}")
            width = op.width
        elif op.kind:
            tensors = op.tensors()
            dtypes |= {tensor.dtype for tensor in tensors.values()}
            arrays = {k: _float64(v, k, op.name) for k, v in tensors.items()}
            steps.append(_step(op, arrays))
            width = steps[-1].widths[1] if steps[-1].widths else width
    if width is None:
        n_features_in = 0  # no layer at all, hence no hidden one: read_chain refuses it
    # Rounded once, after the merging.
    dtype = np.float64 if torch.float64 in dtypes else np.float32
    cast = [
        replace(step, arrays={k: v.astype(dtype) for k, v in step.arrays.items()})
        for step in merge_scales(steps)
    ]
    return Chain.from_steps(cast, n_features_in)


def _float64(tensor: torch.Tensor, what: str, name: str) -> np.ndarray:
    if nn.parameter.is_lazy(tensor):
        raise ValueError(
            f"layer {name!r} is not initialised yet; run one forward pass first."
        )
    if tensor.is_meta:
        raise ValueError(f"layer {name!r} is on the meta device and has no values.")
    if not tensor.is_floating_point():
        raise _refusal(f"layer {name!r}, whose {what} is {tensor.dtype}")
    array = tensor.detach().to("cpu", torch.float64, copy=True).numpy()
    if not np.isfinite(array).all():
        raise ValueError(f"the {what} of layer {name!r} has NaN or infinite values.")
    return array


def _step(op: _Op, arrays: dict[str, np.ndarray]) -> Step:
    match op.kind:
        case "linear":
            coef = arrays["weight"]
            intercept = arrays.get("bias", np.zeros(len(coef)))
            return Step("affine", op.name, {"coef": coef, "intercept": intercept})
        case "batch_norm":
            deviation = np.sqrt(arrays["running_var"] + op.settings["eps"])
            weight = arrays.get("weight", 1.0) / deviation
            bias = arrays.get("bias", 0.0) - arrays["running_mean"] * weight
            return Step("scale", op.name, {"weight": weight, "bias": bias})
        case "layer_norm":
            weight = arrays["weight"]
            bias = arrays.get("bias", np.zeros(len(weight)))
            return Step(op.kind, op.name, {"weight": weight, "bias": bias}, op.settings)
    return Step(op.kind, op.name, {}, op.settings)


def _refusal(what: str) -> TypeError:
    return TypeError(f"FeatureUnwrapper cannot unwrap {what}; {_SUPPORTED}.")


def _operations(root: nn.Module) -> list[_Op]:
    # Nothing process-wide has to be patched for a Sequential, so fx is kept for custom
    # forwards.
    leaves = list(_leaves(root))
    if not all(map(_known, leaves)):
        return _trace(root)
    paths = {module: path for path, module in root.named_modules()}
    return [_module_op(leaf, paths[leaf]) for leaf in leaves]


def _runs(module: nn.Module, cls: type[nn.Module]) -> bool:
    """Whether calling the module runs the forward of this class, not an override."""
    own = "forward" in vars(module) or type(module).forward is not cls.forward
    return isinstance(module, cls) and not own


def _known(module: nn.Module) -> type[nn.Module] | None:
    return next((cls for cls in (*_WEIGHTED, *_CALLS) if _runs(module, cls)), None)


def _leaves(module: nn.Module) -> Iterator[nn.Module]:
    module = _uncompiled(module)
    if isinstance(module, nn.Sequential) and _runs(module, nn.Sequential):
        for child in module:
            yield from _leaves(child)
    else:
        yield module


def _module_op(module: nn.Module, name: str) -> _Op:
    cls = _known(module)
    what = f"layer {name!r} ({type(module).__name__})"
    if cls is None:
        raise _refusal(what)
    if cls in _CALLS:
        function, attributes = _CALLS[cls]
        arguments = {attribute: getattr(module, attribute) for attribute in attributes}
        return _call_op(function, arguments, name, what)
    if isinstance(module, nn.Linear):
        return _Op("linear", name, {}, lambda: _weights(module, "weight", "bias"))
    settings = {"eps": float(module.eps)}  # type: ignore[arg-type]
    if isinstance(module, nn.LayerNorm):
        if len(module.normalized_shape) != 1:
            raise _refusal(f"{what} over several dimensions")
        ones = {"weight": torch.ones(module.normalized_shape)}
        return _Op(
            "layer_norm",
            name,
            settings,
            lambda: ones | _weights(module, "weight", "bias"),
        )
    if not module.track_running_stats or module.running_mean is None:
        raise _refusal(f"{what} with track_running_stats=False")
    names = ("weight", "bias", "running_mean", "running_var")
    return _Op("batch_norm", name, settings, lambda: _weights(module, *names))


def _weights(module: nn.Module, *names: str) -> dict[str, torch.Tensor]:
    # The hooks of torch.nn.utils (weight_norm, prune, ...) compute the weight at each
    # forward pass. They run on a twin, for what the module holds may be out of date.
    twin = object.__new__(type(module))
    vars(twin).update(vars(module))
    for hook in module._forward_pre_hooks.values():
        if type(hook).__module__.startswith("torch.nn.utils."):
            hook(twin, ())
    found = {name: getattr(twin, name) for name in names}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def _call_op(function: str, arguments: dict[str, Any], name: str, what: str) -> _Op:
    """Read a call by its name and its arguments other than the input."""
    match function:
        case "relu" | "silu" | "tanh" | "sigmoid":
            return _Op(function, name)
        case "leaky_relu":
            slope = float(arguments.get("negative_slope", 0.01))
            return _Op(function, name, {"negative_slope": slope})
        case "elu":
            return _Op(function, name, {"alpha": float(arguments.get("alpha", 1.0))})
        case "gelu":
            approximate = arguments.get("approximate", "none") == "tanh"
            return _Op("gelu_tanh" if approximate else "gelu", name)
        case "softmax" | "log_softmax" if arguments.get("dim") in (None, 1, -1):
            return _Op(function, name)
        case "flatten" if arguments.get("end_dim", -1) in (1, -1):
            # From dimension 0 it changes only the shape of a single column.
            one = arguments.get("start_dim", 0) not in (1, -1)
            return _Op("", width=1 if one else None)
        case "squeeze" if arguments.get("dim") in (None, 1, -1):
            return _Op("")
        case "dropout" | "alpha_dropout" if not arguments.get("training", True):
            return _Op("")
        case "clone" | "contiguous" | "detach" | "float" | "double":
            return _Op("")
    raise _refusal(what)


class _Tracer(torch.fx.Tracer):
    """Records a forward without storing anything in the model or firing its hooks."""

    def __init__(self) -> None:
        super().__init__(autowrap_modules=())  # type: ignore[arg-type]
        self.thread = threading.get_ident()
        self.tensors: dict[torch.fx.Node, torch.Tensor] = {}

    def create_args_for_root(self, root_fn, is_module, concrete_args=None):
        # One input; every other parameter of the forward has its default.
        return root_fn, [self.root, self.create_proxy("placeholder", "x", (), {})]

    def is_leaf_module(self, m: nn.Module, name: str) -> bool:
        if _known(m):
            return True
        return "forward" not in vars(m) and super().is_leaf_module(m, name)

    def call_module(self, m, forward, args, kwargs):
        # The patch of nn.Module.__call__ reaches models that other threads run.
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        m = _uncompiled(m)
        return super().call_module(m, m.forward, args, kwargs)

    def getattr(self, attr, attr_val, parameter_proxy_cache):
        # The tensor itself: masked and otherwise computed weights become constants.
        return attr_val

    def create_arg(self, a):
        # fx would store a constant tensor as a new attribute of the user's model.
        if isinstance(a, torch.Tensor):
            node = self.create_node("get_attr", "tensor", (), {})
            self.tensors[node] = a
            return node
        return super().create_arg(a)


def _trace(root: nn.Module) -> list[_Op]:
    if "forward" in vars(root):
        raise _refusal(f"a {type(root).__name__} whose forward was replaced")
    tracer = _Tracer()
    saved = [(module, dict(vars(module))) for module in root.modules()]
    try:
        graph = tracer.trace(root)
    except Exception as error:  # a user's forward may raise anything
        raise TypeError(
            f"FeatureUnwrapper cannot follow the forward of {type(root).__name__} "
            f"({str(error).partition(chr(10))[0]}); {_SUPPORTED}."
        ) from error
    finally:
        # A forward that keeps a value (self.last = x) would leave a proxy there.
        for module, attributes in saved:
            for name in vars(module).keys() - attributes.keys():
                del vars(module)[name]
            vars(module).update(attributes)
    return _Reader(root, tracer).read(graph)


class _Reader:
    """Reads the graph of a forward, in its order, as a chain of operations."""

    def __init__(self, root: nn.Module, tracer: _Tracer) -> None:
        self.modules = dict(root.named_modules())
        self.paths = {id(p): path for path, p in root.named_parameters()}
        self.tensors = tracer.tensors
        self.sizes: dict[Any, Any] = {}  # node of a size: its dimension; None: all

    def read(self, graph: torch.fx.Graph) -> list[_Op]:
        ops: list[_Op] = []
        value = None
        for node in list(reversed(graph.nodes)):
            if _unused(node):
                graph.erase_node(node)
        for node in graph.nodes:
            if node.op == "placeholder":
                value = node
            elif node.op != "get_attr" and not self._is_size(node):
                what, function = self._label(node)
                constants = self.tensors.keys() | self.sizes.keys()
                inputs = [n for n in node.all_input_nodes if n not in constants]
                first = node.args[0] if node.args else node.kwargs.get("input")
                if first is not value or inputs != [value]:
                    raise _refusal(f"{what}, which reads more than the value before it")
                if node.op != "output":
                    ops.append(self._op(node, what, function))
                    value = node
        return ops

    def _label(self, node: torch.fx.Node) -> tuple[str, str]:
        """Return what to call the node in a message and the function it calls."""
        if node.op == "output":
            return "the output", ""
        if node.op == "call_module":
            module = self.modules[str(node.target)]
            return f"layer {node.target!r} ({type(module).__name__})", ""
        name = getattr(node.target, "__name__", str(node.target))
        # A user's own function may be called relu.
        public = getattr(torch, name, None), getattr(F, name, None)
        known = node.op == "call_method" or node.target in public
        return f"the operation {name!r}", name.rstrip("_") if known else ""

    def _is_size(self, node: torch.fx.Node) -> bool:
        match node.op, node.target, node.args:
            case "call_method", "size", (_, *dim):
                self.sizes[node] = dim[0] if dim else node.kwargs.get("dim")
            case "call_function", builtins.getattr, (_, "shape"):
                self.sizes[node] = None
            case "call_function", operator.getitem, (shape, int() as dim):
                if shape in self.sizes:
                    self.sizes[node] = dim
        return node in self.sizes

    def _op(self, node: torch.fx.Node, what: str, function: str) -> _Op:
        if node.op == "call_module":
            return _module_op(self.modules[str(node.target)], str(node.target))
        rest = list(node.args[1:])
        if function in ("view", "reshape"):
            return self._reshape(rest or list(node.kwargs.values()), what)
        if function == "to" and all(map(_is_float_or_device, rest)):
            return _Op("")
        arguments = dict(zip(_POSITIONAL.get(function, ()), rest, strict=False))
        arguments |= node.kwargs
        if function == "linear":
            return self._linear(node, arguments, what)
        return _call_op(function, arguments, "", what)

    def _linear(self, node: torch.fx.Node, arguments: dict, what: str) -> _Op:
        given = {k: v for k, v in arguments.items() if v is not None}
        if not self.tensors.keys() >= set(given.values()):
            raise _refusal(f"{what} whose weight is not a constant")
        found = {k: self.tensors[v] for k, v in given.items()}
        modules = list(node.meta.get("nn_module_stack", {}).values())
        path = self.paths.get(id(found["weight"]), modules[-1][0] if modules else "")
        return _Op("linear", path.removesuffix(".weight"), {}, lambda: found)

    def _reshape(self, dims: list[Any], what: str) -> _Op:
        """Accept what leaves a 2-D array as it is, or makes one column a 1-D array."""
        if len(dims) == 1 and isinstance(dims[0], tuple | list):
            dims = list(dims[0])
        sizes = {0: "rows", -2: "rows", 1: "columns", -1: "columns"}
        match [sizes.get(self.sizes[d], d) if d in self.sizes else d for d in dims]:
            case ["rows", -1 | "columns"] | [-1, "columns"]:
                return _Op("")
            case ["rows" | -1, int() as width] if width > 0:
                return _Op("", width=width)
            case ["rows" | -1]:
                return _Op("", width=1)
        raise _refusal(what)


def _unused(node: torch.fx.Node) -> bool:
    """Whether nothing would change without the node: a size that nobody used."""
    if node.users or node.op not in ("call_function", "call_method"):
        return False
    name = getattr(node.target, "__name__", str(node.target))
    return not name.endswith("_") and not node.kwargs.get("inplace")


def _is_float_or_device(argument: Any) -> bool:
    is_float = isinstance(argument, torch.dtype) and argument.is_floating_point
    return is_float or isinstance(argument, torch.device | str)


def _uncompiled(module: nn.Module) -> nn.Module:
    return getattr(module, "_orig_mod", module)
