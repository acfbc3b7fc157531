"""Inputs that excite a feature most, by projected gradient ascent."""

import numpy as np
from sklearn.utils import check_random_state

from skfeat.inspection._common import (
    check_count,
    check_features,
    check_image_shape,
    check_level,
    param_error,
)


def maximize_activation(
    forward,
    n_features_in,
    *,
    feature,
    bounds=(0.0, 1.0),
    n_steps=256,
    learning_rate=0.05,
    regularization=0.01,
    image_shape=None,
    random_state=None,
):
    r"""Find the input that excites a feature most.

    Maximises :math:`f_j(x) - \lambda (\|x\|^2 + \sum (x_p - x_q)^2)` over a box by
    projected gradient ascent [1]_; the sum, over neighbouring pixels p and q, is there
    for images only. The gradient is scaled to unit root mean square and the step
    shrinks linearly to zero, so `learning_rate` is in units of the input whatever the
    scale of the feature. The best point met on the way is returned.

    Parameters
    ----------
    forward : callable
        Takes a float32 torch tensor of shape (n, n_features_in) and returns one of
        shape (n, n_features): activations, better before their nonlinearity, whose
        gradient is zero wherever the feature is silent. Rows must not depend on each
        other: put modules in evaluation mode. Their gradients are left alone.
    n_features_in : int
        Length of an input.
    feature : int or sequence of int
        The feature or features to excite.
    bounds : tuple of float (low, high), default=(0.0, 1.0)
        Every value of the result lies in between.
    n_steps : int, default=256
        Number of steps.
    learning_rate : float, default=0.05
        Root mean square of the first step.
    regularization : float, default=0.01
        The weight :math:`\lambda` of the penalties.
    image_shape : tuple of int (height, width), default=None
        Shape of an input seen as an image; makes the image smooth.
    random_state : int, RandomState instance or None, default=None
        Determines the starting point, the same for every feature. The same call gives
        the same result; asked for among other features, a feature gives it up to
        rounding, which the scaling of the steps amplifies.

    Returns
    -------
    x : ndarray of shape (n_features_in,) or (len(feature), n_features_in)
        The inputs found, one a feature.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or if `forward` does not return a finite
        tensor of the right shape that depends on its input.

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

    caller = "maximize_activation"
    low, high = _check_bounds(caller, bounds)
    check_count(caller, "n_features_in", n_features_in)
    check_count(caller, "n_steps", n_steps)
    for name, value in (
        ("learning_rate", learning_rate),
        ("regularization", regularization),
    ):
        if value is None:
            raise param_error(caller, name, "a finite number", value)
        check_level(caller, name, value, positive=name == "learning_rate")
    shape = image_shape
    if shape is not None:
        shape = check_image_shape(caller, shape, n_features_in)

    generator = torch.Generator()
    generator.manual_seed(int(check_random_state(random_state).randint(2**31 - 1)))
    start = low + (high - low) * torch.rand(1, n_features_in, generator=generator)
    features = _check_output(caller, forward, start, feature)
    columns = torch.from_numpy(features)

    x = start.repeat(len(features), 1)
    best, best_value = x.clone(), torch.full((len(x),), -torch.inf)
    for step in range(n_steps + 1):
        with torch.enable_grad():
            x.requires_grad_()
            output = forward(x)
            activation = output.gather(1, columns[:, None].to(output.device))[:, 0]
            activation = activation.to(x.device, x.dtype)
            value = activation - regularization * _penalty(x, shape)
            (gradient,) = torch.autograd.grad(value.sum(), x)
        x, value = x.detach(), value.detach()
        better = value > best_value
        best = torch.where(better[:, None], x, best)
        best_value = value.maximum(best_value)
        # Values that a bound holds do not move, nor count in the length of a step:
        # else they would soon slow the others down.
        held = ((x <= low) & (gradient < 0)) | ((x >= high) & (gradient > 0))
        gradient = gradient.masked_fill(held, 0)
        n_free = (~held).sum(dim=1, keepdim=True).clamp_min(1)
        size = (gradient.square().sum(dim=1, keepdim=True) / n_free).sqrt()
        rate = learning_rate * (1 - step / n_steps)
        x = (x + rate * gradient / size.clamp_min(1e-12)).clamp(low, high)
    # In float64, where the bounds hold to the last digit.
    result = best.numpy().astype(np.float64).clip(low, high)
    return result[0] if np.ndim(feature) == 0 else result


def _penalty(x, shape):
    """Return the squared norm of each row and, for images, of its differences."""
    penalty = x.square().sum(dim=1)
    if shape is not None:
        images = x.reshape(-1, *shape)
        for dim in (1, 2):
            penalty = penalty + images.diff(dim=dim).square().sum(dim=(1, 2))
    return penalty


def _check_bounds(caller, bounds):
    """Return the bounds as two floats."""
    try:
        low, high = (float(bound) for bound in bounds)
    except (TypeError, ValueError):
        low = high = np.nan
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise param_error(caller, "bounds", "two finite numbers, low < high", bounds)
    return low, high


def _check_output(caller, forward, start, feature):
    """Return the features as indices, once `forward` has shown that it can be used."""
    import torch

    with torch.enable_grad():
        output = forward(start.clone().requires_grad_())
    is_matrix = isinstance(output, torch.Tensor) and output.ndim == 2
    if not is_matrix or len(output) != len(start):
        expected = "a callable that returns a tensor of shape (n, n_features)"
        raise param_error(caller, "forward", expected, output)
    if not output.requires_grad:
        expected = "a callable whose result depends differentiably on its input"
        raise param_error(caller, "forward", expected, forward)
    if not output.isfinite().all():
        expected = "a callable that returns finite numbers within the bounds"
        raise param_error(caller, "forward", expected, forward)
    chosen = check_features(caller, "feature", feature, output.shape[1])
    return chosen.astype(np.int64)
