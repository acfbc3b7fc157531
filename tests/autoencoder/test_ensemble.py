"""Features that recur: what is kept, how it is counted, and the codes."""

import pickle
import warnings
from itertools import pairwise

import numpy as np
import pytest
from joblib import parallel_config
from scipy import sparse
from sklearn.model_selection import GridSearchCV

from skfeat import FeatureEnsemble, SparseAutoencoder, Transcoder
from skfeat.datasets import make_sparse_features
from skfeat.metrics import (
    explained_variance,
    match_components,
    recovery_rate,
    stability,
)

X, _, DICTIONARY = make_sparse_features(
    1500, 10, 14, n_active=2, noise=0.02, random_state=0
)
PART = SparseAutoencoder(20, k=2, max_iter=60, batch_size=128)


@pytest.fixture(scope="module")
def ensemble():
    return FeatureEnsemble(PART, n_fits=3, min_support=1.0, random_state=0).fit(X)


def test_what_recurs_is_what_rows_are_made_of(ensemble):
    assert recovery_rate(DICTIONARY, ensemble.components_) > 0.6
    # Features that are no direction of the rows differ from fit to fit.
    every = ensemble.autoencoders_[ensemble.reference_].components_
    kept = recovery_rate(ensemble.components_, DICTIONARY)
    assert kept > recovery_rate(every, DICTIONARY)
    assert len(ensemble.components_) < len(every) == 20


def test_counts_as_written_out(ensemble):
    fits = ensemble.autoencoders_
    table = [[stability(a.components_, b.components_) for b in fits] for a in fits]
    np.testing.assert_allclose(ensemble.matched_cosines_, table, atol=1e-6)
    sums = ensemble.matched_cosines_.sum(axis=1)
    assert ensemble.reference_ == sums.argmax()
    best = fits[ensemble.reference_]
    others = [fit for fit in fits if fit is not best]
    cosines = [match_components(best.components_, o.components_)[1] for o in others]
    support = 1 + (np.array(cosines) >= 0.7).sum(axis=0)
    kept = np.flatnonzero(support == 3)
    np.testing.assert_array_equal(ensemble.features_, kept)
    np.testing.assert_array_equal(ensemble.support_, support[kept])
    np.testing.assert_allclose(
        ensemble.mean_cosines_, np.mean(cosines, axis=0)[kept], rtol=1e-6
    )


def test_codes_are_those_of_the_fit_that_is_kept(ensemble):
    best = ensemble.autoencoders_[ensemble.reference_]
    codes = ensemble.transform(X)
    np.testing.assert_array_equal(codes, best.transform(X)[:, ensemble.features_])
    whole = np.zeros((len(X), 20))
    whole[:, ensemble.features_] = codes
    rows = ensemble.inverse_transform(codes)
    np.testing.assert_allclose(rows, best.inverse_transform(whole), atol=1e-8)
    np.testing.assert_allclose(
        ensemble.inverse_transform(sparse.csr_array(codes)), rows, atol=1e-12
    )
    assert ensemble.score(X) == pytest.approx(explained_variance(X, rows))
    with pytest.raises(ValueError, match="20 features, but this FeatureEnsemble has"):
        ensemble.inverse_transform(whole)
    names = ensemble.get_feature_names_out()
    assert names[0] == "featureensemble0"
    assert len(names) == codes.shape[1]


def test_without_a_minimum_it_is_one_fit_whole():
    part = PART.set_params(max_iter=5, sparse_output=True)
    whole = FeatureEnsemble(part, n_fits=2, min_support=0, random_state=1).fit(X)
    best = whole.autoencoders_[whole.reference_]
    assert whole.score(X) == pytest.approx(best.score(X))
    codes = whole.transform(X)
    assert sparse.issparse(codes)
    assert codes.shape == (1500, 20)
    part.set_params(max_iter=60, sparse_output=False)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_seeds_alone_make_the_fits(n_jobs):
    part = SparseAutoencoder(8, k=2, max_iter=3, random_state=5)
    options = {"n_fits": 3, "min_support": 0, "random_state": 0}
    with warnings.catch_warnings(), parallel_config("threading"):
        warnings.simplefilter("ignore")
        first = FeatureEnsemble(part, **options, n_jobs=n_jobs).fit(X[:200])
        again = FeatureEnsemble(part, **options).fit(iter([X[:90], X[90:200]]))
    np.testing.assert_allclose(first.components_, again.components_)
    seeds = [fit.random_state for fit in first.autoencoders_]
    assert len(set(seeds)) == 3
    for a, b in pairwise(first.autoencoders_):
        assert abs(a.components_ - b.components_).max() > 0.01
    assert part.random_state == 5
    assert not hasattr(part, "components_")


def test_more_support_keeps_fewer(ensemble):
    loose = FeatureEnsemble(PART, n_fits=3, threshold=0.3, random_state=0).fit(X)
    assert set(ensemble.features_) <= set(loose.features_)
    assert len(loose.features_) > len(ensemble.features_)
    assert loose.support_.min() >= 2


@pytest.mark.parametrize("y", [X[:, :3], object()])
def test_y_is_ignored(ensemble, y):
    fitted = FeatureEnsemble(PART, n_fits=3, min_support=1.0, random_state=0).fit(X, y)
    np.testing.assert_array_equal(fitted.components_, ensemble.components_)
    assert ensemble.score(X, y) == ensemble.score(X)


def test_a_search_and_a_pickle(ensemble):
    again = pickle.loads(pickle.dumps(ensemble))
    np.testing.assert_array_equal(again.transform(X[:9]), ensemble.transform(X[:9]))
    short = FeatureEnsemble(
        SparseAutoencoder(8, max_iter=3), n_fits=2, min_support=0, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search = GridSearchCV(short, {"autoencoder__k": [1, 4]}, cv=2).fit(X[:200])
    assert search.best_params_ == {"autoencoder__k": 4}


def test_what_is_refused():
    part = SparseAutoencoder(8, k=2, max_iter=2)
    with pytest.raises(
        ValueError, match=r"'autoencoder' parameter .*SparseAutoencoder"
    ):
        FeatureEnsemble(Transcoder()).fit(X)
    with pytest.raises(ValueError, match="'n_fits' parameter"):
        FeatureEnsemble(part, n_fits=1).fit(X)
    strict = FeatureEnsemble(part, min_support=1.0, threshold=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=r"no feature.*Lower one of the two\."):
            strict.fit(X[:200])
