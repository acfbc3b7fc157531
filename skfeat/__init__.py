"""Turn a trained neural network into a sparse network of interpretable features."""

__version__ = "0.1.0.dev0"

from skfeat._feature_connector import FeatureConnector
from skfeat._feature_connector_cv import FeatureConnectorCV
from skfeat._feature_unwrapper import FeatureUnwrapper
from skfeat._sparse_autoencoder import SparseAutoencoder

__all__ = [
    "FeatureConnector",
    "FeatureConnectorCV",
    "FeatureUnwrapper",
    "SparseAutoencoder",
    "__version__",
]
