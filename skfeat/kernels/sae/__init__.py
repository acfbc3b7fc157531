"""Gradients of sparse autoencoders, on dense matrices and over active codes."""
