"""Follow a custom forward by torch.fx without leaving a mark on the user's model."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.fx
from torch import nn

from skfeat.adapters._torch_ops import SUPPORTED, known, refusal, unwrapped


class _Rows(torch.fx.Proxy):
    """A value of a forward that is being followed; it has rows and columns."""

    @property
    def ndim(self) -> int:
        return 2

    def dim(self) -> int:
        return 2


class _Tracer(torch.fx.Tracer):
    """Records a forward without storing anything in the model or firing its hooks."""

    def __init__(self) -> None:
        super().__init__(autowrap_modules=())  # type: ignore[arg-type]
        self.thread = threading.get_ident()
        self.tensors: dict[torch.fx.Node, torch.Tensor] = {}

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
        return super().call_module(m, m.forward, args, kwargs)

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


def trace(root: nn.Module) -> tuple[torch.fx.Graph, dict[torch.fx.Node, torch.Tensor]]:
    """Return the graph of a forward and the constant tensors among its nodes."""
    if "forward" in vars(root):
        raise refusal(f"a {type(root).__name__} whose forward was replaced")
    tracer = _Tracer()
    try:
        with kept_attributes(root), kept_buffers(root):
            return tracer.trace(root), tracer.tensors
    except torch.fx.proxy.TraceError as error:
        if "control flow" not in str(error):
            raise _untraceable(root, str(error)) from error
        raise _untraceable(root, "its forward branches on the data") from error
    except Exception as error:  # a user's forward may raise anything
        raise _untraceable(root, str(error)) from error


def _untraceable(root: nn.Module, why: str) -> TypeError:
    return TypeError(
        f"FeatureUnwrapper cannot follow the forward of {type(root).__name__} "
        f"({why.partition(chr(10))[0]}); {SUPPORTED}."
    )


@contextmanager
def kept_attributes(root: nn.Module) -> Iterator[None]:
    """Restore what a forward stores on its modules: ``self.last = x`` keeps a proxy."""
    saved = [(vars(module), dict(vars(module))) for module in root.modules()]
    containers: list[tuple[Any, Any]] = [
        (value, value.copy())
        for _, attributes in saved
        for value in attributes.values()
        if isinstance(value, dict | list | set)
    ]
    try:
        yield
    finally:
        for attributes, before in saved:
            for name in attributes.keys() - before.keys():
                del attributes[name]
            attributes.update(before)
        for container, copied in containers:
            if not _same(container, copied):
                container.clear()
                is_list = isinstance(container, list)
                (container.extend if is_list else container.update)(copied)


def _same(container: Any, before: Any) -> bool:
    """Whether a dict, list or set holds the very objects that its copy does."""
    if isinstance(container, dict):
        container, before = container.items(), before.items()
        flat = [[x for pair in part for x in pair] for part in (container, before)]
        container, before = flat
    return list(map(id, container)) == list(map(id, before))


@contextmanager
def kept_buffers(root: nn.Module) -> Iterator[None]:
    """Restore the buffers that a forward changes even in eval mode, as a counter."""
    saved = [
        (module._buffers, name, buffer, buffer.clone(), _version(buffer))
        for module in root.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and not nn.parameter.is_lazy(buffer)
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffers, name, buffer, values, version in saved:
                buffers[name] = buffer
                if _version(buffer) != version or version is None:
                    buffer.copy_(values)


def _version(tensor: torch.Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version
