"""Data at the ends of the range of floats, and fits that are cut short."""

import itertools
import os
import signal
import time

import numpy as np
import pytest
from scipy import sparse
from torch import nn

from skfeat import FeatureConnector, FeatureUnwrapper, SparseAutoencoder
from skfeat.metrics import fvu, kl_divergence, l0
from skfeat.solvers.autoencoder._trainer import SAETrainer

X = np.random.RandomState(0).randn(80, 6)


def autoencoder(**options):
    return SparseAutoencoder(12, k=3, max_iter=30, random_state=0, **options)


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30])
def test_scale_of_the_data_does_not_matter(scale):
    expected = autoencoder().fit(X).score(X)
    assert autoencoder().fit(X * scale).score(X * scale) == pytest.approx(
        expected, abs=1e-3
    )
    assert fvu(X * scale, 0 * X) == pytest.approx(fvu(X, 0 * X))


def test_data_beyond_range_is_refused():
    huge = np.full((10, 3), 1e308) * np.random.RandomState(0).choice([-1, 1], (10, 3))
    with (
        np.errstate(over="ignore", invalid="ignore"),
        pytest.raises(ValueError, match="non-finite; rescale X"),
    ):
        autoencoder().fit(huge)


def test_parameters_set_after_fit_wait_for_the_next_fit():
    fitted = autoencoder().fit(X)
    before = fitted.transform(X)
    fitted.set_params(k=32, activation="relu")
    np.testing.assert_array_equal(fitted.transform(X), before)
    assert (fitted.fit(X).transform(X) != before).any()


@pytest.mark.parametrize("n_threads", [1, 2])
def test_interrupt_ends_the_whole_unwrapping(monkeypatch, n_threads):
    monkeypatch.setattr("skfeat._fitting.n_threads", lambda: n_threads)
    model = nn.Sequential(
        nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)
    )
    endless = SparseAutoencoder(
        12, k=3, max_iter=10**6, n_iter_no_change=10**6, random_state=0
    )
    unwrapper = FeatureUnwrapper(model, autoencoder=endless, distill=False)
    epoch, n_epochs = SAETrainer.epoch, itertools.count()

    def interrupted(trainer, *args, **kwargs):
        # Sent by a timer it can fall where Python ignores exceptions, and be lost.
        if next(n_epochs) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return epoch(trainer, *args, **kwargs)

    monkeypatch.setattr(SAETrainer, "epoch", interrupted)
    # A shell starts what it runs in the background with this signal ignored.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with (
            pytest.warns(UserWarning, match="was interrupted"),
            pytest.raises(KeyboardInterrupt),
        ):
            unwrapper.fit(X * 9)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert not unwrapper.__sklearn_is_fitted__()
    # Fits that went on unseen would draw further epochs.
    n_before = next(n_epochs)
    time.sleep(0.2)
    assert next(n_epochs) == n_before + 1


def test_a_part_that_fails_ends_the_others(monkeypatch):
    monkeypatch.setattr("skfeat._fitting.n_threads", lambda: 2)
    # Parts as small as these are fitted one after the other.
    monkeypatch.setattr("skfeat._fitting._gains_beside_others", lambda *_: True)
    model = nn.Sequential(
        nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)
    )
    endless = SparseAutoencoder(12, k=3, max_iter=10**6, n_iter_no_change=10**6)
    broken = SparseAutoencoder(12, k=3, learning_rate_init=1e30, max_iter=10)
    unwrapper = FeatureUnwrapper(model, autoencoder=[endless, broken], distill=False)
    with (
        pytest.warns(UserWarning, match="was interrupted"),
        pytest.raises(ValueError, match="SparseAutoencoder diverged"),
    ):
        unwrapper.fit(X)


def test_a_rate_far_too_high_is_found_out():
    inputs = np.maximum(X, 0)
    connector = FeatureConnector(
        solver="minibatch", learning_rate_init=1e9, max_iter=20, random_state=0
    )
    with pytest.raises(ValueError, match="FeatureConnector diverged"):
        connector.fit(inputs, inputs[:, :2])


def test_sparse_targets_are_scored():
    inputs = np.maximum(X, 0)
    targets = inputs[:, :2]
    connector = FeatureConnector().fit(inputs, sparse.csr_array(targets))
    assert connector.score(inputs, sparse.csr_array(targets)) == connector.score(
        inputs, targets
    )


@pytest.mark.parametrize("metric", [fvu, kl_divergence])
def test_metrics_refuse_other_shapes(metric):
    with pytest.raises(ValueError, match="must have the same shape"):
        metric(X, X[:1])
    with pytest.raises(ValueError, match="contains NaN"):
        metric(X, X * np.nan)


def test_metrics_refuse_what_is_no_matrix_of_codes():
    for codes, message in [
        (X[0], "Expected 2D array"),
        (X[None], "Found array with dim 3"),
        (X * np.nan, "contains NaN"),
        ([["a", "b"]], "arrays of bytes/strings"),
    ]:
        with pytest.raises(ValueError, match=message):
            l0(codes)


def test_the_score_of_rows_that_do_not_vary_does_not_overflow():
    X = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
    sae = SparseAutoencoder(8, k=2, max_iter=3, random_state=0).fit(X)
    # Their mean is rounded, of some so little that squares of the mean in units of
    # the deviations do not fit into float32.
    for row in 100 * np.random.default_rng(1).normal(size=(60, 1, 6)):
        assert sae.score(np.repeat(row, 30, axis=0).astype(np.float32)) == 0
