"""Follow a custom forward by torch.fx without leaving a mark on the user's model."""

import threading
from typing import NamedTuple

import torch
import torch.fx
from torch import nn

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

    def __init__(self, unregistered: Unregistered) -> None:
        super().__init__(autowrap_modules=())  # type: ignore[arg-type]
        self.thread = threading.get_ident()
        self.tensors: dict[torch.fx.Node, torch.Tensor] = {}
        self.unregistered = unregistered
        weights = unregistered.root.parameters()
        floats = (p for p in weights if p.is_floating_point())
        self.like = next(floats, torch.empty(0))

    def proxy(self, node: torch.fx.Node) -> torch.fx.Proxy:
        return _Rows(node, self)

    def create_args_for_root(self, root_fn, is_module, concrete_args=None):
        # One input; every other parameter of the forward has its default.
        return root_fn, [self.root, self.create_proxy("placeholder", "x", (), {})]

    def is_leaf_module(self, m: nn.Module, name: str) -> bool:
        if known(m) or isinstance(m, torch.jit.ScriptModule):
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


def trace(root: nn.Module) -> Traced:
    """Follow a forward, and raise TypeError where that cannot be done."""
    if "forward" in vars(root):
        raise refusal(f"a {type(root).__name__} whose forward was replaced")
    tracer = _follow(root)
    unregistered = tracer.unregistered
    if unregistered.has_weights():
        unregistered.check_weights(_follow(root).unregistered)
    modules = {path: module for module, path in unregistered.paths.items()}
    return Traced(
        tracer.graph,
        tracer.tensors,
        dict(root.named_modules()) | modules,
        unregistered.random(tracer.graph),
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


def _follow(root: nn.Module) -> _Tracer:
    with kept_random_state(), Unregistered(root) as unregistered:
        tracer = _Tracer(unregistered)
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
