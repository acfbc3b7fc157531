"""Sparse weights from the features of one layer to those of the next."""

from skfeat.connector._feature_connector import FeatureConnector
from skfeat.connector._feature_connector_cv import FeatureConnectorCV

__all__ = ["FeatureConnector", "FeatureConnectorCV"]
