"""The noise of a mean difference is its confidence interval, by rows or by groups."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from skfeat.metrics import paired_noise
from skfeat.metrics._noise import noise_of_sums


@given(seed=st.integers(0, 1000), n=st.integers(2, 60), scale=st.floats(1e-8, 1e8))
def test_as_the_interval_of_a_t_test(seed, n, scale):
    values = scale * np.random.default_rng(seed).normal(0.3, 1, n)
    interval = ttest_1samp(values, 0).confidence_interval(0.95)
    noise = paired_noise(values)
    assert noise == pytest.approx((interval.high - interval.low) / 2, rel=1e-9)
    assert (abs(values.mean()) <= noise) == (interval.low <= 0 <= interval.high)
    found = noise_of_sums(values.sum(), np.square(values).sum(), n)
    assert found == pytest.approx(noise, rel=1e-6)
    # Groups of one row are rows; groups of two equal rows have as much noise.
    assert paired_noise(values, np.ones(n)) == pytest.approx(noise)
    assert paired_noise(2 * values, np.full(n, 2)) == pytest.approx(noise)


def test_rows_of_a_group_are_not_independent():
    rng = np.random.default_rng(0)
    n_covered = 0
    for _ in range(300):
        sizes = rng.integers(5, 40, 20)
        sums = sizes * rng.normal(size=20)
        n_covered += abs(sums.sum() / sizes.sum()) <= paired_noise(sums, sizes)
    assert 0.91 <= n_covered / 300 <= 0.97


def test_nothing_is_known_of_fewer_than_two_rows():
    assert paired_noise([]) == paired_noise([1.0]) == np.inf
    assert noise_of_sums(np.ones(2), np.ones(2), 1).tolist() == [np.inf] * 2
    assert paired_noise([1, 1, 1]) == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (([1.0, np.nan],), "^differences must be a vector of finite numbers"),
        (([[1.0]],), "^differences must be a vector of finite numbers"),
        ((["a"],), "^differences must be a vector of finite numbers"),
        (([1.0, 2.0], [1, 0]), "^sizes must be 2 positive numbers or None"),
        (([1.0, 2.0], [1]), "^sizes must be 2 positive numbers or None"),
    ],
)
def test_clear_errors(args, message):
    with pytest.raises(ValueError, match=message):
        paired_noise(*args)
