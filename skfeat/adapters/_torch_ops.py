"""What torch modules and functions compute, as operations that become steps."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from skfeat.chain._kinds import KINDS, TorchForm
from skfeat.utils._torch import PLAIN

SUPPORTED = (
    "supported: chains and residual blocks of Linear, Conv1d and Conv2d, ReLU and the "
    "other elementwise activations of torch.nn, average and max pooling, GLU, Softmax "
    "and LogSoftmax (over the last dimension), BatchNorm1d, BatchNorm2d, LayerNorm, "
    "RMSNorm, GroupNorm, Dropout, Identity and Flatten, whose results may be added, "
    "multiplied, concatenated, sliced and returned as several outputs; "
    "start='the name of a module' unwraps the part after anything else"
)


class Op(NamedTuple):
    """One operation of a torch model; its weights are read only when asked for."""

    kind: str
    """A kind of Step; or "linear", "batch_norm", "chunk", "columns", "part", "conv" or
    "pool", which become one when the width, or the sizes of maps, are known; or "" for
    no change."""
    name: str = ""
    settings: dict[str, Any] = {}  # noqa: RUF012
    tensors: Callable[[], dict[str, torch.Tensor]] = dict
    branches: tuple[tuple["Op", ...], ...] = ()
    width: int | None = None  # the width that a reshape takes for granted
    shape: tuple[int, ...] | None = None  # that of the maps it makes of rows

    @property
    def is_weighted(self) -> bool:
        """Whether the operation is linear with weights, or has such a one inside."""
        inner = (op for branch in self.branches for op in branch)
        return self.kind in ("linear", "conv") or any(op.is_weighted for op in inner)


def _torch_forms() -> Iterator[tuple[str, TorchForm]]:
    """Yield each form in which torch spells a kind of step, with that kind."""
    for kind, step_kind in KINDS.items():
        if not isinstance(step_kind.torch_forms, str):
            for form in step_kind.torch_forms:
                yield kind, form


# By the name of a torch function: the kinds of step that it may be, and their forms.
_FORMS: dict[str, list[tuple[str, TorchForm]]] = {}
for _kind, _form in _torch_forms():
    for _function in _form.functions:
        _FORMS.setdefault(_function, []).append((_kind, _form))

_DROPOUTS = {
    "dropout": True,  # whether it drops unless told that this is no training
    "dropout1d": True,
    "dropout2d": True,
    "dropout3d": True,
    "alpha_dropout": False,
    "feature_alpha_dropout": False,
}
_POOLING = ("kernel_size", "stride", "padding")
# By the function: its arguments after the input.
_POOLS = {
    "max_pool": (*_POOLING, "dilation", "ceil_mode", "return_indices"),
    "avg_pool": (*_POOLING, "ceil_mode", "count_include_pad"),
    "adaptive_avg_pool": ("output_size",),
    "adaptive_max_pool": ("output_size", "return_indices"),
}
_POOLS = {f"{name}{n}d": found for name, found in _POOLS.items() for n in (1, 2)}
_POOLS["avg_pool2d"] += ("divisor_override",)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
_CONVOLVED = ("stride", "padding", "dilation", "groups")
_UNCHANGED = ("clone", "contiguous", "detach", "type_as", "cpu", "cuda")
_CASTS = ("float", "double", "half", "bfloat16")
POSITIONAL = {
    **{name: tuple(forms[0][1].arguments) for name, forms in _FORMS.items()},
    **dict.fromkeys(_DROPOUTS, ("p", "training")),
    "glu": ("dim",),
    "flatten": ("start_dim", "end_dim"),
    "pow": ("exponent",),
    "clamp_min": ("min",),
    "clamp_max": ("max",),
    "squeeze": ("dim",),
    "linear": ("weight", "bias"),
    "prelu": ("weight",),
    "layer_norm": ("normalized_shape", "weight", "bias", "eps"),
    "rms_norm": ("normalized_shape", "weight", "eps"),
    "chunk": ("chunks", "dim"),
    "tensor_split": ("sections", "dim"),
    "split": ("size", "dim"),
    **_POOLS,
    **dict.fromkeys(("conv1d", "conv2d"), ("weight", "bias", *_CONVOLVED)),
    **dict.fromkeys(("mean", "amax"), ("dim", "keepdim")),
    "var": ("dim", "unbiased", "keepdim"),
}
_MINUS = {"weight": -1.0, "bias": 0.0}

# By a class of torch without weights: the function that it calls, and which of its
# attributes are the arguments.
_CALLS: dict[type[nn.Module], tuple[str, tuple[str, ...]]] = {
    **{
        # All is read as it is in eval mode, also what model.eval() does not reach.
        getattr(nn, form.module): (
            form.functions[0],
            tuple(name for name in form.arguments if name != "training"),
        )
        for _, form in _torch_forms()
        if form.module
    },
    **{
        # max_pool2d is that of MaxPool2d.
        getattr(nn, function.title().replace("_", "").replace("D", "d")): (
            function,
            arguments,
        )
        for function, arguments in _POOLS.items()
    },
    nn.GLU: ("glu", ("dim",)),
    nn.Flatten: ("flatten", ("start_dim", "end_dim")),
    nn.Dropout: ("clone", ()),
    nn.Dropout1d: ("clone", ()),
    nn.Dropout2d: ("clone", ()),
    nn.Dropout3d: ("clone", ()),
    nn.AlphaDropout: ("clone", ()),
    nn.FeatureAlphaDropout: ("clone", ()),
    nn.Identity: ("clone", ()),
}
_WEIGHTED: tuple[type[nn.Module], ...] = (
    nn.Linear,
    *_CONVOLUTIONS,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.SyncBatchNorm,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.GroupNorm,
    nn.PReLU,
)


def refusal(what: str) -> TypeError:
    """Make the error that names what cannot be unwrapped, and what can."""
    return TypeError(f"FeatureUnwrapper cannot unwrap {what}; {SUPPORTED}.")


def uninitialised(name: str) -> ValueError:
    """Make the error about a lazy layer without weights."""
    return ValueError(
        f"layer {name!r} is not initialised yet; run one forward pass first."
    )


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside torch.compile and data parallel wrappers."""
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif "_orig_mod" in module._modules:
            module = module._modules["_orig_mod"]  # type: ignore[assignment]
        else:
            return module


def _runs(module: nn.Module, cls: type[nn.Module]) -> bool:
    """Whether calling the module runs the forward of this class, not an override."""
    own = "forward" in vars(module) or type(module).forward is not cls.forward
    return isinstance(module, cls) and not own


def known(module: nn.Module) -> type[nn.Module] | None:
    """Return the class of torch whose forward the module runs, if it can be read."""
    return next((cls for cls in (*_WEIGHTED, *_CALLS) if _runs(module, cls)), None)


def leaves(module: nn.Module) -> Iterator[nn.Module]:
    """Yield what a Sequential, or several in each other, runs one after another."""
    module = unwrapped(module)
    if isinstance(module, nn.Sequential) and _runs(module, nn.Sequential):
        for child in module:
            yield from leaves(child)
    else:
        yield module


def call_label(module: nn.Module, path: str) -> str:
    """Return what to call a module in a message, by its path if it has one."""
    cls = type(module).__name__
    return f"layer {path!r} ({cls})" if path else f"a {cls} that is no submodule"


def module_op(module: nn.Module, name: str) -> Op:
    """Read a call of a module of torch."""
    cls = known(module)
    what = call_label(module, name)
    if cls is None:
        is_lazy = isinstance(module, nn.modules.lazy.LazyModuleMixin)
        if is_lazy and any(map(nn.parameter.is_lazy, module.parameters())):
            raise uninitialised(name)
        if ".quantized." in type(module).__module__:
            what = f"layer {name!r} (a quantized {type(module).__name__})"
        raise refusal(what)
    if cls in _CALLS:
        function, attributes = _CALLS[cls]
        arguments = {attribute: getattr(module, attribute) for attribute in attributes}
        return call_op(function, arguments, name, what)
    if isinstance(module, nn.Linear):
        return Op("linear", name, {}, lambda: _weights(module, "weight", "bias"))
    if isinstance(module, _CONVOLUTIONS):
        given = {key: getattr(module, key) for key in (*_CONVOLVED, "padding_mode")}
        n_axes = len(module.kernel_size)
        return conv_op(
            n_axes, given, name, what, lambda: _weights(module, "weight", "bias")
        )
    if isinstance(module, nn.PReLU):
        return Op("prelu", name, {}, lambda: _weights(module, "weight"))
    if isinstance(module, nn.GroupNorm):
        return _group_norm(module, name)
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return _norm(module, name, what)
    if not module.track_running_stats or module.running_mean is None:
        raise refusal(f"{what} with track_running_stats=False")
    names = ("weight", "bias", "running_mean", "running_var")
    settings = {"eps": float(module.eps)}  # type: ignore[arg-type]
    return Op("batch_norm", name, settings, lambda: _weights(module, *names))


def conv_op(
    n_axes: int,
    given: dict[str, Any],
    name: str,
    what: str,
    tensors: Callable[[], dict[str, torch.Tensor]],
) -> Op:
    """Make a convolution of its arguments other than the weights."""
    plain = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    settings = plain | {"padding_mode": "zeros", "n_axes": n_axes, "what": what}
    return Op("conv", name, settings | given, tensors)


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


def _norm(module: nn.LayerNorm | nn.RMSNorm, name: str, what: str) -> Op:
    shape = tuple(module.normalized_shape)
    if len(shape) != 1:
        raise refusal(f"{what} over several dimensions")
    kind = "layer_norm" if isinstance(module, nn.LayerNorm) else "rms_norm"
    names = ("weight", "bias") if kind == "layer_norm" else ("weight",)
    return norm_op(kind, name, shape, module.eps, lambda: _weights(module, *names))


def norm_op(
    kind: str,
    name: str,
    shape: tuple[int, ...],
    eps: float | None,
    tensors: Callable[[], dict[str, torch.Tensor]],
) -> Op:
    """Make a layer or RMS norm over the last dimension, of weight one by default."""
    settings = {"eps": eps}  # None is the precision of the model's dtype
    ones = torch.ones(shape, **PLAIN)
    return Op(kind, name, settings, lambda: {"weight": ones} | tensors())


def _group_norm(module: nn.GroupNorm, name: str) -> Op:
    n, size = module.num_channels, module.num_channels // module.num_groups

    def part(start: int) -> Callable[[], dict[str, torch.Tensor]]:
        def read() -> dict[str, torch.Tensor]:
            found = {"weight": torch.ones(n, **PLAIN)}
            found |= _weights(module, "weight", "bias")
            return {key: tensor[start : start + size] for key, tensor in found.items()}

        return read

    branches = tuple(
        (
            Op("slice", name, {"width": n, "start": start, "stop": start + size}),
            Op("layer_norm", name, {"eps": float(module.eps)}, part(start)),
        )
        for start in range(0, n, size)
    )
    return Op("concatenate", name, branches=branches)


def scale(weight: float | torch.Tensor, bias: float | torch.Tensor) -> Op:
    """Make x * weight + bias, of numbers or of tensors with an entry a column."""
    parts = {"weight": weight, "bias": bias}
    tensors = {k: v for k, v in parts.items() if isinstance(v, torch.Tensor)}
    numbers = {k: v for k, v in parts.items() if k not in tensors}
    return Op("scale", "", numbers, lambda: tensors)


def sequence(*ops: Op) -> Op:
    """Make one operation of several, one after another."""
    return Op("add", branches=(ops,))


# By exponent: what is multiplied with itself, and the others that have a kind of step.
_POWERS: dict[float, Op] = {
    **{n: Op("multiply", branches=((),) * n) for n in (2, 3, 4)},
    0.5: Op("sqrt"),
    -1: Op("reciprocal"),
    -0.5: sequence(Op("sqrt"), Op("reciprocal")),
}


def _over_columns(arguments: dict[str, Any]) -> bool:
    dim = arguments.get("dim")
    dims = tuple(dim) if isinstance(dim, list | tuple) else (dim,)
    return dims in ((1,), (-1,)) and arguments.get("keepdim") is True


def _n_axes_over(arguments: dict[str, Any]) -> int:
    """Return how many axes of maps a call reduces to a position; 0 of rows."""
    dim = arguments.get("dim")
    dims = tuple(dim) if isinstance(dim, list | tuple) else (dim,)
    if arguments.get("keepdim") is True and dims == (-1,):
        return 0
    found = {(2, 3): 2, (-2, -1): 2, (-1, -2): 2, (3, 2): 2, (2,): 1, (-1,): 1}
    return found.get(dims, 0)


def _is_biased(arguments: dict[str, Any]) -> bool:
    return arguments.get("unbiased") is False or arguments.get("correction") == 0


def call_op(function: str, arguments: dict[str, Any], name: str, what: str) -> Op:
    """Read a call by its name and its arguments other than the input."""
    for kind, form in _FORMS.get(function, ()):
        given = {key: arguments.get(key, v) for key, v in form.arguments.items()}
        settings = given if form.to_settings is None else form.to_settings(given)
        if settings is None:
            continue
        if not all(isinstance(value, int | float) for value in settings.values()):
            raise refusal(f"{what} with anything but numbers as its arguments")
        return Op(kind, name, {key: float(value) for key, value in settings.items()})
    if function in _UNCHANGED + _CASTS:
        return Op("")
    if function in _DROPOUTS:
        if arguments.get("training", _DROPOUTS[function]):
            raise refusal(f"{what} without training=self.training")
        return Op("")
    match function:
        case "glu" if arguments.get("dim", -1) in (1, -1):
            halves = [Op("chunk", "", {"chunks": 2, "index": i}) for i in range(2)]
            branches = ((halves[0],), (halves[1], Op("sigmoid")))
            return Op("multiply", name, branches=branches)
        case "pow" if arguments.get("exponent") in _POWERS:
            return _POWERS[arguments["exponent"]]._replace(name=name)
        case "square":
            return Op("multiply", name, branches=((), ()))
        case "rsqrt":
            return sequence(Op("sqrt", name), Op("reciprocal", name))
        case str() if function in _POOLS:
            n_axes = int(function[-2])
            own = {"function": function, "n_axes": n_axes, "what": what}
            return Op("pool", name, {**arguments, **own})
        case "mean" | "amax" if _n_axes_over(arguments):
            size = {"mean": "adaptive_avg_pool", "amax": "adaptive_max_pool"}
            n_axes = _n_axes_over(arguments)
            own = {"function": size[function], "n_axes": n_axes, "what": what}
            return Op("pool", name, {"output_size": [1] * n_axes, **own})
        case "mean" if _over_columns(arguments):
            return Op("mean", name)
        case "var" if _over_columns(arguments) and _is_biased(arguments):
            centred = Op("add", branches=((), (Op("mean"), Op("scale", "", _MINUS))))
            square = Op("multiply", branches=((), ()))
            return sequence(centred, square, Op("mean", name))
        case "flatten" if arguments.get("end_dim", -1) in (1, -1):
            # From dimension 0 it changes only the shape of a single column.
            one = arguments.get("start_dim", 0) not in (1, -1)
            return Op("", width=1 if one else None)
        case "squeeze" if arguments.get("dim") in (None, 1, -1):
            return Op("")
        case "softmax" | "log_softmax" | "glu":
            raise refusal(f"{what} with dim={arguments.get('dim')}")
    raise refusal(what)
