"""How each kind of autoencoder is trained: what is active, its codes and derivatives.

A pre-activation u is *active* where its code or a derivative may be nonzero. Kernels
find the active ones of a batch and pass them either as a matrix (n, m) or as a flat
array: ``codes``, ``penalty`` and ``backward`` are elementwise and take both.
``at(name)`` returns a parameter with one value a feature, aligned with them.

Codes z(u) enter the loss through the reconstruction, whose derivative with respect to
z is passed as `grad_codes`, and through a penalty. ``reference`` computes the same with
autograd: the closed forms are tested against this definition.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from skfeat import activations as fitted
from skfeat.utils._torch import PLAIN

Tensor = torch.Tensor
At = Callable[[str], Tensor]

# Width of the window round a threshold in which the derivative of a step is estimated,
# and the thresholds that training starts from, both for rows of length sqrt(d).
_BANDWIDTH = 0.1
_FIRST_THRESHOLD = 0.1


class TrainingActivation:
    """What all kinds share: codes are the positive u, without a penalty."""

    name: str
    penalised = False  # whether there is a penalty, which `alpha` weights
    selects = "above"  # u above `bound` are active, or the largest "by row", "by batch"
    k: float = 0  # active codes a row, where their number is given
    two_decodes = False  # whether the active u must reconstruct the rows as well

    def n_kept(self, n_rows: int) -> int:
        """Return how many codes a batch of rows keeps, where their number is given."""
        return max(1, round(self.k * n_rows))

    def extra_params(self, n_components: int, n_features: int) -> dict[str, Tensor]:
        """Return the first values of parameters beside encoder, decoder and biases."""
        return {}

    def penalty_weight(self, alpha: float, n_features: int) -> float:
        """Return what `penalty` is multiplied by."""
        return 0.0

    def bound(self, params: dict[str, Tensor]) -> Tensor:
        """Return what u must exceed to be active, shape (m,)."""
        return torch.zeros_like(params["encoder_bias"])

    def keep(self, u: Tensor) -> Tensor:
        """Return which of u (n, m) are active, where no bound decides."""
        raise NotImplementedError

    def codes(self, u: Tensor, at: At) -> Tensor:
        """Return the codes of active u."""
        return u

    def penalty(self, u: Tensor, z: Tensor) -> Tensor:
        """Return the penalty of each active u."""
        return torch.zeros_like(u)

    def backward(
        self, u: Tensor, z: Tensor, grad_codes: Tensor, weight: Tensor | float, at: At
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the derivatives with respect to u and to extra parameters.

        Parameters
        ----------
        u, z : Tensor
            Active pre-activations and their codes.
        grad_codes : Tensor
            Derivative of the reconstruction's loss with respect to z.
        weight : Tensor or float
            Weight of the row times the weight of the penalty.
        at : callable
        """
        return grad_codes, {}

    def encoder(self, params: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the weights (m, d) and biases (m,) whose u `fitted` maps to codes."""
        return params.get("encoder", params["decoder"]), params["encoder_bias"]

    def fitted(self, threshold) -> fitted.Activation:
        """Return the activation of the fitted weights."""
        return fitted.JumpReLU(threshold)

    def threshold(self, params: dict[str, Tensor]) -> Tensor | None:
        """Return the thresholds (m,) of the fitted activation, if it has them."""
        return None

    def reference(self, u: Tensor, params: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return codes and penalties (n, m), differentiable by autograd."""
        raise NotImplementedError


class ReLU(TrainingActivation):
    """Codes max(u, 0), sparse by an L1 penalty weighted by the decoder's norms.

    Decoder rows have norm one, so the weights are all one.
    """

    name = "relu"
    penalised = True

    def penalty_weight(self, alpha, n_features):
        """Return alpha / sqrt(d): codes of rows of length sqrt(d) grow like it."""
        return alpha / math.sqrt(n_features)

    def penalty(self, u, z):
        """Return the code."""
        return z

    def backward(self, u, z, grad_codes, weight, at):
        """Return the derivatives with respect to u and to extra parameters."""
        return grad_codes + weight, {}

    def fitted(self, threshold):
        """Return the activation of the fitted weights."""
        return fitted.ReLU()

    def reference(self, u, params):
        """Return codes and penalties (n, m), differentiable by autograd."""
        z = u.relu()
        return z, z


class TopK(TrainingActivation):
    """The `k` largest positive u of each row."""

    name = "topk"
    selects = "by row"

    def __init__(self, k: float):
        self.k = k

    def keep(self, u):
        """Return which of u (n, m) are active."""
        if self.k >= u.shape[1]:
            return u > 0
        mask = fitted.largest_of_rows(u, int(self.k))
        if mask is not None:
            return mask
        kept = u.topk(int(self.k), dim=1, sorted=False).indices
        mask = torch.zeros_like(u, dtype=torch.bool).scatter_(1, kept, True)
        return mask.logical_and_(u > 0)

    def fitted(self, threshold):
        """Return the activation of the fitted weights."""
        return fitted.TopK(int(self.k))

    def reference(self, u, params):
        """Return codes and penalties (n, m), differentiable by autograd."""
        z = torch.where(self.keep(u.detach()), u, 0.0)
        return z, torch.zeros_like(z)


class BatchTopK(TopK):
    """The ``n * k`` largest positive u of a batch of n rows [1]_.

    The smallest one kept, averaged over batches, is the threshold of the fitted
    activation, so that the code of a row does not depend on its batch.

    References
    ----------
    .. [1] B. Bussmann et al., "BatchTopK Sparse Autoencoders", 2024.
    """

    name = "batch_topk"
    selects = "by batch"

    def keep(self, u):
        """Return which of u (n, m) are active."""
        n_kept = self.n_kept(len(u))
        if n_kept >= u.numel():
            return u > 0
        kept = u.flatten().topk(n_kept, sorted=False).indices
        mask = torch.zeros_like(u, dtype=torch.bool)
        mask.view(-1)[kept] = True
        return mask.logical_and_(u > 0)

    def fitted(self, threshold):
        """Return the activation of the fitted weights."""
        return fitted.JumpReLU(threshold)


class JumpReLU(TrainingActivation):
    """Codes u where u exceeds a trained threshold, penalised by their number [1]_.

    The number is constant under small changes of a threshold, so the derivative is that
    of a smoothed number: each u within a narrow window round the threshold counts.

    References
    ----------
    .. [1] S. Rajamanoharan et al., "Jumping Ahead: Improving Reconstruction Fidelity
       with JumpReLU Sparse Autoencoders", 2024.
    """

    name = "jumprelu"
    penalised = True

    def __init__(self, n_features: int):
        self.bandwidth = _BANDWIDTH * math.sqrt(n_features)

    def extra_params(self, n_components, n_features):
        """Return the logarithms of the thresholds."""
        first = math.log(_FIRST_THRESHOLD * math.sqrt(n_features))
        return {"log_threshold": torch.full((n_components,), first, **PLAIN)}

    def penalty_weight(self, alpha, n_features):
        """Return alpha**2 / 4.

        With orthonormal features a code then lowers the loss from the same
        pre-activation on as under the L1 penalty, alpha / 2 * sqrt(d).
        """
        return alpha**2 / 4

    def bound(self, params):
        """Return what u must exceed to be active, shape (m,)."""
        return params["log_threshold"].exp() - self.bandwidth / 2

    def codes(self, u, at):
        """Return the codes of active u."""
        return u * fitted.above(u, at("log_threshold").exp())

    def penalty(self, u, z):
        """Return one for each code."""
        return _is_on(z)

    def backward(self, u, z, grad_codes, weight, at):
        """Return the derivatives with respect to u and to extra parameters."""
        threshold = at("log_threshold").exp()
        far = fitted.above((u - threshold).abs(), self.bandwidth / 2)
        grad = (threshold * grad_codes + weight) * ((far - 1) / self.bandwidth)
        return grad_codes * _is_on(z), {"log_threshold": grad * threshold}

    def threshold(self, params):
        """Return the thresholds (m,) of the fitted activation, if it has them."""
        return params["log_threshold"].exp()

    def reference(self, u, params):
        """Return codes and penalties (n, m), differentiable by autograd."""
        threshold = params["log_threshold"].exp()
        step = _Step.apply(u, threshold, self.bandwidth)
        # The step moves with the threshold, the line above it does not.
        z = u * (u > threshold) + threshold.detach() * (step - step.detach())
        return z, step


class _Step(torch.autograd.Function):
    """One where u exceeds a threshold; its derivative is a box round the threshold."""

    @staticmethod
    def forward(ctx, u, threshold, bandwidth):
        ctx.save_for_backward(u, threshold)
        ctx.bandwidth = bandwidth
        return (u > threshold).to(u.dtype)

    @staticmethod
    def backward(ctx, *grads):
        u, threshold = ctx.saved_tensors
        near = (u - threshold).abs() < ctx.bandwidth / 2
        # Only the threshold has this gradient, as in the paper.
        return None, -(grads[0] * near).sum(0) / ctx.bandwidth, None


class Gated(TrainingActivation):
    """A gate u > 0 and a magnitude exp(r) u + c that shares the gate's direction [1]_.

    Only the gate is penalised, by max(u, 0). Its gradient comes from a second
    reconstruction of the rows, with max(u, 0) as codes and the decoder held constant.

    References
    ----------
    .. [1] S. Rajamanoharan et al., "Improving Dictionary Learning with Gated Sparse
       Autoencoders", 2024.
    """

    name = "gated"
    penalised = True
    two_decodes = True
    penalty_weight = ReLU.penalty_weight

    def extra_params(self, n_components, n_features):
        """Return the r and the c of each feature."""
        return {
            "log_magnitude": torch.zeros(n_components, **PLAIN),
            "magnitude_bias": torch.zeros(n_components, **PLAIN),
        }

    def codes(self, u, at):
        """Return the codes of active u."""
        return (at("log_magnitude").exp() * u + at("magnitude_bias")).relu()

    def penalty(self, u, z):
        """Return the opening of the gate."""
        return u

    def backward(self, u, z, grad_codes, weight, at):
        """Return the derivatives with respect to u and to extra parameters."""
        magnitude = at("log_magnitude").exp()
        own = grad_codes * _is_on(z)
        return magnitude * own + weight, {
            "log_magnitude": own * magnitude * u,
            "magnitude_bias": own,
        }

    def encoder(self, params):
        """Return the weights (m, d) and biases (m,) whose u `fitted` maps to codes."""
        magnitude = params["log_magnitude"].exp()
        bias = magnitude * params["encoder_bias"] + params["magnitude_bias"]
        return magnitude[:, None] * params["encoder"], bias

    def threshold(self, params):
        """Return the thresholds (m,) of the fitted activation, if it has them."""
        # The gate u > 0, on the scale of the magnitudes.
        return params["magnitude_bias"].relu()

    def reference(self, u, params):
        """Return codes and penalties (n, m), differentiable by autograd."""
        magnitude = params["log_magnitude"].exp() * u + params["magnitude_bias"]
        return magnitude.relu() * (u > 0), u.relu()


def _is_on(z: Tensor) -> Tensor:
    """Return one where a code, which is never negative, is positive; else zero."""
    return fitted.above(z, 0.0)


def make_training_activation(
    name: str, k: float, n_features: int
) -> TrainingActivation:
    """Return the activation called `name`, for rows of `n_features` values."""
    makers: dict[str, Callable[[], TrainingActivation]] = {
        "relu": ReLU,
        "topk": lambda: TopK(k),
        "batch_topk": lambda: BatchTopK(k),
        "jumprelu": lambda: JumpReLU(n_features),
        "gated": Gated,
    }
    return makers[name]()
