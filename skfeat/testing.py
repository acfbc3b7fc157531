"""What tests of the estimators share, here and in projects that build on skfeat."""

from __future__ import annotations


def expected_failed_checks(estimator) -> dict[str, str]:
    """Return the scikit-learn checks that an estimator cannot pass, and why.

    Parameters
    ----------
    estimator : estimator instance
        Any estimator of skfeat.

    Returns
    -------
    dict of str to str
        Maps the name of a check to a justification, as `expected_failed_checks` of
        :func:`sklearn.utils.estimator_checks.parametrize_with_checks` wants it.

    Examples
    --------
    >>> from skfeat import FeatureConnector
    >>> from skfeat.testing import expected_failed_checks
    >>> expected_failed_checks(FeatureConnector())
    {}
    """
    return dict(_EXPECTED.get(type(estimator).__name__, {}))


# By the name of the class, so that this module needs to import no estimator.
_EXPECTED = {
    "SparseAutoencoder": {
        "check_sample_weight_equivalence_on_dense_data": (
            "Minibatches of shuffled rows differ when rows are repeated rather than "
            "weighted."
        ),
    },
}
