"""The parameters of an autoencoder on the CPU: one memory, as tensors and as arrays."""

from __future__ import annotations

import numpy as np
import torch

from skfeat.kernels._memory import zeros
from skfeat.kernels.sae._arrays import Gradients, Weights


class Parameters:
    """Parameters and their gradients, in memory that both torch and loops work on.

    Parameters
    ----------
    tensors : dict of str to Tensor
        On the CPU; see `skfeat.kernels.sae._reference.loss_reference`.
    transcodes : bool, default=False
        Whether they are a transcoder's, which encodes rows as they are.

    Attributes
    ----------
    weights : Weights
    gradients : dict of str to ndarray
    tied : bool
    n_components : int
    dtype : dtype
    """

    def __init__(self, tensors: dict[str, torch.Tensor], *, transcodes: bool = False):
        self.tensors, self._transcodes = tensors, transcodes
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        self.tied = "encoder" not in arrays
        encoder = arrays.get("encoder", arrays["decoder"])
        none = zeros(encoder.shape[1], encoder.dtype)
        self.weights = Weights(
            bias=none if transcodes else arrays["bias"],
            encoder=encoder,
            encoder_bias=arrays["encoder_bias"],
            decoder=arrays["decoder"],
        )
        self.n_components, _ = self.weights.decoder.shape
        self.dtype = self.weights.decoder.dtype
        self.gradients = {n: zeros(a.shape, a.dtype) for n, a in arrays.items()}
        self._grad_tensors = {
            name: torch.from_numpy(array) for name, array in self.gradients.items()
        }

    def attach_gradients(self) -> None:
        """Let each tensor's ``grad`` be the array that kernels write."""
        for name, tensor in self.tensors.items():
            tensor.grad = self._grad_tensors[name]

    def sums(self, n_active: np.ndarray) -> Gradients:
        """Return the gradients that are summed over active codes, to be written."""
        gradients = self.gradients
        return Gradients(
            decoder=gradients["decoder"],
            encoder=gradients.get("encoder", gradients["decoder"]),
            encoder_bias=gradients["encoder_bias"],
            n_active=n_active,
        )

    def write_bias_gradient(self, weighted_residual: np.ndarray) -> None:
        """Write the gradient of the bias, from the sum of all rows' errors.

        A bias is added after decoding and, by an autoencoder, subtracted before
        encoding.
        """
        gradients = self.gradients
        if self._transcodes:
            gradients["bias"][:] = weighted_residual
            return
        through_encoder = gradients["encoder_bias"] @ self.weights.encoder
        gradients["bias"][:] = weighted_residual - through_encoder
