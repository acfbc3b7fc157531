"""Maps of features over positions: the patches that a convolution reads."""

from skfeat.maps._patches import Patches

__all__ = ["Patches"]
