"""The hot loops, each beside the plain reference that defines what it computes."""
