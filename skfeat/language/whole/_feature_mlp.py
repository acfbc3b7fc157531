"""A torch module that stands in for an MLP: sparse features of what the MLP reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import nn

from skfeat.activations import Activation, JumpReLU


@dataclass(frozen=True)
class Layer:
    """What replaces one MLP, as arrays that act on the raw rows of its input.

    Parameters
    ----------
    encoder : ndarray of shape (m, d)
    encoder_bias : ndarray of shape (m,)
    activation : ReLU, TopK or JumpReLU
    decoder : ndarray of shape (q, d_out)
    bias : ndarray of shape (d_out,)
    coef : CSR array of shape (q, m), or None
        Weights from the features that are encoded to those that are decoded; ``None``
        decodes the encoded ones themselves, as a transcoder does.
    intercept : ndarray of shape (q,), or None
    link : {"relu", "identity"}
    skip : ndarray of shape (d_out, d), or None
        A linear map of the input that is added.
    """

    encoder: np.ndarray
    encoder_bias: np.ndarray
    activation: Activation
    decoder: np.ndarray
    bias: np.ndarray
    coef: Any = None
    intercept: np.ndarray | None = None
    link: str = field(default="relu")
    skip: np.ndarray | None = None

    @classmethod
    def of_pair(cls, input_autoencoder, connector, output_autoencoder) -> Layer:
        """Make the layer of two autoencoders and the connector between them."""
        encoder = np.asarray(input_autoencoder.encoder_coef_)
        return cls(
            encoder=encoder,
            encoder_bias=np.asarray(input_autoencoder.encoder_intercept_)
            - encoder @ np.asarray(input_autoencoder.intercept_),
            activation=input_autoencoder.make_activation(),
            decoder=np.asarray(output_autoencoder.components_),
            bias=np.asarray(output_autoencoder.intercept_),
            coef=sparse.csr_array(connector.coef_),
            intercept=np.asarray(connector.intercept_),
            link=connector._fitted_link,
        )

    @classmethod
    def of_transcoder(cls, transcoder) -> Layer:
        """Make the layer of a fitted transcoder."""
        skip = getattr(transcoder, "skip_coef_", None)
        return cls(
            encoder=np.asarray(transcoder.encoder_coef_),
            encoder_bias=np.asarray(transcoder.encoder_intercept_),
            activation=transcoder.make_activation(),
            decoder=np.asarray(transcoder.components_),
            bias=np.asarray(transcoder.intercept_),
            skip=None if skip is None else np.asarray(skip),
        )


class FeatureMLP(nn.Module):
    """Computes an MLP's output from sparse features of its input.

    It encodes rows into sparse features, computes the features of the output from them
    by few weights (a transcoder has none of these), and decodes.

    Parameters
    ----------
    layer : Layer
    """

    encoder: torch.Tensor
    encoder_bias: torch.Tensor
    decoder: torch.Tensor
    bias: torch.Tensor
    threshold: torch.Tensor
    coef: torch.Tensor | None
    intercept: torch.Tensor | None
    skip: torch.Tensor | None

    def __init__(self, layer: Layer):
        super().__init__()
        self.layer, self.link = layer, layer.link
        self.activation = layer.activation
        arrays = {
            "encoder": layer.encoder,
            "encoder_bias": layer.encoder_bias,
            "decoder": layer.decoder,
            "bias": layer.bias,
            "coef": None if layer.coef is None else layer.coef.toarray(),
            "intercept": layer.intercept,
            "skip": layer.skip,
        }
        if isinstance(layer.activation, JumpReLU):
            arrays["threshold"] = layer.activation.threshold
        for name, array in arrays.items():
            tensor = None if array is None else torch.tensor(array, dtype=torch.float32)
            self.register_buffer(name, tensor)

    def pre_activations(self, rows: torch.Tensor) -> torch.Tensor:
        """Return what the activation makes features of, (n, m), of rows (n, d)."""
        return torch.addmm(self.encoder_bias, rows, self.encoder.T)

    def activate(self, pre: torch.Tensor) -> torch.Tensor:
        """Return the features (n, m) of pre-activations."""
        if isinstance(self.activation, JumpReLU):
            return pre * (pre > self.threshold)
        return self.activation.forward(pre)

    def combine(self, codes: torch.Tensor) -> torch.Tensor:
        """Return weighted sums (n, q) of the features, before the link."""
        if self.coef is None or self.intercept is None:
            return codes
        return torch.addmm(self.intercept, codes, self.coef.T)

    def computed(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the features (n, q) that are decoded."""
        sums = self.combine(codes)
        return sums.relu() if self.coef is not None and self.link == "relu" else sums

    def decode(self, features: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return the output (n, d_out) of the features that are decoded."""
        output = torch.addmm(self.bias, features, self.decoder)
        return output if self.skip is None else output + rows @ self.skip.T

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Compute the output of an MLP.

        Parameters
        ----------
        hidden_states : Tensor of shape (..., d)

        Returns
        -------
        Tensor of shape (..., d_out)
        """
        rows = hidden_states.reshape(-1, hidden_states.shape[-1]).float()
        output = self.decode(
            self.computed(self.activate(self.pre_activations(rows))), rows
        )
        shape = (*hidden_states.shape[:-1], output.shape[-1])
        return output.reshape(shape).to(hidden_states.dtype)

    def extra_repr(self) -> str:
        """Say how many features are encoded and decoded, and by how many weights."""
        sizes = f"{len(self.encoder_bias)} features"
        if self.layer.coef is None:
            return sizes
        return f"{sizes} -> {len(self.decoder)} by {self.layer.coef.nnz} weights"
