"""Adam, with the decoder's rows held at norm one."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from skfeat.kernels._threads import Team
from skfeat.kernels.sae._kernel import SHARED
from skfeat.utils._adam import Adam as TorchAdam

if TYPE_CHECKING:
    from skfeat.kernels.sae._loops_adam import Parameter

# The loss of a narrow layer falls to a hundredth within the thousand updates that a
# second moment of 0.999 remembers, which then holds the steps back; and a feature that
# fires once in many batches moves by 1 / sqrt(1 - beta2) learning rates when it does.
_BETAS, _EPS = (0.95, 0.97), 1e-8


class _Views(NamedTuple):
    """Arguments of the compiled update, valid while the gradients stay in place."""

    grads: list[torch.Tensor]
    parameters: tuple[Parameter, ...]
    steps: list[torch.Tensor]
    shares: np.ndarray
    unit: int
    n_rows: int
    n_elements: int


class Adam:
    """Updates parameters by their ``grad``; rows of ``decoder`` stay on the sphere.

    The state is that of `torch.optim.Adam`, which also makes the update wherever the
    compiled one does not run.

    Parameters
    ----------
    params : dict of str to Tensor
    learning_rate : float
    team : Team, optional
        Use the compiled update, on these threads.
    shares : dict of str to float, optional
        Learning rate of some parameters over that of the others.
    """

    def __init__(
        self,
        params: dict[str, torch.Tensor],
        learning_rate: float,
        team: Team | None = None,
        *,
        shares: dict[str, float] | None = None,
    ):
        self._params = params
        self._team = team
        self.learning_rate = learning_rate
        self._views: _Views | None = None
        self._shares = dict.fromkeys(params, 1.0) | (shares or {})
        groups = [{"params": [param]} for param in params.values()]
        self.optimizer = TorchAdam(groups, learning_rate, _BETAS, _EPS)

    def step(self) -> None:
        """Make one update."""
        # Torch makes the first update, and allocates its state.
        if self._team is None or not self.optimizer.state:
            self._torch_step()
        else:
            self._compiled_step(self._team)

    def forget(self, features: torch.Tensor) -> None:
        """Drop the moments of some features, which begin anew."""
        for name, param in self._params.items():
            if name not in SHARED and param in self.optimizer.state:
                for moment in ("exp_avg", "exp_avg_sq"):
                    self.optimizer.state[param][moment][features] = 0

    def _torch_step(self):
        decoder = self._params["decoder"]
        grad = decoder.grad
        assert grad is not None
        # The norm of a row is held at one: only the part of its gradient along the
        # sphere counts, or the moments would fill with what is projected away.
        grad -= (grad * decoder).sum(1, keepdim=True) * decoder
        shares = self._shares.values()
        for group, share in zip(self.optimizer.param_groups, shares, strict=True):
            group["lr"] = share * self.learning_rate
        self.optimizer.step()
        decoder /= decoder.norm(dim=1, keepdim=True).clamp_min(1e-12)

    def _compiled_step(self, team: Team) -> None:
        grads = list(map(_gradient, self._params.values()))
        if not (self._views and all(map(operator.is_, grads, self._views.grads))):
            self._views = self._make_views(grads)
        views = self._views
        n_steps = float(views.steps[0]) + 1
        for step in views.steps:
            step.fill_(n_steps)
        rate = self.learning_rate / (1 - _BETAS[0] ** n_steps)
        correction = 1 / math.sqrt(1 - _BETAS[1] ** n_steps)
        from skfeat.kernels.sae._loops_adam import Constants, adam

        real = views.parameters[0].values.dtype.type
        # A rate too large for the dtype makes weights that are not finite, which the
        # trainer reports.
        with np.errstate(over="ignore"):
            constants = Constants(
                beta1=real(_BETAS[0]),
                beta2=real(_BETAS[1]),
                correction=real(correction),
                eps=real(_EPS),
            )
            rates = (rate * views.shares).astype(real)
        team.run(
            lambda first, last: adam(
                first, last, views.parameters, rates, views.unit, constants
            ),
            views.n_rows,
            n_elements=views.n_elements,
        )

    def _make_views(self, grads: list[torch.Tensor]) -> _Views:
        from skfeat.kernels.sae._loops_adam import Parameter

        states = [self.optimizer.state[param] for param in self._params.values()]
        parameters = tuple(
            Parameter(
                values=_rows(param),
                grad=_rows(grad),
                mean=_rows(state["exp_avg"]),
                square=_rows(state["exp_avg_sq"]),
            )
            for param, grad, state in zip(
                self._params.values(), grads, states, strict=True
            )
        )
        return _Views(
            grads=grads,
            parameters=parameters,
            steps=[state["step"] for state in states],
            shares=np.array([self._shares[name] for name in self._params]),
            unit=list(self._params).index("decoder"),
            n_rows=sum(len(p.values) for p in parameters),
            n_elements=sum(4 * p.values.size for p in parameters),
        )


def _gradient(param: torch.Tensor) -> torch.Tensor:
    assert param.grad is not None
    return param.grad


def _rows(tensor: torch.Tensor) -> np.ndarray:
    """View a tensor as a matrix; a vector is one row."""
    array = tensor.numpy()
    return array if array.ndim == 2 else array[None]
