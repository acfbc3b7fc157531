"""The sparse autoencoder: activations to sparse codes and back."""

from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder

__all__ = ["SparseAutoencoder"]
