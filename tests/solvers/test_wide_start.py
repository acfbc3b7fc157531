"""Autoencoders that start with more active features than they end with."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skfeat import SparseAutoencoder
from skfeat.datasets import make_feature_network
from skfeat.metrics import match_components
from skfeat.solvers.autoencoder import _trainer
from skfeat.solvers.autoencoder._adaptive import WIDE_SHARE, active_at
from tests.autoencoder.test_sparse_autoencoder import make_sae


@given(
    k=st.floats(0.1, 50),
    times=st.floats(1, 20),
    shares=st.lists(st.floats(0, 1), min_size=2, max_size=20).map(sorted),
)
def test_active_features_fall_to_k(k, times, shares):
    found = [active_at(times * k, k, share) for share in shares]
    assert found == sorted(found, reverse=True)
    assert active_at(times * k, k, 0.0) == pytest.approx(times * k)
    assert active_at(times * k, k, WIDE_SHARE) == k == active_at(times * k, k, 1.0)


@pytest.mark.parametrize("activation", ["topk", "batch_topk"])
def test_a_fit_goes_through_them(monkeypatch, activation):
    X = np.random.RandomState(0).randn(160, 6)
    select, selected = _trainer.SAETrainer._select, []

    def record(self, k):
        selected.append(k)
        select(self, k)

    monkeypatch.setattr(_trainer.SAETrainer, "_select", record)
    sae = make_sae(activation=activation, k_start=10).fit(X)
    # The first is that of a trainer before its run.
    assert selected[1] == 10
    assert selected[1:] == sorted(set(selected[1:]), reverse=True)
    assert selected[-1] == sae.k == 3
    assert sae.l0_ == pytest.approx(3, rel=0.1)


def test_partial_fit_keeps_to_k():
    X = np.random.RandomState(0).randn(160, 6)
    wide, plain = (make_sae(k_start=start).partial_fit(X) for start in (10, None))
    np.testing.assert_array_equal(wide.components_, plain.components_)


def test_the_best_epoch_is_one_of_the_narrow_ones():
    X = np.random.RandomState(0).randn(400, 6)
    sae = make_sae(k_start=12, early_stopping=True, activation="batch_topk").fit(X)
    # Twelve features reconstruct better than three.
    assert max(sae.validation_scores_[:12]) > max(sae.validation_scores_[12:])
    assert sae.l0_ < 4


@pytest.mark.parametrize("k", [0.5, 2.5])
def test_an_average_need_not_be_whole(k):
    X = np.random.RandomState(0).randn(2000, 6)
    sae = make_sae(activation="batch_topk", k=k, batch_size=200).fit(X)
    assert sae.l0_ == pytest.approx(k, rel=0.1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_features_that_fire_together_are_told_apart():
    network = make_feature_network(16_000, random_state=1)
    rows, known = network.activations[1], network.dictionaries[1]

    def n_missed(k_start):
        sae = SparseAutoencoder(
            round(1.1 * len(known)),
            activation="batch_topk",
            k=2,
            k_start=k_start,
            random_state=0,
        ).fit(rows)
        return (match_components(known, sae.components_)[1] < 0.95).sum()

    assert n_missed(16) <= n_missed(None) - 5
