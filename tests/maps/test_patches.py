"""Patches as rows give what torch's convolutions and poolings do."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import sparse
from torch import nn

from skfeat import FeatureConnector, SparseAutoencoder
from skfeat.capture import capture
from skfeat.maps import Patches

ROOT = Path(__file__).parents[2]


def rows_of(maps):
    """Return channel-first maps as rows of positions, sample after sample."""
    return np.moveaxis(maps, 1, -1).reshape(-1, maps.shape[1])


def maps_of(rows, shape):
    """The same back."""
    return np.moveaxis(rows.reshape(-1, *shape, rows.shape[1]), -1, 1)


def plain_loop(maps, weight, stride, padding, dilation):
    """A convolution of pictures as its definition has it."""
    n, _, height, width = maps.shape
    n_out, m, kernel_height, kernel_width = weight.shape
    rows = (height + 2 * padding - dilation * (kernel_height - 1) - 1) // stride + 1
    columns = (width + 2 * padding - dilation * (kernel_width - 1) - 1) // stride + 1
    found = np.zeros((n, n_out, rows, columns))
    for sample, out, i, j in np.ndindex(*found.shape):
        for channel, a, b in np.ndindex(m, kernel_height, kernel_width):
            row = i * stride - padding + a * dilation
            column = j * stride - padding + b * dilation
            if 0 <= row < height and 0 <= column < width:
                value = maps[sample, channel, row, column]
                found[sample, out, i, j] += weight[out, channel, a, b] * value
    return found


def columns_of(weight):
    """Return the weights of a convolution as those of patches."""
    return np.moveaxis(weight, 1, -1).reshape(len(weight), -1)


settings_of_axis = st.tuples(
    st.integers(1, 7), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2)
)


@given(
    axes=st.lists(settings_of_axis, min_size=1, max_size=2),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 4]),
    is_sparse=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=60)
def test_any_convolution_equals_torch(axes, dilation, groups, is_sparse, seed):
    shape, kernel, stride, padding = zip(*axes, strict=True)
    reach = [dilation * (size - 1) + 1 for size in kernel]
    fits = zip(shape, padding, reach, strict=True)
    assume(all(size + 2 * pad >= need for size, pad, need in fits))
    rng = np.random.default_rng(seed)
    layer = (nn.Conv1d if len(axes) == 1 else nn.Conv2d)(
        *(4, 8, kernel, stride, padding, dilation, groups), dtype=torch.float64
    )
    maps = rng.normal(size=(3, 4, *shape)) * (rng.random((3, 4, *shape)) < 0.5)
    with torch.no_grad():
        expected = layer(torch.from_numpy(maps)).numpy()
    # A channel of one group has no weight on those of the others.
    weight = np.zeros((8, 4, *kernel))
    width = 4 // groups
    for out, own in enumerate(layer.weight.detach().numpy()):
        start = out // (8 // groups) * width
        weight[out, start : start + width] = own
    patches = Patches(shape, kernel, stride=stride, padding=padding, dilation=dilation)
    assert patches.out_shape == expected.shape[2:]
    rows, coef = rows_of(maps), columns_of(weight)
    if is_sparse:
        rows, coef = sparse.csr_array(rows), sparse.csr_array(coef)
    intercept = layer.bias.detach().numpy()
    found = patches.convolve(rows, coef, intercept)
    np.testing.assert_allclose(maps_of(found, patches.out_shape), expected, atol=1e-9)
    written = patches.rows(rows)
    assert sparse.issparse(written) == is_sparse
    np.testing.assert_allclose(written @ columns_of(weight).T + intercept, found)
    np.testing.assert_array_equal(patches.kernels(coef), weight)


@pytest.mark.parametrize(
    ("stride", "padding", "dilation"), [(1, 0, 1), (2, 1, 1), (1, 2, 2), (3, 0, 2)]
)
def test_convolution_equals_the_plain_loop(stride, padding, dilation):
    rng = np.random.default_rng(0)
    maps, weight = rng.normal(size=(2, 3, 6, 5)), rng.normal(size=(2, 3, 2, 3))
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    patches = Patches((6, 5), (2, 3), **options)
    found = patches.convolve(rows_of(maps), columns_of(weight))
    np.testing.assert_allclose(
        maps_of(found, patches.out_shape), plain_loop(maps, weight, **options)
    )


def test_pooling_is_over_the_places_of_a_patch():
    maps = np.random.default_rng(0).normal(size=(2, 3, 7, 6))
    patches = Patches((7, 6), 2, stride=2)
    places = patches.rows(rows_of(maps)).reshape(-1, 4, 3)
    for pool, expected in [
        (places.max(axis=1), nn.functional.max_pool2d(torch.from_numpy(maps), 2)),
        (places.mean(axis=1), nn.functional.avg_pool2d(torch.from_numpy(maps), 2)),
    ]:
        np.testing.assert_allclose(maps_of(pool, (3, 3)), expected)


def test_patches_that_were_drawn():
    rng = np.random.default_rng(0)
    rows = rows_of(rng.normal(size=(5, 3, 4, 4)))
    patches = Patches((4, 4), 3, padding=1)
    sample, position = rng.integers(0, 5, 20), rng.integers(0, 16, 20)
    expected = patches.rows(rows)[sample * 16 + position]
    np.testing.assert_array_equal(patches.rows(rows, sample, position), expected)
    found = patches.rows(sparse.csr_array(rows), sample, position)
    np.testing.assert_array_equal(found.toarray(), expected)


def test_connector_of_patches_finds_a_sparse_convolution():
    torch.manual_seed(0)
    model = nn.Sequential(nn.ReLU(), nn.Conv2d(3, 2, 3, stride=2, padding=1), nn.ReLU())
    weight = torch.zeros(2, 3, 3, 3)
    weight[0, 1, 0, 2], weight[0, 2, 1, 1], weight[1, 0, 2, 0] = 1.5, -0.5, 0.75
    model[1].weight.data = weight
    images = torch.randn(40, 3, 8, 8)
    before = capture(model, [images], "0")
    after = capture(model, [images], "2", n_positions=6)
    patches = Patches(before.map_shape, 3, stride=2, padding=1)
    assert patches.out_shape == after.map_shape
    F1, F2 = before.activations["0"], after.activations["2"]
    X = patches.rows(F1, after.sequence, after.position)
    connector = FeatureConnector(n_nonzero_coefs=3, random_state=0).fit(X, F2)
    np.testing.assert_allclose(
        patches.kernels(connector.coef_), weight.numpy(), atol=2e-2
    )
    found = patches.convolve(F1, connector.coef_, connector.intercept_)
    with torch.no_grad():
        expected = model(images).numpy()
    maps = maps_of(np.maximum(found, 0), patches.out_shape)
    np.testing.assert_allclose(maps, expected, atol=5e-2)
    names = patches.names(["a", "b", "c"])
    formula = connector.formula(0, max_terms=1, feature_names=names)
    assert formula.startswith("F2_0 = 1.5")
    assert "b[-1,+1]" in formula


def test_program_of_the_page():
    text = (ROOT / "docs" / "interop.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    (program,) = [block for block in blocks if "Patches(" in block]
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("conv1", nn.Conv2d(1, 6, 3))
    model.add_module("relu1", nn.ReLU())
    model.add_module("conv2", nn.Conv2d(6, 5, 3, padding=1))
    model.add_module("relu2", nn.ReLU())
    images = torch.rand(30, 1, 8, 8)
    first, second = (
        SparseAutoencoder(8, k=3, random_state=0).partial_fit(
            capture(model, [images], name).activations[name]
        )
        for name in ("relu1", "relu2")
    )
    given = {"model": model, "images": images, "first": first, "second": second}
    exec(program, given)
    patches, connector = given["patches"], given["connector"]
    assert patches.out_shape == given["after"].map_shape == (6, 6)
    assert connector.coef_.shape == (8, 72)
    assert 0 < connector.coef_.nnz <= 64
    found = patches.convolve(given["F1"], connector.coef_, connector.intercept_)
    at = given["after"].sequence * 36 + given["after"].position
    X = patches.rows(given["F1"], given["after"].sequence, given["after"].position)
    np.testing.assert_allclose(
        np.maximum(found[at], 0), connector.predict(X), atol=1e-5
    )


def test_names_follow_the_dilation():
    assert Patches(9, 3, dilation=2).names(["F1_0"]) == [
        *("F1_0[-2]", "F1_0[0]", "F1_0[+2]")
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Patches((4, 4), 5), r"kernel_size=\(5, 5\) .* must fit into map_sh"),
        (lambda: Patches((4, 4), (3, 3, 3)), "kernel_size must be an int or have one"),
        (lambda: Patches(4.5, 3), "map_shape must be an int of at least 1. Got 4.5"),
        (lambda: Patches((4, None), 3), "map_shape must be an int of at least 1. Got"),
        (lambda: Patches((), 3), r"map_shape must be an int or have one .* Got \(\)"),
        (lambda: Patches(4, "3"), "kernel_size must be an int of at least 1. Got '3'"),
        (lambda: Patches((4, 4), 3, stride=0), "stride must be an int of at least 1"),
        (lambda: Patches((4, 4), 3, padding=-1), "padding must be an int of at least"),
        (lambda: Patches(4, 2).rows(np.ones((6, 2))), r"codes must have 4 rows for ea"),
        (lambda: Patches(4, 2).rows(np.ones((8, 2)), [0]), "given both, or neither"),
        (
            lambda: Patches(4, 2).rows(np.ones((8, 2)), [2], [0]),
            "sample must be from 0",
        ),
        (
            lambda: Patches(4, 2).rows(np.ones((8, 2)), [0], [3]),
            "position must be from",
        ),
        (lambda: Patches(4, 2).rows(np.ones((8, 2)), [0], [0, 1]), "must have 1 entr"),
        (lambda: Patches(4, 2).rows(np.ones((8, 2)), [0.5], [0]), "a vector of ints"),
        (lambda: Patches(4, 2).convolve(np.ones((8, 2)), np.ones((1, 3))), "have 2 *"),
        (lambda: Patches(4, 2).kernels(np.ones((1, 3))), "coef must have a column for"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
