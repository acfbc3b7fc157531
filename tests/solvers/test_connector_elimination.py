"""Backward elimination against refits by lstsq."""

import numpy as np
import pytest
from scipy import sparse

from skfeat import FeatureConnector


def correlated(n=400, p=12, q=4, seed=0):
    rng = np.random.default_rng(seed)
    X = np.maximum(rng.normal(size=(n, p)) @ rng.normal(size=(p, p)), 0)
    Y = X @ rng.normal(size=(p, q)) * [1, 2, 3, 4] + rng.normal(size=(n, q))
    return X, Y


def error(X, y, kept):
    coef = np.linalg.lstsq(X[:, kept], y, rcond=None)[0]
    return np.square(y - X[:, kept] @ coef).mean()


def removed_by_hand(X, y):
    """Return inputs in the order of removal, and what each removal costs."""
    kept, order, costs = list(range(X.shape[1])), [], []
    while kept:
        now = error(X, y, kept)
        rest = [[i for i in kept if i != j] for j in kept]
        errors = [error(X, y, r) for r in rest]
        i = int(np.argmin(errors))
        order.append(kept[i])
        costs.append(errors[i] - now)
        kept = rest[i]
    return order, np.maximum.accumulate(costs)


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("each", [False, True])
def test_elimination_is_that_of_refits(each, fit_intercept):
    X, Y = correlated()
    # So many candidates that none is left to the penalty.
    budget = np.array([2, 3, 1, 4]) if each else 11
    connector = FeatureConnector(
        link="identity",
        fit_intercept=fit_intercept,
        n_nonzero_coefs=budget,
        candidates=100,
    ).fit(X, Y)
    if fit_intercept:
        X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    found = connector.coef_.toarray()
    paths = [removed_by_hand(X, y) for y in Y.T]
    if each:
        support = [
            set(o[len(o) - n :]) for (o, _), n in zip(paths, budget, strict=True)
        ]
    else:
        least = np.sort(np.concatenate([costs for _, costs in paths]))[-budget]
        support = [
            {i for i, cost in zip(*path, strict=True) if cost >= least}
            for path in paths
        ]
    for row, y, kept in zip(found, Y.T, support, strict=True):
        assert set(np.flatnonzero(row)) == kept
        index = sorted(kept)
        expected = np.linalg.lstsq(X[:, index], y, rcond=None)[0]
        np.testing.assert_allclose(row[index], expected, rtol=1e-6, atol=1e-8)


def test_candidates_are_those_of_the_penalty():
    X, Y = correlated(p=30)
    options = {"link": "identity", "n_nonzero_coefs": 20}
    wide = FeatureConnector(**options | {"n_nonzero_coefs": 60}, refit=False).fit(X, Y)
    found = FeatureConnector(**options, candidates=3).fit(X, Y)
    plain = FeatureConnector(**options).fit(X, Y)
    assert found.coef_.nnz == 20
    assert found.score(X, Y) > plain.score(X, Y)
    supports = [set(zip(*c.coef_.nonzero(), strict=True)) for c in (found, wide)]
    # A tenth more candidates than asked for are near enough.
    assert len(supports[0] - supports[1]) <= 6


def test_inputs_that_say_the_same_and_inputs_that_say_nothing():
    X, Y = correlated(p=6)
    X = np.hstack([X, X[:, :2], np.zeros((len(X), 1))])
    for data in (X, sparse.csr_array(X)):
        connector = FeatureConnector(
            link="identity", fit_intercept=False, n_nonzero_coefs=24, candidates=10
        ).fit(data, Y)
        assert connector.coef_.nnz <= 24
        expected = X[:, :6] @ np.linalg.lstsq(X[:, :6], Y, rcond=None)[0]
        np.testing.assert_allclose(connector.predict(X), expected, atol=1e-3)


def test_candidates_must_be_one_at_least():
    with pytest.raises(ValueError, match="'candidates' parameter"):
        FeatureConnector(candidates=0.5).fit(*correlated())
