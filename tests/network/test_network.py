import copy
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import sparse

from skfeat.activations import ReLU, TopK
from skfeat.chain import Chain, Step
from skfeat.network import SparseFeatureNetwork, _predict


def affine(rng, n_in, n_out, name=""):
    coef, intercept = rng.normal(size=(n_out, n_in)), rng.normal(size=n_out)
    return Step("affine", name, {"coef": coef, "intercept": intercept})


def parameters(seed=0, n_layers=3, k=None, dtype="f8", density=0.4, sparse_ends=""):
    """A random network with dead ends, constants and explicit zeros."""
    rng = np.random.default_rng(seed)
    d_in, d_out, n_outputs = rng.integers(1, 5, size=3)
    m = rng.integers(1, 8, size=n_layers)
    coefs = []
    for n_in, n_out in pairwise(m):
        mask = rng.random((n_out, n_in)) < density
        coef = sparse.csr_array(rng.normal(size=(n_out, n_in)) * mask)
        if coef.nnz:
            coef.data[0] = 0.0
        coefs.append(coef.astype(dtype))
    encoder = rng.normal(size=(m[0], d_in)) * (rng.random(m[0]) < 0.7)[:, None]
    decoder = rng.normal(size=(m[-1], d_out)) * (rng.random(m[-1]) < 0.7)[:, None]
    steps = [affine(rng, 3, d_in, "fc0"), Step("leaky_relu", "", {}, _SLOPE)]
    back = [Step("tanh"), affine(rng, d_out, n_outputs, "out"), Step("softmax")]
    made = {
        "front": _cast(Chain.from_steps(steps), dtype),
        "encoder_coef": encoder.astype(dtype),
        "encoder_intercept": rng.normal(size=m[0]).astype(dtype),
        "encoder_bias": rng.normal(size=d_in).astype(dtype),
        "activation": ReLU() if k is None else TopK(k),
        "coefs": coefs,
        "intercepts": [rng.normal(size=n).astype(dtype) for n in m[1:]],
        "links": list(rng.choice(["relu", "identity"], size=n_layers - 1)),
        "decoder_coef": decoder.astype(dtype),
        "decoder_intercept": rng.normal(size=d_out).astype(dtype),
        "back": _cast(Chain.from_steps(back[: rng.integers(4)], int(d_out)), dtype),
        "layer_names": [f"fc{i}" for i in range(n_layers)],
    }
    for name in sparse_ends.split():
        mask = rng.random(made[name].shape) < max(density, 0.15)
        stored = sparse.coo_array(made[name] * mask)
        if stored.nnz:
            stored.data[0] = 0.0
        made[name] = stored
    return made


ENDS = ("", "encoder_coef", "decoder_coef", "encoder_coef decoder_coef")
_SLOPE = {"negative_slope": 0.1}


def _cast(chain, dtype):
    arrays, spec = chain.to_arrays()
    return Chain.from_arrays({k: v.astype(dtype) for k, v in arrays.items()}, spec)


def rows(network, n=20, dtype="f8"):
    X = np.random.default_rng(1).normal(size=(n, network.n_features_in_))
    return X.astype(dtype)


def reference(p, x):
    """The documented formula for one row, one number at a time."""
    h = p["front"].forward(x[None])[0]
    encoder, decoder = (
        p[name].toarray() if sparse.issparse(p[name]) else p[name]
        for name in ("encoder_coef", "decoder_coef")
    )
    m, d = encoder.shape
    pre = [
        sum((h[i] - p["encoder_bias"][i]) * encoder[j, i] for i in range(d))
        + p["encoder_intercept"][j]
        for j in range(m)
    ]
    best = sorted(range(m), key=lambda j: -pre[j])[: getattr(p["activation"], "k", m)]
    layers = [[max(pre[j], 0.0) if j in best else 0.0 for j in range(m)]]
    for coef, b, link in zip(p["coefs"], p["intercepts"], p["links"], strict=True):
        W, F = coef.toarray(), []
        for j in range(len(b)):
            z = b[j] + sum(W[j, i] * layers[-1][i] for i in range(W.shape[1]))
            F.append(max(z, 0.0) if link == "relu" else z)
        layers.append(F)
    hidden = p["decoder_intercept"].copy()
    for value, row in zip(layers[-1], decoder, strict=True):
        hidden += value * row
    return layers, p["back"].forward(hidden[None])[0]


NETWORKS = {
    "n_layers": st.integers(1, 4),
    "k": st.none() | st.integers(1, 5),
    "density": st.sampled_from([0.0, 0.15, 0.4, 0.9]),
    "sparse_ends": st.sampled_from(ENDS),
    "seed": st.integers(0, 10_000),
}
FAST = settings(max_examples=150, deadline=None)


@FAST
@given(**NETWORKS)
def test_computes_the_documented_formula(**kwargs):
    p = parameters(**kwargs)
    network = SparseFeatureNetwork(**p)
    X = rows(network, 3)
    features, outputs = network.features(X), network.predict_raw(X)
    for i, x in enumerate(X):
        expected, raw = reference(p, x)
        for layer, found in zip(expected, features, strict=True):
            np.testing.assert_allclose(found[i], layer, atol=1e-12)
        np.testing.assert_allclose(outputs[i], raw, atol=1e-12)


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_dtype_of_the_data_is_kept(dtype, ends):
    network = SparseFeatureNetwork(**parameters(k=2, sparse_ends=ends))
    X = rows(network, dtype=dtype)
    outputs, features = network.predict_raw(X), network.features(X)
    assert {outputs.dtype, *(F.dtype for F in features)} == {np.dtype(dtype)}
    assert network.raw_from_features(features[0]).dtype == dtype
    atol = 1e-4 if dtype == "f4" else 1e-12
    exact = network.predict_raw(X.astype("f8"))
    np.testing.assert_allclose(outputs, exact, atol=atol)
    integers = np.ones((2, 3), dtype=int)
    assert network.predict_raw(integers).dtype == np.float64
    assert network.predict_raw(integers.tolist()).shape == (2, network.n_outputs_)


@pytest.mark.parametrize("ends", ENDS)
def test_blocks_of_rows_change_nothing(monkeypatch, ends):
    network = SparseFeatureNetwork(**parameters(2, sparse_ends=ends))
    X = rows(network, 23)
    expected, features = network.predict_raw(X), network.features(X)
    for name, value in {"_BLOCK_ROWS": 5, "_BLOCK_ELEMENTS": 1}.items():
        monkeypatch.setattr(_predict, name, value)
        np.testing.assert_allclose(network.predict_raw(X), expected, atol=1e-13)
        found = network.features(X)
        for a, b in zip(features, found, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-13)
        np.testing.assert_allclose(
            network.raw_from_features(found[1], 1), expected, atol=1e-13
        )
    assert network.predict_raw(X[:0]).shape == (0, network.n_outputs_)


@pytest.mark.parametrize("layer", [0, 1, 2, -1])
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_matrix, sparse.coo_array])
def test_raw_from_features(layer, container):
    network = SparseFeatureNetwork(**parameters(3, k=3))
    X = rows(network)
    F = container(network.features(X)[layer])
    found = network.raw_from_features(F, layer)
    by_name = network.raw_from_features(F, network.layer_names_[layer])
    np.testing.assert_array_equal(by_name, found)
    np.testing.assert_allclose(found, network.predict_raw(X), atol=1e-13)


@pytest.mark.parametrize("layer", [True, False, "nope", 1.0, None])
def test_raw_from_no_layer(layer):
    with pytest.raises(ValueError, match=rf"names \['fc0', 'fc1'.* Got {layer!r} inst"):
        SparseFeatureNetwork(**parameters()).raw_from_features(np.ones((2, 9)), layer)


def test_data_is_checked_as_scikit_learn_does():
    network = SparseFeatureNetwork(**parameters())
    name = "SparseFeatureNetwork"
    match = f"X has 4 features, but {name} is expecting 3 features as input"
    with pytest.raises(ValueError, match=match):
        network.predict_raw(np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"Expected 2D array, got 1D array instead"):
        network.features(np.ones(3))
    with pytest.raises(ValueError, match=r"Input X contains NaN\."):
        network.predict_raw([[1, 2, np.nan]])
    with pytest.raises(ValueError, match=r"Input X contains infinity\."):
        network.predict_raw([[1, 2, np.inf]])
    with pytest.raises(ValueError, match="X must hold real numbers, got the dtype <U1"):
        network.predict_raw([["a", "b", "c"]])
    with pytest.raises(ValueError, match="real numbers, got the dtype complex128"):
        network.predict_raw([[1j, 2, 3]])
    with pytest.raises(TypeError, match="Sparse data was passed for X"):
        network.predict_raw(sparse.csr_array((2, 3)))
    with pytest.raises(ValueError, match=r"F has 99 .* layer 'fc1' of Sparse.* expect"):
        network.raw_from_features(np.ones((2, 99)), layer=1)
    F = sparse.csr_array([[np.nan] * network.n_components_[2]])
    with pytest.raises(ValueError, match="Input F contains NaN"):
        network.raw_from_features(F, layer=2)
    with pytest.raises(
        ValueError, match=r"an int from -3 to 2 or one .*'fc2'\]. Got 3"
    ):
        network.raw_from_features(np.ones((2, 2)), layer=3)


def test_arrays_are_copies():
    p = parameters()
    network = SparseFeatureNetwork(**p)
    X = rows(network)
    expected = network.predict_raw(X)
    p["encoder_coef"][:] = 7
    p["coefs"][0].data[:] = 7
    p["intercepts"][0][:] = 7
    p["front"].steps[0].arrays["coef"][:] = 7
    p["links"].reverse()
    np.testing.assert_array_equal(network.predict_raw(X), expected)


def test_attributes():
    p = parameters(seed=4)
    network = SparseFeatureNetwork(**p)
    m = [len(p["encoder_coef"]), *map(len, p["intercepts"])]
    assert network.n_components_ == m
    assert network.n_weights_ == [np.count_nonzero(c.toarray()) for c in p["coefs"]]
    assert all(isinstance(coef, sparse.csr_array) for coef in network.coefs_)
    assert not any((coef.data == 0).any() for coef in network.coefs_)
    assert network.feature_names_[1][0] == "F2_0"
    assert network.layer_names_ == ["fc0", "fc1", "fc2"]
    assert (network.n_features_in_, network.n_outputs_) == (3, p["back"].n_outputs)
    assert repr(network) == (
        f"SparseFeatureNetwork(fc0: {m[0]} features, fc1: {m[1]} features, "
        f"fc2: {m[2]} features; {sum(network.n_weights_)} nonzero weights)"
    )
    again = pickle.loads(pickle.dumps(network))
    X = rows(network)
    np.testing.assert_array_equal(again.predict_raw(X), network.predict_raw(X))


def test_sparse_ends():
    p = parameters(seed=5, sparse_ends=ENDS[-1])
    network = SparseFeatureNetwork(**p)
    for name in ENDS[-1].split():
        coef = vars(network)[f"{name}_"]
        assert isinstance(coef, sparse.csr_array)
        assert coef.has_canonical_format
        assert (coef.data != 0).all()
        np.testing.assert_array_equal(coef.toarray(), p[name].toarray())
        assert not np.shares_memory(coef.data, p[name].data)
        with pytest.raises(ValueError, match=f"{name} must have the shape"):
            SparseFeatureNetwork(**p | {name: sparse.csr_array((2, 99))})
        p[name].data[-1] = np.nan
        with pytest.raises(ValueError, match=f"{name} has NaN or infinite"):
            SparseFeatureNetwork(**p)
        p[name].data[-1] = 1.0
    weights = (network.n_weights_in_, network.n_weights_out_)
    assert weights == (network.encoder_coef_.nnz, network.decoder_coef_.nnz)
    assert repr(network).endswith(
        f"; {sum(network.n_weights_)} nonzero weights, {weights[0]} from the inputs, "
        f"{weights[1]} to the outputs)"
    )
    dense = SparseFeatureNetwork(**parameters(seed=5))
    assert dense.n_weights_in_ is dense.n_weights_out_ is None


def pixels_to_outputs():
    """Two inputs of three are read; F1_1 is a constant, F1_2 is read by nothing."""
    return SparseFeatureNetwork(
        front=Chain.from_steps([], 3),
        encoder_coef=sparse.csr_array([[1.0, 0, 2], [0, 0, 0], [0, 0, 1]]),
        encoder_intercept=[0, 2, 0],
        encoder_bias=[0, 0, 0],
        activation=ReLU(),
        coefs=[sparse.csr_array([[1.0, 1, 0], [0, 3, 0]])],
        intercepts=[[0.5, 0]],
        links=["relu"],
        decoder_coef=sparse.csr_array([[1.0, 0], [2, 1]]),
        decoder_intercept=[0, 0.25],
        back=Chain.from_steps([], 2),
        layer_names=["a", "b"],
    )


def test_compact_of_sparse_ends():
    network = pixels_to_outputs()
    assert network.n_multiply_adds() == 3 + 3 + 3
    assert network.n_weights_all_ == 3 + 3 + 3
    compact = network.compact()
    assert compact.feature_names_ == [["F1_0"], ["F2_0"]]
    assert (compact.n_weights_in_, compact.n_weights_out_) == (2, 1)
    assert compact.n_multiply_adds() == network.n_multiply_adds(compact=True) == 4
    assert compact.n_weights_all_ == 4
    assert compact.n_features_in_ == 3
    X = [[1.0, 7.0, 1.0], [-9.0, 0.0, 0.0]]
    np.testing.assert_allclose(network.predict_raw(X), [[17.5, 6.25], [14.5, 6.25]])
    np.testing.assert_allclose(compact.predict_raw(X), [[17.5, 6.25], [14.5, 6.25]])


def test_coefs_of_any_kind():
    p = parameters(seed=5)
    expected = SparseFeatureNetwork(**p)
    X = rows(expected)
    for kind in (sparse.coo_matrix, sparse.csc_array, lambda coef: coef.toarray()):
        other = SparseFeatureNetwork(**p | {"coefs": [kind(c) for c in p["coefs"]]})
        np.testing.assert_array_equal(other.predict_raw(X), expected.predict_raw(X))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"front": None}, "front must be a Chain, got None"),
        ({"activation": "relu"}, r"activation must be ReLU\(\), TopK\(k\) or JumpReLU"),
        ({"layer_names": "abc"}, "layer_names must be a list of strings, got 'abc'"),
        ({"layer_names": [1, 2, 3]}, "layer_names must be a list of strings"),
        ({"layer_names": ["a", "b", "a"]}, "must all differ"),
        ({"layer_names": []}, "must have one entry less than the 0 layer_names"),
        ({"links": ["relu"]}, r"less than the 3 layer_names, got \(2, 2, 1\)"),
        ({"links": ["relu", "exp"]}, "links must be of .*, got 'exp'"),
        ({"coefs": []}, r"got \(0, 2, 2\)"),
        (
            {"encoder_coef": np.ones((2, 99))},
            r"encoder_coef .* \(any, \d\), got",
        ),
        ({"encoder_coef": np.ones(3)}, r"encoder_coef must have the shape \(any,"),
        ({"encoder_coef": np.ones((0, 4))}, r"encoder_coef must have .* got \(0, 4\)"),
        ({"encoder_intercept": np.ones(99)}, r"encoder_intercept .* got \(99,\)"),
        ({"encoder_bias": np.ones(99)}, "encoder_bias must have the shape"),
        ({"encoder_bias": ["a"]}, "encoder_bias must hold real numbers"),
        ({"coefs": [np.ones((2, 99))] * 2}, r"coefs\[0\] must have the shape \(any,"),
        ({"intercepts": [np.ones(99)] * 2}, r"intercepts\[0\] must have the shape"),
        ({"decoder_coef": np.ones((99, 1))}, r"decoder_coef .* got \(99, 1\)"),
        ({"decoder_intercept": np.ones(99)}, "decoder_intercept must have the shape"),
        ({"feature_names": [["a"]]}, "feature_names must be one list a layer"),
        ({"feature_names": ["ab"] * 3}, "feature_names must be a list of strings"),
    ],
)
def test_what_does_not_fit_together(change, match):
    with pytest.raises(ValueError, match=match):
        SparseFeatureNetwork(**parameters(n_layers=3) | change)


@pytest.mark.parametrize(
    "name", ["encoder_coef", "encoder_bias", "decoder_intercept", "coefs"]
)
def test_weights_must_be_finite(name):
    p = parameters(density=1.0)
    (p[name][1].data if name == "coefs" else p[name])[0] = np.inf
    with pytest.raises(ValueError, match=f"{name}.* has NaN or infinite values"):
        SparseFeatureNetwork(**p)


# compact


@FAST
@given(**NETWORKS)
@example(n_layers=3, k=None, density=0.0, seed=0, sparse_ends="")
@example(n_layers=3, k=None, density=0.0, seed=0, sparse_ends=ENDS[-1])
@example(n_layers=1, k=1, density=0.4, seed=1, sparse_ends="")
def test_compact_computes_the_same(**kwargs):
    network = SparseFeatureNetwork(**parameters(**kwargs))
    X = rows(network, 50)
    compact = network.compact()
    np.testing.assert_allclose(
        compact.predict_raw(X), network.predict_raw(X), rtol=1e-12, atol=1e-12
    )
    # Whatever is kept computes what it did, and is what its name says.
    for names, F, small_names, small in zip(
        network.feature_names_,
        network.features(X),
        compact.feature_names_,
        compact.features(X),
        strict=True,
    ):
        positions = [names.index(name) for name in small_names]
        np.testing.assert_allclose(small, F[:, positions], atol=1e-12)
    assert compact.compact().n_components_ == compact.n_components_
    assert compact.n_multiply_adds() <= network.n_multiply_adds()
    assert compact.n_features_in_ == network.n_features_in_
    for name in ("encoder_coef_", "decoder_coef_"):
        assert isinstance(vars(compact)[name], type(vars(network)[name]))
    assert network.n_multiply_adds(compact=True) == compact.n_multiply_adds()
    # Every feature left is read and varies, unless it is the one that a layer needs.
    reads = [*compact.coefs_, sparse.csr_array(compact.decoder_coef_).T.tocsr()]
    for i, coef in enumerate(reads[1 if kwargs["k"] else 0 :], bool(kwargs["k"])):
        if compact.n_components_[i] > 1:
            assert set(coef.indices) == set(range(coef.shape[1]))


def chained(encoder_coef, encoder_intercept, coef, decoder_coef, activation=None):
    encoder_coef, decoder_coef = np.array(encoder_coef), np.array(decoder_coef)
    d_in, d_out = encoder_coef.shape[1], decoder_coef.shape[1]
    return SparseFeatureNetwork(
        front=Chain.from_steps([], d_in),
        encoder_coef=encoder_coef,
        encoder_intercept=encoder_intercept,
        encoder_bias=np.zeros(d_in),
        activation=activation or ReLU(),
        coefs=[np.array(coef)],
        intercepts=[np.full(len(coef), 0.5)],
        links=["relu"],
        decoder_coef=decoder_coef,
        decoder_intercept=np.zeros(d_out),
        back=Chain.from_steps([], d_out),
        layer_names=["a", "b"],
    )


def test_compact_drops_dead_ends_backwards():
    coef = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    network = chained(np.eye(3), np.zeros(3), coef, [[1], [0], [2]])
    compact = network.compact()
    assert compact.feature_names_ == [["F1_0", "F1_2"], ["F2_0", "F2_2"]]
    assert compact.n_weights_ == [2]
    assert network.n_multiply_adds() == 9 + 3 + 3
    assert compact.n_multiply_adds() == 6 + 2 + 2


def test_compact_folds_constants_through_all_layers():
    # F1_1 is 3 whatever the input, hence F2_1 = 2 * 3 + 0.5, which the output reads.
    network = chained([[1.0], [0.0]], [0, 3], [[1, 1], [0, 2]], [[1.0], [10.0]])
    compact = network.compact()
    assert compact.feature_names_ == [["F1_0"], ["F2_0"]]
    np.testing.assert_allclose(compact.intercepts_[0], [3.5])
    np.testing.assert_allclose(compact.decoder_intercept_, [65.0])
    np.testing.assert_allclose(compact.predict_raw([[2.0]]), [[70.5]])


def test_compact_keeps_what_competes():
    encoder = [[1.0], [0.0], [2.0], [0.0]]
    network = chained(
        encoder, [0, 3, 0, -1], [[1, 1, 0, 1]], [[1.0]], activation=TopK(1)
    )
    compact = network.compact()
    # F1_1 is constant only where it wins, and F1_2 wins though nothing reads it.
    assert compact.feature_names_[0] == ["F1_0", "F1_1", "F1_2", "F1_3"]
    assert compact.n_weights_ == [2]  # F1_3 is always zero
    X = np.array([[1.0], [2.0], [-5.0]])
    np.testing.assert_allclose(compact.predict_raw(X), [[3.5], [0.5], [3.5]])
    np.testing.assert_allclose(network.predict_raw(X), [[3.5], [0.5], [3.5]])
    # Three places for three features: nobody competes.
    free = chained(encoder, [0, 3, 0, -1], [[1, 1, 0, 1]], [[1.0]], TopK(3)).compact()
    assert free.feature_names_[0] == ["F1_0"]


def test_compact_keeps_dtypes():
    p = parameters(7, dtype="f4")
    compact = SparseFeatureNetwork(**p).compact()
    arrays = [a for a in vars(compact).values() if isinstance(a, np.ndarray)]
    found = {a.dtype for a in [*arrays, *compact.coefs_, *compact.intercepts_]}
    assert found == {np.dtype("f4")}


def test_multiply_adds_leave_out_what_is_always_zero():
    network = chained(np.eye(2), [0, 0], [[1, 1], [0, 0], [0, 0]], np.ones((3, 5)))
    assert network.n_multiply_adds() == 4 + 2 + 15  # relu(0.5) is not zero
    network.intercepts_[0][1:] = -1
    assert network.n_multiply_adds() == 4 + 2 + 5
    full = SparseFeatureNetwork(**parameters(6))
    chains = full.front.n_multiply_adds() + full.back.n_multiply_adds()
    assert full.n_multiply_adds() > chains


# other forms


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("n_layers", "k"), [(1, None), (3, None), (3, 2), (2, 99)])
@pytest.mark.parametrize("ends", ["", ENDS[-1]])
def test_to_torch(dtype, n_layers, k, ends):
    p = parameters(8, n_layers, k, dtype, sparse_ends=ends)
    network = SparseFeatureNetwork(**p)
    random_state = torch.get_rng_state()
    module = network.to_torch()
    assert torch.equal(torch.get_rng_state(), random_state)
    assert {p.dtype for p in module.parameters()} == {
        torch.float32 if dtype == "f4" else torch.float64
    }
    X = rows(network, dtype=dtype)
    output = module(torch.from_numpy(X))
    atol = 1e-6 if dtype == "f4" else 1e-12
    expected = network.predict_raw(X)
    np.testing.assert_allclose(output.detach().numpy(), expected, atol=atol)

    state = module.state_dict()
    other = SparseFeatureNetwork(**p).to_torch()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(state)
    for same in (other, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(same(torch.from_numpy(X)), output)
    output.sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    with torch.no_grad():
        module.encoder.weight.zero_()
    np.testing.assert_array_equal(network.predict_raw(X), expected)
    assert "leaky_relu" in repr(module)


def test_to_torch_of_mixed_dtypes():
    p = parameters(8, dtype="f4") | {"coefs": parameters(8)["coefs"]}
    module = SparseFeatureNetwork(**p).to_torch()
    assert {p.dtype for p in module.parameters()} == {torch.float64}


def test_to_networkx():
    nx = pytest.importorskip("networkx")
    network = SparseFeatureNetwork(**parameters(9))
    graph = network.to_networkx(all_features=True)
    assert isinstance(graph, nx.DiGraph)
    assert len(graph) == sum(network.n_components_)
    assert graph.number_of_edges() == sum(network.n_weights_)
    for (before, i), (after, j), weight in graph.edges(data="weight"):
        layer = network.layer_names_.index(after)
        assert network.layer_names_[layer - 1] == before
        assert weight == network.coefs_[layer - 1][j, i]
        assert type(weight) is float
    assert graph.nodes["fc2", 0] == {
        "layer": 2,
        "index": 0,
        "bias": network.intercepts_[1][0],
        "feature_name": "F3_0",
    }
    assert graph.nodes["fc0", 0]["bias"] == network.encoder_intercept_[0]
    small = network.to_networkx()
    assert set(small) == {node for node, degree in graph.degree if degree}
    assert len(small) < len(graph)


def test_to_networkx_of_sparse_ends():
    pytest.importorskip("networkx")
    network = pixels_to_outputs()
    graph = network.to_networkx()
    weights = {
        (("input", 0), ("a", 0)): 1.0,
        (("input", 2), ("a", 0)): 2.0,
        (("input", 2), ("a", 2)): 1.0,
        (("a", 0), ("b", 0)): 1.0,
        (("a", 1), ("b", 0)): 1.0,
        (("a", 1), ("b", 1)): 3.0,
        (("b", 0), ("output", 0)): 1.0,
        (("b", 1), ("output", 0)): 2.0,
        (("b", 1), ("output", 1)): 1.0,
    }
    assert {(u, v): w for u, v, w in graph.edges(data="weight")} == weights
    assert graph.nodes["input", 2] == {
        "layer": -1,
        "index": 2,
        "bias": 0.0,
        "feature_name": "x2",
    }
    assert graph.nodes["output", 1] == {
        "layer": 2,
        "index": 1,
        "bias": 0.25,
        "feature_name": "output 1",
    }
    assert ("input", 1) not in graph
    assert ("input", 1) in network.to_networkx(all_features=True)
    network.layer_names_ = ["a", "output"]
    with pytest.raises(ValueError, match="layer_names must not have 'output'"):
        network.to_networkx()


@pytest.mark.usefixtures("without_networkx")
def test_without_networkx():
    with pytest.raises(ImportError, match=r"pip install skfeat\[graph\]"):
        SparseFeatureNetwork(**parameters()).to_networkx()
