"""Convolutions and poolings of a chain are those of torch, with exact slopes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from torch import nn

from skfeat.adapters import read_chain
from skfeat.adapters._torch_modules import module_chain
from skfeat.chain import Chain, Step
from skfeat.chain._shapes import MapShape, map_shape_after
from skfeat.chain._slopes import backpropagate, values_along


@st.composite
def layers(draw):
    """Draw a layer on maps, and the shape of the maps that it takes."""
    n_axes = draw(st.sampled_from([1, 2]))
    sizes = [draw(st.integers(5, 9)) for _ in range(n_axes)]
    channels, kernel = draw(st.sampled_from([2, 4])), draw(st.integers(1, 3))
    stride, padding = draw(st.integers(1, 3)), draw(st.integers(0, kernel // 2))
    kind = draw(st.sampled_from(["conv", "same", "max", "mean", "adaptive"]))
    if kind in ("conv", "same"):
        options = {
            "dilation": draw(st.integers(1, 2)),
            "groups": draw(st.integers(1, 2)),
        }
        options |= {"bias": draw(st.booleans())}
        if kind == "same":
            options["padding"] = "same"
        else:
            options |= {"stride": stride, "padding": padding}
        layer = [nn.Conv1d, nn.Conv2d][n_axes - 1](channels, 6, kernel, **options)
    elif kind == "max":
        layer = [nn.MaxPool1d, nn.MaxPool2d][n_axes - 1](
            kernel, stride, padding, ceil_mode=draw(st.booleans())
        )
    elif kind == "mean":
        layer = [nn.AvgPool1d, nn.AvgPool2d][n_axes - 1](
            kernel, stride, padding, count_include_pad=draw(st.booleans())
        )
    else:
        layer = [nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool2d][n_axes - 1](1)
    return layer.double(), (channels, *sizes)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@settings(max_examples=60, deadline=None)
@given(layers(), st.integers(0, 2**16))
def test_a_step_is_the_layer_of_torch(drawn, seed):
    layer, shape = drawn
    chain = module_chain(layer.eval(), shape=MapShape.of(shape))
    maps = np.random.default_rng(seed).standard_normal((3, *shape))
    rows = maps.reshape(3, -1)
    with torch.no_grad():
        expected = layer(torch.from_numpy(maps)).flatten(1).numpy()
        by_torch = chain.forward_torch(torch.from_numpy(rows)).numpy()
    assert_allclose(chain.forward(rows), expected, atol=1e-12)
    assert_allclose(by_torch, expected, atol=1e-12)
    after = map_shape_after(chain.steps, MapShape.of(shape))
    assert after.n_values == chain.n_outputs == expected.shape[1]


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@settings(max_examples=30, deadline=None)
@given(layers(), st.integers(0, 2**16))
def test_slopes_are_those_of_autograd(drawn, seed):
    layer, shape = drawn
    chain = module_chain(layer.eval(), shape=MapShape.of(shape))
    rng = np.random.default_rng(seed)
    rows = torch.from_numpy(rng.standard_normal((2, chain.n_features_in)))
    rows.requires_grad_()
    grad = rng.standard_normal((2, chain.n_outputs))
    (chain.forward_torch(rows) * torch.from_numpy(grad)).sum().backward()
    at = rows.detach().numpy()
    values = values_along(chain.steps, at)
    found, bias = backpropagate(chain.steps, values, grad)
    assert_allclose(found, rows.grad.numpy(), atol=1e-12)
    # What the constants add is what is left.
    assert_allclose((grad * values[-1]).sum(1), (found * at).sum(1) + bias)


class Residual(nn.Module):
    """A block of convolutions with a skip, and a head on means over positions."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.PReLU(4)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        x = self.act(x + self.second(x))
        x = nn.functional.max_pool2d(x, 2)
        return self.out(torch.cat([x.mean((2, 3)), x.amax(dim=(2, 3))], 1))


def trained(model):
    """Give batch norms statistics of their own."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                module.weight.normal_()
                module.bias.normal_()
    return model.double().eval()


def test_a_residual_block_of_convolutions():
    torch.manual_seed(0)
    model = trained(Residual())
    chain = read_chain(model, 72, (2, 6, 6))
    maps = np.random.default_rng(0).standard_normal((4, 2, 6, 6))
    with torch.no_grad():
        expected = model(torch.from_numpy(maps)).numpy()
    assert_allclose(chain.forward(maps.reshape(4, -1)), expected, atol=1e-12)
    assert [layer.name for layer in chain.hidden] == ["first", "hidden_1"]
    assert chain.hidden[0].map_shape == (4, 6, 6)
    assert chain.hidden[0].n_units == 4
    # The norm is part of the convolution before it.
    assert [step.kind for step in chain.steps[:3]] == ["conv", "relu", "add"]


def test_a_block_on_the_inputs_is_a_map():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.out = nn.Conv1d(2, 2, 3, padding=1), nn.Linear(12, 2)

        def forward(self, x):
            return self.out(torch.relu(x + self.conv(x)).flatten(1))

    chain = read_chain(Block().eval(), 12, (2, 6))
    assert [(layer.n_units, layer.map_shape) for layer in chain.hidden] == [
        (2, (2, 1, 6))
    ]


def test_rows_become_maps_by_a_reshape():
    class Reshaping(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.out = nn.Conv2d(1, 2, 3), nn.Linear(2, 2)

        def forward(self, x):
            x = torch.relu(self.conv(x.view(-1, 1, 5, 4)))
            return self.out(x.view(x.size(0), 2, -1).mean(-1))

    class Plain(Reshaping):
        def forward(self, x):
            return self.out(torch.relu(self.conv(x.view(-1, 1, 5, 4))).mean((2, 3)))

    model = Plain().double().eval()
    chain = read_chain(model, 20)
    rows = np.random.default_rng(0).standard_normal((3, 20))
    with torch.no_grad():
        assert_allclose(chain.forward(rows), model(torch.from_numpy(rows)).numpy())
    assert chain.has_maps
    with pytest.raises(TypeError, match="cannot unwrap"):
        read_chain(Reshaping().double().eval(), 20)


@pytest.mark.parametrize(
    ("layer", "shape", "match"),
    [
        (nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), (1, 8, 8), "circular"),
        (nn.AdaptiveAvgPool2d(3), (1, 8, 8), "of 8 positions to 3"),
        (nn.MaxPool2d(2, return_indices=True), (1, 8, 8), "return_indices=True"),
        (nn.AvgPool2d(2, divisor_override=3), (1, 8, 8), "divisor_override"),
        (nn.AvgPool2d(3, ceil_mode=True), (1, 8, 8), "ceil_mode=True"),
        (nn.Conv2d(3, 2, 3), (1, 8, 8), "which takes 3 channels, but is given 1"),
        (nn.Conv1d(1, 2, 3), (1, 8, 8), "of maps with two axes"),
        (nn.GroupNorm(1, 2), (2, 8, 8), "cannot unwrap"),
        (nn.ConvTranspose2d(1, 2, 3), (1, 8, 8), "'conv_transpose2d'; supported"),
    ],
)
def test_what_is_refused(layer, shape, match):
    with pytest.raises(TypeError, match=match.replace("(", r"\(").replace(")", r"\)")):
        module_chain(layer.eval(), shape=MapShape.of(shape))


def test_a_kernel_must_fit():
    with pytest.raises(ValueError, match="does not fit into maps"):
        module_chain(nn.Conv2d(1, 2, 9), shape=MapShape.of((1, 8, 8)))


def test_a_chain_of_maps_is_saved_and_counts_shared_weights_once():
    torch.manual_seed(0)
    chain = read_chain(trained(Residual()), 72, (2, 6, 6))
    loaded = Chain.from_arrays(*chain.to_arrays())
    rows = np.random.default_rng(0).standard_normal((2, 72))
    assert_allclose(loaded.forward(rows), chain.forward(rows))
    conv = chain.slice(0, 1)
    assert conv.n_weights() == 4 * 2 * 9
    assert conv.n_multiply_adds() == 36 * 4 * 2 * 9


def test_settings_must_be_ints():
    step = module_chain(nn.MaxPool1d(2), shape=MapShape.of((1, 4))).steps[0]
    wrong = Step("max_pool", "", {}, step.settings | {"width": 4.5})
    with pytest.raises(ValueError, match="must have ints"):
        Chain.from_steps([wrong], 4)
