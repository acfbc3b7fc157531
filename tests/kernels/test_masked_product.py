"""Products with masked weights: loops over nonzeros against dense products."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from skfeat.kernels._threads import Team
from skfeat.kernels.connector import _masked_product
from skfeat.kernels.connector._support import Support

pytest.importorskip("numba")

from skfeat.kernels.connector._sparse_product import loop_product


@given(
    q=st.integers(1, 9),
    p=st.integers(1, 9),
    n=st.integers(1, 40),
    density=st.floats(0, 1),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=40, deadline=None)
def test_loops_are_the_dense_product(q, p, n, density, seed):
    rng = np.random.default_rng(seed)
    mask = torch.from_numpy(rng.random((q, p)) < density)
    start = torch.from_numpy(rng.normal(size=(q, p)).astype(np.float32)) * mask
    rows = torch.from_numpy(rng.normal(size=(p, n)).astype(np.float32))
    grad = torch.from_numpy(rng.normal(size=(q, n)).astype(np.float32))
    found = []
    for multiply in (torch.matmul, loop_product(mask, Team(), Support(mask.shape))):
        coef, features = start.clone().requires_grad_(), rows.clone().requires_grad_()
        out = multiply(coef, features)
        out.backward(grad)
        found.append((out.detach(), coef.grad * mask, features.grad))
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("loops", [True, False])
def test_weights_held_at_some_places_are_those_of_the_matrix(loops):
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(7, 5)).astype(np.float32) * (rng.random((7, 5)) < 0.5)
    held = sparse.csr_array(matrix)
    support = Support.of(held)
    mask = torch.from_numpy(rng.random(held.nnz) < 0.6)
    rows = torch.from_numpy(rng.normal(size=(5, 11)).astype(np.float32))
    grad = torch.from_numpy(rng.normal(size=(7, 11)).astype(np.float32))
    multiply = (
        loop_product(mask, Team(), support)
        if loops
        else _masked_product.product(mask, 1, Team(), support)
    )
    weights = (torch.from_numpy(held.data) * mask).requires_grad_()
    features = rows.clone().requires_grad_()
    out = multiply(weights, features)
    out.backward(grad)
    dense = support.matrix(weights.detach()).requires_grad_()
    expected = dense @ rows
    expected.backward(grad)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    of_held = dense.grad.numpy()[held.nonzero()] * mask.numpy()
    np.testing.assert_allclose(weights.grad * mask, of_held, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features.grad, dense.detach().T @ grad)
    assert not (support.array(weights.detach().numpy()) != dense.detach().numpy()).any()


def test_threads_change_nothing():
    rng = np.random.default_rng(0)
    mask = torch.from_numpy(rng.random((64, 64)) < 0.1)
    coef = torch.from_numpy(rng.normal(size=(64, 64)).astype(np.float32)) * mask
    features = torch.from_numpy(rng.normal(size=(64, 4096)).astype(np.float32))
    alone = loop_product(mask, Team(), Support(mask.shape))(coef, features)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with Team() as team:
            # Above the size from which a team divides the work.
            many = features.repeat(1, 16)
            together = loop_product(mask, team, Support(mask.shape))(coef, many)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(together[:, :4096], alone)


def test_what_the_loops_are_for(monkeypatch):
    few = torch.zeros(20, 20, dtype=torch.bool)
    few[0, :10] = True
    team = Team()
    assert _masked_product.product(few, 1e12, team) is not torch.matmul
    assert _masked_product.product(few, 10, team) is torch.matmul
    assert _masked_product.product(~few, 1e12, team) is torch.matmul
    monkeypatch.setattr(_masked_product, "has_numba", lambda: False)
    assert _masked_product.product(few, 1e12, team) is torch.matmul
