"""Layer pairs whose autoencoders are trained together with the map between them."""

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator

from skfeat.metrics import explained_variance, fvu
from tests.language.test_layer_pair import fitted, rows

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*features are dead:UserWarning"),
]


def r2_of_map(pair, X, Y):
    codes = pair.output_features(Y).toarray()
    return 1 - fvu(codes, pair.connector_.predict(pair.input_features(X)))


def test_features_are_better_predicted_and_reconstruct_as_well():
    X, Y = rows(seed=3)
    params = {"n_nonzero_coefs": 2, "min_events": 30}
    apart, joint = fitted(**params), fitted(joint=True, **params)
    assert r2_of_map(joint, X, Y) > r2_of_map(apart, X, Y) + 0.05
    for name, data in (("input", X), ("output", Y)):
        scores = [
            getattr(p, f"{name}_autoencoder_").score(data) for p in (apart, joint)
        ]
        assert scores[1] > scores[0] - 0.02


def test_budget_holds_and_the_start_is_the_separate_fit():
    apart, joint = fitted(), fitted(joint=True)
    assert joint.connector_.coef_.nnz <= 10 * len(joint.live_outputs_)
    for name in ("input", "output"):
        before, after = (getattr(p, f"{name}_autoencoder_") for p in (apart, joint))
        assert before.random_state == after.random_state
        assert not np.allclose(before.components_, after.components_, atol=1e-3)


@pytest.mark.parametrize("name", ["input_autoencoder", "output_autoencoder"])
def test_what_is_frozen_stays(name):
    first = getattr(fitted(), f"{name}_")
    pair = fitted(joint=True, **{name: FrozenEstimator(first)})
    for attribute in ("components_", "encoder_coef_", "intercept_"):
        np.testing.assert_array_equal(
            getattr(getattr(pair, f"{name}_"), attribute), getattr(first, attribute)
        )


def test_units_of_the_data_change_nothing():
    X, Y = rows()
    pair = fitted(joint=True)
    scaled = fitted(joint=True).set_params(random_state=0)
    scaled.fit(X * np.float32(2**10), Y * np.float32(2**-12))
    np.testing.assert_array_equal(pair.live_outputs_, scaled.live_outputs_)
    np.testing.assert_allclose(
        scaled.predict(X * np.float32(2**10)) * 2**12, pair.predict(X), rtol=1e-3
    )
    assert explained_variance(Y, pair.predict(X)) == pytest.approx(
        pair.score(X, Y), abs=1e-5
    )


def test_faithfulness_that_changes_nothing_is_named():
    pair, (X, Y) = fitted().set_params(faithfulness=3.0), rows()
    with pytest.warns(UserWarning, match="faithfulness"):
        pair.fit(X, Y)
