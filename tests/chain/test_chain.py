import json
import re

import numpy as np
import pytest
import torch

from skfeat.activations import JumpReLU, TopK
from skfeat.chain import ACTIVATIONS, JOINS, Chain, Step, find_hidden, merge_scales
from skfeat.chain._steps import NORMS, arrays_of, run_numpy

RNG = np.random.default_rng(0)
SETTINGS = {
    "leaky_relu": {"negative_slope": 0.2},
    "elu": {"alpha": 0.7},
    "celu": {"alpha": 0.7},
    "threshold": {"threshold": 0.3, "value": -1.5},
    "softplus": {"beta": 2.0, "threshold": 3.0},
    "hardtanh": {"min_val": -0.5, "max_val": 2.0},
    "softshrink": {"lambd": 0.4},
    "hardshrink": {"lambd": 0.4},
    "heaviside": {"threshold": 0.3, "at": 0.25},
    "layer_norm": {"eps": 1e-5},
    "rms_norm": {"eps": 1e-5},
    "slice": {"width": 5, "start": 1, "stop": 4},
}


def affine(n_in, n_out, name=""):
    arrays = {
        "coef": RNG.normal(size=(n_out, n_in)),
        "intercept": RNG.normal(size=n_out),
    }
    return Step("affine", name, arrays)


def elementwise(kind, n, name=""):
    arrays = {name: RNG.normal(size=n) for name in arrays_of(kind)}
    return Step(kind, name, arrays, SETTINGS.get(kind, {}))


def activation(kind, name=""):
    return Step(kind, name, settings=SETTINGS.get(kind, {}))


def join(kind, *branches, name=""):
    return Step(kind, name, branches=tuple(map(tuple, branches)))


def step_of(kind):
    if kind == "affine":
        return affine(5, 4)
    if kind in JOINS:
        return join(kind, [affine(5, 4), activation("tanh")], [affine(5, 4)])
    if arrays_of(kind):
        return elementwise(kind, 5)
    return activation(kind)


@pytest.fixture
def chain():
    return Chain.from_steps(
        [
            affine(4, 6, "a"),
            activation("relu", "act"),
            affine(6, 5, "b"),
            elementwise("layer_norm", 5, "norm"),
            activation("gelu"),
            affine(5, 7, "c"),
            activation("tanh"),
            affine(7, 3, "out"),
            activation("softmax"),
        ]
    )


@pytest.mark.parametrize(
    "kind", sorted(ACTIVATIONS | JOINS | NORMS | {"affine", "slice", "mean"})
)
def test_numpy_and_torch_agree(kind):
    X = np.concatenate([RNG.normal(size=(50, 5)) * 3, np.zeros((1, 5))])
    if kind in ("sqrt", "reciprocal", "log", "log1p"):
        X = np.abs(X) + 0.1
    chain = Chain.from_steps([step_of(kind)], 5)
    T = torch.tensor(X, requires_grad=True)
    out = chain.forward_torch(T)
    np.testing.assert_allclose(
        chain.forward(X), out.detach().numpy(), rtol=1e-12, atol=1e-12
    )
    out.sum().backward()
    assert torch.isfinite(T.grad).all()


@pytest.mark.parametrize(
    "kind",
    sorted(
        ACTIVATIONS - {"prelu", "exp", "expm1", "log", "log1p", "sqrt", "reciprocal"}
    ),
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_saturated_values_are_finite(kind, dtype):
    X = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]], dtype=dtype)
    out = Chain.from_steps([activation(kind)], 3).forward(X)
    assert out.dtype == dtype
    assert np.isfinite(out).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_of_x_is_kept(chain, dtype):
    X = RNG.normal(size=(8, 4)).astype(dtype)
    assert chain.forward(X).dtype == dtype
    assert chain.forward_torch(torch.tensor(X)).numpy().dtype == dtype


def test_other_dtypes_become_float64(chain):
    assert chain.forward(np.ones((2, 4), dtype=int)).dtype == np.float64
    assert chain.forward(np.ones((2, 4), dtype=np.float16)).dtype == np.float64


def test_a_product_tells_of_overflow_but_calls_no_finite_row_invalid():
    """OpenBLAS computes a row of five columns with what registers held before.

    What they held cannot be set here, so infinity less infinity stands for it.
    """
    coef = np.array([[2, -2, 0, 0, 0], [1, 1, 0, 0, 0]], np.float32)
    step = Step("affine", "a", {"coef": coef, "intercept": np.zeros(2, np.float32)})
    row = np.full((1, 5), 3e38, np.float32)
    with pytest.warns(RuntimeWarning) as told:
        run_numpy([step], row)
    assert {str(one.message) for one in told} == {"overflow encountered in matmul"}


def test_forward_composes(chain):
    X = RNG.normal(size=(8, 4))
    whole = chain.forward(X)
    for cut in range(len(chain.steps) + 1):
        half = chain.forward(X, stop=cut)
        assert half.shape == (8, chain.width_at(cut))
        np.testing.assert_array_equal(chain.forward(half, cut), whole)
        again = chain.slice(cut).forward(chain.slice(0, cut).forward(X))
        np.testing.assert_array_equal(again, whole)
        T = chain.forward_torch(torch.tensor(half), cut)
        np.testing.assert_allclose(T.numpy(), whole, rtol=1e-12)


def test_forward_leaves_x_alone(chain):
    X = RNG.normal(size=(8, 4))
    before = X.copy()
    X.flags.writeable = False
    chain.forward(X)
    np.testing.assert_array_equal(X, before)


def test_no_rows(chain):
    assert chain.forward(np.empty((0, 4))).shape == (0, 3)


def test_torch_takes_read_only_arrays(chain):
    for step in chain.steps:
        for array in step.arrays.values():
            array.flags.writeable = False
    chain.forward_torch(torch.ones(2, 4))


def test_torch_function_keeps_its_constants(chain):
    run = chain.torch_function(2, dtype=torch.float32)
    T = torch.rand(5, 6)
    torch.testing.assert_close(run(T), chain.forward_torch(T, 2))


def test_hidden_layers(chain):
    assert [layer.name for layer in chain.hidden] == ["a", "b", "c"]
    assert [layer.aliases for layer in chain.hidden] == [("act",), (), ()]
    assert [layer.stop for layer in chain.hidden] == [2, 5, 7]
    assert [layer.n_units for layer in chain.hidden] == [6, 5, 7]
    assert (chain.n_features_in, chain.n_outputs) == (4, 3)


def test_what_is_no_hidden_layer():
    steps = [affine(3, 4), affine(4, 4), activation("relu"), affine(4, 2)]
    assert [layer.stop for layer in find_hidden(steps)] == [3]
    assert [layer.name for layer in find_hidden(steps)] == ["hidden_0"]
    assert find_hidden([affine(3, 2), activation("relu"), activation("softmax")]) == ()
    assert find_hidden([activation("relu")]) == find_hidden([]) == ()


def test_stop_comes_before_a_norm_after_the_activation():
    steps = [
        affine(3, 4),
        activation("relu"),
        elementwise("layer_norm", 4),
        affine(4, 2),
    ]
    assert find_hidden(steps)[0].stop == 2


def test_modules_used_twice():
    shared = affine(4, 4, "fc")
    relu = activation("relu", "act")
    hidden = find_hidden([shared, relu, shared, relu, affine(4, 1, "out")])
    assert [layer.name for layer in hidden] == ["fc", "fc@1"]
    assert [layer.aliases for layer in hidden] == [(), ()]


def test_affine_between(chain):
    assert chain.affine_between(0, 1) is None  # a layer norm lies between
    assert chain.affine_between(0, 2) is None
    coef, intercept = chain.affine_between(1, 2)
    h = RNG.normal(size=(4, 5))
    np.testing.assert_allclose(np.tanh(h @ coef.T + intercept), chain.forward(h, 5, 7))


def test_n_multiply_adds(chain):
    assert chain.n_multiply_adds() == 24 + 30 + 5 + 35 + 21
    assert chain.n_multiply_adds(2, 5) == 35
    assert chain.n_multiply_adds(1, 2) == 0


def test_n_weights_are_the_nonzero_ones_of_what_multiplies(chain):
    assert chain.n_weights() == chain.n_multiply_adds()
    layer = affine(4, 3)
    layer.arrays["coef"][:, 1] = 0
    slopes = Step("prelu", "", {"weight": np.full(3, 0.5)})
    branches = ((), (affine(3, 3),))
    steps = [layer, slopes, Step("add", branches=branches), elementwise("scale", 3)]
    assert Chain.from_steps(steps).n_weights() == 9 + 9 + 3
    assert Chain.from_steps(steps).n_weights(0, 1) == 9


@pytest.mark.parametrize(
    ("kinds", "merged"),
    [
        (["affine", "scale", "relu", "affine"], ["affine", "relu", "affine"]),
        (["affine", "relu", "scale", "affine"], ["affine", "relu", "affine"]),
        (["scale", "affine", "relu"], ["affine", "relu"]),
        (["scale", "scale", "affine", "scale", "scale"], ["affine"]),
        (["affine", "relu", "scale"], ["affine", "relu", "scale"]),
        (["affine", "relu", "scale", "tanh"], ["affine", "relu", "scale", "tanh"]),
        (["affine", "layer_norm", "scale", "relu"],) * 2,
        (["affine", "affine"], ["affine", "affine"]),
    ],
)
def test_merge_scales(kinds, merged):
    steps = [affine(5, 5) if kind == "affine" else step_of(kind) for kind in kinds]
    result = merge_scales(steps)
    assert [step.kind for step in result] == merged
    X = RNG.normal(size=(20, 5))
    np.testing.assert_allclose(
        Chain.from_steps(result, 5).forward(X),
        Chain.from_steps(steps, 5).forward(X),
        rtol=1e-10,
        atol=1e-12,
    )


def test_merging_keeps_the_dtype_of_the_affine():
    step = affine(3, 3)
    step = Step("affine", "", {k: v.astype("f4") for k, v in step.arrays.items()})
    (merged,) = merge_scales([step, elementwise("scale", 3)])
    assert {array.dtype for array in merged.arrays.values()} == {np.dtype("f4")}


def test_saved_and_loaded(chain, tmp_path):
    arrays, spec = chain.to_arrays()
    np.savez(tmp_path / "chain.npz", **arrays)
    with np.load(tmp_path / "chain.npz", allow_pickle=False) as stored:
        loaded = Chain.from_arrays(stored, json.loads(json.dumps(spec)))
    X = RNG.normal(size=(8, 4))
    np.testing.assert_array_equal(loaded.forward(X), chain.forward(X))
    assert loaded.hidden == chain.hidden


def test_a_slice_without_a_width_is_saved(chain):
    for part in (chain.slice(-1), chain.slice(len(chain.steps))):
        loaded = Chain.from_arrays(*part.to_arrays())
        assert (loaded.n_features_in, loaded.n_outputs) == (3, 3)
        assert loaded.hidden == ()


def replaced(key, value):
    def change(arrays, spec):
        arrays[key] = value

    return change


def in_spec(i, key, value):
    def change(arrays, spec):
        spec[i][key] = value

    return change


HOSTILE = {
    "unknown kind": in_spec(1, "kind", "os.system"),
    "kind not a string": in_spec(1, "kind", ["affine"]),
    "kind without its arrays": in_spec(2, "kind", "affine"),
    "other kind": in_spec(1, "kind", "relu"),
    "extra key": in_spec(1, "code", "import os"),
    "missing key": lambda arrays, spec: spec[1].pop("name"),
    "name not a string": in_spec(1, "name", 3),
    "settings not a dict": in_spec(1, "settings", [1]),
    "unknown setting": in_spec(1, "settings", {"alpha": 1.0}),
    "missing setting": in_spec(4, "settings", {}),
    "setting not a number": in_spec(4, "settings", {"eps": "1e-5"}),
    "setting a bool": in_spec(4, "settings", {"eps": True}),
    "setting NaN": in_spec(4, "settings", {"eps": float("nan")}),
    "setting huge": in_spec(4, "settings", {"eps": 10**400}),
    "negative eps": in_spec(4, "settings", {"eps": -1.0}),
    "step not a dict": lambda arrays, spec: spec.append("affine"),
    "empty spec": lambda arrays, spec: spec.clear(),
    "no header": lambda arrays, spec: spec.pop(0),
    "header a bool": in_spec(0, "n_features_in", True),
    "header zero": in_spec(0, "n_features_in", 0),
    "other width": in_spec(0, "n_features_in", 5),
    "missing array": lambda arrays, spec: arrays.pop("0.coef"),
    "extra array": replaced("9.coef", np.ones((2, 2))),
    "object array": replaced("0.intercept", np.array([print] * 6)),
    "integer array": replaced("0.intercept", np.ones(6, dtype=int)),
    "not an array": replaced("0.intercept", [1.0] * 6),
    "NaN": replaced("0.intercept", np.full(6, np.nan)),
    "infinity": replaced("0.coef", np.full((6, 4), np.inf)),
    "3-D": replaced("0.coef", np.ones((6, 4, 1))),
    "0-D": replaced("0.intercept", np.array(1.0)),
    "lengths differ": replaced("0.intercept", np.ones(5)),
    "widths differ": replaced("0.coef", np.ones((6, 3))),
    "empty": replaced("0.coef", np.ones((6, 0))),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_saves(chain, change):
    arrays, spec = chain.to_arrays()
    change(arrays, spec)
    with pytest.raises(ValueError, match=r"\.$"):
        Chain.from_arrays(arrays, spec)


@pytest.mark.parametrize(("arrays", "spec"), [(None, []), ({}, None), ({}, {"a": 1})])
def test_not_even_a_save(arrays, spec):
    with pytest.raises(ValueError, match="mapping of arrays"):
        Chain.from_arrays(arrays, spec)


def test_widths_must_follow():
    with pytest.raises(ValueError, match=re.escape("'b') takes 5 values a row")):
        Chain.from_steps([affine(3, 4, "a"), affine(5, 2, "b")])
    with pytest.raises(ValueError, match="n_features_in is needed"):
        Chain.from_steps([activation("relu")])


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"kind": "junk"}, ValueError, r"^kind must be one of .*, relu, .*Got 'junk'"),
        ({"kind": None}, ValueError, r"^kind must be one of .* Got None instead\."),
        (
            {"kind": ["relu"]},
            ValueError,
            r"^kind must be one of .* Got \['relu'\]",
        ),
        ({"name": 3}, ValueError, r"^name must be a str\. Got 3 instead\."),
        ({"arrays": None}, ValueError, r"^arrays must be a dict of arrays\. Got None"),
        (
            {"settings": [1]},
            ValueError,
            r"^settings must be a dict of numbers\. Got \[",
        ),
        ({"branches": 3}, ValueError, r"^branches must be a tuple of lists of steps\."),
    ],
)
def test_a_step_is_checked_when_it_is_made(given, error, message):
    with pytest.raises(error, match=message):
        Step(**{"kind": "relu"} | given)


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ([[3]], TypeError, r"^Step 0 must be a skfeat\.chain\.Step\. Got 3 instead\."),
        (["relu"], TypeError, r"^steps must be a sequence of Step\. Got 'relu'"),
        ([None], TypeError, r"^steps must be a sequence of Step\. Got None instead\."),
        *(
            ([[Step("relu")], n], ValueError, r"^n_features_in must be an int of at l")
            for n in (0, -1, 2.5, True, "3", float("nan"))
        ),
        ([[Step("relu")], 4, ["a"]], ValueError, r"^head_names must be empty, or a s"),
        ([[Step("relu")], 4, "a"], ValueError, r"^head_names must be empty, .*Got 'a'"),
        ([[], 4, ["a"]], ValueError, r"each of the 0 branches"),
    ],
)
def test_arguments_of_a_chain(args, error, message):
    with pytest.raises(error, match=message):
        Chain.from_steps(*args)


def test_a_step_inside_a_branch_is_named():
    join = Step("add", branches=((Step("relu"),), (3,)))
    with pytest.raises(TypeError, match=r"^Step 0\.1\.0 must be a skfeat\.chain\.Step"):
        Chain.from_steps([join], 4)


@pytest.mark.parametrize("k", [0, -1, 2.5, True, "3", None])
def test_top_k_of_what_is_no_number_of_features(k):
    with pytest.raises(ValueError, match=r"^k must be an int of at least 1\. Got"):
        TopK(k)


@pytest.mark.parametrize("threshold", [None, "a", [-1.0], [np.nan], [True], np.inf])
def test_thresholds_that_are_none(threshold):
    with pytest.raises(ValueError, match=r"^threshold must be an array of finite num"):
        JumpReLU(threshold)
