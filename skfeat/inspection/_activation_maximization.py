"""Inputs that activate a feature most, by projected gradient ascent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import check_random_state

from skfeat.inspection._inputs import check_features, check_image_shape
from skfeat.utils._checks import check_callable, check_int, check_level, value_error

if TYPE_CHECKING:
    import torch


def maximize_activation(
    forward: Callable[[torch.Tensor], torch.Tensor],
    n_features_in: int,
    *,
    feature: int | Sequence[int],
    bounds: tuple[float, float] = (0.0, 1.0),
    n_steps: int = 256,
    learning_rate: float = 0.05,
    regularization: float = 0.01,
    image_shape: tuple[int, int] | None = None,
    random_state: Any = None,
) -> np.ndarray:
    r"""Find the input that activates a feature most.

    Maximises :math:`f_j(x) - \lambda (\|x\|^2 + \sum (x_p - x_q)^2)` over a box by
    projected gradient ascent [1]_; the sum over neighbouring pixels p and q applies to
    images only. The gradient is scaled to unit root mean square and the step shrinks
    linearly to zero, so `learning_rate` is in units of the input, whatever the scale of
    the feature. The best point on the path is returned.

    Parameters
    ----------
    forward : callable
        Takes a torch tensor of shape (n, n_features_in) and returns one of shape
        (n, n_features): activations, preferably before their nonlinearity, whose
        gradient is zero wherever the feature is silent. The input has the default
        dtype and device of torch, float32 and the CPU unless you have set others. Rows
        must not depend on each other, so put modules in evaluation mode. The gradients
        of their parameters are not changed.
    n_features_in : int
        Length of an input.
    feature : int or sequence of int
        The feature or features to activate.
    bounds : tuple of float (low, high), default=(0.0, 1.0)
        Bounds of every value of the result.
    n_steps : int, default=256
        Number of steps.
    learning_rate : float, default=0.05
        Root mean square of the first step.
    regularization : float, default=0.01
        The weight :math:`\lambda` of the penalties.
    image_shape : tuple of int (height, width), default=None
        Shape of an input as an image; adds the penalty that makes it smooth.
    random_state : int, RandomState instance or None, default=None
        Determines the starting point, the same for every feature. The same call gives
        the same result. Together with other features, a feature gives the same result
        up to rounding, which the scaling of the steps amplifies.

    Returns
    -------
    x : ndarray of shape (n_features_in,) or (len(feature), n_features_in)
        One input for each feature.

    Raises
    ------
    ValueError
        If a parameter is not valid, or if `forward` does not return a finite tensor of
        shape (n, n_features) that depends on its input.

    References
    ----------
    .. [1] D. Erhan, Y. Bengio, A. Courville, P. Vincent, "Visualizing higher-layer
       features of a deep network", University of Montreal, 2009.

    Examples
    --------
    >>> import torch
    >>> from skfeat.inspection import maximize_activation
    >>> weights = torch.tensor([[1.0, -1.0, 2.0], [-1.0, 1.0, 0.5]])
    >>> x = maximize_activation(lambda X: X @ weights.T, 3, feature=0, random_state=0)
    >>> x.round(2).tolist()
    [1.0, 0.0, 1.0]
    """
    import torch

    from skfeat.utils._torch import PLAIN, make_generator, with_gradients

    check_callable("forward", forward)
    bounds = _check_bounds(bounds)
    n_features_in = check_int("n_features_in", n_features_in, 1)
    n_steps = check_int("n_steps", n_steps, 1)
    for name, value in (
        ("learning_rate", learning_rate),
        ("regularization", regularization),
    ):
        check_level(name, value, positive=name == "learning_rate", optional=False)
    shape = None
    if image_shape is not None:
        shape = check_image_shape(image_shape, n_features_in)

    seed = int(check_random_state(random_state).randint(2**31 - 1))
    generator = make_generator(seed)
    low, high = bounds
    with with_gradients():
        start = torch.rand(1, n_features_in, generator=generator, **PLAIN)
        # `forward` was probably made with torch's defaults, so it gets rows of their
        # kind.
        start = (low + (high - low) * start).to(torch.empty(0))
        features = _check_forward(forward, start, feature)
        columns = torch.from_numpy(features)[:, None]

        def objective(x: torch.Tensor) -> torch.Tensor:
            output = forward(x)
            activation = output.gather(1, columns.to(output.device))[:, 0]
            activation = activation.to(x.device, x.dtype)
            return activation - regularization * _penalty(x, shape)

        x = start.repeat(len(features), 1)
        best = _ascend(objective, x, bounds, n_steps, learning_rate)
    # Clipped again in float64, in which the bounds are exact.
    result = best.cpu().double().numpy().clip(low, high)
    return result[0] if np.ndim(feature) == 0 else result


def _ascend(
    objective: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    bounds: tuple[float, float],
    n_steps: int,
    learning_rate: float,
) -> torch.Tensor:
    """Return the best rows on a path of so many steps from the rows of x."""
    import torch

    low, high = bounds
    best, best_value = x.clone(), x.new_full((len(x),), -torch.inf)
    for step in range(n_steps + 1):
        value = objective(x.requires_grad_())
        (gradient,) = torch.autograd.grad(value.sum(), x)
        x, value = x.detach(), value.detach()
        is_better = value > best_value
        best = torch.where(is_better[:, None], x, best)
        best_value = value.maximum(best_value)
        # Values at a bound that the gradient points beyond do not move. They must not
        # count in the length of a step, or they would slow down the others.
        stuck = ((x <= low) & (gradient < 0)) | ((x >= high) & (gradient > 0))
        gradient = gradient.masked_fill(stuck, 0)
        n_free = (~stuck).sum(dim=1, keepdim=True).clamp_min(1)
        size = (gradient.square().sum(dim=1, keepdim=True) / n_free).sqrt()
        rate = learning_rate * (1 - step / n_steps)
        x = (x + rate * gradient / size.clamp_min(1e-12)).clamp(low, high)
    return best


def _penalty(x: torch.Tensor, shape: tuple[int, int] | None) -> torch.Tensor:
    """Return the squared norm of each row and, for images, of its differences."""
    penalty = x.square().sum(dim=1)
    if shape is not None:
        images = x.reshape(-1, *shape)
        for dim in (1, 2):
            penalty = penalty + images.diff(dim=dim).square().sum(dim=(1, 2))
    return penalty


def _check_bounds(bounds: Any) -> tuple[float, float]:
    try:
        low, high = (float(bound) for bound in bounds)
    except (TypeError, ValueError):
        low = high = np.nan
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise value_error("bounds", "two finite numbers, low < high", bounds)
    return low, high


def _check_forward(forward: Callable, start: torch.Tensor, feature: Any) -> np.ndarray:
    """Return the features as indices, after checking what `forward` returns."""
    import torch

    try:
        output = forward(start.clone().requires_grad_())
    except RuntimeError as error:  # as of shapes that do not fit
        allowed = f"a function of a tensor of shape (n, {start.shape[1]})"
        raise ValueError(
            f"forward must be {allowed}, as n_features_in says. It raised: {error}"
        ) from error
    is_matrix = isinstance(output, torch.Tensor) and output.ndim == 2
    if not is_matrix or len(output) != len(start):
        allowed = "a callable that returns a tensor of shape (n, n_features)"
        raise value_error("forward", allowed, output)
    if not output.requires_grad:
        allowed = "a callable whose result depends differentiably on its input"
        raise value_error("forward", allowed, forward)
    if not output.isfinite().all():
        allowed = "a callable that returns finite numbers within the bounds"
        raise value_error("forward", allowed, forward)
    return check_features("feature", feature, output.shape[1]).astype(np.int64)
