"""Results of finite rows are finite, or an error says how large the rows are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from skfeat import FeatureConnector, SparseAutoencoder
from skfeat.activations import JumpReLU, ReLU, TopK
from skfeat.chain import Chain
from skfeat.language import MLPConnector
from skfeat.network import SparseFeatureNetwork, _run
from skfeat.utils._finite import all_finite, check_finite_result, is_moderate

LARGEST = {np.float32: "3.4e\\+38", np.float64: "1.8e\\+308"}
HUGE = {np.float32: 3e38, np.float64: 1.7e308}
RNG = np.random.RandomState(0)
X = np.abs(RNG.randn(60, 8))


@given(
    st.lists(st.floats(width=32), min_size=0, max_size=20),
    st.sampled_from([np.float32, np.float64]),
    st.integers(1, 400),
)
def test_all_finite(values, dtype, repeats):
    array = np.tile(np.array(values, dtype), repeats)
    assert all_finite(array) == np.isfinite(array).all()
    assert all_finite(array[::2]) == np.isfinite(array[::2]).all()
    if is_moderate(array):
        assert np.isfinite(np.square(array)).all()


def test_the_error_names_range_and_remedy():
    rows = np.array([[3e38, -1]], np.float32)
    with pytest.raises(
        ValueError, match=r"float32: F has .* 3e\+38; rescale F, or comp"
    ):
        check_finite_result("The codes", rows * np.float32(np.inf), rows, "F")
    codes = sparse.csr_array([[0, np.nan]])
    with pytest.raises(ValueError, match=r"1\.8e\+308.* of float64: .*; rescale X\."):
        check_finite_result("The codes", codes, sparse.csr_array(rows))


def estimators(dtype):
    sae = SparseAutoencoder(16, k=4, max_iter=20, random_state=0)
    y = X @ RNG.randn(8, 3) * 20
    connector = FeatureConnector(0.001, link="identity")
    mlp = MLPConnector(hidden_units=4, max_iter=2, random_state=0)
    for activation in ("topk", "batch_topk", "relu", "jumprelu", "gated"):
        part = SparseAutoencoder(16, k=4, max_iter=20, random_state=0)
        yield activation, part.set_params(activation=activation).fit(X).transform, 8
    yield "sparse", sae.set_params(sparse_output=True).fit(X).transform, 8
    yield "inverse", sae.inverse_transform, 16
    yield "connector", connector.fit(X, y).predict, 8
    # It computes in the wider dtype of its weights and X.
    yield "mlp", mlp.fit(X.astype(dtype), y.astype(dtype)).predict, 8


@pytest.mark.filterwarnings("ignore:.*(still falling|changes nothing|are dead)")
# scikit-learn's own check of X adds its numbers up.
@pytest.mark.filterwarnings("ignore:invalid value encountered in reduce")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_estimators(dtype):
    for name, method, width in estimators(dtype):
        signs = np.where(RNG.rand(50, width) > 0.5, 1, -1)
        rows = (HUGE[dtype] * signs).astype(dtype)
        with pytest.raises(ValueError, match=LARGEST[dtype]):
            method(rows)
        result = method(rows * dtype(1e-10))
        values = result.data if sparse.issparse(result) else result
        assert np.isfinite(values).all(), name


def network(activation, d=64, m=64):
    """Pairs of inputs that cancel, and a rectifier that must not hide it."""
    coef = np.zeros((m, d), np.float32)
    coef[:, 0], coef[:, 1] = 4, -4
    return SparseFeatureNetwork(
        front=Chain.from_steps([], n_features_in=d),
        encoder_coef=coef,
        encoder_intercept=np.zeros(m, np.float32),
        encoder_bias=np.zeros(d, np.float32),
        activation=activation,
        coefs=[sparse.csr_array(np.eye(m, dtype=np.float32))],
        intercepts=[np.zeros(m, np.float32)],
        links=["relu"],
        decoder_coef=np.ones((m, 2), np.float32),
        decoder_intercept=np.zeros(2, np.float32),
        back=Chain.from_steps([], n_features_in=2),
        layer_names=["a", "b"],
    )


@pytest.mark.parametrize("with_numba", [True, False])
@pytest.mark.parametrize("n_rows", [1, 8, 300])
@pytest.mark.parametrize(
    "activation", [ReLU(), TopK(3), JumpReLU(np.full(64, 0.1, np.float32))]
)
def test_networks(activation, n_rows, with_numba, monkeypatch):
    if not with_numba:
        monkeypatch.setattr(_run, "has_numba", lambda: False)
    net = network(activation)
    rows = np.zeros((n_rows, 64), np.float32)
    rows[-1, :2] = 3e38
    for call in (
        net.predict_raw,
        net.predict,
        net.features,
        net.attribute,
        net.mean_flow,
        lambda X: net.ablate(X, "F1_0"),
    ):
        with pytest.raises(ValueError, match=r"3\.4e\+38, .* up to 3e\+38; rescale X"):
            call(rows)
    # As float64 the same rows are no problem.
    assert not net.predict_raw(rows.astype(float)).any()
    # Nor are large ones whose products are in range.
    rows[-1, :2] = 1e35, 0
    expected = 4e35 * (3 if isinstance(activation, TopK) else 64)
    assert net.predict_raw(rows)[-1, 0] == pytest.approx(expected, rel=1e-5)
    for value in (np.nan, np.inf):
        rows[-1, 0] = value
        with pytest.raises(ValueError, match="Input X contains"):
            net.predict_raw(rows)


def test_features_that_were_changed():
    net = network(ReLU())
    F = np.full((3, 64), 3e38, np.float32)
    with pytest.raises(ValueError, match=r"F has values up to 3e\+38"):
        net.raw_from_features(F)
    rows = np.ones((2, 64), np.float32)
    with pytest.raises(ValueError, match=r"a finite number of float32\. Got 1e"):
        net.ablate(rows, "F1_0", value=1e300)
