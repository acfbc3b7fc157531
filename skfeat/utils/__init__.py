"""Helpers that know nothing of estimators or of mathematics."""
