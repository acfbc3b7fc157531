"""Sparse probes, against what scikit-learn's own parts give."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.feature_selection import SelectKBest, f_classif, mutual_info_classif
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfeat.metrics import sparse_probe

SEEDS = st.integers(0, 2**32 - 1)
# Each example fits a dozen classifiers.
FEW = settings(max_examples=6)


def drawn(seed, n=90, m=12, n_classes=2):
    """Return sparse codes, one of which says more of the class than the others."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    rng.shuffle(y)
    codes = np.maximum(rng.normal(size=(n, m)) - 0.3, 0)
    codes[:, 5] += 1.5 * (y == 1)
    return codes, y


@FEW
@given(seed=SEEDS, k=st.integers(1, 12), n_classes=st.integers(2, 3))
def test_is_a_pipeline_of_scikit_learn(seed, k, n_classes):
    codes, y = drawn(seed, n_classes=n_classes)
    found = sparse_probe(codes, y, k)
    pipeline = make_pipeline(
        SelectKBest(f_classif, k=k), StandardScaler(), LogisticRegression()
    )
    expected = cross_val_score(pipeline, codes, y, scoring="roc_auc_ovr")
    np.testing.assert_allclose(found.scores, expected, rtol=1e-9)
    assert found.score == found.scores.mean()
    assert found.features.shape == (5, k)


@pytest.mark.parametrize("selection", ["correlation", "mean_difference", f_classif])
@pytest.mark.parametrize(
    "kind", [sparse.csr_array, sparse.csc_matrix, torch.from_numpy, np.float32]
)
def test_any_container(selection, kind):
    codes, y = drawn(0)
    expected = sparse_probe(codes, y, 3, selection=selection)
    found = sparse_probe(kind(codes), y, 3, selection=selection)
    np.testing.assert_array_equal(found.features, expected.features)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


@FEW
@given(seed=SEEDS)
def test_mean_difference_as_written_out(seed):
    codes, y = drawn(seed, n_classes=3)
    train, _ = next(StratifiedKFold(5).split(codes, y))
    gaps = np.zeros(codes.shape[1])
    for j, column in enumerate(codes[train].T):
        unit = abs(column[column != 0]).mean() if (column != 0).any() else 1
        for c in range(3):
            inside = y[train] == c
            gap = abs(column[inside].mean() - column[~inside].mean()) / unit
            gaps[j] = max(gaps[j], gap)
    found = sparse_probe(codes, y, 1, selection="mean_difference")
    assert gaps[found.features[0, 0]] == pytest.approx(gaps.max())


def test_features_are_chosen_without_the_rows_held_out():
    rng = np.random.default_rng(0)
    codes, y = rng.normal(size=(60, 4000)), np.arange(60) % 2
    # Some of so many columns of noise agree with all labels by chance.
    assert sparse_probe(codes, y, 4).score < 0.65
    everywhere = SelectKBest(f_classif, k=4).fit_transform(codes, y)
    assert sparse_probe(everywhere, y, 4).score > 0.85


@FEW
@given(seed=SEEDS)
def test_scale_and_shift_of_a_feature_do_not_matter(seed):
    codes, y = drawn(seed)
    expected = sparse_probe(codes, y, 2)
    moved = codes * np.geomspace(1e-3, 1e3, codes.shape[1]) + 2.0
    found = sparse_probe(moved, y, 2)
    np.testing.assert_array_equal(found.features, expected.features)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-6)


def test_dead_and_constant_features_come_last():
    codes, y = drawn(1)
    codes[:, 0], codes[:, 1] = 0.0, 1e6 + 0.1
    assert not np.isin(sparse_probe(codes, y, 10).features, (0, 1)).any()


def test_options_of_scikit_learn():
    codes, y = drawn(2, n=60)
    splits = [(np.arange(40), np.arange(40, 60))]
    found = sparse_probe(
        codes,
        np.where(y == 1, "cat", "dog"),
        2,
        selection=lambda a, b: mutual_info_classif(a, b, random_state=0),
        classifier=GaussianNB(),
        cv=splits,
        scoring="accuracy",
    )
    model = GaussianNB().fit(codes[:40, found.features[0]], y[:40])
    expected = model.score(codes[40:, found.features[0]], y[40:])
    assert found.scores.tolist() == [expected]
    assert found.features[0, 0] == 5


def test_what_is_refused():
    codes, y = drawn(0)
    for k in (0, 13, 1.5, True):
        with pytest.raises(ValueError, match="k must be an int from 1 to 12"):
            sparse_probe(codes, y, k)
    with pytest.raises(ValueError, match="must be a callable or one of 'correl"):
        sparse_probe(codes, y, selection="best")
    with pytest.raises(ValueError, match=r"scores of shape \(12,\). Got \(90, 12\)"):
        sparse_probe(codes, y, selection=lambda a, b: codes)
    with pytest.raises(ValueError, match="at least two classes"):
        sparse_probe(codes, np.zeros(90))
    with pytest.raises(ValueError, match="Unknown label type"):
        sparse_probe(codes, np.linspace(0, 1, 90))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        sparse_probe(codes, y[:-1])
