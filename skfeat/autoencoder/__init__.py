"""Sparse codes of activations: back to the activations, or on to others."""

from skfeat.autoencoder._ensemble import FeatureEnsemble
from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder
from skfeat.autoencoder._transcoder import Transcoder

__all__ = ["FeatureEnsemble", "SparseAutoencoder", "Transcoder"]
