"""The largest values of rows, as numpy finds them, against torch's."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skfeat.activations import TopK, largest_of_rows


@given(
    st.integers(0, 2**31 - 1),
    st.integers(1, 9),
    st.integers(2, 40),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_marks_what_torch_keeps(seed, n, m, dtype):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(n, m, generator=generator, dtype=dtype)
    k = seed % m + 1
    kept = largest_of_rows(values, k)
    indices = values.topk(k, dim=1).indices
    expected = torch.zeros(n, m, dtype=torch.bool).scatter_(1, indices, True)
    assert torch.equal(kept, expected & (values > 0))


def test_ties_at_the_bound_are_left_to_torch():
    values = torch.tensor([[3.0, 1.0, 1.0, 0.0], [4.0, 3.0, 2.0, 1.0]])
    assert largest_of_rows(values, 2) is None
    assert largest_of_rows(values, 3).sum(dim=1).tolist() == [3, 3]
    assert (TopK(2).forward(values) > 0).sum(dim=1).tolist() == [2, 2]


def test_ties_of_zeros_keep_nothing():
    values = torch.tensor([[2.0, 0.0, 0.0, -1.0], [-1.0, -1.0, -1.0, -1.0]])
    expected = [[True, False, False, False], [False] * 4]
    assert largest_of_rows(values, 2).tolist() == expected


def test_wide_rows_and_other_devices_are_left_to_torch():
    assert largest_of_rows(torch.ones(1, 1025), 2) is None
    assert largest_of_rows(torch.ones(1, 8, device="meta"), 2) is None


@pytest.mark.parametrize("m", [12, 1100])
def test_codes_are_differentiable_and_keep_nan(m):
    values = torch.randn(5, m, generator=torch.Generator().manual_seed(0))
    values.requires_grad_()
    codes = TopK(3).forward(values)
    codes.sum().backward()
    assert torch.equal(values.grad, (codes > 0).float())
    np.testing.assert_array_equal(
        codes.detach(), TopK(3).encode(values.detach().numpy())
    )
    broken = values.detach().clone()
    broken[0, 0] = torch.nan
    assert TopK(3).forward(broken)[0].isnan().any()
