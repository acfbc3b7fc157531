"""Follow a custom forward by torch.fx without leaving a mark on the user's model."""

import threading
from functools import wraps
from typing import NamedTuple

import torch
import torch.fx
from torch import nn
from torch.utils import _pytree as pytree

from skfeat.adapters._torch_axes import Axes
from skfeat.adapters._torch_ops import SUPPORTED, known, leaves, refusal, unwrapped
from skfeat.adapters._torch_restore import (
    kept_attributes,
    kept_random_state,
    kept_tensors,
)
from skfeat.adapters._torch_unregistered import Unregistered


class Traced(NamedTuple):
    """What following a forward has found."""

    graph: torch.fx.Graph
    tensors: dict[torch.fx.Node, torch.Tensor]
    """The constants among the graph's nodes."""
    modules: dict[str, nn.Module]
    """The modules that it calls, by the targets of the graph's nodes."""
    random: list[str]
    """Classes of modules that are random though the model is in eval mode."""
    axes: Axes | None = None
    """Modules that only give axes."""


class Part(NamedTuple):
    """What follows a module of a model."""

    module: nn.Module
    name: str
    arguments: tuple[tuple, dict]
    """Those of the model, for a few samples."""


class _Rows(torch.fx.Proxy):
    """A value of a forward that is being followed; it has rows and columns."""

    @property
    def ndim(self) -> int:
        return 2

    def dim(self) -> int:
        return 2

    # torch's factories take no proxies: torch.zeros(1, device=x.device).
    @property
    def device(self) -> torch.device:
        return self.tracer.like.device  # type: ignore[attr-defined]

    @property
    def dtype(self) -> torch.dtype:
        return self.tracer.like.dtype  # type: ignore[attr-defined]


class _Tracer(torch.fx.Tracer):
    """Records a forward without storing anything in the model or firing its hooks."""

    def __init__(self, unregistered: Unregistered, axes: Axes | None = None) -> None:
        super().__init__(autowrap_modules=())  # type: ignore[arg-type]
        self.thread = threading.get_ident()
        self.tensors: dict[torch.fx.Node, torch.Tensor] = {}
        self.unregistered = unregistered
        self.axes = axes or {}
        weights = unregistered.root.parameters()
        floats = (p for p in weights if p.is_floating_point())
        self.like = next(floats, torch.empty(0))

    def proxy(self, node: torch.fx.Node) -> torch.fx.Proxy:
        return _Rows(node, self)

    def create_args_for_root(self, root_fn, is_module, concrete_args=None):
        # One input; every other parameter of the forward has its default.
        return root_fn, [self.root, self.create_proxy("placeholder", "x", (), {})]

    def is_leaf_module(self, m: nn.Module, name: str) -> bool:
        if known(m) or m in self.axes or isinstance(m, torch.jit.ScriptModule):
            return True
        return "forward" not in vars(m) and super().is_leaf_module(m, name)

    def call_module(self, m, forward, args, kwargs):
        # The patch of nn.Module.__call__ reaches models that other threads run.
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        m = unwrapped(m)
        self.unregistered.prepare(m)
        return super().call_module(m, m.forward, args, kwargs)

    def path_of_module(self, mod: nn.Module) -> str:
        path = self.unregistered.paths.get(mod)
        return super().path_of_module(mod) if path is None else path

    def iter(self, obj):
        # fx finds the number of pieces only where they are unpacked.
        name, args = (
            getattr(obj.node.target, "__name__", obj.node.target),
            obj.node.args,
        )
        match (name, *args[1:2], *obj.node.kwargs.values()):
            case ("chunk", int() as n, *_):
                return iter([obj[i] for i in range(n)])
            case ("split", list() | tuple() as sizes, *_):
                return iter([obj[i] for i in range(len(sizes))])
        return super().iter(obj)

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


class _PartTracer(_Tracer):
    """Records what follows a module; all before it runs on the numbers of a batch."""

    def __init__(self, unregistered: Unregistered, part: Part) -> None:
        super().__init__(unregistered)
        self.part = part
        self.n_calls = 0

    def create_args_for_root(self, root_fn, is_module, concrete_args=None):
        args, kwargs = self.part.arguments

        @wraps(root_fn)
        def run(*values):
            return root_fn(*values, **kwargs)

        return run, [self.root, *args]

    def call_module(self, m, forward, args, kwargs):
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        if unwrapped(m) is self.part.module:
            self.n_calls += 1
            args, kwargs = self._followed(args, kwargs)
        values = pytree.tree_leaves((args, kwargs))
        if not any(isinstance(value, torch.fx.Proxy) for value in values):
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def _followed(self, args, kwargs):
        """Put a value to be followed in place of the first tensor."""
        leaves_, form = pytree.tree_flatten((args, kwargs))
        tensors = [isinstance(value, torch.Tensor) for value in leaves_]
        if sum(tensors) != 1:
            raise TypeError(
                f"start={self.part.name!r} must be fed one tensor; it is fed "
                f"{sum(tensors)}."
            )
        leaves_[tensors.index(True)] = self.create_proxy("placeholder", "x", (), {})
        return pytree.tree_unflatten(leaves_, form)


def trace_from(
    root: nn.Module, module: nn.Module, name: str, examples: list[tuple[tuple, dict]]
) -> Traced:
    """Follow a forward from one of its modules on.

    Parameters
    ----------
    root, module : torch.nn.Module
        The model, and the module of it from which on it is followed.
    name : str
        That of the module, for messages.
    examples : list of (tuple, dict)
        Arguments of the model, of other samples and another number of them each.

    Raises
    ------
    TypeError
        If what follows cannot be followed, or reads anything else that depends on the
        input.
    """
    if "forward" in vars(root):
        raise refusal(f"a {type(root).__name__} whose forward was replaced")
    tracers = [_follow(root, Part(module, name, one)) for one in examples]
    first = list(tracers[0].tensors.values())
    for other in tracers[1:]:
        again = list(other.tensors.values())
        if len(first) != len(again) or not all(map(_are_equal, first, again)):
            raise TypeError(
                f"what follows start={name!r} also reads what the model computes "
                "before it; name a module through which all that follows depends on "
                "the input."
            )
    tracer = tracers[0]
    modules = {path: one for one, path in tracer.unregistered.paths.items()}
    return Traced(
        tracer.graph,
        tracer.tensors,
        dict(root.named_modules()) | modules,
        tracer.unregistered.random(tracer.graph),
    )


def _are_equal(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    return tensor.shape == other.shape and bool(torch.equal(tensor, other))


def trace(root: nn.Module, axes: Axes | None = None) -> Traced:
    """Follow a forward, and raise TypeError where that cannot be done.

    `axes` are modules that are not followed, as those of `Traced`.
    """
    if "forward" in vars(root):
        raise refusal(f"a {type(root).__name__} whose forward was replaced")
    tracer = _follow(root, axes=axes)
    unregistered = tracer.unregistered
    if unregistered.has_weights():
        unregistered.check_weights(_follow(root, axes=axes).unregistered)
    modules = {path: module for module, path in unregistered.paths.items()}
    return Traced(
        tracer.graph,
        tracer.tensors,
        dict(root.named_modules()) | modules,
        unregistered.random(tracer.graph),
        tracer.axes,
    )


def calls_what_eval_passes_by(root: nn.Module) -> bool:
    """Whether model.eval() leaves modules that a forward calls in training mode.

    False if these compute the same in both modes, or if the forward cannot be followed.
    """
    if all(map(known, leaves(root))):
        return False
    try:
        return _follow(root).unregistered.depends_on_mode()
    except TypeError:
        return False


def _follow(
    root: nn.Module, part: Part | None = None, axes: Axes | None = None
) -> _Tracer:
    with kept_random_state(), Unregistered(root) as unregistered:
        tracer = _Tracer(unregistered, axes)
        if part is not None:
            tracer = _PartTracer(unregistered, part)
        try:
            with kept_attributes(root), kept_tensors(root):
                tracer.trace(root)
        except torch.fx.proxy.TraceError as error:
            if "control flow" not in str(error):
                raise _untraceable(root, str(error)) from error
            raise _untraceable(root, "its forward branches on the data") from error
        except Exception as error:  # a user's forward may raise anything
            raise _untraceable(root, str(error)) from error
    return tracer


def _untraceable(root: nn.Module, why: str) -> TypeError:
    return TypeError(
        f"FeatureUnwrapper cannot follow the forward of {type(root).__name__} "
        f"({why.partition(chr(10))[0]}); {SUPPORTED}."
    )
