"""Copies of inputs and constant outputs use up no weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from skfeat import FeatureConnector, FeatureConnectorCV
from skfeat.solvers.connector._fit_parts import Rows
from skfeat.solvers.connector._reduce import Reduction

RNG = np.random.RandomState(0)
X = np.maximum(RNG.randn(200, 8), 0)
Y = np.maximum(X[:, :2] @ RNG.rand(2, 3) + 0.3 * X[:, 2:5], 0)
pytestmark = pytest.mark.filterwarnings("ignore:.*candidates .* changes nothing")
KINDS = [
    {"link": "relu"},
    {"link": "relu", "solver": "minibatch", "random_state": 0},
    {"link": "identity"},
    {"link": "identity", "candidates": 3},
]


@given(
    data=st.data(),
    n=st.integers(1, 300),
    p=st.integers(1, 12),
    q=st.integers(1, 6),
    as_sparse=st.booleans(),
)
@settings(max_examples=60)
def test_copies_and_constants_are_found(data, n, p, q, as_sparse):
    rng = np.random.RandomState(data.draw(st.integers(0, 99)))
    # Few values, so that columns agree on many rows and differ on the last ones.
    inputs = np.repeat(rng.randint(0, 2, (1, p)), n, axis=0).astype(float)
    inputs[-1] = rng.randint(0, 2, p)
    targets = np.repeat(rng.randint(0, 2, (1, q)), n, axis=0).astype(float)
    targets[-1] = rng.randint(0, 2, q)
    weights = rng.randint(0, 2, n).astype(float)
    weights[rng.randint(n)] = 1
    rows = Rows(inputs, targets, weights)
    if as_sparse:
        rows = Rows(sparse.csr_array(inputs), sparse.csr_array(targets), weights)
    part = Reduction.of(rows, fit_intercept=True, random_start=True)
    seen, heard = inputs[weights > 0], targets[weights > 0]
    for j in range(p):
        same = (seen == seen[:, [j]]).all(axis=0)
        same = same if seen[:, j].any() else np.arange(p) == j
        assert part.inputs[part.first[j]] == np.flatnonzero(same)[0]
    constant = (heard == heard[0]).all(axis=0)
    assert_array_equal(part.outputs, np.flatnonzero(~constant))
    assert part.rows.X.shape == (n, len(part.inputs))
    assert part.rows.Y.shape == (n, len(part.outputs))
    coef = rng.rand(len(part.outputs), len(part.inputs))
    whole, intercept = part.weights(coef, np.ones(len(part.outputs)))
    also, _ = part.weights(sparse.csr_array(coef), np.ones(len(part.outputs)))
    assert_array_equal(also.toarray(), whole)
    small = part.rows.X @ coef.T + 1
    expected = np.where(constant, heard[0], 0.0) * np.ones((len(seen), 1))
    expected[:, ~constant] = small[weights > 0]
    assert_allclose(seen @ whole.T + intercept, expected)


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("asked", [{"n_nonzero_coefs": 7}, {"alpha": 0.01}])
def test_copies_of_inputs_waste_no_weights(options, asked):
    copied = np.hstack([X, X[:, ::-1]])
    ours = FeatureConnector(**options, **asked).fit(copied, Y)
    alone = FeatureConnector(**options, **asked).fit(X, Y)
    found, expected = ours.coef_.toarray(), alone.coef_.toarray()
    assert_array_equal(found[:, :8] != 0, expected != 0)
    assert not found[:, 8:].any()
    assert_allclose(found[:, :8], expected, atol=1e-9)
    assert_allclose(ours.intercept_, alone.intercept_, atol=1e-9)
    each = FeatureConnector(**options).set_params(n_nonzero_coefs=[3, 2, 2])
    assert not each.fit(copied, Y).coef_.toarray()[:, 8:].any()


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e8])
@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("asked", [{"n_nonzero_coefs": 4}, {"alpha": 0.0}])
def test_constant_outputs_have_no_weights(options, asked, unit):
    connector = FeatureConnector(**options, **asked)
    targets = np.column_stack([Y[:, 0], np.full(200, 0.1), np.zeros(200)]) * unit
    connector.fit(X, targets)
    assert not connector.coef_.toarray()[1:].any()
    assert_array_equal(connector.intercept_[1:], [0.1 * unit, 0])
    # Nothing but constants, of which one below zero is off with the ReLU link.
    connector.fit(X, targets[:, 1])
    assert connector.coef_.nnz == 0
    assert (connector.predict(X) == 0.1 * unit).all()
    connector.fit(X, -targets[:, 1])
    assert connector.coef_.nnz == 0
    assert (connector.predict(X) <= 0).all()


def test_paths_candidates_and_starts():
    copied = np.hstack([X, X])
    targets = np.column_stack([Y, np.ones(200)])
    for link in ("relu", "identity"):
        _, coefs, _ = FeatureConnector(link=link).connector_path(
            copied, targets, n_alphas=4
        )
        assert coefs.shape == (4, 16, 4)
        assert not coefs[:, 8:].any()
        assert not coefs[3].any()
        _, flat, _ = FeatureConnector(link=link).connector_path(
            copied, targets[:, 3], n_alphas=4, sparse_output=True
        )
        assert [coef.nnz for coef in flat] == [0] * 4
        ours = FeatureConnectorCV(link=link, alphas=3, cv=3).fit(copied, targets)
        alone = FeatureConnectorCV(link=link, alphas=3, cv=3).fit(X, targets)
        assert_allclose(ours.mse_path_, alone.mse_path_, atol=1e-9)
        assert not ours.coef_.toarray()[:, 8:].any()
        again = FeatureConnector(0.01, link=link, warm_start=True).fit(copied, targets)
        before = again.coef_.toarray()
        assert_allclose(again.fit(copied, targets).coef_.toarray(), before, atol=1e-6)
    # Without an intercept a constant has to be approximated.
    fitted = FeatureConnector(0.0, fit_intercept=False).fit(X, targets)
    assert fitted.coef_.toarray()[3].any()
