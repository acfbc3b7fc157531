"""Pictures of features, connectors and networks, as scikit-learn Displays.

Importing this module does not import matplotlib; drawing does.
"""

from skfeat.inspection._activation_display import ActivationDisplay
from skfeat.inspection._activation_maximization import maximize_activation
from skfeat.inspection._connector_display import ConnectorDisplay
from skfeat.inspection._connector_history_display import ConnectorHistoryDisplay
from skfeat.inspection._feature_graph_display import FeatureGraphDisplay
from skfeat.inspection._feature_map_display import FeatureMapDisplay
from skfeat.inspection._image_grid_display import ImageGridDisplay
from skfeat.inspection._reconstruction_display import ReconstructionDisplay
from skfeat.inspection._token_activations_display import TokenActivationsDisplay
from skfeat.inspection._top_examples_display import TopExamplesDisplay
from skfeat.inspection._training_curve_display import TrainingCurveDisplay

__all__ = [
    "ActivationDisplay",
    "ConnectorDisplay",
    "ConnectorHistoryDisplay",
    "FeatureGraphDisplay",
    "FeatureMapDisplay",
    "ImageGridDisplay",
    "ReconstructionDisplay",
    "TokenActivationsDisplay",
    "TopExamplesDisplay",
    "TrainingCurveDisplay",
    "maximize_activation",
]
