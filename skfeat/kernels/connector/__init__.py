"""Second moments, coordinate descent and products at given positions."""
