"""scikit-learn's own checks of the estimators.

Those of array API input are skipped unless SCIPY_ARRAY_API=1 is in the environment.
"""

import pytest
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_get_feature_names_out_error,
    check_global_output_transform_pandas,
    check_global_set_output_transform_polars,
    check_inplace_ensure_writeable,
    check_param_validation,
    check_set_output_transform,
    check_set_output_transform_pandas,
    check_set_output_transform_polars,
    check_transformer_get_feature_names_out,
    check_transformer_get_feature_names_out_pandas,
    parametrize_with_checks,
)

from skfeat import (
    FeatureConnector,
    FeatureConnectorCV,
    FeatureEnsemble,
    SparseAutoencoder,
    Transcoder,
)
from skfeat.testing import expected_failed_checks

# Few epochs: the checks ask whether an estimator behaves, not whether it learns.
TRANSFORMERS = [
    SparseAutoencoder(max_iter=20),
    SparseAutoencoder(max_iter=20, activation="relu"),
    # All features are kept: those of so short fits hardly recur.
    FeatureEnsemble(SparseAutoencoder(max_iter=20), n_fits=2),
]
# Epochs enough to explain more than half of what a regressor has to.
TRANSCODERS = [Transcoder(max_iter=300), Transcoder(max_iter=300, skip=True)]
REGRESSORS = [
    FeatureConnector(),
    FeatureConnector(link="identity"),
    FeatureConnectorCV(alphas=3, cv=2),
    FeatureConnectorCV(alphas=3, cv=2, link="identity"),
]
# Put FeatureUnwrapper here, round a model that takes any width.
META_ESTIMATORS = []
ESTIMATORS = [*TRANSFORMERS, *REGRESSORS, *META_ESTIMATORS]

# What `check_estimator` never yields; scikit-learn's own suite calls these by hand.
OF_EVERY_ESTIMATOR = [
    check_dataframe_column_names_consistency,
    check_inplace_ensure_writeable,
    check_param_validation,
]
OF_TRANSFORMERS = [
    check_get_feature_names_out_error,
    check_global_output_transform_pandas,
    check_global_set_output_transform_polars,
    check_set_output_transform,
    check_set_output_transform_pandas,
    check_set_output_transform_polars,
    check_transformer_get_feature_names_out,
    check_transformer_get_feature_names_out_pandas,
]


@parametrize_with_checks(
    ESTIMATORS, expected_failed_checks=expected_failed_checks, xfail_strict=True
)
def test_check_estimator(estimator, check):
    check(estimator)


# The checks set `alpha` wherever there is one, and fit noise.
@pytest.mark.filterwarnings("ignore:Transcoder. alpha")
@pytest.mark.filterwarnings("ignore:.*features are dead")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    TRANSCODERS, expected_failed_checks=expected_failed_checks, xfail_strict=True
)
def test_check_transcoder(estimator, check):
    check(estimator)


@pytest.mark.parametrize("check", OF_EVERY_ESTIMATOR)
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_check_never_yielded(estimator, check):
    check(type(estimator).__name__, estimator)


# The checks of `set_output` mix dataframes and arrays on purpose.
@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
@pytest.mark.parametrize("check", OF_TRANSFORMERS)
@pytest.mark.parametrize("estimator", TRANSFORMERS, ids=str)
def test_transformer_check_never_yielded(estimator, check):
    if "output_transform" in check.__name__:
        pytest.importorskip("polars" if "polars" in check.__name__ else "pandas")
    check(type(estimator).__name__, estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_expected_failures_are_few_and_justified(estimator):
    expected = expected_failed_checks(estimator)
    allowed = {
        "SparseAutoencoder": {"check_sample_weight_equivalence_on_dense_data"},
        "Transcoder": {"check_sample_weight_equivalence_on_dense_data"},
        "FeatureConnector": set(),
    }
    assert set(expected) <= allowed.get(type(estimator).__name__, set())
    assert all(reason.endswith(".") for reason in expected.values())
    # A caller may change what it got without changing what the next one gets.
    expected["check_nothing"] = "Not a check."
    assert "check_nothing" not in expected_failed_checks(estimator)
