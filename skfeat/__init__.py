"""Turn a trained neural network into a sparse network of interpretable features."""

from importlib import import_module
from typing import TYPE_CHECKING

from skfeat._version import __version__

if TYPE_CHECKING:
    from skfeat.autoencoder import FeatureEnsemble, SparseAutoencoder, Transcoder
    from skfeat.connector import FeatureConnector, FeatureConnectorCV
    from skfeat.unwrapper import FeatureUnwrapper

__all__ = [
    "FeatureConnector",
    "FeatureConnectorCV",
    "FeatureEnsemble",
    "FeatureUnwrapper",
    "SparseAutoencoder",
    "Transcoder",
    "__version__",
]

# Estimators train with torch. Imported on first use, they leave it out of a process
# that only runs a saved network.
_HOMES = {
    "FeatureConnector": "skfeat.connector",
    "FeatureConnectorCV": "skfeat.connector",
    "FeatureEnsemble": "skfeat.autoencoder",
    "FeatureUnwrapper": "skfeat.unwrapper",
    "SparseAutoencoder": "skfeat.autoencoder",
    "Transcoder": "skfeat.autoencoder",
}


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
