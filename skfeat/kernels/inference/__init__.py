"""Encoding rows and running sparse layers, without torch."""
