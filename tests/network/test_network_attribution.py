"""Contributions add up to the output, and are what slow sums over paths give."""

import copy
import re
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from skfeat.activations import JumpReLU, ReLU, TopK
from skfeat.chain import ACTIVATIONS, Chain, Step
from skfeat.chain._slopes import PIECEWISE_LINEAR, backpropagate, values_along
from skfeat.network import SparseFeatureNetwork, _attribution
from tests.chain.test_chain import join
from tests.chain.test_chain_joins import random_steps
from tests.network.test_network import affine, parameters, rows

SLOPE = {"negative_slope": 0.2}
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def linear_steps(rng, kind, n_in, n_out):
    """Steps of every piecewise linear kind, or none where the widths allow it."""
    scale = {"weight": rng.normal(size=n_out), "bias": rng.normal(size=n_out)}
    return {
        "affine": [affine(rng, n_in, n_out)],
        "relu": [
            Step("relu"),
            affine(rng, n_in, 4),
            Step("relu"),
            affine(rng, 4, n_out),
        ],
        "leaky": [affine(rng, n_in, n_out), Step("leaky_relu", "", {}, SLOPE)],
        "scale": [affine(rng, n_in, n_out), Step("scale", "", scale), Step("identity")],
        "nothing": [],
    }[kind]


def piecewise_linear(seed, k, activation, front, back, n_layers=3, dtype="f8"):
    rng = np.random.default_rng(seed)
    p = parameters(seed, n_layers, k, dtype)
    d_in, d_out = p["encoder_coef"].shape[1], p["decoder_coef"].shape[1]
    m = len(p["encoder_coef"])
    n_inputs = d_in if front == "nothing" else 3
    n_outputs = d_out if back == "nothing" else 3
    p["front"] = Chain.from_steps(linear_steps(rng, front, n_inputs, d_in), n_inputs)
    p["back"] = Chain.from_steps(linear_steps(rng, back, d_out, n_outputs), d_out)
    if activation == "jumprelu":
        p["activation"] = JumpReLU(rng.random(m) * 0.5)
    elif activation == "relu":
        p["activation"] = ReLU()
    else:
        p["activation"] = TopK(k or 2)
    return SparseFeatureNetwork(**p)


KINDS = ["affine", "relu", "leaky", "scale", "nothing"]
NETWORKS = {
    "seed": st.integers(0, 10_000),
    "k": st.integers(1, 5),
    "activation": st.sampled_from(["topk", "relu", "jumprelu"]),
    "front": st.sampled_from(KINDS),
    "back": st.sampled_from(KINDS),
    "n_layers": st.integers(1, 4),
}
SOME = settings(max_examples=120, deadline=None)


@SOME
@given(**NETWORKS)
def test_parts_add_up_to_the_output_at_every_layer(**kwargs):
    network = piecewise_linear(**kwargs)
    X = rows(network, 6)
    raw = network.predict_raw(X)
    parts = network.attribute(X, inputs=True)
    np.testing.assert_array_equal(parts.output, raw.argmax(axis=1))
    np.testing.assert_allclose(parts.value, raw.max(axis=1), **EXACT)
    for layer in ["inputs", *range(len(network.coefs_) + 1)]:
        np.testing.assert_allclose(parts.total(layer), parts.value, **EXACT)
    np.testing.assert_allclose(
        parts.features[-1].sum(axis=1) + parts.output_bias, parts.value, **EXACT
    )


@SOME
@given(**NETWORKS)
def test_what_flows_in_flows_out(**kwargs):
    network = piecewise_linear(**kwargs)
    X = rows(network, 4)
    parts = network.attribute(X, output=0, inputs=True)
    for row in range(len(X)):
        for i, coef in enumerate(network.coefs_):
            flow = parts.flow(row, i)
            assert flow.shape == coef.shape
            assert parts.edges[i].shape == (len(X), coef.nnz)
            out = parts.features[i][row]
            np.testing.assert_allclose(flow.sum(axis=0), out, **EXACT)
            into = flow.sum(axis=1) + parts.biases[i + 1][row]
            np.testing.assert_allclose(into, parts.features[i + 1][row], **EXACT)
        shape = network.n_components_[0], network.n_features_in_
        first = parts.input_edges[[row]].toarray().reshape(shape)
        np.testing.assert_allclose(first.sum(axis=0), parts.inputs[row], **EXACT)
    # The front's own constants reach the output through the first features too.
    into = parts.inputs.sum(axis=1) + parts.input_bias + parts.biases[0].sum(axis=1)
    np.testing.assert_allclose(parts.features[0].sum(axis=1), into, **EXACT)


def path_slope(network, features, at_end, layer, feature, row):
    """Sum the products of weights along every active path, one path at a time."""
    if layer == len(network.coefs_):
        return at_end[feature]
    column, total = network.coefs_[layer].toarray()[:, feature], 0.0
    for target, weight in enumerate(column):
        active = network.links[layer] == "identity" or features[layer + 1][row, target]
        if weight and active:
            rest = path_slope(network, features, at_end, layer + 1, target, row)
            total += weight * rest
    return total


@settings(max_examples=40, deadline=None)
@given(**NETWORKS)
def test_agrees_with_sums_over_paths(**kwargs):
    network = piecewise_linear(**kwargs)
    X = rows(network, 3)
    features, parts = network.features(X), network.attribute(X, output=[0] * 3)
    for row in range(len(X)):
        last = torch.tensor(features[-1][row : row + 1], requires_grad=True)
        decoder = torch.tensor(network.decoder_coef_)
        hidden = last @ decoder + torch.tensor(network.decoder_intercept_)
        network.back.forward_torch(hidden)[0, 0].backward()
        at_end = last.grad[0].numpy()
        for layer, found in enumerate(parts.features):
            for j, value in enumerate(features[layer][row]):
                slope = path_slope(network, features, at_end, layer, j, row)
                assert found[row, j] == pytest.approx(value * slope, abs=1e-10)


def test_inputs_agree_with_autograd():
    network = piecewise_linear(7, 3, "topk", "relu", "relu")
    X = rows(network, 8)
    parts = network.attribute(X, output=1, inputs=True)
    T = torch.tensor(X, requires_grad=True)
    network.to_torch()(T)[:, 1].sum().backward()
    np.testing.assert_allclose(parts.inputs, X * T.grad.numpy(), **EXACT)
    assert np.abs(parts.inputs).max() > 0.1


STEPS = partial(
    random_steps,
    others=(),
    acts=sorted(ACTIVATIONS.intersection(PIECEWISE_LINEAR)),
    joins=("add", "concatenate"),
)


@SOME
@given(STEPS(4), st.sampled_from(["f4", "f8"]))
def test_slopes_through_branches_agree_with_autograd(drawn, dtype):
    steps, n_outputs = drawn
    rng = np.random.default_rng(2)
    X = rng.normal(size=(7, 4)).astype(dtype)
    slopes = rng.normal(size=(7, n_outputs)).astype(dtype)
    before = slopes.copy()
    values = values_along(steps, X)
    at_start, bias = backpropagate(steps, values, slopes)
    assert at_start.dtype == bias.dtype == dtype
    np.testing.assert_array_equal(slopes, before)
    if dtype == "f4":  # where a kink may lie between the two ways of rounding
        return
    T = torch.tensor(X, requires_grad=True)
    out = Chain.from_steps(steps, 4).forward_torch(T)
    (expected,) = torch.autograd.grad(
        out, T, torch.tensor(slopes), materialize_grads=True, allow_unused=True
    )
    scale = max(1.0, *(np.abs(value).max() for value in values))
    exact = {"rtol": 1e-10, "atol": 1e-10 * scale}
    # The slope of torch's hardsigmoid is the 1/6 of float32.
    np.testing.assert_allclose(at_start, expected.numpy(), rtol=1e-6, atol=1e-6 * scale)
    whole = (slopes * values[-1]).sum(axis=1)
    np.testing.assert_allclose((at_start * X).sum(axis=1) + bias, whole, **exact)


@SOME
@given(STEPS(4), STEPS(3), st.integers(0, 10_000))
def test_ends_with_branches(front, back, seed):
    rng = np.random.default_rng(seed)
    network = SparseFeatureNetwork(
        front=Chain.from_steps(front[0], 4),
        encoder_coef=rng.normal(size=(8, front[1])),
        encoder_intercept=rng.normal(size=8),
        encoder_bias=rng.normal(size=front[1]),
        activation=TopK(4),
        coefs=[rng.normal(size=(6, 8)) * (rng.random((6, 8)) < 0.4)],
        intercepts=[rng.normal(size=6)],
        links=["relu"],
        decoder_coef=rng.normal(size=(6, 3)),
        decoder_intercept=rng.normal(size=3),
        back=Chain.from_steps(back[0], 3),
        layer_names=["a", "b"],
    )
    X = rows(network, 5)
    parts = network.attribute(X, output=0, inputs=True)
    value = network.predict_raw(X)[:, 0]
    size = [np.abs(part).max() for part in [*parts.features, *parts.biases]]
    tolerance = {"rtol": 1e-10, "atol": 1e-10 * max(1.0, *size)}
    for layer in ("inputs", 0, 1):
        np.testing.assert_allclose(parts.total(layer), value, **tolerance)
    edges = parts.input_edges.toarray().reshape(len(X), 8, 4)
    np.testing.assert_allclose(edges.sum(axis=1), parts.inputs, **tolerance)
    T = torch.tensor(X, requires_grad=True)
    network.to_torch()(T)[:, 0].sum().backward()
    tolerance = {name: 1e4 * value for name, value in tolerance.items()}
    np.testing.assert_allclose(parts.inputs, X * T.grad.numpy(), **tolerance)


def test_float32_rows_are_split_in_their_precision():
    network = piecewise_linear(7, 3, "topk", "relu", "affine", dtype="f4")
    X = rows(network, dtype="f4")
    parts = network.attribute(X, inputs=True)
    arrays = [*parts.features, *parts.biases, *parts.edges, parts.inputs, parts.value]
    arrays += [parts.output_bias, parts.input_bias, parts.input_edges]
    assert {array.dtype for array in arrays} == {np.dtype("f4")}
    np.testing.assert_allclose(parts.value, network.predict_raw(X).max(axis=1))
    for layer in ("inputs", 0, 1, 2, -1):
        np.testing.assert_allclose(parts.total(layer), parts.value, atol=1e-4)


def test_blocks_of_rows_change_nothing(monkeypatch):
    network = piecewise_linear(7, 3, "topk", "relu", "affine")
    X = rows(network, 11)
    output = np.arange(11) % 3
    whole = network.attribute(X, output, inputs=True)
    flow = network.mean_flow(X, output, inputs=True)
    monkeypatch.setattr(_attribution, "_BLOCK_ELEMENTS", 1)
    parts = network.attribute(X, output, inputs=True)
    for name, expected in vars(whole).items():
        found = getattr(parts, name)
        if name.endswith("names"):
            assert found == expected
            continue
        pairs = zip(found, expected, strict=True)
        for pair in pairs if isinstance(expected, list) else [(found, expected)]:
            dense = [part.toarray() if sparse.issparse(part) else part for part in pair]
            np.testing.assert_allclose(*dense, atol=1e-13)
    again = network.mean_flow(X, output, inputs=True)
    np.testing.assert_allclose(again.inputs, flow.inputs, atol=1e-13)


def test_mean_flow_is_the_mean_of_magnitudes():
    network = piecewise_linear(7, 3, "topk", "relu", "affine")
    X = rows(network, 25)
    parts = network.attribute(X, inputs=True)
    flow = network.mean_flow(X, inputs=True)
    for layer, found in enumerate(flow.features):
        np.testing.assert_allclose(found, np.abs(parts.features[layer]).mean(axis=0))
    for i, found in enumerate(flow.edges):
        expected = sum(abs(parts.flow(row, i)).toarray() for row in range(25)) / 25
        np.testing.assert_allclose(found.toarray(), expected, atol=1e-14)
    last = np.abs(parts.features[-1])
    for output, found in enumerate(flow.to_outputs):
        np.testing.assert_allclose(found, last[parts.output == output].sum(axis=0) / 25)
    np.testing.assert_allclose(flow.inputs, np.abs(parts.inputs).mean(axis=0))
    edges = abs(parts.input_edges).toarray().mean(axis=0)
    np.testing.assert_allclose(flow.input_edges.toarray().ravel(), edges)
    assert network.mean_flow(X).inputs is None
    with pytest.raises(ValueError, match="X must have at least one row"):
        network.mean_flow(X[:0])


def test_sparse_encoder_and_decoder_give_the_same():
    dense = piecewise_linear(7, 3, "topk", "nothing", "nothing")
    network = copy.copy(dense)
    network.encoder_coef_ = sparse.csr_array(dense.encoder_coef_)
    network.decoder_coef_ = sparse.csr_array(dense.decoder_coef_)
    X = rows(network)
    found, expected = (n.attribute(X, inputs=True) for n in (network, dense))
    for layer in range(3):
        np.testing.assert_allclose(found.features[layer], expected.features[layer])
        np.testing.assert_allclose(found.biases[layer], expected.biases[layer])
    np.testing.assert_allclose(found.inputs, expected.inputs)
    np.testing.assert_allclose(
        found.input_edges.toarray(), expected.input_edges.toarray()
    )


def test_inputs_only_when_asked_for():
    network = piecewise_linear(7, 3, "topk", "relu", "affine")
    parts = network.attribute(rows(network, 2))
    assert parts.inputs is parts.input_edges is parts.input_bias is None
    with pytest.raises(ValueError, match="needs attribute"):
        parts.total("inputs")


def test_no_rows():
    network = piecewise_linear(7, 3, "topk", "relu", "affine")
    parts = network.attribute(rows(network, 3)[:0], inputs=True)
    assert [part.shape for part in parts.edges] == [
        (0, coef.nnz) for coef in network.coefs_
    ]
    assert parts.total().shape == (0,)


def test_curved_steps_are_refused():
    p = parameters(4)
    d_out = p["decoder_coef"].shape[1]
    p["back"] = Chain.from_steps([Step("tanh")], d_out)
    network = SparseFeatureNetwork(**p)
    message = "exact only through steps of the kinds .*, but back .* 'tanh' step"
    for method in (network.attribute, network.mean_flow):
        with pytest.raises(ValueError, match=message):
            method(rows(network))
    p["front"] = Chain.from_steps([*p["front"].steps, Step("tanh")])
    p["back"] = Chain.from_steps([], d_out)
    network = SparseFeatureNetwork(**p)
    X = rows(network)
    parts = network.attribute(X)
    np.testing.assert_allclose(parts.total(), parts.value, **EXACT)
    with pytest.raises(ValueError, match="but front of the network has a 'tanh' step"):
        network.attribute(X, inputs=True)


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (join("multiply", [], []), "multiply"),
        (join("add", [], [join("concatenate", [Step("tanh")])]), "tanh"),
        (join("add", [], [Step("hardswish")]), "hardswish"),
    ],
)
def test_curved_branches_are_refused(step, kind):
    p = parameters(4)
    p["back"] = Chain.from_steps([step], p["decoder_coef"].shape[1])
    network = SparseFeatureNetwork(**p)
    with pytest.raises(ValueError, match=f"but back of the network has a '{kind}'"):
        network.attribute(rows(network))


@pytest.mark.parametrize("output", [3, -1, 0.0, "a", [0, 1], [[0] * 5], True])
def test_outputs_that_are_not_there(output):
    network = piecewise_linear(7, 3, "topk", "relu", "affine")
    got = re.escape(f"Got {output!r} instead")
    with pytest.raises(ValueError, match=f"output must be an int from 0 to 2.*{got}"):
        network.attribute(rows(network, 5), output)


def test_rows_are_checked_and_left_alone():
    network = piecewise_linear(7, 3, "topk", "relu", "affine")
    X = rows(network, 5)
    before = X.copy()
    network.attribute(X, inputs=True)
    np.testing.assert_array_equal(X, before)
    with pytest.raises(ValueError, match="X has 2 features"):
        network.attribute(X[:, :2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: a.total("fc1"), "layer must be 'inputs' or an int from -3 to 2"),
        (lambda a: a.total(7), "Got 7 instead"),
        (lambda a: a.flow("a", 0), "row must be an int from -2 to 1. Got 'a'"),
        (lambda a: a.flow(0, 9), "connector must be an int from -2 to 1. Got 9"),
        (lambda a: a.flow(True, 0), "row must be an int .* Got True"),
    ],
)
def test_positions_are_checked(call, message):
    network = piecewise_linear(7, 3, "topk", "relu", "affine")
    with pytest.raises(ValueError, match=message):
        call(network.attribute(rows(network, 2)))


# How it is shown


def test_it_shows_that_the_layers_add_up():
    network = piecewise_linear(0, 3, "topk", "relu", "affine")
    X = rows(network, 5)
    parts = network.attribute(X, inputs=True)
    lines = str(parts).splitlines()
    assert repr(parts) == str(parts)
    assert len(lines) < 15
    assert max(map(len, lines)) <= 100
    mean = f"{parts.value.mean():.4g}"
    assert [line.split()[0] for line in lines[2:6]] == ["inputs", *network.layer_names_]
    assert [line.split()[-1] for line in lines[2:6]] == [mean] * 4
    html = parts._repr_html_()
    assert html.count(f"<td>{mean}</td></tr>") == 4
    assert 'title="sum of the negative ones">against</th>' in html
    assert "in one row" in str(network.attribute(X[:1]))
    assert "no rows" in str(network.attribute(X[:0]))


def test_parts_in_a_data_frame_add_up():
    pytest.importorskip("pandas")
    network = piecewise_linear(1, 3, "relu", "nothing", "leaky")
    X = rows(network, 4)
    parts = network.attribute(X, inputs=True)
    frame = parts.to_frame()
    sums = frame.groupby(["layer", "row"])["contribution"].sum()
    for layer in ("inputs", *network.layer_names_):
        np.testing.assert_allclose(sums[layer], parts.value, **EXACT)
    first = frame[(frame["layer"] == network.layer_names_[0]) & (frame["row"] == 2)]
    found = first.set_index("name")["contribution"].drop("constants")
    for name, value in found.items():
        column = network.feature_names_[0].index(name)
        assert parts.features[0][2, column] == value
    assert len(found) == np.count_nonzero(parts.features[0][2])
    assert set(frame["output"]) <= set(network.output_names_)
