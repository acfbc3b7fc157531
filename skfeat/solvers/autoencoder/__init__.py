"""Minibatch training of a sparse autoencoder."""
