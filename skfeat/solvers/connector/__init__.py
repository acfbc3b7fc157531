"""Solvers of a sparse connector: linear, rectified, over a path of penalties."""
