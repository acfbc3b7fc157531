"""What a connector reads is all that a convolution and its pooling read."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import sparse
from torch import nn

from skfeat.adapters._torch_modules import module_chain
from skfeat.chain._shapes import MapShape, map_shape_after
from skfeat.maps import Patches
from skfeat.maps._reads import Reads, reads_between


@st.composite
def pairs(draw):
    """Draw a convolution and a pooling of series, and their length."""
    length = draw(st.integers(10, 16))
    options = {"dilation": draw(st.integers(1, 2))}
    if draw(st.booleans()):
        options["padding"] = "same"
    else:
        options |= {
            "padding": draw(st.integers(0, 2)),
            "stride": draw(st.integers(1, 2)),
        }
    conv = nn.Conv1d(1, 2, draw(st.integers(1, 4)), **options)
    stride = draw(st.integers(1, 3))
    pool = [
        nn.MaxPool1d(2, stride, ceil_mode=draw(st.booleans())),
        nn.AvgPool1d(2, stride),
    ]
    return nn.Sequential(conv, nn.ReLU(), draw(st.sampled_from(pool))), length


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@settings(max_examples=60, deadline=None)
@given(pairs())
def test_the_field_of_a_convolution_and_its_pooling(drawn):
    model, length = drawn
    before = MapShape(1, 1, length)
    chain = module_chain(model.eval(), shape=before)
    after = map_shape_after(chain.steps, before)
    reads = reads_between(chain.steps, before, after)
    assert reads.n_positions_out == after.n_positions
    # Each position may depend on what it reads alone, whatever the weights are.
    conv = torch.ones(1, length, dtype=torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    ones = module_chain(model.eval(), shape=before).astype(np.float64)
    base = ones.forward_torch(conv).reshape(2, -1)[0]
    for position in range(length):
        changed = conv.clone()
        changed[0, position] += 100.0
        moved = ones.forward_torch(changed).reshape(2, -1)[0] != base
        has = (reads.patches.source == position).any(axis=1)
        assert not (moved.numpy() & ~has).any()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(0, 1),
    st.integers(1, 2),
    st.integers(0, 2**16),
)
def test_unrolled_weights_are_the_convolution(kernel, stride, padding, dilation, seed):
    patches = Patches((6, 5), kernel, stride=stride, padding=padding, dilation=dilation)
    reads = Reads(patches)
    rng = np.random.default_rng(seed)
    codes = rng.standard_normal((3 * 30, 4))
    coef = sparse.random_array((2, reads.n_places * 4), density=0.5, random_state=rng)
    expected = patches.convolve(codes, coef)
    found = codes.reshape(3, -1) @ reads.unroll(coef).T
    assert_allclose(found.reshape(-1, 2), expected, atol=1e-12)
    kernels = torch.from_numpy(patches.kernels(coef))
    maps = torch.from_numpy(codes.reshape(3, 6, 5, 4)).permute(0, 3, 1, 2)
    by_torch = nn.functional.conv2d(
        maps, kernels, None, stride, padding, dilation
    ).permute(0, 2, 3, 1)
    assert_allclose(by_torch.reshape(-1, 2).numpy(), expected, atol=1e-12)


def test_means_over_positions():
    shape = MapShape(3, 2, 2)
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    chain = module_chain(model.eval(), shape=shape)
    reads = reads_between(chain.steps, shape, None)
    assert reads.is_mean
    assert reads.n_places == 1
    codes = np.random.default_rng(0).standard_normal((8, 5))
    coef = np.random.default_rng(1).standard_normal((2, 5))
    means = codes.reshape(2, 4, 5).mean(axis=1)
    assert_allclose(reads.rows(codes), means)
    assert_allclose(codes.reshape(2, -1) @ reads.unroll(coef).T, means @ coef.T)
    assert reads.names(["a", "b"]) == ["mean a", "mean b"]
    again = Reads.from_settings(reads.settings())
    assert_allclose(again.rows(codes), means)


def test_all_positions_lead_to_rows():
    shape = MapShape(3, 2, 2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    reads = reads_between(module_chain(model, shape=shape).steps, shape, None)
    assert (reads.n_places, reads.n_positions_out) == (4, 1)
    codes = np.arange(24.0).reshape(8, 3)
    assert_allclose(reads.rows(codes), codes.reshape(2, 12))


def test_branches_of_one_stride_meet():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide = nn.Conv2d(2, 2, 5, padding=2)

        def forward(self, x):
            return torch.relu(x + self.wide(x))

    shape = MapShape(2, 6, 6)
    chain = module_chain(Block().eval(), shape=shape)
    reads = reads_between(chain.steps, shape, shape)
    assert reads.patches.kernel_size == (5, 5)


def test_what_no_convolution_does_is_refused():
    shape = MapShape(2, 6, 6)
    with pytest.raises(TypeError, match=r"a layer of rows leads to maps.*start="):
        reads_between([], None, shape)
    with pytest.raises(TypeError, match=r"maps of .* lead to maps of"):
        reads_between([], shape, MapShape(2, 3, 3))
