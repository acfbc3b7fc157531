"""The meta-estimator that turns a trained network into a sparse one of features."""

from skfeat.unwrapper._control_report import ControlReport
from skfeat.unwrapper._feature_unwrapper import FeatureUnwrapper
from skfeat.unwrapper._report import Report

__all__ = ["ControlReport", "FeatureUnwrapper", "Report"]
