"""Products with masked weights: loops over nonzeros against dense products."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skfeat.kernels._threads import Team
from skfeat.kernels.connector import _masked_product

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
    for multiply in (torch.matmul, loop_product(mask, Team())):
        coef, features = start.clone().requires_grad_(), rows.clone().requires_grad_()
        out = multiply(coef, features)
        out.backward(grad)
        found.append((out.detach(), coef.grad * mask, features.grad))
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_threads_change_nothing():
    rng = np.random.default_rng(0)
    mask = torch.from_numpy(rng.random((64, 64)) < 0.1)
    coef = torch.from_numpy(rng.normal(size=(64, 64)).astype(np.float32)) * mask
    features = torch.from_numpy(rng.normal(size=(64, 4096)).astype(np.float32))
    alone = loop_product(mask, Team())(coef, features)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with Team() as team:
            # Above the size from which a team divides the work.
            many = features.repeat(1, 16)
            together = loop_product(mask, team)(coef, many)
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
