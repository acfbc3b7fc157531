"""Chains whose steps have branches: residual blocks, gates, concatenations."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skfeat.chain import JOINS, Chain, Step, find_hidden, merge_scales
from skfeat.chain._steps import arrays_of, walk
from tests.chain.test_chain import activation as act
from tests.chain.test_chain import affine, elementwise, join

X = np.random.default_rng(1).normal(size=(9, 4))


def block(n, name="", *inner):
    """Make x + f(x) of width n."""
    f = inner or (affine(n, 7, f"{name}.fc1"), act("relu"), affine(7, n, f"{name}.fc2"))
    return join("add", f, (), name=name)


def columns(width, start, stop):
    return Step("slice", "", {}, {"width": width, "start": start, "stop": stop})


def reference(steps, x):
    """Run steps as their documentation says, by plain loops over rows."""
    for step in steps:
        if step.kind not in JOINS:
            x = Chain.from_steps([step], x.shape[1]).forward(x)
            continue
        results = [reference(branch, x) for branch in step.branches]
        if step.kind == "concatenate":
            x = np.array([np.concatenate(rows) for rows in zip(*results, strict=True)])
        else:
            total = results[0].copy()
            for result in results[1:]:
                total = total + result if step.kind == "add" else total * result
            x = total
    return x


NORMALIZING = ("layer_norm", "rms_norm")
SMOOTH = ("tanh", "gelu", "softplus", "sin", "atan")
ALL_JOINS = tuple(sorted(JOINS))


@st.composite
def random_steps(
    draw, width, depth=2, others=NORMALIZING, acts=SMOOTH, joins=ALL_JOINS
):
    """Draw steps that take a width; return them with the width they give."""
    steps = []
    for _ in range(draw(st.integers(0, 3))):
        kinds = ["affine", "act", "scale", "slice", "mean", *others]
        kind = draw(st.sampled_from([*kinds, *joins] if depth else kinds))
        if kind == "affine":
            n_out = draw(st.integers(1, 5))
            steps.append(affine(width, n_out, draw(st.sampled_from(["", "fc"]))))
            width = n_out
        elif kind == "act":
            chosen = draw(st.sampled_from(acts))
            made = elementwise(chosen, width) if arrays_of(chosen) else act(chosen)
            steps.append(made)
        elif kind == "slice":
            start = draw(st.integers(0, width - 1))
            stop = draw(st.integers(start + 1, width))
            steps.append(columns(width, start, stop))
            width = stop - start
        elif kind == "mean":
            steps.append(act("mean"))
            width = 1
        elif kind in JOINS:
            drawn = [
                draw(random_steps(width, depth - 1, others, acts, joins))
                for _ in range(draw(st.integers(1, 3)))
            ]
            n_out = max(n for _, n in drawn)
            branches = [
                [*branch, affine(n, n_out)]
                if n not in (1, n_out) and kind != "concatenate"
                else branch
                for branch, n in drawn
            ]
            steps.append(join(kind, *branches))
            width = sum(n for _, n in drawn) if kind == "concatenate" else n_out
        else:
            steps.append(elementwise(kind, width))
    return steps, width


@given(random_steps(4))
def test_any_steps(drawn):
    steps, n_outputs = drawn
    chain = Chain.from_steps(steps, 4)
    out = chain.forward(X)
    assert out.shape == (9, n_outputs) == (9, chain.n_outputs)
    np.testing.assert_allclose(out, reference(steps, X), rtol=1e-12, atol=1e-12)
    # Small products of branches round differently in torch.
    scale = max(1.0, np.abs(out).max())
    torch_out = chain.forward_torch(torch.tensor(X)).numpy()
    np.testing.assert_allclose(torch_out, out, rtol=1e-9, atol=1e-9 * scale)

    arrays, spec = chain.to_arrays()
    loaded = Chain.from_arrays(arrays, json.loads(json.dumps(spec)))
    np.testing.assert_array_equal(loaded.forward(X), out)
    assert (loaded.hidden, loaded.n_outputs) == (chain.hidden, chain.n_outputs)
    assert loaded.n_multiply_adds() == chain.n_multiply_adds()

    merged = Chain.from_steps(merge_scales(steps), 4).forward(X)
    np.testing.assert_allclose(merged, out, rtol=1e-7, atol=1e-9 * scale)

    for layer in chain.hidden:
        h = chain.forward(X, 0, layer.stop)
        assert h.shape == (9, layer.n_units)
        np.testing.assert_array_equal(chain.forward(h, layer.stop), out)


def test_cost_is_that_of_all_affines_and_norms():
    steps = [
        affine(4, 6),
        block(6, "b"),
        join("concatenate", (elementwise("layer_norm", 6),), (act("relu"),)),
        affine(12, 2),
    ]
    chain = Chain.from_steps(steps)
    assert chain.n_multiply_adds() == 24 + (42 + 42) + 6 + 24
    assert chain.n_multiply_adds(1, 2) == 84
    n_affine = sum(s.arrays["coef"].size for s in walk(steps) if s.kind == "affine")
    assert chain.n_multiply_adds() == n_affine + 6


def test_hidden_layers_are_the_streams_after_blocks():
    chain = Chain.from_steps(
        [
            affine(4, 6, "stem"),
            block(6, "blocks.0"),
            block(6, "blocks.1"),
            elementwise("layer_norm", 6, "blocks.1.norm"),
            block(6, "blocks.1"),
            act("relu", "relu"),
            join("multiply", [affine(6, 6, "gate")], [affine(6, 6, "up")]),
            affine(6, 3, "head"),
        ]
    )
    assert [layer.name for layer in chain.hidden] == [
        "blocks.0",
        "blocks.1",
        "blocks.1@1",
        "hidden_3",
    ]
    assert [layer.aliases for layer in chain.hidden] == [
        (),
        ("blocks.1.norm",),
        ("relu",),
        (),
    ]
    assert [layer.stop for layer in chain.hidden] == [2, 4, 6, 7]
    assert chain.inner_names[:2] == ["blocks.0.fc1", "blocks.0.fc2"]
    assert chain.affine_between(0, 1) is None


def test_a_gate_without_weights_is_a_nonlinearity():
    glu = join("multiply", [columns(6, 0, 3)], [columns(6, 3, 6), act("sigmoid")])
    (layer,) = find_hidden([affine(4, 6, "a"), glu, affine(3, 2, "out")])
    assert (layer.name, layer.stop, layer.n_units) == ("a", 2, 3)


def test_norms_of_groups_of_columns_are_norms():
    groups = [[columns(6, i, i + 3), elementwise("layer_norm", 3)] for i in (0, 3)]
    steps = [affine(4, 6, "a"), join("concatenate", *groups), act("relu"), affine(6, 2)]
    (layer,) = find_hidden(steps)
    assert (layer.name, layer.stop) == ("a", 3)


def test_a_block_at_the_end_belongs_to_the_output():
    steps = [affine(4, 5, "a"), act("relu"), block(5, "b"), act("softmax")]
    assert [layer.name for layer in find_hidden(steps)] == ["a"]


def test_a_change_of_dtype_reaches_the_branches():
    chain = Chain.from_steps([affine(4, 6), block(6, "b"), affine(6, 2)])
    single = chain.astype(np.dtype("f4"))
    assert single.dtype == np.float32
    assert {a.dtype for s in walk(single.steps) for a in s.arrays.values()} == {
        np.dtype("f4")
    }
    assert single.astype(np.dtype("f4")) is single
    assert single.hidden == chain.hidden
    np.testing.assert_allclose(
        single.forward(X), chain.forward(X), rtol=1e-5, atol=1e-4
    )


@pytest.mark.parametrize(
    "first", [join("add", []), columns(4, 0, 4), Step("identity"), join("add", [], [])]
)
def test_x_is_never_written_to(first):
    before = X.copy()
    out = Chain.from_steps([first, act("relu")], 4).forward(X)
    np.testing.assert_array_equal(X, before)
    assert (out >= 0).all()


def test_heads_are_columns():
    heads = join("concatenate", [affine(5, 2)], [affine(5, 3), act("tanh")], [])
    steps = [affine(4, 5), act("relu"), heads]
    chain = Chain.from_steps(steps, head_names=["a", "b", "c"])
    found = [(head.name, head.start, head.stop) for head in chain.heads]
    assert found == [("a", 0, 2), ("b", 2, 5), ("c", 5, 10)]
    assert chain.slice(2).heads == ()


@pytest.mark.parametrize(
    ("steps", "match"),
    [
        ([Step("add")], "must have branches if it is a join"),
        ([Step("relu", branches=((),))], "must have branches if it is a join"),
        ([join("add", [affine(4, 3)], [])], r"have the widths \[3, 4\]"),
        ([join("add", [affine(3, 3)], [])], r"Step 0.0.0 .*takes 3 .*given 4"),
        ([columns(4, 2, 2)], "some of its columns"),
        ([columns(4, 0, 5)], "some of its columns"),
        ([columns(4, -1, 2)], "some of its columns"),
        ([columns(3, 0, 2)], "takes 3 values a row, but is given 4"),
        ([Step("slice", "", {}, {"width": 4, "start": 0.0, "stop": 2})], "some of"),
        ([Step("celu", "", {}, {"alpha": 0.0})], "alpha of .* must not be zero"),
        ([Step("softplus", "", {}, {"beta": 0.0, "threshold": 1.0})], "beta of"),
    ],
)
def test_malformed_steps(steps, match):
    with pytest.raises(ValueError, match=match):
        Chain.from_steps(steps, 4)


def test_open_widths():
    with pytest.raises(ValueError, match="n_features_in is needed"):
        Chain.from_steps([join("concatenate", [], [act("relu")]), affine(8, 3)])
    assert (
        Chain.from_steps([block(4, "", act("relu")), affine(4, 2)]).n_features_in == 4
    )


def saved():
    return Chain.from_steps([affine(4, 6), block(6, "b"), affine(6, 2)]).to_arrays()


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec[2].pop("branches"),
        lambda spec: spec[2].update(branches=[]),
        lambda spec: spec[2].update(branches={"0": []}),
        lambda spec: spec[2].update(branches=[1]),
        lambda spec: spec[2].update(branches=[["affine"]]),
        lambda spec: spec[2]["branches"].append([{"kind": "relu"}]),
        lambda spec: spec[2]["branches"].pop(0),
        lambda spec: spec[2]["branches"][0][0].update(kind="relu"),
        lambda spec: spec[1].update(branches=[[]]),
        lambda spec: spec[2].update(kind="relu"),
    ],
)
def test_hostile_branches(change):
    arrays, spec = saved()
    change(spec)
    with pytest.raises(ValueError, match=r"\.$"):
        Chain.from_arrays(arrays, spec)


def test_bottomless_branches():
    entry = {"kind": "add", "name": "", "settings": {}, "branches": [[]]}
    for _ in range(5000):
        entry = entry | {"branches": [[entry]]}
    with pytest.raises(ValueError, match="few lists of steps"):
        Chain.from_arrays({}, [{"n_features_in": 3}, entry])
    step = Step("add", branches=((),))
    for _ in range(100):
        step = Step("add", branches=((step,),))
    with pytest.raises(ValueError, match="more than 32 deep"):
        Chain.from_steps([step], 3)
