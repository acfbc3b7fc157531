"""A network of features of maps computes what its convolutions do, in every form."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import sparse

from skfeat.activations import JumpReLU, ReLU, TopK
from skfeat.chain import Chain, Step
from skfeat.chain._kinds import Window
from skfeat.maps import Patches
from skfeat.maps._reads import Reads
from skfeat.network import SparseFeatureNetwork, SparseMapNetwork

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 2, 6, 5))


def sparse_weights(*shape, density=0.3):
    return sparse.random_array(shape, density=density, random_state=RNG, format="csr")


def network(activation, *, connected=False, mean=False):
    """Make a network of three layers: two of maps, and one of rows."""
    window = Window(2, (6, 5), (3, 3), (1, 1), (1, 1), (1, 1), (1, 1))
    arrays = {"coef": RNG.standard_normal((3, 18)), "intercept": RNG.random(3)}
    steps = [Step("conv", "c", arrays, window.settings(groups=1)), Step("relu")]
    first = Patches((6, 5), 2, stride=2, padding=(0, 1), dilation=(2, 1))
    height, width = first.out_shape
    last = Reads(Patches((height, width), (height, width)))
    if mean:
        last = Reads(Patches((height, width), 1, stride=(height, width)), is_mean=True)
    affine = {"coef": RNG.standard_normal((3, 4)), "intercept": RNG.random(3)}
    front = Chain.from_steps([] if connected else steps, 60)
    ends = {}
    if connected:
        reads_in = Reads(Patches((6, 5), 3, padding=1))
        ends = {
            "encoder_coef": sparse_weights(8, 18),
            "encoder_bias": np.zeros(2),
            "reads_in": reads_in,
            "decoder_coef": sparse_weights(7, 3),
            "decoder_intercept": RNG.random(3),
            "back": Chain.from_steps([], 3),
            "reads_out": Reads(Patches((1, 1), 1)),
        }
    plain = {
        "encoder_coef": RNG.standard_normal((8, 3)),
        "encoder_bias": RNG.random(3),
        "decoder_coef": RNG.standard_normal((7, 4)),
        "decoder_intercept": RNG.random(4),
        "back": Chain.from_steps([Step("affine", "fc", affine)]),
    }
    return SparseMapNetwork(
        front=front,
        encoder_intercept=RNG.random(8),
        activation=activation,
        coefs=[sparse_weights(6, 32), sparse_weights(7, last.n_places * 6)],
        intercepts=[RNG.random(6), RNG.random(7)],
        links=["relu", "identity"],
        layer_names=["c", "d", "fc"],
        map_shapes=[(6, 5), (height, width), (1, 1)],
        reads=[Reads(first), last],
        input_shape=(2, 6, 5),
        classes=["a", "b", "c"],
        **(plain | ends),
    )


def plainly(net, maps):
    """Compute raw outputs position by position, from the shared weights alone."""
    out = []
    for one in maps:
        rows = net.front.forward(one.reshape(1, -1)).reshape(-1, 30).T
        if net.reads_in is not None:
            rows = net.reads_in.rows(rows)
            pre = rows @ net.shared_encoder_coef_.toarray().T
        else:
            pre = (rows - net.shared_encoder_bias_) @ net.shared_encoder_coef_.T
        F = net.shared_activation.encode(pre + net.shared_encoder_intercept_)
        for reads, coef, intercept, link in zip(
            net.reads, net.shared_coefs_, net.shared_intercepts_, net.links, strict=True
        ):
            found = []
            for position in range(reads.n_positions_out):
                if reads.is_mean:
                    row = F.mean(axis=0)
                else:
                    places = reads.patches.source[position]
                    row = np.concatenate(
                        [F[p] if p >= 0 else np.zeros(F.shape[1]) for p in places]
                    )
                found.append(coef.toarray() @ row + intercept)
            F = np.array(found)
            F = np.maximum(F, 0) if link == "relu" else F
        decoded = F @ net.shared_decoder_coef_ + net.shared_decoder_intercept_
        out.append(net.back.forward(decoded.T.reshape(1, -1))[0])
    return np.array(out)


CASES = [
    (TopK(3), {}),
    (ReLU(), {"mean": True}),
    (JumpReLU(RNG.random(8)), {}),
    (ReLU(), {"connected": True}),
]


@pytest.fixture(scope="module", params=range(len(CASES)), ids=str)
def net(request):
    activation, options = CASES[request.param]
    return network(activation, **options)


def test_predictions_are_those_of_a_plain_loop(net):
    expected = plainly(net, X)
    assert_allclose(net.predict_raw(X), expected, atol=1e-9)
    assert_allclose(net.predict_raw(X[:3]), expected[:3], atol=1e-9)
    assert_allclose(net.predict_raw(X.reshape(40, -1)), expected, atol=1e-9)
    features = net.features(X)
    assert_allclose(net.raw_from_features(features[1], layer=1), expected, atol=1e-9)
    assert set(net.predict(X)) <= {"a", "b", "c"}


def test_torch_and_the_file_compute_the_same(net, tmp_path):
    expected = net.predict_raw(X)
    module = net.to_torch()
    with torch.no_grad():
        assert_allclose(module(torch.from_numpy(X)).numpy(), expected, atol=1e-9)
    net.save(tmp_path / "net.npz")
    loaded = SparseMapNetwork.load(tmp_path / "net.npz")
    assert_allclose(loaded.predict_raw(X), expected)
    assert loaded.n_weights_ == net.n_weights_
    assert loaded.predict(X[:2]).tolist() == net.predict(X[:2]).tolist()
    with pytest.raises(ValueError, match=r"use SparseMapNetwork\.load"):
        SparseFeatureNetwork.load(tmp_path / "net.npz")


def test_onnx_computes_the_same(net, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    net.to_onnx(tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    rows = X.reshape(40, -1).astype(np.float32)
    (found,) = session.run(None, {"X": rows})
    assert_allclose(found, net.predict_raw(rows), rtol=1e-4, atol=1e-4)


def test_attributions_add_up(net):
    attribution = net.attribute(X[:4], inputs=True)
    assert_allclose(attribution.total(), attribution.value, atol=1e-9)
    assert_allclose(
        attribution.inputs.sum(axis=1)
        + attribution.input_bias
        + sum(bias.sum(axis=1) for bias in attribution.biases)
        + attribution.output_bias,
        attribution.value,
        atol=1e-9,
    )


def test_the_compact_network_computes_the_same(net):
    small = net.compact()
    assert type(small) is SparseFeatureNetwork
    rows = X.reshape(40, -1)
    assert_allclose(small.predict_raw(rows), net.predict_raw(rows), atol=1e-9)
    assert small.n_multiply_adds() <= net.n_multiply_adds()
    assert net.n_multiply_adds(compact=True) == small.n_multiply_adds()


def test_weights_are_counted_once_and_cost_at_each_position():
    net = network(TopK(3))
    counted = [coef.nnz for coef in net.shared_coefs_]
    assert net.n_weights_ == counted
    assert net.n_weights_in_ is None
    front = 3 * 18
    assert net.n_weights_all_ == front + 8 * 3 + sum(counted) + 7 * 4 + 12
    run = sum(coef.nnz for coef in net.coefs_)
    assert run > sum(counted)
    own = front * 30 + 8 * 3 * 30 + run + 7 * 4 + 12
    assert net.n_multiply_adds() == own


def test_features_have_names_of_their_positions():
    net = network(TopK(3))
    assert net.feature_names_[0][:9:8] == ["F1_0[0,0]", "F1_0[0,1]"]
    assert net.feature_names_[2] == [f"F3_{j}" for j in range(7)]
    assert "SparseMapNetwork" in repr(net)


def test_inputs_have_names_of_their_places():
    net = network(ReLU())
    assert net.input_names_[:3] == ["x0[0,0]", "x0[0,1]", "x0[0,2]"]
    assert net.input_names_[30 + 5 * 2 + 4] == "x1[2,4]"
    assert not hasattr(net, "feature_names_in_")


def test_a_single_map_is_explained():
    net = network(ReLU(), connected=True)
    expected = net.explain(X[0].ravel()).attribution
    for one in (X[0], X[:1]):
        found = net.explain(one).attribution
        assert_allclose(found.inputs, expected.inputs)
    with pytest.raises(ValueError, match=r"or one sample of shape \(2, 6, 5\)"):
        net.explain(X[:2])


def test_other_shapes_are_refused():
    net = network(TopK(3))
    with pytest.raises(ValueError, match="Expected 2D array, got 4D array"):
        net.predict_raw(X[:, :, :5])


@pytest.mark.parametrize("n_groups", [1, 4])
def test_each_group_keeps_its_own(n_groups):
    pre = RNG.standard_normal((10, 8))
    codes = TopK(2, n_groups).encode(pre)
    each = codes.reshape(10, n_groups, -1)
    assert ((each > 0).sum(axis=2) <= 2).all()
    parts = pre.reshape(-1, 8 // n_groups)
    assert_allclose(codes, TopK(2).encode(parts).reshape(10, 8))
    by_torch = TopK(2, n_groups).forward(torch.from_numpy(pre)).numpy()
    assert_allclose(codes, by_torch)
