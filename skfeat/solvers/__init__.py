"""Solvers: they receive arrays and settings, return arrays, and know no estimator."""
