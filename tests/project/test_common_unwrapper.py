"""scikit-learn's own checks of FeatureUnwrapper, round a model that takes any width.

Those of array API input are skipped unless SCIPY_ARRAY_API=1 is in the environment.
"""

import pytest
from sklearn.base import is_classifier
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_inplace_ensure_writeable,
    check_param_validation,
    parametrize_with_checks,
)

from skfeat import FeatureConnector, FeatureUnwrapper, SparseAutoencoder
from skfeat.testing import AnyWidthMLP, expected_failed_checks

pytestmark = [
    pytest.mark.usefixtures("few_updates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*features are dead:UserWarning"),
]


def unwrapper(n_outputs, **params):
    return FeatureUnwrapper(
        AnyWidthMLP(n_outputs),
        autoencoder=SparseAutoencoder(8, k=3, max_iter=3),
        connector=FeatureConnector(solver="minibatch", max_iter=3),
        n_nonzero_coefs=20,
        random_state=0,
        **params,
    )


ESTIMATORS = [unwrapper(3), unwrapper(1, distill=False)]
IDS = ["classifier", "regressor"]


@parametrize_with_checks(
    ESTIMATORS, expected_failed_checks=expected_failed_checks, xfail_strict=True
)
def test_check_estimator(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "check",
    [
        check_dataframe_column_names_consistency,
        check_inplace_ensure_writeable,
        check_param_validation,
    ],
)
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=IDS)
def test_check_never_yielded(estimator, check):
    check(type(estimator).__name__, estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=IDS)
def test_expected_failures_are_justified(estimator):
    expected = expected_failed_checks(estimator)
    of_classifiers = {
        "check_dtype_object",
        "check_classifiers_classes",
        "check_classifiers_one_label",
        "check_classifiers_train",
        "check_decision_proba_consistency",
    }
    without_epochs = {
        "check_non_transformer_estimators_n_iter",
        "check_transformer_n_iter",
    }
    found = set(expected) - {"check_estimators_overwrite_params"}
    assert found == (
        (of_classifiers if is_classifier(estimator) else set())
        | (set() if estimator.distill else without_epochs)
    )
    assert all(reason.endswith(".") for reason in expected.values())
