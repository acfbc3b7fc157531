"""Activations written by hand: comparisons, choices and bounds."""

import operator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from skfeat.adapters import check_chain, model_outputs, read_chain
from skfeat.chain import Chain
from tests.adapters.test_torch_reader import Custom, assert_untouched, snapshot

X = np.random.default_rng(2).normal(size=(60, 4))
X[0] = 0
ZERO = torch.tensor(0.0)

# What is read as the one step of the activation that it is.
KINDS = {
    "relu": {
        "maximum": lambda x: torch.maximum(x, ZERO),
        "max": lambda x: torch.max(ZERO, x),
        "max of an integer": lambda x: torch.max(x, torch.tensor(0)),
        "fmax": lambda x: x.fmax(torch.zeros(6)),
        "zeros_like": lambda x: torch.maximum(x, torch.zeros_like(x)),
        "new_zeros": lambda x: x.maximum(x.new_zeros(1)),
        "device": lambda x: torch.maximum(x, torch.zeros(1, device=x.device)),
        "where": lambda x: torch.where(x > 0, x, 0),
        "where at zero": lambda x: torch.where(x >= 0, x, 0.0),
        "where below": lambda x: torch.where(x.lt(0), torch.zeros_like(x), x),
        "where reversed": lambda x: torch.where(x > 0, x, ZERO),
        "where not": lambda x: torch.where(~(x > 0), 0, x),
        "where logical_not": lambda x: torch.where(torch.logical_not(x > 0), 0, x),
        "method where": lambda x: x.where(x > 0, ZERO),
        "product": lambda x: x * (x > 0),
        "product of a cast": lambda x: (x > 0).float() * x,
        "product of a method": lambda x: x.mul(x.ge(0).to(x.dtype)),
        "masked_fill": lambda x: x.masked_fill(x < 0, 0),
        "masked_fill_": lambda x: x.clone().masked_fill_(x <= 0, 0.0),
        "clamp": lambda x: x.clamp(0),
        "clamp_min": lambda x: torch.clamp_min(x, 0),
        "clamp_min_": lambda x: x.clone().clamp_min_(0),
        "clamp of a tensor": lambda x: x.clip(min=torch.zeros(6)),
        "F.relu_": lambda x: F.relu_(x.clone()),
    },
    "threshold": {
        "maximum": lambda x: torch.maximum(x, torch.tensor(0.2)),
        "full_like": lambda x: torch.maximum(x, torch.full_like(x, 0.2)),
        "clamp": lambda x: x.clamp(min=-0.3),
        "where": lambda x: torch.where(x > 0.2, x, -1),
        "masked_fill": lambda x: x.masked_fill(x <= 0.2, 1.5),
        "product": lambda x: x * (x > 0.4),
        "F.threshold_": lambda x: F.threshold_(x.clone(), 0.3, -1.0),
    },
    "leaky_relu": {
        "where": lambda x: torch.where(x > 0, x, 0.2 * x),
        "where below": lambda x: torch.where(x <= 0, x * 0.2, x),
        "method where": lambda x: x.where(x >= 0, x / 5),
    },
    "elu": {"F.elu_": lambda x: F.elu_(x.clone(), 0.3)},
    "selu": {"torch.selu_": lambda x: torch.selu_(x.clone())},
    "celu": {"torch.celu_": lambda x: torch.celu_(x.clone())},
    "sigmoid": {"sigmoid_": lambda x: x.clone().sigmoid_()},
    "tanh": {"tanh_": lambda x: x.clone().tanh_()},
}

# What takes several steps.
OTHERS = {
    "minimum": lambda x: torch.minimum(x, torch.tensor(0.4)),
    "clamp max": lambda x: x.clamp(max=0.4),
    "clamp_max": lambda x: torch.clamp_max(x, -0.1),
    "two bounds": lambda x: x.clamp(ZERO, torch.arange(6.0) / 4),
    "a bound a column": lambda x: torch.maximum(x, torch.arange(6.0) / 4),
    "maxout": lambda x: torch.maximum(x, 1 - x),
    "minimum of two": lambda x: torch.min(x.tanh(), 0.3 * x),
    "elu": lambda x: torch.where(x > 0, x, 0.7 * (torch.exp(x) - 1)),
    "expm1": lambda x: torch.where(x > 0, x, x.expm1()),
    "sides": lambda x: torch.where(x > 0.3, x.tanh(), x * x),
    "by another": lambda x: torch.where(x.tanh() > 0.1, x, -x),
    "by two": lambda x: torch.where(x.tanh() < 0.3 * x, x, 2 * x),
    "constants": lambda x: torch.where(x > 0, 1.0, -1.0),
    "below": lambda x: x * (x < 0),
    "at least": lambda x: x * (x >= 0.4),
    "heaviside": lambda x: x * torch.heaviside(x, ZERO),
    "a gate": lambda x: x.tanh() * (x > 0.2),
    "a sum": lambda x: x + (x > 0.2),
    "per column": lambda x: torch.where(x > torch.arange(6.0) / 4, x, 0),
    "abs": lambda x: (x + x.abs()) / 2,
    "gelu": lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)),
    "gelu by tanh": lambda x: (
        0.5 * x * (1 + torch.tanh(0.79788456 * (x + 0.044715 * torch.pow(x, 3))))
    ),
    "softplus": lambda x: torch.log1p(torch.exp(x)),
    "log": lambda x: torch.log(1 + x.exp()),
    "powers": lambda x: (x.pow(exponent=2) + 1) ** 0.5 + (1 + x**4) ** -1,
}


def model_of(function):
    torch.manual_seed(0)
    return Custom(lambda s, x: s.fc2(function(s.fc1(x))))


@pytest.mark.parametrize(
    ("kind", "function"),
    [
        pytest.param(kind, function, id=f"{kind}: {name}")
        for kind, functions in KINDS.items()
        for name, function in functions.items()
    ],
)
def test_one_step(kind, function):
    model = model_of(function)
    before = snapshot(model)
    chain = read_chain(model)
    assert_untouched(model, before)
    check_chain(chain, model, X)
    assert [step.kind for step in chain.steps] == ["affine", kind, "affine"]


@pytest.mark.parametrize("function", OTHERS.values(), ids=OTHERS.keys())
def test_several_steps(function):
    model = model_of(function)
    chain = read_chain(model)
    check_chain(chain, model, X)
    assert [layer.name for layer in chain.hidden] == ["fc1"]
    arrays, spec = chain.to_arrays()
    np.testing.assert_array_equal(
        Chain.from_arrays(arrays, spec).forward(X), chain.forward(X)
    )


COMPARISONS = [operator.gt, operator.ge, operator.lt, operator.le]
SIDES = [
    lambda x, c: x,
    lambda x, c: c,
    lambda x, c: c * x,
    lambda x, c: torch.full_like(x, c),
    lambda x, c: x.abs() - c,
    lambda x, c: -x,
]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(COMPARISONS),
    st.sampled_from([-1.0, 0.0, 0.5, 2.0]),
    st.sampled_from(SIDES),
    st.sampled_from(SIDES),
    st.sampled_from([-1.0, 0.0, 0.5, 2.0]),
    st.booleans(),
)
def test_any_choice_is_exact_where_values_are_equal(
    compare, threshold, above, below, constant, product
):
    def chosen(x):
        mask = compare(x, threshold)
        if product:
            return above(x, constant) * mask
        return torch.where(mask, above(x, constant), below(x, constant))

    model = model_of(lambda x: torch.relu(x + chosen(x)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4).round_().div_(2)
    rows = np.random.default_rng(0).integers(-2, 3, (80, 4)) / 2
    chain = read_chain(model.double())
    np.testing.assert_array_equal(chain.forward(rows), model_outputs(model, rows))


def test_what_is_spelt_twice_is_computed_once():
    def forward(s, x):
        return s.fc2(torch.where(s.fc1(x) > 0, s.fc1(x), 0.05 * s.fc1(x)))

    model = Custom(forward)
    chain = read_chain(model)
    check_chain(chain, model, X)
    assert [step.kind for step in chain.steps] == ["affine", "leaky_relu", "affine"]

    def changed(s, x):
        first = s.fc1(x).relu_()
        return s.fc2(torch.tanh(first + s.fc1(x)))

    model = Custom(changed)
    check_chain(read_chain(model), model, X)


def test_what_is_not_chosen_may_be_infinite():
    model = model_of(OTHERS["elu"])
    chain = read_chain(model)
    rows = 1e4 * X
    assert np.isfinite(model_outputs(model, rows)).all()
    check_chain(chain, model, rows)


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (lambda x: torch.maximum(x, x.sum() * ZERO), "'sum'"),
        (lambda x: x.max(1)[0], "'max' of anything but two values"),
        (lambda x: torch.where((x > 0) & (x < 1), x, 0), "'and_'"),
        (lambda x: torch.where(torch.ones(6) > 0, x, 0), "by anything but a compar"),
        (lambda x: x * (x > x.shape[1]), "'gt' of anything but values and constants"),
        (lambda x: max(x, 0), "branches on the data"),
        (lambda x: x[x > 0], "'getitem' of anything but consecutive"),
    ],
)
def test_refused(function, match):
    with pytest.raises(TypeError, match=match):
        read_chain(model_of(function))
