"""Adam as torch computes it, without what its classes of optimisers import.

The first `torch.optim.Optimizer` of a process imports torch's compiler, which takes
longer than a small fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from skfeat.utils._torch import to_numpy


class Adam:
    """Updates tensors by their ``grad``, as `torch.optim.Adam` with ``fused=True``.

    Parameters
    ----------
    params : list of Tensor, or of dict
        The tensors, or groups of them: their ``"params"``, and ``"lr"`` if it is of
        the group's own.
    lr : float
    betas : tuple of float, default=(0.9, 0.999)
    eps : float, default=1e-8

    Attributes
    ----------
    param_groups : list of dict
        ``"params"`` and ``"lr"`` of each group; the rate may be changed.
    state : dict
        ``"step"``, ``"exp_avg"`` and ``"exp_avg_sq"`` of each tensor that has been
        updated.

    References
    ----------
    .. [1] D. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    """

    def __init__(
        self,
        params: Sequence[torch.Tensor] | Sequence[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ):
        groups = [p if isinstance(p, dict) else {"params": [p]} for p in params]
        if groups and not isinstance(params[0], dict):
            groups = [{"params": list(params)}]
        self.param_groups: list[dict[str, Any]] = [{"lr": lr} | g for g in groups]
        self.betas, self.eps = betas, eps
        self.state: dict[torch.Tensor, dict[str, torch.Tensor]] = {}

    @property
    def parameters(self) -> list[torch.Tensor]:
        """All tensors, group after group."""
        return [param for group in self.param_groups for param in group["params"]]

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for param in self.parameters:
            param.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update the tensors that have a gradient."""
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            if not params:
                continue
            states = [self._state_of(param) for param in params]
            steps = [state["step"] for state in states]
            for step in steps:
                step += 1
            # The operation behind `torch.optim.Adam(fused=True)`: what torch wraps
            # round it takes longer than an update of a few thousand weights.
            torch._fused_adam_(
                params,
                [param.grad for param in params],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                steps,
                lr=group["lr"],
                beta1=self.betas[0],
                beta2=self.betas[1],
                weight_decay=0.0,
                eps=self.eps,
                amsgrad=False,
                maximize=False,
            )

    def _state_of(self, param: torch.Tensor) -> dict[str, torch.Tensor]:
        if param not in self.state:
            self.state[param] = {
                "step": torch.zeros((), dtype=torch.float32, device=param.device),
                "exp_avg": torch.zeros_like(param),
                "exp_avg_sq": torch.zeros_like(param),
            }
        return self.state[param]

    def moments(self, whole: Callable | None = None) -> dict:
        """Return the state as numpy arrays, by the number of the tensor.

        Parameters
        ----------
        whole : callable, optional
            Called with the number of a tensor and a moment of its shape, of which it
            returns what is to be kept.
        """
        return {
            index: {
                name: to_numpy(whole(index, value) if whole and value.ndim else value)
                for name, value in self.state[param].items()
            }
            for index, param in enumerate(self.parameters)
            if param in self.state
        }

    def load_moments(self, moments: dict, part: Callable | None = None) -> None:
        """Take the state that `moments` returned; `part` undoes what `whole` did."""
        params = self.parameters
        self.state = {}
        for index, slots in moments.items():
            own = self._state_of(params[index])
            for name, value in slots.items():
                mine = part(index, value) if part and value.ndim else value
                own[name].copy_(torch.tensor(mine, device="cpu"))
