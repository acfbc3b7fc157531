"""Modules that a forward calls though its model has not registered them.

They are made in the forward, as in ``nn.ReLU()(x)``, or kept in a plain list or dict:
``model.eval()``, ``model.parameters()`` and ``model.named_modules()`` pass them by.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import torch
import torch.fx
from torch import nn

from skfeat.adapters._torch_restore import kept_attributes, kept_tensors

_RANDOM = (nn.modules.dropout._DropoutNd, nn.RReLU)


class Unregistered:
    """Notes such modules as they are called, and holds them in eval mode until exit.

    Parameters
    ----------
    root : Module
        The model.
    """

    def __init__(self, root: nn.Module) -> None:
        self.root = root
        self._registered = set(root.modules())
        self._kept = dict(_kept_modules(root))
        self.paths: dict[nn.Module, str] = {}
        """By module, in the order of the first calls: its path in a list or dict of the
        model, or a made-up name."""
        self.in_training: set[str] = set()
        """The paths of those that were in training mode."""
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def prepare(self, module: nn.Module) -> None:
        """Note a module that is about to be called."""
        if module in self._registered or module in self.paths:
            return
        made_up = f"<{type(module).__name__} {len(self.paths)}>"
        path = self.paths[module] = self._kept.get(module, made_up)
        if module.training:
            self.in_training.add(path)
        # Its training flag is among its attributes.
        self._stack.enter_context(kept_attributes(module))
        self._stack.enter_context(kept_tensors(module))
        module.training = False

    def check_weights(self, again: "Unregistered") -> None:
        """Raise TypeError for weights that are not the same when forward runs again.

        Parameters
        ----------
        again : Unregistered
            What a second run of the forward has called.
        """
        for module, other in zip(self.paths, again.paths, strict=False):
            name = type(module).__name__
            if _with_batch_statistics(module) and self.paths[module] in (
                self.in_training
            ):
                raise TypeError(
                    f"FeatureUnwrapper cannot unwrap a {name} that model.eval() does "
                    f"not reach, since it scales by the statistics of each batch; make "
                    f"it in __init__ as a submodule, lists as nn.ModuleList."
                )
            if module is not other and not _same_weights(module, other):
                raise TypeError(
                    f"FeatureUnwrapper cannot unwrap a {name} made in forward, since "
                    f"its weights are random at each call; make it in __init__, as "
                    f"self.layer = {name}(...), and train the model again."
                )

    def depends_on_mode(self) -> bool:
        """Whether any that was in training mode may compute something else there."""
        return any(
            isinstance(module, _RANDOM)
            or _with_batch_statistics(module)
            or not type(module).__module__.startswith("torch.nn.")
            for module, path in self.paths.items()
            if path in self.in_training
        )

    def has_weights(self) -> bool:
        """Whether any of the modules has a parameter or a buffer."""
        return any(module.state_dict() for module in self.paths)

    def random(self, graph: torch.fx.Graph) -> list[str]:
        """Return the classes of those that are random whenever the model runs."""
        found = {
            type(module).__name__
            for module, path in self.paths.items()
            if path in self.in_training and isinstance(module, _RANDOM)
        }
        # A function that a module of the user's own calls with training=self.training.
        for node in graph.nodes:
            modules = list(node.meta.get("nn_module_stack", {}).values())
            if "dropout" in str(node.target) and modules:
                path, cls = modules[-1]
                if path in self.in_training:
                    found.add(cls.__name__)
        return sorted(found)


def user_path(path: str) -> str:
    """Return the path of a module for users: none in place of a made-up name."""
    return "" if path.startswith("<") else path


@contextmanager
def evaluating_unregistered(root: nn.Module) -> Iterator[None]:
    """Run what the model has not registered in eval mode too, for this thread alone.

    The hook that this takes is process-wide: hold a lock.
    """
    thread = threading.get_ident()
    with Unregistered(root) as unregistered:

        @torch.compiler.disable  # the hook also runs in compiled parts of the model
        def prepare(module: nn.Module, args: Any) -> None:
            if threading.get_ident() == thread:
                unregistered.prepare(module)

        handle = nn.modules.module.register_module_forward_pre_hook(prepare)
        try:
            yield
        finally:
            handle.remove()


def _kept_modules(root: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Yield the modules that plain attributes of a model's modules hold, with paths."""
    torchs_own = vars(nn.Module()).keys()
    for path, module in root.named_modules():
        for name, value in vars(module).items():
            if name not in torchs_own:
                yield from _modules_in(value, f"{path}.{name}" if path else name)


def _modules_in(
    value: Any, path: str, depth: int = 0
) -> Iterator[tuple[nn.Module, str]]:
    if isinstance(value, nn.Module):
        for inner, module in value.named_modules():
            yield module, f"{path}.{inner}" if inner else path
    elif depth < 3 and isinstance(value, list | tuple | dict):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in pairs:
            yield from _modules_in(part, f"{path}.{key}", depth + 1)


def _with_batch_statistics(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._NormBase)


def _same_weights(module: nn.Module, other: nn.Module) -> bool:
    first, second = module.state_dict(), other.state_dict()
    return first.keys() == second.keys() and not any(
        nn.parameter.is_lazy(tensor) or not torch.equal(tensor, second[name])
        for name, tensor in first.items()
    )
