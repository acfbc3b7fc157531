"""Capturing what modules of a torch model compute, one row for each token.

`capture` runs a model over batches and keeps the inputs or outputs of chosen modules,
in memory or in files. :class:`skfeat.SparseAutoencoder` trains from such files without
reading them as a whole.
"""

from skfeat.capture._capture import Capture, Progress, capture

__all__ = ["Capture", "Progress", "capture"]
