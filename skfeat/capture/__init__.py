"""Recording what modules of a torch model compute, one row a token.

`capture` runs a model of any size over any number of batches and keeps the inputs or
outputs of some of its modules, in memory or in files that
:class:`skfeat.SparseAutoencoder` trains from without reading them whole.
"""

from skfeat.capture._capture import Capture, Progress, capture

__all__ = ["Capture", "Progress", "capture"]
